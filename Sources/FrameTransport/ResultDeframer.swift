package import NIOCore

/// Joins results that come as binary messages (PROTOCOLS.md section 3): servers of Roboflow's kind cut them so.
///
///      0                   4                   8                   12
///     +-------------------+-------------------+-------------------+---
///     | frame_id (LE)     | chunk_index (LE)  | total_chunks (LE) | bytes
///     +-------------------+-------------------+-------------------+---
package struct ResultDeframer {
    package enum Fault: Error, Hashable, Sendable {
        case chunkOutOfRange
        case tooLarge
        /// RFC 1952: gzip is not read here.
        case compressed
    }

    private var chunks: [Int: ByteBuffer] = [:]
    private var frameID: UInt32?
    private var total = 0
    private var bytes = 0
    private let maximumBytes: Int

    package init(maximumBytes: Int = 64 << 20) { self.maximumBytes = maximumBytes }

    /// - Returns: the JSON text, once it is whole. Shorter than a header, or JSON already: the message itself.
    package mutating func handle(_ message: ByteBuffer) throws(Fault) -> ByteBuffer? {
        var rest = message
        guard message.readableBytesView.first != UInt8(ascii: "{"), message.readableBytes >= 12,
            let (id, index, count) = rest.readMultipleIntegers(endianness: .little, as: (UInt32, UInt32, UInt32).self)
        else { return message }
        if id != frameID || Int(count) != total { reset(id, Int(count)) }
        guard index < count else {
            reset(nil, 0)
            throw .chunkOutOfRange
        }
        guard bytes + rest.readableBytes <= maximumBytes, count <= 65_536 else {
            reset(nil, 0)
            throw .tooLarge
        }
        if chunks.updateValue(rest, forKey: Int(index)) == nil { bytes += rest.readableBytes }
        guard chunks.count == total else { return nil }
        var whole = ByteBuffer()
        whole.reserveCapacity(bytes)
        for index in 0..<total { if var chunk = chunks[index] { whole.writeBuffer(&chunk) } }
        reset(nil, 0)
        guard whole.getInteger(at: 0, as: UInt16.self) != 0x1f8b else { throw .compressed }
        return whole
    }

    private mutating func reset(_ id: UInt32?, _ count: Int) {
        frameID = id
        total = count
        chunks = [:]
        bytes = 0
    }
}
