import NIOCore
import Testing
import WebRTCNIO

/// A message that both sides make by rule (Peers/README.md), so that only its size and seed travel between the processes.
struct TestMessage: Sendable, CustomTestStringConvertible {
    var isText: Bool
    /// Bytes; of the UTF-8 for text.
    var size: Int
    var seed: Int

    var testDescription: String { "\(isText ? "text" : "binary") of \(size) bytes, seed \(seed)" }

    struct Digest: Equatable, Sendable {
        var isText: Bool
        var size: Int
        var crc: UInt32
    }

    var content: ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(size)
        var rest = size
        if isText, size >= 6 {
            buffer.writeString("é𝄞")
            rest -= 6
        }
        for index in 0..<rest {
            let byte = (index * 31 + (index >> 8) * 7 + seed) & 255
            buffer.writeInteger(UInt8(isText ? 97 + byte % 26 : byte))
        }
        return buffer
    }

    var message: DataChannel.Message { isText ? .text(String(buffer: content)) : .binary(content) }
    var digest: Digest { Digest(isText: isText, size: size, crc: Self.crc32(content)) }

    static func digest(of message: DataChannel.Message) -> Digest {
        switch message {
        case .text(let text): Digest(isText: true, size: text.utf8.count, crc: crc32(ByteBuffer(string: text)))
        case .binary(let bytes): Digest(isText: false, size: bytes.readableBytes, crc: crc32(bytes))
        }
    }

    /// Text and binary of every size up to `limit` at which something changes: empty, one byte, one packet more or less, and the limit itself.
    static func ladder(upTo limit: Int) -> [TestMessage] {
        let sizes = [
            0, 1, 2, 5, 6, 1023, 1024, 1119, 1120, 1121, 1199, 1200, 1201, 4096, 16_384, 65_535, 65_536, 65_537, 262_143, 262_144, 1 << 20, limit - 1, limit,
        ]
        return Set(sizes.filter { (0...limit).contains($0) }).sorted().enumerated().flatMap { index, size in
            [TestMessage(isText: false, size: size, seed: index), TestMessage(isText: true, size: size, seed: index)]
        }
    }

    /// CRC-32 of IEEE 802.3, as zlib's.
    private static func crc32(_ bytes: ByteBuffer) -> UInt32 {
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in bytes.readableBytesView { crc = table[Int((crc ^ UInt32(byte)) & 255)] ^ (crc >> 8) }
        return crc ^ 0xFFFF_FFFF
    }

    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? (value >> 1) ^ 0xEDB8_8320 : value >> 1 }
    }
}
