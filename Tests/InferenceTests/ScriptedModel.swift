import Media
import Synchronization

@testable import Inference

/// A model whose engine is the test: each batch comes out of `calls` and waits there for its answer.
final class ScriptedModel: Model {
    struct Call: Sendable {
        /// The presentation times of its frames, by which tests know them.
        var frames: [Int64]
        var sizes: Set<Int>
        fileprivate var id: Int
        fileprivate var model: ScriptedModel

        func answer(_ result: Result<[FrameResult], InferenceError>) { model.answer(id, result) }

        /// Each frame with an answer as wide as its presentation time.
        func answer() { answer(.success(frames.map { FrameResult(detections: [], width: Int($0), height: 1, inferred: .milliseconds(3)) })) }
    }

    let name = "scripted"
    let classNames: [String] = []
    let engine = EngineInfo(name: "test", version: "1", device: "none")
    let requestsInFlight: Int
    let batchSize: Int
    let mixesGeometries: Bool
    let isSynthetic = false
    let calls: AsyncStream<Call>
    private let input: AsyncStream<Call>.Continuation
    private typealias Waiter = CheckedContinuation<Result<[FrameResult], InferenceError>, Never>
    private let waiters = Mutex<[Int: Waiter]>([:])
    private let counts = Mutex<(next: Int, cancelled: Int)>((0, 0))

    /// How many calls were cancelled.
    var cancelled: Int { counts.withLock { $0.cancelled } }

    init(requestsInFlight: Int = 1, batchSize: Int = 1, mixesGeometries: Bool = false) {
        self.requestsInFlight = requestsInFlight
        self.batchSize = batchSize
        self.mixesGeometries = mixesGeometries
        (calls, input) = AsyncStream.makeStream()
    }

    func infer(_ frames: [VideoFrame]) async throws(InferenceError) -> [FrameResult] {
        let id = counts.withLock { counts in
            counts.next += 1
            return counts.next
        }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { (waiter: Waiter) in
                waiters.withLock { $0[id] = waiter }
                input.yield(Call(frames: frames.map(\.pts), sizes: Set(frames.map(\.width)), id: id, model: self))
                if Task.isCancelled { cancel(id) }
            }
        } onCancel: {
            cancel(id)
        }
        return try result.get()
    }

    private func cancel(_ id: Int) {
        guard let waiter = waiters.withLock({ $0.removeValue(forKey: id) }) else { return }
        counts.withLock { $0.cancelled += 1 }
        waiter.resume(returning: .failure(.cancelled))
    }

    private func answer(_ id: Int, _ result: Result<[FrameResult], InferenceError>) {
        waiters.withLock { $0.removeValue(forKey: id) }?.resume(returning: result)
    }
}

/// Time that passes when the test says so.
final class VirtualClock: BatchClock {
    private struct State {
        var now = ContinuousClock.now
        var timers: [(time: ContinuousClock.Instant, body: @Sendable () -> Void)] = []
    }

    private let state = Mutex(State())

    var now: ContinuousClock.Instant { state.withLock { $0.now } }
    var timers: Int { state.withLock { $0.timers.count } }

    func wake(at time: ContinuousClock.Instant, _ body: @escaping @Sendable () -> Void) { state.withLock { $0.timers.append((time, body)) } }

    func advance(by duration: Duration) {
        let due = state.withLock { state in
            let now = state.now + duration
            state.now = now
            defer { state.timers.removeAll { $0.time <= now } }
            return state.timers.filter { $0.time <= now }.map(\.body)
        }
        for body in due { body() }
    }
}

/// A stream of a batcher and what it was answered.
struct Session: Sendable {
    typealias Answer = (frame: Int64, result: Result<Batcher.Batched, InferenceError>)

    let stream: Batcher.Stream
    let answers: AsyncStream<Answer>
    private let output: AsyncStream<Answer>.Continuation

    init(_ batcher: Batcher) {
        stream = batcher.makeStream()
        (answers, output) = AsyncStream.makeStream()
    }

    func submit(_ frames: some Sequence<Int64>, width: Int = 2) {
        for frame in frames {
            stream.submit(Self.frame(frame, width: width)) { [output] in output.yield((frame, $0)) }
        }
    }

    static func frame(_ number: Int64, width: Int = 2) -> VideoFrame { VideoFrame(.bgr24, width: width, height: 1, pts: number) { _ in } }
}

extension AsyncStream where Element: Sendable {
    /// The next elements; fewer where the stream ends. Bounded by the suite's time limit.
    func next(_ count: Int) async -> [Element] {
        var found: [Element] = []
        var iterator = makeAsyncIterator()
        while found.count < count, let element = await iterator.next() { found.append(element) }
        return found
    }
}
