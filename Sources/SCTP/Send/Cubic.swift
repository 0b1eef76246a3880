package import Wire

/// CUBIC (RFC 9438), counting bytes and paced, with the slow start of HyStart++ (RFC 9406).
package struct Cubic: CongestionController {
    /// RFC 9438 §4.6 and §5: the decrease factor, and the aggressiveness in packets per second cubed.
    private static let beta = 0.7
    private static let aggressiveness = 0.4
    /// §4.3: additive increase that, with beta, is as friendly as Reno.
    private static let reno = 3 * (1 - beta) / (1 + beta)

    package private(set) var window: Int
    package private(set) var slowStartThreshold: Int
    private var packetSize: Int
    private let initialWindow: Int
    private var epoch: Epoch?
    /// W_max of §4.1.2, in bytes; 0 before the first loss.
    private var maximumWindow = 0.0
    private var slowStart = HyStart()
    private var smoothed: Duration?
    private var saved: Saved?

    /// Congestion avoidance since the last reduction.
    private struct Epoch {
        var startedAt: Instant
        /// K of §4.2, seconds.
        var inflection: Double
        /// W_max of this epoch.
        var target: Double
        /// W_est of §4.3.
        var estimate: Double
        /// The part of a byte that the window is short of.
        var fraction = 0.0
    }

    private struct Saved {
        var window: Int
        var threshold: Int
        var maximumWindow: Double
        var epoch: Epoch?
    }

    package init(_ parameters: CongestionParameters) {
        packetSize = parameters.maximumPacketSize
        window = parameters.initialWindow
        initialWindow = parameters.initialWindow
        slowStartThreshold = parameters.initialThreshold
        smoothed = parameters.roundTripTime
    }

    /// As common for paced TCP: twice the window per round trip in slow start, 1.2 times later.
    package var pacingRate: Double? {
        guard let smoothed, smoothed > .zero else { return nil }
        return Double(window) * 1e9 / Double(smoothed.inNanoseconds) * (window < slowStartThreshold ? 2 : 1.2)
    }

    package mutating func acknowledged(_ sample: AcknowledgementSample) {
        smoothed = sample.smoothedRoundTripTime
        if window < slowStartThreshold { slowStart.acknowledged(sample) }
        guard sample.wasWindowLimited, sample.newlyAcknowledged > 0, !sample.isInRecovery else { return }
        if window < slowStartThreshold {
            window += sample.newlyAcknowledged / (slowStart.isCautious ? HyStart.growthDivisor : 1)
            if slowStart.isOver { slowStartThreshold = window }
        } else {
            grow(sample)
        }
    }

    /// §4.2 to §4.5.
    private mutating func grow(_ sample: AcknowledgementSample) {
        let packet = Double(packetSize)
        var current: Epoch
        if let epoch {
            current = epoch
        } else {
            // slow start ended without a loss: the plateau is where we are
            let target = max(maximumWindow, Double(window))
            current = Epoch(
                startedAt: sample.at, inflection: cubeRoot((target - Double(window)) / packet / Self.aggressiveness), target: target, estimate: Double(window))
        }
        current.estimate += (current.estimate < current.target ? Self.reno : 1) * packet * Double(sample.newlyAcknowledged) / Double(window)
        let ahead = sample.smoothedRoundTripTime ?? .zero
        let time = Double((sample.at - current.startedAt + ahead).inNanoseconds) * 1e-9 - current.inflection
        let cubic = Self.aggressiveness * time * time * time * packet + current.target
        // §4.4: not more than half as much again in a round trip
        let goal = min(max(cubic, Double(window)), 1.5 * Double(window))
        current.fraction += (goal - Double(window)) * Double(sample.newlyAcknowledged) / Double(window)
        let whole = current.fraction.rounded(.down)
        window += Int(whole)
        current.fraction -= whole
        window = max(window, Int(current.estimate))
        epoch = current
    }

    package mutating func lossDetected(inFlight: Int, at now: Instant) {
        save()
        reduce(at: now)
        window = slowStartThreshold
    }

    package mutating func timedOut(inFlight: Int, at now: Instant) {
        if window > packetSize { save() }
        reduce(at: now)
        window = packetSize
        // §4.8: congestion avoidance starts anew, without the curve of the time before
        epoch = nil
        slowStart = HyStart()
    }

    private mutating func reduce(at now: Instant) {
        let before = Double(window)
        // §4.7: who loses below the old plateau gives room to others
        maximumWindow = before < maximumWindow ? before * (1 + Self.beta) / 2 : before
        slowStartThreshold = max(Int(before * Self.beta), 2 * packetSize)
        let after = Double(slowStartThreshold)
        epoch = Epoch(
            startedAt: now, inflection: cubeRoot(max(0, maximumWindow - after) / Double(packetSize) / Self.aggressiveness), target: max(maximumWindow, after),
            estimate: after)
    }

    private mutating func save() { saved = Saved(window: window, threshold: slowStartThreshold, maximumWindow: maximumWindow, epoch: epoch) }

    /// §4.9.
    package mutating func undo(at now: Instant) {
        guard let saved else { return }
        window = max(window, saved.window)
        slowStartThreshold = max(slowStartThreshold, saved.threshold)
        maximumWindow = saved.maximumWindow
        epoch = saved.epoch
        self.saved = nil
    }

    package mutating func packetSizeChanged(to size: Int) { packetSize = size }

    package mutating func idled(for time: Duration, retransmissionTimeout: Duration) {
        // §5.8: the curve does not go on while nothing is sent
        epoch?.startedAt += time
        guard time > retransmissionTimeout else { return }
        // RFC 9260 §7.2.1
        window = max(window / 2, min(window, initialWindow))
    }
}

