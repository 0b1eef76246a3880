import Glibc
import WebRTC
import Wire

extension EndpointRouter {
    /// The socket to reach a server from: the one at the address that the kernel would choose; else the first that could.
    func base(toward server: TransportAddress) -> TransportAddress? {
        let sameFamily = sockets.compactMap(\.local).filter { $0.ip.isIPv6 == server.ip.isIPv6 }
        if let source = sourceAddress(toward: server), let chosen = sameFamily.first(where: { $0.ip == source }) { return chosen }
        // nothing leaves this machine from a loopback address
        return sameFamily.first { server.ip.isLoopback || !$0.ip.isLoopback }
    }

    /// Connecting a UDP socket sends nothing, but finds the route.
    private func sourceAddress(toward server: TransportAddress) -> TransportAddress.IP? {
        let descriptor = Glibc.socket(server.ip.isIPv6 ? AF_INET6 : AF_INET, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { Glibc.close(descriptor) }
        let connected = server.withSockAddr { address, length in
            connect(descriptor, UnsafePointer(address.assumingMemoryBound(to: sockaddr.self)), length)
        }
        guard connected == 0 else { return nil }
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { storage in
            let named = storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
            guard named == 0 else { return nil }
            if server.ip.isIPv6 { return storage.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { TransportAddress($0.pointee).ip } }
            return storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { TransportAddress($0.pointee).ip }
        }
    }
}
