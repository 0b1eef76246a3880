/// The CRC-32 of ISO 3309 (polynomial 0xEDB88320 reflected), which STUN's FINGERPRINT and our foundations use.
struct CRC32 {
    private var state: UInt32 = .max

    var value: UInt32 { ~state }

    mutating func update(_ byte: UInt8) {
        state = (state >> 8) ^ Self.table[Int((state ^ UInt32(byte)) & 0xFF)]
    }

    static func of(_ bytes: some Sequence<UInt8>) -> UInt32 {
        var sum = CRC32()
        for byte in bytes { sum.update(byte) }
        return sum.value
    }

    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? (value >> 1) ^ 0xEDB8_8320 : value >> 1 }
    }
}
