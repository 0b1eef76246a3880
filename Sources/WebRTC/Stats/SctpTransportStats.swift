/// W3C's `RTCDataChannelStats`.
public struct DataChannelStats: Stats {
    public var id: String
    public var timestamp: Double
    public private(set) var type = StatsType.dataChannel
    public var label: String
    public var `protocol`: String
    /// The SCTP stream; nil until the DTLS role decides between even and odd (RFC 8832 §6).
    public var dataChannelIdentifier: Int?
    /// `connecting`, `open`, `closing` or `closed`.
    public var state: String
    /// Given to `send`.
    public var messagesSent = 0
    /// Their payload in bytes.
    public var bytesSent = 0
    public var messagesReceived = 0
    public var bytesReceived = 0
    public var everyframe = Extensions()

    /// What W3C has no name for.
    public struct Extensions: Hashable, Sendable, Codable {
        /// Bytes given to `send` that are not in a packet yet.
        public var bufferedAmount = 0
    }

    init(id: String, timestamp: Double, label: String, protocol: String, state: String) {
        self.id = id
        self.timestamp = timestamp
        self.label = label
        self.protocol = `protocol`
        self.state = state
    }
}

/// W3C's `RTCSctpTransportStats`.
public struct SctpTransportStats: Stats {
    public var id: String
    public var timestamp: Double
    public private(set) var type = StatsType.sctpTransport
    public var transportId: String
    /// Seconds; nil before the first was measured (RFC 9260 §6.3.1).
    public var smoothedRoundTripTime: Double?
    /// Bytes.
    public var congestionWindow = 0
    /// Bytes that the peer said it takes, of its last SACK.
    public var receiverWindow = 0
    /// Bytes of an SCTP packet that the path was found to carry (RFC 8899).
    public var mtu = 0
    /// DATA chunks that are sent and not acknowledged.
    public var unackData = 0
    public var everyframe = Extensions()

    /// What W3C has no name for.
    public struct Extensions: Hashable, Sendable, Codable {
        /// Bytes of UDP payload that the path was found to carry: `mtu` with the DTLS record around it.
        public var datagramSize = 0
        public var slowStartThreshold = 0
        /// Bytes sent and not acknowledged.
        public var bytesInFlight = 0
        /// Bytes that this side takes, as its next SACK will say.
        public var ownReceiverWindow = 0
        /// Bytes that wait in reassembly or for the application.
        public var bytesHeld = 0
        /// Seconds.
        public var minimumRoundTripTime: Double?
        public var retransmissionTimeout = 0.0
        /// I-DATA (RFC 8260).
        public var usesInterleaving = false
        /// RFC 9653.
        public var usesZeroChecksum = false

        public var packetsSent = 0
        public var packetsReceived = 0
        public var bytesSent = 0
        public var bytesReceived = 0
        /// Messages of all channels, closed ones among them, and their payload in bytes.
        public var messagesSent = 0
        public var messagesReceived = 0
        public var messageBytesSent = 0
        public var messageBytesReceived = 0
        /// Given up by their reliability (RFC 3758).
        public var messagesAbandoned = 0
        public var chunksRetransmitted = 0
        /// Expiries of T3-rtx (RFC 9260 §6.3.3).
        public var timeouts = 0
        /// RFC 8985 §7.
        public var tailProbes = 0
        /// Times that loss was found and the window reduced.
        public var recoveries = 0
        /// Of the recoveries and time-outs, those that were undone: what was taken for lost had only been late.
        public var spuriousRecoveries = 0
        public var spuriousTimeouts = 0
        /// Chunks that arrived more than once.
        public var duplicatesReceived = 0
        /// RFC 8899: packets that tried a larger size, and times that large packets had to be given up again.
        public var pathProbes = 0
        public var blackHoles = 0
        public var sacksSent = 0
        public var sacksReceived = 0
        /// What was thrown away, by reason.
        public var discarded: [String: Int] = [:]
        public var settings = Settings()
    }

    /// What the association was told to do, in the units of the rest.
    public struct Settings: Hashable, Sendable, Codable {
        /// `bbr`, `cubic`, `newreno`.
        public var congestionControl = ""
        /// Bytes.
        public var receiveWindow = 0
        /// Bytes of UDP payload that are looked for at most.
        public var maximumDatagramSize = 0
        /// Seconds.
        public var initialRetransmissionTimeout = 0.0
        public var minimumRetransmissionTimeout = 0.0
        public var maximumRetransmissionTimeout = 0.0
        public var sackDelay = 0.0
        public var packetsPerBurst = 0
    }

    init(id: String, timestamp: Double, transportId: String) {
        self.id = id
        self.timestamp = timestamp
        self.transportId = transportId
    }
}
