import Wire

/// W3C's `RTCPeerConnectionStats`.
public struct PeerConnectionStats: Stats {
    public var id: String
    public var timestamp: Double
    public private(set) var type = StatsType.peerConnection
    /// Channels that have entered the open state.
    public var dataChannelsOpened = 0
    /// Of these, the channels that left it.
    public var dataChannelsClosed = 0
    public var everyframe = Extensions()

    /// What W3C has no name for.
    public struct Extensions: Hashable, Sendable, Codable {
        /// Seconds from the first description set to the connected state; nil until then.
        public var setupTime: Double?
    }

    init(id: String, timestamp: Double) {
        self.id = id
        self.timestamp = timestamp
    }
}

/// W3C's `RTCTransportStats`: ICE and DTLS together.
public struct TransportStats: Stats {
    public var id: String
    public var timestamp: Double
    public private(set) var type = StatsType.transport
    /// DTLS datagrams on all pairs together: without ICE's checks.
    public var packetsSent = 0
    public var packetsReceived = 0
    /// Their UDP payload in bytes.
    public var bytesSent = 0
    public var bytesReceived = 0
    /// `controlling`, `controlled`; `unknown` before a description decides.
    public var iceRole = "unknown"
    public var iceLocalUsernameFragment: String?
    /// `new`, `checking`, `connected`, `completed`, `disconnected`, `failed`, `closed`.
    public var iceState = "new"
    /// `new`, `connecting`, `connected`, `closed`, `failed`.
    public var dtlsState = "new"
    /// `client`, `server`; `unknown` before both descriptions are there.
    public var dtlsRole = "unknown"
    /// The version field of DTLS records in hexadecimal digits: `FEFD` is DTLS 1.2.
    public var tlsVersion: String?
    /// OpenSSL's name of the cipher suite.
    public var dtlsCipher: String?
    public var selectedCandidatePairId: String?
    /// Times that another pair was selected, the first among them.
    public var selectedCandidatePairChanges = 0
    public var localCertificateId: String?
    public var remoteCertificateId: String?
    public var everyframe = Extensions()

    /// What W3C has no name for.
    public struct Extensions: Hashable, Sendable, Codable {
        /// What the demultiplexer (RFC 7983) saw, ICE's checks among it: `received`, `bytesReceived`, `stun`, `dtls`, and by reason what nobody
        /// could use: `media`, `unknown`, `early`, `unproved`.
        public var demultiplexer: [String: Int] = [:]
        /// What ICE threw away, by reason, and what it did.
        public var ice: [String: Int] = [:]
        /// What DTLS threw away, by reason, and what it did.
        public var dtls: [String: Int] = [:]
        /// What the UDP sockets did and dropped, by reason. A server's sockets serve all of its connections: so do these counters.
        public var socket: [String: Int] = [:]
    }

    init(id: String, timestamp: Double) {
        self.id = id
        self.timestamp = timestamp
    }
}

/// W3C's `RTCIceCandidatePairStats`.
public struct IceCandidatePairStats: Stats {
    public var id: String
    public var timestamp: Double
    public private(set) var type = StatsType.candidatePair
    public var transportId: String
    public var localCandidateId: String?
    public var remoteCandidateId: String?
    /// `waiting`, `in-progress`, `failed`, `succeeded`; one component leaves nothing `frozen`.
    public var state = "waiting"
    public var nominated = false
    /// DTLS datagrams along this pair, and their UDP payload in bytes: without ICE's checks.
    public var packetsSent = 0
    public var packetsReceived = 0
    public var bytesSent = 0
    public var bytesReceived = 0
    /// Milliseconds since 1970.
    public var lastPacketSentTimestamp: Double?
    public var lastPacketReceivedTimestamp: Double?
    /// Seconds, over all answered checks and consent requests, and of the last of them.
    public var totalRoundTripTime = 0.0
    public var currentRoundTripTime: Double?
    /// Bits a second that congestion control allows now; of the selected pair, once a round trip is measured.
    public var availableOutgoingBitrate: Double?
    /// Checks, without retransmissions; consent requests are counted by themselves.
    public var requestsSent = 0
    public var requestsReceived = 0
    public var responsesSent = 0
    public var responsesReceived = 0
    /// RFC 7675.
    public var consentRequestsSent = 0

    init(id: String, timestamp: Double, transportId: String) {
        self.id = id
        self.timestamp = timestamp
        self.transportId = transportId
    }
}

/// W3C's `RTCIceCandidateStats`, of `local-candidate` and `remote-candidate`.
public struct IceCandidateStats: Stats {
    public var id: String
    public var timestamp: Double
    public private(set) var type: StatsType
    public var transportId: String
    /// nil of a name that is not resolved.
    public var address: String?
    public var port: Int?
    /// `udp` or `tcp`.
    public var `protocol`: String
    /// `host`, `srflx`, `prflx` or `relay`.
    public var candidateType: String
    public var priority: UInt32
    public var foundation: String
    public var relatedAddress: String?
    public var relatedPort: Int?
    public var usernameFragment: String?
    /// `active`, `passive` or `so`.
    public var tcpType: String?

    init(_ candidate: IceCandidate, id: String, type: StatsType, timestamp: Double, transportId: String) {
        self.id = id
        self.timestamp = timestamp
        self.type = type
        self.transportId = transportId
        address = candidate.transportAddress.map { "\($0.ip)" }
        port = candidate.transportAddress.map { Int($0.port) }
        `protocol` = candidate.transport.rawValue
        candidateType = candidate.kind.rawValue
        priority = candidate.priority
        foundation = candidate.foundation
        relatedAddress = candidate.relatedAddress.map { "\($0.ip)" }
        relatedPort = candidate.relatedAddress.map { Int($0.port) }
        usernameFragment = candidate.usernameFragment
        tcpType = candidate.tcpType?.rawValue
    }
}

/// W3C's `RTCCertificateStats`.
public struct CertificateStats: Stats {
    public var id: String
    public var timestamp: Double
    public private(set) var type = StatsType.certificate
    /// As SDP has it: `12:AB:…` (RFC 8122 §5).
    public var fingerprint: String
    /// `sha-256`.
    public var fingerprintAlgorithm: String
    /// The certificate (DER) in base 64.
    public var base64Certificate: String

    init(id: String, timestamp: Double, fingerprint: String, fingerprintAlgorithm: String, base64Certificate: String) {
        self.id = id
        self.timestamp = timestamp
        self.fingerprint = fingerprint
        self.fingerprintAlgorithm = fingerprintAlgorithm
        self.base64Certificate = base64Certificate
    }
}
