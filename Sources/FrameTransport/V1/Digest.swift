package import NIOCore

/// The 64-bit hash XXH64 (xxHash specification 0.1.1): fast without special instructions, and in every language's libraries.
///
/// It finds damage and mix-ups. It is no defence against a peer who wants two payloads to collide; that peer can only lie about its own job.
package enum XXH64 {
    package static func digest(_ bytes: ByteBuffer, seed: UInt64 = 0) -> UInt64 { digest(unsafe bytes.readableBytesUInt8Span.bytes, seed: seed) }

    package static func digest(_ bytes: RawSpan, seed: UInt64 = 0) -> UInt64 {
        var running = Running(seed: seed)
        running.add(bytes)
        return running.digest
    }

    /// The digest of bytes that come piece by piece.
    package struct Running: Sendable {
        private var lane1, lane2, lane3, lane4: UInt64
        private let seed: UInt64
        private var count = 0
        /// What is left of the pieces so far beyond whole stripes of 32 bytes.
        private var rest: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

        package init(seed: UInt64 = 0) {
            self.seed = seed
            lane1 = seed &+ prime1 &+ prime2
            lane2 = seed &+ prime2
            lane3 = seed
            lane4 = seed &- prime1
        }

        package mutating func add(_ bytes: ByteBuffer) { add(unsafe bytes.readableBytesUInt8Span.bytes) }

        package mutating func add(_ bytes: RawSpan) {
            unsafe bytes.withUnsafeBytes { unsafe add($0) }
        }

        private mutating func add(_ bytes: UnsafeRawBufferPointer) {
            guard let base = bytes.baseAddress, unsafe !bytes.isEmpty else { return }
            var position = 0
            let kept = count & 31
            count += bytes.count
            if kept > 0 {
                let taken = min(32 - kept, bytes.count)
                unsafe withUnsafeMutableBytes(of: &rest) { unsafe $0.baseAddress?.advanced(by: kept).copyMemory(from: base, byteCount: taken) }
                guard kept + taken == 32 else { return }
                position = taken
                lane1 = round(lane1, UInt64(littleEndian: rest.0))
                lane2 = round(lane2, UInt64(littleEndian: rest.1))
                lane3 = round(lane3, UInt64(littleEndian: rest.2))
                lane4 = round(lane4, UInt64(littleEndian: rest.3))
            }
            // locals, so that the loop runs in registers
            var (one, two, three, four) = (lane1, lane2, lane3, lane4)
            while position + 32 <= bytes.count {
                one = round(one, unsafe load(base, position))
                two = round(two, unsafe load(base, position + 8))
                three = round(three, unsafe load(base, position + 16))
                four = round(four, unsafe load(base, position + 24))
                position += 32
            }
            (lane1, lane2, lane3, lane4) = (one, two, three, four)
            guard position < bytes.count else { return }
            let left = bytes.count - position
            unsafe withUnsafeMutableBytes(of: &rest) { unsafe $0.baseAddress?.copyMemory(from: base + position, byteCount: left) }
        }

        package var digest: UInt64 {
            var hash: UInt64
            if count >= 32 {
                hash = rotate(lane1, 1) &+ rotate(lane2, 7) &+ rotate(lane3, 12) &+ rotate(lane4, 18)
                hash = merge(hash, lane1)
                hash = merge(hash, lane2)
                hash = merge(hash, lane3)
                hash = merge(hash, lane4)
            } else {
                hash = seed &+ prime5
            }
            hash = hash &+ UInt64(count)
            let kept = count & 31
            return unsafe withUnsafeBytes(of: rest) { bytes in
                guard let base = bytes.baseAddress else { return avalanche(hash) }
                var position = 0
                while position + 8 <= kept {
                    hash ^= round(0, unsafe load(base, position))
                    hash = rotate(hash, 27) &* prime1 &+ prime4
                    position += 8
                }
                if position + 4 <= kept {
                    hash ^= UInt64(UInt32(littleEndian: unsafe base.loadUnaligned(fromByteOffset: position, as: UInt32.self))) &* prime1
                    hash = rotate(hash, 23) &* prime2 &+ prime3
                    position += 4
                }
                while position < kept {
                    hash ^= UInt64(unsafe base.load(fromByteOffset: position, as: UInt8.self)) &* prime5
                    hash = rotate(hash, 11) &* prime1
                    position += 1
                }
                return avalanche(hash)
            }
        }
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
