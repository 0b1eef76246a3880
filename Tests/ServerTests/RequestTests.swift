import FrameTransport
import NIOCore
import Testing

@testable import EveryframeServer

@Suite(.timeLimit(.minutes(1))) struct RequestTests {
    private static let offer = #""webrtc_offer":{"type":"offer","sdp":"this is not sdp"}"#
    private static let channel = offer + #","frame_transport":"data_channel""#

    @Test(
        "PROTOCOLS.md section 2: schema faults are 422 in FastAPI's shape",
        arguments: [
            ("", "missing", #"["body"]"#), ("{", "json_invalid", #"["body",0]"#), ("[1]", "model_attributes_type", #"["body"]"#),
            ("{}", "missing", #"["body","webrtc_offer"]"#), (#"{"webrtc_offer":3}"#, "model_attributes_type", #"["body","webrtc_offer"]"#),
            (#"{"webrtc_offer":{"type":"offer"}}"#, "missing", #"["body","webrtc_offer","sdp"]"#),
            (#"{"webrtc_offer":{"type":"offer","sdp":5}}"#, "string_type", #"["body","webrtc_offer","sdp"]"#),
            ("{\(channel),\"data_output\":\"image\"}", "list_type", #"["body","data_output"]"#),
            ("{\(channel),\"data_output\":[1]}", "string_type", #"["body","data_output",0]"#),
            ("{\(channel),\"stream_output\":\"image\"}", "list_type", #"["body","stream_output"]"#),
            ("{\(channel),\"processing_timeout\":\"soon\"}", "int_parsing", #"["body","processing_timeout"]"#),
            ("{\(channel),\"declared_fps\":\"x\"}", "float_type", #"["body","declared_fps"]"#),
            ("{\(channel),\"workflow_configuration\":{}}", "literal_error", #"["body","workflow_configuration","type"]"#),
        ])
    func schema(body: String, type: String, location: String) {
        do throws(HTTPFault) {
            _ = try WorkerRequest(parsing: ByteBuffer(string: body))
            Issue.record("accepted")
        } catch {
            #expect(error.status == 422)
            #expect(error.body["detail"]?.array?.first?["type"]?.string == type)
            #expect(error.body["detail"]?.array?.first?["loc"]?.description == location)
        }
    }

    @Test(
        "What cannot be served is 400 with a message that says why",
        arguments: [
            ("{\(offer)}", "media_track"), ("{\(offer),\"frame_transport\":\"smoke\"}", "Invalid frame_transport: 'smoke'"),
            ("{\(channel),\"output_mode\":\"video_only\"}", "media track"), ("{\(channel),\"output_mode\":\"x\"}", "Invalid output_mode: 'x'"),
            ("{\(channel),\"data_output\":[\"nope\"]}", "Invalid data_output fields: ['nope']. Available workflow outputs: ['predictions', 'count']"),
            ("{\(channel),\"processing_timeout\":0}", "processing_timeout"), ("{\(channel),\"declared_fps\":-1}", "declared_fps"),
            (#"{"webrtc_offer":{"type":"answer","sdp":""},"frame_transport":"data_channel"}"#, "its type is 'answer'"),
        ])
    func configuration(body: String, message: String) throws {
        var request = try WorkerRequest(parsing: ByteBuffer(string: body))
        do throws(HTTPFault) {
            try request.checkConfiguration(available: Predictor.outputs)
            Issue.record("accepted")
        } catch {
            #expect(error.status == 400)
            #expect(error.body["message"]?.string?.contains(message) == true)
            #expect(error.body["error_type"]?.string == "WebRTCConfigurationError")
        }
    }

    @Test(
        "Unknown fields are ignored; data_output means what section 1 says",
        arguments: [
            ("null", DataOutput.all), ("[]", .named([])), (#"["*"]"#, .all), (#"["count"]"#, .named(["count"])), (#"[""]"#, .named([])),
        ])
    func dataOutput(text: String, expected: DataOutput) throws {
        var request = try WorkerRequest(parsing: ByteBuffer(string: "{\(Self.channel),\"data_output\":\(text),\"x\":[{}],\"requested_gpu\":null}"))
        try request.checkConfiguration(available: Predictor.outputs)
        #expect(request.dataOutput == expected)
    }

    @Test("Over HTTP: statuses and bodies, a key that is asked for, and a server that goes on")
    func http() async throws {
        try await withServer({ $0.apiKey = "sesame" }) { server in
            #expect(try await server.post("{").status == 422)
            #expect(try await server.post("{\(Self.channel)}").status == 401)
            #expect(try await server.post("{\(Self.channel),\"api_key\":\"sesam\"}").status == 401)
            let bad = try await server.post("{\(Self.channel),\"api_key\":\"sesame\"}")
            #expect(bad.status == 400 && bad.json["error_type"]?.string == "WebRTCOfferError")
            #expect(try await server.post("{\(Self.channel)}", headers: ["Authorization": "Bearer sesame"]).status == 400)
            let missing = try await server.post("{}", path: "/nothing")
            #expect(missing.status == 404 && missing.json == ["detail": "Not Found"])
            #expect(await server.server.sessionCount == 0)
        }
    }

    @Test("A body beyond the limit is 413")
    func tooLarge() async throws {
        try await withServer({ $0.limits.requestBytes = 1000 }) { server in
            let answer = try await server.post(String(repeating: " ", count: 5000))
            #expect(answer.status == 413)
        }
    }

    @Test("A key that came with a faulty request does not go back")
    func redaction() throws {
        #expect(throws: HTTPFault.self) { try WorkerRequest(parsing: ByteBuffer(string: #"{"api_key":"secret"}"#)) }
        do throws(HTTPFault) {
            _ = try WorkerRequest(parsing: ByteBuffer(string: #"{"api_key":"secret"}"#))
        } catch {
            #expect(!error.body.description.contains("secret") && !error.summary.contains("secret"))
        }
    }
}
