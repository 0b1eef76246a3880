import NIOCore
import Testing
import Wire

@testable import SCTP

@Suite("Chunks")
struct PacketTests {
    @Test(
        "RFC 9260 appendix A: CRC32C vectors (RFC 3720 §B.4)",
        arguments: [
            ([UInt8](repeating: 0, count: 32), UInt32(0x8A91_36AA)),
            ([UInt8](repeating: 0xFF, count: 32), UInt32(0x62A8_AB43)),
            ([UInt8](0..<32), UInt32(0x46DD_794E)),
            ([UInt8]((0..<32).reversed()), UInt32(0x113F_DB5C)),
            ([UInt8]("123456789".utf8), UInt32(0xE306_9283)),
            ([UInt8](), UInt32(0)),
        ] as [([UInt8], UInt32)])
    func checksum(input: [UInt8], expected: UInt32) {
        let value = CRC32C.checksum(input.span.bytes)
        #expect(value == expected)
    }

    @Test("the checksum of a packet takes its own field as zero")
    func packetChecksum() {
        var packet = Array(UInt8(0)..<61)
        let whole = CRC32C.checksum(packet: packet.span.bytes)
        for index in 8..<12 { packet[index] = 0 }
        let zeroed = CRC32C.checksum(packet.span.bytes)
        #expect(whole == zeroed)
    }

    // MARK: Round trips

    /// The body of the only chunk in `buffer`.
    func body<T>(_ buffer: ByteBuffer, type: UInt8, _ parse: (RawSpan, UInt8) throws(ParseError) -> T) throws -> T {
        var reader = TaggedReader(buffer.readableBytesSpan)
        var word: UInt16 = 0
        let span = try reader.next(tag: &word)
        #expect(word >> 8 == UInt16(type))
        let atEnd = reader.isAtEnd
        #expect(atEnd)
        #expect(buffer.readableBytes % 4 == 0)
        return try parse(span, UInt8(word & 0xFF))
    }

    @Test("RFC 9260 §3.3.1, RFC 8260 §2.1: DATA and I-DATA", arguments: [true, false], [1, 2, 3, 4, 1128])
    func data(interleaved: Bool, size: Int) throws {
        for flags: UInt8 in 0..<16 {
            let isBegin = flags & DataChunk.begin != 0
            let chunk = DataChunk(
                tsn: TSN(rawValue: 0xFFFF_FFFE), stream: 65_534, message: interleaved ? 0x1234_5678 : 0x1234, ppid: interleaved && !isBegin ? 0 : 53,
                fragment: interleaved && !isBegin ? 77 : 0, flags: flags)
            let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
            var buffer = ByteBuffer()
            payload.withUnsafeBytes { chunk.write(payload: $0, interleaved: interleaved, into: &buffer) }
            try body(buffer, type: interleaved ? ChunkType.interleavedData : ChunkType.data) { span, flags throws(ParseError) in
                var reader = ByteReader(span)
                let parsed = try DataChunk(parsing: &reader, flags: flags, interleaved: interleaved)
                #expect(parsed == chunk)
                let rest = reader.takeRest()
                #expect(Array(rest.readableBytesView) == payload)
            }
        }
    }

    static let sacks = [
        SackChunk(cumulative: TSN(rawValue: 1), receiverWindow: 8 << 20),
        SackChunk(cumulative: TSN(rawValue: .max), receiverWindow: 0, gaps: [.init(start: 2, end: 3), .init(start: 5, end: 65_535)]),
        SackChunk(cumulative: TSN(rawValue: 7), receiverWindow: .max, gaps: [.init(start: 2, end: 2)], duplicates: [TSN(rawValue: 4), TSN(rawValue: 4)]),
    ]

    @Test("RFC 9260 §3.3.4: SACK", arguments: 0..<3)
    func sack(index: Int) throws {
        var buffer = ByteBuffer()
        Self.sacks[index].write(into: &buffer)
        try body(buffer, type: ChunkType.sack) { span, _ throws(ParseError) in
            let parsed = try SackChunk(parsing: span)
            #expect(parsed == Self.sacks[index])
        }
    }

