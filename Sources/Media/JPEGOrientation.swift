extension Orientation {
    /// EXIF's number for it (TIFF tag 274), 1 … 8: what must be done to the stored picture to see it upright.
    package var exif: Int {
        switch (turn, mirrored) {
        case (.none, false): 1
        case (.none, true): 2
        case (.half, false): 3
        case (.half, true): 4
        case (.threeQuarters, true): 5
        case (.quarter, false): 6
        case (.quarter, true): 7
        case (.threeQuarters, false): 8
        }
    }

    /// nil unless `exif` is from 1 to 8.
    package init?(exif: Int) {
        switch exif {
        case 1: self.init(.none)
        case 2: self.init(.none, mirrored: true)
        case 3: self.init(.half)
        case 4: self.init(.half, mirrored: true)
        case 5: self.init(.threeQuarters, mirrored: true)
        case 6: self.init(.quarter)
        case 7: self.init(.quarter, mirrored: true)
        case 8: self.init(.threeQuarters)
        default: return nil
        }
    }
}

/// What a JPEG picture says about how it was taken.
package enum JPEGOrientation {
    /// The orientation in the EXIF data of a JPEG picture; nil where there is none, or none that can be read. The bytes may be anyone's: only
    /// the segments before the picture are walked, and of the first EXIF segment only the first directory.
    package static func read(_ bytes: UnsafeRawBufferPointer) -> Orientation? {
        guard bytes.count >= 4, bytes[0] == 0xFF, bytes[1] == 0xD8 else { return nil }
        var index = 2
        while index + 4 <= bytes.count, bytes[index] == 0xFF {
            let marker = bytes[index + 1]
            // ITU-T T.81 §B.1.1.2: any number of 0xFF may stand before a marker
            if marker == 0xFF {
                index += 1
                continue
            }
            // TEM and RST have no length, and the picture itself begins behind SOS
            if marker == 0x01 || (0xD0...0xD7).contains(marker) {
                index += 2
                continue
            }
            guard marker != 0xD8, marker != 0xD9, marker != 0xDA, marker != 0 else { return nil }
            let length = Int(bytes[index + 2]) << 8 | Int(bytes[index + 3])
            guard length >= 2, index + 2 + length <= bytes.count else { return nil }
            let segment = UnsafeRawBufferPointer(rebasing: bytes[index + 4..<index + 2 + length])
            if marker == 0xE1, segment.count > 6, segment.prefix(6).elementsEqual([0x45, 0x78, 0x69, 0x66, 0, 0]) {
                return readTIFF(UnsafeRawBufferPointer(rebasing: segment.dropFirst(6)))
            }
            index += 2 + length
        }
        return nil
    }

    package static func read(_ bytes: [UInt8]) -> Orientation? { bytes.withUnsafeBytes { read($0) } }

    /// TIFF 6.0: byte order, 42, offset of the first directory; there a count and entries of 12 bytes (tag, type, count, value).
    private static func readTIFF(_ bytes: UnsafeRawBufferPointer) -> Orientation? {
        guard bytes.count >= 8 else { return nil }
        let isLittle: Bool
        switch (bytes[0], bytes[1]) {
        case (0x49, 0x49): isLittle = true
        case (0x4D, 0x4D): isLittle = false
        default: return nil
        }
        func number(_ offset: Int, _ count: Int) -> Int? {
            guard offset >= 0, offset + count <= bytes.count else { return nil }
            return (0..<count).reduce(0) { $0 << 8 | Int(bytes[offset + (isLittle ? count - 1 - $1 : $1)]) }
        }
        guard number(2, 2) == 42, let directory = number(4, 4), let count = number(directory, 2) else { return nil }
        for entry in 0..<count {
            let offset = directory + 2 + 12 * entry
            guard let tag = number(offset, 2), offset + 12 <= bytes.count else { return nil }
            guard tag == 274 else { continue }
            // SHORT, one of them
            guard number(offset + 2, 2) == 3, number(offset + 4, 4) == 1, let value = number(offset + 8, 2) else { return nil }
            return Orientation(exif: value)
        }
        return nil
    }
}
