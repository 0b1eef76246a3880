import NIOCore
import Testing
import Wire

@testable import FrameTransport

@Suite struct V1WireTests {
    @Test("everyframe.v1: each proper prefix of a header is refused, and each flipped bit found")
    func headers() throws {
        var frame = ByteBuffer()
        var info = FrameInfo(encoding: .raw, width: 640, height: 480)
        info.pixelFormat = .nv12
        info.pts = 77
        FrameHeader(job: 3, id: 9, length: 460_800, digest: 0x0123_4567_89AB_CDEF, info: info).write(into: &frame)
        var result = ByteBuffer()
        let answer = Answer(body: ByteBuffer(string: "x"))
        ResultHeader(
            job: 3,
            result: FrameResult(
                sequence: 1, id: 1, picture: 1, pts: nil, timeBase: TimeBase(numerator: 1, denominator: 25), captureTime: nil, digest: 1, answer: answer)
        ).write(into: &result)
        var configuration = ByteBuffer()
        var setting = CodecConfiguration(codec: "hevc", width: 64, height: 64)
        setting.number = 1
        setting.write(job: 3, into: &configuration)
        for (whole, isReadable) in [(frame, readsFrame), (result, readsResult), (configuration, readsConfiguration)] {
            #expect(isReadable(whole))
            for count in 0..<whole.readableBytes { #expect(!isReadable(ByteBuffer(whole.readableBytesView.prefix(count)))) }
            for bit in 0..<whole.readableBytes * 8 {
                var flipped = whole
                flipped.setInteger((flipped.getInteger(at: bit / 8) ?? UInt8(0)) ^ 1 << (bit % 8), at: bit / 8)
                // only the count of words may grow beyond the message; everything else is covered by the check
                #expect(!isReadable(flipped), "bit \(bit)")
            }
        }
    }

    @Test("everyframe.v1: a header with fields of a later version is read as far as it is known")
    func longerHeader() throws {
        var header = ByteBuffer()
        FrameHeader(job: 3, id: 9, length: 4, digest: 5, info: FrameInfo(encoding: .jpeg, width: 8, height: 8)).write(into: &header)
        var longer = ByteBuffer(header.readableBytesView.dropLast(4))
        longer.setInteger(UInt8(24), at: 1)
        longer.writeInteger(UInt64(0xFEED))
        BinaryMessage.appendCheck(from: 0, to: &longer)
        longer.writeString("abcd")
        let read = try FrameHeader(readingFrom: &longer)
        #expect(read.id == 9 && String(buffer: longer) == "abcd")
    }

    @Test("MessagePack: values come back as they were; every proper prefix is refused")
    func messagePack() throws {
        let long = String(repeating: "ä", count: 40_000)
        let values: [JSON] = [
            .null, .bool(true), .integer(0), .integer(127), .integer(128), .integer(-1), .integer(-32), .integer(-33), .integer(65_536),
            .integer(.max), .integer(.min), .number(0.5), .string(""), .string(long), .array((0..<70_000).map { .integer($0) }),
            .object(JSONObject(members: (0..<20).map { .init(name: "n\($0)", value: .array([.null, .string("x")])) })),
        ]
        for value in values {
            var bytes = ByteBuffer()
            MessagePack.write(value, into: &bytes)
            #expect(try MessagePack.read(bytes) == value)
            for count in 0..<min(bytes.readableBytes, 300) {
                #expect(throws: MessagePackError.self) { try MessagePack.read(ByteBuffer(bytes.readableBytesView.prefix(count))) }
            }
        }
    }

    @Test("MessagePack: lengths that lie, depth and number of values are bounded; what JSON lacks is passed over")
    func hostileMessagePack() throws {
        #expect(throws: MessagePackError.truncated) { try MessagePack.read(ByteBuffer(bytes: [0xDD, 0xFF, 0xFF, 0xFF, 0xFF])) }
        #expect(throws: MessagePackError.truncated) { try MessagePack.read(ByteBuffer(bytes: [0xDF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0])) }
        #expect(throws: MessagePackError.truncated) { try MessagePack.read(ByteBuffer(bytes: [0xC6, 0xFF, 0xFF, 0xFF, 0xFF])) }
        #expect(throws: MessagePackError.tooDeep) { try MessagePack.read(ByteBuffer(repeating: 0x91, count: 100_000)) }
        #expect(throws: MessagePackError.tooManyValues) {
            try MessagePack.read(ByteBuffer(bytes: [0xDC, 0x10, 0] + [UInt8](repeating: 0, count: 4096)), limits: .init(values: 100))
        }
        #expect(throws: MessagePackError.badByte(0xC1)) { try MessagePack.read(ByteBuffer(bytes: [0xC1])) }
        #expect(throws: MessagePackError.badString) { try MessagePack.read(ByteBuffer(bytes: [0xA1, 0xFF])) }
        #expect(throws: MessagePackError.trailing) { try MessagePack.read(ByteBuffer(bytes: [0xC0, 0xC0])) }
        // {1: true, "a": bin, "b": ext}
        let bytes: [UInt8] = [0x83, 0x01, 0xC3, 0xA1, 0x61, 0xC4, 2, 9, 9, 0xA1, 0x62, 0xD6, 7, 1, 2, 3, 4]
        #expect(try MessagePack.read(ByteBuffer(bytes: bytes)) == .object(["a": .null, "b": .null]))
    }

