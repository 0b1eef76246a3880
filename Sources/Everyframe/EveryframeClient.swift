public import FrameTransport
public import Logging
import NIOCore
import WebRTC
import WebRTCNIO

/// Sends the frames of a source to a server and brings every result back, in order.
///
///     let client = EveryframeClient(configuration: .init(server: "http://127.0.0.1:9001"))
///     let summary = try await client.run(VideoSource.file("cars.mp4")) { result in print(result.json) }
///     // or, pulling:
///     let job = client.start(source)
///     for try await result in job.results { … }
///     let summary = try await job.summary
public struct EveryframeClient: Sendable {
    /// What is called while a stream runs. Each is awaited, so a slow one slows the stream down and loses nothing.
    public struct Handlers: Sendable {
        public var onResult: @Sendable (StreamResult) async throws -> Void = { _ in }
        /// All results given so far are about to be acknowledged: the server forgets them. Make them safe here.
        public var onDelivered: @Sendable () async throws -> Void = {}
        public var onProgress: @Sendable (StreamProgress) async -> Void = { _ in }
        /// The server has taken the job; with the ticket another process can go on with it.
        public var onTicket: @Sendable (ResumeTicket) async -> Void = { _ in }
        /// A frame is about to be sent under this number; on the prototype wire only, whose servers draw nothing.
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
        switch configuration.wire {
        case .prototype:
            let result: Result<StreamSummary, StreamError> = await withTaskCancellationHandler {
                do throws(StreamError) { return .success(try await runPrototype(source, handlers)) } catch { return .failure(error) }
            } onCancel: {
                // its first frame may not have come
                Task { await source.stop() }
            }
            return try result.get()
        case .everyframe:
            let link = ServerLink(configuration: configuration, declaredFPS: await source.declaredFPS, isLive: await source.isLive, logger: log)
            let result: Result<StreamSummary, StreamError>
            do throws(StreamError) { result = .success(try await run(source, over: link, handlers)) } catch { result = .failure(error) }
            await link.close()
            return try result.get()
        }
    }

    /// Connections that are used again and again, for many sources.
    /// - Parameter size: how many, at most; each carries several sources side by side.
    public func pool(size: Int = 2) throws(StreamError) -> EveryframePool {
        try configuration.validate()
        guard configuration.wire == .everyframe else {
            throw StreamError(.invalidConfiguration, "the prototype's wire has one source a connection: there is no pool of them")
        }
        return EveryframePool(client: self, size: size, logger: log)
    }

    func run(_ source: any FrameSource, over link: ServerLink, _ handlers: Handlers) async throws(StreamError) -> StreamSummary {
        let job = V1Job(configuration: configuration, link: link, source: source, handlers: handlers)
        let result: Result<StreamSummary, StreamError> = await withTaskCancellationHandler {
            do throws(StreamError) { return .success(try await job.run()) } catch { return .failure(error) }
        } onCancel: {
            Task { await job.cancel() }
        }
        var summary = try result.get()
        summary.webrtcStats = await link.stats()
        return summary
    }

    private func runPrototype(_ source: some FrameSource, _ handlers: Handlers) async throws(StreamError) -> StreamSummary {
        let start = ContinuousClock.now
        let encoding = configuration.encoding ?? .jpeg(quality: StreamConfiguration.defaultQuality)
        let first: SourceFrame
        do {
            try await source.prepare(needsPixels: true)
            guard let frame = try await source.next() else {
                var summary = StreamSummary(proof: LedgerProof(sent: 0, answered: 0))
                summary.sourceDamage = await source.damage
                return summary
            }
            first = frame
        } catch {
            throw error as? StreamError ?? StreamError(.sourceFailed, "\(error)")
        }
        let isLive = await source.isLive
        let policy: DropPolicy = configuration.stride > 1 ? .everyNth(configuration.stride) : configuration.dropPolicy ?? (isLive ? .latest : .all)
        let feed = try FrameFeed(
            source: source, first: first, encoder: FrameEncoder(encoding: encoding, needsDigest: false), policy: policy, limit: configuration.frameLimit)
        let connection: StreamConnection
        do {
            connection = try await connect(source)
        } catch {
            await source.stop()
            throw error
        }
        let setup = ContinuousClock.now - start
        let job = PrototypeJob(configuration: configuration, connection: connection, source: source, feed: feed, handlers: handlers, log: log)
        var summary = await withTaskCancellationHandler {
            await job.run()
        } onCancel: {
            // The connection's end wakes whatever the job waits for.
            Task { await job.fail(StreamError(.cancelled)) }
        }
        summary.webrtcStats = await connection.peer.getStats()
        summary.setupMilliseconds = setup.inSeconds * 1e3
        return summary
    }

