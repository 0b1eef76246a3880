import Glibc
public import NIOCore
public import NIOPosix
import Synchronization
public import Wire

/// The UDP sockets that peer connections send and receive through: one for each local address, all on one event loop.
///
/// A server shares one endpoint, and so one port, among all of its connections; a client's connection makes its own.
/// Where it is bound to every address it follows this machine's: a socket comes with an address and goes with it, and connections move over.
/// Close it when its last connection is closed.
public final class UDPEndpoint: Sendable {
    /// Where an endpoint's sockets are bound, and what is said of it.
    public struct Options: Sendable, Hashable {
        /// One numeric address; nil for each address of this machine that is not link-local, those that come later included.
        public var host: String?
        /// The port on every address. 0...0, the default, lets the system choose, for each address by itself; of a range the first that is free on all
        /// of them is taken, beginning anywhere in it.
        public var ports: ClosedRange<UInt16> = 0...0
        /// Also bind the loopback addresses; false unless set. Without another address they are bound anyway.
        public var includeLoopback = false
        /// Numeric addresses that peers are told in place of our own of the same family, as behind a NAT that maps one to one (RFC 8445 §5.1.1.2
        /// would find such an address by STUN). At most one of each family. Loopback addresses stay as they are.
        public var advertisedAddresses: [String] = []

        public init() {}
    }

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
    let router: NIOLoopBound<EndpointRouter>
    private let options: Options
    private let advertised: [TransportAddress.IP]
    private let port: UInt16
    private let state: Mutex<State>

    private struct State {
        var sockets: [Bound]
        var monitor: Int?
        var isClosed = false
        var isRefreshScheduled = false
    }

    private struct Bound: Sendable {
        let channel: any Channel
        let address: TransportAddress
    }

    private init(eventLoop: any EventLoop, router: NIOLoopBound<EndpointRouter>, sockets: [Bound], port: UInt16, options: Options) {
        self.eventLoop = eventLoop
        self.router = router
        self.options = options
        self.port = port
        advertised = options.advertisedAddresses.compactMap { TransportAddress.IP($0) }
        state = Mutex(State(sockets: sockets))
    }

    deinit { stopFollowing() }

    /// The sockets' own addresses.
    public var localAddresses: [TransportAddress] { state.withLock { $0.sockets.map(\.address) } }

    /// What peers are told in place of `local`; nil where they are told that.
    func advertisedAddress(for local: TransportAddress) -> TransportAddress.IP? {
        guard !local.ip.isLoopback else { return nil }
        return advertised.first { $0.isIPv6 == local.ip.isIPv6 }
    }

    /// Binds UDP sockets on one event loop of `group`.
    ///
    /// - Parameters:
    ///   - host: one numeric address, or nil for each address of this machine that is not link-local, as ``Options/host``.
    ///   - port: the same on every socket; 0 lets the system choose, each for itself.
    /// - Throws: ``PeerConnectionError`` with `invalidArgument`, or what the system says of the addresses.
    public static func bind(
        host: String? = nil, port: Int = 0, on group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton, includeLoopback: Bool = false
    ) async throws -> UDPEndpoint {
        guard let number = UInt16(exactly: port) else { throw PeerConnectionError(.invalidArgument, "port \(port)") }
        var options = Options()
        options.host = host
        options.ports = number...number
        options.includeLoopback = includeLoopback
        return try await bind(options, on: group)
    }

    /// Binds UDP sockets on one event loop of `group`.
    /// - Throws: ``PeerConnectionError`` with `invalidArgument`, or what the system says of the addresses.
    public static func bind(_ options: Options, on group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton) async throws -> UDPEndpoint {
        try check(options.advertisedAddresses)
        let loop = group.next()
        let router = try await loop.submit { NIOLoopBound(EndpointRouter(), eventLoop: loop) }.get()
        let ports = options.ports
        guard ports.lowerBound > 0 || ports.count == 1 else { throw PeerConnectionError(.invalidArgument, "a range of ports from 0") }
        var number = UInt16.random(in: ports)
        for attempt in 1...ports.count {
            do {
                let sockets = try await bind(options, port: number, router: router, on: loop)
                let endpoint = UDPEndpoint(eventLoop: loop, router: router, sockets: sockets, port: number, options: options)
                if options.host == nil {
                    try await loop.submit { router.value.isFollowing = true }.get()
                    endpoint.follow()
                }
                return endpoint
            } catch let error as IOError where error.errnoCode == EADDRINUSE && attempt < ports.count {
                number = number == ports.upperBound ? ports.lowerBound : number + 1
            }
        }
        throw PeerConnectionError(.endpointClosed, "no port of \(ports.lowerBound) to \(ports.upperBound) is free")
    }

    private static func check(_ advertised: [String]) throws(PeerConnectionError) {
        var families: Set<Bool> = []
        for text in advertised {
            guard let ip = TransportAddress.IP(text), !ip.isUnspecified else {
                throw PeerConnectionError(.invalidArgument, "'\(text)' is no numeric address to be advertised")
            }
            guard families.insert(ip.isIPv6).inserted else {
                throw PeerConnectionError(.invalidArgument, "'\(text)' is the second address of its family to be advertised; there is room for one")
            }
        }
    }

