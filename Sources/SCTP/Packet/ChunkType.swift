import NIOCore
import Wire

/// Transmission sequence number (RFC 9260 §3.3.1).
struct TSN: SerialNumber {
    var rawValue: UInt32

    init(rawValue: UInt32) { self.rawValue = rawValue }
    /// The low half of an unwrapped number.
    init(_ unwrapped: UInt64) { rawValue = UInt32(truncatingIfNeeded: unwrapped) }

    /// The 64-bit number next to `reference` whose low half this is. Engines count in 64 bits and never meet the wrap.
    @inline(__always)
    func unwrapped(near reference: UInt64) -> UInt64 {
        let distance = Int32(bitPattern: rawValue &- UInt32(truncatingIfNeeded: reference))
        return reference &+ UInt64(bitPattern: Int64(distance))
    }
}

/// Chunk types (RFC 9260 §3.2, RFC 8260 §2, RFC 6525 §3, RFC 4820, RFC 3758 §3.2).
enum ChunkType {
    static let data: UInt8 = 0
    static let initiation: UInt8 = 1
    static let initiationAck: UInt8 = 2
    static let sack: UInt8 = 3
    static let heartbeat: UInt8 = 4
    static let heartbeatAck: UInt8 = 5
    static let abort: UInt8 = 6
    static let shutdown: UInt8 = 7
    static let shutdownAck: UInt8 = 8
    static let error: UInt8 = 9
    static let cookieEcho: UInt8 = 10
    static let cookieAck: UInt8 = 11
    static let ecnEcho: UInt8 = 12
    static let windowReduced: UInt8 = 13
    static let shutdownComplete: UInt8 = 14
    static let interleavedData: UInt8 = 64
    static let reconfiguration: UInt8 = 130
    static let padding: UInt8 = 132
    static let forwardTSN: UInt8 = 192
    static let interleavedForwardTSN: UInt8 = 194
}

/// The common header in front of all chunks.
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +-------------------------------+-------------------------------+
///     |          Source Port          |       Destination Port        |
///     +-------------------------------+-------------------------------+
///     |                       Verification Tag                        |
///     +---------------------------------------------------------------+
///     |                           Checksum                            |
///     +---------------------------------------------------------------+
struct CommonHeader: Equatable {
    static let size = 12

    var sourcePort: UInt16
    var destinationPort: UInt16
    var verificationTag: UInt32
    /// As it stands in the packet; CRC32C goes least significant byte first.
    var checksum: UInt32

    init(parsing bytes: RawSpan) throws(ParseError) {
        var reader = ByteReader(bytes)
        sourcePort = try reader.take()
        destinationPort = try reader.take()
        verificationTag = try reader.take()
        checksum = UInt32(bigEndian: try reader.take()).littleEndian
    }
}

extension ByteReader {
    /// `read`, in this room's error type.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func take<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type = T.self) throws(ParseError) -> T {
        do { return try read(T.self) } catch { throw .truncated }
    }

    /// Whatever is left, as bytes of its own.
    @_lifetime(self: copy self)
    mutating func takeRest() -> ByteBuffer {
        var result = ByteBuffer()
        result.writeBytes(rest)
        try? skip(remaining)
        return result
    }
}

extension ByteBuffer {
    /// A chunk, parameter or cause: the first 16 bits, then a length over header and body, then zeroes up to a multiple of 4.
    ///
    ///     0                   1                   2                   3
    ///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    ///     +---------------+---------------+-------------------------------+
    ///     |   Chunk Type  |  Chunk Flags  |         Chunk Length          |
    ///     +---------------+---------------+-------------------------------+
    ///     \                          Chunk Value                          \
    ///     +---------------------------------------------------------------+
    mutating func writeTagged(_ tag: UInt16, body: (inout ByteBuffer) -> Void) {
        let start = writerIndex
        writeInteger(tag)
        writeInteger(UInt16(0))
        body(&self)
        let length = writerIndex - start
        setInteger(UInt16(truncatingIfNeeded: length), at: start + 2)
        writeRepeatingByte(0, count: -length & 3)
    }

    mutating func writeChunk(_ type: UInt8, flags: UInt8 = 0, body: (inout ByteBuffer) -> Void = { _ in }) {
        writeTagged(UInt16(type) << 8 | UInt16(flags), body: body)
    }
}

/// Walks chunks, parameters or causes: all are 16 bits, a length, a body, padding.
struct TaggedReader: ~Escapable {
    private var reader: ByteReader

    @_lifetime(copy bytes)
    init(_ bytes: RawSpan) { reader = ByteReader(bytes) }

    @_lifetime(copy reader)
    init(_ reader: ByteReader) { self.reader = reader }

    /// Fewer than 4 bytes cannot hold another one; they count as padding.
    var isAtEnd: Bool { reader.remaining < 4 }

    /// The next one's tag and body.
    @inline(__always)
    @_lifetime(self: copy self)
    @_lifetime(copy self)
    mutating func next(tag: inout UInt16) throws(ParseError) -> RawSpan {
        tag = try reader.take()
        let length = Int(try reader.take(UInt16.self))
        guard length >= 4, length - 4 <= reader.remaining else { throw .badLength }
        do {
            let body = try reader.readSpan(length - 4)
            try reader.skip(min(-length & 3, reader.remaining))
            return body
        } catch { throw .truncated }
    }
}
