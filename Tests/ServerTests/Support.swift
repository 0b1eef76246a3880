import Everyframe
import Foundation
import FrameTransport
import Inference
import Logging
import Media
import NIOCore
import ServiceLifecycle
import WebRTC
import WebRTCNIO

@testable import EveryframeServer

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// A server that runs while `body` does, with a model that answers at once, or `model`.
func withServer(
    model: (any Model)? = nil, _ change: (inout ServerConfiguration) -> Void = { _ in },
    _ body: @escaping @Sendable (RunningServer) async throws -> Void
) async throws {
    var configuration = ServerConfiguration()
    configuration.port = 0
    configuration.udpHost = "127.0.0.1"
    configuration.model = "synthetic:0"
    configuration.limits.drainTime = .seconds(5)
    change(&configuration)
    let (ports, listening) = AsyncStream<Int>.makeStream()
    let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    let server =
        if let model {
            try await EveryframeServer(configuration: configuration, model: model, logger: quiet) { listening.yield($0) }
        } else {
            try await EveryframeServer(configuration: configuration, logger: quiet) { listening.yield($0) }
        }
    let group = ServiceGroup(services: [server], logger: quiet)
    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask {
            defer { listening.finish() }
            try await group.run()
        }
        var iterator = ports.makeAsyncIterator()
        if let port = await iterator.next() { try await body(RunningServer(server: server, port: port, group: group)) }
        await group.triggerGracefulShutdown()
        try await tasks.waitForAll()
    }
}

struct RunningServer: Sendable {
    let server: EveryframeServer
    let port: Int
    let group: ServiceGroup

    var url: String { "http://127.0.0.1:\(port)" }
    var udpPort: Int { server.udpPort }

    /// Returns once the server has no session left; bounded by the caller's time limit.
    func waitUntilEmpty() async { while await server.sessionCount > 0, !Task.isCancelled { await Task.yield() } }

    func post(_ body: String, headers: [String: String] = [:], path: String = "/initialise_webrtc_worker") async throws -> (status: Int, json: JSON) {
        let answer = try await request("POST", path, headers: headers, body: body)
        return (answer.status, try JSON(parsing: ByteBuffer(string: answer.body)))
    }

    func get(_ path: String, headers: [String: String] = [:]) async throws -> (status: Int, json: JSON) {
        let answer = try await request("GET", path, headers: headers)
        return (answer.status, try JSON(parsing: ByteBuffer(string: answer.body)))
    }

    struct HTTPAnswer: Sendable {
        var status: Int
        var headers: [String: String]
        var body: String
    }

    func request(_ method: String, _ path: String, headers: [String: String] = [:], body: String? = nil) async throws -> HTTPAnswer {
        var request = URLRequest(url: URL(string: url + path) ?? URL(fileURLWithPath: "/"))
        request.httpMethod = method
        request.httpBody = body.map { Data($0.utf8) }
        request.cachePolicy = .reloadIgnoringLocalCacheData
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        let (data, response) = try await URLSession.shared.data(for: request)
        let http = response as? HTTPURLResponse
        let fields = (http?.allHeaderFields ?? [:]).map { ("\($0.key)".lowercased(), "\($0.value)") }
        return HTTPAnswer(status: http?.statusCode ?? 0, headers: .init(fields, uniquingKeysWith: { $1 }), body: String(decoding: data, as: UTF8.self))
    }

    /// A client of the wire made by hand, which may say what it likes.
    func connect(_ fields: JSONObject = [:]) async throws -> RawClient {
        var configuration = PeerConnection.Configuration()
        configuration.includeLoopback = true
        configuration.host = "127.0.0.1"
        let peer = try await PeerConnection(configuration: configuration)
        let inference = try await peer.createDataChannel("inference")
        let upstream = try await peer.createDataChannel("upstream_frames")
        try await peer.setLocalDescription(peer.createOffer())
        let offer = try await peer.gatheringComplete()
        var body: JSONObject = [
            "webrtc_offer": ["type": "offer", "sdp": .string(offer.sdp)], "frame_transport": "data_channel", "output_mode": "data_only",
        ]
        for member in fields.members { body[member.name] = member.value }
        let (status, json) = try await post(JSON.object(body).description)
        guard status == 200, let sdp = json["sdp"]?.string else { throw Refusal(status: status, json: json) }
        try await peer.setRemoteDescription(SessionDescription(kind: .answer, sdp: sdp))
        try await inference.waitUntilOpen()
        try await upstream.waitUntilOpen()
        return RawClient(peer: peer, inference: inference, upstream: upstream)
    }
}

struct Refusal: Error {
    var status: Int
    var json: JSON
}

struct RawClient: Sendable {
    let peer: PeerConnection
    let inference: DataChannel
    let upstream: DataChannel

    func send(_ id: Int, _ picture: ByteBuffer = Pictures.jpeg, chunkSize: Int = 16_000_000) async throws {
        guard let chunker = FrameChunker(chunkSize: chunkSize, maximumMessageSize: nil) else { return }
        for chunk in 0..<chunker.chunkCount(for: picture.readableBytes) {
            let message = chunker.message(
                frameID: id, chunkID: chunk, encoding: .jpeg, width: Pictures.width, height: Pictures.height, of: picture)
            try await upstream.send(String(buffer: message))
        }
    }

    func endOfFrames() async throws { try await upstream.send(UpstreamMessage.endOfFramesText) }

    /// Everything the server says until it closes the connection, or `count` messages.
    func answers(_ count: Int = .max) async throws -> [ResultMessage] {
        var answers: [ResultMessage] = []
        do {
            for try await message in inference.messages {
                guard case .text(let text) = message else { continue }
                answers.append(try ResultMessage(parsing: ByteBuffer(string: text)))
                if answers.count == count || answers.last?.completion != nil { break }
            }
        } catch let error as DataChannelError where error.code == .connectionFailed {}
        return answers
    }
}

enum Pictures {
    static let width = 64
    static let height = 48

    /// A grey gradient.
    static let frame: VideoFrame = VideoFrame(.bgr24, width: width, height: height) { bytes in
        for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index / 36) }
    }

    static let jpeg: ByteBuffer = (try? JPEGCodec().encode(frame, quality: 90)).map { ByteBuffer(bytes: $0) } ?? ByteBuffer()
}

/// So many small pictures.
actor GeneratedSource: FrameSource {
    private var left: Int
    private let frame: SourceFrame
    private let failAtEnd: Bool

    init(
        _ count: Int, frame: SourceFrame = SourceFrame(encoded: Pictures.jpeg, as: .jpeg, width: Pictures.width, height: Pictures.height),
        failAtEnd: Bool = false
    ) {
        left = count
        self.frame = frame
        self.failAtEnd = failAtEnd
    }

    func next() throws -> SourceFrame? {
        guard left > 0 else {
            if failAtEnd { throw StreamError(.sourceFailed, "it broke") }
            return nil
        }
        left -= 1
        return frame
    }
}
