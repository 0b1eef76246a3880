import Foundation
import NIOCore
import Testing
import Wire

@testable import FrameTransport

/// The vectors of docs/protocol.md, which a program other than this one wrote.
@Suite struct V1VectorTests {
    let vectors: JSON

    init() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Vectors/everyframe-v1.json")
        vectors = try JSON(parsing: ByteBuffer(bytes: try Data(contentsOf: file)))
    }

    @Test("everyframe.v1 vectors: XXH64 and the rolling digest")
    func digests() throws {
        for vector in try #require(vectors["digests"]?.array) {
            #expect(Hex64.text(XXH64.digest(try bytes(vector["bytes"]))) == vector["xxh64"]?.string)
        }
        var rolling = RollingDigest()
        for step in try #require(vectors["rolling"]?.array) {
            rolling.add(id: try #require(step["id"]?.integer), digest: try #require(Hex64.value(step["digest"]?.string ?? "")))
            #expect(Hex64.text(rolling.value) == step["rolling"]?.string)
        }
    }

    @Test("everyframe.v1 vectors: frames, with their chunks")
    func frames() throws {
        for vector in try #require(vectors["frames"]?.array) {
            let fields = try #require(vector["fields"])
            let messages = try #require(vector["messages"]?.array)
            var first = try bytes(messages[0])
            let header = try FrameHeader(readingFrom: &first)
            #expect(header.job == fields["job"]?.integer.map(UInt16.init))
            #expect(header.id == fields["id"]?.integer)
            #expect(header.length == fields["length"]?.integer)
            #expect(header.info.pts == fields["pts"]?.integer.map(Int64.init))
            #expect(header.info.dts == fields["dts"]?.integer.map(Int64.init))
            #expect(header.info.captureTime == fields["capture_time"]?.integer.map(Int64.init))
            #expect([Int(header.info.timeBase.numerator), Int(header.info.timeBase.denominator)] == fields["time_base"]?.array?.compactMap(\.integer))
            #expect(Int(header.info.encoding.rawValue) == fields["encoding"]?.integer)
            #expect(Int(header.info.orientation.rawValue) == fields["orientation"]?.integer ?? 1)
            #expect(Int(header.info.configuration) == fields["configuration"]?.integer ?? 0)
            #expect(header.attempt == fields["attempt"]?.integer ?? 0)
            var payload = first
            for message in messages.dropFirst() {
                var piece = try bytes(message)
                let chunk = try ChunkHeader(readingFrom: &piece)
                #expect(chunk == ChunkHeader(kind: .frame, job: header.job, offset: payload.readableBytes, id: header.id))
                payload.writeImmutableBuffer(piece)
            }
            #expect(payload == (try bytes(vector["payload"])))
            #expect(XXH64.digest(payload) == header.digest)
            var written = ByteBuffer()
            header.write(into: &written)
            written.writeImmutableBuffer(first)
            #expect(written == (try bytes(messages[0])), "written again it is the same")
        }
    }

    @Test("everyframe.v1 vectors: codec configurations")
    func configurations() throws {
        for vector in try #require(vectors["configurations"]?.array) {
            let message = try bytes(vector["message"])
            let (job, configuration) = try CodecConfiguration.read(message)
            let fields = try #require(vector["fields"])
            #expect(Int(job) == fields["job"]?.integer)
            #expect(configuration.codec == fields["codec"]?.string)
            #expect(Int(configuration.number) == fields["number"]?.integer)
            #expect(Int(configuration.tag) == fields["tag"]?.integer)
            #expect(configuration.extradata == (try bytes(vector["extradata"])))
            var written = ByteBuffer()
            configuration.write(job: job, into: &written)
            #expect(written == message)
        }
    }

    @Test("everyframe.v1 vectors: results")
    func results() throws {
        for vector in try #require(vectors["results"]?.array) {
            let message = try bytes(vector["message"])
            var rest = message
            let header = try ResultHeader(readingFrom: &rest)
            let result = try #require(header.result(with: rest))
            let fields = try #require(vector["fields"])
            #expect(result.sequence == fields["sequence"]?.integer)
            #expect(Int(result.answer.status.rawValue) == fields["status"]?.integer)
            #expect(result.answer.times.all.map(Int.init) == fields["times"]?.array?.compactMap(\.integer))
            #expect(result.answer.body == (try bytes(vector["body"])))
            #expect(result.answer.value != nil)
            #expect(result.answer.image?.bytes ?? ByteBuffer() == (try bytes(vector["image"])))
            var written = ByteBuffer()
            ResultHeader(job: header.job, result: result).write(into: &written)
            written.writeImmutableBuffer(rest)
            #expect(written == message)
        }
    }

    @Test("everyframe.v1 vectors: control messages say the same in MessagePack and in JSON")
    func control() throws {
        for vector in try #require(vectors["control"]?.array) {
            let text = try #require(vector["json"]?.string)
            var packed = try bytes(vector["msgpack"])
            let whole = packed
            #expect(packed.readInteger() == UInt8(1))
            guard case .message(let message) = try ControlMessage.read(packed, isText: false) else {
                Issue.record("not understood: \(text)")
                continue
            }
            #expect(try ControlMessage.read(ByteBuffer(string: text), isText: true) == .message(message))
            var written = ByteBuffer()
            message.write(.messagePack, into: &written)
            #expect(written == whole, "\(text)")
            written.clear()
            message.write(.json, into: &written)
            #expect(String(buffer: written) == text)
        }
    }

    private func bytes(_ hex: JSON?) throws -> ByteBuffer {
        let text = Array(try #require(hex?.string).utf8)
        return ByteBuffer(
            bytes: try stride(from: 0, to: text.count, by: 2).map { try #require(UInt8(String(decoding: text[$0..<$0 + 2], as: UTF8.self), radix: 16)) })
    }
}
