import AsyncHTTPClient
import Foundation
import FrameTransport
import NIOCore
import NIOHTTP1
import WebRTC
import WebRTCNIO
import Wire

/// The HTTP side of setting a stream up: an offer there, an answer back.
struct Signalling {
    let configuration: StreamConfiguration

    struct Answer: Sendable {
        var sdp: String
        /// What the messages on the data channels will be; nil from servers that know only one kind.
        var frameProtocol: String?
        /// Where candidates may follow the offer.
        var whip: WhipClient?
    }

    /// Makes the offer of a connection, brings it to the server and applies the answer.
    ///
    /// Where the server has the WHIP route nothing waits for gathering: the offer goes with what is known, and the rest follows. Else it goes with all.
    func negotiate(_ peer: PeerConnection, declaredFPS: Double?, timeout: Duration? = nil) async throws(StreamError) -> Answer {
        let answer: Answer
        do {
            try await peer.setLocalDescription(peer.createOffer())
            // what comes by a TURN server goes with the offer: both sides need each other's relayed address for their permissions (RFC 8656 §9)
            let hasTurn = configuration.peer.iceServers.contains { $0.urls.contains { $0.lowercased().hasPrefix("turn") } }
            if hasTurn { _ = try await peer.gatheringComplete() }
            if configuration.wire == .everyframe, let first = await peer.localDescription, let whip = try await postWhip(first.sdp, timeout: timeout) {
                answer = whip
            } else {
                answer = try await exchange(offer: try await peer.gatheringComplete().sdp, declaredFPS: declaredFPS, timeout: timeout)
                guard configuration.wire == .prototype || answer.frameProtocol == Lane.subprotocol else {
                    throw StreamError(
                        .badAnswer, "the server at \(configuration.server) does not speak everyframe.v1; if it speaks the prototype's wire: --wire prototype")
                }
            }
        } catch {
            throw error as? StreamError ?? StreamError(Task.isCancelled ? .cancelled : .cannotConnect, "\(error)")
        }
        do {
            try await peer.setRemoteDescription(SessionDescription(kind: .answer, sdp: answer.sdp))
        } catch {
            await answer.whip?.end()
            throw StreamError(.badAnswer, "\(error)")
        }
        return answer
    }

    /// RFC 9725 §4.2. nil where there is no such route: at servers of others, and older ones.
    private func postWhip(_ offer: String, timeout: Duration?) async throws(StreamError) -> Answer? {
        let url = try endpoint("whip")
        let reply = try await send(.POST, url, type: "application/sdp", body: ByteBuffer(string: offer), timeout: timeout)
        switch reply.status {
        case 201:
            let session = WhipClient(signalling: self, endpoint: url, offer: offer, headers: reply.headers)
            return Answer(sdp: String(buffer: reply.body), frameProtocol: Lane.subprotocol, whip: session)
        // said by a server that has the route
        case 400, 401, 403, 503:
            let json = try? JSON(parsing: reply.body)
            guard json?["error_type"] != nil else { return nil }
            throw StreamError(.refused, Self.message(in: json, reply.body), status: reply.status)
        default: return nil
        }
    }

    private func exchange(offer: String, declaredFPS: Double?, timeout: Duration?) async throws(StreamError) -> Answer {
        let url = try endpoint("initialise_webrtc_worker")
        var body = ByteBuffer()
        self.body(offer: offer, declaredFPS: declaredFPS).write(into: &body)
        let reply = try await send(.POST, url, type: "application/json", body: body, timeout: timeout)
        let json = try? JSON(parsing: reply.body)
        // no answer of ours: another program listens there, or something in front of it
        guard ![404, 405, 501].contains(reply.status) else {
            throw StreamError(.badAnswer, "HTTP \(reply.status): there is no Everyframe at \(configuration.server); is it the right server?")
        }
        guard reply.status == 200 else { throw StreamError(.refused, Self.message(in: json, reply.body), status: reply.status) }
        guard let sdp = json?["sdp"]?.string, json?["type"]?.string == "answer" else {
            throw StreamError(.badAnswer, json?["message"]?.string ?? "the server's answer has no SDP in it; is \(configuration.server) the right server?")
        }
        return Answer(sdp: sdp, frameProtocol: json?["frame_protocol"]?.string)
    }

    struct Reply: Sendable {
        var status: Int
        var headers: HTTPHeaders
        var body: ByteBuffer
    }

    /// One request, with the key.
    /// - Parameter timeout: nil for what the configuration allows.
    func send(
        _ method: HTTPMethod, _ url: String, type: String? = nil, headers: [(String, String)] = [], body: ByteBuffer? = nil, timeout: Duration? = nil
    ) async throws(StreamError) -> Reply {
        var request = HTTPClientRequest(url: url)
        request.method = method
        if let type { request.headers.add(name: "Content-Type", value: type) }
        if let key = configuration.apiKey { request.headers.add(name: "Authorization", value: "Bearer \(key)") }
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let body { request.body = .bytes(body) }
        do {
            let response = try await Self.client.execute(request, timeout: .nanoseconds((timeout ?? configuration.timeouts.signalling).inNanoseconds))
            return Reply(status: Int(response.status.code), headers: response.headers, body: try await response.body.collect(upTo: 4 << 20))
        } catch {
            if Task.isCancelled || error is CancellationError { throw StreamError(.cancelled) }
            throw StreamError(.serverUnreachable, "\(url): \(Self.words(for: error))")
        }
    }

    /// Lives as long as the process. A refused connection is an answer: trying again until the time is up helps nobody.
    private static let client: HTTPClient = {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.timeout.connect = .seconds(10)
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }()

    /// A route of the server's.
    func endpoint(_ path: String) throws(StreamError) -> String {
        guard let url = URL(string: configuration.server), let scheme = url.scheme?.lowercased(), ["http", "https"].contains(scheme),
            let host = url.host, !host.isEmpty
        else { throw StreamError(.invalidConfiguration, "'\(configuration.server)' is not the http or https URL of a server") }
        var base = configuration.server
        while base.hasSuffix("/") { base.removeLast() }
        return "\(base)/\(path)"
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
