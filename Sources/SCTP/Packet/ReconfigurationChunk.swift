import NIOCore
import Wire

/// RE-CONFIG (RFC 6525 §3.1): one or two of the parameters below.
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |  Type = 130   |  Chunk Flags  |         Chunk Length          |
///     +---------------+---------------+-------------------------------+
///     \                  Re-configuration Parameter                   \
///     +---------------------------------------------------------------+
struct ReconfigurationChunk: Equatable {
    /// RFC 6525 §4.4.
    enum Result {
        static let nothingToDo: UInt32 = 0
        static let performed: UInt32 = 1
        static let denied: UInt32 = 2
        static let wrongStream: UInt32 = 3
        static let alreadyInProgress: UInt32 = 4
        static let badSequenceNumber: UInt32 = 5
        static let inProgress: UInt32 = 6
    }

    enum Parameter: Equatable {
        /// §4.1, type 13: request number, response number, last assigned TSN, streams (none: all).
        case outgoingReset(request: UInt32, response: UInt32, lastTSN: TSN, streams: [UInt16])
        /// §4.2, type 14: the sender asks the receiver to reset its outgoing streams.
        case incomingReset(request: UInt32, streams: [UInt16])
        /// §4.4, type 16; the two TSNs that a reset of all TSNs adds are skipped.
        case response(request: UInt32, result: UInt32)
        /// Requests that are always denied: SSN/TSN reset (15), more streams (17, 18).
        case unsupported(request: UInt32)
    }

    var parameters: [Parameter]

    init(_ parameters: [Parameter]) { self.parameters = parameters }

    init(parsing value: RawSpan) throws(ParseError) {
        parameters = []
        var reader = TaggedReader(value)
        var tag: UInt16 = 0
        while !reader.isAtEnd, parameters.count < 2 {
            var body = ByteReader(try reader.next(tag: &tag))
            switch tag {
            case 13:
                let request: UInt32 = try body.take()
                let response: UInt32 = try body.take()
                let last = TSN(rawValue: try body.take())
                var streams: [UInt16] = []
                while body.remaining >= 2 { streams.append(try body.take()) }
                parameters.append(.outgoingReset(request: request, response: response, lastTSN: last, streams: streams))
            case 14:
                let request: UInt32 = try body.take()
                var streams: [UInt16] = []
                while body.remaining >= 2 { streams.append(try body.take()) }
                parameters.append(.incomingReset(request: request, streams: streams))
            case 16: parameters.append(.response(request: try body.take(), result: try body.take()))
            case 15, 17, 18: parameters.append(.unsupported(request: try body.take()))
            default: break
            }
        }
        guard !parameters.isEmpty else { throw .badValue }
    }

    func write(into buffer: inout ByteBuffer) {
        buffer.writeChunk(ChunkType.reconfiguration) { buffer in
            for parameter in parameters {
                switch parameter {
                case .outgoingReset(let request, let response, let lastTSN, let streams):
                    buffer.writeTagged(13) {
                        $0.writeInteger(request)
                        $0.writeInteger(response)
                        $0.writeInteger(lastTSN.rawValue)
                        for stream in streams { $0.writeInteger(stream) }
                    }
                case .incomingReset(let request, let streams):
                    buffer.writeTagged(14) {
                        $0.writeInteger(request)
                        for stream in streams { $0.writeInteger(stream) }
                    }
                case .response(let request, let result):
                    buffer.writeTagged(16) {
                        $0.writeInteger(request)
                        $0.writeInteger(result)
                    }
                case .unsupported(let request): buffer.writeTagged(15) { $0.writeInteger(request) }
                }
            }
        }
    }
}
