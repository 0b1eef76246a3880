import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

@Suite("Data channels")
struct ChannelTests {
    @Test("RFC 8832 §6: ids by DTLS role, even for the client, odd for the server; handles before the role is known")
    func ids() throws {
        let pair = Pair(seed: 1, connect: false)
        let early = DataChannelEngine(configuration: .init(), generator: SplitMix64(seed: 1), cookieAuthenticator: { _ in [] })
        var engine = consume early
        let first = try engine.open(ChannelParameters(label: "a"), at: .zero)
        try engine.send(ByteBuffer(string: "x"), isText: true, on: first, at: .zero)
        #expect(engine.streamID(of: first) == nil)
        #expect(engine.bufferedAmount(of: first) == 1)
        engine.setRole(isDTLSClient: false)
        #expect(engine.streamID(of: first) == 1)
        #expect(engine.state(of: first) == .connecting)
        for expected: UInt16 in [0, 2, 4] {
            let handle = try pair.a.engine.open(ChannelParameters(label: "c"), at: .zero)
            #expect(pair.a.engine.streamID(of: handle) == expected)
        }
        #expect(throws: DataChannelError.noStreamAvailable) { try pair.a.engine.open(ChannelParameters(label: "n", negotiatedID: 2), at: .zero) }
        #expect(throws: DataChannelError.invalidStream) { try pair.a.engine.open(ChannelParameters(label: "n", negotiatedID: 65_535), at: .zero) }
        #expect(throws: DataChannelError.labelTooLong) {
            try pair.a.engine.open(ChannelParameters(label: String(repeating: "x", count: 65_536)), at: .zero)
        }
        #expect(throws: DataChannelError.conflictingReliability) {
            try pair.a.engine.open(ChannelParameters(label: "", maxPacketLifeTime: 1, maxRetransmits: 1), at: .zero)
        }
    }

    @Test("RFC 8831 §6.5: a negotiated channel needs no OPEN")
    func negotiated() throws {
        let pair = Pair(seed: 2)
        let a = try pair.a.engine.open(ChannelParameters(label: "n", negotiatedID: 17), at: pair.now)
        let z = try pair.z.engine.open(ChannelParameters(label: "n", negotiatedID: 17), at: pair.now)
        try pair.a.engine.send(ByteBuffer(string: "to z"), isText: true, on: a, at: pair.now)
        try pair.z.engine.send(ByteBuffer(), isText: false, on: z, at: pair.now)
        pair.run { !$0.a.messages.isEmpty && !$0.z.messages.isEmpty }
        #expect(pair.z.messages[z]?.first?.0 == ByteBuffer(string: "to z"))
        #expect(pair.a.messages[a]?.first?.0 == ByteBuffer())
        #expect(pair.a.incoming.isEmpty)
        #expect(pair.z.incoming.isEmpty)
    }

    @Test("RFC 8832 §6: an OPEN of our own parity, on a used stream or malformed is refused by closing that stream")
    func illegalOpens() throws {
        let pair = Pair(seed: 3)
        let good = try pair.a.engine.open(ChannelParameters(label: "good"), at: pair.now)
        pair.connect()
        pair.run(for: .seconds(1))
        #expect(pair.z.incoming.count == 1)
        var open = ByteBuffer()
        DCEPMessage.open(ChannelParameters(label: "evil")).write(into: &open)
        // Z's own parity, then a malformed one on a stream of A's parity
        for (stream, message) in [(UInt16(1), open), (8, ByteBuffer(bytes: [3, 0, 0]))] {
            try pair.a.engine.association.send(message, stream: stream, ppid: 50, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: pair.now)
        }
        pair.run(for: .seconds(2))
        #expect(pair.z.incoming.count == 1)
        #expect(pair.z.engine.statistics.drops.illegalOpen == 1)
        #expect(pair.z.engine.statistics.drops.malformedMessage == 1)
        #expect(pair.z.failure == nil)
        // the same stream opened twice: the channel is closed
        try pair.a.engine.association.send(open, stream: 0, ppid: 50, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: pair.now)
        pair.run(for: .seconds(5))
        #expect(pair.a.closed == [good])
        #expect(pair.z.closed == pair.z.incoming)
    }

    @Test("RFC 8831 §6.7: closing delivers what was sent, then both sides know, and the id may be used again", arguments: [0.0, 0.1], Offer.allCases)
    func closing(loss: Double, offer: Offer) throws {
        for seed: UInt64 in 1...3 {
            var conditions = LinkConditions()
            conditions.loss = loss
            let configuration = offer.configuration(needsChecksum: false)
            let pair = Pair(seed: seed, conditions: conditions, a: configuration, z: configuration)
            var handles: [ChannelHandle] = []
            for round in 0..<5 {
                let channel = try pair.a.engine.open(ChannelParameters(label: "\(round)"), at: pair.now)
                handles.append(channel)
                #expect(pair.a.engine.streamID(of: channel) == UInt16(round * 2 % 65_534))
                for index in 0..<3 { try pair.a.engine.send(pattern(10_000, index), isText: false, on: channel, at: pair.now) }
                pair.a.engine.close(channel, at: pair.now)
                #expect(throws: SendError.closed) { try pair.a.engine.send(ByteBuffer(string: "late"), isText: true, on: channel, at: pair.now) }
                pair.run(for: .seconds(60)) { $0.a.closed.count == round + 1 && $0.z.closed.count == round + 1 }
                #expect(pair.a.closed == handles, "seed \(seed)")
                #expect(pair.z.closed == pair.z.incoming, "seed \(seed)")
                let got = pair.z.incoming.last.flatMap { pair.z.messages[$0] } ?? []
                #expect(got.map(\.0) == (0..<3).map { pattern(10_000, $0) }, "seed \(seed) round \(round)")
            }
        }
    }

    @Test("stream ids are used again after close, with message numbers from 0 (RFC 6525 §5.2.2)", arguments: Offer.allCases)
    func reuse(offer: Offer) throws {
        let configuration = offer.configuration(needsChecksum: false)
        let pair = Pair(seed: 4, a: configuration, z: configuration)
        for round in 0..<4 {
            let a = try pair.a.engine.open(ChannelParameters(label: "n", negotiatedID: 5), at: pair.now)
            let z = try pair.z.engine.open(ChannelParameters(label: "n", negotiatedID: 5), at: pair.now)
            pair.run { $0.a.opened.contains(a) && $0.z.opened.contains(z) }
            for index in 0..<5 {
                try pair.a.engine.send(pattern(2000, index), isText: false, on: a, at: pair.now)
                try pair.z.engine.send(pattern(2000, index), isText: false, on: z, at: pair.now)
            }
            // both sides close at once in odd rounds
            pair.a.engine.close(a, at: pair.now)
            if round % 2 == 1 { pair.z.engine.close(z, at: pair.now) }
            pair.run(for: .seconds(20)) { $0.a.closed.contains(a) && $0.z.closed.contains(z) }
            #expect(pair.z.messages[z]?.map(\.0) == (0..<5).map { pattern(2000, $0) })
            #expect(pair.a.messages[a]?.map(\.0) == (0..<5).map { pattern(2000, $0) })
            #expect(pair.a.closed.last == a)
        }
    }

    @Test("bufferedAmount falls as packets go, its event fires at the threshold, and acknowledgement is told once")
    func buffered() throws {
        let pair = Pair(seed: 5)
        let channel = try pair.a.engine.open(ChannelParameters(label: "b"), at: pair.now)
        pair.connect()
        pair.run(for: .seconds(1))
        pair.a.engine.setBufferedAmountLowThreshold(50_000, for: channel)
        pair.a.low = []
        try pair.a.engine.send(pattern(200_000, 1), isText: false, on: channel, at: pair.now)
        #expect(pair.a.engine.bufferedAmount(of: channel) == 200_000)
        pair.a.engine.notifyWhenAcknowledged(channel, at: pair.now)
        pair.run { !$0.a.low.isEmpty }
        #expect(pair.a.engine.bufferedAmount(of: channel) <= 50_000)
        #expect(pair.a.acknowledged.isEmpty)
        pair.run { !$0.a.acknowledged.isEmpty }
        #expect(pair.a.engine.unacknowledgedAmount(of: channel) == 0)
        pair.run(for: .seconds(2))
        #expect(pair.a.low == [channel])
        #expect(pair.a.acknowledged == [channel])
        pair.a.engine.notifyWhenAcknowledged(channel, at: pair.now)
        pair.run(for: .milliseconds(1))
        #expect(pair.a.acknowledged.count == 2)
    }

    @Test("RFC 3758: partial reliability gives up under loss, keeps order, and later messages arrive", arguments: Offer.allCases, 0..<4)
    func partial(offer: Offer, kind: Int) throws {
        let ordered = kind % 2 == 0
        let byTime = kind / 2 == 0
        for seed: UInt64 in 1...3 {
            var conditions = LinkConditions()
            conditions.loss = 0.2
            let configuration = offer.configuration(needsChecksum: false)
            let pair = Pair(seed: seed, conditions: conditions, a: configuration, z: configuration)
            let parameters = ChannelParameters(label: "p", ordered: ordered, maxPacketLifeTime: byTime ? 60 : nil, maxRetransmits: byTime ? nil : 0)
            let channel = try pair.a.engine.open(parameters, at: pair.now)
            pair.run { $0.z.incoming.count == 1 }
            let sizes = (0..<60).map { 500 + $0 * 97 }
            for (index, size) in sizes.enumerated() {
                try pair.a.engine.send(pattern(size, index), isText: false, on: channel, at: pair.now)
                pair.run(for: .milliseconds(15))
            }
            pair.run(for: .seconds(20))
            #expect(pair.a.failure == nil)
            #expect(pair.a.engine.statistics.messagesAbandoned > 0, "seed \(seed)")
            #expect(pair.a.engine.unacknowledgedAmount(of: channel) == 0, "seed \(seed)")
            let got = pair.z.messages.first?.value.map(\.0) ?? []
            let indexes = got.compactMap { bytes in sizes.firstIndex(of: bytes.readableBytes) }
            #expect(got.count == indexes.count)
            for (bytes, index) in zip(got, indexes) { #expect(bytes == pattern(sizes[index], index), "seed \(seed)") }
            #expect(Set(indexes).count == indexes.count, "seed \(seed)")
            if ordered { #expect(indexes == indexes.sorted(), "seed \(seed)") }
            #expect(indexes.count > 20, "seed \(seed)")
            #expect(pair.z.engine.statistics.bytesHeld == 0, "seed \(seed)")
            // a reliable channel beside it is not hurt
            let reliable = try pair.a.engine.open(ChannelParameters(label: "r"), at: pair.now)
            try pair.a.engine.send(pattern(50_000, 9), isText: false, on: reliable, at: pair.now)
            pair.run(for: .seconds(30)) { $0.z.incoming.count == 2 && $0.z.messages[$0.z.incoming[1]] != nil }
            #expect(pair.z.messages[pair.z.incoming[1]]?.first?.0 == pattern(50_000, 9), "seed \(seed)")
        }
    }

    @Test("RFC 8260: a small message does not wait for a large one in flight")
    func interleaving() throws {
        var conditions = LinkConditions()
        conditions.rate = 20e6
        let pair = Pair(seed: 6, conditions: conditions)
        let big = try pair.a.engine.open(ChannelParameters(label: "big"), at: pair.now)
        let small = try pair.a.engine.open(ChannelParameters(label: "small"), at: pair.now)
        pair.connect()
        try pair.a.engine.send(pattern(8 << 20, 1), isText: false, on: big, at: pair.now)
        pair.run(for: .milliseconds(300))
        #expect(pair.a.engine.bufferedAmount(of: big) > 1 << 20)
        try pair.a.engine.send(ByteBuffer(string: "now"), isText: true, on: small, at: pair.now)
        pair.run { !$0.z.messages.isEmpty }
        #expect(pair.z.messages.values.first?.first?.0 == ByteBuffer(string: "now"))
        #expect(pair.a.engine.bufferedAmount(of: big) > 0)
    }

    @Test("RFC 8260 §3.6: control messages stay below twice the round trip and 20 ms while 16 MiB are in flight", arguments: [UInt64](1...3), [50, 10])
    func controlBesideBulk(seed: UInt64, roundTrip: Int) throws {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(roundTrip) / 2
        conditions.rate = 200e6
        // one bandwidth-delay product at 50 ms
        conditions.queueLimit = 1_250_000
        let pair = Pair(seed: seed, conditions: conditions)
        // weights as FrameLink's: bulk normal, control high (RFC 8831 §6.4)
        let bulk = try pair.a.engine.open(ChannelParameters(label: "bulk"), at: pair.now)
        let control = try pair.a.engine.open(ChannelParameters(label: "control", priority: 512), at: pair.now)
        pair.connect()
        try pair.a.engine.send(pattern(16 << 20, 1), isText: false, on: bulk, at: pair.now)
        var times: [Duration] = []
        while pair.a.engine.bufferedAmount(of: bulk) > 0, times.count < 200 {
            pair.run(for: .milliseconds(7))
            let sentAt = pair.now
            try pair.a.engine.send(pattern(1000, times.count), isText: false, on: control, at: sentAt)
            pair.run(for: .seconds(5)) { pair in pair.z.messages.values.contains { $0.count > times.count && $0[0].0.readableBytes == 1000 } }
            times.append(pair.now - sentAt)
        }
        #expect(times.count > 5)
        let bound = Duration.milliseconds(2 * roundTrip + 20)
        #expect(times.allSatisfy { $0 <= bound }, "seed \(seed): \(times.map(\.inMilliseconds).sorted().suffix(5)) ms")
    }

    @Test("64 channels opened in one burst over a lossy path all open and carry a message")
    func burst() throws {
        var conditions = LinkConditions()
        conditions.loss = 0.05
        let pair = Pair(seed: 8, conditions: conditions)
        for index in 0..<64 {
            let channel = try pair.a.engine.open(ChannelParameters(label: "\(index)"), at: pair.now)
            try pair.a.engine.send(ByteBuffer(string: "\(index)"), isText: true, on: channel, at: pair.now)
        }
        pair.run(for: .seconds(30)) { $0.z.messages.count == 64 }
        #expect(pair.z.messages.count == 64)
        for (handle, list) in pair.z.messages { #expect(list.map { String(buffer: $0.0) } == [pair.z.engine.parameters(of: handle)?.label]) }
    }

    @Test("abort ends both sides and closes every channel")
    func abort() throws {
        let pair = Pair(seed: 10)
        let channel = try pair.a.engine.open(ChannelParameters(label: "x"), at: pair.now)
        pair.run { !$0.z.incoming.isEmpty }
        pair.a.engine.abort(at: pair.now)
        pair.run(for: .seconds(1))
        #expect(pair.a.failure == .aborted)
        #expect(pair.z.failure == .abortedByPeer(cause: ErrorCause.userInitiated))
        #expect(pair.a.closed == [channel])
        #expect(pair.z.closed == pair.z.incoming)
        #expect(pair.a.engine.deadline == nil)
        #expect(throws: DataChannelError.closed) { try pair.a.engine.open(ChannelParameters(label: "y"), at: pair.now) }
    }
}
