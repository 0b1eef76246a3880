import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

@Suite("Congestion control, alone")
struct CongestionTests {
    let packet = 1000

    func parameters(window: Int = 10, threshold: Int = 1 << 30, roundTripTime: Duration? = .milliseconds(100)) -> CongestionParameters {
        CongestionParameters(
            maximumPacketSize: packet, initialWindow: window * packet, initialThreshold: threshold, roundTripTime: roundTripTime, seed: 7)
    }

    func sample(
        _ bytes: Int, at now: Instant = .zero, limited: Bool = true, recovery: Bool = false, roundTripTime: Duration = .milliseconds(100)
    ) -> AcknowledgementSample {
        AcknowledgementSample(
            at: now, newlyAcknowledged: bytes, newlyLost: 0, priorInFlight: 0, inFlight: 0, cumulativeAdvanced: true, isInRecovery: recovery,
            wasWindowLimited: limited, roundTripTime: roundTripTime, smoothedRoundTripTime: roundTripTime, minimumRoundTripTime: roundTripTime,
            delivery: DeliverySample())
    }

    @Test("RFC 9260 §7.2: slow start, congestion avoidance, recovery, time-out")
    func newReno() {
        var controller = NewReno(parameters(threshold: 40_000))
        controller.acknowledged(sample(10_000, limited: false))
        #expect(controller.window == 10_000)
        controller.acknowledged(sample(10_000))
        controller.acknowledged(sample(20_000))
        controller.acknowledged(sample(40_000))
        #expect(controller.window == 80_000)
        controller.acknowledged(sample(80_000))
        #expect(controller.window == 81_000)
        controller.lossDetected(inFlight: 80_000, at: .zero)
        #expect(controller.window == 40_500)
        controller.acknowledged(sample(40_000, recovery: true))
        #expect(controller.window == 40_500)
        controller.undo(at: .zero)
        #expect(controller.window == 81_000)
        controller.timedOut(inFlight: 0, at: .zero)
        #expect(controller.window == 1000)
        #expect(controller.slowStartThreshold == 40_500)
    }

    @Test("RFC 9438 §4.2, §4.6: a loss takes 30 %, K seconds later the window is back, flat there and steep behind")
    func cubic() {
        var controller = Cubic(parameters(window: 1000))
        controller.lossDetected(inFlight: 1_000_000, at: .zero)
        #expect(controller.window == 700_000)
        #expect(controller.slowStartThreshold == 700_000)
        // K = cbrt(1000 x 0.3 / 0.4) = 9.086 s
        var now = Instant.zero
        var windows: [Int] = []
        for _ in 0..<140 {
            now += .milliseconds(100)
            controller.acknowledged(sample(controller.window, at: now))
            windows.append(controller.window)
        }
        let atPlateau = windows[89]
        #expect((990_000...1_010_000).contains(atPlateau))
        // 4.9 s behind the plateau: 0.4 x 4.9³ = 47 packets more
        #expect((1_035_000...1_060_000).contains(windows[139]))
        #expect(windows[20] - windows[10] > windows[85] - windows[75])
        #expect(zip(windows, windows.dropFirst()).allSatisfy { $0 <= $1 })
    }

    @Test("RFC 9438 §4.7: who loses below the last plateau aims lower")
    func fastConvergence() {
        var controller = Cubic(parameters(window: 1000))
        controller.lossDetected(inFlight: 1_000_000, at: .zero)
        controller.lossDetected(inFlight: 700_000, at: .zero)
        #expect((489_990...490_000).contains(controller.window))
        var now = Instant.zero
        // the plateau is 0.85 x 700: K = cbrt((595 - 490) / 0.4) = 6.4 s
        for _ in 0..<64 {
            now += .milliseconds(100)
            controller.acknowledged(sample(controller.window, at: now))
        }
        #expect((585_000...605_000).contains(controller.window))
    }

    @Test("RFC 9438 §4.9: a loss that was none leaves no trace")
    func cubicUndo() {
        var controller = Cubic(parameters(window: 100))
        controller.lossDetected(inFlight: 100_000, at: .zero)
        controller.undo(at: .zero)
        #expect(controller.window == 100_000)
        #expect(controller.slowStartThreshold == 1 << 30)
        controller.timedOut(inFlight: 100_000, at: .zero)
        controller.timedOut(inFlight: 1000, at: .zero)
        #expect(controller.window == 1000)
        controller.undo(at: .zero)
        #expect(controller.window == 100_000)
    }

    @Test("RFC 9406 §4.2: a round-trip time that rises ends slow start carefully; one that falls back takes it up again", arguments: [true, false])
    func hyStart(rises: Bool) {
        var controller = Cubic(parameters())
        var now = Instant.zero
        var delivered: UInt64 = 0
        for round in 0..<8 {
            let time: Duration = round >= 2 && (rises || round == 2) ? .milliseconds(120) : .milliseconds(100)
            let prior = delivered
            for _ in 0..<8 {
                now += .milliseconds(10)
                delivered += 1000
                var sample = sample(1000, at: now, roundTripTime: time)
                sample.delivery.delivered = delivered
                sample.delivery.priorDelivered = prior
                controller.acknowledged(sample)
            }
        }
        #expect((controller.slowStartThreshold < 1 << 30) == rises)
    }

    @Test("the pace: bursts of a millisecond's worth, credit for a late turn but not for a long pause")
    func pacer() {
        var pacer = Pacer()
        let pace = Pacer.Pace(rate: 10_000_000, packetSize: 1000, limit: 200_000)
        var now = Instant(nanoseconds: 1_000_000_000)
        // after a pause: four milliseconds' worth
        #expect(pacer.allowance(pace, at: now) == 40_000)
        pacer.sent(40_000)
        #expect(pacer.allowance(pace, at: now) == 0)
        let due = pacer.due(pace)
        #expect(due >= now + .milliseconds(1))
        #expect(due < now + .microseconds(1010))
        now = due
        #expect((10_000...10_100).contains(pacer.allowance(pace, at: now)))
        pacer.sent(10_000)
        now += .milliseconds(3)
        #expect((30_000...30_200).contains(pacer.allowance(pace, at: now)))
        pacer.sent(30_000)
        now += .seconds(10)
        #expect(pacer.allowance(pace, at: now) == 40_000)
    }
}
