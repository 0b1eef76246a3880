import NIOCore
import Wire

/// One cause in ABORT or ERROR (RFC 9260 §3.3.10).
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +-------------------------------+-------------------------------+
///     |          Cause Code           |         Cause Length          |
///     +-------------------------------+-------------------------------+
///     \                  Cause-Specific Information                   \
///     +---------------------------------------------------------------+
struct ErrorCause: Equatable {
    static let invalidStream: UInt16 = 1
    static let missingParameter: UInt16 = 2
    static let staleCookie: UInt16 = 3
    static let outOfResource: UInt16 = 4
    static let unrecognizedChunk: UInt16 = 6
    static let invalidParameter: UInt16 = 7
    static let unrecognizedParameters: UInt16 = 8
    static let noUserData: UInt16 = 9
    static let cookieWhileShuttingDown: UInt16 = 10
    static let userInitiated: UInt16 = 12
    static let protocolViolation: UInt16 = 13

    var code: UInt16
    var information = ByteBuffer()

    /// All causes of an ABORT or ERROR; at most 16 are kept.
    static func parse(_ value: RawSpan) throws(ParseError) -> [ErrorCause] {
        var causes: [ErrorCause] = []
        var reader = TaggedReader(value)
        var code: UInt16 = 0
        while !reader.isAtEnd, causes.count < 16 {
            var body = ByteReader(try reader.next(tag: &code))
            causes.append(ErrorCause(code: code, information: body.takeRest()))
        }
        return causes
    }

    func write(into buffer: inout ByteBuffer) {
        buffer.writeTagged(code) { $0.writeImmutableBuffer(information) }
    }
}
