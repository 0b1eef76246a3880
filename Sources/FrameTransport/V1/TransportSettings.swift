/// What both ends may set for a connection.
public struct TransportSettings: Sendable {
    /// The longest message that this end takes; told to the other in the hello.
    public var maximumMessageBytes = 262_144
    /// The longest message that the channel takes on its way to the other end (SDP's `max-message-size`).
    public var channelMessageBytes = 262_144
    /// Pieces of frames and results are no longer than this, their header included.
    public var maximumChunkBytes = 262_144
    /// The same while as much as half of `bulkHighWater` waits in the channel, or several jobs share it.
    public var sharedChunkBytes = 65_536
    /// Nothing is added to the bulk channel while it has this much waiting.
    public var bulkHighWater = 512 << 10
    /// The same for control messages.
    public var controlHighWater = 1 << 20
    /// With jobs on the connection and nothing heard for this long, an end asks for a sign of life.
    public var pingInterval: Duration = .milliseconds(1500)
    /// No answer to that for this long is a stall.
    public var silenceLimit: Duration = .seconds(3)
    /// Bytes waiting in a channel that moved none for this long are a stall.
    public var stallLimit: Duration = .seconds(4)
    /// A frame that was asked for again and does not come.
    public var retryTimeout: Duration = .seconds(5)
    public var progressInterval: Duration = .milliseconds(500)
    /// The longest control message that is read.
    public var controlBytes = 262_144
    /// Control messages that may wait for the channel.
    public var controlBacklog = 1024
    /// Client: frames accepted before they can be sent. 0 for live sources, so that a frame is encoded only when it can leave.
    public var readAhead = 4
    /// Client: payload bytes of one job kept until they are acknowledged.
    public var retainedBytes = 128 << 20
    /// Client: body and picture of the longest result that is taken, whatever the server says its limit is.
    public var resultBytes = 256 << 20

    public init() {}

    /// A peer or channel that takes less than this cannot be used.
    public static let leastMessageBytes = 16_384
    /// Each piece but the last has this many bytes at least, so that a frame cannot be a flood of tiny messages.
    static let leastPieceBytes = 1024
    /// Rather than cut a smaller piece, the sender waits.
    static let worthwhilePieceBytes = 8192
}

/// How much may be sent on the bulk lane now; made anew for each message.
package struct BulkBudget: Sendable {
    /// The longest message, header included.
    package var messageBytes: Int
    /// What the channel takes before it is full.
    package var room: Int

    /// The size of the next piece; nil: better wait. `credit` is how many bytes the peer allows.
    ///
    /// What needs several messages is cut evenly, so that no tiny rest is left; a nearly full channel makes pieces smaller.
    func piece(of remaining: Int, behind header: Int, credit: Int = .max) -> Int? {
        guard room > 0 else { return nil }
        let limit = messageBytes - header
        var size = remaining
        if remaining > limit {
            let pieces = (remaining + limit - 1) / limit
            size = (remaining + pieces - 1) / pieces
        }
        size = min(size, max(room, TransportSettings.worthwhilePieceBytes), credit)
        guard size == remaining || size >= min(TransportSettings.worthwhilePieceBytes, limit) else { return nil }
        return size
    }
}
