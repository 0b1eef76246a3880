import Everyframe
import FrameTransport
import Media
import NIOCore
import ServiceLifecycle
import Synchronization
import Testing
import WebRTCNIO

@testable import EveryframeServer

/// `everyframe.v1` from the client's public verbs to the server's pipeline, over real sockets.
@Suite(.timeLimit(.minutes(3)), .serialized) struct JobTests {
    @Test("raw pictures arrive to the pixel, in every format and compression")
    func raw() async throws {
        try await withServer { server in
            for (format, compression) in [
                (FrameTransport.PixelFormat.i420, nil), (.nv12, nil), (.bgr24, nil), (.i420, .lz4), (.bgr24, .zstd),
            ] as [(FrameTransport.PixelFormat, Compression?)] {
                var configuration = StreamConfiguration(server: server.url)
                configuration.encoding = .raw(format, compression)
                let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(20, frame: SourceFrame(Pictures.frame)))
                #expect(summary.ok && summary.verification == .proved, "\(format) \(compression?.name ?? "-"): \(summary.verdict)")
            }
        }
    }

    @Test("Control messages as JSON do the same")
    func jsonMessages() async throws {
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.messageFormat = .json
            let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(30))
            #expect(summary.ok && summary.verification == .proved)
        }
    }

    @Test("A picture that is none is asked for again, and then fails alone")
    func undecodable() async throws {
        try await withServer { server in
            let source = ListedSource([Pictures.jpeg, Pictures.jpeg, ByteBuffer(string: "no JPEG at all, whatever it says"), Pictures.jpeg])
            let errors = Mutex<[[String]]>([])
            let summary = try await EveryframeClient(configuration: StreamConfiguration(server: server.url)).run(source) { result in
                errors.withLock { $0.append(result.errors) }
            }
            #expect(errors.withLock { $0.map(\.isEmpty) } == [true, true, false, true])
            #expect(summary.failure == nil && !summary.ok && summary.framesFailed == 1 && summary.retries == 2)
            #expect(summary.verification == .proved)
        }
    }

    @Test("Annotated pictures come in one unit with their data, every one of them", arguments: [StreamConfiguration.ImageFormat.jpeg(), .h264()])
    func pictures(format: StreamConfiguration.ImageFormat) async throws {
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.output = .both(format)
            let sizes = Mutex<[Int]>([])
            let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(40)) { result in
                #expect(result.outputs != nil && result.image?.width == UInt16(Pictures.width))
                sizes.withLock { $0.append(result.image?.bytes.readableBytes ?? 0) }
            }
            #expect(summary.ok)
            #expect(sizes.withLock { $0.count { $0 > 0 } } == 40)
            configuration.output = .video(format)
            let dataless = try await EveryframeClient(configuration: configuration).run(GeneratedSource(5)) { #expect($0.outputs == nil && $0.image != nil) }
            #expect(dataless.ok)
        }
    }

    @Test("What a job asks for and the server has not is refused in words")
    func refused() async throws {
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.dataOutput = .named(["nonsense"])
            let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(5))
            #expect(summary.failure?.code == .refused && summary.failure?.detail.contains("nonsense") == true)
            configuration.dataOutput = .all
            configuration.resume = ResumeTicket(token: String(repeating: "0", count: 32), taken: 0)
            let unknown = try await EveryframeClient(configuration: configuration).run(GeneratedSource(5))
            #expect(unknown.failure?.code == .refused)
        }
    }

    @Test("A cancelled job frees the server at once, whatever state it is in")
    func cancelled() async throws {
        try await withServer({ $0.model = "synthetic:200" }) { server in
            let (results, arrived) = AsyncStream<Int>.makeStream()
            let task = Task {
                try await EveryframeClient(configuration: StreamConfiguration(server: server.url)).run(GeneratedSource(100_000)) { result in
                    arrived.yield(result.frameID)
                }
            }
            var iterator = results.makeAsyncIterator()
            #expect(await iterator.next() == 1)
            task.cancel()
            let summary = try await task.value
            #expect(summary.failure?.code == .cancelled)
            await server.waitUntilEmpty()
            #expect(await server.server.state.jobs == 0)
        }
    }

    @Test("A client that stops reading loses nothing and costs no more than its window")
    func slowReader() async throws {
        try await withServer({ $0.limits.job.framesInFlight = 8 }) { server in
            let (gate, open) = AsyncStream<Void>.makeStream()
            let task = Task {
                try await EveryframeClient(configuration: StreamConfiguration(server: server.url)).run(GeneratedSource(200)) { result in
                    guard result.frameID == 3 else { return }
                    for await _ in gate { break }
                }
            }
            // the server comes to rest with the window full
            while await server.server.state.resultBytes == 0, !Task.isCancelled { await Task.yield() }
            var last = -1
            while true {
                let now = await server.server.state.answered
                if now == last, now > 0 { break }
                last = now
                try await Task.sleep(for: .milliseconds(100))
            }
            #expect(await server.server.state.answered <= 2 + 8)
            open.yield()
            open.finish()
            let summary = try await task.value
            #expect(summary.ok && summary.resultsReceived == 200)
        }
    }

    @Test("Many sources share a few connections, side by side and one after the other")
    func pool() async throws {
        try await withServer { server in
            let pool = try EveryframeClient(configuration: StreamConfiguration(server: server.url)).pool(size: 2)
            let summaries = try await withThrowingTaskGroup(of: StreamSummary.self) { group in
                for _ in 0..<12 { group.addTask { try await pool.run(GeneratedSource(25)) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(summaries.count == 12 && summaries.allSatisfy { $0.ok && $0.verification == .proved })
            #expect(await pool.connections == 2)
            #expect(await server.server.sessionCount == 2)
            #expect(try await pool.run(GeneratedSource(3)).ok)
            await pool.close()
            await server.waitUntilEmpty()
        }
    }

    @Test(
        "A live source is never asked to wait: what there is no room for is dropped by choice and counted",
        arguments: [DropPolicy.latest, .maximumLag(.milliseconds(50))])
    func live(policy: DropPolicy) async throws {
        try await withServer({
            $0.model = "synthetic:30"
            $0.limits.job.framesInFlight = 2
        }) { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.dropPolicy = policy
            let source = LiveSource(200, every: .milliseconds(2))
            let summary = try await EveryframeClient(configuration: configuration).run(source)
            #expect(summary.ok, "\(summary.verdict) \(summary.failure.map { "\($0)" } ?? "")")
            #expect(summary.framesDecoded == 200 && summary.dropped.total > 0)
            #expect(summary.framesSent + summary.dropped.total == 200)
        }
    }

    @Test("A shutdown ends jobs in words, and what was taken stays taken")
    func shutdown() async throws {
        try await withServer({ $0.model = "synthetic:20" }) { server in
            let (results, arrived) = AsyncStream<Int>.makeStream()
            let task = Task {
                try await EveryframeClient(configuration: StreamConfiguration(server: server.url)).run(GeneratedSource(100_000)) { arrived.yield($0.frameID) }
            }
            var iterator = results.makeAsyncIterator()
            _ = await iterator.next()
            await server.group.triggerGracefulShutdown()
            let summary = try await task.value
            #expect(summary.failure?.code == .endedByServer && summary.failure?.detail.contains("shut") == true)
        }
    }
}

/// Pictures in a row.
actor ListedSource: FrameSource {
    private var left: [ByteBuffer]

    init(_ pictures: [ByteBuffer]) { left = pictures.reversed() }

    func next() -> SourceFrame? { left.popLast().map { SourceFrame(encoded: $0, as: .jpeg, width: Pictures.width, height: Pictures.height) } }
}

/// A camera: its next frame comes when it comes.
actor LiveSource: FrameSource {
    private var left: Int
    private var due = ContinuousClock.now
    private let interval: Duration
    nonisolated let isLive = true

    init(_ count: Int, every interval: Duration) {
        left = count
        self.interval = interval
    }

    func next() async throws -> SourceFrame? {
        guard left > 0 else { return nil }
        left -= 1
        due += interval
        try await Task.sleep(until: due, clock: .continuous)
        return SourceFrame(encoded: Pictures.jpeg, as: .jpeg, width: Pictures.width, height: Pictures.height)
    }
}
