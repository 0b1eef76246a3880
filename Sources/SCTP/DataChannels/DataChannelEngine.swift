package import NIOCore
package import Wire

/// Data channels (RFC 8831, RFC 8832) over one SCTP association that it owns. Sans-IO.
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
        /// The association was shut down gracefully.
        case disconnected
    }

    /// - Parameters:
    ///   - generator: tags and TSNs are drawn from it.
    ///   - cookieAuthenticator: a keyed hash over the state cookie; the key stays with the caller.
    package init(
        configuration: Configuration, generator: any RandomNumberGenerator & Sendable,
        cookieAuthenticator: @escaping @Sendable (ByteBuffer) -> [UInt8]
    ) {}

    /// Which parity of stream ids is ours (RFC 8832 §6); known when DTLS roles are. Call before `connect`.
    package mutating func setRole(isDTLSClient: Bool) {}
    /// What the peer's SDP says; call before `connect`.
    package mutating func setRemote(port: UInt16, maximumMessageSize: Int) {}
    /// Sends INIT. Both sides may.
    package mutating func connect(at now: Instant) {}

    /// Allowed at any time before the end; the channel opens when the association is up.
    package mutating func open(_ parameters: ChannelParameters, at now: Instant) throws(DataChannelError) -> ChannelHandle { throw .closed }
    /// Queues a message. Allowed while the channel is connecting, too.
    package mutating func send(_ message: ByteBuffer, isText: Bool, on channel: ChannelHandle, at now: Instant) throws(SendError) { throw .closed }
    /// What was handed in by `send` and not yet put into a packet.
    package func bufferedAmount(of channel: ChannelHandle) -> Int { 0 }
    /// What was handed in by `send` and not yet acknowledged by the peer.
    package func unacknowledgedAmount(of channel: ChannelHandle) -> Int { 0 }
    package mutating func setBufferedAmountLowThreshold(_ bytes: Int, for channel: ChannelHandle) {}
    /// One `allAcknowledged` event follows as soon as nothing of the channel is unacknowledged (at once when nothing is).
    package mutating func notifyWhenAcknowledged(_ channel: ChannelHandle, at now: Instant) {}
    /// Everything sent before is delivered, then the stream is reset (RFC 8831 §6.7).
    package mutating func close(_ channel: ChannelHandle, at now: Instant) {}
    /// The application took that many bytes of messages: the receive window opens again.
    package mutating func consume(_ bytes: Int, on channel: ChannelHandle, at now: Instant) {}
    package func parameters(of channel: ChannelHandle) -> ChannelParameters? { nil }
    package func state(of channel: ChannelHandle) -> ChannelState { .closed }
    /// The stream id; nil until it is known.
    package func streamID(of channel: ChannelHandle) -> UInt16? { nil }
    package var isConnected: Bool { false }

    /// One decrypted SCTP packet.
    package mutating func handle(_ packet: ByteBuffer, at now: Instant) {}
    /// Decrypted SCTP packets of one receive burst. Cheaper than one by one.
    package mutating func handle(_ packets: borrowing PacketBatch, at now: Instant) {}
    package mutating func handleTimeout(at now: Instant) {}
    /// When `handleTimeout` and `poll` are next due. At or before "now" where more is to be sent than one `poll` may write.
    package var deadline: Instant? { nil }
    /// The next event. nil when there is none, and then packets that are due were appended to `packets`.
    package mutating func poll(at now: Instant, into packets: inout PacketBatch) -> Event? { nil }

    /// Delivers everything, then ends gracefully (RFC 9260 §9.2).
    package mutating func shutdown(at now: Instant) {}
    /// Ends at once; the next `poll` writes an ABORT.
    package mutating func abort(at now: Instant) {}
    package var statistics: Statistics { Statistics() }
}
