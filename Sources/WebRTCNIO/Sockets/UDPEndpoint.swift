public import NIOCore
public import NIOPosix
public import Wire

/// The UDP sockets that peer connections send and receive through: one for each local address, all on one event loop.
///
/// A server shares one endpoint, and so one port, among all of its connections; a client's connection makes its own.
/// Close it when its last connection is closed.
public final class UDPEndpoint: Sendable {
    /// Where datagrams went, of all sockets together.
    public struct Statistics: Sendable, Equatable {
        public var datagramsSent = 0, bytesSent = 0, sendCalls = 0, segmentedSendCalls = 0
        /// Dropped since the socket's buffer was full.
        public var sendDropsCongested = 0
        /// Dropped since the kernel knew no way.
        public var sendDropsRefused = 0
        /// Dropped since the interface's MTU is smaller: probes of path MTU discovery.
        public var sendDropsTooLarge = 0
        /// Reads, each of one datagram or of a train that the kernel joined.
        public var reads = 0
        /// Reads that belong to no connection: neither answered nor looked at further.
        public var readsUnknown = 0
        /// Of these, ICE checks that name a connection which is not there.
        public var readsUnknownUfrag = 0
    }

    public let eventLoop: any EventLoop
    /// The sockets' own addresses.
    public let localAddresses: [TransportAddress]
    let router: NIOLoopBound<EndpointRouter>
    private let channels: [any Channel]

    private init(eventLoop: any EventLoop, router: NIOLoopBound<EndpointRouter>, channels: [any Channel]) {
        self.eventLoop = eventLoop
        self.router = router
        self.channels = channels
        localAddresses = channels.compactMap { $0.localAddress.flatMap { TransportAddress($0) } }
    }

    /// Binds UDP sockets on one event loop of `group`.
    ///
    /// - Parameters:
    ///   - host: one numeric address, or nil for each address of this machine that is not link-local. The loopback addresses are among these only where
    ///     there is no other address, or where `includeLoopback` asks.
    ///   - port: the same on every socket; 0 lets the system choose, each for itself.
    public static func bind(
        host: String? = nil, port: Int = 0, on group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton, includeLoopback: Bool = false
    ) async throws -> UDPEndpoint {
        guard (0...65_535).contains(port) else { throw PeerConnectionError(.invalidArgument, "port \(port)") }
        let loop = group.next()
        let addresses = try host.map { [try SocketAddress(ipAddress: $0, port: port)] } ?? interfaceAddresses(port: port, includeLoopback: includeLoopback)
        let router = try await loop.submit { NIOLoopBound(EndpointRouter(), eventLoop: loop) }.get()
        var channels: [any Channel] = []
        var failure: (any Error)?
        for address in addresses {
            do {
                channels.append(try await UDPSocket.bind(to: address, router: router, on: loop).get())
            } catch {
                failure = error
                // an IPv6 address may still be tentative; but a port that is taken on one address is taken
                if port != 0 || host != nil { break }
            }
        }
        if let failure, channels.isEmpty || port != 0 {
            for channel in channels { try? await channel.close() }
            throw failure
        }
        return UDPEndpoint(eventLoop: loop, router: router, channels: channels)
    }

    /// Closes the sockets. Connections that still use them fail.
    public func close() async {
        for channel in channels { try? await channel.close() }
    }

    /// Closes the sockets without waiting.
    func closeNow() {
        for channel in channels { channel.close(promise: nil) }
    }

    public func statistics() async -> Statistics {
        (try? await eventLoop.submit { self.counters }.get()) ?? Statistics()
    }

    /// On the event loop only.
    var counters: Statistics {
        let router = router.value
        var result = Statistics(
            reads: router.counters.datagrams, readsUnknown: router.counters.unknown, readsUnknownUfrag: router.counters.unknownUfrag)
        for socket in router.sockets {
            let counters = socket.counters
            result.datagramsSent += counters.datagrams
            result.bytesSent += counters.bytes
            result.sendCalls += counters.calls
            result.segmentedSendCalls += counters.segmentedCalls
            result.sendDropsCongested += counters.congested
            result.sendDropsRefused += counters.refused
            result.sendDropsTooLarge += counters.tooLarge
        }
        return result
    }

    private static func interfaceAddresses(port: Int, includeLoopback: Bool) throws -> [SocketAddress] {
        let all = try System.enumerateDevices().compactMap { $0.address.flatMap { TransportAddress($0) } }
        let usable = all.filter { !$0.ip.isLinkLocal && !$0.ip.isUnspecified }
        let outer = usable.filter { !$0.ip.isLoopback }
        let chosen = includeLoopback || outer.isEmpty ? usable : outer
        var seen: Set<TransportAddress.IP> = []
        return try chosen.filter { seen.insert($0.ip).inserted }.map { try $0.withPort(UInt16(port)).socketAddress }
    }
}
