import Wire

/// Spreads packets over time: credit grows with the rate and bursts are worth a timer.
struct Pacer {
    /// What a timer's turn sends: a millisecond's worth, so that offload has something to join.
    fileprivate static let burstTime = 1e-3
    /// Credit for turns that came late.
    private static let creditTime = 4e-3
    struct Pace {
        /// Bytes per second.
        var rate: Double
        var packetSize: Int
        /// Bytes that one turn writes at most.
        var limit: Int

        /// Bytes worth a turn.
        var burst: Double { min(max(rate * Pacer.burstTime, Double(2 * packetSize)), Double(limit)) }
    }

    private var credit = 0.0
    private var countedAt = Instant.zero

    /// Bytes that may be sent now.
    mutating func allowance(_ pace: Pace, at now: Instant) -> Int {
        let most = max(2 * pace.burst, pace.rate * Self.creditTime)
        credit = min(most, credit + pace.rate * Double(now.nanoseconds - countedAt.nanoseconds) * 1e-9)
        countedAt = now
        return credit >= pace.burst ? min(Int(credit), pace.limit) : 0
    }

    mutating func sent(_ bytes: Int) { credit -= Double(bytes) }

    /// When there is credit for a burst.
    func due(_ pace: Pace) -> Instant {
        let missing = pace.burst - credit
        guard missing > 0 else { return countedAt }
        // rounded up: a timer that comes a nanosecond early finds nothing to do
        return Instant(nanoseconds: countedAt.nanoseconds + Int64(min(1e15, missing / pace.rate * 1e9)) + 1000)
    }
}
