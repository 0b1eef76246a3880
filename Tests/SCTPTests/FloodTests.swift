import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// What a peer within DTLS can do with legal-looking chunks: it costs it more than us, it is bounded, and it is counted by its reason.
@Suite("Floods within an association")
struct FloodTests {
    /// Z's end of an association, and the packets that its peer might send.
    private func hostile(_ change: (inout Configuration) -> Void = { _ in }) -> Solo {
        var configuration = Configuration()
        change(&configuration)
        return AssociationTests().connected(configuration).z
    }

    private func data(
        _ z: Solo, _ offset: UInt64, stream: UInt16 = 0, message: UInt32 = 0, fragment: UInt32 = 0, flags: UInt8 = 3, bytes: Int = 1, ppid: UInt32 = 53,
        into buffer: inout ByteBuffer
    ) {
        let header = DataChunk(
            tsn: TSN(z.association.tracker.cumulative + offset), stream: stream, message: message, ppid: ppid, fragment: fragment, flags: flags)
        let interleaved = z.association.capabilities.interleaving
        [UInt8](repeating: 7, count: bytes).withUnsafeBytes { header.write(payload: $0, interleaved: interleaved, into: &buffer) }
    }

    // MARK: Handshake

    @Test("RFC 9260 §5.1: a thousand INITs leave nothing behind; each is answered, up to what one turn owes")
    func initFlood() throws {
        let z = Solo(seed: 3)
        let peer = Solo(seed: 4)
        peer.association.connect(at: peer.now)
        let initiation = try #require(peer.poll().first)
        let answers = z.give(Array(repeating: initiation, count: 1000))
        #expect(answers.count == 64)
        #expect(z.association.counters.drops.suppressedAnswer == 936)
        #expect(z.association.state == .closed && z.association.localTag == 0)
        #expect(z.association.control.isEmpty && z.association.timers.next == nil)
        // nothing of it costs more than it brought
        #expect(answers.allSatisfy { $0.readableBytes < 4 * initiation.readableBytes })
    }

    @Test("an INIT full of unknown parameters is answered with one packet that every path carries")
    func initParameters() {
        let z = Solo(seed: 3)
        var chunk = InitChunk(initiateTag: 9, receiverWindow: 100_000, outboundStreams: 10, inboundStreams: 10, initialTSN: TSN(rawValue: 1))
        chunk.supportedExtensions = [ChunkType.reconfiguration]
        let packet = Forge(tag: 0).packet {
            var body = ByteBuffer()
            chunk.write(as: ChunkType.initiation, into: &body)
            // unknown, to be reported (11)
            for size in [0, 1, 60, 4000, 100, 100, 100, 100, 100, 8000] { body.writeTagged(0xC123) { $0.writeRepeatingByte(1, count: size) } }
            body.setInteger(UInt16(body.readableBytes), at: 2)
            $0.writeImmutableBuffer(body)
        }
        let answers = z.give(packet)
        #expect(answers.flatMap { chunks($0).map(\.type) } == [ChunkType.initiationAck])
        #expect(answers.allSatisfy { $0.readableBytes <= z.association.configuration.basePacketSize })
    }

    @Test("RFC 9260 §5.1.5: a flood of forged and replayed cookies is counted, answered within bounds, and opens nothing")
    func cookieFlood() throws {
        let (a, z) = AssociationTests().connected()
        let streams = z.association.outboundLimit
        var forged = 0
        for number in 0..<2000 {
            let packet = z.forge.packet { buffer in
                buffer.writeChunk(ChunkType.cookieEcho) { body in
                    for byte in 0..<(number % 200) { body.writeInteger(UInt8(truncatingIfNeeded: byte &* number)) }
                }
            }
            z.give(packet)
            forged += 1
        }
        #expect(z.association.counters.drops.forgedCookie == forged)
        #expect(z.association.state == .established && z.association.outboundLimit == streams)
        #expect(a.association.state == .established)
    }

