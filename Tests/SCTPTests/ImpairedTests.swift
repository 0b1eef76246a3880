import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

@Suite("One trouble at a time")
struct ImpairedTests {
    @Test("RFC 8985 §7: the last packets of a message are lost and repaired without a retransmission time-out", arguments: 0..<5)
    func tailLoss(seed: Int) throws {
        var configuration = Configuration()
        configuration.maximumPacketSize = configuration.basePacketSize
        let pair = Pair(seed: UInt64(seed), a: configuration, z: configuration)
        let channel = try pair.a.engine.open(ChannelParameters(label: "tail"), at: pair.now)
        pair.connect()
        try pair.a.engine.send(pattern(20_000, 1), isText: false, on: channel, at: pair.now)
        pair.run { !$0.z.messages.isEmpty }
        pair.run(for: .seconds(1))
        try pair.a.engine.send(pattern(8000, seed), isText: false, on: channel, at: pair.now)
        // the burst's last packets vanish
        pair.a.drain(at: pair.now)
        for index in 0..<pair.a.batch.count - 1 - seed % 3 { if let packet = pair.a.batch.packet(index) { pair.toZ.send(packet, at: pair.now) } }
        pair.a.batch.removeAll()
        let start = pair.now
        pair.run(for: .seconds(10)) { $0.z.messages.first?.value.count == 2 }
        #expect(pair.z.messages.first?.value.last?.0 == pattern(8000, seed))
        #expect(pair.now - start < .milliseconds(150))
        #expect(pair.a.engine.statistics.timeouts == 0)
    }

    @Test("RFC 9260 §6.1, §6.2: a receiver that does not consume closes its window; it reopens, and nothing is lost", arguments: [0.0, 0.02])
    func pausedReceiver(loss: Double) throws {
        var configuration = Configuration()
        configuration.receiveWindow = 200_000
        var conditions = LinkConditions()
        conditions.loss = loss
        let pair = Pair(seed: 7, conditions: conditions, a: configuration, z: configuration)
        pair.z.consumes = false
        let channel = try pair.a.engine.open(ChannelParameters(label: "slow"), at: pair.now)
        pair.connect()
        for index in 0..<100 { try pair.a.engine.send(pattern(20_000, index), isText: false, on: channel, at: pair.now) }
        // minutes of closed window: the association lives on its probes
        pair.run(for: .seconds(300))
        let stuck = pair.z.messages.first?.value.count ?? 0
        #expect(stuck < 15)
        #expect(pair.z.mostHeld < 300_000)
        #expect(pair.z.engine.statistics.receiveWindow < 20_000)
        #expect(pair.a.failure == nil)
        pair.z.consumes = true
        pair.z.consumeAll(at: pair.now)
        pair.run(for: .seconds(60)) { $0.z.messages.first?.value.count == 100 }
        #expect(pair.z.messages.first?.value.map(\.0) == (0..<100).map { pattern(20_000, $0) })
    }

    @Test("RFC 9260 §8.1: a peer that falls silent is given up")
    func silence() throws {
        let pair = Pair(seed: 9)
        let channel = try pair.a.engine.open(ChannelParameters(label: "x"), at: pair.now)
        pair.connect()
        pair.toZ.conditions.isDown = true
        pair.toA.conditions.isDown = true
        try pair.a.engine.send(pattern(1000, 1), isText: false, on: channel, at: pair.now)
        pair.run(for: .seconds(300)) { $0.a.failure != nil && $0.z.failure != nil }
        #expect(pair.a.failure == .peerUnreachable)
        // nothing to send there: heartbeats notice
        #expect(pair.z.failure == .peerUnreachable)
        #expect(pair.a.closed == [channel])
    }

    @Test("RFC 9260 §4: INIT that is never answered fails, and a late answerer connects", arguments: [true, false])
    func handshake(never: Bool) {
        let pair = Pair(seed: 3, connect: false)
        pair.a.engine.connect(at: pair.now)
        pair.toZ.conditions.isDown = true
        pair.run(for: .seconds(5))
        if !never { pair.toZ.conditions.isDown = false }
        pair.run(for: .seconds(200)) { $0.a.failure != nil || $0.z.isConnected }
        #expect(pair.a.failure == (never ? .handshakeTimedOut : nil))
        #expect(pair.z.isConnected == !never)
    }

