import Media
import Testing

@Suite struct PayloadCompressionTests {
    static let all: [PayloadCompression] = [.lz4, .zstd(), .zstd(level: -5), .zstd(level: 9)]

    static func compress(_ bytes: [UInt8], _ compression: PayloadCompression) throws -> [UInt8] {
        try bytes.withUnsafeBytes { try compression.compress($0) }
    }

    static func decompress(_ bytes: [UInt8], _ compression: PayloadCompression, count: Int) throws -> [UInt8] {
        var target = [UInt8](repeating: 0xEE, count: count)
        try bytes.withUnsafeBytes { bytes in try target.withUnsafeMutableBytes { try compression.decompress(bytes, into: $0) } }
        return target
    }

    static func noise(_ count: Int) -> [UInt8] {
        var dice = Dice(seed: 7)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: dice.roll(256)) }
    }

    @Test("What was compressed comes back, and pictures get smaller", arguments: all, PixelFormat.allCases)
    func pictures(_ compression: PayloadCompression, _ format: PixelFormat) throws {
        let frame = gradient(format, width: 641, height: 479)
        let compressed = try frame.withUnsafeBytes { try compression.compress($0) }
        #expect(compressed.count < frame.byteCount / 2)
        // straight into a frame's own memory
        let back = try VideoFrame(format, width: 641, height: 479) { (pixels) throws(MediaError) in
            try compressed.span.bytes.withUnsafeBytes { (bytes) throws(MediaError) in try compression.decompress(bytes, into: pixels) }
        }
        #expect(bytes(of: back) == bytes(of: frame))
    }

    @Test("Bytes that cannot be squeezed come back, too, in the room that was promised", arguments: all, [1, 2, 255, 4096, 100_003])
    func noise(_ compression: PayloadCompression, _ count: Int) throws {
        let bytes = Self.noise(count)
        let compressed = try Self.compress(bytes, compression)
        #expect(compressed.count <= compression.maximumCompressedByteCount(of: count))
        #expect(try Self.decompress(compressed, compression, count: count) == bytes)
    }

    @Test("Too little room, no bytes and levels that there are not are errors", arguments: all)
    func misuse(_ compression: PayloadCompression) throws {
        var room = [UInt8](repeating: 0, count: 10)
        #expect(throws: MediaError.self) {
            try [UInt8](repeating: 1, count: 100).withUnsafeBytes { bytes in
                try room.withUnsafeMutableBytes { try compression.compress(bytes, into: $0) }
            }
        }
        #expect(throws: MediaError.self) { try Self.compress([], compression) }
        #expect(throws: MediaError.self) { try Self.compress([1, 2, 3], .zstd(level: 99)) }
        #expect(throws: MediaError.self) { try Self.decompress([], compression, count: 3) }
        #expect(throws: MediaError.self) { try Self.decompress(try Self.compress([1, 2, 3], compression), compression, count: 0) }
        #expect(compression.maximumCompressedByteCount(of: -1) == 0)
        #expect(compression.maximumCompressedByteCount(of: .max) == 0)
    }

    @Test("Every prefix is an error", arguments: all)
    func truncated(_ compression: PayloadCompression) throws {
        let bytes = Self.noise(300) + [UInt8](repeating: 9, count: 500)
        let compressed = try Self.compress(bytes, compression)
        for count in 0..<compressed.count {
            #expect(throws: MediaError.self) { try Self.decompress(Array(compressed.prefix(count)), compression, count: bytes.count) }
        }
        #expect(throws: MediaError.self) { try Self.decompress(compressed + [0], compression, count: bytes.count) }
    }

    @Test("Flipped bytes give an error or bytes of the right number", arguments: all)
    func flipped(_ compression: PayloadCompression) throws {
        let bytes = Self.noise(200) + [UInt8](repeating: 9, count: 300) + Self.noise(100)
        let compressed = try Self.compress(bytes, compression)
        for index in compressed.indices {
            for flip in [0x01, 0x80, 0xFF] as [UInt8] {
                var damaged = compressed
                damaged[index] ^= flip
                do {
                    #expect(try Self.decompress(damaged, compression, count: bytes.count).count == bytes.count)
                } catch {
                    #expect(error is MediaError)
                }
            }
        }
    }

    @Test("Random bytes and the other format are refused", arguments: all)
    func garbage(_ compression: PayloadCompression) throws {
        for count in [1, 5, 17, 400] {
            #expect(throws: MediaError.self) { try Self.decompress(Self.noise(count), compression, count: 1000) }
        }
        let other: PayloadCompression = if case .lz4 = compression { .zstd() } else { .lz4 }
        let compressed = try Self.compress([UInt8](repeating: 3, count: 5000), other)
        #expect(throws: MediaError.self) { try Self.decompress(compressed, compression, count: 5000) }
    }

    @Test("A payload of another length than announced is refused, a bomb among them", arguments: all)
    func wrongLength(_ compression: PayloadCompression) throws {
        // 64 MiB in a few hundred KiB or less; the target has room for a thousand bytes
        let bomb = try Self.compress([UInt8](repeating: 0, count: 64 << 20), compression)
        #expect(bomb.count < 1 << 20)
        #expect(throws: MediaError.self) { try Self.decompress(bomb, compression, count: 1000) }
        let compressed = try Self.compress([UInt8](repeating: 5, count: 1000), compression)
        for count in [1, 999, 1001, 100_000] {
            #expect(throws: MediaError.self) { try Self.decompress(compressed, compression, count: count) }
        }
    }

    @Test("Zstandard frames: several, skippable, without a size, or with a window of gigabytes")
    func zstdFrames() throws {
        let one = try Self.compress([1, 2, 3], .zstd())
        #expect(throws: MediaError.self) { try Self.decompress(one + one, .zstd(), count: 6) }
        #expect(throws: MediaError.self) { try Self.decompress([0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3], .zstd(), count: 3) }
        // magic, descriptor without size and single segment, window descriptor, one raw block (last) of three bytes
        for window in [0x00, 0xA8, 0xFF] as [UInt8] {
            let frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, window, 0x19, 0, 0, 7, 8, 9]
            do {
                #expect(try Self.decompress(frame, .zstd(), count: 3) == [7, 8, 9])
            } catch {
                #expect(window != 0x00)
            }
            #expect(throws: MediaError.self) { try Self.decompress(frame, .zstd(), count: 4) }
            #expect(throws: MediaError.self) { try Self.decompress(frame, .zstd(), count: 2) }
        }
    }

    @Test("Threads side by side have a context each")
    func threads() async throws {
        let payloads = (1...8).map { Self.noise($0 * 100) + [UInt8](repeating: UInt8($0), count: 20_000) }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for round in 0..<40 {
                let bytes = payloads[round % payloads.count]
                let compression = Self.all[round % Self.all.count]
                group.addTask { try Self.decompress(try Self.compress(bytes, compression), compression, count: bytes.count) == bytes }
            }
            for try await same in group { #expect(same) }
        }
    }
}
