/// Which frames wait for a model, and which of them are the next batch: the policy of `Batcher`, as a value without a clock.
///
/// Streams take turns, one frame each, whoever was served goes to the end: a stream with thousands of frames delays another by one
/// frame. A batch holds frames of one geometry, as its first one has it. A whole batch may go at once; what could still grow waits
/// for `maximumWait` and for an engine with nothing to do, since a busy one would only fix the batch's size too early.
struct BatchQueue<Frame: Sendable>: Sendable {
    struct Item: Sendable {
        var stream: UInt64
        /// Frames with the same may share a batch.
        var geometry: Geometry
        var submitted: ContinuousClock.Instant
        var frame: Frame
    }

    struct Geometry: Hashable, Sendable {
        var width, height: Int

        static var any: Geometry { Geometry(width: 0, height: 0) }
    }

    private struct Line: Sendable {
        var items: [Item] = []
        /// What is before it was taken, and is dropped now and then.
        var first = 0

        var waiting: ArraySlice<Item> { items[first...] }

        mutating func take() -> Item {
            let item = items[first]
            first += 1
            if first > 64, first * 2 > items.count {
                items.removeFirst(first)
                first = 0
            }
            return item
        }
    }

    /// Frames that could be a batch.
    private struct Candidate {
        var geometry: Geometry
        var count: Int
        var oldest: ContinuousClock.Instant
    }

    let maximumBatch: Int
    let maximumWait: Duration
    private var lines: [UInt64: Line] = [:]
    /// The streams that have something waiting, the next to be served first.
    private var turns: [UInt64] = []
    /// To be inferred each on its own, before all others: they had their turn.
    private var alone: [Item] = []
    private(set) var count = 0

    init(maximumBatch: Int, maximumWait: Duration) {
        self.maximumBatch = max(1, maximumBatch)
        self.maximumWait = max(.zero, maximumWait)
    }

    mutating func add(_ item: Item) {
        count += 1
        if lines[item.stream] == nil { turns.append(item.stream) }
        lines[item.stream, default: Line()].items.append(item)
    }

    mutating func addAlone(_ items: [Item]) {
        count += items.count
        alone += items
    }

    /// Everything that waits of a stream.
    mutating func remove(stream: UInt64) -> [Item] {
        var removed = alone.filter { $0.stream == stream }
        alone.removeAll { $0.stream == stream }
        if let line = lines.removeValue(forKey: stream) {
            turns.removeAll { $0 == stream }
            removed += line.waiting
        }
        count -= removed.count
        return removed
    }

    /// The next batch, if one is to go now. `isIdle`: the engine would begin with it at once.
    mutating func take(isIdle: Bool, at now: ContinuousClock.Instant) -> [Item]? {
        guard count > 0 else { return nil }
        if !alone.isEmpty {
            count -= 1
            return [alone.removeFirst()]
        }
        let candidates = candidates()
        // while whole batches keep the engine busy, one that is not gets its turn among them nevertheless
        let isAnyWhole = candidates.contains { $0.count >= maximumBatch }
        let next = candidates.first { candidate in
            candidate.count >= maximumBatch || ((isIdle || isAnyWhole) && candidate.oldest + maximumWait <= now)
        }
        return next.map { gather($0.geometry) }
    }

    /// When an idle engine is to get a batch that is not whole.
    var due: ContinuousClock.Instant? { candidates().map(\.oldest).min().map { $0 + maximumWait } }

    /// One for each geometry of the streams' next frames, in the order of turns; no more once the first is whole.
    private func candidates() -> [Candidate] {
        var found: [Candidate] = []
        for stream in turns {
            guard let line = lines[stream], let head = line.waiting.first else { continue }
            let place = found.firstIndex { $0.geometry == head.geometry } ?? found.endIndex
            if place == found.endIndex { found.append(Candidate(geometry: head.geometry, count: 0, oldest: head.submitted)) }
            found[place].oldest = min(found[place].oldest, head.submitted)
            for item in line.waiting.prefix(maximumBatch) {
                guard item.geometry == head.geometry, found[place].count < maximumBatch else { break }
                found[place].count += 1
            }
            if found[0].count >= maximumBatch { break }
        }
        return found
    }

    private mutating func gather(_ geometry: Geometry) -> [Item] {
        var batch: [Item] = []
        var isFound = true
        while isFound, batch.count < maximumBatch {
            isFound = false
            var passed: [UInt64] = []
            var served: [UInt64] = []
            for (index, stream) in turns.enumerated() {
                guard batch.count < maximumBatch else {
                    passed += turns[index...]
                    break
                }
                guard lines[stream]?.waiting.first?.geometry == geometry, let item = lines[stream]?.take() else {
                    passed.append(stream)
                    continue
                }
                isFound = true
                batch.append(item)
                if lines[stream]?.waiting.isEmpty ?? true { lines[stream] = nil } else { served.append(stream) }
            }
            turns = passed + served
        }
        count -= batch.count
        return batch
    }
}
