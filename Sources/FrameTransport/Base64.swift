package import NIOCore

/// Base64 (RFC 4648 §4, padded), table-driven: 12 bits to two characters, and four characters to 24 bits by OR.
///
/// Frames travel as base64 text on the prototype wire, so this runs over every byte of the video.
package enum Base64 {
    package enum DecodingError: Error, Hashable, Sendable {
        /// A byte outside the alphabet.
        case badCharacter
        /// `=` where more text follows, or padding of the wrong length.
        case badPadding
        /// The text ends inside a group of four.
        case truncated
    }

    /// The length of the text for `count` bytes.
    package static func encodedLength(of count: Int) -> Int { (count + 2) / 3 * 4 }

    package static func encode(_ bytes: ByteBufferView, into text: inout ByteBuffer) {
        _ = unsafe bytes.withUnsafeBytes { source in
            unsafe text.writeWithUnsafeMutableBytes(minimumWritableBytes: encodedLength(of: source.count)) { target in
                unsafe encode(source, into: target)
            }
        }
    }

    /// Precondition: `target` has room for `encodedLength(of: source.count)` bytes. Answers with that length.
    private static func encode(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int {
        let length = encodedLength(of: source.count)
        precondition(target.count >= length)
        guard let input = source.baseAddress, let output = target.baseAddress else { return 0 }
        unsafe pairs.withUnsafeBufferPointer { table in
            guard let pairs = table.baseAddress else { return }
            var read = 0
            var write = 0
            // Six bytes are taken out of an eight-byte load, so the last two are left to the loop below.
            while read + 8 <= source.count {
                let bits = UInt64(bigEndian: unsafe input.loadUnaligned(fromByteOffset: read, as: UInt64.self))
                let a = UInt64(unsafe pairs[Int(truncatingIfNeeded: bits >> 52)])
                let b = UInt64(unsafe pairs[Int(truncatingIfNeeded: (bits >> 40) & 0xfff)])
                let c = UInt64(unsafe pairs[Int(truncatingIfNeeded: (bits >> 28) & 0xfff)])
                let d = UInt64(unsafe pairs[Int(truncatingIfNeeded: (bits >> 16) & 0xfff)])
                let eight = a | b << 16 | c << 32 | d << 48
                unsafe output.storeBytes(of: eight.littleEndian, toByteOffset: write, as: UInt64.self)
                read += 6
                write += 8
            }
            while read < source.count {
                let count = min(3, source.count - read)
                var bits: UInt32 = 0
                for index in 0..<3 { bits = bits << 8 | (index < count ? UInt32(unsafe source[read + index]) : 0) }
                for index in 0..<4 {
                    let character = index <= count ? alphabet[Int(bits >> (18 - 6 * UInt32(index)) & 63)] : padding
                    unsafe target[write + index] = character
                }
                read += count
                write += 4
            }
        }
        return length
    }

    /// Decodes text that arrives in pieces.
    ///
    /// Both ways of cutting are understood: each piece encoded by itself (so that padding may end any piece), and one
    /// long text cut anywhere (so that a group of four may straddle two pieces).
    package struct Decoder {
        /// Characters of a group whose rest has not arrived; at most three.
        private var carried: [UInt8] = []

        package init() {}

        package mutating func decode(_ text: ByteBufferView, into bytes: inout ByteBuffer) throws(DecodingError) {
            var body = text
            while !carried.isEmpty, let next = body.first {
                body = body.dropFirst()
                carried.append(next)
                if carried.count == 4 {
                    let group = ByteBuffer(bytes: carried)
                    carried.removeAll(keepingCapacity: true)
                    try decodeGroups(group.readableBytesView, isLast: body.isEmpty, into: &bytes)
                }
            }
            guard !body.isEmpty else { return }
            let whole = body.count & ~3
            carried.append(contentsOf: body.suffix(body.count - whole))
            try decodeGroups(body.prefix(whole), isLast: carried.isEmpty, into: &bytes)
        }

        package func finish() throws(DecodingError) {
            guard carried.isEmpty else { throw .truncated }
        }

        /// `isLast`: the text is the end of its piece, where padding is legal.
        private func decodeGroups(_ text: ByteBufferView, isLast: Bool, into bytes: inout ByteBuffer) throws(DecodingError) {
            guard !text.isEmpty else { return }
            let tail = text.suffix(2)
            let padded = tail.last == padding ? (tail.first == padding ? 2 : 1) : 0
            guard padded == 0 || isLast else { throw .badPadding }
            let unpadded = padded == 0 ? text : text.dropLast(4)
            let isGood = unsafe unpadded.withUnsafeBytes { source in
                var isGood = true
                unsafe bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: source.count / 4 * 3 + 1) { target in
                    isGood = unsafe decodeUnpadded(source, into: target)
                    return isGood ? source.count / 4 * 3 : 0
                }
                return isGood
            }
            guard isGood else { throw .badCharacter }
            guard padded > 0 else { return }
            var bits: UInt32 = 0
            for character in text.suffix(4).dropLast(padded) {
                let value = sextets[Int(character)]
                guard value < 64 else { throw character == padding ? .badPadding : .badCharacter }
                bits = bits << 6 | UInt32(value)
            }
            if padded == 1 {
                bytes.writeInteger(UInt16(truncatingIfNeeded: bits >> 2))
            } else {
                bytes.writeInteger(UInt8(truncatingIfNeeded: bits >> 4))
            }
        }
    }

    /// Precondition: `source.count` is a multiple of four, and `target` has room for three quarters of it and one byte more.
    private static func decodeUnpadded(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Bool {
        precondition(source.count % 4 == 0 && target.count > source.count / 4 * 3)
        guard let input = source.baseAddress, let output = target.baseAddress else { return true }
        return unsafe groups.withUnsafeBufferPointer { table in
            guard let groups = table.baseAddress else { return false }
            var faults: UInt32 = 0
            var write = 0
            var read = 0
            while read < source.count {
                let four = UInt32(littleEndian: unsafe input.loadUnaligned(fromByteOffset: read, as: UInt32.self))
                let bits =
                    unsafe groups[Int(four & 0xff)] | groups[256 + Int(four >> 8 & 0xff)]
                    | groups[512 + Int(four >> 16 & 0xff)] | groups[768 + Int(four >> 24)]
                faults |= bits
                // the fourth byte is written too and then overwritten by the next group: hence the byte more
                unsafe output.storeBytes(of: (bits << 8).bigEndian, toByteOffset: write, as: UInt32.self)
                read += 4
                write += 3
            }
            return faults & badBit == 0
        }
    }

    private static let padding = UInt8(ascii: "=")
    private static let badBit: UInt32 = 1 << 31
    private static let alphabet = [UInt8]("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    /// 12 bits → two characters, the first in the low byte.
    private static let pairs: [UInt16] = (0..<4096).map { UInt16(alphabet[$0 >> 6]) | UInt16(alphabet[$0 & 63]) << 8 }

    /// Character → six bits; 255 outside the alphabet.
    private static let sextets: [UInt8] = {
        var table = [UInt8](repeating: 255, count: 256)
        for (value, character) in alphabet.enumerated() { table[Int(character)] = UInt8(value) }
        return table
    }()

    /// For each of the four places: character → its bits in the 24, or `badBit`.
    private static let groups: [UInt32] = (0..<4).flatMap { place in
        sextets.map { $0 == 255 ? badBit : UInt32($0) << UInt32(18 - 6 * place) }
    }
}
