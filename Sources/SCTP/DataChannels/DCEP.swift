import NIOCore
import Wire

/// Payload protocol identifiers of WebRTC (RFC 8831 §8).
enum PayloadProtocol {
    static let establishment: UInt32 = 50
    static let text: UInt32 = 51
    static let binary: UInt32 = 53
    static let emptyText: UInt32 = 56
    static let emptyBinary: UInt32 = 57
}

/// Messages of the Data Channel Establishment Protocol (RFC 8832 §5).
///
/// DATA_CHANNEL_OPEN; DATA_CHANNEL_ACK is the single byte 2.
///
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |  Type = 0x03  |  Channel Type |           Priority            |
///     +---------------+---------------+-------------------------------+
///     |                     Reliability Parameter                     |
///     +-------------------------------+-------------------------------+
///     |         Label Length          |        Protocol Length        |
///     +-------------------------------+-------------------------------+
///     \                             Label                             \
///     \                            Protocol                           \
///     +---------------------------------------------------------------+
enum DCEPMessage: Equatable {
    case open(ChannelParameters)
    case acknowledgement

    init(parsing message: RawSpan) throws(ParseError) {
        var reader = ByteReader(message)
        switch try reader.take(UInt8.self) {
        case 2: self = .acknowledgement
        case 3: self = .open(try Self.parameters(&reader))
        default: throw .badValue
        }
    }

    private static func parameters(_ reader: inout ByteReader) throws(ParseError) -> ChannelParameters {
        let type: UInt8 = try reader.take()
        let priority: UInt16 = try reader.take()
        let reliability: UInt32 = try reader.take()
        let labelLength = Int(try reader.take(UInt16.self))
        let protocolLength = Int(try reader.take(UInt16.self))
        guard reader.remaining == labelLength + protocolLength else { throw .badLength }
        guard let label = try text(&reader, labelLength), let subprotocol = try text(&reader, protocolLength) else { throw .badValue }
        var result = ChannelParameters(label: label, subprotocol: subprotocol, ordered: type & 0x80 == 0, priority: priority)
        switch type & 0x7F {
        case 0: break
        case 1: result.maxRetransmits = reliability
        case 2: result.maxPacketLifeTime = reliability
        default: throw .badValue
        }
        return result
    }

    /// nil when the bytes are not UTF-8.
    private static func text(_ reader: inout ByteReader, _ count: Int) throws(ParseError) -> String? {
        do {
            let bytes = try reader.readSpan(count)
            var buffer = ByteBuffer()
            buffer.writeBytes(bytes)
            return String(validating: buffer.readableBytesView, as: UTF8.self)
        } catch { throw .truncated }
    }

    func write(into buffer: inout ByteBuffer) {
        guard case .open(let channel) = self else {
            buffer.writeInteger(UInt8(2))
            return
        }
        var type: UInt8 = channel.ordered ? 0 : 0x80
        if channel.maxRetransmits != nil { type |= 1 } else if channel.maxPacketLifeTime != nil { type |= 2 }
        buffer.writeInteger(UInt8(3))
        buffer.writeInteger(type)
        buffer.writeInteger(channel.priority)
        buffer.writeInteger(channel.maxRetransmits ?? channel.maxPacketLifeTime ?? 0)
        buffer.writeInteger(UInt16(truncatingIfNeeded: channel.label.utf8.count))
        buffer.writeInteger(UInt16(truncatingIfNeeded: channel.subprotocol.utf8.count))
        buffer.writeString(channel.label)
        buffer.writeString(channel.subprotocol)
    }
}