    @Test("RFC 9260 §3.3.3: INIT ACK without a cookie, or with one that would not fit a packet, is answered with ABORT", arguments: [0, 9000])
    func badCookie(size: Int) throws {
        let a = Solo(seed: 1)
        a.association.connect(at: a.now)
        _ = a.poll()
        var chunk = InitChunk(initiateTag: 9, receiverWindow: 100_000, outboundStreams: 10, inboundStreams: 10, initialTSN: TSN(rawValue: 1))
        if size > 0 { chunk.stateCookie = ByteBuffer(repeating: 1, count: size) }
        let answers = a.give(a.forge.packet { chunk.write(as: ChunkType.initiationAck, into: &$0) })
        #expect(a.failure == .invalidParameters)
        #expect(answers.flatMap { chunks($0).map(\.type) } == [ChunkType.abort])
    }

    @Test("RFC 9260 §8.4: packets for an association that is over get ABORT, SHUTDOWN ACK gets SHUTDOWN COMPLETE, both with the T bit; ABORT gets nothing")
    func outOfTheBlue() {
        let z = hostile()
        let tag = z.association.localTag
        z.association.abort(at: z.now)
        _ = z.poll()
        for (type, answer) in [
            (ChunkType.heartbeat, ChunkType.abort), (ChunkType.cookieAck, ChunkType.abort), (ChunkType.shutdownAck, ChunkType.shutdownComplete),
        ] {
            let answers = z.give(Forge(tag: tag).packet { $0.writeChunk(type) })
            #expect(answers.flatMap { chunks($0).map(\.type) } == [answer])
            // the tag that came, and the T bit that says so
            #expect(answers.first?.getInteger(at: 4, as: UInt32.self) == tag && answers.first?.getInteger(at: 13, as: UInt8.self) == 1)
        }
        for type in [ChunkType.abort, ChunkType.shutdownComplete] { #expect(z.give(Forge(tag: tag).packet { $0.writeChunk(type) }).isEmpty) }
    }

    // MARK: Answers

    @Test("RFC 9260 §8.3: HEARTBEATs are answered byte for byte, never with more, and a burst of them within bounds", arguments: [0, 1, 40, 1100, 1200, 9000])
    func heartbeatFlood(size: Int) {
        let z = hostile()
        let packet = z.forge.packet { $0.writeChunk(ChunkType.heartbeat) { $0.writeRepeatingByte(5, count: size) } }
        let answers = z.give(Array(repeating: packet, count: 500))
        #expect(answers.reduce(0) { $0 + $1.readableBytes } <= 64 * packet.readableBytes + 100)
        #expect(z.association.state == .established)
        let drops = z.association.counters.drops
        // what is larger than any heartbeat of ours is not sent back
        #expect(drops.suppressedAnswer == (size <= 1144 ? 436 : 0) && drops.unexpectedChunk == (size <= 1144 ? 0 : 500))
    }

    @Test("unknown chunks that ask for a report get 64 in a turn")
    func unknownFlood() {
        let z = hostile()
        let packet = z.forge.packet { buffer in for _ in 0..<200 { buffer.writeChunk(0xFE) } }
        let answers = z.give(packet, packet)
        let reports = answers.flatMap { chunks($0) }.filter { $0.type == ChunkType.error }
        #expect(reports.count == 64)
        #expect(z.association.counters.drops.unknownChunk == 400 && z.association.counters.drops.suppressedAnswer == 336)
    }

    @Test("RFC 6525 §5.1.1: requests that do not wait for their answers are dropped; asking again to reset all streams costs nothing")
    func resetFlood() {
        let z = hostile()
        var buffer = ByteBuffer()
        for stream: UInt16 in 0..<1000 { data(z, UInt64(stream) + 1, stream: stream, into: &buffer) }
        z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
        var performed = 0
        for _ in 0..<20 {
            let first = z.association.reset.expectedRequest
            let last = TSN(z.association.tracker.cumulative)
            let packet = z.forge.packet { buffer in
                for offset: UInt32 in 0..<500 {
                    ReconfigurationChunk([.outgoingReset(request: first &+ offset, response: 0, lastTSN: last, streams: [])]).write(into: &buffer)
                }
            }
            z.give(packet)
            performed += Int(z.association.reset.expectedRequest &- first)
        }
        #expect(performed == 40)
        #expect(z.association.counters.drops.floodedRequest == 20)
        #expect(z.association.counters.drops.staleRequest == 20 * 497)
        #expect(z.association.state == .established)
    }

    // MARK: Data

    @Test("RFC 9260 §6.5: DATA on a stream that was not agreed on is acknowledged, reported and not delivered")
    func invalidStream() {
        let z = hostile { $0.inboundStreams = 10 }
        var buffer = ByteBuffer()
        for stream: UInt16 in 9...11 { data(z, UInt64(stream) - 8, stream: stream, flags: 3 | DataChunk.immediate, into: &buffer) }
        let answers = z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) }).flatMap { chunks($0) }
        let reports = answers.filter { $0.type == ChunkType.error }.compactMap { try? ErrorCause.parse($0.body.span.bytes).first }
        #expect(reports.map(\.code) == [ErrorCause.invalidStream, ErrorCause.invalidStream])
        #expect(answers.contains { $0.type == ChunkType.sack })
        #expect(z.events.count { if case .message = $0 { true } else { false } } == 1)
        #expect(z.association.counters.drops.invalidStream == 2)
    }

    @Test("RFC 9260 §6.9: fragments whose B and E bits contradict one another end the association; its bytes are never delivered", arguments: [true, false])
    func inconsistentBits(interleaved: Bool) {
        // flags of the fragments of one message: B 2, E 1
        for flags: [UInt8] in [[2, 2], [2, 3], [2, 1, 0], [0, 2, 3], [1, 1, 0]] {
            let z = hostile { $0.offerInterleaving = interleaved }
            var buffer = ByteBuffer()
            for (index, flag) in flags.enumerated() { data(z, UInt64(index) + 1, fragment: UInt32(index), flags: flag, into: &buffer) }
            z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
            let delivered = z.events.count { if case .message = $0 { true } else { false } }
            #expect(delivered <= (flags[0] == 2 ? 1 : 0), "\(flags)")
            if z.association.state == .ended { #expect(z.failure == .protocolViolation && z.association.counters.drops.violation == 1) }
        }
    }

    @Test("RFC 9260 §6.2: the same TSN with other content changes nothing: what came first stays", arguments: [true, false])
    func otherContent(interleaved: Bool) {
        let z = hostile { $0.offerInterleaving = interleaved }
        func packet(_ byte: UInt8, _ flags: UInt8, message: UInt32) -> ByteBuffer {
            let header = DataChunk(
                tsn: TSN(z.association.tracker.cumulative + 2), stream: 0, message: message, ppid: 53, fragment: 0, flags: flags)
            return z.forge.packet { buffer in [byte].withUnsafeBytes { header.write(payload: $0, interleaved: interleaved, into: &buffer) } }
        }
        let first = packet(1, 3, message: 1)
        let other = [packet(2, 3, message: 1), packet(3, 2, message: 7), packet(4, 0, message: 1)]
        z.give([first] + other)
        #expect(z.association.counters.duplicatesReceived == 3)
        var gap = ByteBuffer()
        data(z, 1, into: &gap)
        z.give(z.forge.packet { $0.writeImmutableBuffer(gap) })
        var bytes: [UInt8] = []
        for case .message(let message) in z.events { bytes += Array(message.payload.readableBytesView) }
        #expect(bytes == [7, 1])
        #expect(z.association.state == .established)
    }

    @Test("RFC 8260 §2.1: a message identifier that is used twice is delivered once at most, and ends the association")
    func messageTwice() {
        let z = hostile()
        var buffer = ByteBuffer()
        // number 1 twice, while 0 is missing; then 0
        for (offset, message): (UInt64, UInt32) in [(1, 1), (2, 1), (3, 0)] { data(z, offset, message: message, into: &buffer) }
        z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
        #expect(z.failure == .protocolViolation)
        // one that is over
        let late = hostile()
        var old = ByteBuffer()
        for (offset, message): (UInt64, UInt32) in [(1, 0), (2, 0)] { data(late, offset, message: message, into: &old) }
        late.give(late.forge.packet { $0.writeImmutableBuffer(old) })
        #expect(late.failure == .protocolViolation)
        #expect(late.events.count { if case .message = $0 { true } else { false } } == 1)
    }

    @Test("whole messages in descending order wait within the window, and come out in order when the first arrives")
    func descending() {
        let z = hostile { $0.receiveWindow = 4 << 20 }
        let count: UInt32 = 20_000
        var sent: UInt32 = count
        while sent > 0 {
            var buffer = ByteBuffer()
            for offset: UInt32 in 0..<min(100, sent) { data(z, UInt64(offset) + 1, message: sent - offset, into: &buffer) }
            sent -= min(100, sent)
            z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
        }
        #expect(z.association.reassembly.windowUse == Int(count) * 129)
        #expect(z.events.allSatisfy { if case .message = $0 { false } else { true } })
        var buffer = ByteBuffer()
        data(z, 1, message: 0, into: &buffer)
        z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
        #expect(z.events.count { if case .message = $0 { true } else { false } } == Int(count) + 1)
        #expect(z.association.reassembly.windowUse == 0 && z.association.reassembly.bytesHeld == 0)
    }

    @Test("scattered fragments of one stream are taken up to what an honest path can scatter, then the association ends")
    func scattered() {
        let z = hostile()
        var fragment: UInt32 = 1_000_000
        var taken = 0
        while z.failure == nil, taken < 20_000 {
            var buffer = ByteBuffer()
            for offset: UInt64 in 1...100 {
                data(z, offset, fragment: fragment, flags: 0, into: &buffer)
                fragment -= 2
            }
            z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
            taken += 100
        }
        #expect(z.failure == .protocolViolation)
        #expect((Lane.maximumRuns...Lane.maximumRuns + 200).contains(taken))
    }

    @Test("streams without end: 65,535 of them, each with the beginning of a message that was long before, stay within the window")
    func streamExhaustion() {
        let z = hostile()
        var stream: UInt16 = 0
        var refused = false
        while stream < 65_400, !refused {
            var buffer = ByteBuffer()
            for offset: UInt64 in 1...100 {
                data(z, offset, stream: stream, flags: 2, into: &buffer)
                stream += 1
            }
            z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
            refused = z.association.counters.drops.windowExceeded > 0 || z.failure != nil
        }
        #expect(z.association.reassembly.windowUse <= 2 * z.association.configuration.receiveWindow)
        #expect(z.failure == nil || z.failure == .outOfMemory)
    }

    @Test("TSNs far ahead are bounded like any others, SACKs of them are legal and fit a packet")
    func farAhead() {
        let z = hostile()
        let base = z.association.tracker.cumulative
        var sacks: [SackChunk] = []
        for burst: UInt64 in 0..<100 {
            var buffer = ByteBuffer()
            for index: UInt64 in 0..<60 {
                let header = DataChunk(
                    tsn: TSN(base + 2 + (burst * 60 + index) * 300_000), stream: 0, message: UInt32(burst * 60 + index) + 1, ppid: 53, fragment: 0, flags: 3)
                [UInt8(1)].withUnsafeBytes { header.write(payload: $0, interleaved: true, into: &buffer) }
            }
            let answers = z.give(z.forge.packet { $0.writeImmutableBuffer(buffer) })
            for packet in answers {
                #expect(packet.readableBytes <= z.association.configuration.basePacketSize)
                for chunk in chunks(packet) where chunk.type == ChunkType.sack {
                    if let sack = try? SackChunk(parsing: chunk.body.span.bytes) { sacks.append(sack) }
                }
            }
        }
        #expect(z.association.tracker.ranges.count == 4096)
        #expect(z.association.counters.drops.tooManyGaps == 6000 - 4096)
        #expect(!sacks.isEmpty && sacks.allSatisfy { $0.gaps.allSatisfy { $0.start >= 2 && $0.start <= $0.end } })
        #expect(z.association.state == .established)
    }

    @Test("RFC 9260 §3.3.4: a range of more than 65,535 TSNs is told as far as a gap block reaches")
    func longRange() {
        let z = hostile { $0.receiveWindow = 32 << 20 }
        var offset: UInt64 = 2
        var last: [ByteBuffer] = []
        let base = z.association.tracker.cumulative
        while offset < 70_000 {
            let packet = z.forge.packet { buffer in
                for _ in 0..<200 {
                    let header = DataChunk(tsn: TSN(base + offset), stream: 0, message: UInt32(offset), ppid: 53, fragment: 0, flags: 7)
                    [UInt8(1)].withUnsafeBytes { header.write(payload: $0, interleaved: true, into: &buffer) }
                    offset += 1
                }
            }
            last = z.give(packet)
            z.association.release(1 << 30, at: z.now)
        }
        let sack = last.flatMap { chunks($0) }.last { $0.type == ChunkType.sack }.flatMap { try? SackChunk(parsing: $0.body.span.bytes) }
        #expect(sack?.gaps == [SackChunk.GapBlock(start: 2, end: 65_535)])
    }

    // MARK: FORWARD-TSN

    @Test(
        "RFC 3758 §3.6: FORWARD-TSN backwards is counted, absurdly far ahead ends the association, and streams never used are no matter",
        arguments: [true, false])
    func forwardAbuse(interleaved: Bool) {
        let z = hostile { $0.offerInterleaving = interleaved }
        func forward(_ by: Int64, _ skips: [ForwardTSNChunk.Skip] = []) {
            let number = UInt64(Int64(z.association.tracker.cumulative) + by)
            z.give(z.forge.packet { ForwardTSNChunk(cumulative: TSN(number), skips: skips).write(interleaved: interleaved, into: &$0) })
        }
        forward(0)
        forward(-5)
        #expect(z.association.counters.drops.staleForwardTSN == 2)
        let skips = (0..<2000).map { (number: Int) -> ForwardTSNChunk.Skip in
            ForwardTSNChunk.Skip(stream: UInt16(number * 32), isUnordered: interleaved && number.isMultiple(of: 2), message: UInt32(number))
        }
        for _ in 0..<20 { forward(1, skips) }
        #expect(z.association.state == .established && z.association.reassembly.windowUse == 0)
        forward(1 << 30)
        #expect(z.failure == .protocolViolation)
    }

    @Test("FORWARD-TSN over unfinished unordered messages drops those alone that it covers", arguments: [1, 2, 5])
    func forwardUnordered(parts: Int) {
        let z = hostile { $0.offerInterleaving = false }
        let base = z.association.tracker.cumulative
        func packet(_ offset: UInt64, _ flags: UInt8, stream: UInt16) -> ByteBuffer {
            let header = DataChunk(tsn: TSN(base + offset), stream: stream, message: 0, ppid: 53, fragment: 0, flags: flags | DataChunk.unordered)
            return z.forge.packet { buffer in [UInt8(offset)].withUnsafeBytes { header.write(payload: $0, interleaved: false, into: &buffer) } }
        }
        // 1 is missing; 2 begins a message that goes on at 3, when 1 was given up
        z.give(packet(2, DataChunk.begin, stream: 1))
        for _ in 0..<parts { z.give(z.forge.packet { ForwardTSNChunk(cumulative: TSN(base + 1)).write(interleaved: false, into: &$0) }) }
        #expect(z.association.tracker.cumulative == base + 2)
        z.give(packet(3, DataChunk.end, stream: 1))
        var bytes: [UInt8] = []
        for case .message(let message) in z.events { bytes += Array(message.payload.readableBytesView) }
        #expect(bytes == [2, 3])
        // 5 begins one that is given up with 6
        z.give(packet(5, DataChunk.begin, stream: 2))
        #expect(z.association.reassembly.bytesHeld == 1)
        z.give(z.forge.packet { ForwardTSNChunk(cumulative: TSN(base + 6)).write(interleaved: false, into: &$0) })
        #expect(z.association.reassembly.bytesHeld == 0 && z.association.reassembly.windowUse == 0)
    }

    // MARK: Acknowledgements

    @Test("RFC 9260 §6.2.1: gap blocks for what was never sent are ignored; a cumulative TSN beyond it ends the association")
    func neverSent() throws {
        let (a, z) = AssociationTests().connected()
        try a.association.send(pattern(5000, 1), stream: 0, ppid: 53, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: a.now)
        _ = a.poll()
        let sent = a.association.inFlight.count
        #expect(sent > 0)
        let before = a.association.inFlight.cumulative
        func sack(_ cumulative: UInt64, _ gaps: [SackChunk.GapBlock] = []) -> ByteBuffer {
            a.forge.packet { SackChunk(cumulative: TSN(cumulative), receiverWindow: 1 << 20, gaps: gaps).write(into: &$0) }
        }
        // beyond the end, reversed, from zero, and as many as there can be
        let blocks: [SackChunk.GapBlock] = [.init(start: 60_000, end: 65_535), .init(start: 9, end: 3), .init(start: 0, end: 2), .init(start: 2, end: 65_535)]
        for _ in 0..<50 { a.give(sack(before, Array(repeating: blocks, count: 70).flatMap { $0 })) }
        #expect(a.association.state == .established)
        #expect(a.association.inFlight.count == sent && a.association.inFlight.acknowledgedRanges.isEmpty)
        a.give(sack(before + UInt64(sent) + 1))
        #expect(a.failure == .protocolViolation)
        #expect(z.failure == nil)
    }

    @Test("acknowledging before anything can have arrived wins the peer no more than what is queued, and the rest of the rules hold")
    func optimistic() throws {
        let pair = Pair(seed: 77)
        pair.connect()
        let channel = try pair.a.engine.open(ChannelParameters(label: "x"), at: pair.now)
        pair.run(for: .milliseconds(100))
        // the real peer hears nothing more
        pair.toZ.conditions.isDown = true
        for index in 0..<50 { try pair.a.engine.send(pattern(20_000, index), isText: false, on: channel, at: pair.now) }
        for _ in 0..<2000 {
            pair.a.drain(at: pair.now)
            pair.a.batch.removeAll()
            let acknowledged = pair.a.engine.association.inFlight.next - 1
            let packet = Forge(tag: pair.a.engine.association.localTag).packet {
                SackChunk(cumulative: TSN(acknowledged), receiverWindow: .max).write(into: &$0)
            }
            pair.a.engine.handle(packet, at: pair.now)
            // the pacer has its say, too
            pair.now += .microseconds(500)
            pair.a.engine.handleTimeout(at: pair.now)
            if pair.a.engine.association.sendQueue.isEmpty { break }
        }
        #expect(pair.a.failure == nil)
        #expect(pair.a.engine.association.sendQueue.unacknowledgedMessages < 50)
        #expect(pair.a.engine.statistics.bytesInFlight <= 50 * 20_000)
    }

    @Test(
        "RFC 9260 §6.1 A: a window that stays shut is probed for ever at the longest interval, one chunk at a time, and costs what was queued",
        arguments: [0, 1, 63] as [UInt32])
    func zeroWindow(window: UInt32) throws {
        let (a, _) = AssociationTests().connected()
        for index in 0..<20 {
            try a.association.send(pattern(5000, index), stream: 0, ppid: 53, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: a.now)
        }
        var packets = 0
        var bytes = 0
        let end = a.now + .seconds(600)
        var cumulative = a.association.inFlight.cumulative
        while a.now < end, a.failure == nil {
            if let deadline = a.association.deadline, deadline <= a.now { a.association.handleTimeout(at: a.now) }
            for packet in a.poll() where chunks(packet).contains(where: { $0.type == ChunkType.interleavedData }) {
                packets += 1
                bytes += packet.readableBytes
            }
            // alive, and taking one chunk a minute
            a.association.receive(
                a.forge.packet { SackChunk(cumulative: TSN(cumulative), receiverWindow: window).write(into: &$0) }.readableBytesSpan, at: a.now)
            if packets % 20 == 19 { cumulative = min(cumulative + 1, a.association.inFlight.next - 1) }
            a.now += .milliseconds(500)
        }
        #expect(a.failure == nil && a.association.state == .established)
        #expect(packets <= 1300 && bytes <= packets * a.association.configuration.maximumPacketSize)
        #expect(a.association.sendQueue.unacknowledgedMessages <= 20)
        // and a peer that then falls silent is given up
        while let deadline = a.association.deadline, a.failure == nil, a.now < end + .seconds(600) {
            a.now = max(a.now, deadline)
            a.association.handleTimeout(at: a.now)
            _ = a.poll()
        }
        #expect(a.failure == .peerUnreachable)
    }

    // MARK: Data channels

    @Test("RFC 8832: OPENs without end: so many channels, so many bytes of names, the rest is closed again and counted")
    func opens() throws {
        var configuration = Configuration()
        configuration.maximumChannels = 100
        let pair = Pair(seed: 5, z: configuration)
        pair.connect()
        for index in 0..<300 { _ = try pair.a.engine.open(ChannelParameters(label: "\(index)"), at: pair.now) }
        pair.run(for: .seconds(20))
        #expect(pair.z.incoming.count == 100)
        #expect(pair.z.engine.statistics.drops.tooManyChannels == 200)
        #expect(pair.a.closed.count == 200)

        let names = Pair(seed: 6)
        names.connect()
        for _ in 0..<30 { _ = try names.a.engine.open(ChannelParameters(label: String(repeating: "x", count: 65_535)), at: names.now) }
        names.run(for: .seconds(20))
        #expect(names.z.incoming.count == 16 && names.z.engine.nameBytes <= 1 << 20)
        #expect(names.z.engine.statistics.drops.tooManyChannels == 14)
        // what is closed makes room
        for handle in names.z.incoming { names.z.engine.close(handle, at: names.now) }
        names.run(for: .seconds(20))
        #expect(names.z.engine.nameBytes == 0)
        _ = try names.a.engine.open(ChannelParameters(label: String(repeating: "y", count: 65_535)), at: names.now)
        names.run(for: .seconds(20))
        #expect(names.z.incoming.count == 17)
    }

    @Test("RFC 8832 §5: what is no OPEN closes its stream; ACKs that nobody waits for do nothing")
    func establishment() {
        let world = Pair(seed: 8)
        world.connect()
        let z = world.z
        var number: UInt32 = 0
        func give(_ payload: [UInt8], stream: UInt16) {
            let header = DataChunk(
                tsn: TSN(z.engine.association.tracker.cumulative + 1), stream: stream, message: number, ppid: PayloadProtocol.establishment, fragment: 0,
                flags: 3)
            z.engine.handle(
                Forge(tag: z.engine.association.localTag).packet { buffer in
                    payload.withUnsafeBytes { header.write(payload: $0, interleaved: true, into: &buffer) }
                }, at: world.now)
            z.drain(at: world.now)
        }
        for _ in 0..<100 {
            give([2], stream: 0)
            number += 1
        }
        #expect(z.engine.statistics.drops.unexpectedAcknowledgement == 100)
        number = 0
        // type, lengths, UTF-8, parity, stream
        let open: [UInt8] = [3, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0]
        give([9] + open.dropFirst() + [0x61], stream: 2)
        give(open, stream: 4)
        give(open + [0xFF], stream: 6)
        give([3, 0x7F] + open.dropFirst(2) + [0x61], stream: 8)
        #expect(z.engine.statistics.drops.malformedMessage == 4)
        give(open + [0x61], stream: 3)
        #expect(z.engine.statistics.drops.illegalOpen == 1)
        #expect(z.incoming.isEmpty && z.failure == nil)
    }
}
