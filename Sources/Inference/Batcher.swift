package import Media
import Synchronization

/// Feeds one model from many streams of frames: fairly, in batches where the engine gains by them, and so that it never idles while
/// frames wait. One for each model, shared by all sessions.
///
/// At most `requestsInFlight` batches are in the engine, and `ahead` more are handed in behind them, for an engine takes the next
/// batch itself when one ends. What else waits here is bounded by the callers' credit.
package final class Batcher: Sendable {
    package struct Options: Sendable {
        /// Frames in a batch; nil: the model's `batchSize`.
        package var maximumBatch: Int?
        /// How long an idle engine waits for a batch to grow. With batches of one nothing waits.
        package var maximumWait: Duration
        /// Batches handed in beyond those the engine works on; nil: as many as it works on.
        package var ahead: Int?

        package init(maximumBatch: Int? = nil, maximumWait: Duration = .milliseconds(2), ahead: Int? = nil) {
            self.maximumBatch = maximumBatch
            self.maximumWait = maximumWait
            self.ahead = ahead
        }
    }

    /// What became of a frame.
    package struct Batched: Sendable {
        package var result: FrameResult
        /// Until it was handed to the engine as part of a batch; how long it waited there is `result.waited`.
        package var queued: Duration
        /// The engine's own time, of the whole batch.
        package var inferred: Duration
        package var batchSize: Int
    }

    package typealias Completion = @Sendable (Result<Batched, InferenceError>) -> Void

    /// Since the start, and as things stand.
    package struct Statistics: Hashable, Sendable {
        package var batches = 0
        /// In those batches; one that was tried again counts twice.
        package var frames = 0
        package var answered = 0
        package var failed = 0
        package var cancelled = 0
        /// Tried again alone, because a batch failed.
        package var retried = 0
        /// Waiting here.
        package var queueDepth = 0
        /// Batches handed to the engine and not answered.
        package var batchesInEngine = 0

        /// Frames in a batch, on average.
        package var occupancy: Double { batches == 0 ? 0 : Double(frames) / Double(batches) }
    }

    /// One session's frames, or one job's.
    package final class Stream: Sendable {
        private let batcher: Batcher
        private let id: UInt64

        fileprivate init(batcher: Batcher, id: UInt64) {
            self.batcher = batcher
            self.id = id
        }

        deinit { batcher.retire(id) }

        /// Hands in a frame, from any thread, without waiting. `completion` is called once, on a thread of the batcher's or the
        /// caller's choice, and must not block. Completions come in any order.
        package func submit(_ frame: VideoFrame, completion: @escaping Completion) { batcher.submit(frame, stream: id, completion: completion) }

        /// Everything that has no answer yet, and whatever is submitted from now on, completes as `.cancelled`.
        package func cancel() { batcher.cancel(id) }
    }

    package let model: any Model
    package let maximumBatch: Int
    package let requestsInFlight: Int
    package let ahead: Int
    private let clock: any BatchClock
    private let state: Mutex<State>

    package init(model: any Model, options: Options = Options(), clock: any BatchClock = SystemBatchClock()) {
        self.model = model
        self.clock = clock
        maximumBatch = max(1, options.maximumBatch ?? model.batchSize)
        requestsInFlight = max(1, model.requestsInFlight)
        ahead = max(0, options.ahead ?? max(1, model.requestsInFlight))
        state = Mutex(State(queue: BatchQueue(maximumBatch: maximumBatch, maximumWait: options.maximumWait)))
    }

    package func makeStream() -> Stream {
        let id = state.withLock { state in
            state.nextID += 1
            state.streams.insert(state.nextID)
            return state.nextID
        }
        return Stream(batcher: self, id: id)
    }

    package var statistics: Statistics {
        state.withLock { state in
            var statistics = state.statistics
            statistics.queueDepth = state.queue.count
            statistics.batchesInEngine = state.running.count
            return statistics
        }
    }

    // MARK: Inside

    private struct Frame: Sendable {
        var picture: VideoFrame
        var completion: Completion
    }

    private typealias Item = BatchQueue<Frame>.Item

    private struct Batch: Sendable {
        /// Those that were cancelled leave nil behind: the answers come by place.
        var items: [Item?]
        var handedIn: ContinuousClock.Instant
        /// Owned here: it ends by itself, or is cancelled when nobody wants its answers any more.
        var task: Task<Void, Never>?
    }

    private struct State: Sendable {
        var queue: BatchQueue<Frame>
        var running: [UInt64: Batch] = [:]
        var streams: Set<UInt64> = []
        var statistics = Statistics()
        var nextID: UInt64 = 0
        /// When the clock wakes us.
        var wakeUp: ContinuousClock.Instant?
    }

    private func submit(_ picture: VideoFrame, stream: UInt64, completion: @escaping Completion) {
        let geometry = model.mixesGeometries ? .any : BatchQueue<Frame>.Geometry(width: picture.width, height: picture.height)
        let item = Item(stream: stream, geometry: geometry, submitted: clock.now, frame: Frame(picture: picture, completion: completion))
        let isTaken = state.withLock { state in
            guard state.streams.contains(stream) else {
                state.statistics.cancelled += 1
                return false
            }
            state.queue.add(item)
            return true
        }
        if isTaken { pump() } else { completion(.failure(.cancelled)) }
    }

    /// Hands in what the policy allows now, and has the clock come back for the rest.
    private func pump() {
        let now = clock.now
        let wakeUp: ContinuousClock.Instant? = state.withLock { state in
            while state.running.count < requestsInFlight + ahead,
                let items = state.queue.take(isIdle: state.running.count < requestsInFlight, at: now)
            {
                start(items, &state, at: now)
            }
            guard state.running.count < requestsInFlight, let due = state.queue.due, due < state.wakeUp ?? due + .nanoseconds(1) else { return nil }
            state.wakeUp = due
            return due
        }
        guard let wakeUp else { return }
        clock.wake(at: wakeUp) { [weak self] in
            guard let self else { return }
            state.withLock { state in if state.wakeUp == wakeUp { state.wakeUp = nil } }
            pump()
        }
    }

    private func start(_ items: [Item], _ state: inout State, at now: ContinuousClock.Instant) {
        state.nextID += 1
        let id = state.nextID
        state.statistics.batches += 1
        state.statistics.frames += items.count
        let pictures = items.map(\.frame.picture)
        let task = Task {
            let answer: Result<[FrameResult], InferenceError>
            do throws(InferenceError) { answer = .success(try await model.infer(pictures)) } catch { answer = .failure(error) }
            self.finish(id, answer)
        }
        state.running[id] = Batch(items: items, handedIn: now, task: task)
    }

    private func finish(_ id: UInt64, _ answer: Result<[FrameResult], InferenceError>) {
        var completions: [(Completion, Result<Batched, InferenceError>)] = []
        state.withLock { state in
            guard let batch = state.running.removeValue(forKey: id) else { return }
            let count = batch.items.count
            var answer = answer
            if case .success(let results) = answer, results.count != count {
                answer = .failure(.inferenceFailed(reason: "\(results.count) answers to \(count) frames"))
            }
            switch answer {
            case .success(let results):
                for case (let item?, let result) in zip(batch.items, results) {
                    let batched = Batched(
                        result: result, queued: batch.handedIn - item.submitted, inferred: result.inferred, batchSize: count)
                    completions.append((item.frame.completion, .success(batched)))
                }
                state.statistics.answered += completions.count
            case .failure(let error) where count > 1 && error != .cancelled:
                // perhaps it is one frame's fault
                let items = batch.items.compactMap(\.self)
                state.statistics.retried += items.count
                state.queue.addAlone(items)
            case .failure(let error):
                completions = batch.items.compactMap { item in item.map { ($0.frame.completion, .failure(error)) } }
                if error == .cancelled { state.statistics.cancelled += completions.count } else { state.statistics.failed += completions.count }
            }
        }
        pump()
        for (completion, result) in completions { completion(result) }
    }

    private func cancel(_ stream: UInt64) {
        var completions: [Completion] = []
        var unwanted: [Task<Void, Never>] = []
        state.withLock { state in
            guard state.streams.remove(stream) != nil else { return }
            completions = state.queue.remove(stream: stream).map(\.frame.completion)
            for id in state.running.keys {
                guard let items = state.running[id]?.items, items.contains(where: { $0?.stream == stream }) else { continue }
                completions += items.compactMap { $0?.stream == stream ? $0?.frame.completion : nil }
                state.running[id]?.items = items.map { $0?.stream == stream ? nil : $0 }
                if items.allSatisfy({ $0 == nil || $0?.stream == stream }), let task = state.running[id]?.task { unwanted.append(task) }
            }
            state.statistics.cancelled += completions.count
        }
        // not under the lock: a cancelled engine may answer from within
        for task in unwanted { task.cancel() }
        for completion in completions { completion(.failure(.cancelled)) }
        pump()
    }

    /// Nobody can submit to the stream any more; what waits is answered.
    private func retire(_ stream: UInt64) {
        _ = state.withLock { $0.streams.remove(stream) }
    }
}
