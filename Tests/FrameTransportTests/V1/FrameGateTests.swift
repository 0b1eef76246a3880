import NIOCore
import Testing
import Wire

@testable import FrameTransport

@Suite struct FrameGateTests {
    /// A camera of 25 frames a second and an encoder that takes a frame each `service` milliseconds.
    private func run(
        _ policy: DropPolicy, service: Int, frames: Int = 500, isDependent: Bool = false
    ) throws -> (gate: FrameGate<Int>, taken: [(id: Int, age: Duration)]) {
        var gate = try FrameGate<Int>(policy, isDependent: isDependent, capacity: 16)
        var taken: [(Int, Duration)] = []
        var free = Instant.zero
        func take(until now: Instant) {
            while free <= now, let id = gate.next(at: max(free, .zero + .milliseconds((gate.offered - 1) * 40))) {
                let at = max(free, .zero + .milliseconds((gate.offered - 1) * 40))
                taken.append((id, at - (.zero + .milliseconds(id * 40))))
                free = at + .milliseconds(service)
            }
        }
        for id in 0..<frames {
            let now = Instant.zero + .milliseconds(id * 40)
            if let deadline = gate.deadline, deadline <= now { gate.handleTimeout(at: now) }
            if let deadline = gate.deadline { #expect(deadline > now) }
            gate.offer(id, seconds: Double(id) / 25, isKeyframe: id % 25 == 0, at: now)
            take(until: now)
            #expect(gate.offered == gate.passed + gate.drops.total + gate.count)
        }
        return (gate, taken)
    }

    @Test("Policy all: nothing is dropped; a source that can wait is told to")
    func all() throws {
        let (gate, taken) = try run(.all, service: 10)
        #expect(taken.map(\.id) == Array(0..<500) && gate.drops.total == 0)
        var slow = try FrameGate<Int>(.all)
        #expect(slow.wantsFrame)
        slow.offer(1, at: .zero)
        #expect(!slow.wantsFrame)
    }

    @Test("Policy latest: what is taken is never older than the service time", arguments: [50, 100, 333])
    func latest(service: Int) throws {
        let (gate, taken) = try run(.latest, service: service)
        #expect(taken.allSatisfy { $0.age <= .milliseconds(service) })
        #expect(gate.drops[.superseded] == gate.drops.total && gate.drops.total > 0)
    }

    @Test("Policy max-lag: nothing older than the limit passes, and what is younger does")
    func lag() throws {
        let (gate, taken) = try run(.maximumLag(.milliseconds(200)), service: 100)
        #expect(taken.allSatisfy { $0.age <= .milliseconds(200) })
        #expect(gate.drops[.late] > 0 && gate.count <= 16)
    }

    @Test("Policy every-nth: the first of each n", arguments: [1, 2, 7])
    func everyNth(n: Int) throws {
        let (gate, taken) = try run(.everyNth(n), service: 1)
        #expect(taken.map(\.id) == Array(stride(from: 0, to: 500, by: n)))
        #expect(gate.drops[.skipped] == 500 - taken.count)
    }

    @Test("Policy max-fps: the rate is kept over the whole length, without drift", arguments: [1.0, 3, 10, 24, 25, 60])
    func rate(fps: Double) throws {
        let (gate, taken) = try run(.maximumRate(fps), service: 1)
        #expect(abs(Double(taken.count) - 20 * min(fps, 25)) <= 1)
        #expect(gate.drops[.rate] == gate.drops.total)
    }

    @Test("Access units: after a drop nothing passes before the next keyframe", arguments: [DropPolicy.latest, .maximumLag(.milliseconds(200))])
    func dependent(policy: DropPolicy) throws {
        let (gate, taken) = try run(policy, service: 100, isDependent: true)
        for (previous, next) in zip(taken, taken.dropFirst()) { #expect(next.id == previous.id + 1 || next.id % 25 == 0) }
        #expect(gate.drops[.reference] > 0 && taken.count > 10)
    }

    @Test("Policies that make no sense are refused")
    func refused() {
        #expect(throws: DropPolicyError.badValue) { try FrameGate<Int>(.everyNth(0)) }
        #expect(throws: DropPolicyError.badValue) { try FrameGate<Int>(.maximumRate(.nan)) }
        #expect(throws: DropPolicyError.needsIndependentFrames) { try FrameGate<Int>(.maximumRate(5), isDependent: true) }
        #expect(throws: DropPolicyError.needsIndependentFrames) { try FrameGate<Int>(.everyNth(2), isDependent: true) }
    }
}
