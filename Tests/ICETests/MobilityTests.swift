import ICE
import NetworkSimulator
import Testing
import Wire

/// Addresses that come and go while a connection lives. Nothing is signalled in these: what changed sends checks from where it is now.
@Suite("Changing networks")
struct MobilityTests {
    enum Mover: CaseIterable { case controlling, controlled }

    private func connected(_ mover: Mover, seed: UInt64, behind kind: NATKind? = nil, delay: Duration = .milliseconds(25)) -> (IceWorld, Peer, Peer) {
        var conditions = LinkConditions()
        conditions.delay = delay
        let net = IceWorld(seed: seed, conditions)
        let nat = kind.map { net.world.addNAT($0, publicIP: ip("203.0.113.1")) }
        let moving = net.addPeer("10.0.0.1", controlling: mover == .controlling, behind: nat)
        let fixed = net.addPeer("198.51.100.2", controlling: mover == .controlled)
        net.start(moving, fixed)
        #expect(net.run(.seconds(5)) { moving.agent.state == .completed && fixed.agent.state == .completed })
        // long after the nomination, and at any time of the consent interval
        net.run(.milliseconds(3000 + Int64(seed) * 777))
        moving.states = []
        fixed.states = []
        return (net, moving, fixed)
    }

    private func move(_ peer: Peer, to address: TransportAddress, behind nat: World.NATID? = nil, after gap: Duration, in net: IceWorld) {
        for base in peer.bases { peer.agent.removeLocalAddress(base, at: net.now) }
        peer.bases = []
        net.world.move(peer.host, to: [], behind: nat)
        net.drain(peer)
        net.run(gap)
        net.world.move(peer.host, to: [address.ip], behind: nat)
        peer.bases = [address]
        peer.agent.addLocalAddress(address, at: net.now)
    }

    private func isOn(_ address: TransportAddress, _ moving: Peer, _ fixed: Peer) -> Bool {
        moving.agent.selectedPath?.local == address && fixed.agent.selectedPath?.remote == address
    }

