public import WebRTC
public import Wire

extension PeerConnection {
    /// RTCIceServer: a server that tells this side its outer address (STUN) or relays for it (TURN).
    public struct IceServer: Hashable, Sendable {
        /// `stun:host[:port]` (RFC 7064), `turn:host[:port][?transport=udp|tcp]` or `turns:host[:port]`, which is TURN over TLS (RFC 7065).
        /// The ports are 3478 and 5349 unless named. A host name is looked up while the first checks already run.
        public var urls: [String]
        /// For TURN, with `credential`: a long-term credential (RFC 8489 §9.2). The password is never logged.
        public var username: String?
        public var credential: String?
        /// A PEM file of certificates that `turns:` may trust beside the system's; nil, the default, for none.
        public var trustedCertificates: String?

        public init(urls: [String], username: String? = nil, credential: String? = nil, trustedCertificates: String? = nil) {
            self.urls = urls
            self.username = username
            self.credential = credential
            self.trustedCertificates = trustedCertificates
        }
    }

    /// RTCIceTransportPolicy: which of its own candidates this side uses (RFC 8828 §5.2).
    public enum IceTransportPolicy: String, Hashable, Sendable {
        /// Every candidate.
        case all
        /// Those on TURN servers only: the peer learns no address of this side, and nothing that does not come by a TURN server is answered.
        case relay
    }

    public struct Configuration: Sendable {
        /// None by default: no third party learns of this connection. A URL that cannot be read, and TURN without credentials, make the
        /// initializer throw `invalidArgument`.
        public var iceServers: [IceServer] = []
        /// `all` unless set.
        public var iceTransportPolicy = IceTransportPolicy.all
        /// The largest message this side accepts, announced as `max-message-size` (RFC 8841 §6).
        public var maxMessageSize = 64 << 20
        /// The most bytes that wait here for the application before the peer must stop (SCTP's receive window, RFC 9260 §6.2). The window begins
        /// at 512 KiB and grows to this with what the application takes in a round trip. 8 MiB carry 200 Mbit/s at 150 ms, or 1 Gbit/s at 30 ms;
        /// 1 Gbit/s at 300 ms take 75 MB. 8 MiB; 64 KiB to 1 GiB.
        public var receiveWindow = 8 << 20
        /// Bytes of UDP payload that path MTU discovery (RFC 8899) looks for at most. 1200, which every path carries, switches it off.
        public var maximumDatagramSize = 16_373
        /// Bytes that a channel queues before `send` suspends, unless the channel sets a mark of its own. 4 MiB; 0 to 1 GiB.
        public var sendBuffer = DataChannel.defaultHighWaterMark
        public var sctp = Sctp()
        public var ice = Ice()
        /// Also offer the loopback addresses; ignored when an endpoint is given. Without another address they are offered anyway.
        public var includeLoopback = false
        /// Bind to this numeric address only; nil means every address, those that come while the connection lives included. Ignored when an
        /// endpoint is given, as are the two below.
        public var host: String?
        /// Ports to take one of; 0...0, the default, leaves the choice to the system. See ``UDPEndpoint/Options/ports``.
        public var ports: ClosedRange<UInt16> = 0...0
        /// What peers are told in place of own addresses; see ``UDPEndpoint/Options/advertisedAddresses``.
        public var advertisedAddresses: [String] = []

        public init() {}
    }

    /// RTCPeerConnectionState.
    public enum ConnectionState: String, Hashable, Sendable { case new, connecting, connected, disconnected, failed, closed }

    /// RTCIceConnectionState.
    public enum IceConnectionState: String, Hashable, Sendable { case new, checking, connected, completed, disconnected, failed, closed }

    /// RTCIceGatheringState.
    public enum IceGatheringState: String, Hashable, Sendable { case new, gathering, complete }

    /// RTCSignalingState.
    public enum SignalingState: String, Hashable, Sendable {
        case stable
        case haveLocalOffer = "have-local-offer"
        case haveRemoteOffer = "have-remote-offer"
        case closed
    }

    public enum Event: Sendable {
        case connectionStateChanged(ConnectionState)
        case iceConnectionStateChanged(IceConnectionState)
        case iceGatheringStateChanged(IceGatheringState)
        /// To be sent to the peer where signalling trickles (RFC 8838).
        case iceCandidate(IceCandidate)
        /// An offer is to be made and sent to the peer: ``PeerConnection/restartIce()`` was called.
        case negotiationNeeded
        /// A TURN server gives no candidate, or no longer does; others may.
        case iceCandidateError(IceServerError)
        /// The peer opened a channel.
        case dataChannel(DataChannel)
    }

    /// RTCPeerConnectionIceErrorEvent: what went wrong with one ICE server.
    public struct IceServerError: Error, Hashable, Sendable, CustomStringConvertible {
        /// As configured.
        public var url: String
        /// The server's address, once it is known.
        public var address: TransportAddress?
        /// The STUN error code (RFC 8489 §14.8, RFC 8656 §19), or 701 where the server was not reached.
        public var errorCode: Int
        /// For a person.
        public var errorText: String

        public var description: String { "\(url): \(errorText)" }
    }
}
