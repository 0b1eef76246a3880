import NIOCore
import Wire

/// FORWARD-TSN (RFC 3758 §3.2) and I-FORWARD-TSN (RFC 8260 §2.3): the sender gave up what lies before.
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |   Type = 192  |  Flags = 0x00 |         Chunk Length          |
///     +---------------+---------------+-------------------------------+
///     |                      New Cumulative TSN                       |
///     +-------------------------------+-------------------------------+
///     |       Stream Identifier       |    Stream Sequence Number     |   FORWARD-TSN, repeated
///     +-------------------------------+-------------------------------+
///
///     +-------------------------------+-----------------------------+-+
///     |       Stream Identifier       |           Reserved          |U|   I-FORWARD-TSN (type 194), repeated
///     +-------------------------------+-----------------------------+-+
///     |                      Message Identifier                       |
///     +---------------------------------------------------------------+
struct ForwardTSNChunk: Equatable {
    struct Skip: Equatable, BitwiseCopyable {
        var stream: UInt16
        var isUnordered: Bool
        /// The last message given up: stream sequence number or message identifier.
        var message: UInt32
    }

    var cumulative: TSN
    var skips: [Skip] = []

    init(cumulative: TSN, skips: [Skip] = []) {
        self.cumulative = cumulative
        self.skips = skips
    }

    init(parsing value: RawSpan, interleaved: Bool) throws(ParseError) {
        var reader = ByteReader(value)
        cumulative = TSN(rawValue: try reader.take())
        guard reader.remaining % (interleaved ? 8 : 4) == 0 else { throw .badLength }
        while !reader.isAtEnd {
            let stream: UInt16 = try reader.take()
            let word: UInt16 = try reader.take()
            if interleaved {
                skips.append(Skip(stream: stream, isUnordered: word & 1 != 0, message: try reader.take()))
            } else {
                skips.append(Skip(stream: stream, isUnordered: false, message: UInt32(word)))
            }
        }
    }

    func write(interleaved: Bool, into buffer: inout ByteBuffer) {
        buffer.writeChunk(interleaved ? ChunkType.interleavedForwardTSN : ChunkType.forwardTSN) {
            $0.writeInteger(cumulative.rawValue)
            for skip in skips {
                $0.writeInteger(skip.stream)
                if interleaved {
                    $0.writeInteger(UInt16(skip.isUnordered ? 1 : 0))
                    $0.writeInteger(skip.message)
                } else {
                    $0.writeInteger(UInt16(truncatingIfNeeded: skip.message))
                }
            }
        }
    }
}
