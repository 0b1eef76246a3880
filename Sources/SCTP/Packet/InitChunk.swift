import NIOCore
import Wire

/// INIT and INIT ACK (RFC 9260 §3.3.2, §3.3.3). Addresses are of no use here (RFC 8261 §6.1) and skipped.
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |  Type = 1, 2  |  Chunk Flags  |         Chunk Length          |
///     +---------------+---------------+-------------------------------+
///     |                         Initiate Tag                          |
///     +---------------------------------------------------------------+
///     |          Advertised Receiver Window Credit (a_rwnd)           |
///     +-------------------------------+-------------------------------+
///     |  Number of Outbound Streams   |   Number of Inbound Streams   |
///     +-------------------------------+-------------------------------+
///     |                          Initial TSN                          |
///     +---------------------------------------------------------------+
///     \              Optional/Variable-Length Parameters              \
///     +---------------------------------------------------------------+
struct InitChunk: Equatable {
    enum Parameter {
        static let stateCookie: UInt16 = 7
        static let unrecognized: UInt16 = 8
        /// Addresses, preservative, host name, supported address types, ECN: known and of no use.
        static let ignored: Set<UInt16> = [5, 6, 9, 11, 12, 0x8000]
        /// RFC 9653 §4.
        static let zeroChecksum: UInt16 = 0x8001
        /// RFC 5061 §4.2.7.
        static let supportedExtensions: UInt16 = 0x8008
        /// RFC 3758 §3.1.
        static let forwardTSN: UInt16 = 0xC000
    }

    var initiateTag: UInt32
    var receiverWindow: UInt32
    var outboundStreams: UInt16
    var inboundStreams: UInt16
    var initialTSN: TSN
    var stateCookie: ByteBuffer?
    var supportedExtensions: [UInt8] = []
    var supportsForwardTSN = false
    /// The alternate error detection method that lets the sender of this chunk accept a checksum of 0.
    var zeroChecksumMethod: UInt32?
    /// Whole parameters to be sent back (RFC 9260 §3.2.1): as many as leave the answer within one packet.
    var unrecognized: [ByteBuffer] = []
    private static let longestReport = 512

    init(
        initiateTag: UInt32, receiverWindow: UInt32, outboundStreams: UInt16, inboundStreams: UInt16, initialTSN: TSN
    ) {
        self.initiateTag = initiateTag
        self.receiverWindow = receiverWindow
        self.outboundStreams = outboundStreams
        self.inboundStreams = inboundStreams
        self.initialTSN = initialTSN
    }

    init(parsing value: RawSpan) throws(ParseError) {
        var reader = ByteReader(value)
        initiateTag = try reader.take()
        receiverWindow = try reader.take()
        outboundStreams = try reader.take()
        inboundStreams = try reader.take()
        initialTSN = TSN(rawValue: try reader.take())
        var parameters = TaggedReader(reader)
        var tag: UInt16 = 0
        var reported = 0
        walk: while !parameters.isAtEnd {
            let body = try parameters.next(tag: &tag)
            var inner = ByteReader(body)
            switch tag {
            case Parameter.stateCookie: stateCookie = inner.takeRest()
            case Parameter.supportedExtensions: while !inner.isAtEnd { supportedExtensions.append(try inner.take()) }
            case Parameter.forwardTSN: supportsForwardTSN = true
            case Parameter.zeroChecksum: zeroChecksumMethod = try inner.take()
            case Parameter.unrecognized: break
            case _ where Parameter.ignored.contains(tag): break
            default:
                // the two highest bits say what to do: report (01, 11), go on (10, 11)
                if tag & 0x4000 != 0, reported + body.byteCount + 8 <= Self.longestReport {
                    reported += body.byteCount + 8
                    var copy = ByteBuffer()
                    copy.writeTagged(tag) { $0.writeBytes(body) }
                    unrecognized.append(copy)
                }
                if tag & 0x8000 == 0 { break walk }
            }
        }
    }

    func write(as type: UInt8, into buffer: inout ByteBuffer) {
        buffer.writeChunk(type) { buffer in
            buffer.writeInteger(initiateTag)
            buffer.writeInteger(receiverWindow)
            buffer.writeInteger(outboundStreams)
            buffer.writeInteger(inboundStreams)
            buffer.writeInteger(initialTSN.rawValue)
            if let stateCookie { buffer.writeTagged(Parameter.stateCookie) { $0.writeImmutableBuffer(stateCookie) } }
            if supportsForwardTSN { buffer.writeTagged(Parameter.forwardTSN) { _ in } }
            if !supportedExtensions.isEmpty { buffer.writeTagged(Parameter.supportedExtensions) { $0.writeBytes(supportedExtensions) } }
            if let zeroChecksumMethod { buffer.writeTagged(Parameter.zeroChecksum) { $0.writeInteger(zeroChecksumMethod) } }
            for parameter in unrecognized { buffer.writeTagged(Parameter.unrecognized) { $0.writeImmutableBuffer(parameter) } }
        }
    }
}
