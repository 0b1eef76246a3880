public import NIOCore
import Synchronization
import WebRTC

/// A data channel (RFC 8831) of a ``PeerConnection``.
///
/// Reading is what opens the peer's window: a channel whose messages nobody takes stops its sender, and memory stays bounded on both sides.
public final class DataChannel: Sendable {
    public struct Options: Sendable, Hashable {
        /// Messages arrive in the order they were sent.
        public var ordered = true
        /// Give up a message that is this old (RFC 3758); excludes `maxRetransmits`.
        public var maxPacketLifeTime: Duration?
        /// Give up a message after so many retransmissions.
        public var maxRetransmits: Int?
        /// The subprotocol's name, as registered or agreed.
        public var `protocol` = ""
        /// Both sides create the channel with the same `id`; nothing is announced in-band.
        public var negotiated = false
        /// The stream, 0...65534; chosen by the stack unless `negotiated`.
        public var id: UInt16?
        /// RFC 8831 §6.4: 128 below normal, 256 normal, 512 high, 1024 extra high.
        public var priority: UInt16 = 256

        public init() {}

        public init(
            ordered: Bool = true, maxPacketLifeTime: Duration? = nil, maxRetransmits: Int? = nil, protocol: String = "", negotiated: Bool = false,
            id: UInt16? = nil, priority: UInt16 = 256
        ) {
            self.ordered = ordered
            self.maxPacketLifeTime = maxPacketLifeTime
            self.maxRetransmits = maxRetransmits
            self.protocol = `protocol`
            self.negotiated = negotiated
            self.id = id
            self.priority = priority
        }
    }

    public enum Message: Sendable, Hashable {
        case text(String)
        case binary(ByteBuffer)
    }

    /// RTCDataChannelState.
    public enum ReadyState: String, Hashable, Sendable { case connecting, open, closing, closed }

    /// Where ``send(_:)-(ByteBuffer)`` begins to suspend.
    public static let defaultHighWaterMark = 4 << 20

    public let label: String
    let options: Options
    let handle: ChannelHandle
    /// Keeps the connection alive as long as one of its channels is in use.
    let connection: PeerConnection
    private var session: Session { connection.session }

    init(handle: ChannelHandle, label: String, options: Options, connection: PeerConnection) {
        self.handle = handle
        self.label = label
        self.options = options
        self.connection = connection
    }

    /// One visit to the event loop brings all messages that wait there, up to a bound. They stay with the channel, not with an iterator:
    /// whoever leaves a loop and begins another one loses nothing.
    private let fetched = Mutex(CircularBuffer<Message>())

    /// Nobody can reach the channel any more: it closes behind what was sent.
    deinit {
        let handle = handle
        session.later { $0.release(handle) }
    }

    public var `protocol`: String { options.protocol }
    public var ordered: Bool { options.ordered }
    public var maxPacketLifeTime: Duration? { options.maxPacketLifeTime }
    public var maxRetransmits: Int? { options.maxRetransmits }
    public var negotiated: Bool { options.negotiated }
    /// nil until the DTLS role decides between even and odd (RFC 8832 §6).
    public var id: UInt16? { get async { await session.streamID(of: handle) } }
    public var readyState: ReadyState { get async { await session.readyState(of: handle) } }

    /// Returns when the channel is open; throws when it closes or its connection fails first.
    public func waitUntilOpen() async throws { try await session.waitUntilOpen(handle) }

    // MARK: Sending

    /// Queues a text message; see ``send(_:)-(ByteBuffer)``.
    public func send(_ text: String) async throws { try await session.send(ByteBuffer(string: text), isText: true, on: handle) }

    /// Queues a binary message. Suspends while more than the high-water mark is queued; throws `messageTooLarge` before a byte goes out.
    /// Waits for the channel to open. Cancelled while it waits, it sends nothing.
    public func send(_ bytes: ByteBuffer) async throws { try await session.send(bytes, isText: false, on: handle) }

    public func send(_ message: Message) async throws {
        switch message {
        case .text(let text): try await send(text)
        case .binary(let bytes): try await send(bytes)
        }
    }

    /// Bytes given to `send` that the network has not taken yet.
    public var bufferedAmount: Int { get async { await session.bufferedAmount(of: handle) } }

    /// The bound above which `send` suspends; 4 MiB unless set.
    public func setBufferedAmountHighWaterMark(_ bytes: Int) async { await session.setHighWaterMark(bytes, of: handle) }

    /// Returns when no more than `bytes` are queued: what W3C's `bufferedamountlow` event tells.
    public func waitUntilBuffered(atMost bytes: Int) async throws { try await session.waitUntilBuffered(atMost: bytes, on: handle) }

    /// Returns when the peer has acknowledged every byte sent so far.
    public func drained() async throws { try await session.drained(handle) }

    // MARK: Receiving

    /// The peer's messages, in order of arrival, each to one consumer. Ends when the channel is closed by either side; throws when the connection failed
    /// (`connectionFailed`) or when the task is cancelled (`cancelled`).
    public var messages: Messages { Messages(channel: self) }

    /// Calls `handler` on the event loop for every message, in place of ``messages``; nil goes back. For those who count microseconds:
    /// it must not block, and the window opens when it returns.
    public func setMessageHandler(_ handler: (@Sendable (Message) -> Void)?) async {
        let first: CircularBuffer<Message> = handler == nil ? [] : takeFetched()
        await session.setHandler(handler, of: handle, first: first)
    }

    func takeFetched() -> CircularBuffer<Message> {
        fetched.withLock { waiting in
            defer { waiting.removeAll() }
            return waiting
        }
    }

    // MARK: Closing

    /// Closes the channel after everything sent before is delivered (RFC 8831 §6.7); returns when both sides have closed it.
    public func close() async { await session.closeChannel(handle) }
}

extension DataChannel {
    /// The sequence behind ``DataChannel/messages``.
    public struct Messages: AsyncSequence, Sendable {
        public typealias Element = Message
        public typealias Failure = DataChannelError
        let channel: DataChannel

        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(channel: channel) }

        public struct AsyncIterator: AsyncIteratorProtocol {
            let channel: DataChannel

            public mutating func next() async throws(DataChannelError) -> Message? { try await next(isolation: nil) }

            public mutating func next(isolation actor: isolated (any Actor)?) async throws(DataChannelError) -> Message? {
                if let message = channel.fetched.withLock({ $0.popFirst() }) { return message }
                var batch = try await channel.connection.session.nextMessages(of: channel.handle)
                let message = batch.popFirst()
                channel.fetched.withLock { $0.append(contentsOf: batch) }
                return message
            }
        }
    }
}
