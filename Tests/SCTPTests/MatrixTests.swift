import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// Everything that a path does to packets, in any mixture, against everything that two ends may want of each other. A failure names its seed:
///
///     EVERYFRAME_SEEDS=217 swift test --filter MatrixTests
@Suite("Any path, any traffic: each message once, in order, unharmed, in time")
struct MatrixTests {
    /// One run of a scenario.
    final class Run {
        let scenario: Scenario
        let pair: Pair
        /// Handles by label.
        var atA: [String: ChannelHandle] = [:]
        var atZ: [String: ChannelHandle] = [:]

        init(_ scenario: Scenario) throws {
            self.scenario = scenario
            pair = Pair(seed: scenario.seed, conditions: scenario.conditions, a: scenario.configuration, z: scenario.configuration)
            pair.a.onChannel = { [unowned self] handle, now in answer(on: handle, by: pair.a, isA: true, at: now) }
            pair.z.onChannel = { [unowned self] handle, now in answer(on: handle, by: pair.z, isA: false, at: now) }
            for (index, plan) in scenario.plans.enumerated() {
                let opener = plan.isOpenedByA ? pair.a : pair.z
                let handle = try opener.engine.open(plan.parameters, at: pair.now)
                note(handle, plan, isA: plan.isOpenedByA)
                for (number, size) in plan.out.enumerated() { try send(number, size, of: index, isBack: false, on: handle, by: opener) }
                if plan.closesAtOnce { opener.engine.close(handle, at: pair.now) }
                guard plan.parameters.negotiatedID != nil else { continue }
                let other = plan.isOpenedByA ? pair.z : pair.a
                let back = try other.engine.open(plan.parameters, at: pair.now)
                note(back, plan, isA: !plan.isOpenedByA)
                for (number, size) in plan.back.enumerated() { try send(number, size, of: index, isBack: true, on: back, by: other) }
            }
        }

        private func note(_ handle: ChannelHandle, _ plan: Scenario.Plan, isA: Bool) {
            if isA { atA[plan.parameters.label] = handle } else { atZ[plan.parameters.label] = handle }
        }

        private func send(_ number: Int, _ size: Int, of plan: Int, isBack: Bool, on handle: ChannelHandle, by end: End) throws {
            try end.engine.send(Self.message(number, size, of: plan, isBack: isBack), isText: number % 3 == 0, on: handle, at: pair.now)
        }

        static func message(_ number: Int, _ size: Int, of plan: Int, isBack: Bool) -> ByteBuffer {
            pattern(size, number + 100 * plan + (isBack ? 1000 : 0))
        }

        private func answer(on handle: ChannelHandle, by end: End, isA: Bool, at now: Instant) {
            guard let parameters = end.engine.parameters(of: handle), let index = Int(parameters.label), index < scenario.plans.count else {
                Issue.record("seed \(scenario.seed): a channel that nobody opened")
                return
            }
            let plan = scenario.plans[index]
            #expect(parameters == plan.parameters, "seed \(scenario.seed)")
            note(handle, plan, isA: isA)
            for (number, size) in plan.back.enumerated() {
                #expect(throws: Never.self) { try send(number, size, of: index, isBack: true, on: handle, by: end) }
            }
        }

        /// Lets the path change when it is due; all changes have come when it returns.
        func go(for time: Duration, until isDone: (Pair) -> Bool) {
            let limit = pair.now + time
            for change in scenario.changes {
                let due = Instant.zero + change.after
                if due > pair.now { pair.run(for: due - pair.now, until: isDone) }
                if due > pair.now { pair.run(for: due - pair.now) }
                pair.setConditions(change.apply)
            }
            if limit > pair.now { pair.run(for: limit - pair.now, until: isDone) }
        }

        var isComplete: Bool {
            for (index, plan) in scenario.plans.enumerated() where plan.isReliable {
                if received(index, isBack: false).count < plan.out.count || received(index, isBack: true).count < plan.back.count { return false }
            }
            // what was given up is skipped, too
            return pair.a.isIdle && pair.z.isIdle
        }

        /// What came of the plan's messages, in their order.
        func received(_ index: Int, isBack: Bool) -> [(ByteBuffer, Bool)] {
            let plan = scenario.plans[index]
            let atReceiver = plan.isOpenedByA == isBack ? (pair.a, atA) : (pair.z, atZ)
            return atReceiver.1[plan.parameters.label].flatMap { atReceiver.0.messages[$0] } ?? []
        }

