public import FrameTransport
public import Logging
import NIOCore
import WebRTC
import WebRTCNIO

/// Sends the frames of a source to a server and brings every result back, in order.
///
///     let client = EveryframeClient(configuration: .init(server: "http://127.0.0.1:9001"))
///     let summary = try await client.run(VideoFileSource(path: "cars.mp4")) { result in print(result.json) }
///     // or, pulling:
///     let job = client.start(source)
///     for try await result in job.results { … }
///     let summary = try await job.summary
public struct EveryframeClient: Sendable {
    /// What is called while a stream runs. Each is awaited, so a slow one slows the stream down and loses nothing.
    public struct Handlers: Sendable {
        public var onResult: @Sendable (ResultMessage) async throws -> Void = { _ in }
        public var onProgress: @Sendable (StreamProgress) async -> Void = { _ in }
        /// A frame is about to be sent under this number.
        public var onFrame: @Sendable (Int, SourceFrame) async -> Void = { _, _ in }

        public init() {}
    }

    public let configuration: StreamConfiguration
    private let log: Logger

    public init(configuration: StreamConfiguration, logger: Logger? = nil) {
        self.configuration = configuration
        log = logger ?? Logger(label: "everyframe.client", factory: { _ in SwiftLogNoOpLogHandler() })
    }

    /// Streams the whole source. Cancelling the task ends the stream and frees the server.
    /// - Throws: what kept it from beginning. What breaks it later is the summary's `failure`.
    public func run(_ source: some FrameSource, handlers: Handlers = Handlers()) async throws(StreamError) -> StreamSummary {
        try configuration.validate()
        let start = ContinuousClock.now
        let connection = try await connect(source)
        let setup = ContinuousClock.now - start
        let job = StreamJob(configuration: configuration, connection: connection, source: source, handlers: handlers, log: log)
        var summary = await withTaskCancellationHandler {
            await job.run()
        } onCancel: {
            // The connection's end wakes whatever the job waits for.
            Task { await job.fail(StreamError(.cancelled)) }
        }
        summary.setupMilliseconds = setup.inSeconds * 1e3
        return summary
    }

    public func run(
        _ source: some FrameSource, onResult: @escaping @Sendable (ResultMessage) async throws -> Void
    ) async throws(StreamError) -> StreamSummary {
        var handlers = Handlers()
        handlers.onResult = onResult
        return try await run(source, handlers: handlers)
    }

    /// Begins a stream whose results are pulled. It runs no further ahead than the window while they are not.
    public func start(_ source: some FrameSource) -> StreamRun { StreamRun(client: self, source: source) }

    private func connect(_ source: some FrameSource) async throws(StreamError) -> StreamConnection {
        let peer: PeerConnection
        do {
            peer = try await PeerConnection(configuration: Self.peerConfiguration, logger: log)
        } catch {
            throw StreamError(.cannotConnect, "\(error)")
        }
        do {
            let inference = try await peer.createDataChannel("inference")
            let upstream = try await peer.createDataChannel("upstream_frames")
            try await peer.setLocalDescription(peer.createOffer())
            let offer = try await peer.gatheringComplete()
            let answer = try await Signalling(configuration: configuration).exchange(offer: offer.sdp, declaredFPS: source.declaredFPS)
            guard let chunker = FrameChunker(chunkSize: configuration.chunkSize, maximumMessageSize: answer.announcedMaximumMessageSize) else {
                throw StreamError(.badAnswer, "the server accepts no messages that are long enough for a frame")
            }
            do {
                try await peer.setRemoteDescription(SessionDescription(kind: .answer, sdp: answer))
            } catch {
                throw StreamError(.badAnswer, "\(error)")
            }
            try await peer.waitUntilConnected(timeout: configuration.timeouts.connect)
            try await inference.waitUntilOpen()
            try await upstream.waitUntilOpen()
            return StreamConnection(peer: peer, inference: inference, upstream: upstream, chunker: chunker)
        } catch {
            await peer.close()
            if Task.isCancelled { throw StreamError(.cancelled) }
            throw error as? StreamError ?? StreamError(.cannotConnect, "\(error)")
        }
    }

    private static var peerConfiguration: PeerConnection.Configuration {
        var configuration = PeerConnection.Configuration()
        // servers on this machine may know no other address
        configuration.includeLoopback = true
        return configuration
    }
}

/// A connection whose channels are open.
struct StreamConnection: Sendable {
    let peer: PeerConnection
    let inference: DataChannel
    let upstream: DataChannel
    let chunker: FrameChunker
}

/// A stream that runs by itself while its results are pulled.
public final class StreamRun: Sendable {
    private let line: Handoff<ResultMessage, StreamError>
    private let task: Task<StreamSummary, any Error>

    fileprivate init(client: EveryframeClient, source: some FrameSource) {
        let line = Handoff<ResultMessage, StreamError>(capacity: 1)
        self.line = line
        task = Task {
            do {
                let summary = try await client.run(source) { result in
                    guard await line.put(result) else { throw StreamError(.cancelled) }
                }
                await line.finish(summary.failure.map { .failure($0) } ?? .success(()))
                return summary
            } catch {
                await line.finish(.failure(error as? StreamError ?? StreamError(.cancelled)))
                throw error
            }
        }
    }

    deinit { task.cancel() }

    /// One for each frame, in order; throws where the stream breaks. For one consumer.
    public var results: Results { Results(run: self) }

    /// How it went, once it is over; throws what kept it from beginning.
    public var summary: StreamSummary { get async throws { try await task.value } }

    /// Ends the stream and frees the server.
    public func cancel() { task.cancel() }

    public struct Results: AsyncSequence, AsyncIteratorProtocol, Sendable {
        public typealias Element = ResultMessage
        let run: StreamRun

        public func makeAsyncIterator() -> Results { self }

        public func next() async throws(StreamError) -> ResultMessage? { try await run.line.next() }

        public func next(isolation actor: isolated (any Actor)?) async throws(StreamError) -> ResultMessage? { try await run.line.next() }
    }
}

extension StreamConfiguration {
    /// Finds what cannot work before anything is opened.
    public func validate() throws(StreamError) {
        func require(_ condition: Bool, _ message: String) throws(StreamError) {
            guard condition else { throw StreamError(.invalidConfiguration, message) }
        }
        _ = try Signalling(configuration: self).endpoint()
        if case .jpeg(let quality) = encoding { try require((1...100).contains(quality), "a JPEG quality of \(quality) is not between 1 and 100") }
        try require(window > 0 && windowBytes > 0, "the window must hold at least one frame")
        try require(chunkSize > 0, "a chunk must hold at least one byte")
        if let frameLimit { try require(frameLimit > 0, "a limit of \(frameLimit) frames leaves none") }
        if case .named(let names) = dataOutput { try require(!names.contains { $0.isEmpty }, "an output has no name") }
    }
}
