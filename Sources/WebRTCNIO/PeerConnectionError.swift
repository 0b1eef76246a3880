/// Why a verb of ``PeerConnection`` failed, or why the connection ended.
public struct PeerConnectionError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Grows with the stack: compare, do not switch.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String
        private init(_ description: String) { self.description = description }

        /// The verb does not fit the signalling state (RFC 8829 §3.2).
        public static let invalidState = Code("invalid state")
        /// The session description or candidate cannot be used.
        public static let invalidDescription = Code("invalid description")
        /// An argument is out of its range.
        public static let invalidArgument = Code("invalid argument")
        /// No socket could be bound, or it was closed.
        public static let endpointClosed = Code("endpoint closed")
        /// No pair of candidates works, or the peer's consent expired (RFC 7675).
        public static let iceFailed = Code("ICE failed")
        /// The peer's certificate is not the one that signalling promised (RFC 8122 §6.2).
        public static let fingerprintMismatch = Code("fingerprint mismatch")
        /// The DTLS handshake failed.
        public static let dtlsFailed = Code("DTLS failed")
        /// The SCTP association was aborted or timed out.
        public static let sctpFailed = Code("SCTP failed")
        /// The peer said goodbye.
        public static let closedByPeer = Code("closed by peer")
        /// This side called `close()`.
        public static let closed = Code("closed")
        /// A wait came to its bound.
        public static let timedOut = Code("timed out")
    }

    public var code: Code
    /// What exactly was wrong, for a person; may be empty.
    public var detail: String

    public init(_ code: Code, _ detail: String = "") {
        self.code = code
        self.detail = detail
    }

    public var description: String { detail.isEmpty ? code.description : "\(code): \(detail)" }
}

/// Why a verb of ``DataChannel`` failed, or why its messages end early.
public struct DataChannelError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Grows with the stack: compare, do not switch.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String
        private init(_ description: String) { self.description = description }

        /// The channel is closing or closed.
        public static let closed = Code("channel closed")
        /// The message is larger than the peer accepts (RFC 8841 §6.1); nothing was sent.
        public static let messageTooLarge = Code("message too large")
        /// The connection under the channel failed; `reason` says why.
        public static let connectionFailed = Code("connection failed")
        /// The options contradict each other, or the id is taken or out of range.
        public static let invalidOptions = Code("invalid options")
        /// The waiting task was cancelled.
        public static let cancelled = Code("cancelled")
    }

    public var code: Code
    /// The connection's failure, for `connectionFailed`.
    public var reason: PeerConnectionError?
    public var detail: String

    public init(_ code: Code, reason: PeerConnectionError? = nil, _ detail: String = "") {
        self.code = code
        self.reason = reason
        self.detail = detail
    }

    public var description: String {
        let why = reason?.description ?? detail
        return why.isEmpty ? code.description : "\(code): \(why)"
    }
}
