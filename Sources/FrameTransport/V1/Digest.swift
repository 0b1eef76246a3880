package import NIOCore

/// The 64-bit hash XXH64 (xxHash specification 0.1.1): fast without special instructions, and in every language's libraries.
///
/// It finds damage and mix-ups. It is no defence against a peer who wants two payloads to collide; that peer can only lie about its own job.
package enum XXH64 {
    package static func digest(_ bytes: ByteBuffer, seed: UInt64 = 0) -> UInt64 { digest(unsafe bytes.readableBytesUInt8Span.bytes, seed: seed) }

    package static func digest(_ bytes: RawSpan, seed: UInt64 = 0) -> UInt64 {
        unsafe bytes.withUnsafeBytes { unsafe digest($0, seed: seed) }
    }

    private static func digest(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
        guard let base = bytes.baseAddress else { return avalanche(seed &+ prime5) }
        let count = bytes.count
        var position = 0
        var hash: UInt64
        if count >= 32 {
            var lane1 = seed &+ prime1 &+ prime2
            var lane2 = seed &+ prime2
            var lane3 = seed
            var lane4 = seed &- prime1
            repeat {
                lane1 = round(lane1, unsafe load(base, position))
                lane2 = round(lane2, unsafe load(base, position + 8))
                lane3 = round(lane3, unsafe load(base, position + 16))
                lane4 = round(lane4, unsafe load(base, position + 24))
                position += 32
            } while position + 32 <= count
            hash = rotate(lane1, 1) &+ rotate(lane2, 7) &+ rotate(lane3, 12) &+ rotate(lane4, 18)
            hash = merge(hash, lane1)
            hash = merge(hash, lane2)
            hash = merge(hash, lane3)
            hash = merge(hash, lane4)
        } else {
            hash = seed &+ prime5
        }
        hash = hash &+ UInt64(count)
        while position + 8 <= count {
            hash ^= round(0, unsafe load(base, position))
            hash = rotate(hash, 27) &* prime1 &+ prime4
            position += 8
        }
        if position + 4 <= count {
            hash ^= UInt64(UInt32(littleEndian: unsafe base.loadUnaligned(fromByteOffset: position, as: UInt32.self))) &* prime1
            hash = rotate(hash, 23) &* prime2 &+ prime3
            position += 4
        }
        while position < count {
            hash ^= UInt64(unsafe base.load(fromByteOffset: position, as: UInt8.self)) &* prime5
            hash = rotate(hash, 11) &* prime1
            position += 1
        }
        return avalanche(hash)
    }

    /// The caller has made sure that eight bytes are there.
    @inline(__always)
    private static func load(_ base: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        UInt64(littleEndian: unsafe base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    @inline(__always)
    private static func rotate(_ value: UInt64, _ bits: UInt64) -> UInt64 { value &<< bits | value &>> (64 &- bits) }

    @inline(__always)
    private static func round(_ lane: UInt64, _ input: UInt64) -> UInt64 { rotate(lane &+ input &* prime2, 31) &* prime1 }

    private static func merge(_ hash: UInt64, _ lane: UInt64) -> UInt64 { (hash ^ round(0, lane)) &* prime1 &+ prime4 }

    private static func avalanche(_ value: UInt64) -> UInt64 {
        var hash = value
        hash = (hash ^ hash >> 33) &* prime2
        hash = (hash ^ hash >> 29) &* prime3
        return hash ^ hash >> 32
    }

    private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5
}

/// The proof of a job in eight bytes: each answered unit in the order of the answers, `R = XXH64(R ‖ id ‖ payload digest)`, big-endian, from 0.
///
/// Both ends keep one. A unit that never arrived intact counts with digest 0 on both.
package struct RollingDigest: Hashable, Sendable {
    package private(set) var value: UInt64

    package init(_ value: UInt64 = 0) { self.value = value }

    package mutating func add(id: Int, digest: UInt64) {
        var bytes = ByteBuffer()
        bytes.reserveCapacity(24)
        bytes.writeInteger(value)
        bytes.writeInteger(UInt64(id))
        bytes.writeInteger(digest)
        value = XXH64.digest(bytes)
    }
}

/// 64 bits as 16 hexadecimal digits: how digests stand in control messages, since JSON has no such integers.
package enum Hex64 {
    package static func text(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }

    package static func value(_ text: String) -> UInt64? {
        guard text.utf8.count == 16, text.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else { return nil }
        return UInt64(text, radix: 16)
    }
}
