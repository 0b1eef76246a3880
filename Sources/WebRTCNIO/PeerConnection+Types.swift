public import WebRTC

extension PeerConnection {
    public struct IceServer: Hashable, Sendable {
        /// `stun:host[:port]`; a host name is looked up while the first checks already run.
        public var urls: [String]
        public var username: String?
        public var credential: String?

        public init(urls: [String], username: String? = nil, credential: String? = nil) {
            self.urls = urls
            self.username = username
            self.credential = credential
        }
    }

    public struct Configuration: Sendable {
        /// None by default: no third party learns of this connection.
        public var iceServers: [IceServer] = []
        /// The largest message this side accepts, announced as `max-message-size` (RFC 8841 §6).
        public var maxMessageSize = 64 << 20
        /// Bytes that wait here for the application before the peer must stop (SCTP's receive window). 8 MiB; 64 KiB to 1 GiB.
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
        /// The peer opened a channel.
        case dataChannel(DataChannel)
    }
}
