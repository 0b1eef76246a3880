import Inference
import Media
import Testing

@Suite(.timeLimit(.minutes(1))) struct SyntheticModelTests {
    private func waits(_ model: SyntheticModel, frames: Int) async throws -> [Duration] {
        try await model.infer((0..<frames).map { Session.frame(Int64($0)) }).map(\.waited)
    }

    @Test("One slot works on one frame after the other")
    func serial() async throws {
        let waits = try await waits(SyntheticModel(delay: .milliseconds(2)), frames: 4)
        #expect(waits == (0..<4).map { .milliseconds(2 * $0) })
    }

    @Test("Four slots do in the same time four times as much")
    func parallel() async throws {
        let waits = try await waits(SyntheticModel(delay: .milliseconds(2), requestsInFlight: 4), frames: 12)
        #expect(waits == (0..<12).map { .milliseconds(2 * ($0 / 4)) })
    }

    @Test("A batch takes the time of one frame")
    func batches() async throws {
        let waits = try await waits(SyntheticModel(delay: .milliseconds(2), batchSize: 3), frames: 7)
        #expect(waits == [0, 0, 0, 2, 2, 2, 4].map { .milliseconds($0) })
    }

    @Test("What was cancelled before it began keeps nobody waiting")
    func cancel() async throws {
        let model = SyntheticModel(delay: .milliseconds(100))
        let first = Task { try await model.infer(Session.frame(1)) }
        let second = Task { try await model.infer((2...9).map { Session.frame($0) }) }
        second.cancel()
        await #expect(throws: InferenceError.cancelled) { try await second.value }
        let waited = try await model.infer(Session.frame(10)).waited
        #expect(waited <= .milliseconds(200), "the first, and the one of the second's that may have begun")
        _ = try await first.value
    }

    @Test("Through a batcher every frame of every stream is answered", arguments: [(1, 1), (4, 1), (2, 4)])
    func batched(requests: Int, batchSize: Int) async throws {
        let batcher = Batcher(model: SyntheticModel(delay: .microseconds(200), requestsInFlight: requests, batchSize: batchSize))
        let sessions = (0..<5).map { _ in Session(batcher) }
        for session in sessions { session.submit(0..<40, width: Int.random(in: 1...2)) }
        for session in sessions {
            let answers = await session.answers.next(40)
            #expect(Set(answers.map(\.frame)) == Set(0..<40))
            for answer in answers { #expect(try answer.result.get().result.isSynthetic) }
        }
        #expect(batcher.statistics.answered == 200 && batcher.statistics.queueDepth == 0)
    }
}
