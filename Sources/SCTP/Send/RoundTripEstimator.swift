import Wire

/// Smoothed round-trip time and the retransmission time-out (RFC 9260 §6.3.1).
struct RoundTripEstimator {
    private(set) var smoothed: Duration?
    /// The least of the last ten seconds or so.
    private(set) var minimum: Duration?
    /// The time-out, with back-off.
    private(set) var timeout: Duration
    private var variation: Duration = .zero
    private var minimumTaken = Instant.zero
    private let lowest: Duration
    private let highest: Duration

    init(_ configuration: Configuration) {
        timeout = configuration.initialRetransmissionTimeout
        lowest = configuration.minimumRetransmissionTimeout
        highest = configuration.maximumRetransmissionTimeout
    }

    mutating func sample(_ time: Duration, at now: Instant) {
        let sample = max(time, .nanoseconds(1))
        if let smoothed {
            let difference = smoothed > sample ? smoothed - sample : sample - smoothed
            // RTO.Beta 1/4, RTO.Alpha 1/8
            variation = variation * 3 / 4 + difference / 4
            self.smoothed = smoothed * 7 / 8 + sample / 8
        } else {
            smoothed = sample
            variation = sample / 2
        }
        if minimum.map({ sample <= $0 }) ?? true || now - minimumTaken > .seconds(10) {
            minimum = sample
            minimumTaken = now
        }
        restoreTimeout()
    }

    /// Takes the back-off away (RFC 9260 §6.3.2 R3 leaves it; an acknowledgement of new data shows that the path carries again).
    mutating func restoreTimeout() {
        guard let smoothed else { return }
        // the minimum stands in for the variation, not for the sum: on a steady path of 100 ms a time-out of 101 ms would fire at the first queue
        timeout = min(highest, smoothed + max(lowest, variation * 4))
    }

    /// RFC 9260 §6.3.3 E2.
    mutating func backOff() { timeout = min(highest, timeout * 2) }
}
