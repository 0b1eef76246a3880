import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// What an IPv4 path with this MTU leaves of a datagram for SCTP: less IP, UDP and DTLS.
func packetLimit(mtu: Int) -> Int { mtu - 28 - 37 }

/// The candidate that such a path carries.
func expectedPacketSize(mtu: Int) -> Int { max(1160, min(16_336, packetLimit(mtu: mtu) & ~3)) }

@Suite("Path MTU discovery in virtual time (RFC 8899 over RFC 8261)")
struct PathMTUTests {
    func pair(seed: UInt64, mtu: Int, loss: Double = 0, change: (inout Configuration) -> Void = { _ in }) -> Pair {
        var conditions = LinkConditions()
        conditions.maximumDatagram = packetLimit(mtu: mtu)
        conditions.loss = loss
        var configuration = Configuration()
        change(&configuration)
        return Pair(seed: seed, conditions: conditions, a: configuration, z: configuration)
    }

    /// A message every so often, both ways, so that the ends hear of each other.
    func chat(
        _ pair: Pair, for time: Duration, every interval: Duration = .milliseconds(100), size: Int = 3000, until isDone: (Pair) -> Bool = { _ in false }
    ) throws {
        let channel = try pair.a.engine.open(ChannelParameters(label: "chat"), at: pair.now)
        let back = try pair.z.engine.open(ChannelParameters(label: "back"), at: pair.now)
        let end = pair.now + time
        let message = pattern(size, 1)
        while pair.now < end, !isDone(pair) {
            try pair.a.engine.send(message, isText: false, on: channel, at: pair.now)
            try pair.z.engine.send(message, isText: false, on: back, at: pair.now)
            let next = pair.now + interval
            while pair.now < next { guard pair.step(until: next) else { break } }
        }
    }

