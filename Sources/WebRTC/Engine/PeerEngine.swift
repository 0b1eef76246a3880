import DTLS
package import ICE
package import NIOCore
import SCTP
package import Wire

/// A peer connection without IO: SDP, ICE, DTLS and SCTP wired together (RFC 8829, RFC 8831).
///
/// Call `poll` after other calls until it answers nil, write the batch out, call `handleTimeout` when `deadline` has come.
/// Any order of calls is legal.
package struct PeerEngine: ~Copyable {
    package enum Event: Sendable {
        case localCandidate(IceCandidate)
        case gatheringComplete
        case iceStateChanged(IceAgent.State)
        case stateChanged(PeerState)
        /// Application data goes along this path from now on; the peer has proved that it is there.
        case selectedPath(NetworkPath)
        /// The peer opened a channel; it is open.
        case channel(ChannelHandle)
        /// A channel of ours is open.
        case channelOpened(ChannelHandle)
        /// A whole message; its bytes count against the receive window until `consume`.
        case message(ChannelHandle, ByteBuffer, isText: Bool)
        /// Everything sent on the channel is acknowledged; asked for by `notifyWhenAcknowledged`.
        case allAcknowledged(ChannelHandle)
        case channelClosed(ChannelHandle)
        /// The connection is over; comes once.
        case ended(PeerFailure)
    }

    package let configuration: PeerConfiguration
    package internal(set) var state = PeerState.new
    package internal(set) var iceState = IceAgent.State.new
    package internal(set) var gatheringState = GatheringState.new
    package internal(set) var counters = DatagramCounters()
    package internal(set) var failure: PeerFailure?
    var traffic = PathTraffic()
    var selectedPathChanges = 0
    /// `close` was called.
    package internal(set) var isClosed = false

    package enum GatheringState: Hashable, Sendable { case new, gathering, complete }

    var signalling: Signalling
    var generator: any RandomNumberGenerator & Sendable
    /// Made when the first description says who controls.
    var ice: IceAgent?
    /// Made when both descriptions say who is the client.
    var dtls: DTLSEngine?
    var isDTLSClient = false
    var dtlsConnected = false
    var channels: DataChannelEngine

    var localAddresses: [LocalAddress] = []
    var localAddressesEnded = false
    var relayedAddresses: [IceAgent.RelayedAddress] = []
    var stunServers: [TransportAddress]
    var localCandidates: [IceCandidate] = []

    /// DTLS records that arrived before the answer did (it travels another way).
    var early: [(datagram: ByteBuffer, path: NetworkPath)] = []
    static let maximumEarly = 16
    /// Handshake messages are cut to the size that every path carries.
    static let longestEarly = 2048
    /// Where the peer's DTLS came from last; answers go there until ICE has chosen.
    var lastPath: NetworkPath?
    /// ICE has chosen a path at least once.
    private var hadPath = false
    var notedPath: NetworkPath?
    /// SCTP packets opened and not yet handled, and packets to be sealed. Kept for their storage.
    var opened = PacketBatch()
    var outgoing = PacketBatch()
    var events = CircularBuffer<Event>()

    package init(configuration: PeerConfiguration, generator: any RandomNumberGenerator & Sendable) {
        var generator = generator
        self.configuration = configuration
        stunServers = configuration.stunServers
        var sctp = SCTP.Configuration()
        sctp.maximumMessageSize = configuration.maximumMessageSize
        sctp.receiveWindow = configuration.receiveWindow
        configuration.sctp.apply(to: &sctp)
        // a record holds 2^14 bytes (RFC 5246 §6.2.1)
        sctp.maximumPacketSize = max(sctp.basePacketSize, min(configuration.maximumDatagramSize - DTLSEngine.greatestOverhead, 1 << 14))
        channels = DataChannelEngine(configuration: sctp, generator: generator, cookieAuthenticator: configuration.cookieAuthenticator)
        signalling = Signalling(using: &generator)
        self.generator = generator
    }

    // MARK: Addresses

    struct LocalAddress {
        var address: TransportAddress
        var advertised: TransportAddress.IP?
    }

    /// A socket is bound to `address`; peers are told `advertised` in its place, with the same port.
    package mutating func addLocalAddress(_ address: TransportAddress, advertised: TransportAddress.IP? = nil, at now: Instant) {
        localAddresses.append(LocalAddress(address: address, advertised: advertised))
        if ice != nil, gatheringState != .new { ice?.addLocalAddress(address, advertised: advertised, at: now) }
    }

    /// The socket is gone, or its address is.
    package mutating func removeLocalAddress(_ address: TransportAddress, at now: Instant) {
        localAddresses.removeAll { $0.address == address }
        ice?.removeLocalAddress(address, at: now)
        let left = announcedAddresses
        localCandidates.removeAll { !left.contains($0.address) }
    }

    private var announcedAddresses: [IceCandidate.Address] {
        switch ice {
        case .some(let ice): ice.localCandidates.map(\.address)
        case .none: []
        }
    }

    package mutating func endOfLocalAddresses(at now: Instant) {
        localAddressesEnded = true
        if ice != nil, gatheringState != .new { ice?.endOfLocalAddresses(at: now) }
    }

    /// The driver has an allocation on a TURN server.
    package mutating func addRelayedAddress(_ relayed: IceAgent.RelayedAddress, at now: Instant) {
        relayedAddresses.append(relayed)
        ice?.addRelayedAddress(relayed, at: now)
    }

    /// The allocation is lost: what goes by it fails, and ICE goes on with what else there is.
    package mutating func removeRelayedAddress(_ address: TransportAddress, at now: Instant) {
        relayedAddresses.removeAll { $0.address == address }
        localCandidates.removeAll { $0.transportAddress == address }
        ice?.removeLocalAddress(address, at: now)
    }

    package mutating func addStunServer(_ server: TransportAddress, at now: Instant) {
        stunServers.append(server)
        ice?.addStunServer(server, at: now)
    }

    /// Names of the peer's candidates that the driver may look up (mDNS).
    package var unresolvedHostnames: [String] {
        switch ice {
        case .some(let ice): ice.unresolvedHostnames
        case .none: []
        }
    }

    package mutating func resolveHostname(_ hostname: String, to ip: TransportAddress.IP, at now: Instant) {
        ice?.resolveHostname(hostname, to: ip, at: now)
    }

    // MARK: Datagrams and time

    /// One datagram. It may be a slice of something larger; it is not kept.
    package mutating func handle(_ datagram: ByteBuffer, path: NetworkPath, at now: Instant) {
        counters.received += 1
        counters.bytesReceived += datagram.readableBytes
        guard !isClosed else { return }
        switch DatagramKind(of: datagram) {
        case .stun:
            counters.stun += 1
            ice?.handle(datagram, path: path, at: now)
        case .dtls:
            counters.dtls += 1
            // ICE's checks carry the peer's secret: who has not sent or answered one there is a stranger, and gets no handshake
            guard notedPath == path || hasHeardPeer(along: path) else {
                counters.unproved += 1
                return
            }
            traffic.received(datagram.readableBytes, along: path, at: now)
            guard dtls != nil else {
                keepEarly(datagram, path)
                return
            }
            if notedPath != path {
                notedPath = path
                lastPath = path
                ice?.noteReceived(path: path, at: now)
            }
            dtls?.handle(datagram, at: now, into: &opened)
        case .media: counters.media += 1
        case .unknown: counters.unknown += 1
        }
    }

    private mutating func keepEarly(_ datagram: ByteBuffer, _ path: NetworkPath) {
        guard early.count < Self.maximumEarly, datagram.readableBytes <= Self.longestEarly else {
            counters.early += 1
            return
        }
        // a copy: the driver's buffer is used again
        early.append((ByteBuffer(bytes: datagram.readableBytesView), path))
    }

    /// The host did not send a datagram of this size: the network next to it carries less.
    package mutating func datagramRefused(size: Int, at now: Instant) {
        guard dtlsConnected else { return }
        channels.packetRefused(size: size - recordOverhead, at: now)
    }

    /// At or before now where more is to be sent than one `poll` writes.
    package var deadline: Instant? {
        guard !isClosed else { return nil }
        return earliest(iceDeadline, earliest(dtlsDeadline, channelsRun ? channels.deadline : nil))
    }

    package mutating func handleTimeout(at now: Instant) {
        guard !isClosed else { return }
        ice?.handleTimeout(at: now)
        dtls?.handleTimeout(at: now)
        guard channelsRun else { return }
        let timeouts = channels.retransmissionTimeouts
        channels.handleTimeout(at: now)
        if channels.retransmissionTimeouts != timeouts { ice?.noteTrouble(at: now) }
    }

    /// Appends datagrams to send; answers with the next event, nil when drained.
    package mutating func poll(at now: Instant, into batch: inout DatagramBatch) -> Event? {
        notedPath = nil
        if let event = events.popFirst() { return event }
        guard !isClosed else { return nil }
        if !opened.isEmpty {
            channels.handle(opened, at: now)
            opened.removeAll()
        }
        while true {
            if pollIce(at: now, into: &batch) || pollDTLS(at: now, into: &batch) || pollChannels(at: now) {
                updateState()
                if let event = events.popFirst() { return event }
                continue
            }
            updateState()
            sealOutgoing(at: now, into: &batch)
            return events.popFirst()
        }
    }

    /// Ends the connection and writes the goodbye. Nothing happens afterwards.
    package mutating func close(at now: Instant, into batch: inout DatagramBatch) {
        guard !isClosed else { return }
        isClosed = true
        if dtlsConnected {
            channels.abort(at: now)
            while channels.poll(at: now, into: &outgoing) != nil {}
            sealOutgoing(at: now, into: &batch)
        }
        if dtls != nil {
            dtls?.close()
            if let path = sendPath {
                while dtls?.poll(into: &batch.packets) != nil {}
                batch.assign(path)
            }
        }
        ice?.close(at: now)
        signalling.state = .closed
        state = .closed
        iceState = .closed
        events.removeAll()
    }
}

