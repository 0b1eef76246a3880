package import Wire

/// What a controller is told at its birth.
package struct CongestionParameters: Sendable {
    package var maximumPacketSize: Int
    package var initialWindow: Int
    /// Where slow start ends at the latest.
    package var initialThreshold: Int
    /// Of the handshake; nil where it was ambiguous.
    package var roundTripTime: Duration?
    /// Spreads what many connections would else do at the same moment.
    package var seed: UInt64

    package init(maximumPacketSize: Int, initialWindow: Int, initialThreshold: Int, roundTripTime: Duration? = nil, seed: UInt64 = 0) {
        self.maximumPacketSize = maximumPacketSize
        self.initialWindow = initialWindow
        self.initialThreshold = initialThreshold
        self.roundTripTime = roundTripTime
        self.seed = seed
    }
}

/// What one SACK told.
package struct AcknowledgementSample: Sendable {
    package var at: Instant
    /// Bytes acknowledged for the first time, chunk headers included.
    package var newlyAcknowledged: Int
    /// Bytes taken for lost because of it.
    package var newlyLost: Int
    /// In flight before this SACK.
    package var priorInFlight: Int
    package var inFlight: Int
    package var cumulativeAdvanced: Bool
    package var isInRecovery: Bool
    /// The window or the pace, not the application or the peer, held back data since the last SACK.
    package var wasWindowLimited: Bool
    package var roundTripTime: Duration?
    package var smoothedRoundTripTime: Duration?
    package var minimumRoundTripTime: Duration?
    package var delivery: DeliverySample
}

/// Decides how many bytes may be in flight, and how fast they follow one another. A value; told everything, asked for `window` and `pacingRate`.
package protocol CongestionController: Sendable {
    /// Bytes that may be in flight.
    var window: Int { get }
    /// Where slow start ends; as the window where a controller has no such thing.
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
    /// The last episode, or time-out, was none: what was taken for lost had only been late.
    mutating func undo(at now: Instant)
    /// The path carries packets of this size from now on (RFC 8899).
    mutating func packetSizeChanged(to size: Int)
    /// Nothing was in flight for so long (RFC 9260 §7.2.1).
    mutating func idled(for time: Duration, retransmissionTimeout: Duration)
}

extension CongestionController {
    package mutating func recovered(at now: Instant) {}
}

/// The controllers that there are.
package enum CongestionControl: String, Sendable, Hashable, CaseIterable {
    /// Model of the path's rate and round-trip time, after BBRv3; ``BBR``.
    case bbr
    /// RFC 9438 with HyStart++ (RFC 9406).
    case cubic
    /// RFC 9260 §7.2 as it stands.
    case newReno = "newreno"

    package func make(_ parameters: CongestionParameters) -> any CongestionController {
        switch self {
        case .bbr: BBR(parameters)
        case .cubic: Cubic(parameters)
        case .newReno: NewReno(parameters)
        }
    }
}