    public func run(
        _ source: some FrameSource, onResult: @escaping @Sendable (StreamResult) async throws -> Void
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
            peer = try await PeerConnection(configuration: configuration.peerConfiguration, logger: log)
        } catch {
            throw StreamError(.cannotConnect, "\(error)")
        }
        do {
            let inference = try await peer.createDataChannel("inference")
            let upstream = try await peer.createDataChannel("upstream_frames")
            let answer = try await Signalling(configuration: configuration).negotiate(peer, declaredFPS: source.declaredFPS).sdp
            guard let chunker = FrameChunker(chunkSize: configuration.chunkSize, maximumMessageSize: answer.announcedMaximumMessageSize) else {
                throw StreamError(.badAnswer, "the server accepts no messages that are long enough for a frame")
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

}

extension StreamConfiguration {
    var peerConfiguration: PeerConnection.Configuration {
        var configuration = peer
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
    private let line: Handoff<StreamResult, StreamError>
    private let task: Task<StreamSummary, any Error>
    /// Where the stream stands; for one consumer. A slow one sees the newest only.
    public let progress: AsyncStream<StreamProgress>

    fileprivate init(client: EveryframeClient, source: some FrameSource) {
        let line = Handoff<StreamResult, StreamError>(capacity: 1)
        self.line = line
        let (progress, standing) = AsyncStream.makeStream(of: StreamProgress.self, bufferingPolicy: .bufferingNewest(1))
        self.progress = progress
        task = Task {
            defer { standing.finish() }
            var handlers = EveryframeClient.Handlers()
            handlers.onResult = { result in
                // acknowledged only when it was taken
                guard await line.hand(result) else { throw StreamError(.cancelled) }
            }
            handlers.onProgress = { standing.yield($0) }
            do {
                let summary = try await client.run(source, handlers: handlers)
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
        public typealias Element = StreamResult
        let run: StreamRun

        public func makeAsyncIterator() -> Results { self }

        public func next() async throws(StreamError) -> StreamResult? { try await run.line.next() }

        public func next(isolation actor: isolated (any Actor)?) async throws(StreamError) -> StreamResult? { try await run.line.next() }
    }
}

extension StreamConfiguration {
    /// Finds what cannot work before anything is opened.
    public func validate() throws(StreamError) {
        func require(_ condition: Bool, _ message: String) throws(StreamError) {
            guard condition else { throw StreamError(.invalidConfiguration, message) }
        }
        _ = try Signalling(configuration: self).endpoint("")
        do { try peer.validate() } catch { throw StreamError(.invalidConfiguration, error.detail) }
        func requireQuality(_ quality: Int, in range: ClosedRange<Int>, _ name: String) throws(StreamError) {
            try require(range.contains(quality), "\(name) quality of \(quality) is not between \(range.lowerBound) and \(range.upperBound)")
        }
        if case .jpeg(let quality) = encoding { try requireQuality(quality, in: 1...100, "a JPEG") }
        switch output.image {
        case .jpeg(let quality): try requireQuality(quality, in: 1...100, "a JPEG")
        case .h264(let quality): try requireQuality(quality, in: 0...51, "an H.264")
        case nil: break
        }
        if wire == .prototype {
            switch encoding {
            case .source, .raw: try require(false, "the prototype's wire carries JPEG and PNG only")
            case nil, .jpeg, .png: break
            }
            try require(output == .data, "the prototype's wire brings no pictures back")
            try require(resume == nil, "a job of the prototype's wire cannot go on in another process")
        }
        if let resume {
            let isToken = ResumeTicket.isValid(token: resume.token) && resume.taken >= 0
            try require(isToken, "'\(resume.token)' is no token of a job: that is what the first process printed, in hexadecimal digits")
        }
        try require(stride >= 1, "a stride of \(stride) is not positive")
        switch dropPolicy {
        case .everyNth(let n): try require(n >= 1, "every \(n)th frame is none")
        case .maximumRate(let rate): try require(rate > 0 && rate.isFinite, "a rate of \(rate) frames a second is none")
        case .maximumLag(let lag): try require(lag > .zero, "a lag of \(lag) leaves no frame")
        case .all, .latest, nil: break
        }
        try require(stride == 1 || dropPolicy == nil || dropPolicy == .all, "a stride and a drop policy exclude each other")
        if let window { try require(window > 0, "the window must hold at least one frame") }
        try require(windowBytes > 0, "the window must hold at least one frame")
        try require(chunkSize > 0, "a chunk must hold at least one byte")
        if let frameLimit { try require(frameLimit > 0, "a limit of \(frameLimit) frames leaves none") }
        if case .named(let names) = dataOutput { try require(!names.contains { $0.isEmpty }, "an output has no name") }
    }
}
