import NIOCore
import Testing
import Wire

@testable import FrameTransport

@Suite struct V1ProgressTests {
    @Test("Quantiles of stage times are right within 4 %", arguments: [UInt64(1), 2, 3])
    func quantiles(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var histogram = DurationHistogram()
        var values = (0..<5000).map { _ in UInt32(exactly: (1 << UInt64.random(in: 0...24, using: &random)) + Int.random(in: 0...99, using: &random)) ?? 0 }
        for value in values { histogram.add(value) }
        values.sort()
        let summary = histogram.summary
        for (found, exact) in [(summary.median, values[2499]), (summary.p99, values[4949])] {
            let microseconds = Double(found.inNanoseconds) / 1000
            #expect(abs(microseconds - Double(exact)) <= Double(exact) / 25 + 1)
        }
        #expect(summary.total == .microseconds(values.reduce(0) { $0 + Int($1) }))
        histogram.add(.max)
        histogram.add(0)
        #expect(histogram.count == 5002)
    }

    @Test("The bottleneck is where most of the time went, waiting in front of a stage counted as that stage's")
    func bottleneck() {
        var stages = StageHistograms()
        var times = StageTimes()
        times.wait = 2000
        times.decode = 1000
        times.batch = 900_000
        times.infer = 75_000
        for _ in 0..<10 { stages.add(times) }
        var progress = ServerProgress()
        #expect(progress.bottleneck == nil)
        progress.stages = stages.summaries
        progress.elapsed = .seconds(10)
        #expect(progress.bottleneck?.name == .inference && (progress.bottleneck?.share ?? 0) > 0.99)
        #expect(progress.stages["serialise"] == nil)
        progress.idle = .seconds(9)
        #expect(progress.bottleneck?.name == .input && (progress.bottleneck?.share ?? 0) == 0.9)
        progress.stages = [:]
        #expect(progress.bottleneck?.name == .input)
    }

    @Test("everyframe.v1: progress is pushed while a job runs, and its counts never fall", arguments: [UInt64(1), 2])
    func pushed(seed: UInt64) {
        var plan = V1World.Plan()
        plan.inferTime = 100...200
        plan.units = 60
        let world = V1World(plan, seed: seed)
        world.run()
        #expect(world.progress.count >= 2)
        for (earlier, later) in zip(world.progress, world.progress.dropFirst()) {
            #expect(earlier.server.counts.decoded <= later.server.counts.decoded && earlier.server.counts.taken <= later.server.counts.taken)
            // the last goes with the end, whenever that comes
            let isLast = later.server.counts == world.progress.last?.server.counts
            #expect(isLast || earlier.server.elapsed + plan.settings.progressInterval <= later.server.elapsed + .milliseconds(1))
        }
        #expect(world.progress.last?.server.stages["infer"] != nil)
        #expect(world.progress.last?.server.counts.taken == plan.units)
    }
}