        func expectRight(_ index: Int, isBack: Bool) {
            let plan = scenario.plans[index]
            let sizes = isBack ? plan.back : plan.out
            let got = received(index, isBack: isBack)
            let sent = sizes.indices.map { Self.message($0, sizes[$0], of: index, isBack: isBack) }
            let comment: Comment = "channel \(index) \(isBack ? "back" : "out"): \(scenario.story)"
            // where each message that came belongs, from the front
            var next = 0
            var taken: Set<Int> = []
            for (bytes, isText) in got {
                let found = (plan.parameters.ordered ? next..<sent.count : 0..<sent.count).first {
                    !taken.contains($0) && sent[$0] == bytes && ($0 % 3 == 0) == isText
                }
                guard let found else {
                    Issue.record(comment)
                    return
                }
                taken.insert(found)
                next = found + 1
            }
            #expect(got.count == sent.count || !plan.isReliable && got.count < sent.count, comment)
        }
    }

    @Test("each message arrives once, in order, unharmed, within a time that the path explains; nothing stands still", arguments: Scenario.wanted)
    func holds(scenario: Scenario) throws {
        let run = try Run(scenario)
        let pair = run.pair
        run.go(for: scenario.timeBound) { pair in run.isComplete || pair.a.failure != nil || pair.z.failure != nil }
        #expect(run.isComplete, "not complete after \(pair.now): \(scenario.story); A \(pair.a.engine.statistics); Z \(pair.z.engine.statistics)")
        #expect(pair.a.failure == nil && pair.z.failure == nil, "\(scenario.story)")
        #expect(pair.longestStall <= scenario.stallBound, "no progress for \(pair.longestStall) of \(scenario.stallBound): \(scenario.story)")
        for index in scenario.plans.indices {
            run.expectRight(index, isBack: false)
            run.expectRight(index, isBack: true)
        }
        try rest(run)
        close(run)
    }

    /// Nothing is kept, and nothing is said but to find out whether the other is there and what the path carries.
    private func rest(_ run: Run) throws {
        let pair = run.pair
        pair.run(for: .seconds(3))
        let before = (pair.a.engine.statistics, pair.z.engine.statistics)
        #expect(before.0.bytesInFlight == 0 && before.1.bytesInFlight == 0, "\(run.scenario.story)")
        #expect(pair.a.held == 0 && pair.z.held == 0, "bytes are left over: \(run.scenario.story)")
        pair.run(for: .seconds(5))
        let packets = pair.a.engine.statistics.packetsSent - before.0.packetsSent + pair.z.engine.statistics.packetsSent - before.1.packetsSent
        #expect(packets <= 40, "\(packets) packets of two idle ends in five seconds: \(run.scenario.story)")
    }

    private func close(_ run: Run) {
        let (pair, scenario) = (run.pair, run.scenario)
        for (index, plan) in scenario.plans.enumerated() where !plan.closesAtOnce {
            // by the one, by the other, by both at once
            if index % 3 != 1, let handle = run.atA[plan.parameters.label] { pair.a.engine.close(handle, at: pair.now) }
            if index % 3 != 0, let handle = run.atZ[plan.parameters.label] { pair.z.engine.close(handle, at: pair.now) }
        }
        pair.run(for: scenario.stallBound * 3 + .seconds(2)) { $0.a.closed.count == scenario.plans.count && $0.z.closed.count == scenario.plans.count }
        #expect(pair.a.closed.count == scenario.plans.count && pair.z.closed.count == scenario.plans.count, "channels stay half closed: \(scenario.story)")
        (scenario.isShutDownByA ? pair.a : pair.z).engine.shutdown(at: pair.now)
        pair.run(for: scenario.stallBound * 3 + .seconds(2)) { $0.a.isOver && $0.z.isOver }
        #expect(pair.a.isDisconnected && pair.z.isDisconnected, "A \(pair.a.engine.association.state), Z \(pair.z.engine.association.state): \(scenario.story)")
        #expect(pair.a.engine.deadline == nil && pair.z.engine.deadline == nil, "\(scenario.story)")
    }
}
