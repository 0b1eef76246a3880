import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// The last messages before an end in order, a thousand times at 100 ms and with loss.
@Suite("What was sent before a graceful end arrives wholly")
struct TailTests {
    enum Ending: CaseIterable {
        /// Each end closes its channel behind what it sent.
        case channels
        /// A shuts the association down behind what both sent.
        case shutdown
        case shutdownByBoth
        /// A waits until everything of both is acknowledged, then aborts: what `drained()` and `close()` of a connection do.
        case drainedThenAborted
    }

    @Test("RFC 8831 §6.7, RFC 9260 §9.2: both directions, whoever ends it", arguments: 0..<1000)
    func tail(seed: Int) throws {
        var generator = SplitMix64(seed: UInt64(seed) &* 31 &+ 7)
        func below(_ count: Int) -> Int { Int(generator.next() % UInt64(count)) }
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(50)
        conditions.loss = [0.005, 0.02, 0.05, 0.1, 0.2][below(5)]
        if below(3) == 0 { conditions.bursts = LossBursts(length: .milliseconds(60), spacing: .milliseconds(700)) }
        if below(4) == 0 { conditions.jitter = .milliseconds(20) }
        var configuration = Configuration()
        configuration.offerInterleaving = below(4) != 0
        let pair = Pair(seed: UInt64(seed), conditions: conditions, a: configuration, z: configuration)
        let isNew = below(3) == 0
        if !isNew { pair.run { $0.a.isConnected && $0.z.isConnected } }

        let a = try pair.a.engine.open(ChannelParameters(label: "a", ordered: below(3) != 0), at: pair.now)
        let z = try pair.z.engine.open(ChannelParameters(label: "z"), at: pair.now)
        let toZ = (0..<1 + below(8)).map { pattern([1, 900, 1200, 5000, 16_384][below(5)], 100 + $0) }
        let toA = (0..<below(8)).map { pattern([1, 900, 1200, 5000, 16_384][below(5)], 200 + $0) }
        for message in toZ { try pair.a.engine.send(message, isText: false, on: a, at: pair.now) }
        for message in toA { try pair.z.engine.send(message, isText: false, on: z, at: pair.now) }

        let ending = isNew ? .channels : Ending.allCases[below(Ending.allCases.count)]
        switch ending {
        case .channels:
            pair.a.engine.close(a, at: pair.now)
            pair.z.engine.close(z, at: pair.now)
            pair.run(for: .seconds(120)) { $0.a.closed.count == 2 && $0.z.closed.count == 2 }
            #expect(pair.a.closed.count == 2 && pair.z.closed.count == 2)
        case .shutdown:
            pair.a.engine.shutdown(at: pair.now)
            pair.run(for: .seconds(120)) { $0.a.isOver && $0.z.isOver }
            #expect(pair.a.isDisconnected && pair.z.isDisconnected)
        case .shutdownByBoth:
            pair.a.engine.shutdown(at: pair.now)
            pair.run(for: .milliseconds(below(300)))
            pair.z.engine.shutdown(at: pair.now)
            pair.run(for: .seconds(120)) { $0.a.isOver && $0.z.isOver }
            #expect(pair.a.isDisconnected && pair.z.isDisconnected)
        case .drainedThenAborted:
            pair.a.engine.notifyWhenAcknowledged(a, at: pair.now)
            pair.z.engine.notifyWhenAcknowledged(z, at: pair.now)
            pair.run(for: .seconds(120)) { !$0.a.acknowledged.isEmpty && !$0.z.acknowledged.isEmpty }
            pair.a.engine.abort(at: pair.now)
            pair.run(for: .milliseconds(200))
        }
        let atZ = pair.z.messages.values.first?.map(\.0) ?? []
        let atA = pair.a.messages.values.first?.map(\.0) ?? []
        #expect(Set(atZ) == Set(toZ) && atZ.count == toZ.count, "\(ending), loss \(conditions.loss): \(atZ.count) of \(toZ.count) at Z")
        #expect(atA == toA, "\(ending), loss \(conditions.loss): \(atA.count) of \(toA.count) at A")
    }
}
