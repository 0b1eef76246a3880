/// What kind of object a stats object describes: W3C's `RTCStatsType` and, where they are no longer in it, the names browsers use.
public enum StatsType: String, Hashable, Sendable, Codable, CaseIterable {
    case peerConnection = "peer-connection"
    case transport
    case candidatePair = "candidate-pair"
    case localCandidate = "local-candidate"
    case remoteCandidate = "remote-candidate"
    case certificate
    case dataChannel = "data-channel"
    case sctpTransport = "sctp-transport"
}

/// One object of a ``StatsReport``: W3C's `RTCStats`.
public protocol Stats: Hashable, Sendable, Codable {
    /// Names the object within its connection, for as long as it lives.
    var id: String { get }
    /// When the values were taken: milliseconds since 1970, with a fraction.
    var timestamp: Double { get }
    var type: StatsType { get }
}

/// All that a peer connection counts and measures, under the names of W3C's "Identifiers for WebRTC's Statistics API" (webrtc-stats).
///
/// Counters run from the connection's beginning. Points in time are milliseconds since 1970, durations are seconds, sizes are bytes, as W3C has them.
/// What W3C has no name for stands in a member `everyframe` of the object that it belongs to.
///
/// Encodes as `RTCStatsReport` does in JavaScript: an object with one member for each stats object, by id:
///
///     {"T": {"id": "T", "timestamp": 1764028800000.5, "type": "transport", "bytesSent": 1200, …}, …}
public struct StatsReport: Hashable, Sendable {
    public var peerConnection: PeerConnectionStats
    public var transport: TransportStats
    public var sctpTransport: SctpTransportStats
    public var candidatePairs: [IceCandidatePairStats]
    public var localCandidates: [IceCandidateStats]
    public var remoteCandidates: [IceCandidateStats]
    public var certificates: [CertificateStats]
    /// Those that are not closed.
    public var dataChannels: [DataChannelStats]

    public init(
        peerConnection: PeerConnectionStats, transport: TransportStats, sctpTransport: SctpTransportStats, candidatePairs: [IceCandidatePairStats] = [],
        localCandidates: [IceCandidateStats] = [], remoteCandidates: [IceCandidateStats] = [], certificates: [CertificateStats] = [],
        dataChannels: [DataChannelStats] = []
    ) {
        self.peerConnection = peerConnection
        self.transport = transport
        self.sctpTransport = sctpTransport
        self.candidatePairs = candidatePairs
        self.localCandidates = localCandidates
        self.remoteCandidates = remoteCandidates
        self.certificates = certificates
        self.dataChannels = dataChannels
    }

    /// Every object, in an order of no meaning.
    public var all: [any Stats] {
        var all: [any Stats] = [peerConnection, transport, sctpTransport]
        all += candidatePairs as [any Stats]
        all += localCandidates as [any Stats]
        all += remoteCandidates as [any Stats]
        all += certificates as [any Stats]
        all += dataChannels as [any Stats]
        return all
    }

    /// The pair that data goes along; nil before there is one, and after the connection's end.
    public var selectedCandidatePair: IceCandidatePairStats? {
        transport.selectedCandidatePairId.flatMap { id in candidatePairs.first { $0.id == id } }
    }

    /// Of ``selectedCandidatePair``.
    public var selectedLocalCandidate: IceCandidateStats? {
        selectedCandidatePair?.localCandidateId.flatMap { id in localCandidates.first { $0.id == id } }
    }

    /// Of ``selectedCandidatePair``.
    public var selectedRemoteCandidate: IceCandidateStats? {
        selectedCandidatePair?.remoteCandidateId.flatMap { id in remoteCandidates.first { $0.id == id } }
    }
}

extension StatsReport: Codable {
    private struct ID: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    private struct Kind: Decodable { var type: StatsType }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: ID.self)
        for stats in all { try container.encode(stats, forKey: ID(stringValue: stats.id)) }
    }

    /// Objects of other types are passed over: a report may come from a newer version.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: ID.self)
        var peerConnection: PeerConnectionStats?
        var transport: TransportStats?
        var sctpTransport: SctpTransportStats?
        var pairs: [IceCandidatePairStats] = []
        var local: [IceCandidateStats] = []
        var remote: [IceCandidateStats] = []
        var certificates: [CertificateStats] = []
        var channels: [DataChannelStats] = []
        for key in container.allKeys.sorted(by: { $0.stringValue < $1.stringValue }) {
            guard let kind = try? container.decode(Kind.self, forKey: key) else { continue }
            switch kind.type {
            case .peerConnection: peerConnection = try container.decode(PeerConnectionStats.self, forKey: key)
            case .transport: transport = try container.decode(TransportStats.self, forKey: key)
            case .sctpTransport: sctpTransport = try container.decode(SctpTransportStats.self, forKey: key)
            case .candidatePair: pairs.append(try container.decode(IceCandidatePairStats.self, forKey: key))
            case .localCandidate: local.append(try container.decode(IceCandidateStats.self, forKey: key))
            case .remoteCandidate: remote.append(try container.decode(IceCandidateStats.self, forKey: key))
            case .certificate: certificates.append(try container.decode(CertificateStats.self, forKey: key))
            case .dataChannel: channels.append(try container.decode(DataChannelStats.self, forKey: key))
            }
        }
        guard let peerConnection, let transport, let sctpTransport else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "a report has one peer-connection, one transport and one sctp-transport"))
        }
        self.init(
            peerConnection: peerConnection, transport: transport, sctpTransport: sctpTransport, candidatePairs: pairs, localCandidates: local,
            remoteCandidates: remote, certificates: certificates, dataChannels: channels)
    }
}