// MARK: - Layers

extension PeerEngine {
    /// The chosen pair, or before the first the way the peer's own handshake came.
    var sendPath: NetworkPath? { selectedPath ?? (hadPath ? nil : lastPath) }

    /// What the last check of the chosen pair took.
    private var checkedRoundTrip: Duration? {
        switch ice {
        case .some(let ice): ice.selectedRoundTrip
        case .none: nil
        }
    }

    /// Without a path SCTP stands still: its timers would tell of nothing but that.
    private var channelsRun: Bool { dtlsConnected && sendPath != nil }

    private func hasHeardPeer(along path: NetworkPath) -> Bool {
        switch ice {
        case .some(let ice): ice.hasHeardPeer(along: path)
        case .none: false
        }
    }

    var selectedPath: NetworkPath? {
        switch ice {
        case .some(let ice): ice.selectedPath
        case .none: nil
        }
    }

    /// What DTLS adds to a packet.
    var recordOverhead: Int {
        switch dtls {
        case .some(let dtls): dtls.overhead
        case .none: DTLSEngine.greatestOverhead
        }
    }

    private var iceDeadline: Instant? {
        switch ice {
        case .some(let ice): ice.deadline
        case .none: nil
        }
    }

    private var dtlsDeadline: Instant? {
        switch dtls {
        case .some(let dtls): dtls.deadline
        case .none: nil
        }
    }

