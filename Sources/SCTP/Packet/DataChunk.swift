import NIOCore
import Wire

/// The header of DATA and I-DATA; the user data follows it.
///
/// DATA (RFC 9260 §3.3.1), type 0:
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |   Type = 0    |  Res  |I|U|B|E|            Length             |
///     +---------------+---------------+-------------------------------+
///     |                              TSN                              |
///     +-------------------------------+-------------------------------+
///     |       Stream Identifier       |    Stream Sequence Number     |
///     +-------------------------------+-------------------------------+
///     |                  Payload Protocol Identifier                  |
///     +---------------------------------------------------------------+
///
/// I-DATA (RFC 8260 §2.1), type 64: the sequence number's place is reserved, and behind it come
///
///     +---------------------------------------------------------------+
///     |                      Message Identifier                       |
///     +---------------------------------------------------------------+
///     |   Payload Protocol Identifier (B) / Fragment Sequence Number  |
///     +---------------------------------------------------------------+
struct DataChunk: Equatable, BitwiseCopyable {
    static let end: UInt8 = 1
    static let begin: UInt8 = 2
    static let unordered: UInt8 = 4
    static let immediate: UInt8 = 8

    /// Bytes of chunk header and fields.
    static func headerSize(interleaved: Bool) -> Int { interleaved ? 20 : 16 }

    var tsn: TSN
    var stream: UInt16
    /// Stream sequence number (16 bits) or message identifier.
    var message: UInt32
    /// 0 in a fragment other than the first of I-DATA.
    var ppid: UInt32
    /// Fragment sequence number; 0 in DATA.
    var fragment: UInt32
    var flags: UInt8

    var isBegin: Bool { flags & Self.begin != 0 }
    var isEnd: Bool { flags & Self.end != 0 }
    var isUnordered: Bool { flags & Self.unordered != 0 }
    var isImmediate: Bool { flags & Self.immediate != 0 }

    init(tsn: TSN, stream: UInt16, message: UInt32, ppid: UInt32, fragment: UInt32, flags: UInt8) {
        self.tsn = tsn
        self.stream = stream
        self.message = message
        self.ppid = ppid
        self.fragment = fragment
        self.flags = flags
    }

    /// Leaves `reader` at the user data.
    @inline(__always)
    @_lifetime(reader: copy reader)
    init(parsing reader: inout ByteReader, flags: UInt8, interleaved: Bool) throws(ParseError) {
        tsn = TSN(rawValue: try reader.take())
        stream = try reader.take()
        let sequence: UInt16 = try reader.take()
        let word: UInt32 = try reader.take()
        if interleaved {
            let last: UInt32 = try reader.take()
            message = word
            ppid = flags & Self.begin != 0 ? last : 0
            fragment = flags & Self.begin != 0 ? 0 : last
        } else {
            message = UInt32(sequence)
            ppid = word
            fragment = 0
        }
        self.flags = flags
    }

    /// The whole chunk, padded. One copy of the payload.
    @inline(__always)
    func write(payload: UnsafeRawBufferPointer, interleaved: Bool, into buffer: inout ByteBuffer) {
        let header = Self.headerSize(interleaved: interleaved)
        let length = header + payload.count
        let padded = (length + 3) & ~3
        unsafe buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: padded) { bytes in
            let type = interleaved ? ChunkType.interleavedData : ChunkType.data
            let first = UInt32(type) << 24 | UInt32(flags) << 16 | UInt32(truncatingIfNeeded: length)
            unsafe bytes.storeBytes(of: first.bigEndian, toByteOffset: 0, as: UInt32.self)
            unsafe bytes.storeBytes(of: tsn.rawValue.bigEndian, toByteOffset: 4, as: UInt32.self)
            let sequence = interleaved ? 0 : message & 0xFFFF
            unsafe bytes.storeBytes(of: (UInt32(stream) << 16 | sequence).bigEndian, toByteOffset: 8, as: UInt32.self)
            if interleaved {
                unsafe bytes.storeBytes(of: message.bigEndian, toByteOffset: 12, as: UInt32.self)
                unsafe bytes.storeBytes(of: (isBegin ? ppid : fragment).bigEndian, toByteOffset: 16, as: UInt32.self)
            } else {
                unsafe bytes.storeBytes(of: ppid.bigEndian, toByteOffset: 12, as: UInt32.self)
            }
            if padded != length { unsafe bytes.storeBytes(of: 0, toByteOffset: padded - 4, as: UInt32.self) }
            if let source = payload.baseAddress, let target = bytes.baseAddress {
                unsafe (target + header).copyMemory(from: source, byteCount: payload.count)
            }
            return padded
        }
    }
}
