package import NIOCore
package import Wire

/// How a NAT maps and filters (RFC 4787 §4 and §5, by the older names of RFC 3489).
package enum NATKind: String, Sendable, CaseIterable {
    /// One mapping per inner address; anyone may use it.
    case fullCone
    /// One mapping per inner address; hosts that were sent to may use it.
    case addressRestricted
    /// One mapping per inner address; addresses and ports that were sent to may use it.
    case portRestricted
    /// One mapping per inner address and destination; only that destination may use it.
    case symmetric
}

/// Hosts and NATs joined by `Link`s, in virtual time: a datagram goes in at one host and comes out at another, its source translated on the way.
///
///     var world = World(seed: 7)
///     let nat = world.addNAT(.symmetric, publicIP: .v4(0xCB00_7101))
///     let alice = world.addHost(.v4(0x0A00_0002), behind: nat)
///     let bob = world.addHost(.v4(0xC633_6409))
///     world.send(datagram, along: NetworkPath(local: …, remote: …), from: alice)
///     world.advance(to: deadline)
///     while let arrival = world.receive() { … }
package struct World: Sendable {
    package struct HostID: Hashable, Sendable { fileprivate let index: Int }
    package struct NATID: Hashable, Sendable { fileprivate let index: Int }

    /// A datagram at its destination, with the path as the receiver sees it.
    package struct Arrival: Sendable {
        package let host: HostID
        package let path: NetworkPath
        package let datagram: ByteBuffer
    }

    package struct Counters: Sendable, Equatable {
        package var sent = 0, arrived = 0
        /// Refused by a NAT.
        package var filtered = 0
        /// Sent to an address that nobody has, or through a NAT without a mapping.
        package var unroutable = 0
    }

    package private(set) var now = Instant.zero
    package private(set) var counters = Counters()
    /// What the links of hosts and routes without conditions of their own do.
    package var conditions: LinkConditions

    private struct Host {
        var ips: [TransportAddress.IP]
        var site: NATID?
        var conditions: LinkConditions?
    }

    private struct NAT {
        struct Mapping {
            let inner: TransportAddress
            /// Symmetric only.
            let destination: TransportAddress?
            let port: UInt16
            var peers: Set<TransportAddress> = []
            var lastUsed: Instant
        }

        let kind: NATKind
        let publicIP: TransportAddress.IP
        let site: NATID?
        var lifetime: Duration
        var hairpins: Bool
        var mappings: [Mapping] = []
        var nextPort: UInt16
    }

    /// All datagrams of one host along one path, so that each path keeps its order unless its conditions say otherwise.
    private struct Route: Hashable {
        let host: Int
        let path: NetworkPath
    }

    private let seed: UInt64
    private var hosts: [Host] = []
    private var nats: [NAT] = []
    private var routes: [Route] = []
    private var links: [Link] = []
    private var linkIndex: [Route: Int] = [:]
    private var routeConditions: [(from: TransportAddress.IP, to: TransportAddress.IP, conditions: LinkConditions)] = []
    private var arrivals: [Arrival] = []

    package init(seed: UInt64, conditions: LinkConditions = .init()) {
        self.seed = seed
        self.conditions = conditions
    }

    // MARK: Building

    /// A host on the Internet, or on the inner side of a NAT. Inner addresses may repeat behind different NATs.
    package mutating func addHost(_ ips: TransportAddress.IP..., behind nat: NATID? = nil) -> HostID {
        addHost(ips, behind: nat)
    }

    package mutating func addHost(_ ips: [TransportAddress.IP], behind nat: NATID? = nil) -> HostID {
        hosts.append(Host(ips: ips, site: nat))
        return HostID(index: hosts.count - 1)
    }

    /// A NAT on the Internet or behind another NAT. A mapping ends `lifetime` after its last outgoing datagram.
    package mutating func addNAT(
        _ kind: NATKind, publicIP: TransportAddress.IP, behind outer: NATID? = nil, lifetime: Duration = .seconds(120), hairpins: Bool = true
    ) -> NATID {
        // ports start at different places, so that tests cannot lean on luck
        let port = UInt16(20_000 + 7_919 * nats.count % 20_000)
        nats.append(NAT(kind: kind, publicIP: publicIP, site: outer, lifetime: lifetime, hairpins: hairpins, nextPort: port))
        return NATID(index: nats.count - 1)
    }

    /// What happens to all that a host sends; nil goes back to the world's.
    package mutating func setConditions(_ conditions: LinkConditions?, of host: HostID) {
        hosts[host.index].conditions = conditions
        refreshLinks()
    }

    /// What happens from one address to another as the sender sees them (so the public one of a NAT), in this direction.
    package mutating func setConditions(_ conditions: LinkConditions, from local: TransportAddress.IP, to remote: TransportAddress.IP) {
        routeConditions.removeAll { $0.from == local && $0.to == remote }
        routeConditions.append((local, remote, conditions))
        refreshLinks()
    }

    /// For the whole world, but for hosts and routes with their own.
    package mutating func setConditions(_ conditions: LinkConditions) {
        self.conditions = conditions
        refreshLinks()
    }

    /// The host leaves one network and joins another; datagrams to the old addresses are lost.
    package mutating func move(_ host: HostID, to ips: [TransportAddress.IP], behind nat: NATID? = nil) {
        hosts[host.index].ips = ips
        hosts[host.index].site = nat
    }

    /// The NAT forgets everything, as one does that was switched off and on.
    package mutating func forgetMappings(of nat: NATID) {
        nats[nat.index].mappings = []
    }

    // MARK: Running

    package mutating func send(_ datagram: ByteBuffer, along path: NetworkPath, from host: HostID) {
        counters.sent += 1
        guard hosts[host.index].ips.contains(path.local.ip) else { counters.unroutable += 1; return }
        let route = Route(host: host.index, path: path)
        let index: Int
        if let known = linkIndex[route] {
            index = known
        } else {
            index = links.count
            linkIndex[route] = index
            routes.append(route)
            links.append(Link(conditions(of: route), seed: seed &* 0x9E37_79B9 &+ UInt64(index)))
        }
        links[index].send(datagram, at: now)
    }

    package mutating func send(_ batch: DatagramBatch, from host: HostID) {
        for (index, path) in batch.paths.enumerated() {
            if let datagram = batch.packets.packet(index) { send(ByteBuffer(datagram.readableBytesView), along: path, from: host) }
        }
    }

    /// When the next datagram arrives; nil while nothing is under way.
    package var deadline: Instant? {
        arrivals.isEmpty ? links.reduce(nil) { earliest($0, $1.deadline) } : now
    }

    /// Lets time pass; what arrived meanwhile waits for `receive`. Call it with `deadline` or an earlier time, lest answers come late.
    package mutating func advance(to time: Instant) {
        while let next = links.reduce(nil, { earliest($0, $1.deadline) }), next <= time {
            now = max(now, next)
            for index in links.indices {
                while let datagram = links[index].receive(at: now) { route(datagram, along: routes[index]) }
            }
        }
        now = max(now, time)
    }

    package mutating func receive() -> Arrival? {
        arrivals.isEmpty ? nil : arrivals.removeFirst()
    }

    // MARK: Routing

    private mutating func route(_ datagram: ByteBuffer, along route: Route) {
        var source = route.path.local
        let destination = route.path.remote
        var site = hosts[route.host].site
        // a host that moved away while its datagram was under way still sent it
        for _ in 0..<8 {
            if deliver(datagram, from: source, to: destination, in: site) { return }
            guard let gateway = site else { break }
            let outer = nats[gateway.index].site
            source = mapped(source, to: destination, by: gateway.index)
            if destination.ip == nats[gateway.index].publicIP, !nats[gateway.index].hairpins { break }
            site = outer
        }
        counters.unroutable += 1
    }

    /// True when the destination is in `site`, whether or not it took the datagram.
    private mutating func deliver(_ datagram: ByteBuffer, from source: TransportAddress, to destination: TransportAddress, in site: NATID?) -> Bool {
        if let host = hosts.indices.first(where: { hosts[$0].site == site && hosts[$0].ips.contains(destination.ip) }) {
            counters.arrived += 1
            arrivals.append(Arrival(host: HostID(index: host), path: NetworkPath(local: destination, remote: source), datagram: datagram))
            return true
        }
        guard let nat = nats.indices.first(where: { nats[$0].site == site && nats[$0].publicIP == destination.ip }) else { return false }
        guard let inner = admitted(source, at: destination.port, by: nat) else { counters.filtered += 1; return true }
        if !deliver(datagram, from: source, to: inner, in: NATID(index: nat)) { counters.unroutable += 1 }
        return true
    }

    private mutating func mapped(_ inner: TransportAddress, to destination: TransportAddress, by nat: Int) -> TransportAddress {
        expireMappings(of: nat)
        let key = nats[nat].kind == .symmetric ? destination : nil
        let index: Int
        if let known = nats[nat].mappings.firstIndex(where: { $0.inner == inner && $0.destination == key }) {
            index = known
        } else {
            index = nats[nat].mappings.count
            nats[nat].mappings.append(.init(inner: inner, destination: key, port: nats[nat].nextPort, lastUsed: now))
            nats[nat].nextPort = nats[nat].nextPort == .max ? 1024 : nats[nat].nextPort + 1
        }
        nats[nat].mappings[index].lastUsed = now
        nats[nat].mappings[index].peers.insert(destination)
        return TransportAddress(ip: nats[nat].publicIP, port: nats[nat].mappings[index].port)
    }

    private mutating func admitted(_ source: TransportAddress, at port: UInt16, by nat: Int) -> TransportAddress? {
        expireMappings(of: nat)
        guard let mapping = nats[nat].mappings.first(where: { $0.port == port }) else { return nil }
        let admits =
            switch nats[nat].kind {
            case .fullCone: true
            case .addressRestricted: mapping.peers.contains { $0.ip == source.ip }
            case .portRestricted, .symmetric: mapping.peers.contains(source)
            }
        return admits ? mapping.inner : nil
    }

    private mutating func expireMappings(of nat: Int) {
        let oldest = now - nats[nat].lifetime
        nats[nat].mappings.removeAll { $0.lastUsed < oldest }
    }

    private func conditions(of route: Route) -> LinkConditions {
        if let own = routeConditions.first(where: { $0.from == route.path.local.ip && $0.to == route.path.remote.ip }) { return own.conditions }
        return hosts[route.host].conditions ?? conditions
    }

    private mutating func refreshLinks() {
        for index in links.indices { links[index].conditions = conditions(of: routes[index]) }
    }
}
