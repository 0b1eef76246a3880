import Dispatch
import Foundation
import Inference
import Media
import Synchronization

/// What the engine and the codecs reach on this machine with nothing else around them. Prints one JSON object.
///
///     engine-bench engine VIDEO [MODEL [FRAMES]]     the detector over frames that are decoded already
///     engine-bench pipeline VIDEO [MODEL]            decoder, batcher and detector, as in the server, over the whole video
///     engine-bench codecs VIDEO QUALITY              the codecs of a job that travels as JPEG: decode, encode, decode
@main struct EngineBench {
    /// Frames kept decoded by `engine`; they are used again and again.
    private static let kept = 200
    /// Decoded and not answered, as in a session of the server.
    private static let inPipeline = 16

    static func main() async throws {
        let arguments = Array(CommandLine.arguments.dropFirst())
        guard arguments.count >= 2 else { usage() }
        let (video, rest) = (arguments[1], arguments.dropFirst(2))
        var result: [String: Any]
        switch arguments[0] {
        case "engine":
            result = try await engine(
                ModelCatalog.load(rest.first ?? ModelCatalog.defaultID), video, total: rest.dropFirst().first.flatMap { Int($0) } ?? 795)
        case "pipeline": result = try await pipeline(ModelCatalog.load(rest.first ?? ModelCatalog.defaultID), video)
        case "codecs": result = try await codecs(video, quality: rest.first.flatMap { Int($0) } ?? 85)
        default: usage()
        }
        if let frames = result["frames"] as? Int, let seconds = result["seconds"] as? Double { result["fps"] = Double(frames) / seconds }
        print(String(decoding: try JSONSerialization.data(withJSONObject: result, options: .sortedKeys), as: UTF8.self))
    }

    private static func usage() -> Never {
        print("usage: engine-bench engine VIDEO [MODEL [FRAMES]] | pipeline VIDEO [MODEL] | codecs VIDEO QUALITY")
        exit(2)
    }

    // MARK: The engine alone

    private static func engine(_ model: any Model, _ video: String, total: Int) async throws -> [String: Any] {
        let frames = try decoded(video, kept)
        guard !frames.isEmpty else {
            print("no frame in \(video)")
            exit(1)
        }
        _ = try await run(model, frames, total: min(total, 40))  // the engine's first requests allocate
        let stopwatch = Stopwatch()
        let detections = try await run(model, frames, total: total)
        return describe(model).merging(stopwatch.figures) { $1 }.merging(["frames": total, "detections": detections]) { $1 }
    }

    private static func decoded(_ video: String, _ count: Int) throws -> [VideoFrame] {
        let reader = try VideoFileReader(path: video)
        var frames: [VideoFrame] = []
        while frames.count < count, let frame = try reader.next() { frames.append(frame) }
        return frames
    }

    /// As many batches at a time as the engine takes.
    private static func run(_ model: any Model, _ frames: [VideoFrame], total: Int) async throws -> Int {
        var next = 0
        var detections = 0
        try await withThrowingTaskGroup(of: Int.self) { group in
            func add() {
                let batch = (next..<min(next + model.batchSize, total)).map { frames[$0 % frames.count] }
                next += batch.count
                group.addTask { try await model.infer(batch).reduce(0) { $0 + $1.detections.count } }
            }
            while next < total, next < model.requestsInFlight * model.batchSize { add() }
            while let found = try await group.next() {
                detections += found
                if next < total { add() }
            }
        }
        return detections
    }

    // MARK: Decoder and engine

    /// The best that a job can reach which decodes here: a thread reads and decodes, and hands in as a job of the server does.
    private static func pipeline(_ model: any Model, _ video: String) async throws -> [String: Any] {
        _ = try await run(model, try decoded(video, 8), total: 40)
        let stopwatch = Stopwatch()
        let (frames, detections) = try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: Result { try decodeAndInfer(model, video) }) }.start()
        }
        return describe(model).merging(stopwatch.figures) { $1 }.merging(["frames": frames, "detections": detections]) { $1 }
    }

    private static func decodeAndInfer(_ model: any Model, _ video: String) throws -> (frames: Int, detections: Int) {
        // threads as the server gives a decoder
        let reader = try VideoFileReader(path: video, configuration: .init(threads: ProcessInfo.processInfo.activeProcessorCount))
        let stream = Batcher(model: model).makeStream()
        let places = DispatchSemaphore(value: inPipeline)
        let outcome = Mutex((detections: 0, failure: InferenceError?.none))
        var frames = 0
        while let frame = try reader.next() {
            frames += 1
            places.wait()
            stream.submit(frame) { result in
                outcome.withLock { outcome in
                    switch result {
                    case .success(let batched): outcome.detections += batched.result.detections.count
                    case .failure(let error): outcome.failure = error
                    }
                }
                places.signal()
            }
        }
        for _ in 0..<inPipeline { places.wait() }
        // a semaphore must not die below where it began
        for _ in 0..<inPipeline { places.signal() }
        if let failure = outcome.withLock({ $0.failure }) { throw failure }
        return (frames, outcome.withLock { $0.detections })
    }

    // MARK: Codecs

    /// Unchecked: whoever holds the lock has the reader alone.
    private final class SharedReader: @unchecked Sendable {
        private let reader: VideoFileReader
        private let lock = NSLock()

        init(path: String) throws { reader = try VideoFileReader(path: path) }

        func next() throws -> VideoFrame? { try lock.withLock { try reader.next() } }
    }

    /// All cores at work, as in the job: a CPU second holds less when the other core works, too.
    private static func codecs(_ video: String, quality: Int) async throws -> [String: Any] {
        let stopwatch = Stopwatch()
        let source = try SharedReader(path: video)
        let (frames, bytes) = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
            for _ in 0..<max(1, ProcessInfo.processInfo.activeProcessorCount) {
                group.addTask {
                    let (encoder, decoder) = (JPEGCodec(), JPEGCodec())
                    var (frames, bytes) = (0, 0)
                    while let frame = try source.next() {
                        let jpeg = try encoder.encode(frame, quality: quality)
                        _ = try decoder.decode(jpeg, to: .i420)
                        frames += 1
                        bytes += jpeg.count
                    }
                    return (frames, bytes)
                }
            }
            return try await group.reduce((0, 0)) { ($0.0 + $1.0, $0.1 + $1.1) }
        }
        return stopwatch.figures.merging(["frames": frames, "bytes": bytes]) { $1 }
    }

    // MARK: Figures

    private static func describe(_ model: any Model) -> [String: Any] {
        [
            "model": model.name, "engine": "\(model.engine.name) \(model.engine.version)", "requests_in_flight": model.requestsInFlight,
            "batch": model.batchSize,
        ]
    }

    private struct Stopwatch {
        private let begin = ContinuousClock.now
        private let cpu = processorSeconds()

        var figures: [String: Any] { ["seconds": (ContinuousClock.now - begin) / .seconds(1), "cpu_s": EngineBench.processorSeconds() - cpu] }
    }

    fileprivate static func processorSeconds() -> Double {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
    }
}
