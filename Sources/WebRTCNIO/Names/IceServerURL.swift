import Glibc
import NIOCore
import NIOPosix
import WebRTC
import Wire

/// `stun:host[:port]` (RFC 7064), `turn:host[:port][?transport=udp|tcp]` or `turns:host[:port][?transport=tcp]` (RFC 7065).
struct IceServerURL: Hashable, Sendable {
    enum Service: Hashable, Sendable {
        case stun
        case turn(TurnClient.Transport)
    }

    static let form = "stun:host:3478, turn:host:3478?transport=udp (or tcp), or turns:host:5349"
    /// A name server that answers later than this comes too late for gathering.
    static let patience = TimeAmount.seconds(2)

    var service: Service
    var host: String
    var port: UInt16

    /// Nil for what is no such URL, and for the two that nobody offers: `stuns` and `turns` over UDP.
    init?(_ url: String) {
        guard let colon = url.firstIndex(of: ":") else { return nil }
        var rest = url[url.index(after: colon)...]
        var transport: Substring?
        if let query = rest.firstIndex(of: "?") {
            let parts = rest[rest.index(after: query)...].split(separator: "=", omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0].lowercased() == "transport" else { return nil }
            transport = parts[1]
            rest = rest[..<query]
        }
        switch (url[..<colon].lowercased(), transport?.lowercased()) {
        // RFC 7064 §3.1 knows no transport there, but it is often written
        case ("stun", nil), ("stun", "udp"): (service, port) = (.stun, 3478)
        case ("turn", nil), ("turn", "udp"): (service, port) = (.turn(.udp), 3478)
        case ("turn", "tcp"): (service, port) = (.turn(.tcp), 3478)
        case ("turns", nil), ("turns", "tcp"): (service, port) = (.turn(.tls), 5349)
        default: return nil
        }
        if rest.hasPrefix("[") {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            host = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
            guard TransportAddress.IP(host) != nil else { return nil }
        } else {
            let end = rest.firstIndex(of: ":") ?? rest.endIndex
            host = String(rest[..<end])
            rest = rest[end...]
        }
        if !rest.isEmpty {
            guard rest.first == ":", let number = UInt16(rest.dropFirst()), number > 0 else { return nil }
            port = number
        }
        guard !host.isEmpty, !host.contains(where: { $0 == "/" || $0.isWhitespace }) else { return nil }
    }

    /// Never blocks the loop: names are looked up on NIO's thread pool. At most one address of each family.
    func resolve(on loop: any EventLoop) -> EventLoopFuture<[TransportAddress]> {
        if let ip = TransportAddress.IP(host) { return loop.makeSucceededFuture([TransportAddress(ip: ip, port: port)]) }
        let promise = loop.makePromise(of: [TransportAddress].self)
        let bound = loop.scheduleTask(in: Self.patience) { promise.succeed([]) }
        NIOThreadPool.singleton.runIfActive(eventLoop: loop) { [self] in lookUp() }.whenComplete { result in
            bound.cancel()
            promise.succeed((try? result.get()) ?? [])
        }
        return promise.futureResult
    }

    private func lookUp() -> [TransportAddress] {
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var v4: TransportAddress?
        var v6: TransportAddress?
        var next = list
        while let entry = next?.pointee {
            if entry.ai_family == AF_INET, v4 == nil {
                v4 = entry.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { TransportAddress($0.pointee) }
            } else if entry.ai_family == AF_INET6, v6 == nil {
                v6 = entry.ai_addr.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { TransportAddress($0.pointee) }
            }
            next = entry.ai_next
        }
        return [v4, v6].compactMap { $0?.withPort(port) }
    }
}