    static var fullInit: InitChunk {
        var chunk = InitChunk(initiateTag: 0xDEAD_BEEF, receiverWindow: 1 << 20, outboundStreams: 1024, inboundStreams: 2048, initialTSN: TSN(rawValue: 9))
        chunk.stateCookie = ByteBuffer(bytes: [1, 2, 3, 4, 5])
        chunk.supportedExtensions = [130, 192, 64, 194]
        chunk.supportsForwardTSN = true
        chunk.zeroChecksumMethod = 1
        return chunk
    }

    @Test("RFC 9260 §3.3.2: INIT with parameters; unknown ones are treated by their two highest bits")
    func initiation() throws {
        var buffer = ByteBuffer()
        Self.fullInit.write(as: ChunkType.initiation, into: &buffer)
        try body(buffer, type: ChunkType.initiation) { span, _ throws(ParseError) in
            let parsed = try InitChunk(parsing: span)
            #expect(parsed == Self.fullInit)
        }
        // 00: stop; 01: stop and report; 10: go on; 11: go on and report
        for (bits, goesOn, reports) in [(UInt16(0), false, false), (0x4000, false, true), (0x8000, true, false), (0xC000, true, true)] {
            var value = ByteBuffer()
            let bare = InitChunk(initiateTag: 1, receiverWindow: 1, outboundStreams: 1, inboundStreams: 1, initialTSN: TSN(rawValue: 1))
            bare.write(as: 1, into: &value)
            value.moveReaderIndex(forwardBy: 4)
            value.writeTagged(bits | 0x0ABC) { $0.writeInteger(UInt8(5)) }
            value.writeTagged(0xC000) { _ in }
            let parsed = try InitChunk(parsing: value.readableBytesSpan)
            #expect(parsed.supportsForwardTSN == goesOn)
            #expect(parsed.unrecognized.count == (reports ? 1 : 0))
        }
    }

    @Test("RFC 3758 §3.2, RFC 8260 §2.3: FORWARD-TSN and I-FORWARD-TSN", arguments: [true, false])
    func forwardTSN(interleaved: Bool) throws {
        let chunk = ForwardTSNChunk(
            cumulative: TSN(rawValue: 12),
            skips: [.init(stream: 1, isUnordered: false, message: 3), .init(stream: 9, isUnordered: interleaved, message: 65_535)])
        var buffer = ByteBuffer()
        chunk.write(interleaved: interleaved, into: &buffer)
        try body(buffer, type: interleaved ? 194 : 192) { span, _ throws(ParseError) in
            let parsed = try ForwardTSNChunk(parsing: span, interleaved: interleaved)
            #expect(parsed == chunk)
        }
    }

    @Test(
        "RFC 6525 §4: RE-CONFIG",
        arguments: [
            [ReconfigurationChunk.Parameter.outgoingReset(request: 1, response: 2, lastTSN: TSN(rawValue: 3), streams: [4, 5, 6])],
            [.outgoingReset(request: 1, response: 2, lastTSN: TSN(rawValue: 3), streams: [])],
            [.incomingReset(request: 7, streams: [1]), .response(request: 8, result: 1)],
            [.unsupported(request: 4)],
        ])
    func reconfiguration(parameters: [ReconfigurationChunk.Parameter]) throws {
        var buffer = ByteBuffer()
        ReconfigurationChunk(parameters).write(into: &buffer)
        try body(buffer, type: ChunkType.reconfiguration) { span, _ throws(ParseError) in
            let parsed = try ReconfigurationChunk(parsing: span)
            #expect(parsed.parameters == parameters)
        }
    }

    @Test("RFC 9260 §3.3.10: causes")
    func causes() throws {
        let causes = [ErrorCause(code: 3, information: ByteBuffer(bytes: [0, 0, 0, 9])), ErrorCause(code: 12, information: ByteBuffer(string: "bye"))]
        var buffer = ByteBuffer()
        for cause in causes { cause.write(into: &buffer) }
        let parsed = try ErrorCause.parse(buffer.readableBytesSpan)
        #expect(parsed == causes)
    }

