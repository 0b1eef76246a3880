import NIOCore
import Testing
import Wire

@testable import FrameTransport

@Suite struct UpstreamMessageTests {
    private static let example =
        #"{"type":"frame_chunk","frame_id":123,"chunk_id":0,"chunks":1,"encoding":"jpg","width":1280,"height":720,"data":"Zm9vYmFy"}"#

    @Test("The message of PROTOCOLS.md section 1 is read")
    func example() throws {
        let expected = FrameChunk(
            frameID: 123, chunkID: 0, chunks: 1, encoding: .jpeg, width: 1280, height: 720, data: ByteBuffer(string: "Zm9vYmFy"))
        #expect(try parse(Self.example) == .chunk(expected))
    }

    @Test("Order, spaces, escapes and unknown members make no difference")
    func tolerant() throws {
        let text = """
             { "data" : "\\/m9vYmF\\u0079", "x":[{"data":"no"}], "height": 720, "width": 1280, "encoding": "jpeg", "chunks": 1,
             "chunk_id": 0, "frame_id": 123, "type" : "frame_chunk", "y": null }
            """
        guard case .chunk(let chunk) = try parse(text) else {
            Issue.record("not a chunk")
            return
        }
        #expect(chunk.frameID == 123 && chunk.width == 1280)
        #expect(String(buffer: chunk.data) == "/m9vYmFy")
    }

    @Test("The end and the error of a source are read, and written as they are read")
    func others() throws {
        #expect(try parse(UpstreamMessage.endOfFramesText) == .endOfFrames)
        #expect(try parse(UpstreamMessage.sourceErrorText("failed_to_open")) == .sourceError("failed_to_open"))
        #expect(try parse(#"{"type":"frame_error"}"#) == .sourceError("unknown"))
    }

    @Test("Every prefix of a message is refused")
    func prefixes() {
        for length in 0..<Self.example.utf8.count {
            #expect(throws: MalformedMessage.self) { try parse(String(Self.example.prefix(length))) }
        }
    }

    @Test(
        "Messages with wrong members are refused, and name the frame where they can",
        arguments: [
            ("[1,2]", .notAnObject, nil), ("3", .notAnObject, nil), ("{}", .missing(.type), nil), (#"{"type":3}"#, .invalid(.type), nil),
            (#"{"type":"hello","frame_id":4}"#, .unknownType, 4), (#"{"type":"frame_chunk","data":""}"#, .missing(.frameID), nil),
            (#"{"type":"frame_chunk","frame_id":"7","data":""}"#, .invalid(.frameID), nil),
            (#"{"type":"frame_chunk","frame_id":-7,"data":""}"#, .invalid(.frameID), nil),
            (#"{"type":"frame_chunk","frame_id":99999999999999999,"data":""}"#, .invalid(.frameID), nil),
            (#"{"type":"frame_chunk","frame_id":7}"#, .missing(.data), 7), (#"{"type":"frame_chunk","frame_id":7,"data":5}"#, .invalid(.data), 7),
            (#"{"type":"frame_chunk","frame_id":7,"chunks":"1","data":""}"#, .invalid(.chunks), 7),
            (#"{"type":"frame_chunk","frame_id":7,"chunk_id":0.5,"data":""}"#, .invalid(.chunkID), 7),
            (#"{"type":"frame_chunk","frame_id":7,"encoding":"gif","data":""}"#, .invalid(.encoding), 7),
        ] as [(String, MalformedMessage.Reason, Int?)])
    func wrong(text: String, reason: MalformedMessage.Reason, frameID: Int?) {
        #expect(throws: MalformedMessage(reason: reason, frameID: frameID)) { try parse(text) }
    }

    @Test("A frame cut into chunks comes back, and no message exceeds the peer's limit", arguments: [300, 1200, 65_536, 262_144])
    func chunks(limit: Int) throws {
        let chunker = try #require(FrameChunker(maximumMessageSize: limit))
        let payload = ByteBuffer(bytes: (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
        var assembler = FrameAssembler()
        for chunk in 0..<chunker.chunkCount(for: payload.readableBytes) {
            let message = chunker.message(frameID: 1, chunkID: chunk, encoding: .jpeg, width: 1280, height: 720, of: payload)
            #expect(message.readableBytes <= limit)
            guard case .chunk(let read) = try UpstreamMessage(parsing: message) else { continue }
            assembler.handle(read, at: .zero)
        }
        guard case .frame(let frame) = assembler.next() else {
            Issue.record("no frame")
            return
        }
        #expect(try frame.payload() == payload)
        #expect(frame.width == 1280 && frame.height == 720 && frame.id == 1)
    }

    @Test("A peer's limit too small for any frame is refused before anything is sent")
    func tinyLimit() { #expect(FrameChunker(maximumMessageSize: 100) == nil) }

    private func parse(_ text: String) throws -> UpstreamMessage { try UpstreamMessage(parsing: ByteBuffer(string: text)) }
}
