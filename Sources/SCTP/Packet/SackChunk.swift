import NIOCore
import Wire

/// SACK (RFC 9260 §3.3.4).
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |   Type = 3    |  Chunk Flags  |         Chunk Length          |
///     +---------------+---------------+-------------------------------+
///     |                      Cumulative TSN Ack                       |
///     +---------------------------------------------------------------+
///     |          Advertised Receiver Window Credit (a_rwnd)           |
///     +-------------------------------+-------------------------------+
///     |  Number of Gap Ack Blocks = N |  Number of Duplicate TSNs = M |
///     +-------------------------------+-------------------------------+
///     |    Gap Ack Block #1 Start     |     Gap Ack Block #1 End      |
///     \                              ...                              \
///     |                       Duplicate TSN 1                         |
///     \                              ...                              \
///     +---------------------------------------------------------------+
struct SackChunk: Equatable {
    /// TSNs that arrived behind a gap, as offsets from the cumulative TSN.
    struct GapBlock: Equatable, BitwiseCopyable {
        var start: UInt16
        var end: UInt16
    }

    static let size = 16

    var cumulative: TSN
    var receiverWindow: UInt32
    var gaps: [GapBlock] = []
    var duplicates: [TSN] = []

    init(cumulative: TSN, receiverWindow: UInt32, gaps: [GapBlock] = [], duplicates: [TSN] = []) {
        self.cumulative = cumulative
        self.receiverWindow = receiverWindow
        self.gaps = gaps
        self.duplicates = duplicates
    }

    init(parsing value: RawSpan) throws(ParseError) {
        var reader = ByteReader(value)
        cumulative = TSN(rawValue: try reader.take())
        receiverWindow = try reader.take()
        let gapCount = Int(try reader.take(UInt16.self))
        let duplicateCount = Int(try reader.take(UInt16.self))
        guard reader.remaining == 4 * (gapCount + duplicateCount) else { throw .badLength }
        if gapCount > 0 {
            gaps.reserveCapacity(gapCount)
            for _ in 0..<gapCount { gaps.append(GapBlock(start: try reader.take(), end: try reader.take())) }
        }
        for _ in 0..<duplicateCount { duplicates.append(TSN(rawValue: try reader.take())) }
    }

    func write(into buffer: inout ByteBuffer) {
        buffer.writeChunk(ChunkType.sack) {
            $0.writeInteger(cumulative.rawValue)
            $0.writeInteger(receiverWindow)
            $0.writeInteger(UInt16(truncatingIfNeeded: gaps.count))
            $0.writeInteger(UInt16(truncatingIfNeeded: duplicates.count))
            for gap in gaps {
                $0.writeInteger(gap.start)
                $0.writeInteger(gap.end)
            }
            for duplicate in duplicates { $0.writeInteger(duplicate.rawValue) }
        }
    }
}
