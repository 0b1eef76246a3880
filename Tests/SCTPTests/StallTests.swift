import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// True for the first `count` packets that carry such a chunk.
func losing(_ count: Int, _ matches: @escaping ((type: UInt8, body: [UInt8])) -> Bool) -> (ByteBuffer) -> Bool {
    var left = count
    return { packet in
        guard left > 0, chunks(packet).contains(where: matches) else { return false }
        left -= 1
        return true
    }
}

func losing(_ count: Int, _ type: UInt8) -> (ByteBuffer) -> Bool { losing(count) { $0.type == type } }

extension DCEPMessage {
    /// The message in a DATA or I-DATA chunk that carries one.
    init?(chunk: (type: UInt8, body: [UInt8])) {
        let header = chunk.type == ChunkType.interleavedData ? 16 : chunk.type == ChunkType.data ? 12 : .max
        guard chunk.body.count > header, chunk.body[header - 1] == UInt8(PayloadProtocol.establishment) else { return nil }
        let payload = ByteBuffer(bytes: chunk.body[header...])
        guard let message = try? DCEPMessage(parsing: payload.readableBytesSpan) else { return nil }
        self = message
    }
}

/// Each way in which data channels are known to fall silent for ever, or for much too long. `Pair` looks after every step whether a timer runs for whatever
/// is left to do.
@Suite("Nothing stands still in silence")
struct StallTests {
    /// The time-outs in a row that so many losses cost, and a round trip or two.
    func patience(_ losses: Int, from first: Duration) -> Duration {
        var result: Duration = .milliseconds(200)
        for loss in 0..<losses { result += min(Configuration().maximumRetransmissionTimeout, first * (1 << loss)) }
        return result
    }

