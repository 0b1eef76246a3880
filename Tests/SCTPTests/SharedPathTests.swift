import CongestionLab
import NIOCore
import NetworkSimulator
import SCTP
import Testing
import Wire

/// Whole associations over one bottleneck in virtual time. Marks are those of the default controller unless it is named.
@Suite("Congestion control over a bottleneck, in virtual time")
struct SharedPathTests {
    @Test(
        "random loss does not slow the default controller down, and it keeps the queue short",
        arguments: [(0.0, 0.85), (0.1, 0.83), (1.0, 0.8), (5.0, 0.7)])
    func randomLoss(loss: Double, least: Double) {
        var lab = CongestionLab([Configuration().congestionControl], path: LabPath(rate: 8, loss: loss), seed: 11)
        let report = lab.run(seconds: 10)
        #expect(report.utilization > least)
        // below one round-trip time, but for the end of startup
        #expect(report.queueDelay(0.95) < 25)
        #expect(report.timeouts == [0])
    }

    @Test("CUBIC fills a clean path and backs off where packets get lost")
    func cubic() {
        var clean = CongestionLab([.cubic], path: LabPath(rate: 8), seed: 3)
        #expect(clean.run(seconds: 15).utilization > 0.85)
        var lossy = CongestionLab([.cubic], path: LabPath(rate: 20, loss: 1), seed: 3)
        #expect(lossy.run(seconds: 10).utilization < 0.3)
    }

    @Test(
        "beside a CUBIC flow the default neither starves nor is starved, whoever was first (Jain's index)",
        arguments: [LabPath(rate: 6), LabPath(rate: 6, queue: 4)], [true, false])
    func sharesWithCubic(path: LabPath, isFirst: Bool) {
        let control = Configuration().congestionControl
        var lab = CongestionLab(isFirst ? [control, .cubic] : [.cubic, control], path: path, seed: 1)
        let report = lab.run(seconds: 40)
        #expect(report.utilization > 0.85)
        // one flow alone would have an index of 0.5
        for rate in report.goodput { #expect(rate > path.rate / 8, "\(report.goodput)") }
        #expect(report.fairness > 0.65, "\(report.goodput)")
    }

    @Test("two flows of the default come to share")
    func sharesWithItself() {
        let control = Configuration().congestionControl
        var lab = CongestionLab([control, control], path: LabPath(rate: 6), seed: 5)
        let report = lab.run(seconds: 40)
        #expect(report.fairness > 0.75)
        #expect(report.utilization > 0.85)
    }

    @Test("a policer, or a queue of a few packets, is filled without losing more than a tenth")
    func shortQueue() {
        var lab = CongestionLab([Configuration().congestionControl], path: LabPath(rate: 8, queue: 0.1), seed: 5)
        let report = lab.run(seconds: 15)
        #expect(report.utilization > 0.7)
        #expect(report.retransmitted[0] < Int(report.total * 15e6 / 8 / 1128 / 10))
    }

    @Test("RFC 5682, RFC 3708: packets that were only late: the time-out, or the recovery, is undone", arguments: CongestionControl.allCases)
    func undo(control: CongestionControl) throws {
        var configuration = Configuration()
        configuration.congestionControl = control
        configuration.maximumPacketSize = configuration.basePacketSize
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(25)
        conditions.rate = 50e6
        let pair = Pair(seed: 21, conditions: conditions, a: configuration, z: configuration)
        let channel = try pair.a.engine.open(ChannelParameters(label: "late"), at: pair.now)
        pair.connect()
        for index in 0..<60 { try pair.a.engine.send(pattern(100_000, index), isText: false, on: channel, at: pair.now) }
        pair.run(for: .milliseconds(400))
        let before = pair.a.engine.statistics
        #expect(before.bytesInFlight > 20_000)
        pair.toZ.conditions.queueLimit = 64 << 20
        pair.toZ.stall(until: pair.now + .milliseconds(600))
        pair.run(for: .seconds(60)) { $0.z.messages.values.first?.count == 60 }
        #expect(pair.z.messages.values.first?.map(\.0) == (0..<60).map { pattern(100_000, $0) })
        let after = pair.a.engine.statistics
        #expect(after.spuriousTimeouts + after.spuriousRecoveries > 0)
        // where the queue overflowed before the stall, a later reduction was right
        if after.recoveries == after.spuriousRecoveries { #expect(after.congestionWindow >= before.congestionWindow / 2) }
        // without the undoing all that was in flight is sent again
        #expect(after.chunksRetransmitted < before.bytesInFlight / 1160)
    }

    @Test("a path that reorders is used as if it did not: late packets are waited for", arguments: CongestionControl.allCases)
    func reordering(control: CongestionControl) {
        var lab = CongestionLab([control], path: LabPath(rate: 8, queue: 2, jitter: 4), seed: 9)
        let report = lab.run(seconds: 15)
        #expect(report.utilization > 0.75)
        #expect(report.timeouts == [0])
    }
}
