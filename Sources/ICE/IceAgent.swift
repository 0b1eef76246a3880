package import NIOCore
package import Wire

/// A full ICE agent for one component (RFC 8445), with trickle (RFC 8838) and consent freshness (RFC 7675), told the time and given its datagrams.
///
/// Call `poll` after every other call until it answers nil; write the batch out; call `handleTimeout` when `deadline` has come.
package struct IceAgent: ~Copyable, Sendable {
    /// RTCIceTransportState of W3C.
    package enum State: Hashable, Sendable {
        /// No remote credentials yet, or nothing to check.
        case new
        case checking
        /// There is a valid pair; data may flow (RFC 8445 §12.1 allows it before nomination).
        case connected
        /// As connected, and a pair is nominated and neither side will bring more candidates.
        case completed
        /// The selected pair's consent requests go unanswered; it may come back.
        case disconnected
        /// Every pair failed, or consent expired. Only `restart` leads out.
        case failed
        case closed
    }

    package enum Event: Hashable, Sendable {
        case localCandidate(IceCandidate)
        case gatheringComplete
        case stateChanged(State)
        /// Application data goes along this path from now on.
        case selectedPath(NetworkPath)
    }

    package struct Configuration: Sendable {
        package var isControlling: Bool
        package var localCredentials: IceCredentials
        package var isLite = false
        package var stunServers: [TransportAddress] = []

        package init(isControlling: Bool, localCredentials: IceCredentials) {
            self.isControlling = isControlling
            self.localCredentials = localCredentials
        }
    }

    package let configuration: Configuration

    package init(configuration: Configuration, generator: any RandomNumberGenerator & Sendable) {
        self.configuration = configuration
    }

    package var isControlling: Bool { configuration.isControlling }
    package var localCredentials: IceCredentials { configuration.localCredentials }
    package private(set) var state = State.new
    package private(set) var isGatheringComplete = false
    /// The best valid pair: nominated if one is, else the one with the highest priority. Nil before the first and after failure.
    package private(set) var selectedPath: NetworkPath?
    /// When `handleTimeout` wants to be called; never in the past after a call with the current time.
    package var deadline: Instant? { nil }

    /// A socket is bound to `base`: it becomes a host candidate, and STUN servers are asked through it.
    package mutating func addLocalAddress(_ base: TransportAddress, at now: Instant) {}
    /// No more sockets; `.gatheringComplete` follows when the STUN servers have answered or a bounded time passed.
    package mutating func endOfLocalAddresses(at now: Instant) {}
    package mutating func removeLocalAddress(_ base: TransportAddress, at now: Instant) {}
    package mutating func addStunServer(_ server: TransportAddress, at now: Instant) {}
    package mutating func setRemoteCredentials(_ credentials: IceCredentials, isLite: Bool = false, at now: Instant) {}
    package mutating func addRemoteCandidate(_ candidate: IceCandidate, at now: Instant) {}
    package mutating func endOfRemoteCandidates(at now: Instant) {}
    /// Names of remote candidates that wait for the driver to resolve them.
    package var unresolvedHostnames: [String] { [] }
    package mutating func resolveHostname(_ hostname: String, to ip: TransportAddress.IP, at now: Instant) {}
    /// A datagram whose first byte is 0...3 (RFC 7983). `path.local` is the socket, `path.remote` the sender.
    package mutating func handle(_ datagram: ByteBuffer, path: NetworkPath, at now: Instant) {}
    /// Application traffic came along `path`: a sign of life, but not consent (RFC 7675 §5.1).
    package mutating func noteReceived(path: NetworkPath, at now: Instant) {}
    package mutating func handleTimeout(at now: Instant) {}
    /// Appends what is to be sent; answers with one event, nil when drained.
    package mutating func poll(at now: Instant, into batch: inout DatagramBatch) -> Event? { nil }
    package mutating func close(at now: Instant) {}

    /// The receiver's user name fragment in a Binding request's USERNAME ("receiver:sender"): what a shared port is demultiplexed by. Checks nothing else.
    package static func localUfrag(ofBindingRequest datagram: ByteBuffer) -> String? { nil }
}
