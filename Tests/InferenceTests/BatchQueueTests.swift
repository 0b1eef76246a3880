import Testing

@testable import Inference

/// Which frames go when, without an engine.
@Suite struct BatchQueueTests {
    private typealias Queue = BatchQueue<Int>

    private let start = ContinuousClock.now

    private func item(_ stream: UInt64, _ frame: Int, width: Int = 1, at time: Duration = .zero) -> Queue.Item {
        Queue.Item(stream: stream, geometry: Queue.Geometry(width: width, height: 1), submitted: start + time, frame: frame)
    }

    private func frames(_ items: [Queue.Item]?) -> [Int]? { items.map { $0.map(\.frame) } }

    @Test("Streams take turns, however much one of them has waiting")
    func turns() {
        var queue = Queue(maximumBatch: 1, maximumWait: .zero)
        for frame in 0..<10_000 { queue.add(item(1, frame)) }
        for stream in 2...4 as ClosedRange<UInt64> { queue.add(item(stream, Int(stream) * 100_000)) }
        let first = (0..<4).compactMap { _ in queue.take(isIdle: true, at: start)?.first?.stream }
        #expect(Set(first) == [1, 2, 3, 4])
        let rest = (0..<9_999).compactMap { _ in frames(queue.take(isIdle: true, at: start))?.first }
        #expect(rest == Array(1..<10_000), "each stream in its own order")
        #expect(queue.count == 0 && queue.take(isIdle: true, at: start) == nil)
    }

    @Test("A batch takes one frame of each stream before it takes a second of one")
    func gathers() {
        var queue = Queue(maximumBatch: 4, maximumWait: .zero)
        for frame in 0..<8 { queue.add(item(1, frame)) }
        queue.add(item(2, 20))
        queue.add(item(3, 30))
        #expect(frames(queue.take(isIdle: false, at: start)) == [0, 20, 30, 1])
        #expect(frames(queue.take(isIdle: false, at: start)) == [2, 3, 4, 5])
        #expect(frames(queue.take(isIdle: false, at: start)) == nil, "two are no whole batch, and the engine is busy")
        #expect(frames(queue.take(isIdle: true, at: start)) == [6, 7])
    }

    @Test("The turn goes on behind the last who was served")
    func goesOn() {
        var queue = Queue(maximumBatch: 2, maximumWait: .zero)
        for stream in 1...3 as ClosedRange<UInt64> { for frame in 0..<2 { queue.add(item(stream, Int(stream) * 10 + frame)) } }
        #expect(frames(queue.take(isIdle: true, at: start)) == [10, 20])
        #expect(frames(queue.take(isIdle: true, at: start)) == [30, 11])
        #expect(frames(queue.take(isIdle: true, at: start)) == [21, 31])
    }

    @Test("What is not whole waits for the idle engine, and for no longer than it may")
    func waits() {
        var queue = Queue(maximumBatch: 3, maximumWait: .milliseconds(2))
        queue.add(item(1, 1))
        queue.add(item(2, 2, at: .milliseconds(1)))
        #expect(queue.due == start + .milliseconds(2))
        #expect(frames(queue.take(isIdle: true, at: start + .milliseconds(1))) == nil)
        #expect(frames(queue.take(isIdle: false, at: start + .milliseconds(9))) == nil)
        #expect(frames(queue.take(isIdle: true, at: start + .milliseconds(2))) == [1, 2])
        #expect(queue.due == nil)
    }

    @Test("Frames of different sizes share no batch; a rare size gets its turn among whole batches of another")
    func geometries() {
        var queue = Queue(maximumBatch: 2, maximumWait: .milliseconds(2))
        queue.add(item(9, 900, width: 5))
        var taken: [[Int]] = []
        for round in 0..<4 {
            for stream in 1...2 as ClosedRange<UInt64> { queue.add(item(stream, Int(stream) * 10 + round, at: .milliseconds(round))) }
            if let batch = frames(queue.take(isIdle: false, at: start + .milliseconds(round))) { taken.append(batch) }
        }
        #expect(taken == [[10, 20], [11, 21], [900], [12, 22]])
    }

    @Test("A stream whose pictures change their size keeps their order")
    func changes() {
        var queue = Queue(maximumBatch: 4, maximumWait: .zero)
        for (frame, width) in [1, 1, 2, 1].enumerated() { queue.add(item(1, frame, width: width)) }
        #expect(frames(queue.take(isIdle: true, at: start)) == [0, 1])
        #expect(frames(queue.take(isIdle: true, at: start)) == [2])
        #expect(frames(queue.take(isIdle: true, at: start)) == [3])
    }

    @Test("What is removed is gone, and leaves the others their turns")
    func removes() {
        var queue = Queue(maximumBatch: 2, maximumWait: .zero)
        for stream in 1...3 as ClosedRange<UInt64> { for frame in 0..<3 { queue.add(item(stream, Int(stream) * 10 + frame)) } }
        _ = queue.take(isIdle: true, at: start)
        queue.addAlone([item(2, 99)])
        #expect(queue.remove(stream: 2).map(\.frame).sorted() == [21, 22, 99])
        #expect(queue.remove(stream: 7).isEmpty)
        #expect(queue.count == 5)
        #expect(frames(queue.take(isIdle: true, at: start)) == [30, 11])
    }
}