    @Test("RFC 8899 §5: both ends find what the path carries, and no probe counts as loss", arguments: [1225, 1280, 1400, 1492, 1500, 9000, 65_536])
    func finds(mtu: Int) throws {
        let pair = pair(seed: UInt64(mtu), mtu: mtu)
        pair.connect()
        try chat(pair, for: .seconds(40))
        for end in [pair.a, pair.z] {
            let statistics = end.engine.statistics
            #expect(statistics.packetSize == expectedPacketSize(mtu: mtu))
            #expect(statistics.recoveries == 0 && statistics.timeouts == 0 && statistics.chunksRetransmitted == 0 && statistics.blackHoles == 0)
        }
        // large packets are in use
        try pair.a.engine.send(pattern(1 << 20, 5), isText: false, on: #require(pair.a.opened.first), at: pair.now)
        var longest = 0
        pair.tap = { longest = max(longest, $0.readableBytes) }
        pair.run(for: .seconds(5))
        #expect(longest <= pair.a.engine.statistics.packetSize)
        #expect(longest > pair.a.engine.statistics.packetSize - 1160)
        #expect(pair.a.engine.statistics.recoveries == 0)
    }

    @Test("two ends on a path without a limit use 16 KiB within two round trips")
    func loopback() {
        let pair = pair(seed: 1, mtu: 65_536)
        pair.connect()
        // two round trips of 20 ms
        pair.run(for: .milliseconds(40))
        #expect(pair.a.engine.statistics.packetSize == 16_336)
        #expect(pair.z.engine.statistics.packetSize == 16_336)
        #expect(pair.a.engine.statistics.pathProbes == 1)
    }

    @Test("loss does not look like a small path, nor a small path like loss", arguments: [0.01, 0.05, 0.1], [1500, 9000, 65_536])
    func lossy(loss: Double, mtu: Int) throws {
        for seed: UInt64 in 1...4 {
            let pair = pair(seed: seed, mtu: mtu, loss: loss)
            pair.run(for: .seconds(60)) { $0.a.isConnected && $0.z.isConnected }
            try chat(pair, for: .seconds(60), every: .milliseconds(200), size: 10_000)
            // false alarms may have it search again at this moment
            try chat(pair, for: .seconds(30), every: .milliseconds(200)) { $0.a.engine.statistics.packetSize == expectedPacketSize(mtu: mtu) }
            #expect(pair.a.engine.statistics.packetSize == expectedPacketSize(mtu: mtu), "seed \(seed)")
            #expect(pair.a.failure == nil, "seed \(seed)")
        }
    }

    @Test("RFC 8899 §4.3: the path shrinks under a large message: all of it arrives within seconds", arguments: [1, 2, 3, 4, 5, 6] as [UInt64], [0.0, 0.02])
    func blackHole(seed: UInt64, loss: Double) throws {
        let pair = pair(seed: seed, mtu: 9000, loss: loss)
        pair.toZ.conditions.rate = 200e6
        let channel = try pair.a.engine.open(ChannelParameters(label: "big"), at: pair.now)
        pair.run { $0.a.isConnected && $0.z.isConnected }
        try chat(pair, for: .seconds(60)) { $0.a.engine.statistics.packetSize == expectedPacketSize(mtu: 9000) }
        #expect(pair.a.engine.statistics.packetSize == expectedPacketSize(mtu: 9000))
        var longestChunk = 0
        pair.tap = { packet in
            for chunk in chunks(packet) where chunk.type == ChunkType.interleavedData { longestChunk = max(longestChunk, chunk.body.count + 4) }
        }
        let message = pattern(2_000_000, 7)
        try pair.a.engine.send(message, isText: false, on: channel, at: pair.now)
        pair.run(for: .milliseconds(60 + 7 * Int(seed)))
        let before = pair.z.engine.statistics.payloadBytesReceived
        #expect(before > 100_000)
        pair.toZ.conditions.maximumDatagram = packetLimit(mtu: 1280)
        pair.toA.conditions.maximumDatagram = packetLimit(mtu: 1280)
        let start = pair.now
        pair.run(for: .seconds(30)) { $0.z.engine.statistics.payloadBytesReceived > before + 200_000 }
        #expect(pair.now - start < .seconds(2), "seed \(seed)")
        pair.run(for: .seconds(60)) { pair in pair.z.messages.contains { $0.value.contains { $0.0.readableBytes == 2_000_000 } } }
        let arrived = pair.z.messages.values.flatMap { $0 }.filter { $0.0.readableBytes == 2_000_000 }.map(\.0)
        #expect(arrived == [message], "seed \(seed)")
        #expect(pair.a.engine.statistics.blackHoles >= 1)
        #expect(longestChunk > 1000 && longestChunk <= 1148)
        pair.tap = nil
        try chat(pair, for: .seconds(60)) { $0.a.engine.statistics.packetSize == expectedPacketSize(mtu: 1280) }
        #expect(pair.a.engine.statistics.packetSize == expectedPacketSize(mtu: 1280), "seed \(seed)")
        #expect(pair.a.failure == nil && pair.z.failure == nil)
    }

    @Test("a black hole is seen although small packets still arrive, and no T3 expires", arguments: [1, 2, 3] as [UInt64])
    func partialBlackHole(seed: UInt64) throws {
        let pair = pair(seed: seed, mtu: 9000)
        let channel = try pair.a.engine.open(ChannelParameters(label: "big", ordered: false), at: pair.now)
        pair.connect()
        try chat(pair, for: .seconds(60)) { $0.a.engine.statistics.packetSize == expectedPacketSize(mtu: 9000) }
        pair.toZ.conditions.maximumDatagram = packetLimit(mtu: 1280)
        let start = pair.now
        var sent = 0
        // one large packet, and small ones behind it, again and again
        while pair.a.engine.statistics.blackHoles == 0, pair.now - start < .seconds(5) {
            try pair.a.engine.send(pattern(8000, sent), isText: false, on: channel, at: pair.now)
            sent += 1
            for size in [50, 60, 70] {
                pair.run(for: .milliseconds(3))
                try pair.a.engine.send(pattern(size, sent), isText: false, on: channel, at: pair.now)
                sent += 1
            }
            pair.run(for: .milliseconds(3))
        }
        #expect(pair.a.engine.statistics.blackHoles == 1)
        #expect(pair.a.engine.statistics.timeouts == 0)
        #expect(pair.now - start < .milliseconds(300))
        pair.run(for: .seconds(10))
        #expect(pair.a.engine.unacknowledgedAmount(of: channel) == 0)
    }

    @Test("an outage while the path is searched is not taken for its size")
    func outage() throws {
        let pair = pair(seed: 4, mtu: 65_536)
        pair.toZ.conditions.maximumDatagram = 1200
        pair.connect()
        pair.run(for: .milliseconds(500))
        pair.toZ.conditions.isDown = true
        pair.toA.conditions.isDown = true
        pair.run(for: .seconds(4))
        pair.toZ.conditions.isDown = false
        pair.toA.conditions.isDown = false
        pair.toZ.conditions.maximumDatagram = packetLimit(mtu: 65_536)
        try chat(pair, for: .seconds(20)) { $0.a.engine.statistics.packetSize == 16_336 }
        #expect(pair.a.engine.statistics.packetSize == 16_336)
    }

    @Test("RFC 8899 §5.1.1: the raise timer finds what a path has come to carry, where data is sent")
    func raise() throws {
        let pair = pair(seed: 5, mtu: 1500)
        pair.connect()
        try chat(pair, for: .seconds(30))
        #expect(pair.a.engine.statistics.packetSize == expectedPacketSize(mtu: 1500))
        pair.toZ.conditions.maximumDatagram = packetLimit(mtu: 9000)
        try chat(pair, for: .seconds(640), every: .seconds(5))
        #expect(pair.a.engine.statistics.packetSize == expectedPacketSize(mtu: 9000))
        // idle: nothing is probed
        let probes = pair.a.engine.statistics.pathProbes
        pair.run(for: .seconds(2000))
        let once = pair.a.engine.statistics.pathProbes
        pair.run(for: .seconds(6000))
        #expect(pair.a.engine.statistics.pathProbes == once)
        #expect(once - probes < 60)
    }

    @Test("a new path starts at the base, and the host's refusal ends a candidate at once")
    func newPath() throws {
        let pair = pair(seed: 6, mtu: 65_536)
        pair.connect()
        pair.run(for: .seconds(1))
        #expect(pair.a.engine.statistics.packetSize == 16_336)
        pair.toZ.conditions.maximumDatagram = packetLimit(mtu: 1500)
        pair.a.engine.pathChanged(at: pair.now)
        #expect(pair.a.engine.statistics.packetSize == 1160)
        pair.tap = { packet in if packet.readableBytes > packetLimit(mtu: 1500) { pair.a.engine.packetRefused(size: packet.readableBytes, at: pair.now) } }
        pair.run(for: .milliseconds(100))
        #expect(pair.a.engine.statistics.packetSize == expectedPacketSize(mtu: 1500))
    }

    @Test("discovery switched off: nothing is probed, nothing is longer than the base")
    func off() throws {
        let pair = pair(seed: 7, mtu: 65_536) { $0.maximumPacketSize = $0.basePacketSize }
        pair.connect()
        var longest = 0
        pair.tap = { longest = max(longest, $0.readableBytes) }
        try chat(pair, for: .seconds(2000), every: .seconds(20), size: 20_000)
        #expect(longest == 1160)
        #expect(pair.a.engine.statistics.pathProbes == 0)
    }

    @Test("a peer that does not name PAD is probed up to what Ethernet carries, no further")
    func cautious() throws {
        let conditions = LinkConditions()
        var other = Configuration()
        other.offerPadding = false
        let pair = Pair(seed: 8, conditions: conditions, z: other)
        pair.connect()
        try chat(pair, for: .seconds(30))
        #expect(pair.a.engine.statistics.packetSize == 1432)
        // it knows that we take more
        #expect(pair.z.engine.statistics.packetSize == 16_336)
        #expect(pair.a.engine.statistics.pathProbes == 1)
    }

    @Test("RFC 9260 §7.2: windows are in bytes; a poll writes as many bytes as with small packets")
    func windows() throws {
        let pair = pair(seed: 9, mtu: 65_536)
        let channel = try pair.a.engine.open(ChannelParameters(label: "x"), at: pair.now)
        pair.connect()
        pair.run(for: .seconds(1))
        #expect(pair.a.engine.statistics.packetSize == 16_336)
        #expect(pair.a.engine.statistics.congestionWindow <= 2 * 32 * 1160)
        let message = pattern(1 << 20, 1)
        for _ in 0..<20 { try pair.a.engine.send(message, isText: false, on: channel, at: pair.now) }
        var most = 0
        while pair.a.engine.statistics.congestionWindow < 2 << 20, pair.now < .zero + .seconds(60) {
            pair.a.drain(at: pair.now)
            most = max(most, pair.a.batch.bytes.writerIndex)
            guard pair.step(until: .zero + .seconds(60)) else { break }
        }
        #expect(most <= Configuration().maximumBytesPerPoll + 16_336)
        pair.run { $0.z.messages.values.first?.count == 20 }
        #expect(pair.z.messages.values.first?.count == 20)
    }
}
