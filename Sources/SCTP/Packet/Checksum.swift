/// CRC32C (RFC 9260 appendix A), eight bytes a step.
enum CRC32C {
    /// Table 0 advances by one byte; table k by one byte followed by k zero bytes.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
            tables[byte] = value
        }
        for index in 256..<tables.count {
            let previous = tables[index - 256]
            tables[index] = previous >> 8 ^ tables[Int(previous & 0xFF)]
        }
        return tables
    }()

    static func checksum(_ bytes: RawSpan) -> UInt32 { ~update(~0, bytes) }

    /// The checksum of a packet, its own checksum field taken as zero.
    static func checksum(packet: RawSpan) -> UInt32 {
        guard packet.byteCount >= 12 else { return checksum(packet) }
        var value = update(~0, packet.extracting(first: 8))
        let zero: UInt32 = 0
        value = unsafe withUnsafeBytes(of: zero) { unsafe update(value, RawSpan(_unsafeBytes: $0)) }
        return ~update(value, packet.extracting(droppingFirst: 12))
    }

    private static func update(_ start: UInt32, _ bytes: RawSpan) -> UInt32 {
        let table = tables.span
        var value = start
        var offset = 0
        let end = bytes.byteCount
        while end - offset >= 8 {
            // in bounds by the loop's condition; every index is below 8 * 256
            let word = unsafe UInt64(littleEndian: bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self)) ^ UInt64(value)
            value = unsafe table[unchecked: 0x700 | Int(word & 0xFF)]
            value ^= unsafe table[unchecked: 0x600 | Int(word >> 8 & 0xFF)]
            value ^= unsafe table[unchecked: 0x500 | Int(word >> 16 & 0xFF)]
            value ^= unsafe table[unchecked: 0x400 | Int(word >> 24 & 0xFF)]
            value ^= unsafe table[unchecked: 0x300 | Int(word >> 32 & 0xFF)]
            value ^= unsafe table[unchecked: 0x200 | Int(word >> 40 & 0xFF)]
            value ^= unsafe table[unchecked: 0x100 | Int(word >> 48 & 0xFF)]
            value ^= unsafe table[unchecked: Int(word >> 56)]
            offset += 8
        }
        while offset < end {
            let byte = unsafe bytes.unsafeLoad(fromUncheckedByteOffset: offset, as: UInt8.self)
            value = unsafe value >> 8 ^ table[unchecked: Int((value ^ UInt32(byte)) & 0xFF)]
            offset += 1
        }
        return value
    }
}
