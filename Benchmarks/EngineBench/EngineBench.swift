import Foundation
import Inference
import Media

/// The detector over decoded frames with nothing else around it: what the engine alone reaches on this machine.
///
///     engine-bench VIDEO [MODEL [FRAMES]]     prints one JSON object
@main struct EngineBench {
    /// Frames kept decoded; they are used again and again.
    private static let kept = 200

    static func main() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard let video = arguments.first else {
            print("usage: engine-bench VIDEO [MODEL [FRAMES]]")
            exit(2)
        }
        let model = try await ModelCatalog.load(arguments.dropFirst().first ?? ModelCatalog.defaultID)
        let reader = try VideoFileReader(path: video)
        var decoded: [VideoFrame] = []
        while decoded.count < kept, let frame = try reader.next() { decoded.append(frame) }
        guard !decoded.isEmpty else {
            print("no frame in \(video)")
            exit(1)
        }
        let frames = decoded
        let total = arguments.dropFirst(2).first.flatMap { Int($0) } ?? 795
        _ = try await run(model, frames, total: min(total, 40))  // the engine's first requests allocate
        let cpu = processorSeconds()
        let (seconds, detections) = try await run(model, frames, total: total)
        let result: [String: Any] = [
            "model": model.name, "engine": "\(model.engine.name) \(model.engine.version)", "requests_in_flight": model.requestsInFlight,
            "batch": model.batchSize, "frames": total, "seconds": seconds, "fps": Double(total) / seconds, "cpu_s": processorSeconds() - cpu,
            "detections": detections,
        ]
        print(String(decoding: try JSONSerialization.data(withJSONObject: result, options: .sortedKeys), as: UTF8.self))
    }

    /// As many batches at a time as the engine takes.
    private static func run(_ model: any Model, _ frames: [VideoFrame], total: Int) async throws -> (seconds: Double, detections: Int) {
        let begin = ContinuousClock.now
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
        return ((ContinuousClock.now - begin) / .seconds(1), detections)
    }

    private static func processorSeconds() -> Double {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
    }
}
