import FrameTransport
import NIOCore
import Testing

@Suite struct ResultMessageTests {
    private static let example =
        #"{"video_metadata":{"frame_id":123,"received_at":"2025-11-11T12:48:10.123456","pts":null,"time_base":null,"declared_fps":20.0,"measured_fps":null},"serialized_output_data":{"predictions":{"image":{"width":1280,"height":720},"predictions":[]},"count":12},"errors":[]}"#

    @Test("The result of PROTOCOLS.md section 1 is read and written byte for byte")
    func example() throws {
        let message = try parse(Self.example)
        #expect(message.videoMetadata.frameID == 123)
        #expect(message.videoMetadata.declaredFPS == 20)
        #expect(message.outputs?["count"]?.integer == 12)
        #expect(message.completion == nil)
        #expect(message.json.description == Self.example)
    }

    @Test("The end of a job is read with and without its extra members")
    func completion() throws {
        let bare = try parse(
            #"{"serialized_output_data":null,"video_metadata":{"frame_id":7},"errors":[],"processing_complete":true,"termination_reason":null}"#)
        #expect(bare.completion == ResultMessage.Completion(terminationReason: nil))
        let full = ResultMessage(
            videoMetadata: .init(frameID: 7, receivedAt: nil), outputs: nil,
            completion: .init(terminationReason: "timeout_reached", stages: StageReport(stages: [.init(name: "wait", p50: 0.5, p99: 2)])))
        #expect(try parse(full.json.description) == full)
    }

    @Test("What is not a result is refused", arguments: ["", "3", "[]", "{}", #"{"video_metadata":{}}"#, #"{"video_metadata":{"frame_id":"a"}}"#])
    func refused(text: String) {
        #expect(throws: ResultMessage.DecodingError.self) { try parse(text) }
    }

    private func parse(_ text: String) throws -> ResultMessage { try ResultMessage(parsing: ByteBuffer(string: text)) }
}

@Suite struct ResultDeframerTests {
    @Test("PROTOCOLS.md section 3: binary chunks join in any order; text in a binary message passes")
    func joins() throws {
        var deframer = ResultDeframer()
        #expect(try deframer.handle(chunk(7, 1, 2, "}")) == nil)
        #expect(try deframer.handle(chunk(7, 0, 2, "{")) == ByteBuffer(string: "{}"))
        #expect(try deframer.handle(ByteBuffer(string: #"{"a":12345678}"#)) == ByteBuffer(string: #"{"a":12345678}"#))
        #expect(try deframer.handle(ByteBuffer(string: "short")) == ByteBuffer(string: "short"))
    }

    @Test("Chunks out of range, too much of them and gzip are refused")
    func refused() throws {
        var deframer = ResultDeframer(maximumBytes: 10)
        #expect(throws: ResultDeframer.Fault.chunkOutOfRange) { try deframer.handle(chunk(1, 2, 2, "x")) }
        #expect(throws: ResultDeframer.Fault.chunkOutOfRange) { try deframer.handle(chunk(1, 0, 0, "x")) }
        #expect(try deframer.handle(chunk(2, 0, 2, "12345678")) == nil)
        #expect(throws: ResultDeframer.Fault.tooLarge) { try deframer.handle(chunk(2, 1, 2, "12345678")) }
        #expect(throws: ResultDeframer.Fault.tooLarge) { try deframer.handle(chunk(3, 0, .max, "1")) }
        var gzip = chunk(4, 0, 1, "")
        gzip.writeInteger(UInt16(0x1f8b))
        #expect(throws: ResultDeframer.Fault.compressed) { try deframer.handle(gzip) }
    }

    private func chunk(_ id: UInt32, _ index: UInt32, _ count: UInt32, _ text: String) -> ByteBuffer {
        var message = ByteBuffer()
        for field in [id, index, count] { message.writeInteger(field, endianness: .little) }
        message.writeString(text)
        return message
    }
}

@Suite struct FrameLedgerTests {
    @Test("Every frame answered once and in order is proof")
    func complete() {
        var ledger = FrameLedger()
        for _ in 1...100 { #expect(ledger.answer(ledger.send(), isFailure: false) == .inOrder) }
        #expect(ledger.proof.isClean)
        #expect(ledger.proof.description == "all 100 frames answered, each once, in order")
    }

    @Test("Missing, doubled, strange, failed and early answers are all named")
    func faults() {
        var ledger = FrameLedger()
        for _ in 1...10 { _ = ledger.send() }
        #expect(ledger.answer(1, isFailure: false) == .inOrder)
        #expect(ledger.answer(3, isFailure: true) == .early)
        #expect(ledger.answer(3, isFailure: false) == .duplicate)
        #expect(ledger.answer(1, isFailure: false) == .duplicate)
        #expect(ledger.answer(11, isFailure: false) == .unknown)
        #expect(ledger.answer(0, isFailure: false) == .unknown)
        #expect(ledger.proof.missing == [2...2, 4...10])
        #expect(ledger.answer(2, isFailure: false) == .inOrder)
        #expect(ledger.answer(4, isFailure: false) == .inOrder)
        #expect(ledger.proof.missing == [5...10])
        #expect(ledger.unanswered == 6)
        #expect(!ledger.proof.isComplete)
        #expect(ledger.proof.description == "4 of 10 frames answered: missing 5-10; 1 failed; 2 answered twice; 2 answers to no frame; 1 out of order")
    }
}
