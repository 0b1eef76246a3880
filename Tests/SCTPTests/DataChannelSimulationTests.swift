import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

@Suite("Data channels over a bad network, in virtual time")
struct DataChannelSimulationTests {
    struct Weather: Sendable, CustomTestStringConvertible {
        var name: String
        var adjust: @Sendable (inout LinkConditions) -> Void
        var zeroChecksum = true
        var testDescription: String { name }
        var conditions: LinkConditions {
            var result = LinkConditions()
            adjust(&result)
            return result
        }
    }

    static let weathers: [Weather] = [
        .init(name: "clean") { _ in },
        .init(name: "1 % loss") { $0.loss = 0.01 },
        .init(name: "5 % loss, duplicates") {
            $0.loss = 0.05; $0.duplication = 0.05
        },
        .init(name: "20 % loss") { $0.loss = 0.2 },
        .init(name: "reordering") {
            $0.reordering = 0.2; $0.jitter = .milliseconds(8)
        },
        .init(name: "loss, reordering, duplicates") {
            $0.loss = 0.08; $0.reordering = 0.1; $0.duplication = 0.1; $0.jitter = .milliseconds(4)
        },
        .init(
            name: "corruption",
            adjust: {
                $0.corruption = 0.05; $0.loss = 0.02
            }, zeroChecksum: false),
        .init(name: "narrow path, short queue") {
            $0.rate = 5e6; $0.queueLimit = 30_000; $0.delay = .milliseconds(40)
        },
        .init(name: "a path of 1163 bytes, nothing larger") {
            $0.maximumDatagram = 1163; $0.loss = 0.02
        },
    ]