    @Test("RFC 8832 §5: OPEN with every reliability, ACK")
    func establishment() throws {
        var all = [
            ChannelParameters(label: "", subprotocol: ""),
            ChannelParameters(label: "ünï", subprotocol: "p", ordered: false, priority: 1024),
            ChannelParameters(label: "r", maxRetransmits: 0),
            ChannelParameters(label: "t", ordered: false, maxPacketLifeTime: 500),
        ]
        all.append(ChannelParameters(label: String(repeating: "l", count: 65_535), subprotocol: String(repeating: "p", count: 65_535)))
        for parameters in all {
            var buffer = ByteBuffer()
            DCEPMessage.open(parameters).write(into: &buffer)
            let parsed = try DCEPMessage(parsing: buffer.readableBytesSpan)
            #expect(parsed == .open(parameters))
            for length in [0, 1, 5, 11, buffer.readableBytes - 1] {
                let prefix = buffer.getSlice(at: 0, length: length) ?? ByteBuffer()
                #expect(throws: ParseError.self) { _ = try DCEPMessage(parsing: prefix.readableBytesSpan) }
            }
        }
        let acknowledgement = try DCEPMessage(parsing: [UInt8](arrayLiteral: 2).span.bytes)
        #expect(acknowledgement == .acknowledgement)
        // a label that is not UTF-8
        let bad: [UInt8] = [3, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xFF]
        #expect(throws: ParseError.badValue) { _ = try DCEPMessage(parsing: bad.span.bytes) }
    }

    @Test("RFC 9260 §5.1.3: the state cookie")
    func cookie() throws {
        var capabilities = Capabilities()
        capabilities.interleaving = true
        capabilities.zeroChecksum = true
        let cookie = StateCookie(
            createdAt: Instant(nanoseconds: 5), localTag: 1, localInitialTSN: TSN(rawValue: 2), peer: Self.fullInit, tieLocal: 3, tiePeer: 4,
            capabilities: capabilities)
        let encoded = cookie.encoded
        #expect(encoded.readableBytes == StateCookie.size)
        let parsed = try StateCookie(parsing: encoded.readableBytesSpan)
        #expect(parsed == cookie)
        #expect(Capabilities(parsed) == capabilities)
    }
}

@Suite("Receiving")
struct ReceivingTests {
    @Test("RFC 9260 §6.2.1: the tracker agrees with a plain set, whatever the order", arguments: 0..<20)
    func tracker(seed: Int) {
        var generator = SplitMix64(seed: UInt64(seed))
        // close to the wrap
        var tracker = TSNTracker(initialTSN: TSN(rawValue: .max - 20), maximumRanges: 1000)
        let first = tracker.cumulative + 1
        var seen: Set<UInt64> = []
        for _ in 0..<400 {
            let number = first + generator.next() % 120
            let unwrapped = tracker.unwrap(TSN(number))
            #expect(unwrapped == number)
            let arrival = tracker.classify(number)
            #expect((arrival == .duplicate) == seen.contains(number))
            if arrival == .duplicate { continue }
            seen.insert(number)
            tracker.insert(number)
            var cumulative = first - 1
            while seen.contains(cumulative + 1) { cumulative += 1 }
            #expect(tracker.cumulative == cumulative)
            let covered = tracker.ranges.flatMap { Array($0.first...$0.last) }
            #expect(covered == seen.filter { $0 > cumulative }.sorted())
        }
    }

    @Test("too many gaps are not remembered")
    func gaps() {
        var tracker = TSNTracker(initialTSN: TSN(rawValue: 0), maximumRanges: 3)
        let first = tracker.cumulative + 1
        for offset: UInt64 in [2, 4, 6] { tracker.insert(first + offset) }
        #expect(tracker.classify(first + 8) == .tooManyGaps)
        #expect(tracker.classify(first + 7) == .outOfOrder)
        #expect(tracker.classify(first) == .next)
        tracker.advance(to: first + 3)
        #expect(tracker.cumulative == first + 4)
        #expect(tracker.ranges.count == 1)
    }