    @Test("RFC 9260 §5.1: INIT, INIT ACK, COOKIE ECHO or COOKIE ACK are lost, the last with data behind it", arguments: 0..<4, 1..<5)
    func handshake(step: Int, times: Int) throws {
        let pair = Pair(seed: UInt64(step * 10 + times), connect: false)
        let parameters = ChannelParameters(label: "n", negotiatedID: 4)
        let a = try pair.a.engine.open(parameters, at: pair.now)
        let z = try pair.z.engine.open(parameters, at: pair.now)
        try pair.a.engine.send(pattern(3000, 1), isText: false, on: a, at: pair.now)
        try pair.z.engine.send(pattern(3000, 2), isText: false, on: z, at: pair.now)
        pair.a.engine.connect(at: pair.now)
        var hadDataBehind = false
        switch step {
        case 0: pair.losesToZ = losing(times, ChunkType.initiation)
        case 1: pair.losesToA = losing(times, ChunkType.initiationAck)
        case 2: pair.losesToZ = losing(times, ChunkType.cookieEcho)
        default:
            let loses = losing(times, ChunkType.cookieAck)
            pair.losesToA = { packet in
                let isLost = loses(packet)
                if isLost, chunks(packet).contains(where: { $0.type == ChunkType.interleavedData }) { hadDataBehind = true }
                return isLost
            }
        }
        let bound = patience(times, from: Configuration().initialRetransmissionTimeout)
        pair.run(for: bound) { $0.a.messageCount == 1 && $0.z.messageCount == 1 }
        #expect(pair.z.messages[z]?.first?.0 == pattern(3000, 1))
        #expect(pair.a.messages[a]?.first?.0 == pattern(3000, 2))
        if step == 3 { #expect(hadDataBehind) }
    }

    @Test("RFC 9260 §5.1: data that another stack puts behind its COOKIE ECHO is taken, also from the second one, and once", arguments: [false, true])
    func dataBehindCookieEcho(firstIsLost: Bool) throws {
        var configuration = Configuration()
        configuration.offerInterleaving = false
        let a = Solo(seed: 1, configuration)
        let z = Solo(seed: 2, configuration)
        a.association.connect(at: a.now)
        var echo = try #require(a.give(z.give(a.poll())).first)
        #expect(chunks(echo).first?.type == ChunkType.cookieEcho)
        let data = DataChunk(tsn: a.association.localInitialTSN, stream: 0, message: 0, ppid: 51, fragment: 0, flags: DataChunk.begin | DataChunk.end)
        ByteBuffer(string: "early!!!").withUnsafeReadableBytes { data.write(payload: $0, interleaved: false, into: &echo) }
        echo.setInteger(UInt32(0), at: 8)
        echo.setInteger(CRC32C.checksum(packet: echo.readableBytesSpan), at: 8, endianness: .little)
        var answers: [ByteBuffer] = []
        for _ in 0..<(firstIsLost ? 1 : 3) { answers += z.give(echo) }
        #expect(z.association.state == .established)
        let messages = z.events.compactMap { if case .message(let message) = $0 { String(buffer: message.payload) } else { nil } }
        #expect(messages == ["early!!!"])
        #expect(answers.first.map { chunks($0).first?.type } == ChunkType.cookieAck)
    }

    @Test("RFC 8832 §6: OPEN or its ACK is lost: the channel is used meanwhile, and becomes unordered afterwards", arguments: [false, true], 1..<5)
    func channelOpening(isAck: Bool, times: Int) throws {
        let pair = Pair(seed: UInt64(times))
        pair.connect()
        pair.run(for: .seconds(1))
        let lost = losing(times) { chunk in
            switch DCEPMessage(chunk: chunk) {
            case .open: !isAck
            case .acknowledgement: isAck
            case nil: false
            }
        }
        if isAck { pair.losesToA = lost } else { pair.losesToZ = lost }
        let channel = try pair.a.engine.open(ChannelParameters(label: "loose", ordered: false), at: pair.now)
        for number in 0..<5 { try pair.a.engine.send(pattern(100, number), isText: false, on: channel, at: pair.now) }
        pair.run(for: patience(times, from: .milliseconds(110))) { $0.z.messageCount == 5 && $0.a.isIdle && $0.z.isIdle }
        // ordered as long as the ACK has not come
        #expect(pair.z.messages.first?.value.map(\.0) == (0..<5).map { pattern(100, $0) })
        #expect(pair.a.isIdle && pair.z.isIdle)
        #expect(pair.a.engine.channels.first??.awaitsAck == false)
    }

    @Test("RFC 6525 §5.1.1: a stream reset or its answer is lost", arguments: [true, false], 1..<6)
    func streamReset(toZ: Bool, times: Int) throws {
        let pair = Pair(seed: UInt64(times))
        let channel = try pair.a.engine.open(ChannelParameters(label: "x"), at: pair.now)
        pair.run { $0.z.incoming.count == 1 }
        pair.run(for: .seconds(1))
        try pair.a.engine.send(pattern(5000, 1), isText: false, on: channel, at: pair.now)
        pair.a.engine.close(channel, at: pair.now)
        if toZ {
            pair.losesToZ = losing(times, ChunkType.reconfiguration)
        } else {
            pair.losesToA = losing(times, ChunkType.reconfiguration)
        }
        pair.run(for: patience(times, from: .milliseconds(110)) * 2) { !$0.a.closed.isEmpty && !$0.z.closed.isEmpty }
        #expect(pair.z.messageCount == 1)
        #expect(pair.a.closed == [channel])
        #expect(pair.z.closed == pair.z.incoming)
    }

    @Test("RFC 9260 §9.2: SHUTDOWN, SHUTDOWN ACK or SHUTDOWN COMPLETE is lost", arguments: 0..<3, 1..<6)
    func shutdown(step: Int, times: Int) throws {
        let pair = Pair(seed: UInt64(step * 10 + times))
        let channel = try pair.a.engine.open(ChannelParameters(label: "x"), at: pair.now)
        pair.run { $0.z.incoming.count == 1 }
        pair.run(for: .seconds(1))
        try pair.a.engine.send(pattern(50_000, 1), isText: false, on: channel, at: pair.now)
        pair.a.engine.shutdown(at: pair.now)
        switch step {
        case 0: pair.losesToZ = losing(times, ChunkType.shutdown)
        case 1: pair.losesToA = losing(times, ChunkType.shutdownAck)
        default: pair.losesToZ = losing(times, ChunkType.shutdownComplete)
        }
        pair.run(for: patience(times, from: .milliseconds(150))) { $0.a.isOver && $0.z.isOver }
        #expect(pair.z.messageCount == 1)
        #expect(pair.a.isDisconnected)
        #expect(pair.z.isDisconnected)
        #expect(pair.a.engine.deadline == nil && pair.z.engine.deadline == nil)
    }

    @Test("RFC 9260 §8.4: SHUTDOWN COMPLETE was lost, and ABORT answers something late: that is an end, not a failure")
    func abortAfterShutdown() throws {
        let pair = Pair(seed: 1)
        pair.connect()
        pair.losesToZ = losing(.max, ChunkType.shutdownComplete)
        pair.a.engine.shutdown(at: pair.now)
        pair.run(for: .milliseconds(90)) { $0.a.isOver }
        #expect(pair.a.isDisconnected)
        #expect(pair.z.engine.association.state == .shutdownAckSent)
        // the T bit: with the tag of Z's own packets
        let abort = Forge(tag: pair.z.engine.association.peerTag).packet { $0.writeChunk(ChunkType.abort, flags: 1) }
        pair.z.engine.handle(abort, at: pair.now)
        pair.run(for: .milliseconds(1))
        #expect(pair.z.isDisconnected)
        #expect(pair.z.failure == nil)
    }

    @Test("RFC 9260 §6.1: the SACK that opens a closed window is lost", arguments: 1..<5, [Duration.milliseconds(300), .seconds(60)])
    func windowOpening(times: Int, after pause: Duration) throws {
        var configuration = Configuration()
        configuration.receiveWindow = 100_000
        let pair = Pair(seed: UInt64(times), a: configuration, z: configuration)
        let channel = try pair.a.engine.open(ChannelParameters(label: "slow"), at: pair.now)
        pair.connect()
        pair.run(for: .seconds(1))
        pair.z.consumes = false
        for number in 0..<30 { try pair.a.engine.send(pattern(10_000, number), isText: false, on: channel, at: pair.now) }
        pair.run(for: pause)
        #expect(pair.z.messageCount < 12)
        #expect(pair.z.engine.association.receiveWindow < 2000)
        pair.z.consumes = true
        pair.losesToA = losing(times) { chunk in
            // a_rwnd follows the cumulative TSN
            chunk.type == ChunkType.sack && chunk.body.count >= 8 && chunk.body[4..<8].contains { $0 != 0 }
        }
        pair.z.consumeAll(at: pair.now)
        // probes come at the longest time-out after a minute of closed window
        let longest = Configuration().maximumRetransmissionTimeout
        pair.run(for: longest * (times + 1)) { $0.z.messageCount == 30 }
        #expect(pair.z.messages.first?.value.map(\.0) == (0..<30).map { pattern(10_000, $0) })
        #expect(pair.a.failure == nil)
    }

    @Test("a path of 1280 bytes from the first packet on: nothing waits for a time-out", arguments: [0.0, 0.02])
    func smallPath(loss: Double) throws {
        var conditions = LinkConditions()
        // less IPv6, UDP and DTLS
        conditions.maximumDatagram = 1280 - 48 - 37
        conditions.loss = loss
        let pair = Pair(seed: 5, conditions: conditions)
        let a = try pair.a.engine.open(ChannelParameters(label: "a"), at: pair.now)
        let z = try pair.z.engine.open(ChannelParameters(label: "z"), at: pair.now)
        for number in 0..<10 {
            try pair.a.engine.send(pattern(60_000, number), isText: false, on: a, at: pair.now)
            try pair.z.engine.send(pattern(60_000, number), isText: false, on: z, at: pair.now)
        }
        pair.run(for: .seconds(20)) { $0.a.messageCount == 10 && $0.z.messageCount == 10 }
        #expect(pair.z.messages.first?.value.map(\.0) == (0..<10).map { pattern(60_000, $0) })
        #expect(pair.a.messages.first?.value.map(\.0) == (0..<10).map { pattern(60_000, $0) })
        #expect(pair.longestStall < .milliseconds(loss == 0 ? 45 : 500))
        if loss == 0 { #expect(pair.a.engine.statistics.timeouts + pair.z.engine.statistics.timeouts == 0) }
    }

    @Test("64 channels opened at once by both ends, each with a message, over a lossy path", arguments: [0.0, 0.05, 0.2], 0..<4)
    func openBurst(loss: Double, seed: Int) throws {
        var conditions = LinkConditions()
        conditions.loss = loss
        let pair = Pair(seed: UInt64(seed), conditions: conditions)
        for number in 0..<64 {
            for end in [pair.a, pair.z] {
                let channel = try end.engine.open(ChannelParameters(label: "\(number)", ordered: number % 3 != 0), at: pair.now)
                try end.engine.send(pattern(1000 + 10 * number, number), isText: false, on: channel, at: pair.now)
            }
        }
        pair.run(for: .seconds(loss == 0 ? 1 : 30)) { $0.a.messageCount == 64 && $0.z.messageCount == 64 }
        for end in [pair.a, pair.z] {
            #expect(end.incoming.count == 64)
            for handle in end.incoming {
                let number = end.engine.parameters(of: handle).flatMap { Int($0.label) } ?? -1
                #expect(end.messages[handle]?.map(\.0) == [pattern(1000 + 10 * number, number)])
            }
            #expect(Set(end.incoming.compactMap { end.engine.streamID(of: $0) }).count == 64)
        }
    }

    @Test("RFC 8985 §7: the last packets are lost, several times", arguments: 1..<5, 1..<4)
    func lastPackets(count: Int, times: Int) throws {
        let pair = Pair(seed: UInt64(count))
        let channel = try pair.a.engine.open(ChannelParameters(label: "tail"), at: pair.now)
        pair.run { $0.z.incoming.count == 1 }
        pair.run(for: .seconds(1))
        try pair.a.engine.send(pattern(1000 * count, 1), isText: false, on: channel, at: pair.now)
        pair.losesToZ = losing(count * times) { $0.type == ChunkType.interleavedData }
        let start = pair.now
        pair.run(for: .seconds(30)) { $0.z.messageCount == 1 }
        #expect(pair.z.messages.first?.value.first?.0 == pattern(1000 * count, 1))
        // a probe after two round trips, then the time-outs
        #expect(pair.now - start <= patience(count * times, from: .milliseconds(100)))
    }

    @Test("RFC 9260 §6.3.3: the last SACK is lost: the sender learns all the same that everything arrived", arguments: 1..<5)
    func lastSack(times: Int) throws {
        let pair = Pair(seed: UInt64(times))
        let channel = try pair.a.engine.open(ChannelParameters(label: "tail"), at: pair.now)
        pair.run { $0.z.incoming.count == 1 }
        pair.run(for: .seconds(1))
        pair.losesToA = losing(times, ChunkType.sack)
        try pair.a.engine.send(pattern(900, 1), isText: false, on: channel, at: pair.now)
        pair.a.engine.notifyWhenAcknowledged(channel, at: pair.now)
        pair.run(for: patience(times, from: .milliseconds(100))) { !$0.a.acknowledged.isEmpty }
        #expect(pair.a.acknowledged == [channel])
        #expect(pair.z.messageCount == 1)
    }

    @Test(
        "RFC 8260 §2.3.1: what arrives of a message behind the word that it was given up is dropped: else the window would shrink for ever",
        arguments: [false, true])
    func lateFragments(isUnordered: Bool) throws {
        var reassembly = Reassembly(interleaved: true, maximumMessageSize: 1 << 20)
        var ready = Queue<ReceivedMessage>()
        func add(_ message: UInt32, _ fragment: UInt32, tsn: UInt64, _ flags: UInt8 = 0) throws {
            let chunk = DataChunk(
                tsn: TSN(tsn), stream: 3, message: message, ppid: 53, fragment: fragment, flags: flags | (isUnordered ? DataChunk.unordered : 0))
            try reassembly.add(chunk, tsn: tsn, payload: pattern(1000, 1).readableBytesSpan, ready: &ready)
        }
        try add(0, 0, tsn: 10, DataChunk.begin)
        // 11 belongs to another stream and is under way, so the peer's FORWARD TSN names 10 only
        reassembly.skip(.init(stream: 3, isUnordered: isUnordered, message: 0), ready: &ready)
        #expect(reassembly.bytesHeld == 0)
        try add(0, 1, tsn: 12)
        try add(0, 2, tsn: 13, DataChunk.end)
        #expect(reassembly.bytesHeld == 0)
        #expect(reassembly.windowUse == 0)
        // the next message is none of them
        try add(1, 0, tsn: 14, DataChunk.begin)
        try add(1, 1, tsn: 15, DataChunk.end)
        #expect(ready.popFirst()?.payload.readableBytes == 2000)
        // nor is the first one after a reset
        reassembly.reset(3)
        try add(0, 0, tsn: 16, DataChunk.begin)
        try add(0, 1, tsn: 17, DataChunk.end)
        #expect(ready.popFirst()?.payload.readableBytes == 2000)
        #expect(reassembly.windowUse == 0)
    }

    @Test("any verbs at any time over a path that comes and goes: a timer runs for all that is left to do", arguments: 0..<40)
    func unarmedTimer(seed: Int) throws {
        var generator = SplitMix64(seed: UInt64(seed) &+ 77)
        func below(_ count: Int) -> Int { Int(generator.next() % UInt64(count)) }
        var configuration = Configuration()
        configuration.receiveWindow = 60_000
        configuration.offerInterleaving = seed % 2 == 0
        let pair = Pair(seed: UInt64(seed), a: configuration, z: configuration)
        var handles: [(end: End, handle: ChannelHandle)] = []
        for _ in 0..<150 {
            let end = below(2) == 0 ? pair.a : pair.z
            switch below(8) {
            case 0:
                let kind = below(4)
                let parameters = ChannelParameters(
                    label: "c", ordered: below(2) == 0, maxPacketLifeTime: kind == 0 ? UInt32(below(300)) : nil,
                    maxRetransmits: kind == 1 ? UInt32(below(3)) : nil)
                handles.append((end, try end.engine.open(parameters, at: pair.now)))
            case 1, 2, 3:
                guard !handles.isEmpty else { continue }
                let (end, handle) = handles[below(handles.count)]
                if end.engine.state(of: handle) == .connecting || end.engine.state(of: handle) == .open {
                    try end.engine.send(pattern(below(20_000), below(100)), isText: false, on: handle, at: pair.now)
                }
            case 4:
                guard !handles.isEmpty else { continue }
                let (end, handle) = handles[below(handles.count)]
                end.engine.close(handle, at: pair.now)
            case 5:
                end.consumes.toggle()
                if end.consumes { end.consumeAll(at: pair.now) }
            case 6: pair.setConditions { $0.loss = [0, 0.05, 0.3, 1][below(4)] }
            default: break
            }
            pair.run(for: .milliseconds(below(400)))
        }
        pair.setConditions { $0.loss = 0 }
        for end in [pair.a, pair.z] {
            end.consumes = true
            end.consumeAll(at: pair.now)
        }
        pair.run(for: .seconds(30)) { $0.a.isIdle && $0.z.isIdle }
        #expect(pair.a.failure == nil && pair.z.failure == nil)
        #expect(pair.a.isIdle && pair.z.isIdle)
        pair.a.engine.shutdown(at: pair.now)
        pair.run(for: .seconds(5)) { $0.a.isOver && $0.z.isOver }
        #expect(pair.a.isDisconnected && pair.z.isDisconnected)
    }
}
