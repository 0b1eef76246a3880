import NIOCore
package import Wire

/// The attributes that ICE, a STUN server and a TURN client need (RFC 8489 §14, RFC 8445 §16.1, RFC 8656 §18).
package enum StunAttribute: Hashable, Sendable {
    case mappedAddress(TransportAddress)
    case xorMappedAddress(TransportAddress)
    case username(String)
    case errorCode(Int, String)
    case unknownAttributes([UInt16])
    case realm(String)
    case nonce(String)
    case software(String)
    case priority(UInt32)
    case useCandidate
    case iceControlled(UInt64)
    case iceControlling(UInt64)
    // TURN
    case channelNumber(UInt16)
    /// Seconds.
    case lifetime(UInt32)
    case xorPeerAddress(TransportAddress)
    case data([UInt8])
    case xorRelayedAddress(TransportAddress)
    /// 1 for IPv4, 2 for IPv6.
    case requestedAddressFamily(UInt8)
    case additionalAddressFamily(UInt8)
    /// An IP protocol number.
    case requestedTransport(UInt8)
    /// The number of a hash of RFC 8489 §18.5, without parameters.
    case passwordAlgorithm(UInt16)
    /// As the server wrote them, for they are sent back (RFC 8489 §9.2.4).
    case passwordAlgorithms([UInt8])
    case alternateDomain(String)
    case alternateServer(TransportAddress)
    /// Kept for tests and for what later rooms add.
    case other(UInt16, [UInt8])

    package enum Code {
        package static let mappedAddress: UInt16 = 0x0001
        package static let username: UInt16 = 0x0006
        package static let messageIntegrity: UInt16 = 0x0008
        package static let errorCode: UInt16 = 0x0009
        package static let unknownAttributes: UInt16 = 0x000A
        package static let channelNumber: UInt16 = 0x000C
        package static let lifetime: UInt16 = 0x000D
        package static let xorPeerAddress: UInt16 = 0x0012
        package static let data: UInt16 = 0x0013
        package static let realm: UInt16 = 0x0014
        package static let nonce: UInt16 = 0x0015
        package static let xorRelayedAddress: UInt16 = 0x0016
        package static let requestedAddressFamily: UInt16 = 0x0017
        package static let requestedTransport: UInt16 = 0x0019
        package static let messageIntegritySHA256: UInt16 = 0x001C
        package static let passwordAlgorithm: UInt16 = 0x001D
        package static let xorMappedAddress: UInt16 = 0x0020
        package static let priority: UInt16 = 0x0024
        package static let useCandidate: UInt16 = 0x0025
        package static let additionalAddressFamily: UInt16 = 0x8000
        package static let passwordAlgorithms: UInt16 = 0x8002
        package static let alternateDomain: UInt16 = 0x8003
        package static let software: UInt16 = 0x8022
        package static let alternateServer: UInt16 = 0x8023
        package static let fingerprint: UInt16 = 0x8028
        package static let iceControlled: UInt16 = 0x8029
        package static let iceControlling: UInt16 = 0x802A
    }

    package var code: UInt16 {
        switch self {
        case .mappedAddress: Code.mappedAddress
        case .xorMappedAddress: Code.xorMappedAddress
        case .username: Code.username
        case .errorCode: Code.errorCode
        case .unknownAttributes: Code.unknownAttributes
        case .realm: Code.realm
        case .nonce: Code.nonce
        case .software: Code.software
        case .priority: Code.priority
        case .useCandidate: Code.useCandidate
        case .iceControlled: Code.iceControlled
        case .iceControlling: Code.iceControlling
        case .channelNumber: Code.channelNumber
        case .lifetime: Code.lifetime
        case .xorPeerAddress: Code.xorPeerAddress
        case .data: Code.data
        case .xorRelayedAddress: Code.xorRelayedAddress
        case .requestedAddressFamily: Code.requestedAddressFamily
        case .additionalAddressFamily: Code.additionalAddressFamily
        case .requestedTransport: Code.requestedTransport
        case .passwordAlgorithm: Code.passwordAlgorithm
        case .passwordAlgorithms: Code.passwordAlgorithms
        case .alternateDomain: Code.alternateDomain
        case .alternateServer: Code.alternateServer
        case .other(let code, _): code
        }
    }

    /// Nil for a type that we do not know; throws where a known one is malformed.
    init?(parsing code: UInt16, _ value: consuming ByteReader, transactionID: StunTransactionID) throws(StunError) {
        do {
            switch code {
            case Code.mappedAddress: self = .mappedAddress(try Self.address(&value, xorWith: nil))
            case Code.xorMappedAddress: self = .xorMappedAddress(try Self.address(&value, xorWith: transactionID))
            case Code.username: self = .username(try Self.text(&value, limit: 513))
            case Code.realm: self = .realm(try Self.text(&value, limit: 763))
            case Code.nonce: self = .nonce(try Self.text(&value, limit: 763))
            case Code.software: self = .software(try Self.text(&value, limit: 763))
            case Code.errorCode:
                try value.skip(2)
                let (hundreds, rest) = (Int(try value.read(UInt8.self) & 7), Int(try value.read(UInt8.self)))
                guard (3...6).contains(hundreds), rest < 100 else { throw WireError.truncated }
                self = .errorCode(hundreds * 100 + rest, try Self.text(&value, limit: 763))
            case Code.unknownAttributes:
                var codes: [UInt16] = []
                while !value.isAtEnd, codes.count < 64 { codes.append(try value.read()) }
                self = .unknownAttributes(codes)
            case Code.priority: self = .priority(try value.read())
            case Code.useCandidate: self = .useCandidate
            case Code.iceControlled: self = .iceControlled(try value.read())
            case Code.iceControlling: self = .iceControlling(try value.read())
            case Code.channelNumber:
                self = .channelNumber(try value.read())
                try value.skip(2)
            case Code.lifetime: self = .lifetime(try value.read())
            case Code.xorPeerAddress: self = .xorPeerAddress(try Self.address(&value, xorWith: transactionID))
            case Code.xorRelayedAddress: self = .xorRelayedAddress(try Self.address(&value, xorWith: transactionID))
            case Code.data: self = .data(try Self.bytes(&value))
            case Code.requestedAddressFamily: self = .requestedAddressFamily(try Self.padded(&value))
            case Code.additionalAddressFamily: self = .additionalAddressFamily(try Self.padded(&value))
            case Code.requestedTransport: self = .requestedTransport(try Self.padded(&value))
            case Code.passwordAlgorithm:
                self = .passwordAlgorithm(try value.read())
                try value.skip(value.remaining)
            case Code.passwordAlgorithms: self = .passwordAlgorithms(try Self.bytes(&value))
            case Code.alternateDomain: self = .alternateDomain(try Self.text(&value, limit: 255))
            case Code.alternateServer: self = .alternateServer(try Self.address(&value, xorWith: nil))
            default: return nil
            }
            guard value.isAtEnd else { throw WireError.truncated }
        } catch {
            throw .badAttribute(code)
        }
    }

    func writeValue(to bytes: inout ByteBuffer, transactionID: StunTransactionID) {
        switch self {
        case .mappedAddress(let address): Self.write(address, to: &bytes)
        case .xorMappedAddress(let address): Self.write(Self.masked(address, with: transactionID), to: &bytes)
        case .username(let text), .realm(let text), .nonce(let text), .software(let text): bytes.writeString(text)
        case .errorCode(let code, let reason):
            bytes.writeMultipleIntegers(0 as UInt16, UInt8(truncatingIfNeeded: code / 100), UInt8(truncatingIfNeeded: code % 100))
            bytes.writeString(reason)
        case .unknownAttributes(let codes): for code in codes { bytes.writeInteger(code) }
        case .priority(let value): bytes.writeInteger(value)
        case .useCandidate: break
        case .iceControlled(let value), .iceControlling(let value): bytes.writeInteger(value)
        case .channelNumber(let number): bytes.writeMultipleIntegers(number, 0 as UInt16)
        case .lifetime(let seconds): bytes.writeInteger(seconds)
        case .xorPeerAddress(let address), .xorRelayedAddress(let address): Self.write(Self.masked(address, with: transactionID), to: &bytes)
        case .requestedAddressFamily(let number), .additionalAddressFamily(let number), .requestedTransport(let number):
            bytes.writeMultipleIntegers(number, 0 as UInt8, 0 as UInt16)
        case .passwordAlgorithm(let number): bytes.writeMultipleIntegers(number, 0 as UInt16)
        case .alternateDomain(let text): bytes.writeString(text)
        case .alternateServer(let address): Self.write(address, to: &bytes)
        case .data(let value), .passwordAlgorithms(let value), .other(_, let value): bytes.writeBytes(value)
        }
    }

    // MARK: Values

    ///     |0 0 0 0 0 0 0 0|    family     |             port              |
    ///     |              address (32 or 128 bits)                         |
    private static func address(_ value: inout ByteReader, xorWith transactionID: StunTransactionID?) throws(WireError) -> TransportAddress {
        try value.skip(1)
        let family = try value.read(UInt8.self)
        let port = try value.read(UInt16.self)
        let ip: TransportAddress.IP
        switch family {
        case 1: ip = .v4(try value.read())
        case 2: ip = .v6(high: try value.read(), low: try value.read())
        default: throw .truncated
        }
        let address = TransportAddress(ip: ip, port: port)
        return transactionID.map { masked(address, with: $0) } ?? address
    }

    private static func write(_ address: TransportAddress, to bytes: inout ByteBuffer) {
        bytes.writeMultipleIntegers(0 as UInt8, address.ip.isIPv6 ? 2 : 1 as UInt8, address.port)
        switch address.ip {
        case .v4(let bits): bytes.writeInteger(bits)
        case .v6(let high, let low): bytes.writeMultipleIntegers(high, low)
        }
    }

    /// RFC 8489 §14.2: exclusive or with the magic cookie and the transaction id; its own inverse.
    private static func masked(_ address: TransportAddress, with transactionID: StunTransactionID) -> TransportAddress {
        let port = address.port ^ UInt16(StunMessage.magicCookie >> 16)
        switch address.ip {
        case .v4(let bits): return TransportAddress(ip: .v4(bits ^ StunMessage.magicCookie), port: port)
        case .v6(let high, let low):
            let mask = UInt64(StunMessage.magicCookie) << 32 | UInt64(transactionID.high)
            return TransportAddress(ip: .v6(high: high ^ mask, low: low ^ transactionID.low), port: port)
        }
    }

    private static func text(_ value: inout ByteReader, limit: Int) throws(WireError) -> String {
        guard value.remaining <= limit else { throw .truncated }
        guard let text = String(validating: try bytes(&value), as: UTF8.self) else { throw .truncated }
        return text
    }

    private static func bytes(_ value: inout ByteReader) throws(WireError) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(value.remaining)
        while !value.isAtEnd { bytes.append(try value.read()) }
        return bytes
    }

    /// A byte and three that mean nothing.
    private static func padded(_ value: inout ByteReader) throws(WireError) -> UInt8 {
        let number = try value.read(UInt8.self)
        try value.skip(3)
        return number
    }
}
