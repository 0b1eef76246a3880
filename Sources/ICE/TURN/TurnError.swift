/// Why a TURN server gave no allocation, or why one ended.
package enum TurnError: Error, Hashable, Sendable {
    /// The URL is none of `turn:` and `turns:` (RFC 7065).
    case invalidURL(String)
    /// A TURN server needs a user name and a password (RFC 8656 §5).
    case missingCredentials
    /// The server's name has no address.
    case nameNotFound(String)
    /// TCP or TLS to the server could not be had; says why.
    case cannotConnect(String)
    /// Nothing came back.
    case timedOut
    /// 401: the server does not know the user name, or the password is another.
    case unauthorized(String)
    /// 403: the user may not have what was asked for.
    case forbidden(String)
    /// 437: the server believes that this port has an allocation of somebody else.
    case allocationMismatch
    /// 486: the user has as many allocations as are allowed.
    case quotaReached
    /// 508: the server is full.
    case insufficientCapacity
    /// Any other error code.
    case refused(code: Int, reason: String)
    /// 300 again and again, or without a server to try.
    case redirectedTooOften
    /// An answer that the RFC does not allow.
    case badAnswer(String)
    /// An error came that was not signed although credentials were used: from somebody else, or from a server that breaks RFC 8489 §9.2.5.
    case unsignedError(code: Int)
    /// The connection to the server broke.
    case connectionLost(String)
    /// The allocation is no more: it expired, or the server forgot it.
    case allocationLost(String)

    init(code: Int, reason: String) {
        switch code {
        case 401: self = .unauthorized(reason)
        case 403: self = .forbidden(reason)
        case 437: self = .allocationMismatch
        case 486: self = .quotaReached
        case 508: self = .insufficientCapacity
        default: self = .refused(code: code, reason: reason)
        }
    }

    /// The STUN error code, or 701 where there was no answer: what W3C's RTCPeerConnectionIceErrorEvent calls `errorCode`.
    package var code: Int {
        switch self {
        case .unauthorized, .missingCredentials: 401
        case .forbidden: 403
        case .allocationMismatch: 437
        case .quotaReached: 486
        case .insufficientCapacity: 508
        case .refused(let code, _), .unsignedError(let code): code
        case .redirectedTooOften: 300
        case .invalidURL, .nameNotFound, .cannotConnect, .timedOut, .badAnswer, .connectionLost, .allocationLost: 701
        }
    }
}

extension TurnError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .invalidURL(let url): "'\(url)' is no TURN URL; it should look like turn:host:3478?transport=udp"
        case .missingCredentials: "a TURN server needs a user name and a password"
        case .nameNotFound(let host): "there is no host '\(host)'"
        case .cannotConnect(let why): "cannot connect: \(why)"
        case .timedOut: "no answer; is it a TURN server, and does a firewall let this transport through?"
        case .unauthorized(let reason): "401, the user name or the password is wrong\(said(reason))"
        case .forbidden(let reason): "403, the server forbids it\(said(reason))"
        case .allocationMismatch: "437, the server has an allocation for this port already"
        case .quotaReached: "486, this user has as many allocations as the server allows"
        case .insufficientCapacity: "508, the server has no capacity left"
        case .refused(let code, let reason): "the server answered \(code)\(said(reason))"
        case .redirectedTooOften: "the server sends us from one server to another"
        case .badAnswer(let why): "the server's answer makes no sense: \(why)"
        case .unsignedError(let code): "error \(code) came without a signature and was not believed"
        case .connectionLost(let why): "the connection to the TURN server broke: \(why)"
        case .allocationLost(let why): "the allocation is lost: \(why)"
        }
    }

    private func said(_ reason: String) -> String { reason.isEmpty ? "" : " (\(reason))" }
}
