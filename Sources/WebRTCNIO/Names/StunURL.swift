import Glibc
import NIOCore
import NIOPosix
import Wire

/// `stun:host[:port]` (RFC 7064).
struct StunURL: Hashable, Sendable {
    static let defaultPort: UInt16 = 3478
    /// A name server that answers later than this comes too late for gathering.
    static let patience = TimeAmount.seconds(2)

    var host: String
    var port: UInt16

    init?(_ url: String) {
        guard url.lowercased().hasPrefix("stun:") else { return nil }
        var rest = url.dropFirst(5)
        if let query = rest.firstIndex(of: "?") { rest = rest[..<query] }
        port = Self.defaultPort
        if rest.hasPrefix("[") {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            host = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
        } else {
            let end = rest.firstIndex(of: ":") ?? rest.endIndex
            host = String(rest[..<end])
            rest = rest[end...]
        }
        if !rest.isEmpty {
            guard rest.first == ":", let number = UInt16(rest.dropFirst()), number > 0 else { return nil }
            port = number
        }
        guard !host.isEmpty else { return nil }
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
