package import NIOCore

/// A job's number on one connection: the client counts up from 1, and none is used twice.
package typealias JobNumber = UInt16

/// Why a binary message could not be read.
package enum BinaryMessageError: Error, Hashable, Sendable {
    package enum Field: Hashable, Sendable {
        case id
        case sequence
        case encoding
        case pixelFormat
        case compression
        case timeBase
        case length
        case status
        case format
        case codec
    }

    case truncated
    case badKind(UInt8)
    /// `words` is less than this version's header, or more than the message.
    case badLength
    /// The header was damaged on its way.
    case badCheck
    case badField(Field)
}

/// What the binary messages share: the kind in the first byte, and headers that say their length and end with a check.
enum BinaryMessage {
    enum Kind: UInt8 {
        /// A control message in MessagePack follows.
        case control = 0x01
        case frame = 0x10
        case frameChunk = 0x11
        case configuration = 0x12
        case result = 0x20
        case resultChunk = 0x21
    }

    /// Cuts a whole header off the message, its check verified.
    static func header(_ kind: UInt8, minimum: Int, of message: inout ByteBuffer) throws(BinaryMessageError) -> ByteBuffer {
        guard let first: UInt8 = message.getInteger(at: message.readerIndex) else { throw .truncated }
        guard first == kind else { throw .badKind(first) }
        guard let words: UInt8 = message.getInteger(at: message.readerIndex + 1) else { throw .truncated }
        let count = Int(words) * 4
        guard count >= minimum else { throw .badLength }
        guard let header = message.getSlice(at: message.readerIndex, length: count) else { throw .truncated }
        guard let check: UInt32 = header.getInteger(at: header.writerIndex - 4), let checked = header.getSlice(at: header.readerIndex, length: count - 4)
        else { throw .truncated }
        guard check == UInt32(truncatingIfNeeded: XXH64.digest(checked)) else { throw .badCheck }
        message.moveReaderIndex(forwardBy: count)
        return header
    }

    static func appendCheck(from start: Int, to bytes: inout ByteBuffer) {
        guard let header = bytes.getSlice(at: start, length: bytes.writerIndex - start) else { return }
        bytes.writeInteger(UInt32(truncatingIfNeeded: XXH64.digest(header)))
    }
}

/// A later piece of a frame or of a result.
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     | 0x11 or 0x21  |  0, ignored   |              job              |
///     +---------------+---------------+-------------------------------+
///     |            offset of the bytes that follow, from 0            |
///     +---------------------------------------------------------------+
///     |           id of the frame, or sequence of the result          |
///     |                                                               |
///     +---------------------------------------------------------------+
///     |                            bytes                              |
package struct ChunkHeader: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable {
        case frame = 0x11
        case result = 0x21
    }

    package var kind: Kind
    package var job: JobNumber
    package var offset: Int
    /// The frame's id, or the result's sequence.
    package var id: Int

    package static let byteCount = 16

    package init(kind: Kind, job: JobNumber, offset: Int, id: Int) {
        self.kind = kind
        self.job = job
        self.offset = offset
        self.id = id
    }

    package func write(into bytes: inout ByteBuffer) {
        bytes.writeMultipleIntegers(kind.rawValue, UInt8(0), job, UInt32(truncatingIfNeeded: offset), UInt64(truncatingIfNeeded: id))
    }

    /// Reads the header; what is left in `message` afterwards are the bytes.
    package init(readingFrom message: inout ByteBuffer) throws(BinaryMessageError) {
        guard let (first, _, job, offset, id) = message.readMultipleIntegers(as: (UInt8, UInt8, UInt16, UInt32, UInt64).self) else { throw .truncated }
        guard let kind = Kind(rawValue: first) else { throw .badKind(first) }
        guard (1...UInt64(JobLimits.maximumID)).contains(id) else { throw .badField(.id) }
        self.init(kind: kind, job: job, offset: Int(offset), id: Int(id))
    }
}
