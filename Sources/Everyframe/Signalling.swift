import AsyncHTTPClient
import Foundation
import FrameTransport
import NIOCore
import NIOHTTP1
import Wire

/// The HTTP side of setting a stream up: an offer there, an answer back.
struct Signalling {
    let configuration: StreamConfiguration

    struct Answer: Sendable {
        var sdp: String
        /// What the messages on the data channels will be; nil from servers that know only one kind.
        var frameProtocol: String?
    }

    func exchange(offer: String, declaredFPS: Double?, timeout: Duration? = nil) async throws(StreamError) -> Answer {
        let url = try endpoint()
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        if let key = configuration.apiKey { request.headers.add(name: "Authorization", value: "Bearer \(key)") }
        var body = ByteBuffer()
        self.body(offer: offer, declaredFPS: declaredFPS).write(into: &body)
        request.body = .bytes(body)
        let status: Int
        let answer: ByteBuffer
        do {
            let response = try await Self.client.execute(request, timeout: .nanoseconds((timeout ?? configuration.timeouts.signalling).inNanoseconds))
            status = Int(response.status.code)
            answer = try await response.body.collect(upTo: 4 << 20)
        } catch {
            if Task.isCancelled || error is CancellationError { throw StreamError(.cancelled) }
            throw StreamError(.serverUnreachable, "\(url): \(Self.words(for: error))")
        }
        let json = try? JSON(parsing: answer)
        // no answer of ours: another program listens there, or something in front of it
        guard ![404, 405, 501].contains(status) else {
            throw StreamError(.badAnswer, "HTTP \(status): there is no Everyframe at \(configuration.server); is it the right server?")
        }
        guard status == 200 else { throw StreamError(.refused, Self.message(in: json, answer), status: status) }
        guard let sdp = json?["sdp"]?.string, json?["type"]?.string == "answer" else {
            throw StreamError(.badAnswer, json?["message"]?.string ?? "the server's answer has no SDP in it; is \(configuration.server) the right server?")
        }
        return Answer(sdp: sdp, frameProtocol: json?["frame_protocol"]?.string)
    }

    /// Lives as long as the process. A refused connection is an answer: trying again until the time is up helps nobody.
    private static let client: HTTPClient = {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.timeout.connect = .seconds(10)
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }()

    func endpoint() throws(StreamError) -> String {
        guard let url = URL(string: configuration.server), let scheme = url.scheme?.lowercased(), ["http", "https"].contains(scheme),
            let host = url.host, !host.isEmpty
        else { throw StreamError(.invalidConfiguration, "'\(configuration.server)' is not the http or https URL of a server") }
        var base = configuration.server
        while base.hasSuffix("/") { base.removeLast() }
        return base + "/initialise_webrtc_worker"
    }

    private func body(offer: String, declaredFPS: Double?) -> JSON {
        let outputs: JSON
        switch configuration.dataOutput {
        case .all: outputs = .null
        case .none: outputs = []
        case .named(let names): outputs = .array(names.map(JSON.string))
        }
        var body: JSONObject = [
            "api_key": configuration.apiKey.map(JSON.string) ?? .null,
            "workflow_configuration": [
                "type": "WorkflowConfiguration", "image_input_name": "image", "workflows_parameters": [:],
                "workflow_specification": [
                    "version": "1.0", "inputs": [["type": "InferenceImage", "name": "image"]], "steps": [], "outputs": [],
                ],
            ],
            "webrtc_offer": ["type": "offer", "sdp": .string(offer)],
            "webrtc_realtime_processing": false, "stream_output": [], "data_output": outputs,
            "declared_fps": declaredFPS.map(JSON.number) ?? .null, "frame_transport": "data_channel", "output_mode": "data_only",
        ]
        if configuration.wire == .everyframe { body.append("frame_protocol", .string(Lane.subprotocol)) }
        return .object(body)
    }

    /// What the server said, in any of the shapes of PROTOCOLS.md section 2.
    private static func message(in json: JSON?, _ body: ByteBuffer) -> String {
        if let message = json?["message"]?.string { return message }
        if let detail = json?["detail"] {
            if let text = detail.string { return text }
            let faults = detail.array?.compactMap { fault -> String? in
                guard let text = fault["msg"]?.string else { return nil }
                let path = fault["loc"]?.array?.map { $0.string ?? $0.description }.joined(separator: ".") ?? ""
                return path.isEmpty ? text : "\(path): \(text)"
            }
            if let faults, !faults.isEmpty { return faults.joined(separator: "; ") }
        }
        let text = String(buffer: body).prefix(200)
        return text.hasPrefix("<") ? "an HTML page, as no Everyframe answers" : text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private static func words(for error: any Error) -> String {
        if let error = error as? HTTPClientError {
            if error == .connectTimeout || error == .deadlineExceeded || error == .readTimeout { return "it does not answer in time" }
            return error.shortDescription
        }
        let text = "\(error)"
        if text.contains("Connection refused") || text.contains("ECONNREFUSED") || text.contains("errno: 111") { return "connection refused" }
        if text.contains("UnknownHost") { return "there is no host of that name" }
        if text.contains("CERTIFICATE_VERIFY_FAILED") { return "its certificate cannot be verified" }
        if text.contains("WRONG_VERSION_NUMBER") { return "it does not speak TLS: http instead of https?" }
        return text
    }
}

extension Duration {
    var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}

extension String {
    /// RFC 8841 §6: what the peer accepts in one message; 64 KiB where it does not say, nil where it sets no limit.
    var announcedMaximumMessageSize: Int? {
        for line in split(whereSeparator: \.isNewline) where line.hasPrefix("a=max-message-size:") {
            guard let size = Int(line.dropFirst(19).trimmingCharacters(in: .whitespaces)), size >= 0 else { break }
            return size == 0 ? nil : size
        }
        return 65_536
    }
}