    @Test("a message larger than both windows arrives, and memory follows what arrived, not what was announced")
    func largeMessage() throws {
        var configuration = Configuration()
        configuration.receiveWindow = 256 << 10
        configuration.maximumMessageSize = 4 << 20
        configuration.remoteMaximumMessageSize = 4 << 20
        let pair = Pair(seed: 5, a: configuration, z: configuration)
        let channel = try pair.a.engine.open(ChannelParameters(label: "big"), at: pair.now)
        try pair.a.engine.send(pattern(4 << 20, 3), isText: false, on: channel, at: pair.now)
        #expect(throws: SendError.messageTooLarge(limit: 4 << 20)) {
            try pair.a.engine.send(pattern(4 << 20 + 1, 3), isText: false, on: channel, at: pair.now)
        }
        pair.run(for: .seconds(120)) { !$0.z.messages.isEmpty }
        #expect(pair.z.messages.first?.value.first?.0 == pattern(4 << 20, 3))
        #expect(pair.z.mostHeld <= 4 << 20 + 1 << 20)
    }

    @Test("a network that is away for three seconds", arguments: 0..<5)
    func outage(seed: Int) throws {
        let pair = Pair(seed: UInt64(seed))
        let channel = try pair.a.engine.open(ChannelParameters(label: "frames"), at: pair.now)
        pair.connect()
        for number in 0..<50 { try pair.a.engine.send(pattern(20_000, number), isText: false, on: channel, at: pair.now) }
        pair.run(for: .milliseconds(35))
        pair.setConditions { $0.isDown = true }
        pair.run(for: .seconds(3))
        pair.setConditions { $0.isDown = false }
        let start = pair.now
        pair.run(for: .seconds(15)) { $0.z.messageCount == 50 }
        #expect(pair.z.messages.first?.value.map(\.0) == (0..<50).map { pattern(20_000, $0) })
        // the back-off is four seconds at most by then
        #expect(pair.now - start < .seconds(6))
    }

    @Test("RFC 8841 §6.1: a message beyond the peer's limit throws before a byte goes out")
    func tooLarge() throws {
        var configuration = Configuration()
        configuration.remoteMaximumMessageSize = 1000
        let pair = Pair(seed: 1, a: configuration)
        let channel = try pair.a.engine.open(ChannelParameters(label: "small"), at: pair.now)
        pair.connect()
        pair.run { !$0.z.incoming.isEmpty }
        #expect(throws: SendError.messageTooLarge(limit: 1000)) { try pair.a.engine.send(pattern(1001, 1), isText: false, on: channel, at: pair.now) }
        #expect(pair.a.engine.bufferedAmount(of: channel) == 0)
        try pair.a.engine.send(pattern(1000, 1), isText: false, on: channel, at: pair.now)
        pair.run(for: .seconds(10)) { $0.z.messageCount == 1 }
        #expect(pair.z.messages.first?.value.map(\.0) == [pattern(1000, 1)])
    }

    @Test("RFC 9260 §6.2: the window grows with what the application takes, and stays at its start where it takes nothing", arguments: [true, false])
    func tunedWindow(consumes: Bool) throws {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(50)
        conditions.rate = 100e6
        conditions.queueLimit = 2 << 20
        let pair = Pair(seed: 21, conditions: conditions)
        pair.z.consumes = consumes
        let channel = try pair.a.engine.open(ChannelParameters(label: "window"), at: pair.now)
        pair.connect()
        for number in 0..<256 { try pair.a.engine.send(pattern(64 << 10, number), isText: false, on: channel, at: pair.now) }
        func count(_ pair: Pair) -> Int { pair.z.messages.values.reduce(0) { $0 + $1.count } }
        pair.run(for: .seconds(6)) { count($0) == 256 }
        if consumes {
            // a bandwidth-delay product is 1.25 MB
            #expect(pair.z.engine.statistics.receiveWindow > 2_000_000)
        } else {
            #expect(count(pair) < 256)
            #expect(pair.z.mostHeld <= WindowTuner.start + (128 << 10), "\(pair.z.mostHeld)")
            pair.z.consumeAll(at: pair.now)
            pair.z.consumes = true
            pair.run(for: .seconds(20)) { count($0) == 256 }
        }
        #expect(count(pair) == 256)
    }

    @Test("a window is never above its bound, and a burst after silence is measured, not the silence")
    func windowTuner() {
        var small = WindowTuner(bound: 100_000)
        #expect(small.limit == 100_000)
        small.update(received: 1 << 30, held: 0, roundTrip: .milliseconds(1), at: .zero)
        #expect(small.limit == 100_000)
        var tuner = WindowTuner(bound: 8 << 20)
        var now = Instant.zero
        var received = 0
        for _ in 0..<50 {
            tuner.update(received: received, held: 0, roundTrip: .milliseconds(100), at: now)
            now += .milliseconds(100)
            received += 100_000
        }
        // 100 kB in a round trip need no more than the start
        #expect(tuner.limit == WindowTuner.start)
        for _ in 0..<50 {
            tuner.update(received: received, held: 0, roundTrip: .milliseconds(100), at: now)
            now += .milliseconds(100)
            received += 1_000_000
        }
        #expect(tuner.limit >= 2_000_000 && tuner.limit < 4_000_000)
        // what lies about is not taken
        let before = tuner.limit
        tuner.update(received: received + (64 << 20), held: 64 << 20, roundTrip: .milliseconds(100), at: now + .milliseconds(100))
        #expect(tuner.limit == before)
    }
}