    private static func bind(
        _ options: Options, port: UInt16, router: NIOLoopBound<EndpointRouter>, on loop: any EventLoop
    ) async throws -> [Bound] {
        let addresses: [SocketAddress]
        if let host = options.host {
            addresses = [try SocketAddress(ipAddress: host, port: Int(port))]
        } else {
            addresses = try wanted(options).map { try TransportAddress(ip: $0, port: port).socketAddress }
        }
        var sockets: [Bound] = []
        var failure: (any Error)?
        for address in addresses {
            do {
                let channel = try await UDPSocket.bind(to: address, router: router, on: loop).get()
                if let local = channel.localAddress.flatMap({ TransportAddress($0) }) { sockets.append(Bound(channel: channel, address: local)) }
            } catch {
                failure = error
                // an IPv6 address may still be tentative, and comes by itself then; but a port that is taken on one address is taken
                if (error as? IOError)?.errnoCode != EADDRNOTAVAIL || options.host != nil { break }
            }
        }
        if let failure, sockets.isEmpty || (failure as? IOError)?.errnoCode != EADDRNOTAVAIL {
            for socket in sockets { try? await socket.channel.close() }
            throw failure
        }
        return sockets
    }

    /// The addresses that an endpoint of these options has now.
    private static func wanted(_ options: Options) throws -> [TransportAddress.IP] {
        let usable = try InterfaceAddresses.current().filter { !$0.isLinkLocal && !$0.isUnspecified }
        let outer = usable.filter { !$0.isLoopback }
        return options.includeLoopback || outer.isEmpty ? usable : outer
    }

    // MARK: Following the machine's addresses

    /// Changes come in bursts, one for each thing that a change consists of.
    private static let settling = TimeAmount.milliseconds(20)

    private func follow() {
        let number = AddressMonitor.shared.add { [weak self] in self?.scheduleRefresh() }
        let isClosed = state.withLock { state in
            state.monitor = number
            return state.isClosed
        }
        if isClosed { stopFollowing() }
    }

    private func stopFollowing() {
        if let number = state.withLock({ $0.monitor.take() }) { AddressMonitor.shared.remove(number) }
    }

    private func scheduleRefresh() {
        let isFirst = state.withLock { state in
            defer { state.isRefreshScheduled = true }
            return !state.isRefreshScheduled && !state.isClosed
        }
        guard isFirst else { return }
        eventLoop.scheduleTask(in: Self.settling) { [weak self] in self?.refresh() }
    }

    /// Closes the sockets whose addresses are gone, and opens those of new ones. On the event loop.
    private func refresh() {
        state.withLock { $0.isRefreshScheduled = false }
        // where they cannot be read now, the next change is another chance
        guard let wanted = try? Self.wanted(options) else { return }
        let (gone, new) = state.withLock { state -> ([Bound], [TransportAddress.IP]) in
            guard !state.isClosed else { return ([], []) }
            let gone = state.sockets.filter { !wanted.contains($0.address.ip) }
            state.sockets.removeAll { !wanted.contains($0.address.ip) }
            return (gone, wanted.filter { ip in !state.sockets.contains { $0.address.ip == ip } })
        }
        for socket in gone {
            router.value.addressRemoved(socket.address)
            socket.channel.close(promise: nil)
        }
        for ip in new {
            guard let address = try? TransportAddress(ip: ip, port: port).socketAddress else { continue }
            UDPSocket.bind(to: address, router: router, on: eventLoop).whenSuccess { [weak self] channel in
                guard let self, let local = channel.localAddress.flatMap({ TransportAddress($0) }) else { return channel.close(promise: nil) }
                let isWanted = state.withLock { state in
                    guard !state.isClosed, !state.sockets.contains(where: { $0.address.ip == ip }) else { return false }
                    state.sockets.append(Bound(channel: channel, address: local))
                    return true
                }
                guard isWanted else { return channel.close(promise: nil) }
                router.value.addressAdded(local)
            }
        }
    }

    /// Closes the sockets. Connections that still use them fail.
    public func close() async {
        for socket in end() { try? await socket.channel.close() }
    }

    /// Closes the sockets without waiting.
    func closeNow() {
        for socket in end() { socket.channel.close(promise: nil) }
    }

    private func end() -> [Bound] {
        let sockets = state.withLock { state in
            state.isClosed = true
            defer { state.sockets = [] }
            return state.sockets
        }
        stopFollowing()
        // the sessions learn of it where the last socket goes, or here where there is none
        let router = router
        let stop: @Sendable () -> Void = {
            router.value.isFollowing = false
            if router.value.sockets.isEmpty { router.value.end() }
        }
        if eventLoop.inEventLoop { stop() } else { eventLoop.execute(stop) }
        return sockets
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
}
