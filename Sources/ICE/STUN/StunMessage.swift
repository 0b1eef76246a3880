import Ciphers
package import NIOCore
import Wire

/// The 96 bits that tie a response to its request (RFC 8489 §5).
package struct StunTransactionID: Hashable, Sendable, BitwiseCopyable {
    package var high: UInt32
    package var low: UInt64

    package init(high: UInt32, low: UInt64) {
        self.high = high
        self.low = low
    }

    package static func random(using generator: inout some RandomNumberGenerator) -> StunTransactionID {
        StunTransactionID(high: UInt32(truncatingIfNeeded: generator.next()), low: generator.next())
    }
}

/// Why bytes are not a STUN message.
package enum StunError: Error, Hashable, Sendable {
    /// Not STUN at all: first bits, length or magic cookie.
    case notStun
    case truncated
    /// An attribute that does not fit, or one whose value is not what its type says.
    case badAttribute(UInt16)
    /// Something follows FINGERPRINT.
    case trailingAttributes
    case badFingerprint
}

/// One STUN message (RFC 8489 §5).
///
///      0                   1                   2                   3
///     |0 0|  method and class (14)    |        length (16)            |
///     |                     magic cookie 0x2112A442                   |
///     |                    transaction id (96 bits)                   |
///     |  attributes: type (16), length (16), value, padding to 4 …    |
package struct StunMessage: Sendable {
    package enum Class: UInt8, Sendable {
        case request = 0
        case indication
        case success
        case error
    }

    package enum Integrity: Sendable, Hashable { case absent, wrong, right }

    /// What protects a message that we write.
    package enum Protection: Sendable {
        case none
        /// MESSAGE-INTEGRITY: HMAC-SHA1, what ICE uses (RFC 8445 §7.2.2).
        case sha1(key: [UInt8])
        /// MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6).
        case sha256(key: [UInt8])
    }

    package static let binding: UInt16 = 1
    // RFC 8656 §17
    package static let allocate: UInt16 = 3
    package static let refresh: UInt16 = 4
    package static let sendIndication: UInt16 = 6
    package static let dataIndication: UInt16 = 7
    package static let createPermission: UInt16 = 8
    package static let channelBind: UInt16 = 9
    static let magicCookie: UInt32 = 0x2112_A442
    static let headerLength = 20

    package var messageClass: Class
    package var method: UInt16
    package var transactionID: StunTransactionID
    /// In order; without MESSAGE-INTEGRITY(-SHA256) and FINGERPRINT, which belong to the encoding.
    package var attributes: [StunAttribute]
    /// Comprehension-required types that we do not know (RFC 8489 §6.3).
    package private(set) var unknownRequired: [UInt16] = []
    /// A FINGERPRINT was there, and right.
    package private(set) var hasFingerprint = false

    private var source = ByteBuffer()
    private var sha1Offset: Int?
    private var sha256Offset: Int?

    package init(_ messageClass: Class, method: UInt16 = StunMessage.binding, transactionID: StunTransactionID, attributes: [StunAttribute] = []) {
        self.messageClass = messageClass
        self.method = method
        self.transactionID = transactionID
        self.attributes = attributes
    }

    /// Parses a whole datagram. A FINGERPRINT is checked here, integrity by `integrity(key:)`.
    package init(parsing datagram: ByteBuffer) throws(StunError) {
        // a copy whose reader index is 0, so that offsets are plain
        let source = datagram.slice()
        var reader = ByteReader(source.readableBytesSpan)
        do {
            let type = try reader.read(UInt16.self)
            let length = Int(try reader.read(UInt16.self))
            guard type & 0xC000 == 0, try reader.read(UInt32.self) == Self.magicCookie, length % 4 == 0 else { throw StunError.notStun }
            transactionID = StunTransactionID(high: try reader.read(), low: try reader.read())
            guard reader.remaining == length, let messageClass = Class(rawValue: UInt8(type >> 4 & 1 | type >> 7 & 2)) else { throw StunError.notStun }
            self.messageClass = messageClass
            // RFC 8489 §5: the class bits sit inside the method
            method = type & 0xF | type >> 1 & 0x70 | type >> 2 & 0xF80
        } catch let error as StunError {
            throw error
        } catch {
            throw .truncated
        }
        self.source = source
        attributes = []
        while !reader.isAtEnd {
            guard !hasFingerprint else { throw .trailingAttributes }
            let offset = source.readableBytes - reader.remaining
            guard let type = try? reader.read(UInt16.self), let length = try? reader.read(UInt16.self) else { throw .truncated }
            guard let value = try? reader.readSpan(Int(length)), (try? reader.skip(-Int(length) & 3)) != nil else { throw .badAttribute(type) }
            try accept(type, ByteReader(value), at: offset)
        }
    }

    private mutating func accept(_ type: UInt16, _ value: consuming ByteReader, at offset: Int) throws(StunError) {
        switch type {
        case StunAttribute.Code.messageIntegrity:
            guard value.remaining == 20 else { throw .badAttribute(type) }
            // RFC 8489 §14.5: what follows it is ignored, but for the SHA256 one and FINGERPRINT
            if sha1Offset == nil, sha256Offset == nil { sha1Offset = offset }
        case StunAttribute.Code.messageIntegritySHA256:
            guard (16...32).contains(value.remaining), value.remaining % 4 == 0 else { throw .badAttribute(type) }
            if sha256Offset == nil { sha256Offset = offset }
        case StunAttribute.Code.fingerprint:
            guard let sum = try? value.read(UInt32.self), value.isAtEnd else { throw .badAttribute(type) }
            guard sum == fingerprint(upTo: offset) else { throw .badFingerprint }
            hasFingerprint = true
        case _ where sha1Offset != nil || sha256Offset != nil:
            break
        default:
            guard attributes.count < Self.maximumAttributes else { throw .badAttribute(type) }
            if let attribute = try StunAttribute(parsing: type, value, transactionID: transactionID) {
                attributes.append(attribute)
            } else if type < 0x8000, !unknownRequired.contains(type) {
                unknownRequired.append(type)
            }
        }
    }

    /// Far more than any message has; bounds the work a stranger can cause.
    private static let maximumAttributes = 64

    // MARK: What protects it

    package var hasIntegrity: Bool { sha1Offset != nil || sha256Offset != nil }
    /// Answers are protected with the algorithm of the request.
    package var usesSHA256: Bool { sha256Offset != nil }

    /// Checks MESSAGE-INTEGRITY-SHA256 where it is there, else MESSAGE-INTEGRITY (RFC 8489 §9.1.3). For parsed messages.
    package func integrity(key: [UInt8]) -> Integrity {
        if let offset = sha256Offset {
            guard let length = source.getInteger(at: offset + 2, as: UInt16.self),
                let theirs = source.getBytes(at: offset + 4, length: Int(length))
            else { return .wrong }
            let ours = HMAC.authenticationCode(.sha256, of: covered(upTo: offset, attributeLength: 4 + Int(length)), key: key)
            // it may be truncated on the right
            return equalInConstantTime(ours.prefix(theirs.count), theirs) ? .right : .wrong
        }
        guard let offset = sha1Offset else { return .absent }
        guard let theirs = source.getBytes(at: offset + 4, length: 20) else { return .wrong }
        let ours = HMAC.authenticationCode(.sha1, of: covered(upTo: offset, attributeLength: 24), key: key)
        return equalInConstantTime(ours, theirs) ? .right : .wrong
    }

    /// The bytes before an attribute, with the header's length ending after it (RFC 8489 §14.5).
    private func covered(upTo offset: Int, attributeLength: Int) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeBytes(source.readableBytesView.prefix(offset))
        bytes.setInteger(UInt16(truncatingIfNeeded: offset + attributeLength - Self.headerLength), at: 2)
        return bytes
    }

    private func fingerprint(upTo offset: Int) -> UInt32 {
        // FINGERPRINT is last, so the header's length is already the one it covers
        CRC32.of(source.readableBytesView.prefix(offset)) ^ Self.fingerprintMask
    }

    static let fingerprintMask: UInt32 = 0x5354_554E

    // MARK: Writing

    /// The bytes of the message; the same value always gives the same bytes, so that a retransmission is one (RFC 8489 §6.2.1).
    package func encoded(_ protection: Protection = .none, fingerprint: Bool = true) -> ByteBuffer {
        var bytes = ByteBuffer()
        let kind = UInt16(messageClass.rawValue)
        bytes.writeInteger(method & 0xF | (method & 0x70) << 1 | (method & 0xF80) << 2 | (kind & 1) << 4 | (kind & 2) << 7)
        bytes.writeInteger(0 as UInt16)
        bytes.writeInteger(Self.magicCookie)
        bytes.writeInteger(transactionID.high)
        bytes.writeInteger(transactionID.low)
        for attribute in attributes {
            let start = bytes.writerIndex
            bytes.writeInteger(attribute.code)
            bytes.writeInteger(0 as UInt16)
            attribute.writeValue(to: &bytes, transactionID: transactionID)
            let length = bytes.writerIndex - start - 4
            bytes.setInteger(UInt16(truncatingIfNeeded: length), at: start + 2)
            bytes.writeRepeatingByte(0, count: -length & 3)
        }
        func setLength(adding count: Int) {
            bytes.setInteger(UInt16(truncatingIfNeeded: bytes.writerIndex + count - Self.headerLength), at: 2)
        }
        switch protection {
        case .none: break
        case .sha1(let key):
            setLength(adding: 24)
            let code = HMAC.authenticationCode(.sha1, of: bytes, key: key)
            bytes.writeMultipleIntegers(StunAttribute.Code.messageIntegrity, 20 as UInt16)
            bytes.writeBytes(code)
        case .sha256(let key):
            setLength(adding: 36)
            let code = HMAC.authenticationCode(.sha256, of: bytes, key: key)
            bytes.writeMultipleIntegers(StunAttribute.Code.messageIntegritySHA256, 32 as UInt16)
            bytes.writeBytes(code)
        }
        if fingerprint {
            setLength(adding: 8)
            let sum = CRC32.of(bytes.readableBytesView) ^ Self.fingerprintMask
            bytes.writeMultipleIntegers(StunAttribute.Code.fingerprint, 4 as UInt16, sum)
        } else {
            setLength(adding: 0)
        }
        return bytes
    }
}
