import ICE
import NIOCore
import Testing
import Wire

func bytes(_ hex: String) -> ByteBuffer {
    var buffer = ByteBuffer()
    var high: UInt8?
    for character in hex {
        guard let digit = character.hexDigitValue.map(UInt8.init) else { continue }
        if let first = high {
            buffer.writeInteger(first << 4 | digit)
            high = nil
        } else {
            high = digit
        }
    }
    return buffer
}

private let id = StunTransactionID(high: 0xB7E7_A701, low: 0xBC34_D686_FA87_DFAE)
private let password = Array("VOkJxbRl1RmTxUk/WvJxBt".utf8)

enum Vectors {
    static let request = """
        00 01 00 58 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae 80 22 00 10 53 54 55 4e 20 74 65 73 74 20 63 6c 69 65 6e 74
        00 24 00 04 6e 00 01 ff 80 29 00 08 93 2f f9 b1 51 26 3b 36 00 06 00 09 65 76 74 6a 3a 68 36 76 59 20 20 20
        00 08 00 14 9a ea a7 0c bf d8 cb 56 78 1e f2 b5 b2 d3 f2 49 c1 b5 71 a2 80 28 00 04 e5 7a 3b cf
        """
    static let responseV4 = """
        01 01 00 3c 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae 80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
        00 20 00 08 00 01 a1 47 e1 12 a6 43 00 08 00 14 2b 91 f5 99 fd 9e 90 c3 8c 74 89 f9 2a f9 ba 53 f0 6b e7 d7
        80 28 00 04 c0 7d 4c 96
        """
    static let responseV6 = """
        01 01 00 48 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae 80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
        00 20 00 14 00 02 a1 47 01 13 a9 fa a5 d3 f1 79 bc 25 f4 b5 be d2 b9 d9
        00 08 00 14 a3 82 95 4e 4b e6 7b f1 17 84 c9 7c 82 92 c2 75 bf e3 ed 41 80 28 00 04 c8 fb 0b 4c
        """
    static let longTerm = """
        00 01 00 60 21 12 a4 42 78 ad 34 33 c6 ad 72 c0 29 da 41 2e 00 06 00 12 e3 83 9e e3 83 88 e3 83 aa e3 83 83 e3 82 af e3 82 b9 00 00
        00 15 00 1c 66 2f 2f 34 39 39 6b 39 35 34 64 36 4f 4c 33 34 6f 4c 39 46 53 54 76 79 36 34 73 41
        00 14 00 0b 65 78 61 6d 70 6c 65 2e 6f 72 67 00 00 08 00 14 f6 70 24 65 6d d6 4a 3e 02 b8 e0 71 2e 85 c9 a2 8c a8 96 66
        """
    /// MD5 of "マトリックス:example.org:TheMatrIX".
    static let longTermKey: [UInt8] = [0xe8, 0xca, 0x7a, 0xd5, 0x9d, 0x5e, 0xb0, 0x51, 0x8e, 0x31, 0x29, 0x11, 0xd2, 0xda, 0xb2, 0xa9]
}

@Suite("STUN messages")
struct StunMessageTests {
    @Test("RFC 5769 §2.1: the sample request")
    func sampleRequest() throws {
        let message = try StunMessage(parsing: bytes(Vectors.request))
        #expect(message.messageClass == .request && message.method == StunMessage.binding && message.transactionID == id)
        #expect(message.attributes == [.software("STUN test client"), .priority(0x6E00_01FF), .iceControlled(0x932F_F9B1_5126_3B36), .username("evtj:h6vY")])
        #expect(message.hasFingerprint && message.unknownRequired == [])
        #expect(message.integrity(key: password) == .right)
        #expect(message.integrity(key: password + [1]) == .wrong)
        #expect(IceAgent.localUfrag(ofBindingRequest: bytes(Vectors.request)) == "evtj")
    }

    @Test(
        "RFC 5769 §2.2 and §2.3: the sample responses",
        arguments: [(Vectors.responseV4, "192.0.2.1"), (Vectors.responseV6, "2001:db8:1234:5678:11:2233:4455:6677")])
    func sampleResponse(hex: String, mapped: String) throws {
        let message = try StunMessage(parsing: bytes(hex))
        #expect(message.messageClass == .success && message.hasFingerprint)
        #expect(message.attributes == [.software("test vector"), .xorMappedAddress(address(mapped, 32853))])
        #expect(message.integrity(key: password) == .right)
        #expect(IceAgent.localUfrag(ofBindingRequest: bytes(hex)) == nil)
    }

    @Test("RFC 5769 §2.4: the sample request with a long-term credential")
    func longTerm() throws {
        let message = try StunMessage(parsing: bytes(Vectors.longTerm))
        #expect(message.attributes == [.username("マトリックス"), .nonce("f//499k954d6OL34oL9FSTvy64sA"), .realm("example.org")])
        #expect(!message.hasFingerprint)
        #expect(message.integrity(key: Vectors.longTermKey) == .right)
    }

