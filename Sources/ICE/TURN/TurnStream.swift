package import NIOCore

/// Cuts what comes over TCP or TLS into STUN messages and ChannelData (RFC 8656 §12.5).
///
///     |0 0|  type (14)  |  length (16)  | magic cookie, …  20 + length bytes in all
///     |0 1|  channel    |  length (16)  | data             4 + length bytes, padded to a multiple of 4
package struct TurnStream: Sendable {
    /// The bytes are neither; nothing after them can be understood.
    package struct BrokenError: Error, Hashable, Sendable {}

    private var buffer = ByteBuffer()

    package init() {}

    package mutating func append(_ bytes: ByteBuffer) {
        if buffer.readableBytes == 0 { buffer = bytes } else { buffer.writeImmutableBuffer(bytes) }
    }

    /// The next whole message, without its padding; nil until more bytes come. What waits is never more than one message and one read.
    package mutating func next() throws(BrokenError) -> ByteBuffer? {
        guard let first = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self),
            let length = buffer.getInteger(at: buffer.readerIndex + 2, as: UInt16.self)
        else { return nil }
        let count: Int
        switch first >> 6 {
        case 0: count = 20 + Int(length)
        case 1: count = 4 + Int(length)
        default: throw BrokenError()
        }
        let padding = first >> 6 == 1 ? -count & 3 : 0
        guard buffer.readableBytes >= count + padding, let message = buffer.readSlice(length: count) else { return nil }
        buffer.moveReaderIndex(forwardBy: padding)
        return message
    }
}
