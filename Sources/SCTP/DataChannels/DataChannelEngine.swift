package import NIOCore
package import Wire

/// Data channels (RFC 8831, RFC 8832) over one SCTP association that it owns. Sans-IO.
///
/// After any call: `poll` until it answers nil, send what was appended to the batch, and come back at `deadline`.
package struct DataChannelEngine: ~Copyable {
    package enum Event: Sendable {
        /// The association is up.
        case connected
        /// The peer opened a channel; it is open.
        case channel(ChannelHandle)
        /// A channel of ours may be used (RFC 8832 allows it before the peer's ACK: it is open once the association is).
        case opened(ChannelHandle)
        /// A whole message. Its bytes count against the receive window until `consume`.
        case message(ChannelHandle, ByteBuffer, isText: Bool)
        /// `bufferedAmount` fell to its threshold or below.
        case bufferedAmountLow(ChannelHandle)
        /// The peer has acknowledged everything sent so far; asked for with `notifyWhenAcknowledged`.
        case allAcknowledged(ChannelHandle)
        /// Both directions are reset, or the association is gone; the handle is dead.
        case closed(ChannelHandle)
        /// The association ended in error; comes once, after `closed` of every channel.
        case failed(AssociationError)
        /// The association was shut down gracefully; after `closed` of every channel.
        case disconnected
    }

    var association: Association
    /// By stream id and by handle.
    var channels: [Channel?] = []
    var indexes: [ChannelHandle: Int] = [:]
    var byStream: [UInt16: Int] = [:]
    var freeIndexes: [Int] = []
    /// Labels and protocols of the channels that the peer opened.
    var nameBytes = 0
    var events = Queue<Event>()
    /// The parity of our stream ids (RFC 8832 §6); nil until the DTLS roles are known.
    var isDTLSClient: Bool?
    private var nextHandle: UInt32 = 0
    private var nextFreeID: UInt16 = 0
    package internal(set) var isConnected = false
    /// Channels that became open, and those of them that no longer are.
    package internal(set) var openedCount = 0
    package private(set) var closedCount = 0

    /// - Parameters:
    ///   - generator: tags and TSNs are drawn from it.
    ///   - cookieAuthenticator: a keyed hash over the state cookie; the key stays with the caller.
    package init(
        configuration: Configuration, generator: any RandomNumberGenerator & Sendable,
        cookieAuthenticator: @escaping @Sendable (ByteBuffer) -> [UInt8]
    ) {
        association = Association(configuration: configuration, generator: generator, cookieAuthenticator: cookieAuthenticator)
    }

    /// Which parity of stream ids is ours (RFC 8832 §6); known when DTLS roles are. Call before `connect`.
    package mutating func setRole(isDTLSClient: Bool) {
        guard self.isDTLSClient == nil else { return }
        self.isDTLSClient = isDTLSClient
        nextFreeID = isDTLSClient ? 0 : 1
        for index in channels.indices where channels[index]?.id == nil { assignID(index, at: .zero) }
    }

    /// What the peer's SDP says; call before `connect`.
    package mutating func setRemote(port: UInt16, maximumMessageSize: Int) {
        association.configuration.remotePort = port
        association.configuration.remoteMaximumMessageSize = maximumMessageSize
    }

    /// Sends INIT. Both sides may.
    package mutating func connect(at now: Instant) { association.connect(at: now) }

    // MARK: Channels

    /// Allowed at any time before the end; the channel opens when the association is up.
    package mutating func open(_ parameters: ChannelParameters, at now: Instant) throws(DataChannelError) -> ChannelHandle {
        guard association.state != .ended, association.state != .shutdownPending, association.state != .shutdownSent,
            association.state != .shutdownReceived, association.state != .shutdownAckSent
        else { throw .closed }
        guard parameters.label.utf8.count <= 65_535, parameters.subprotocol.utf8.count <= 65_535 else { throw .labelTooLong }
        guard parameters.maxPacketLifeTime == nil || parameters.maxRetransmits == nil else { throw .conflictingReliability }
        var channel = Channel(handle: takeHandle(), parameters: parameters, isOurs: true)
        if let id = parameters.negotiatedID {
            guard id < maximumStreams else { throw .invalidStream }
            guard byStream[id] == nil else { throw .noStreamAvailable }
            channel.id = id
        } else if isDTLSClient != nil {
            guard let id = freeID() else { throw .noStreamAvailable }
            channel.id = id
        }
        let handle = channel.handle
        let index = insert(channel)
        start(index, at: now)
        return handle
    }

    /// Queues a message. Allowed while the channel is connecting, too.
    package mutating func send(_ message: ByteBuffer, isText: Bool, on handle: ChannelHandle, at now: Instant) throws(SendError) {
        guard let index = indexes[handle], let channel = channels[index], !channel.isClosing else { throw .closed }
        let limit = association.configuration.remoteMaximumMessageSize
        guard limit == 0 || message.readableBytes <= limit else { throw .messageTooLarge(limit: limit) }
        var payload = message
        var ppid = isText ? PayloadProtocol.text : PayloadProtocol.binary
        if message.readableBytes == 0 {
            // RFC 8831 §6.6: SCTP has no empty messages, so one byte stands for it
            payload = ByteBuffer(repeating: 0, count: 1)
            ppid = isText ? PayloadProtocol.emptyText : PayloadProtocol.emptyBinary
        }
        channels[index]?.counters.messagesSent += 1
        channels[index]?.counters.bytesSent += message.readableBytes
        guard channel.id != nil else {
            channels[index]?.early.append((payload, ppid))
            return
        }
        try transmit(payload, ppid, channel, at: now)
    }

    private mutating func transmit(_ payload: ByteBuffer, _ ppid: UInt32, _ channel: Channel, at now: Instant) throws(SendError) {
        guard let id = channel.id else { throw .closed }
        try association.send(
            payload, stream: id, ppid: ppid,
            // RFC 8832 §6: ordered until the peer's ACK shows that OPEN has arrived
            isUnordered: !channel.parameters.ordered && !channel.awaitsAck,
            lifetime: channel.parameters.maxPacketLifeTime.map { .milliseconds($0) }, maximumRetransmits: channel.parameters.maxRetransmits, at: now)
    }

    /// What was handed in by `send` and not yet put into a packet.
    package func bufferedAmount(of handle: ChannelHandle) -> Int {
        guard let index = indexes[handle], let channel = channels[index] else { return 0 }
        guard let id = channel.id else { return channel.early.reduce(0) { $0 + $1.0.readableBytes } }
        return association.sendQueue.stream(id)?.unsentBytes ?? 0
    }

    /// What was handed in by `send` and not yet acknowledged by the peer.
    package func unacknowledgedAmount(of handle: ChannelHandle) -> Int {
        guard let index = indexes[handle], let id = channels[index]?.id else { return bufferedAmount(of: handle) }
        return association.sendQueue.stream(id)?.unacknowledgedBytes ?? 0
    }

    package mutating func setBufferedAmountLowThreshold(_ bytes: Int, for handle: ChannelHandle) {
        guard let index = indexes[handle] else { return }
        channels[index]?.lowThreshold = bytes
        if let id = channels[index]?.id { association.sendQueue.setLowThreshold(bytes, of: id) }
    }

    /// One `allAcknowledged` event follows as soon as nothing of the channel is unacknowledged (at once when nothing is).
    package mutating func notifyWhenAcknowledged(_ handle: ChannelHandle, at now: Instant) {
        guard let index = indexes[handle], let channel = channels[index] else { return }
        if unacknowledgedAmount(of: handle) == 0 { return events.append(.allAcknowledged(channel.handle)) }
        channels[index]?.wantsAcknowledgement = true
        association.wakeAt = now
    }

    /// Everything sent before is delivered, then the stream is reset (RFC 8831 §6.7).
    package mutating func close(_ handle: ChannelHandle, at now: Instant) {
        guard let index = indexes[handle], channels[index]?.isClosing == false else { return }
        channels[index]?.isClosing = true
        guard let id = channels[index]?.id else {
            // never known to anybody else
            if channels[index]?.early.isEmpty ?? true { finish(index) }
            return
        }
        association.resetOutgoing(id, at: now)
    }

    /// The application took that many bytes of messages, in their order: the receive window opens again. Also to be called for an empty message.
    package mutating func consume(_ bytes: Int, on handle: ChannelHandle, at now: Instant) {
        guard let index = indexes[handle], let charge = channels[index]?.consume(bytes), charge > 0 else { return }
        association.release(charge, at: now)
    }

    package func parameters(of handle: ChannelHandle) -> ChannelParameters? { indexes[handle].flatMap { channels[$0]?.parameters } }

    package func state(of handle: ChannelHandle) -> ChannelState {
        guard let index = indexes[handle], let channel = channels[index] else { return .closed }
        return channel.isClosing ? .closing : channel.isOpen ? .open : .connecting
    }

    /// Those that are not closed, in no order.
    package var handles: [ChannelHandle] { channels.compactMap { $0?.handle } }

    package func counters(of handle: ChannelHandle) -> ChannelCounters? { indexes[handle].flatMap { channels[$0]?.counters } }

    /// The stream id; nil until it is known.
    package func streamID(of handle: ChannelHandle) -> UInt16? { indexes[handle].flatMap { channels[$0]?.id } }

    // MARK: Packets and time

    /// One decrypted SCTP packet.
    package mutating func handle(_ packet: ByteBuffer, at now: Instant) { association.receive(packet.readableBytesSpan, at: now) }

    /// Decrypted SCTP packets of one receive burst. Cheaper than one by one.
    package mutating func handle(_ packets: borrowing PacketBatch, at now: Instant) {
        let bytes = packets.bytes.readableBytesSpan
        for index in 0..<packets.count {
            let range = packets.range(index)
            if range.upperBound <= bytes.byteCount { association.receive(bytes.extracting(range), at: now) }
        }
    }

    package mutating func handleTimeout(at now: Instant) { association.handleTimeout(at: now) }

    /// The host does not send packets of this size: the network next to it carries less.
    package mutating func packetRefused(size: Int, at now: Instant) { association.packetRefused(size: size, at: now) }
    /// Packets take another way from now on: nothing is known of its size, round trip and capacity.
    /// - Parameter roundTrip: as far as the layer below has measured it there.
    package mutating func pathChanged(roundTrip: Duration? = nil, at now: Instant) { association.pathChanged(roundTrip: roundTrip, at: now) }
    /// T3 expiries so far: each says that what was sent may not arrive.
    package var retransmissionTimeouts: Int { association.counters.timeouts }

    /// When `handleTimeout` and `poll` are next due. At or before "now" where more is to be sent than one `poll` may write.
    package var deadline: Instant? { association.deadline }

    /// The next event. nil when there is none, and then packets that are due were appended to `packets`.
    package mutating func poll(at now: Instant, into packets: inout PacketBatch) -> Event? {
        if let event = events.popFirst() { return event }
        while let event = association.pollEvent() {
            digest(event, at: now)
            if let event = events.popFirst() { return event }
        }
        association.writePackets(at: now, into: &packets)
        // writing may have told that a channel's buffer is low
        while let event = association.pollEvent() {
            digest(event, at: now)
            if let event = events.popFirst() { return event }
        }
        return nil
    }

    /// Delivers everything, then ends gracefully (RFC 9260 §9.2).
    package mutating func shutdown(at now: Instant) { association.shutdown(at: now) }
    /// Ends at once; the next `poll` writes an ABORT.
    package mutating func abort(at now: Instant) { association.abort(at: now) }
    package var statistics: Statistics { association.statistics }

    // MARK: Bookkeeping

    /// 65535 is no stream (RFC 8832 §6), and the peer may take fewer.
    var maximumStreams: Int { min(65_535, Int(association.outboundLimit)) }

    mutating func takeHandle() -> ChannelHandle {
        nextHandle += 1
        return ChannelHandle(number: nextHandle)
    }

    mutating func insert(_ channel: Channel) -> Int {
        let index: Int
        if let free = freeIndexes.popLast() {
            index = free
            channels[index] = channel
        } else {
            index = channels.count
            channels.append(channel)
        }
        indexes[channel.handle] = index
        if let id = channel.id { byStream[id] = index }
        return index
    }

    /// The next unused id of our parity.
    private mutating func freeID() -> UInt16? {
        let limit = maximumStreams
        var id = Int(nextFreeID)
        for _ in 0..<32_768 {
            if id >= limit { id = isDTLSClient == true ? 0 : 1 }
            if id < limit, byStream[UInt16(id)] == nil {
                nextFreeID = UInt16(truncatingIfNeeded: id + 2 > 65_535 ? (isDTLSClient == true ? 0 : 1) : id + 2)
                return UInt16(id)
            }
            id += 2
        }
        return nil
    }

    private mutating func assignID(_ index: Int, at now: Instant) {
        guard let id = freeID() else { return finish(index) }
        channels[index]?.id = id
        byStream[id] = index
        start(index, at: now)
    }

    /// The id is known: OPEN goes first, then what the application sent already.
    private mutating func start(_ index: Int, at now: Instant) {
        guard let channel = channels[index], let id = channel.id else { return }
        association.sendQueue.setWeight(channel.parameters.priority, of: id)
        association.sendQueue.setLowThreshold(channel.lowThreshold, of: id)
        if channel.parameters.negotiatedID == nil {
            var message = ByteBuffer()
            DCEPMessage.open(channel.parameters).write(into: &message)
            channels[index]?.awaitsAck = true
            sendDCEP(message, stream: id, at: now)
        }
        if isConnected { becomeOpen(index) }
        let early = channel.early
        channels[index]?.early = []
        for (payload, ppid) in early { if let channel = channels[index] { try? transmit(payload, ppid, channel, at: now) } }
        if channel.isClosing { association.resetOutgoing(id, at: now) }
    }

    mutating func sendDCEP(_ message: ByteBuffer, stream: UInt16, at now: Instant) {
        try? association.send(
            message, stream: stream, ppid: PayloadProtocol.establishment, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: now)
    }

    mutating func becomeOpen(_ index: Int) {
        guard let channel = channels[index], !channel.isOpen else { return }
        channels[index]?.isOpen = true
        openedCount += 1
        events.append(.opened(channel.handle))
    }

    /// The channel is gone; its id may be used again.
    mutating func finish(_ index: Int) {
        guard let channel = channels[index] else { return }
        channels[index] = nil
        if channel.isOpen { closedCount += 1 }
        freeIndexes.append(index)
        if !channel.isOurs { nameBytes -= channel.parameters.nameBytes }
        indexes[channel.handle] = nil
        if let id = channel.id, byStream[id] == index { byStream[id] = nil }
        // what the application has not taken is its own affair now
        association.deliveredCharge = max(0, association.deliveredCharge - channel.heldCharge)
        events.append(.closed(channel.handle))
    }
}
