package import NIOCore

/// Which layer a datagram belongs to, by its first byte.
///
///      0...3    STUN          RFC 7983 §7
///     20...63   DTLS
///    128...191  RTP, RTCP
package enum DatagramKind: Hashable, Sendable {
    case stun, dtls, media, unknown

    package init(of datagram: ByteBuffer) {
        guard let first = datagram.getInteger(at: datagram.readerIndex, as: UInt8.self) else {
            self = .unknown
            return
        }
        switch first {
        case 0...3: self = .stun
        case 20...63: self = .dtls
        case 128...191: self = .media
        default: self = .unknown
        }
    }
}
