package import Wire

/// Congestion control by a model of the path: its rate and its round-trip time (BBR; draft-ietf-ccwg-bbr, version 3).
///
/// Chart of phases:
///
///     startup ──rate no longer grows, or the queue does──► drain ──queue is empty──► cruise
///     down ──in flight is what the path holds──► cruise ──2 to 3 s, or as Reno would──► refill ──a round──► up ──queue or loss──► down
///     any ──no empty queue seen for 5 s──► probeRTT ──200 ms──► startup or cruise
///
/// It differs from the draft in what it takes for congestion. Loss alone is none: on radio paths packets get lost without any queue. Loss counts where
/// the queue was never empty for a round, or where it is so heavy that only a policer or an overflowing short buffer explains it. Where a CUBIC flow
/// shares the path, the queue stands, and loss counts as in the draft.
package struct BBR: CongestionController {
    package enum Phase: String, Sendable { case startup, drain, down, cruise, refill, up, probeRTT }

    private static let startupGain = 2.77
    private static let drainGain = 0.5
    /// Loss of a round that ends probing, where a queue stands.
    private static let lossThreshold = 0.02
    /// The same where none does.
    private static let heavyLoss = 0.25
    private static let beta = 0.7
    private static let headroom = 0.85
    private static let roundTripWindow: Duration = .seconds(10)
    private static let probeInterval: Duration = .seconds(5)
    private static let probeTime: Duration = .milliseconds(200)

    package private(set) var window: Int
    package private(set) var phase = Phase.startup
    private var packetSize: Int
    private let basePacketSize: Int
    private let initialWindow: Int
    private var random: UInt64

    // the model
    /// The greatest rate of this cycle and of the one before, bytes per second.
    private var rates = (current: 0.0, previous: 0.0)
    /// What loss in the last round left of it.
    private var rateBound = Double.infinity
    private var minimumRoundTripTime: Duration?
    private var minimumTakenAt = Instant.zero
    /// The queue was last seen empty.
    private var emptyQueueAt = Instant.zero
    /// Bytes that were in flight without harm.
    private var inFlightBound = Int.max
    /// The same, in the short run.
    private var inFlightShortBound = Int.max

    // rounds
    private var roundEnd: UInt64 = 0
    private var isRoundStart = false
    private var rounds = 0
    private var round = Round()

    /// What a round trip showed.
    private struct Round {
        var minimumRoundTripTime: Duration?
        var lost = 0
        var acknowledged = 0
        var rate = 0.0
        var inFlight = 0
    }

    // startup
    private var plateauRate = 0.0
    private var plateauRounds = 0
    /// Samples in a row that show a queue.
    private var queuedSamples = 0
    private var isFull = false

    // the cycle
    private var cycleStartedAt = Instant.zero
    private var cycleWait: Duration = .seconds(2)
    private var roundsSinceProbe = 0
    private var isProbeSampling = false
    private var probeUpRounds = 0
    private var probeUpPerPacket = Int.max
    private var probeUpAcknowledged = 0

    // acknowledgements that come in clumps
    private var clump: (startedAt: Instant, bytes: Int) = (.zero, 0)
    /// What came beyond the rate, greatest of ten to twenty rounds.
    private var excess = (current: 0, previous: 0, rounds: 0)

    private var probeRTTEndsAt: Instant?
    private var probeRTTRoundEnd: UInt64 = 0
    /// To go back to after the window was cut for a time.
    private var restorable = 0
    private var timeoutRounds = 0
    private var saved: Saved?

    private struct Saved {
        var rateBound: Double
        var inFlightBound: Int
        var inFlightShortBound: Int
        var window: Int
    }

    package init(_ parameters: CongestionParameters) {
        packetSize = parameters.maximumPacketSize
        basePacketSize = parameters.maximumPacketSize
        window = parameters.initialWindow
        initialWindow = parameters.initialWindow
        random = parameters.seed | 1
        minimumRoundTripTime = parameters.roundTripTime
        setFirstPace()
    }

    package var slowStartThreshold: Int { window }

    package private(set) var pacingRate: Double?

    private mutating func setPace() {
        let rate = gain * bandwidth
        // until the path is known, little to send says nothing of it
        if isFull || rate > pacingRate ?? 0 { pacingRate = max(rate, Double(basePacketSize)) }
    }

    /// The first window in a round trip, at the pace of startup.
    private mutating func setFirstPace() {
        guard pacingRate == nil, let time = minimumRoundTripTime, time > .zero else { return }
        pacingRate = Self.startupGain * Double(initialWindow) * 1e9 / Double(time.inNanoseconds)
    }

    // MARK: The model

    /// Bytes per second, as short-run loss lets it.
    private var bandwidth: Double { min(greatestRate, rateBound) }
    private var greatestRate: Double { max(rates.current, rates.previous) }

    private var gain: Double {
        switch phase {
        case .startup: Self.startupGain
        case .drain: Self.drainGain
        case .down: 0.9
        case .cruise, .refill, .probeRTT: 1
        case .up: 1.25
        }
    }

    private var windowGain: Double {
        switch phase {
        case .up: 2.25
        case .probeRTT: 0.5
        default: 2
        }
    }

    /// Bytes that `gain` times the path's capacity is.
    private func product(_ gain: Double) -> Int {
        guard let time = minimumRoundTripTime, bandwidth > 0 else { return initialWindow }
        return Int(min(1e15, gain * bandwidth * Double(time.inNanoseconds) * 1e-9))
    }

    /// What a poll of the sender and the offload of both ends hold on to.
    private var burst: Int { min(256 * packetSize, max(2 * packetSize, Int((pacingRate ?? 0) * 1e-3))) }

    private func target(_ gain: Double) -> Int {
        max(product(gain) + max(excess.current, excess.previous) + 3 * burst, minimumWindow) + (phase == .up ? 2 * packetSize : 0)
    }

    private var minimumWindow: Int { max(4 * basePacketSize, 2 * packetSize) }

    /// The round had a queue from its beginning to its end.
    private var roundHadQueue: Bool {
        guard let least = round.minimumRoundTripTime, let minimum = minimumRoundTripTime else { return false }
        return least > minimum + max(minimum / 8, .milliseconds(1))
    }

    private func isCongestion(lost: Int, of all: Int, threshold: Double) -> Bool {
        guard lost > 0, all > 0 else { return false }
        let share = Double(lost) / Double(all)
        // a share of few packets tells less than one of many
        let packets = Double(all) / Double(basePacketSize)
        return share > Self.heavyLoss + 1 / packets.squareRoot() || roundHadQueue && share > threshold
    }

    // MARK: Acknowledgements

    package mutating func acknowledged(_ sample: AcknowledgementSample) {
        countRound(sample)
        learnRoundTripTime(sample)
        setFirstPace()
        learnRate(sample)
        learnExcess(sample)
        if isRoundStart { adaptBounds() }
        probe(sample)
        if isRoundStart { round = Round() }
        setPace()
        limitWindow(sample)
    }

    private mutating func countRound(_ sample: AcknowledgementSample) {
        isRoundStart = false
        round.lost += sample.newlyLost
        round.acknowledged += sample.newlyAcknowledged
        if let time = sample.roundTripTime { round.minimumRoundTripTime = min(round.minimumRoundTripTime ?? time, time) }
        if let rate = sample.delivery.rate { round.rate = max(round.rate, rate) }
        round.inFlight = max(round.inFlight, sample.delivery.bytesInRound)
        if let prior = sample.delivery.priorDelivered, prior >= roundEnd {
            roundEnd = sample.delivery.delivered
            isRoundStart = true
            rounds += 1
            roundsSinceProbe += 1
        }
    }

    private mutating func learnRoundTripTime(_ sample: AcknowledgementSample) {
        guard let time = sample.roundTripTime else { return }
        if let minimum = minimumRoundTripTime, time > minimum, sample.at - minimumTakenAt <= Self.roundTripWindow {
            // near enough: no need to stop in order to look
            if time <= minimum + max(minimum / 16, .microseconds(200)) { emptyQueueAt = sample.at }
        } else {
            minimumRoundTripTime = time
            minimumTakenAt = sample.at
            emptyQueueAt = sample.at
        }
        if emptyQueueAt > minimumTakenAt, minimumRoundTripTime.map({ time <= $0 + $0 / 16 }) ?? false { minimumTakenAt = sample.at }
    }

    private mutating func learnRate(_ sample: AcknowledgementSample) {
        guard let rate = sample.delivery.rate else { return }
        if rate >= greatestRate || !sample.delivery.isApplicationLimited { rates.current = max(rates.current, rate) }
    }

    /// Bytes beyond what the rate explains: a path, or a peer, that answers in clumps needs them in flight as well.
    private mutating func learnExcess(_ sample: AcknowledgementSample) {
        if isRoundStart, excess.rounds >= 10 {
            excess = (0, excess.current, 0)
        } else if isRoundStart {
            excess.rounds += 1
        }
        let expected = bandwidth * Double((sample.at - clump.startedAt).inNanoseconds) * 1e-9
        if Double(clump.bytes) <= expected { clump = (sample.at, 0) }
        clump.bytes += sample.newlyAcknowledged
        let since = bandwidth * Double((sample.at - clump.startedAt).inNanoseconds) * 1e-9
        guard isFull else { return }
        excess.current = max(excess.current, min(Int(max(0, Double(clump.bytes) - since)), window))
    }

    // MARK: Loss

    /// Once a round: what loss says of the short run, unless we caused it by asking for more.
    private mutating func adaptBounds() {
        guard phase != .startup, phase != .refill, phase != .up, isCongestion(lost: round.lost, of: round.lost + round.acknowledged, threshold: 0) else {
            return
        }
        if rateBound == .infinity { rateBound = greatestRate }
        if inFlightShortBound == .max { inFlightShortBound = window }
        rateBound = max(round.rate, Self.beta * rateBound)
        inFlightShortBound = max(round.inFlight, Int(Self.beta * Double(inFlightShortBound)))
    }

    /// True when so much was lost of what was in flight that less is to be.
    private mutating func findsTooMuchInFlight(_ sample: AcknowledgementSample) -> Bool {
        let delivery = sample.delivery
        guard isProbeSampling, sample.newlyLost > 0, delivery.lost >= 3 * packetSize,
            isCongestion(lost: delivery.lost, of: delivery.inFlightAtSend, threshold: Self.lossThreshold)
        else { return false }
        isProbeSampling = false
        if !delivery.isApplicationLimited {
            saveForUndo()
            inFlightBound = max(delivery.inFlightAtSend, Int(Self.beta * Double(min(product(1), window))))
        }
        return true
    }

    // MARK: Phases

    private mutating func probe(_ sample: AcknowledgementSample) {
        let now = sample.at
        switch phase {
        case .startup:
            checkPlateau(sample)
            if isFull {
                phase = .drain
                emptyQueueAt = now
            }
        case .drain:
            if sample.inFlight <= product(1) { begin(.down, at: now) }
        case .down:
            if isDueToProbe(at: now) { return begin(.refill, at: now) }
            if isRoundStart { isProbeSampling = false }
            if sample.inFlight <= min(bounded(inFlightBound), product(1)) { phase = .cruise }
        case .cruise:
            if isDueToProbe(at: now) { begin(.refill, at: now) }
        case .refill:
            if isRoundStart {
                isProbeSampling = true
                begin(.up, at: now)
            }
        case .up:
            if findsTooMuchInFlight(sample) { return begin(.down, at: now) }
            raiseBound(sample)
            let hasWaited = minimumRoundTripTime.map { now - cycleStartedAt > $0 } ?? false
            if hasWaited, sample.inFlight >= product(1.25) || roundHadQueue && isRoundStart && roundsSinceProbe >= 2 { begin(.down, at: now) }
        case .probeRTT: break
        }
        checkProbeRTT(sample)
    }

    private mutating func begin(_ next: Phase, at now: Instant) {
        switch next {
        case .down:
            // a new cycle: the rate of the last but one is forgotten
            if rates.current > 0 { rates = (0, rates.current) }
            cycleWait = .milliseconds(2000 + Int64(nextRandom() % 1000))
            cycleStartedAt = now
            roundsSinceProbe = 0
            probeUpPerPacket = .max
        case .refill:
            rateBound = .infinity
            inFlightShortBound = .max
            probeUpRounds = 0
            probeUpAcknowledged = 0
            cycleStartedAt = now
            roundsSinceProbe = 0
        case .up:
            cycleStartedAt = now
            roundsSinceProbe = 0
            raiseSlope()
        default: break
        }
        phase = next
    }

    private mutating func checkPlateau(_ sample: AcknowledgementSample) {
        if let time = sample.roundTripTime, let minimum = minimumRoundTripTime {
            queuedSamples = time > minimum + max(minimum / 4, .milliseconds(2)) ? queuedSamples + 1 : 0
        }
        let grows = greatestRate >= plateauRate * 1.25
        // a queue that grows while the rate does not says it before it overflows
        if !grows, queuedSamples >= 16 { isFull = true }
        guard isRoundStart else { return }
        if grows {
            plateauRate = greatestRate
            plateauRounds = 0
        } else if !sample.delivery.isApplicationLimited {
            plateauRounds += 1
            if plateauRounds >= 3 { isFull = true }
        }
        if round.lost >= 6 * packetSize, isCongestion(lost: round.lost, of: round.lost + round.acknowledged, threshold: Self.lossThreshold) {
            isFull = true
            inFlightBound = max(product(1), round.inFlight)
        }
    }

    /// Time for more: after two to three seconds, or after as many rounds as a Reno flow of this size would take to grow by a packet each.
    private func isDueToProbe(at now: Instant) -> Bool {
        now - cycleStartedAt > cycleWait || roundsSinceProbe >= min(63, product(1) / max(1, packetSize))
    }

    /// One packet more per round at first, then twice as many each round.
    private mutating func raiseSlope() {
        let growth = 1 << min(30, probeUpRounds)
        probeUpRounds += 1
        probeUpPerPacket = max(packetSize, window / growth)
    }

    private mutating func raiseBound(_ sample: AcknowledgementSample) {
        guard inFlightBound != .max, sample.wasWindowLimited, window >= inFlightBound else { return }
        probeUpAcknowledged += sample.newlyAcknowledged
        if probeUpAcknowledged >= probeUpPerPacket {
            let steps = probeUpAcknowledged / probeUpPerPacket
            probeUpAcknowledged -= steps * probeUpPerPacket
            inFlightBound += steps * packetSize
        }
        if isRoundStart { raiseSlope() }
    }

    private mutating func checkProbeRTT(_ sample: AcknowledgementSample) {
        let now = sample.at
        if phase != .probeRTT {
            guard phase != .startup, phase != .drain, now - emptyQueueAt > Self.probeInterval else { return }
            restorable = max(restorable, window)
            phase = .probeRTT
            probeRTTEndsAt = nil
        }
        if let end = probeRTTEndsAt {
            guard now >= end, sample.delivery.priorDelivered.map({ $0 >= probeRTTRoundEnd }) ?? false else { return }
            // whatever it is, it is the path's
            emptyQueueAt = now
            if let least = round.minimumRoundTripTime, now - minimumTakenAt > Self.probeInterval {
                minimumRoundTripTime = least
                minimumTakenAt = now
            }
            window = max(window, restorable)
            restorable = 0
            rateBound = .infinity
            inFlightShortBound = .max
            if isFull {
                begin(.down, at: now)
                phase = .cruise
            } else {
                phase = .startup
            }
        } else if sample.inFlight <= max(product(0.5), minimumWindow) {
            probeRTTEndsAt = now + Self.probeTime
            probeRTTRoundEnd = sample.delivery.delivered
        }
    }

    // MARK: The window

    private func bounded(_ bound: Int) -> Int { bound == .max ? .max : max(minimumWindow, Int(Self.headroom * Double(bound))) }

    private mutating func limitWindow(_ sample: AcknowledgementSample) {
        if timeoutRounds > 0 {
            if isRoundStart { timeoutRounds -= 1 }
            window += sample.newlyAcknowledged
            if timeoutRounds == 0 {
                window = max(window, restorable)
                restorable = 0
            }
        }
        let target = target(windowGain)
        if isFull {
            window = min(window + sample.newlyAcknowledged, target)
        } else if window < target || sample.delivery.delivered < UInt64(initialWindow) {
            window += sample.newlyAcknowledged
        }
        var bound = inFlightShortBound
        switch phase {
        case .startup, .drain: break
        case .down, .refill, .up: bound = min(bound, inFlightBound)
        case .cruise: bound = min(bound, bounded(inFlightBound))
        case .probeRTT: bound = min(bound, bounded(inFlightBound), product(0.5))
        }
        window = max(minimumWindow, min(window, bound))
    }

    package mutating func lossDetected(inFlight: Int, at now: Instant) { saveForUndo() }

    package mutating func timedOut(inFlight: Int, at now: Instant) {
        if window > packetSize {
            saveForUndo()
            restorable = max(restorable, window)
        }
        // RFC 9260 §7.2.3; the model knows how fast to come back
        window = packetSize
        timeoutRounds = 2
    }

    private mutating func saveForUndo() {
        saved = Saved(rateBound: rateBound, inFlightBound: inFlightBound, inFlightShortBound: inFlightShortBound, window: window)
    }

    package mutating func undo(at now: Instant) {
        guard let saved else { return }
        rateBound = max(rateBound, saved.rateBound)
        inFlightBound = max(inFlightBound, saved.inFlightBound)
        inFlightShortBound = max(inFlightShortBound, saved.inFlightShortBound)
        window = max(window, saved.window)
        timeoutRounds = 0
        restorable = 0
        self.saved = nil
    }

    package mutating func packetSizeChanged(to size: Int) { packetSize = size }

    package mutating func idled(for time: Duration, retransmissionTimeout: Duration) {
        // the model keeps for a while: pacing, not the window, bounds the burst after a pause. An empty pipe is an empty queue.
        emptyQueueAt += time
        clump = (clump.startedAt + time, 0)
    }

    private mutating func nextRandom() -> UInt64 {
        // xorshift64
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return random
    }
}