    @Test("RFC 9260 §6: both ways, each message arrives once, in order, unharmed", arguments: weathers, [UInt64(1), 2, 3])
    func reliableOrdered(weather: Weather, seed: UInt64) throws {
        var world = ChannelWorld(
            seed: seed, conditions: weather.conditions, adjustA: { $0.offerZeroChecksum = weather.zeroChecksum },
            adjustZ: {
                $0.offerZeroChecksum = weather.zeroChecksum; $0.offerInterleaving = seed != 2
            })
        let channel = try world.a.open(.init(label: "frames"), at: world.now)
        world.connect()
        world.run(until: .seconds(60), "open") { $0.openedAtA.contains(channel) && $0.acceptedByZ.count == 1 }
        let back = try #require(world.acceptedByZ.first)
        #expect(world.z.parameters(of: back)?.label == "frames")

        var generator = SplitMix64(seed: seed &+ 100)
        let lengths = (0..<60).map { _ in [0, 1, 100, 1160, 5000, 70_000, 200_000].randomElement(using: &generator) ?? 1 }
        for (number, length) in lengths.enumerated() {
            try world.a.send(patternedMessage(number, length: length), isText: number % 3 == 0, on: channel, at: world.now)
            try world.z.send(patternedMessage(number + 1000, length: length / 7), isText: false, on: back, at: world.now)
        }
        world.run(until: .seconds(1200), "delivery") { $0.deliveredToZ.count == 60 && $0.deliveredToA.count == 60 }
        for (number, length) in lengths.enumerated() where number < min(world.deliveredToZ.count, world.deliveredToA.count) {
            #expect(world.deliveredToZ[number] == .init(channel: back, bytes: patternedMessage(number, length: length), isText: number % 3 == 0))
            #expect(world.deliveredToA[number].bytes == patternedMessage(number + 1000, length: length / 7))
        }
        world.pass(.seconds(5))
        #expect(world.deliveredToZ.count == 60 && world.deliveredToA.count == 60, "something came twice")
        #expect(world.a.statistics.bytesInFlight == 0 && world.a.unacknowledgedAmount(of: channel) == 0)
        #expect(world.endsOfA.isEmpty && world.endsOfZ.isEmpty)
        // nothing was too large but probes
        if weather.name.hasPrefix("a path of") { #expect(world.aToZ.counters.tooLarge <= world.a.statistics.pathProbes) }
    }

    @Test("RFC 8831 §6.1: unordered and reliable, each message arrives once", arguments: [UInt64(1), 2, 3, 4])
    func unordered(seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.loss = 0.1
        conditions.jitter = .milliseconds(5)
        var world = ChannelWorld(seed: seed, conditions: conditions, adjustZ: { $0.offerInterleaving = seed.isMultiple(of: 2) })
        let channel = try world.a.open(.init(label: "loose", ordered: false), at: world.now)
        world.connect()
        for number in 0..<200 { try world.a.send(patternedMessage(number, length: 10 + number * 37), isText: false, on: channel, at: world.now) }
        world.run(until: .seconds(300), "delivery") { $0.deliveredToZ.count == 200 }
        let expected = Set((0..<200).map { patternedMessage($0, length: 10 + $0 * 37) })
        #expect(Set(world.deliveredToZ.map(\.bytes)) == expected)
    }

    @Test("RFC 3758: given up after so many retransmissions; the rest goes on in order", arguments: [UInt64(1), 2, 3, 4, 5, 6], [true, false])
    func partialReliability(seed: UInt64, interleaving: Bool) throws {
        var conditions = LinkConditions()
        conditions.loss = 0.2
        var world = ChannelWorld(seed: seed, conditions: conditions, adjustZ: { $0.offerInterleaving = interleaving })
        let leaky = try world.a.open(.init(label: "leaky", maxRetransmits: 0), at: world.now)
        let tight = try world.a.open(.init(label: "tight"), at: world.now)
        world.connect()
        world.run(until: .seconds(60), "open") { $0.acceptedByZ.count == 2 }
        for number in 0..<100 {
            try world.a.send(patternedMessage(number, length: 900 + number), isText: false, on: leaky, at: world.now)
            try world.a.send(patternedMessage(number, length: 100), isText: false, on: tight, at: world.now)
            world.pass(.milliseconds(20))
        }
        try world.a.send(patternedMessage(100, length: 100), isText: false, on: tight, at: world.now)
        world.run(until: .seconds(60), "the reliable channel is complete") { world in
            world.deliveredToZ.count { world.z.parameters(of: $0.channel)?.label == "tight" } == 101
        }
        world.pass(.seconds(10))
        let numbers = world.deliveredToZ.filter { world.z.parameters(of: $0.channel)?.label == "leaky" }.map { $0.bytes.readableBytes - 900 }
        #expect(numbers == numbers.sorted() && Set(numbers).count == numbers.count)
        #expect((20..<100).contains(numbers.count), "\(numbers.count) of 100 at 20 % loss")
        // where the SACK was lost, a message counts on both sides
        #expect(world.a.statistics.messagesAbandoned + numbers.count >= 100)
    }

    @Test("a reader that pauses shuts the window; nothing is lost when it reads on", arguments: [UInt64(1), 2])
    func pausedReader(seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.loss = seed == 1 ? 0 : 0.05
        var world = ChannelWorld(seed: seed, conditions: conditions, adjustZ: { $0.receiveWindow = 256 << 10 })
        let channel = try world.a.open(.init(label: "frames"), at: world.now)
        world.connect()
        world.run(until: .seconds(60), "open") { $0.acceptedByZ.count == 1 }
        world.zConsumes = false
        for number in 0..<64 { try world.a.send(patternedMessage(number, length: 32 << 10), isText: false, on: channel, at: world.now) }
        world.pass(.seconds(60))
        let held = world.deliveredToZ.count
        #expect(held < 20, "\(held) messages of 32 KiB against a window of 256 KiB")
        #expect(world.a.bufferedAmount(of: channel) > 1 << 20)
        #expect(world.endsOfA.isEmpty, "a closed window is no dead peer")
        world.zConsumes = true
        world.consumeAllAtZ()
        world.run(until: .seconds(120), "the rest") { $0.deliveredToZ.count == 64 }
        #expect(world.deliveredToZ.map(\.bytes) == (0..<64).map { patternedMessage($0, length: 32 << 10) })
    }

    @Test("RFC 8831 §6.7: what was sent before close arrives; ids are used again", arguments: [UInt64(1), 2, 3, 4, 5])
    func closeAfterSending(seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.loss = 0.1
        conditions.jitter = .milliseconds(3)
        var world = ChannelWorld(seed: seed, conditions: conditions)
        world.connect()
        var total = 0
        for round in 0..<5 {
            let first = try world.a.open(.init(label: "one \(round)"), at: world.now)
            let second = try world.a.open(.init(label: "two \(round)"), at: world.now)
            for number in 0..<20 {
                try world.a.send(patternedMessage(number, length: 3000), isText: false, on: first, at: world.now)
                try world.a.send(patternedMessage(number, length: 30), isText: true, on: second, at: world.now)
            }
            world.a.close(first, at: world.now)
            world.a.close(second, at: world.now)
            total += 40
            world.run(until: .seconds(120), "round \(round) closed at both ends") { world in
                world.closedAtA.contains(first) && world.closedAtA.contains(second) && world.closedAtZ.count == 2 * (round + 1)
            }
            #expect(world.deliveredToZ.count == total, "round \(round)")
        }
        #expect(Set(world.acceptedByZ).count == 10)
        #expect(world.endsOfA.isEmpty && world.endsOfZ.isEmpty)
    }

    @Test("a burst of 64 channels from both sides", arguments: [UInt64(1), 2, 3])
    func manyChannels(seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.loss = 0.05
        var world = ChannelWorld(seed: seed, conditions: conditions)
        for number in 0..<64 {
            let here = try world.a.open(.init(label: "a\(number)"), at: world.now)
            let there = try world.z.open(.init(label: "z\(number)"), at: world.now)
            try world.a.send(patternedMessage(number, length: 5000), isText: false, on: here, at: world.now)
            try world.z.send(patternedMessage(number, length: 5000), isText: false, on: there, at: world.now)
        }
        world.connect()
        world.run(until: .seconds(120), "all there") {
            $0.deliveredToA.count == 64 && $0.deliveredToZ.count == 64 && $0.acceptedByA.count == 64 && $0.acceptedByZ.count == 64
        }
        #expect(Set(world.acceptedByZ.compactMap { world.z.parameters(of: $0)?.label }).count == 64)
        #expect(Set(world.acceptedByZ.compactMap { world.z.streamID(of: $0) }).allSatisfy { $0.isMultiple(of: 2) })
        #expect(Set(world.acceptedByA.compactMap { world.a.streamID(of: $0) }).allSatisfy { !$0.isMultiple(of: 2) })
    }

    @Test("a network that is away for three seconds", arguments: [UInt64(1), 2, 3])
    func outage(seed: UInt64) throws {
        var world = ChannelWorld(seed: seed)
        let channel = try world.a.open(.init(label: "frames"), at: world.now)
        world.connect()
        world.run(until: .seconds(10), "open") { $0.acceptedByZ.count == 1 }
        for number in 0..<50 { try world.a.send(patternedMessage(number, length: 20_000), isText: false, on: channel, at: world.now) }
        world.pass(.milliseconds(35))
        world.aToZ.conditions.isDown = true
        world.zToA.conditions.isDown = true
        world.pass(.seconds(3))
        world.aToZ.conditions.isDown = false
        world.zToA.conditions.isDown = false
        world.run(until: .seconds(15), "the rest") { $0.deliveredToZ.count == 50 }
        #expect(world.deliveredToZ.map(\.bytes) == (0..<50).map { patternedMessage($0, length: 20_000) })
    }

    @Test("a lost tail does not wait for a whole initial RTO", arguments: [UInt64(1), 2, 3, 4])
    func lostTail(seed: UInt64) throws {
        var world = ChannelWorld(seed: seed)
        let channel = try world.a.open(.init(label: "frames"), at: world.now)
        world.connect()
        world.run(until: .seconds(10), "open") { $0.acceptedByZ.count == 1 }
        for number in 0..<20 {
            try world.a.send(patternedMessage(number, length: 1000), isText: false, on: channel, at: world.now)
            world.pass(.milliseconds(100))
        }
        world.aToZ.conditions.isDown = true
        try world.a.send(patternedMessage(20, length: 1000), isText: false, on: channel, at: world.now)
        world.settle()
        world.aToZ.conditions.isDown = false
        world.run(until: .milliseconds(400), "the lost one") { $0.deliveredToZ.count == 21 }
    }

    @Test("a message beyond the peer's limit throws before a byte goes out")
    func tooLarge() throws {
        var world = ChannelWorld(seed: 1, adjustA: { $0.remoteMaximumMessageSize = 1000 })
        let channel = try world.a.open(.init(label: "small"), at: world.now)
        world.connect()
        world.run(until: .seconds(10), "open") { $0.acceptedByZ.count == 1 }
        #expect(throws: SendError.messageTooLarge(limit: 1000)) {
            try world.a.send(patternedMessage(1, length: 1001), isText: false, on: channel, at: world.now)
        }
        #expect(world.a.bufferedAmount(of: channel) == 0)
        try world.a.send(patternedMessage(1, length: 1000), isText: false, on: channel, at: world.now)
        world.run(until: .seconds(10), "the one that fits") { $0.deliveredToZ.count == 1 }
    }

