import Inference
import Media
import Synchronization
import Testing

/// Frames of many streams on their way through one model. The engine is the test's own, and so is the time.
@Suite(.timeLimit(.minutes(1))) struct BatcherTests {
    @Test("Batches of one go at once: as many as the engine works on, and as many handed in ahead")
    func batchesOfOne() async throws {
        let (model, clock) = (ScriptedModel(requestsInFlight: 2), VirtualClock())
        let batcher = Batcher(model: model, clock: clock)
        let session = Session(batcher)
        session.submit(1...6)
        #expect(batcher.statistics.batchesInEngine == 4 && batcher.statistics.queueDepth == 2)
        #expect(clock.timers == 0, "nothing waits for time")
        let calls = await model.calls.next(4)
        #expect(Set(calls.map(\.frames)) == [[1], [2], [3], [4]])
        calls[0].answer()
        let fifth = try #require(await model.calls.next(1).first)
        #expect(fifth.frames == [5])
        #expect(batcher.statistics.batchesInEngine == 4)
        for call in calls.dropFirst() + [fifth] { call.answer() }
        for call in await model.calls.next(1) { call.answer() }
        let answers = await session.answers.next(6)
        #expect(Set(answers.map(\.frame)) == Set(1...6))
        for answer in answers {
            let batched = try answer.result.get()
            #expect(batched.result.width == Int(answer.frame) && batched.batchSize == 1 && batched.inferred == .milliseconds(3))
        }
        #expect(batcher.statistics.answered == 6 && batcher.statistics.batches == 6 && batcher.statistics.batchesInEngine == 0)
    }

    @Test("A whole batch goes at once, with frames of all streams")
    func whole() async throws {
        let (model, clock) = (ScriptedModel(batchSize: 4), VirtualClock())
        let batcher = Batcher(model: model, clock: clock)
        let (left, right) = (Session(batcher), Session(batcher))
        left.submit(1...3)
        right.submit(10...10)
        let call = try #require(await model.calls.next(1).first)
        #expect(Set(call.frames) == [1, 2, 3, 10])
        call.answer()
        for answer in await left.answers.next(3) {
            #expect(try answer.result.get().result.width == Int(answer.frame))
            #expect(try answer.result.get().batchSize == 4)
        }
        #expect(try await right.answers.next(1).first?.result.get().result.width == 10)
        #expect(batcher.statistics.occupancy == 4)
    }

    @Test("An idle engine waits 2 ms for a batch to grow")
    func grows() async throws {
        let (model, clock) = (ScriptedModel(batchSize: 8), VirtualClock())
        let batcher = Batcher(model: model, clock: clock)
        let session = Session(batcher)
        session.submit(1...1)
        clock.advance(by: .milliseconds(1))
        session.submit(2...3)
        clock.advance(by: .microseconds(999))
        #expect(batcher.statistics.batchesInEngine == 0)
        clock.advance(by: .microseconds(1))
        let call = try #require(await model.calls.next(1).first)
        #expect(call.frames == [1, 2, 3])
        call.answer()
        let queued = await session.answers.next(3).map { try? $0.result.get().queued }
        #expect(queued == [.milliseconds(2), .milliseconds(1), .milliseconds(1)])
    }

    @Test("A busy engine gets what is not whole when it has nothing else, and then at once")
    func busy() async throws {
        let (model, clock) = (ScriptedModel(batchSize: 4), VirtualClock())
        let batcher = Batcher(model: model, options: Batcher.Options(maximumWait: .milliseconds(2), ahead: 1), clock: clock)
        let session = Session(batcher)
        session.submit(1...4)
        let first = try #require(await model.calls.next(1).first)
        session.submit(5...6)
        clock.advance(by: .milliseconds(50))
        #expect(batcher.statistics.batchesInEngine == 1, "it would only be smaller than it need be")
        session.submit(7...7)
        first.answer()
        let second = try #require(await model.calls.next(1).first)
        #expect(second.frames == [5, 6] || second.frames == [5, 6, 7])
        second.answer()
        clock.advance(by: .milliseconds(2))
        if second.frames.count == 2 { for call in await model.calls.next(1) { call.answer() } }
        #expect(await session.answers.next(7).count == 7)
    }

    @Test("A whole batch is handed in ahead of its time")
    func ahead() async throws {
        let (model, clock) = (ScriptedModel(batchSize: 2), VirtualClock())
        let batcher = Batcher(model: model, clock: clock)
        let session = Session(batcher)
        session.submit(1...6)
        #expect(batcher.statistics.batchesInEngine == 2 && batcher.statistics.queueDepth == 2)
        for _ in 0..<3 { for call in await model.calls.next(1) { call.answer() } }
        #expect(await session.answers.next(6).count == 6)
    }

    @Test("A stream with a thousand frames does not delay another by more than its turn", arguments: [1, 4])
    func fairness(batchSize: Int) async throws {
        let (model, clock) = (ScriptedModel(batchSize: batchSize), VirtualClock())
        let batcher = Batcher(model: model, clock: clock)
        let (greedy, modest, late) = (Session(batcher), Session(batcher), Session(batcher))
        greedy.submit(0..<1000)
        modest.submit(2000..<2010)
        var order: [Int64] = []
        for turn in 0..<1012 / batchSize {
            if turn == 10 { late.submit(3000...3001) }
            let call = try #require(await model.calls.next(1).first)
            order += call.frames
            call.answer()
        }
        let (lastModest, lastLate) = (order.lastIndex(of: 2009) ?? .max, order.lastIndex(of: 3001) ?? .max)
        // two handed in before the others came, then turn and turn about
        #expect(lastModest <= 2 * batchSize + 20 + batchSize, "at \(lastModest)")
        #expect(lastLate <= 10 * batchSize + 2 * batchSize + 6 + batchSize, "at \(lastLate)")
    }

    @Test("A model that is given pictures of one size mixes frames of all; others do not", arguments: [true, false])
    func geometries(mixes: Bool) async throws {
        let (model, clock) = (ScriptedModel(requestsInFlight: 4, batchSize: 4, mixesGeometries: mixes), VirtualClock())
        let batcher = Batcher(model: model, clock: clock)
        let (small, large) = (Session(batcher), Session(batcher))
        small.submit(1...2, width: 2)
        large.submit(3...4, width: 9)
        clock.advance(by: .milliseconds(2))
        let calls = await model.calls.next(mixes ? 1 : 2)
        #expect(Set(calls.map(\.sizes)) == (mixes ? [[2, 9]] : [[2], [9]]))
        for call in calls { call.answer() }
        #expect(await small.answers.next(2).count + large.answers.next(2).count == 4)
    }

    @Test("A cancelled stream's frames are dropped, wherever they are; its neighbours' are not")
    func cancel() async throws {
        let (model, clock) = (ScriptedModel(batchSize: 2), VirtualClock())
        let batcher = Batcher(model: model, options: Batcher.Options(ahead: 1), clock: clock)
        let (gone, stays) = (Session(batcher), Session(batcher))
        gone.submit(1...1)
        stays.submit(10...10)
        gone.submit(2...5)
        let calls = await model.calls.next(2)
        #expect(Set(calls.map(\.frames)) == [[1, 10], [2, 3]])
        gone.stream.cancel()
        for answer in await gone.answers.next(5) { #expect(answer.result.error == .cancelled) }
        #expect(batcher.statistics.queueDepth == 0)
        let shared = try #require(calls.first { $0.frames.contains(10) })
        shared.answer()
        #expect(try await stays.answers.next(1).first?.result.get().result.width == 10)
        gone.submit(6...6)
        #expect(await gone.answers.next(1).first?.result.error == .cancelled)
        stays.submit(11...12)
        for call in await model.calls.next(1) { call.answer() }
        #expect(await stays.answers.next(2).map(\.frame) == [11, 12])
        #expect(model.cancelled == 1, "the batch that nobody wanted any more, and not the other")
        #expect(batcher.statistics.cancelled == 6)
    }

    @Test("A stream that is let go of is answered nevertheless")
    func letGo() async throws {
        let model = ScriptedModel()
        let batcher = Batcher(model: model, clock: VirtualClock())
        let answers: AsyncStream<Session.Answer>
        do {
            let session = Session(batcher)
            session.submit(1...3)
            answers = session.answers
        }
        for _ in 0..<3 { for call in await model.calls.next(1) { call.answer() } }
        #expect(await answers.next(3).count == 3)
    }

    @Test("A bad frame fails alone: the others of its batch are tried again")
    func isolation() async throws {
        let (model, clock) = (ScriptedModel(batchSize: 3), VirtualClock())
        let batcher = Batcher(model: model, clock: clock)
        let session = Session(batcher)
        session.submit(1...3)
        let whole = try #require(await model.calls.next(1).first)
        whole.answer(.failure(.badFrame(reason: "2 is bad")))
        for _ in 0..<3 {
            let call = try #require(await model.calls.next(1).first)
            #expect(call.frames.count == 1)
            if call.frames == [2] { call.answer(.failure(.badFrame(reason: "2"))) } else { call.answer() }
        }
        for answer in await session.answers.next(3) {
            if answer.frame == 2 {
                #expect(answer.result.error == .badFrame(reason: "2"))
            } else {
                #expect(try answer.result.get().result.width == Int(answer.frame))
                #expect(try answer.result.get().batchSize == 1)
            }
        }
        #expect(batcher.statistics.retried == 3 && batcher.statistics.failed == 1 && batcher.statistics.answered == 2)
    }

    @Test("An engine that answers too little or too much fails its frames")
    func wrongCount() async throws {
        let model = ScriptedModel()
        let session = Session(Batcher(model: model, clock: VirtualClock()))
        session.submit(1...2)
        for call in await model.calls.next(2) { call.answer(.success([])) }
        for answer in await session.answers.next(2) { #expect(answer.result.error == .inferenceFailed(reason: "0 answers to 1 frames")) }
    }

    @Test("Whatever happens: bounds are kept, no engine idles while frames wait, each frame is answered once", arguments: 1...12 as ClosedRange<UInt64>)
    func random(seed: UInt64) async throws {
        var random = Seeded(state: seed)
        let model = ScriptedModel(requestsInFlight: Int.random(in: 1...3, using: &random), batchSize: seed % 3 == 0 ? 4 : 1)
        let (clock, count) = (VirtualClock(), 4)
        let batcher = Batcher(model: model, options: Batcher.Options(ahead: Int.random(in: 0...3, using: &random)), clock: clock)
        let sessions = (0..<count).map { _ in Session(batcher) }
        let limit = batcher.requestsInFlight + batcher.ahead
        var submitted = [Int](repeating: 0, count: count)
        var open: [ScriptedModel.Call] = []
        var seen = 0
        for _ in 0..<300 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4:
                let index = Int.random(in: 0..<count, using: &random)
                let number = Int.random(in: 1...6, using: &random)
                sessions[index].submit((0..<number).map { Int64(submitted[index] + $0) }, width: Int.random(in: 1...2, using: &random))
                submitted[index] += number
            case 4: clock.advance(by: .milliseconds(2))
            case 5 where seed % 4 == 0: sessions[3].stream.cancel()
            default:
                // every batch handed in is a call sooner or later
                while seen < batcher.statistics.batches, let call = await model.calls.next(1).first {
                    seen += 1
                    open.append(call)
                }
                guard !open.isEmpty else { break }
                let call = open.remove(at: Int.random(in: 0..<open.count, using: &random))
                call.answer(Int.random(in: 0..<8, using: &random) == 0 ? .failure(.inferenceFailed(reason: "now and then")) : .success(call.results))
            }
            let statistics = batcher.statistics
            #expect(statistics.batchesInEngine <= limit)
            #expect(batcher.maximumBatch > 1 || statistics.queueDepth == 0 || statistics.batchesInEngine >= batcher.requestsInFlight)
        }
        // to the end
        while batcher.statistics.batchesInEngine + batcher.statistics.queueDepth > 0 {
            clock.advance(by: .milliseconds(2))
            while seen < batcher.statistics.batches, let call = await model.calls.next(1).first {
                seen += 1
                open.append(call)
            }
            for call in open { call.answer() }
            open.removeAll()
            await Task.yield()
        }
        for (session, number) in zip(sessions, submitted) {
            let answers = await session.answers.next(number)
            #expect(answers.map(\.frame).sorted() == (0..<number).map(Int64.init))
        }
        let statistics = batcher.statistics
        #expect(statistics.answered + statistics.failed + statistics.cancelled == submitted.reduce(0, +))
    }
}

/// SplitMix64.
private struct Seeded: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

extension ScriptedModel.Call {
    var results: [FrameResult] { frames.map { FrameResult(detections: [], width: Int($0), height: 1) } }
}

extension Result {
    fileprivate var error: Failure? { if case .failure(let error) = self { error } else { nil } }
}
