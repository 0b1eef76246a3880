package import Wire

/// What a controller is told at its birth.
package struct CongestionParameters: Sendable {
    package var maximumPacketSize: Int
    package var initialWindow: Int
    /// The peer's receive window: where slow start ends at the latest.
    package var initialThreshold: Int

    package init(maximumPacketSize: Int, initialWindow: Int, initialThreshold: Int) {
        self.maximumPacketSize = maximumPacketSize
        self.initialWindow = initialWindow
        self.initialThreshold = initialThreshold
    }
}

/// What one SACK told.
package struct AcknowledgementSample: Sendable {
    package var now: Instant
    /// Bytes acknowledged for the first time, chunk headers included.
    package var newlyAcknowledged: Int
    /// In flight before this SACK.
    package var priorInFlight: Int
    package var inFlight: Int
    package var cumulativeAdvanced: Bool
    package var isInRecovery: Bool
    /// The window, not the application or the peer, held back data since the last SACK.
    package var wasWindowLimited: Bool
    package var roundTripTime: Duration?
    package var minimumRoundTripTime: Duration?
}

/// Decides how many bytes may be in flight. A value; told everything, asked for `window`.
package protocol CongestionController: Sendable {
    /// Bytes that may be in flight.
    var window: Int { get }
    var slowStartThreshold: Int { get }
    /// Bytes per second to pace at; nil means no pacing.
    var pacingRate: Double? { get }
    mutating func acknowledged(_ sample: AcknowledgementSample)
    /// A loss opened a recovery episode.
    mutating func lossDetected(inFlight: Int, at now: Instant)
    /// The last loss of the episode is repaired.
    mutating func recovered(at now: Instant)
    /// T3 expired (RFC 9260 §7.2.3).
    mutating func timedOut(inFlight: Int, at now: Instant)
    /// The path carries packets of this size from now on (RFC 8899).
    mutating func packetSizeChanged(to size: Int)
    /// Nothing was in flight for so long (RFC 9260 §7.2.1).
    mutating func idled(for time: Duration, retransmissionTimeout: Duration)
}

extension CongestionController {
    package var pacingRate: Double? { nil }
    package mutating func recovered(at now: Instant) {}
    package mutating func packetSizeChanged(to size: Int) {}
    package mutating func idled(for time: Duration, retransmissionTimeout: Duration) {}
}

/// Slow start and congestion avoidance of RFC 9260 §7.2, counting bytes.
///
/// Growth per SACK is not capped at one packet (L of §7.2.1): a SACK covers a whole receive burst here.
package struct NewReno: CongestionController {
    package private(set) var window: Int
    package private(set) var slowStartThreshold: Int
    private var packetSize: Int
    private let initialWindow: Int
    private var partialBytesAcknowledged = 0

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
        slowStartThreshold = max(window / 2, 4 * packetSize)
        window = slowStartThreshold
        partialBytesAcknowledged = 0
    }

    package mutating func timedOut(inFlight: Int, at now: Instant) {
        slowStartThreshold = max(window / 2, 4 * packetSize)
        window = packetSize
        partialBytesAcknowledged = 0
    }

    package mutating func packetSizeChanged(to size: Int) { packetSize = size }

    package mutating func idled(for time: Duration, retransmissionTimeout: Duration) {
        // §7.2.1: halve once per RTO of silence, down to the initial size; here one step is enough
        guard time > retransmissionTimeout else { return }
        window = max(window / 2, min(window, initialWindow))
    }
}
