import NIOCore
import Testing
import Wire

@Suite("Byte reader")
struct ByteReaderTests {
    @Test("integers are big-endian and bounds are kept")
    func integers() throws {
        let bytes: [UInt8] = [1, 2, 3, 4, 5, 6, 7]
        var reader = ByteReader(bytes.span.bytes)
        let first = try reader.read(UInt16.self)
        #expect(first == 0x0102)
        let span = try reader.readSpan(2)
        #expect(span.byteCount == 2)
        let byte = try reader.read(UInt8.self)
        #expect(byte == 5)
        var failed = false
        do throws(WireError) { _ = try reader.read(UInt32.self) } catch { failed = error == .truncated }
        #expect(failed)
        let left = reader.remaining
        #expect(left == 2)
        try reader.skip(2)
        let atEnd = reader.isAtEnd
        #expect(atEnd)
    }

    @Test("serial numbers wrap (RFC 1982)")
    func serial() {
        struct Number: SerialNumber { var rawValue: UInt16 }
        let last = Number(rawValue: .max)
        #expect(last.next.rawValue == 0)
        #expect(last.next.isAfter(last))
        #expect(!last.isAfter(last.next))
        #expect(last.next.distance(from: last) == 1)
        #expect(!last.isAfter(last))
    }

    @Test("a batch keeps packets apart")
    func batch() {
        var batch = DatagramBatch()
        let a = NetworkPath(local: .init(ip: .v4(1), port: 1), remote: .init(ip: .v4(2), port: 2))
        let b = NetworkPath(local: .init(ip: .v4(1), port: 1), remote: .init(ip: .v4(3), port: 3))
        batch.append(ByteBuffer(string: "one"), along: a)
        batch.packets.bytes.writeString("two")
        batch.packets.endPacket()
        batch.packets.endPacket()
        batch.assign(b)
        #expect(batch.count == 2)
        #expect(batch.paths == [a, b])
        #expect(batch.packets.packet(1).map { String(buffer: $0) } == "two")
    }
}
