import ICE
import NIOCore
import NetworkSimulator
import Wire

func ip(_ text: String) -> TransportAddress.IP { TransportAddress.IP(text) ?? .v4(0) }
func address(_ text: String, _ port: UInt16) -> TransportAddress { TransportAddress(ip: ip(text), port: port) }

/// An agent on a simulated host, and what it told.
final class Peer {
    var agent: IceAgent
    let host: World.HostID
    var bases: [TransportAddress]
    /// What goes to the peer by signalling; taken by `IceWorld`.
    var announced: [IceCandidate] = []
    var announcedEnd = false
    var isTrickling = true
    var states: [IceAgent.State] = []
    var paths: [NetworkPath] = []
    var connectedAt: Instant?
    /// Datagrams that came to it, for tests that forge.
    var received: [World.Arrival] = []
    var sent: [(path: NetworkPath, datagram: ByteBuffer)] = []
    var records = false

    init(_ configuration: IceAgent.Configuration, host: World.HostID, bases: [TransportAddress], seed: UInt64) {
        agent = IceAgent(configuration: configuration, generator: SplitMix64(seed: seed))
        self.host = host
        self.bases = bases
    }

    var isConnected: Bool { agent.state == .connected || agent.state == .completed }
}

/// Agents on a simulated network with STUN servers, stepped from deadline to deadline.
final class IceWorld {
    var world: World
    var peers: [Peer] = []
    var stunHosts: [World.HostID] = []
    var signallingDelay: Duration = .milliseconds(30)
    private var signals: [(due: Instant, order: Int, action: () -> Void)] = []
    private var order = 0
    let seed: UInt64
    /// Steps that found nothing to do, in a row; an agent whose deadline does not advance is broken.
    private var idleSteps = 0
    var complaints: [String] = []

    init(seed: UInt64, _ conditions: LinkConditions = .init()) {
        self.seed = seed
        world = World(seed: seed, conditions: conditions)
    }

    var now: Instant { world.now }

    static func credentials(_ seed: UInt64) -> IceCredentials {
        var generator = SplitMix64(seed: seed)
        return .random(using: &generator)
    }

    func addPeer(
        _ addresses: String..., controlling: Bool, behind nat: World.NATID? = nil, on existing: World.HostID? = nil, port: UInt16 = 5000,
        configure: (inout IceAgent.Configuration) -> Void = { _ in }
    ) -> Peer {
        let number = UInt64(peers.count + 1)
        var configuration = IceAgent.Configuration(isControlling: controlling, localCredentials: Self.credentials(seed &* 100 &+ number))
        configure(&configuration)
        let ips = addresses.map(ip)
        let host = existing ?? world.addHost(ips, behind: nat)
        let bases = ips.map { TransportAddress(ip: $0, port: port) }
        let peer = Peer(configuration, host: host, bases: bases, seed: seed &* 1000 &+ number)
        peers.append(peer)
        return peer
    }

    func addStunServer(_ text: String) -> TransportAddress {
        stunHosts.append(world.addHost(ip(text)))
        return address(text, 3478)
    }

    func signal(after delay: Duration, _ action: @escaping () -> Void) {
        order += 1
        signals.append((now + delay, order, action))
        signals.sort { ($0.due, $0.order) < ($1.due, $1.order) }
    }

    /// Gathers on both; `credentialsDelay` after each other's start they know each other's credentials, and candidates follow as they trickle.
    func start(_ left: Peer, _ right: Peer, credentials: Bool = true) {
        for (peer, other) in [(left, right), (right, left)] {
            for base in peer.bases { peer.agent.addLocalAddress(base, at: now) }
            peer.agent.endOfLocalAddresses(at: now)
            if credentials { introduce(peer, to: other, after: signallingDelay) }
            drain(peer)
        }
        link = (left, right)
        trickle()
    }

    func introduce(_ peer: Peer, to other: Peer, after delay: Duration) {
        let credentials = peer.agent.localCredentials
        let isLite = peer.agent.configuration.isLite
        signal(after: delay) { [unowned self] in other.agent.setRemoteCredentials(credentials, isLite: isLite, at: now) }
    }

    private var link: (Peer, Peer)?
    private func trickle() {
        guard let (left, right) = link else { return }
        for (peer, other) in [(left, right), (right, left)] where peer.isTrickling {
            for candidate in peer.announced { signal(after: signallingDelay) { [unowned self] in other.agent.addRemoteCandidate(candidate, at: now) } }
            peer.announced = []
            if peer.announcedEnd {
                peer.announcedEnd = false
                signal(after: signallingDelay) { [unowned self] in other.agent.endOfRemoteCandidates(at: now) }
            }
        }
    }

    func drain(_ peer: Peer) {
        var batch = DatagramBatch()
        while let event = peer.agent.poll(at: now, into: &batch) {
            switch event {
            case .localCandidate(let candidate): peer.announced.append(candidate)
            case .gatheringComplete: peer.announcedEnd = true
            case .stateChanged(let state):
                peer.states.append(state)
                if state == .connected, peer.connectedAt == nil { peer.connectedAt = now }
            case .selectedPath(let path): peer.paths.append(path)
            }
        }
        if peer.records {
            for (index, path) in batch.paths.enumerated() {
                if let datagram = batch.packets.packet(index) { peer.sent.append((path, ByteBuffer(datagram.readableBytesView))) }
            }
        }
        world.send(batch, from: peer.host)
        if let deadline = peer.agent.deadline, deadline < now { complaints.append("deadline \(deadline) is before \(now)") }
    }

    /// Runs until `condition` or for `duration`; answers whether the condition came true.
    @discardableResult
    func run(_ duration: Duration, until condition: () -> Bool = { false }) -> Bool {
        let end = now + duration
        var steps = 0
        while true {
            for peer in peers { drain(peer) }
            trickle()
            if condition() { return true }
            var next = world.deadline
            for peer in peers { next = earliest(next, peer.agent.deadline) }
            next = earliest(next, signals.first?.due)
            guard let next, next <= end else {
                world.advance(to: end)
                return condition()
            }
            idleSteps = next <= now ? idleSteps + 1 : 0
            steps += 1
            if idleSteps > 1000 || steps > 2_000_000 {
                complaints.append("no progress at \(now)")
                return false
            }
            world.advance(to: next)
            while let signal = signals.first, signal.due <= now {
                signals.removeFirst()
                signal.action()
            }
            deliver()
            for peer in peers where peer.agent.deadline.map({ $0 <= now }) ?? false { peer.agent.handleTimeout(at: now) }
        }
    }

    private func deliver() {
        while let arrival = world.receive() {
            if stunHosts.contains(arrival.host) {
                if let answer = StunServer.response(to: arrival.datagram, from: arrival.path.remote) {
                    world.send(answer, along: arrival.path, from: arrival.host)
                }
                continue
            }
            for peer in peers where peer.host == arrival.host && peer.bases.contains(arrival.path.local) {
                if peer.records { peer.received.append(arrival) }
                peer.agent.handle(arrival.datagram, path: arrival.path, at: now)
                drain(peer)
            }
        }
    }
}
