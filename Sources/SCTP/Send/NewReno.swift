package import Wire

/// Slow start and congestion avoidance of RFC 9260 §7.2, counting bytes.
///
/// Growth per SACK is not capped at one packet (L of §7.2.1): a SACK covers a whole receive burst here.
package struct NewReno: CongestionController {
    package private(set) var window: Int
    package private(set) var slowStartThreshold: Int
    package var pacingRate: Double? { nil }
    private var packetSize: Int
    private let initialWindow: Int
    private var partialBytesAcknowledged = 0
    /// Window and threshold before the last reduction.
    private var saved: (window: Int, threshold: Int)?

    package init(_ parameters: CongestionParameters) {
        packetSize = parameters.maximumPacketSize
        window = parameters.initialWindow
        initialWindow = parameters.initialWindow
        slowStartThreshold = parameters.initialThreshold
    }

    package mutating func acknowledged(_ sample: AcknowledgementSample) {
        // §7.2.1: grow only where the window was in full use, the cumulative TSN moved and no recovery is going on
        guard sample.wasWindowLimited, sample.cumulativeAdvanced, !sample.isInRecovery else { return }
        if window <= slowStartThreshold {
            window += sample.newlyAcknowledged
        } else {
            // §7.2.2
            partialBytesAcknowledged += sample.newlyAcknowledged
            while partialBytesAcknowledged >= window {
                partialBytesAcknowledged -= window
                window += packetSize
            }
        }
    }

    package mutating func lossDetected(inFlight: Int, at now: Instant) {
        // §7.2.3
        saved = (window, slowStartThreshold)
        slowStartThreshold = max(window / 2, 4 * packetSize)
        window = slowStartThreshold
        partialBytesAcknowledged = 0
    }

    package mutating func timedOut(inFlight: Int, at now: Instant) {
        // a second expiry in a row undoes to what was before the first
        if window > packetSize { saved = (window, slowStartThreshold) }
        slowStartThreshold = max(window / 2, 4 * packetSize)
        window = packetSize
        partialBytesAcknowledged = 0
    }

    package mutating func undo(at now: Instant) {
        guard let saved else { return }
        window = max(window, saved.window)
        slowStartThreshold = max(slowStartThreshold, saved.threshold)
        self.saved = nil
    }

    package mutating func packetSizeChanged(to size: Int) { packetSize = size }

    package mutating func idled(for time: Duration, retransmissionTimeout: Duration) {
        // §7.2.1: halve once per RTO of silence, down to the initial size; here one step is enough
        guard time > retransmissionTimeout else { return }
        window = max(window / 2, min(window, initialWindow))
    }
}
