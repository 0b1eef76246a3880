import FrameTransport
import Testing
import Wire

@testable import EveryframeServer

@Suite(.timeLimit(.minutes(1))) struct FrameQueueTests {
    @Test("Whatever order workers finish in, answers leave in the order of the jobs, and the bound holds", arguments: [UInt64(1), 2, 3])
    func order(seed: UInt64) async {
        let queue = FrameQueue<Int, Int>(capacity: 8)
        var left: [Int] = []
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for job in 0..<500 { #expect(await queue.put(job)) }
                await queue.close()
            }
            for worker in 0..<5 {
                group.addTask {
                    var random = SplitMix64(seed: seed &+ UInt64(worker))
                    while let (ticket, job) = await queue.take() {
                        for _ in 0..<Int.random(in: 0...8, using: &random) { await Task.yield() }
                        await queue.finish(ticket, with: job * 2)
                    }
                }
            }
            while let answer = await queue.next() {
                #expect(await queue.count <= 8)
                left.append(answer)
                await queue.release()
            }
        }
        #expect(left == (0..<500).map { $0 * 2 })
    }

    @Test("A full queue suspends; aborting it wakes everybody empty-handed")
    func abort() async {
        let queue = FrameQueue<Int, Int>(capacity: 1)
        #expect(await queue.put(1))
        async let second = queue.put(2)
        async let answer = queue.next()
        _ = await queue.take()
        async let job = queue.take()
        await queue.abort()
        #expect(await second == false)
        #expect(await answer == nil)
        #expect(await job == nil)
        #expect(await queue.put(3) == false)
    }
}

@Suite struct StageTests {
    @Test("The line of each 30 frames names every stage")
    func line() {
        var statistics = StageStatistics()
        var times = FrameTimes()
        times.inference = .milliseconds(75)
        statistics.record(times)
        #expect(statistics.takeRecent() == "wait=0.0ms decode=0.0ms inference=75.0ms serialise=0.0ms send=0.0ms")
        #expect(statistics.takeRecent() == "wait=0.0ms decode=0.0ms inference=0.0ms serialise=0.0ms send=0.0ms")
        #expect(statistics.report.stages.map(\.name) == ["wait", "decode", "inference", "serialise", "send"])
    }
}