    static let samples: [StunMessage] = [
        StunMessage(
            .request, transactionID: id,
            attributes: [.username("left:right"), .priority(1), .iceControlling(.max), .useCandidate, .software("é"), .other(0xC057, [1, 2, 3])]),
        StunMessage(.success, transactionID: id, attributes: [.xorMappedAddress(address("10.1.2.3", 4))]),
        StunMessage(.success, transactionID: id, attributes: [.xorMappedAddress(address("2001:db8::1", 65535)), .mappedAddress(address("::1", 1))]),
        StunMessage(.error, transactionID: id, attributes: [.errorCode(420, "Unknown Attribute"), .unknownAttributes([0x7FFF, 2])]),
        StunMessage(.error, transactionID: id, attributes: [.errorCode(699, ""), .realm("r"), .nonce("n")]),
        StunMessage(.indication, method: 0xFFF, transactionID: id),
    ]
    static let protections: [StunMessage.Protection] = [.none, .sha1(key: password), .sha256(key: password)]

    @Test("What is written is read again", arguments: 0..<6, 0..<3)
    func roundTrip(sample: Int, protection: Int) throws {
        for fingerprint in [true, false] {
            let message = Self.samples[sample]
            let encoded = message.encoded(Self.protections[protection], fingerprint: fingerprint)
            #expect(encoded.readableBytes % 4 == 0)
            let parsed = try StunMessage(parsing: encoded)
            #expect(parsed.messageClass == message.messageClass && parsed.method == message.method && parsed.transactionID == id)
            let known = message.attributes.filter { if case .other = $0 { false } else { true } }
            #expect(parsed.attributes == known)
            #expect(parsed.hasFingerprint == fingerprint)
            #expect(parsed.integrity(key: password) == (protection == 0 ? .absent : .right))
            #expect(parsed.usesSHA256 == (protection == 2))
        }
    }

    @Test("Every truncated prefix is refused, also where the header's length is made to fit", arguments: 0..<6)
    func prefixes(sample: Int) {
        let whole = Self.samples[sample].encoded(.sha1(key: password))
        for length in 0..<whole.readableBytes {
            guard var prefix = whole.getSlice(at: 0, length: length) else { continue }
            #expect(throws: StunError.self) { try StunMessage(parsing: prefix) }
            guard length >= 20 else { continue }
            prefix.setInteger(UInt16(length - 20), at: 2)
            if let parsed = try? StunMessage(parsing: prefix) { #expect(parsed.integrity(key: password) != .right || !parsed.hasFingerprint) }
        }
    }

    @Test("Every flipped bit is noticed", arguments: 0..<6)
    func flips(sample: Int) {
        let whole = Self.samples[sample].encoded(.sha1(key: password))
        for index in 0..<whole.readableBytes {
            for bit in 0..<8 as Range<UInt8> {
                var flipped = whole
                flipped.setInteger((whole.getInteger(at: index, as: UInt8.self) ?? 0) ^ 1 << bit, at: index)
                // without the FINGERPRINT's type there is no fingerprint to be wrong, and such a message has no effect either
                if let parsed = try? StunMessage(parsing: flipped) { #expect(!parsed.hasFingerprint) }
            }
        }
    }

    @Test("Random bytes behind a valid header never do harm", arguments: 1...20 as ClosedRange<UInt64>)
    func noise(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        for _ in 0..<500 {
            let words = Int(generator.next() % 40)
            var buffer = ByteBuffer()
            buffer.writeMultipleIntegers(UInt16(generator.next() % 2 == 0 ? 0x0001 : 0x0101), UInt16(words * 4), 0x2112_A442 as UInt32)
            buffer.writeMultipleIntegers(id.high, id.low)
            for _ in 0..<words {
                // small types and lengths are likelier to mean something
                let likely = UInt32(generator.next() % 48) << 16 | UInt32(generator.next() % 24)
                buffer.writeInteger(generator.next() % 3 == 0 ? UInt32(truncatingIfNeeded: generator.next()) : likely)
            }
            if let parsed = try? StunMessage(parsing: buffer) { #expect(parsed.integrity(key: password) != .right) }
        }
    }

    @Test("RFC 8489 §14.5: attributes behind MESSAGE-INTEGRITY are ignored; §14.7: nothing may follow FINGERPRINT")
    func trailing() throws {
        var late = StunMessage(.request, transactionID: id).encoded(.sha1(key: password), fingerprint: false)
        late.writeMultipleIntegers(0x0025 as UInt16, 0 as UInt16)
        late.setInteger(28 as UInt16, at: 2)
        #expect(try StunMessage(parsing: late).attributes == [])
        var behind = StunMessage(.request, transactionID: id).encoded()
        behind.writeMultipleIntegers(0x0025 as UInt16, 0 as UInt16)
        behind.setInteger(12 as UInt16, at: 2)
        #expect(throws: StunError.self) { try StunMessage(parsing: behind) }
    }

    @Test("RFC 8489 §6.3: unknown comprehension-required types are told apart from optional ones")
    func unknown() throws {
        let message = StunMessage(.request, transactionID: id, attributes: [.other(0x7F00, [1]), .other(0xFF00, [1]), .other(0x7F00, [])])
        #expect(try StunMessage(parsing: message.encoded()).unknownRequired == [0x7F00])
    }
}