    @Test(
        "An address goes and another comes: both use it within a second and a half",
        arguments: Mover.allCases, [Duration.zero, .milliseconds(200), .seconds(2), .seconds(6)])
    func move(mover: Mover, gap: Duration) {
        for seed in 1...8 as ClosedRange<UInt64> {
            let (net, moving, fixed) = connected(mover, seed: seed)
            let new = address("10.7.0.1", 6000)
            move(moving, to: new, after: gap, in: net)
            let begin = net.now
            #expect(net.run(.seconds(10)) { isOn(new, moving, fixed) }, "seed \(seed)")
            #expect(net.now - begin <= .milliseconds(1500), "seed \(seed): \(net.now - begin)")
            #expect(net.run(.seconds(3)) { moving.agent.state == .completed && fixed.agent.state == .completed }, "seed \(seed)")
            #expect(!moving.states.contains(.failed) && !fixed.states.contains(.failed), "seed \(seed)")
            if gap > .zero { #expect(moving.states.first == .disconnected, "seed \(seed)") }
            net.run(.seconds(60))
            #expect(isOn(new, moving, fixed) && moving.isConnected && fixed.isConnected, "seed \(seed)")
            #expect(net.complaints == [])
        }
    }

    @Test("Another address comes before the old one goes: no path is lost in between", arguments: Mover.allCases)
    func makeBeforeBreak(mover: Mover) {
        for seed in 1...8 as ClosedRange<UInt64> {
            let (net, moving, fixed) = connected(mover, seed: seed)
            let (old, new) = (moving.bases[0], address("10.7.0.1", 6000))
            net.world.move(moving.host, to: [old.ip, new.ip])
            moving.bases = [old, new]
            moving.agent.addLocalAddress(new, at: net.now)
            net.run(.seconds(2))
            #expect(isOn(old, moving, fixed), "seed \(seed): what works stays")
            net.world.move(moving.host, to: [new.ip])
            moving.bases = [new]
            moving.agent.removeLocalAddress(old, at: net.now)
            let begin = net.now
            #expect(net.run(.seconds(10)) { isOn(new, moving, fixed) }, "seed \(seed)")
            #expect(net.now - begin <= .milliseconds(1500), "seed \(seed): \(net.now - begin)")
            #expect(net.complaints == [])
        }
    }

    @Test("From one address to the next every 700 ms, where the controlling agent moves")
    func restless() {
        for seed in 1...8 as ClosedRange<UInt64> {
            let (net, moving, fixed) = connected(.controlling, seed: seed)
            for step in 1...10 as ClosedRange<UInt16> {
                move(moving, to: address("10.7.0.\(step)", 6000 + step), after: .milliseconds(100), in: net)
                net.run(.milliseconds(600))
            }
            let last = address("10.7.0.10", 6010)
            #expect(net.run(.milliseconds(2500)) { isOn(last, moving, fixed) }, "seed \(seed)")
            #expect(!moving.states.contains(.failed) && !fixed.states.contains(.failed), "seed \(seed)")
            #expect(net.complaints == [])
        }
    }

    @Test("A NAT that forgets its mappings is crossed anew once data goes unacknowledged", arguments: [NATKind.portRestricted, .symmetric])
    func rebinding(kind: NATKind) {
        for seed in 1...8 as ClosedRange<UInt64> {
            var conditions = LinkConditions()
            conditions.delay = .milliseconds(25)
            let net = IceWorld(seed: seed, conditions)
            let nat = net.world.addNAT(kind, publicIP: ip("203.0.113.1"))
            let inner = net.addPeer("10.0.0.1", controlling: true, behind: nat)
            let fixed = net.addPeer("198.51.100.2", controlling: false)
            net.start(inner, fixed)
            #expect(net.run(.seconds(5)) { inner.agent.state == .completed && fixed.agent.state == .completed })
            net.run(.milliseconds(3000 + Int64(seed) * 777))
            let old = fixed.agent.selectedPath?.remote
            net.world.forgetMappings(of: nat)
            net.run(.milliseconds(200))
            inner.agent.noteTrouble(at: net.now)
            #expect(net.run(.seconds(1)) { fixed.agent.selectedPath.map { $0.remote != old } ?? false }, "seed \(seed)")
            #expect(inner.isConnected && fixed.isConnected)
            #expect(net.complaints == [])
        }
    }

    @Test("Without an address for longer than the agent waits it fails, and says `disconnected` until then")
    func noAddress() {
        let (net, moving, fixed) = connected(.controlling, seed: 3)
        for base in moving.bases { moving.agent.removeLocalAddress(base, at: net.now) }
        moving.bases = []
        #expect(net.run(.seconds(1)) { moving.states == [.disconnected] })
        #expect(!net.run(.seconds(13)) { moving.agent.state == .failed })
        #expect(net.run(.seconds(2)) { moving.agent.state == .failed && fixed.agent.state == .failed })
        #expect(net.complaints == [])
    }

    @Test("With STUN, an address that comes later brings its reflexive candidate as well")
    func reflexiveOfNewAddress() {
        let net = IceWorld(seed: 9)
        let stun = net.addStunServer("192.0.2.1")
        let nat = net.world.addNAT(.portRestricted, publicIP: ip("203.0.113.1"))
        let other = net.world.addNAT(.portRestricted, publicIP: ip("203.0.113.77"))
        let moving = net.addPeer("10.0.0.1", controlling: true, behind: nat) { $0.stunServers = [stun] }
        let fixed = net.addPeer("198.51.100.2", controlling: false)
        net.start(moving, fixed)
        #expect(net.run(.seconds(5)) { moving.agent.state == .completed && fixed.agent.state == .completed })
        move(moving, to: address("10.7.0.1", 6000), behind: other, after: .milliseconds(100), in: net)
        #expect(net.run(.seconds(2)) { moving.agent.localCandidates.contains { $0.kind == .serverReflexive && $0.transportAddress?.ip == ip("203.0.113.77") } })
        #expect(!moving.agent.localCandidates.contains { $0.transportAddress?.ip == ip("203.0.113.1") })
        #expect(net.run(.seconds(2)) { fixed.agent.selectedPath?.remote.ip == ip("203.0.113.77") })
    }
}
