extension AccessUnit {
    /// Whether a decoder that begins with this keyframe shows it and all that follows it as they are. H.264 also marks units as keyframes from
    /// which the picture only becomes whole by and by (a recovery point some frames ahead, as intra refresh has them).
    var isCleanStart: Bool {
        guard facts.isKeyframe else { return false }
        guard parameters.codec == "h264" else { return true }
        for unit in NALUnits(bytes, lengthSize: NALUnits.lengthSize(avcC: parameters.extradata)) {
            switch (unit.first ?? 0) & 0x1f {
            case 5: return true
            case 6: if let count = recoveryFrameCount(ofSEI: unit) { return count == 0 }
            case 1: return true
            default: continue
            }
        }
        return true
    }
}

/// The NAL units of an access unit: with a length before each (ISO 14496-15), or a start code (Annex B).
struct NALUnits: Sequence, IteratorProtocol {
    private let bytes: [UInt8]
    private let lengthSize: Int?
    private var position = 0

    init(_ bytes: [UInt8], lengthSize: Int?) {
        self.bytes = bytes
        self.lengthSize = lengthSize
        if lengthSize == nil { position = startCode(from: 0)?.upperBound ?? bytes.count }
    }

    /// What avcC says; nil: start codes.
    static func lengthSize(avcC: [UInt8]) -> Int? { avcC.count > 4 && avcC[0] == 1 ? Int(avcC[4] & 3) + 1 : nil }

    mutating func next() -> ArraySlice<UInt8>? {
        guard position < bytes.count else { return nil }
        if let lengthSize {
            guard bytes.count - position >= lengthSize else { return nil }
            let length = bytes[position..<position + lengthSize].reduce(0) { $0 << 8 | Int($1) }
            position += lengthSize
            guard length <= bytes.count - position else { return nil }
            defer { position += length }
            return bytes[position..<position + length]
        }
        let following = startCode(from: position)
        defer { position = following?.upperBound ?? bytes.count }
        return bytes[position..<(following?.lowerBound ?? bytes.count)]
    }

    private func startCode(from start: Int) -> Range<Int>? {
        var index = start
        while index + 3 <= bytes.count {
            if bytes[index] == 0, bytes[index + 1] == 0, bytes[index + 2] == 1 { return index..<index + 3 }
            index += 1
        }
        return nil
    }
}

/// recovery_frame_cnt of a recovery point message (H.264 D.1.8); nil: there is none in the NAL unit.
private func recoveryFrameCount(ofSEI unit: ArraySlice<UInt8>) -> Int? {
    var payload: [UInt8] = []
    var zeros = 0
    for byte in unit.dropFirst() {
        // 7.4.1: a 3 behind two zeros only keeps start codes away
        if zeros >= 2, byte == 3 {
            zeros = 0
            continue
        }
        zeros = byte == 0 ? zeros + 1 : 0
        payload.append(byte)
    }
    var position = 0
    func number() -> Int? {
        var value = 0
        while position < payload.count {
            defer { position += 1 }
            value += Int(payload[position])
            if payload[position] != 255 { return value }
        }
        return nil
    }
    // one byte is left over: the trailing bits
    while position + 2 < payload.count, let kind = number(), let size = number(), size <= payload.count - position {
        if kind == 6 { return exponentialGolomb(payload[position..<position + size]) }
        position += size
    }
    return nil
}

/// ue(v) at the beginning of the bytes (H.264 9.1).
private func exponentialGolomb(_ bytes: ArraySlice<UInt8>) -> Int? {
    let bits = bytes.prefix(8).flatMap { byte in (0..<8).map { Int(byte >> (7 - $0) & 1) } }
    let zeros = bits.prefix { $0 == 0 }.count
    guard zeros <= 16, bits.count >= 2 * zeros + 1 else { return nil }
    return bits[zeros..<2 * zeros + 1].reduce(0) { $0 << 1 | $1 } - 1
}
