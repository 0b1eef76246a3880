public import Wire

/// An address where an agent may be reached (RFC 8445 §5.1), with the text form of RFC 8839 §5.1.
public struct IceCandidate: Hashable, Sendable {
    public enum Transport: String, Hashable, Sendable { case udp, tcp }

    public enum Kind: String, Hashable, Sendable, CaseIterable {
        case host
        case serverReflexive = "srflx"
        case peerReflexive = "prflx"
        case relay
    }

    /// RFC 6544 §4.5.
    public enum TCPType: String, Hashable, Sendable { case active, passive, so }

    public enum Address: Hashable, Sendable {
        case ip(TransportAddress)
        /// A name to be resolved by the driver, mostly `<uuid>.local` (mDNS candidates). The agent keeps it and does not pair it.
        case hostname(String, port: UInt16)
    }

    public var foundation: String
    /// 1 is RTP, or everything where nothing else is multiplexed.
    public var component: Int
    public var transport: Transport
    public var priority: UInt32
    public var address: Address
    public var kind: Kind
    /// The base of a reflexive candidate, the mapped address of a relayed one; for diagnostics only.
    public var relatedAddress: TransportAddress?
    public var tcpType: TCPType?
    /// Which m-section the candidate belongs to (RFC 8838 §4); not part of the line.
    public var sdpMid: String?
    public var sdpMLineIndex: Int?
    /// The generation that it belongs to (the `ufrag` extension of libwebrtc).
    public var usernameFragment: String?

    public init(
        foundation: String, component: Int = 1, transport: Transport = .udp, priority: UInt32, address: Address, kind: Kind,
        relatedAddress: TransportAddress? = nil, tcpType: TCPType? = nil, usernameFragment: String? = nil
    ) {
        self.foundation = foundation
        self.component = component
        self.transport = transport
        self.priority = priority
        self.address = address
        self.kind = kind
        self.relatedAddress = relatedAddress
        self.tcpType = tcpType
        self.usernameFragment = usernameFragment
    }

    /// The IP address and port, unless it is a name.
    public var transportAddress: TransportAddress? {
        if case .ip(let address) = address { address } else { nil }
    }

    /// The same candidate once its name is resolved; itself where it has an IP address.
    public func resolved(to ip: TransportAddress.IP) -> IceCandidate {
        guard case .hostname(_, let port) = address else { return self }
        var result = self
        result.address = .ip(TransportAddress(ip: ip, port: port))
        return result
    }
}

/// Why a candidate line is refused.
public enum IceCandidateError: Error, Hashable, Sendable {
    case missingField
    case badFoundation, badComponent, badTransport, badPriority, badAddress, badPort, badKind
    /// Longer than any candidate needs to be.
    case tooLong
}