    /// A message cut into fragments.
    struct Fragment {
        var chunk: DataChunk
        var tsn: UInt64
        var payload: [UInt8]
    }

    @Test("RFC 9260 §6.9: messages come whole and in order, whatever the order of their fragments", arguments: 0..<30, [true, false])
    func reassembly(seed: Int, interleaved: Bool) throws {
        var generator = SplitMix64(seed: UInt64(seed))
        var fragments: [Fragment] = []
        var tsn: UInt64 = 1 << 32
        var expected: [UInt16: [[UInt8]]] = [:]
        var numbers: [UInt16: UInt32] = [:]
        for index in 0..<20 {
            let stream = UInt16(generator.next() % 3)
            let isUnordered = stream == 2
            let pieces = 1 + Int(generator.next() % 5)
            let number = numbers[stream, default: 0]
            numbers[stream] = number + 1
            var whole: [UInt8] = []
            for piece in 0..<pieces {
                let payload = (0..<1 + Int(generator.next() % 40)).map { UInt8(truncatingIfNeeded: $0 &+ index &* 7 &+ piece) }
                whole += payload
                let flags: UInt8 = (piece == 0 ? 2 : 0) | (piece == pieces - 1 ? 1 : 0) | (isUnordered ? 4 : 0)
                let chunk = DataChunk(tsn: TSN(tsn), stream: stream, message: number, ppid: 53, fragment: UInt32(piece), flags: flags)
                fragments.append(Fragment(chunk: chunk, tsn: tsn, payload: payload))
                tsn += 1
            }
            expected[stream, default: []].append(whole)
        }
        fragments.shuffle(using: &generator)
        var reassembly = Reassembly(interleaved: interleaved, maximumMessageSize: 1 << 20)
        var ready = Queue<ReceivedMessage>()
        var got: [UInt16: [[UInt8]]] = [:]
        for fragment in fragments {
            try reassembly.add(fragment.chunk, tsn: fragment.tsn, payload: fragment.payload.span.bytes, ready: &ready)
            while let message = ready.popFirst() { got[message.stream, default: []].append(Array(message.payload.readableBytesView)) }
        }
        #expect(got[0] == expected[0])
        #expect(got[1] == expected[1])
        #expect(Set(got[2] ?? []) == Set(expected[2] ?? []))
        #expect(reassembly.bytesHeld == 0)
        #expect(reassembly.windowUse == 0)
    }

    @Test("fragments that contradict one another are a violation, not a crash")
    func contradictions() throws {
        func chunk(_ tsn: UInt64, _ flags: UInt8, message: UInt32 = 0) -> DataChunk {
            DataChunk(tsn: TSN(tsn), stream: 1, message: message, ppid: 53, fragment: UInt32(truncatingIfNeeded: tsn), flags: flags)
        }
        let base: UInt64 = 1 << 32
        // begin after begin; middle after end; other message in between; the same I-DATA fragment twice
        for (interleaved, list) in [
            (false, [chunk(base, 2), chunk(base + 1, 2)]),
            (false, [chunk(base, 2), chunk(base + 1, 0, message: 5)]),
            (false, [chunk(base + 2, 1), chunk(base + 3, 0)]),
            (true, [chunk(5, 0), chunk(5, 0)]),
        ] {
            var reassembly = Reassembly(interleaved: interleaved, maximumMessageSize: 1 << 20)
            var ready = Queue<ReceivedMessage>()
            var violated = false
            for item in list {
                do throws(Reassembly.Failure) {
                    try reassembly.add(item, tsn: interleaved ? base : UInt64(item.tsn.rawValue) + base, payload: [UInt8(1)].span.bytes, ready: &ready)
                } catch { violated = error == .violation }
            }
            #expect(violated)
        }
    }
}