    @Test("everyframe.v1: random bytes and damaged control messages never trap", arguments: Array(UInt64(1)...20))
    func fuzz(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var sample = ByteBuffer()
        ControlMessage.open(job: 1, JobRequest(encoding: .jpeg, dropPolicy: .maximumRate(12.5))).write(.messagePack, into: &sample)
        for _ in 0..<500 {
            var bytes = ByteBuffer(bytes: (0..<Int.random(in: 0...120, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
            _ = try? ControlMessage.read(bytes, isText: false)
            _ = try? ControlMessage.read(bytes, isText: true)
            _ = try? CodecConfiguration.read(bytes)
            _ = try? ChunkHeader(readingFrom: &bytes)
            var damaged = ByteBuffer(sample.readableBytesView.dropFirst())
            damaged.setInteger(UInt8.random(in: 0...255, using: &random), at: Int.random(in: 0..<damaged.readableBytes, using: &random))
            _ = try? ControlMessage.read(damaged, isText: false)
        }
    }

    @Test("everyframe.v1: control fields out of range are refused, unknown ones and unknown types ignored")
    func controlFields() throws {
        func read(_ text: String) throws -> ReceivedControl { try ControlMessage.read(ByteBuffer(string: text), isText: true) }
        #expect(try read(#"{"type":"ping","n":4,"future":[{}]}"#) == .message(.ping(4)))
        #expect(try read(#"{"type":"teleport"}"#) == .unknown(type: "teleport"))
        for text in [
            "3", "[]", "{}", #"{"type":3}"#, #"{"type":"ping"}"#, #"{"type":"ping","n":-1}"#, #"{"type":"ping","n":9007199254740993}"#,
            #"{"type":"bye","job":0}"#, #"{"type":"bye","job":65536}"#, #"{"type":"resume","job":1,"token":"xyz","taken":0}"#,
            #"{"type":"resume","job":1,"token":"00112233445566778899aabbccddeeff","taken":5,"have":4}"#, #"{"type":"retry","job":1,"ids":[0]}"#,
            #"{"type":"open","job":1,"encoding":"gif"}"#, #"{"type":"open","job":1,"encoding":"jpeg","parameters":[]}"#,
            #"{"type":"hello","versions":[1],"max_message":100}"#,
        ] {
            #expect(throws: ControlMessageError.self, "\(text)") { try read(text) }
        }
    }

    @Test("everyframe.v1: pieces are even, at least worthwhile, and never beyond message, room or credit")
    func pieces() {
        for remaining in [1, 1000, 8192, 16_000, 65_536, 300_000, 5_000_000] {
            for room in [1, 5000, 8192, 70_000, 512_000] {
                for message in [16_384, 65_536, 262_144] {
                    var left = remaining
                    var count = 0
                    while left > 0, let size = BulkBudget(messageBytes: message, room: room).piece(of: left, behind: 88) {
                        #expect(size >= 1 && size <= left && size + 88 <= message)
                        #expect(size <= max(room, TransportSettings.worthwhilePieceBytes))
                        #expect(size == left || size >= TransportSettings.leastPieceBytes)
                        left -= size
                        count += 1
                    }
                    #expect(left == 0)
                    #expect(count <= remaining / min(8192, message - 88) + 1)
                }
            }
        }
        #expect(BulkBudget(messageBytes: 65_536, room: 0).piece(of: 10, behind: 88) == nil)
        #expect(BulkBudget(messageBytes: 65_536, room: 99_999).piece(of: 10_000, behind: 88, credit: 500) == nil)
    }

    private func readsFrame(_ bytes: ByteBuffer) -> Bool {
        var bytes = bytes
        return (try? FrameHeader(readingFrom: &bytes)) != nil
    }

    private func readsResult(_ bytes: ByteBuffer) -> Bool {
        var bytes = bytes
        return (try? ResultHeader(readingFrom: &bytes)) != nil
    }

    private func readsConfiguration(_ bytes: ByteBuffer) -> Bool { (try? CodecConfiguration.read(bytes)) != nil }
}
