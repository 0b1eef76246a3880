/// Why a message was not taken. Nothing of it was sent.
package enum SendError: Error, Hashable, Sendable {
    /// Longer than the peer's `max-message-size`.
    case messageTooLarge(limit: Int)
    /// The channel or the association is closing or closed.
    case closed
}

/// Why a channel could not be opened.
package enum DataChannelError: Error, Hashable, Sendable {
    /// All stream ids of our parity are in use, or the negotiated id is.
    case noStreamAvailable
    /// 65535 is no stream id (RFC 8832 §6), or the peer takes fewer streams.
    case invalidStream
    /// Label or protocol has more than 65535 bytes of UTF-8.
    case labelTooLong
    /// `maxPacketLifeTime` and `maxRetransmits` exclude each other.
    case conflictingReliability
    /// The association is closing or closed.
    case closed
}

/// Why an association came to its end without a shutdown.
package enum AssociationError: Error, Hashable, Sendable {
    /// INIT or COOKIE ECHO was never answered.
    case handshakeTimedOut
    /// The peer stopped acknowledging.
    case peerUnreachable
    /// The peer sent ABORT; the code of its first cause (RFC 9260 §3.3.10), 0 when it gave none.
    case abortedByPeer(cause: UInt16)
    /// We aborted.
    case aborted
    /// The peer did what no conforming peer does.
    case protocolViolation
    /// The peer announced no streams, or parameters out of range.
    case invalidParameters
    /// A message beyond `maximumMessageSize`.
    case messageTooLarge
    /// More unfinished messages than there is memory for.
    case outOfMemory
}

/// Why bytes of a peer were not understood.
enum ParseError: Error, Hashable, Sendable {
    case truncated
    case badLength
    case badValue
}