    @Test("bufferedAmount falls and says so")
    func bufferedAmountLow() throws {
        var conditions = LinkConditions()
        conditions.rate = 20e6
        var world = ChannelWorld(seed: 1, conditions: conditions)
        let channel = try world.a.open(.init(label: "frames"), at: world.now)
        world.connect()
        world.run(until: .seconds(10), "open") { $0.acceptedByZ.count == 1 }
        world.a.setBufferedAmountLowThreshold(100_000, for: channel)
        // the OPEN message left the buffer, too
        let before = world.lowAtA.count
        for number in 0..<10 { try world.a.send(patternedMessage(number, length: 100_000), isText: false, on: channel, at: world.now) }
        #expect(world.a.bufferedAmount(of: channel) == 1_000_000)
        world.run(until: .seconds(30), "low") { $0.lowAtA.count == before + 1 }
        #expect(world.a.bufferedAmount(of: channel) <= 100_000)
        world.run(until: .seconds(30), "all") { $0.deliveredToZ.count == 10 }
    }

    @Test("RFC 9260 §9.2: shutdown delivers what was sent, then both ends know", arguments: [UInt64(1), 2, 3])
    func shutdown(seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.loss = 0.1
        var world = ChannelWorld(seed: seed, conditions: conditions)
        let channel = try world.a.open(.init(label: "frames"), at: world.now)
        world.connect()
        world.run(until: .seconds(10), "open") { $0.acceptedByZ.count == 1 }
        for number in 0..<20 { try world.a.send(patternedMessage(number, length: 10_000), isText: false, on: channel, at: world.now) }
        world.a.shutdown(at: world.now)
        world.run(until: .seconds(60), "both ended") { !$0.endsOfA.isEmpty && !$0.endsOfZ.isEmpty }
        #expect(world.deliveredToZ.count == 20)
        if case .disconnected? = world.endsOfA.first {} else { Issue.record("A ended with \(world.endsOfA)") }
        if case .disconnected? = world.endsOfZ.first {} else { Issue.record("Z ended with \(world.endsOfZ)") }
    }

    @Test("RFC 9260 §8.1: a peer that is gone is noticed")
    func deadPeer() throws {
        var world = ChannelWorld(seed: 1)
        let channel = try world.a.open(.init(label: "frames"), at: world.now)
        world.connect()
        world.run(until: .seconds(10), "open") { $0.acceptedByZ.count == 1 }
        world.aToZ.conditions.isDown = true
        world.zToA.conditions.isDown = true
        try world.a.send(patternedMessage(1, length: 10), isText: false, on: channel, at: world.now)
        world.run(until: .seconds(90), "noticed") { !$0.endsOfA.isEmpty }
        if case .failed(.peerUnreachable)? = world.endsOfA.first {} else { Issue.record("A ended with \(world.endsOfA)") }
    }
}