/// By Newton's method, from the exponent's third: seven steps end at the last bit.
private func cubeRoot(_ value: Double) -> Double {
    guard value > 0, value.isFinite else { return 0 }
    var root = Double(sign: .plus, exponent: value.exponent / 3, significand: 1.3)
    for _ in 0..<7 { root -= (root - value / (root * root)) / 3 }
    return root
}

/// Ends slow start when the queue begins to grow, before it overflows (RFC 9406).
struct HyStart {
    /// CSS_GROWTH_DIVISOR.
    static let growthDivisor = 4
    /// N_RTT_SAMPLE; a SACK answers a burst here, so there are fewer.
    private static let samples = 4
    /// CSS_ROUNDS.
    private static let cautiousRounds = 5

    private var roundEnd: UInt64 = 0
    private var samplesOfRound = 0
    private var minimumOfRound: Duration?
    private var minimumOfLastRound: Duration?
    /// Conservative slow start: the round-trip time at which it began.
    private var baseline: Duration?
    private var roundsOfCaution = 0
    private(set) var isOver = false

    var isCautious: Bool { baseline != nil }

    mutating func acknowledged(_ sample: AcknowledgementSample) {
        if let prior = sample.delivery.priorDelivered, prior >= roundEnd {
            roundEnd = sample.delivery.delivered
            minimumOfLastRound = minimumOfRound
            minimumOfRound = nil
            samplesOfRound = 0
            if isCautious {
                roundsOfCaution += 1
                if roundsOfCaution >= Self.cautiousRounds { isOver = true }
            }
        }
        guard let time = sample.roundTripTime else { return }
        minimumOfRound = min(minimumOfRound ?? time, time)
        samplesOfRound += 1
        guard samplesOfRound >= Self.samples, let current = minimumOfRound else { return }
        if let baseline {
            // the rise was noise
            if current < baseline {
                self.baseline = nil
                roundsOfCaution = 0
            }
        } else if let last = minimumOfLastRound {
            // MIN_RTT_THRESH, MAX_RTT_THRESH, MIN_RTT_DIVISOR
            let threshold = max(.milliseconds(4), min(last / 8, .milliseconds(16)))
            if current >= last + threshold { baseline = current }
        }
    }
}