    /// True when something happened that others may have to react to.
    private mutating func pollIce(at now: Instant, into batch: inout DatagramBatch) -> Bool {
        guard let event = ice?.poll(at: now, into: &batch) else { return false }
        switch event {
        case .localCandidate(let candidate):
            var candidate = candidate
            candidate.sdpMid = signalling.mid
            candidate.sdpMLineIndex = signalling.mediaIndex
            localCandidates.append(candidate)
            events.append(.localCandidate(candidate))
        case .gatheringComplete:
            gatheringState = .complete
            events.append(.gatheringComplete)
        case .stateChanged(let new):
            iceState = new
            events.append(.iceStateChanged(new))
            if new == .failed { end(.ice) }
        case .selectedPath(let path):
            selectedPathChanges += 1
            events.append(.selectedPath(path))
            hadPath = true
            channels.pathChanged(roundTrip: checkedRoundTrip, at: now)
            if isDTLSClient { dtls?.start(at: now) }
        }
        return true
    }

    private mutating func pollDTLS(at now: Instant, into batch: inout DatagramBatch) -> Bool {
        guard dtls != nil, let path = sendPath else { return false }
        let (packets, bytes) = (batch.count, batch.packets.bytes.writerIndex)
        let event = dtls?.poll(into: &batch.packets)
        traffic.sent(batch.packets.count - packets, batch.packets.bytes.writerIndex - bytes, along: path, at: now)
        batch.assign(path)
        switch event {
        case .none: return false
        case .connected:
            dtlsConnected = true
            channels.connect(at: now)
        case .closed:
            // the same receive burst may have brought the last messages, too
            while pollChannels(at: now) {}
            end(.closedByPeer)
        case .failed(.fingerprintMismatch): end(.fingerprintMismatch)
        case .failed(let error): end(.dtls("\(error)"))
        }
        return true
    }

