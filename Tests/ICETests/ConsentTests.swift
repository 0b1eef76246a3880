import ICE
import NIOCore
import NetworkSimulator
import Testing
import Wire

@Suite("Consent, loss of paths, restart")
struct ConsentTests {
    private func connected(seed: UInt64, second: Bool = false) -> (IceWorld, Peer, Peer) {
        let net = IceWorld(seed: seed)
        let left = second ? net.addPeer("10.0.0.1", "10.1.0.1", controlling: true) : net.addPeer("10.0.0.1", controlling: true)
        let right = net.addPeer("10.0.0.2", controlling: false)
        net.start(left, right)
        #expect(net.run(.seconds(5)) { left.agent.state == .completed && right.agent.state == .completed })
        return (net, left, right)
    }

    @Test("RFC 7675 §5.1: consent is asked for every 4 to 6 s", arguments: 1...5 as ClosedRange<UInt64>)
    func interval(seed: UInt64) {
        let (net, left, right) = connected(seed: seed)
        let checks = left.agent.counters.checksSent
        net.run(.seconds(600))
        #expect((98...152).contains(left.agent.counters.consentRequestsSent))
        #expect((98...152).contains(right.agent.counters.consentRequestsSent))
        #expect(left.agent.counters.checksSent == checks, "nothing else is sent once a pair is nominated")
        #expect(left.states.last == .completed)
        #expect(net.complaints == [])
    }

    @Test("Silence is noticed within 10 s where nothing else is sent, and its end brings the path back", arguments: 1...10 as ClosedRange<UInt64>)
    func interruption(seed: UInt64) {
        let (net, left, right) = connected(seed: seed)
        net.run(.seconds(Int64(seed)))
        net.world.setConditions(down())
        // the peer was asked less than 6 s ago, and its silence is believed after 3 s
        #expect(net.run(.milliseconds(9100)) { left.agent.state == .disconnected && right.agent.state == .disconnected })
        #expect(left.agent.selectedPath != nil)
        net.world.setConditions(LinkConditions())
        #expect(net.run(.seconds(2)) { left.isConnected && right.isConnected })
        net.run(.seconds(60))
        #expect(left.agent.state == .completed && right.agent.state == .completed)
        #expect(net.complaints == [])
    }

    @Test("Where data goes unacknowledged, silence is noticed within 4 s", arguments: 1...10 as ClosedRange<UInt64>)
    func interruptionUnderLoad(seed: UInt64) {
        let (net, left, _) = connected(seed: seed)
        net.run(.seconds(Int64(seed)))
        let begin = net.now
        net.world.setConditions(down())
        net.run(.milliseconds(300))
        left.agent.noteTrouble(at: net.now)
        #expect(net.run(.seconds(4)) { left.agent.state == .disconnected })
        #expect((.seconds(3)...(.seconds(4))).contains(net.now - begin), "\(net.now - begin)")
        net.world.setConditions(LinkConditions())
        #expect(net.run(.milliseconds(500)) { left.agent.state == .completed })
    }

    @Test("Trouble on a path that answers costs one request a second", arguments: 1...3 as ClosedRange<UInt64>)
    func falseAlarm(seed: UInt64) {
        let (net, left, _) = connected(seed: seed)
        let before = left.agent.counters.consentRequestsSent
        for _ in 0..<100 {
            left.agent.noteTrouble(at: net.now)
            net.run(.milliseconds(100))
        }
        #expect((5...12).contains(left.agent.counters.consentRequestsSent - before))
        #expect(left.states.last == .completed && !left.states.contains(.disconnected))
    }

    @Test("A path that loses four in ten both ways, and is blocked for six seconds now and then, keeps its consent", arguments: 1...10 as ClosedRange<UInt64>)
    func lossyPath(seed: UInt64) {
        let (net, left, right) = connected(seed: seed)
        var lossy = LinkConditions()
        lossy.loss = 0.4
        for _ in 0..<10 {
            net.world.setConditions(lossy)
            net.run(.seconds(60))
            net.world.setConditions(down())
            net.run(.seconds(6))
        }
        net.world.setConditions(lossy)
        net.run(.seconds(10))
        #expect(!left.states.contains(.failed) && !right.states.contains(.failed))
        net.world.setConditions(LinkConditions())
        #expect(net.run(.seconds(6)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(net.complaints == [])
    }

    @Test("RFC 7675 §5.1: 15 s after the last answer nothing is sent any more, so a dead peer is known within 15 s", arguments: 1...10 as ClosedRange<UInt64>)
    func expiry(seed: UInt64) {
        let (net, left, right) = connected(seed: seed)
        net.run(.seconds(Int64(seed)))
        net.world.setConditions(down())
        #expect(!net.run(.milliseconds(8900)) { left.agent.state == .failed || right.agent.state == .failed })
        #expect(net.run(.milliseconds(6200)) { left.agent.state == .failed && right.agent.state == .failed })
        #expect(left.agent.selectedPath == nil && left.agent.deadline == nil)
        net.world.setConditions(LinkConditions())
        left.records = true
        net.run(.seconds(60))
        #expect(left.sent.isEmpty)
    }

