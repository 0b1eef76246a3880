/// Names one data channel of one engine for as long as the engine lives; never used again.
package struct ChannelHandle: Hashable, Sendable, BitwiseCopyable {
    package let number: UInt32

    package init(number: UInt32) { self.number = number }
}

/// How a data channel treats its messages (RFC 8831 §6.1, RFC 8832 §5.1).
package struct ChannelParameters: Hashable, Sendable {
    package var label: String
    package var subprotocol: String
    package var ordered: Bool
    /// Milliseconds after which an undelivered message is given up; excludes `maxRetransmits`.
    package var maxPacketLifeTime: UInt32?
    /// Retransmissions after which an undelivered message is given up.
    package var maxRetransmits: UInt32?
    /// 128, 256, 512, 1024: below normal, normal, high, extra high (RFC 8831 §6.4). The share of bandwidth is proportional to it.
    package var priority: UInt16
    /// Both sides open the channel on this stream without DCEP.
    package var negotiatedID: UInt16?

    package init(
        label: String, subprotocol: String = "", ordered: Bool = true, maxPacketLifeTime: UInt32? = nil, maxRetransmits: UInt32? = nil,
        priority: UInt16 = 256, negotiatedID: UInt16? = nil
    ) {
        self.label = label
        self.subprotocol = subprotocol
        self.ordered = ordered
        self.maxPacketLifeTime = maxPacketLifeTime
        self.maxRetransmits = maxRetransmits
        self.priority = priority
        self.negotiatedID = negotiatedID
    }

    var nameBytes: Int { label.utf8.count + subprotocol.utf8.count }
}

/// The life of a data channel as the W3C names it.
package enum ChannelState: Hashable, Sendable {
    case connecting, open, closing, closed
}