    private mutating func pollChannels(at now: Instant) -> Bool {
        guard channelsRun, let event = channels.poll(at: now, into: &outgoing) else { return false }
        switch event {
        case .connected, .bufferedAmountLow: break
        case .channel(let handle): events.append(.channel(ChannelHandle(inner: handle)))
        case .opened(let handle): events.append(.channelOpened(ChannelHandle(inner: handle)))
        case .message(let handle, let bytes, let isText): events.append(.message(ChannelHandle(inner: handle), bytes, isText: isText))
        case .allAcknowledged(let handle): events.append(.allAcknowledged(ChannelHandle(inner: handle)))
        case .closed(let handle): events.append(.channelClosed(ChannelHandle(inner: handle)))
        case .disconnected: end(.closedByPeer)
        // cause 12, User-Initiated Abort (RFC 9260 §3.3.10.12): the peer closed its connection
        case .failed(.abortedByPeer(cause: 12)), .failed(.abortedByPeer(cause: 0)): end(.closedByPeer)
        case .failed(let error): end(.sctp("\(error)"))
        }
        return true
    }

    private mutating func sealOutgoing(at now: Instant, into batch: inout DatagramBatch) {
        guard !outgoing.isEmpty else { return }
        defer { outgoing.removeAll() }
        guard dtlsConnected, let path = sendPath else { return }
        let (packets, bytes) = (batch.count, batch.packets.bytes.writerIndex)
        do {
            try dtls?.seal(outgoing, into: &batch.packets)
        } catch {
            end(.dtls("\(error)"))
        }
        traffic.sent(batch.packets.count - packets, batch.packets.bytes.writerIndex - bytes, along: path, at: now)
        batch.assign(path)
    }

    private mutating func end(_ reason: PeerFailure) {
        guard failure == nil else { return }
        failure = reason
        state = reason == .closedByPeer ? .closed : .failed
        events.append(.stateChanged(state))
        events.append(.ended(reason))
    }

    /// RTCPeerConnectionState from the states of ICE and DTLS (W3C WebRTC §4.3.3).
    private mutating func updateState() {
        guard failure == nil else { return }
        let new: PeerState =
            switch iceState {
            case .failed: .failed
            case .disconnected: .disconnected
            case .new, .closed: .new
            case .checking: .connecting
            case .connected, .completed: dtlsConnected ? .connected : .connecting
            }
        guard new != state else { return }
        state = new
        events.append(.stateChanged(new))
    }
}