    @Test("Received data is a sign of life, but no consent")
    func liveness() {
        let (net, left, right) = connected(seed: 4)
        // only the way back is open: data comes, answers do not
        net.world.setConditions(down(), of: left.host)
        guard let path = left.agent.selectedPath else { return }
        let end = net.now + .seconds(16)
        while net.now < end, left.agent.state != .failed {
            net.run(.milliseconds(100))
            left.agent.noteReceived(path: path, at: net.now)
        }
        #expect(!left.states.contains(.disconnected))
        #expect(left.agent.state == .failed)
        #expect(right.agent.state != .closed)
    }

    @Test("When the selected path goes silent another takes its place", arguments: 1...10 as ClosedRange<UInt64>)
    func otherPath(seed: UInt64) {
        let (net, left, right) = connected(seed: seed, second: true)
        #expect(left.agent.selectedPath?.local.ip == ip("10.0.0.1"))
        net.world.setConditions(down(), from: ip("10.0.0.1"), to: ip("10.0.0.2"))
        net.world.setConditions(down(), from: ip("10.0.0.2"), to: ip("10.0.0.1"))
        #expect(net.run(.seconds(15)) { left.agent.selectedPath?.local.ip == ip("10.1.0.1") && right.agent.selectedPath?.remote.ip == ip("10.1.0.1") })
        net.run(.seconds(60))
        #expect(left.isConnected && right.isConnected)
        #expect(!left.states.contains(.failed) && !right.states.contains(.failed))
        #expect(net.complaints == [])
    }

    @Test("An address that is taken away gives its place at once")
    func removal() {
        let (net, left, right) = connected(seed: 5, second: true)
        net.run(.seconds(20))
        let before = net.now
        left.agent.removeLocalAddress(left.bases[0], at: net.now)
        #expect(net.run(.seconds(5)) { left.agent.selectedPath?.local.ip == ip("10.1.0.1") && right.agent.selectedPath?.remote.ip == ip("10.1.0.1") })
        #expect(net.now - before < .seconds(1))
        #expect(net.run(.seconds(5)) { left.isConnected && right.isConnected })
    }

    @Test("RFC 8445 §9: a restart brings new credentials while the old path stays in use")
    func restart() {
        let (net, left, right) = connected(seed: 6)
        let old = left.agent.selectedPath
        left.states = []
        left.agent.restart(localCredentials: IceWorld.credentials(901), at: net.now)
        net.drain(left)
        net.run(.seconds(8))
        #expect(left.agent.selectedPath == old && left.isConnected && right.isConnected, "an offer may take its time")
        right.agent.restart(localCredentials: IceWorld.credentials(902), at: net.now)
        net.introduce(left, to: right, after: .milliseconds(20))
        net.introduce(right, to: left, after: .milliseconds(40))
        net.signal(after: .milliseconds(50)) { right.agent.endOfRemoteCandidates(at: net.now) }
        #expect(net.run(.seconds(5)) { left.agent.state == .completed && right.agent.state == .completed })
        net.run(.seconds(60))
        #expect(left.isConnected && right.isConnected)
        #expect(left.agent.counters.wrongUsername == 0 && right.agent.counters.wrongUsername == 0)
        #expect(net.complaints == [])
    }

    @Test("RFC 8445 §9: a restart leads out of failure and onto a new network")
    func restartAfterMove() {
        let (net, left, right) = connected(seed: 7)
        net.world.move(left.host, to: [ip("10.7.0.1")])
        left.agent.removeLocalAddress(left.bases[0], at: net.now)
        left.bases = [address("10.7.0.1", 5000)]
        left.agent.addLocalAddress(left.bases[0], at: net.now)
        left.agent.restart(localCredentials: IceWorld.credentials(903), at: net.now)
        right.agent.restart(localCredentials: IceWorld.credentials(904), at: net.now)
        net.introduce(left, to: right, after: .milliseconds(20))
        net.introduce(right, to: left, after: .milliseconds(20))
        #expect(net.run(.seconds(3)) { left.isConnected && right.agent.selectedPath?.remote == left.bases[0] })
    }

    @Test("Closed is closed")
    func close() {
        let (net, left, _) = connected(seed: 8)
        left.agent.close(at: net.now)
        net.drain(left)
        #expect(left.states.last == .closed && left.agent.deadline == nil && left.agent.selectedPath == nil)
        left.records = true
        left.agent.addLocalAddress(address("10.0.0.9", 1), at: net.now)
        left.agent.setRemoteCredentials(IceWorld.credentials(1), at: net.now)
        net.run(.seconds(60))
        #expect(left.sent.isEmpty && left.agent.state == .closed)
    }
}
