import Media
import Testing

@Suite struct JPEGOrientationTests {
    /// A JPEG picture with EXIF data put in: other entries around the orientation, and another segment before it.
    static func picture(orientation: Int, isLittle: Bool, fill: Int = 0, width: Int = 64, height: Int = 48) throws -> [UInt8] {
        let jpeg = try JPEGCodec().encode(quarters(width: width, height: height), quality: 95)
        func number(_ value: Int, _ count: Int) -> [UInt8] {
            let big = (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) }
            return isLittle ? big.reversed() : big
        }
        func entry(_ tag: Int, _ type: Int, _ count: Int, _ value: [UInt8]) -> [UInt8] { number(tag, 2) + number(type, 2) + number(count, 4) + value }
        var tiff: [UInt8] = (isLittle ? [0x49, 0x49] : [0x4D, 0x4D]) + number(42, 2) + number(12, 4) + [0, 0, 0, 0]
        tiff += number(3, 2)
        tiff += entry(271, 2, 4, [0x61, 0x62, 0x63, 0])
        tiff += entry(274, 3, 1, number(orientation, 2) + [0, 0])
        tiff += entry(282, 4, 1, number(72, 4))
        tiff += number(0, 4)
        func segment(_ marker: UInt8, _ bytes: [UInt8]) -> [UInt8] {
            [UInt8](repeating: 0xFF, count: 1 + fill) + [marker, UInt8((bytes.count + 2) >> 8), UInt8((bytes.count + 2) & 0xFF)] + bytes
        }
        return jpeg.prefix(2) + segment(0xFE, Array("a comment".utf8)) + segment(0xE1, [0x45, 0x78, 0x69, 0x66, 0, 0] + tiff) + jpeg.dropFirst(2)
    }

    @Test("All eight orientations are read, in both byte orders, and FFmpeg reads the same", arguments: 1...8, [false, true])
    func all(_ orientation: Int, isLittle: Bool) throws {
        let jpeg = try Self.picture(orientation: orientation, isLittle: isLittle)
        let read = try #require(JPEGOrientation.read(jpeg))
        #expect(read.exif == orientation)
        #expect(Orientation(exif: orientation) == read)
        // the reader turns pictures by what FFmpeg makes of EXIF
        let workshop = try Workshop()
        let frame = try #require(try allFrames(try workshop.write(jpeg, as: "turned.jpg")).first)
        let turned = try JPEGCodec().decode(jpeg).turned(read)
        #expect((frame.width, frame.height) == (turned.width, turned.height))
        #expect(try quarterOrder(frame) == quarterOrder(turned))
    }

    /// EXIF 2.32 §4.6.4.A: where row 0 and column 0 of the stored picture are seen.
    @Test(
        "The first row and column are seen where the standard says",
        arguments: [
            (1, [0, 1, 2, 3]), (2, [1, 0, 3, 2]), (3, [3, 2, 1, 0]), (4, [2, 3, 0, 1]), (5, [0, 2, 1, 3]), (6, [2, 0, 3, 1]),
            (7, [3, 1, 2, 0]), (8, [1, 3, 0, 2]),
        ])
    func standard(_ number: Int, _ order: [Int]) throws {
        let orientation = try #require(Orientation(exif: number))
        #expect(try quarterOrder(quarters(width: 64, height: 48).turned(orientation)) == order)
    }

    @Test("Numbers that there are not, other pictures and fill bytes")
    func others() throws {
        for orientation in [0, 9, 255, 65_535] { #expect(JPEGOrientation.read(try Self.picture(orientation: orientation, isLittle: true)) == nil) }
        #expect(JPEGOrientation.read(try JPEGCodec().encode(quarters(width: 8, height: 8), quality: 80)) == nil)
        #expect(JPEGOrientation.read([]) == nil)
        #expect(JPEGOrientation.read(Array("no picture".utf8)) == nil)
        #expect(JPEGOrientation.read(try Self.picture(orientation: 6, isLittle: false, fill: 3))?.exif == 6)
        for number in [-1, 0, 9, .max] { #expect(Orientation(exif: number) == nil) }
    }

    @Test("Every prefix and every flipped byte gives an orientation or none")
    func hostile() throws {
        let jpeg = Array(try Self.picture(orientation: 6, isLittle: true, width: 16, height: 16).prefix(120))
        for count in 0..<jpeg.count { _ = JPEGOrientation.read(Array(jpeg.prefix(count))) }
        for index in jpeg.indices {
            for value in [0x00, 0x01, 0x7F, 0xD9, 0xFF] as [UInt8] {
                var damaged = jpeg
                damaged[index] = value
                _ = JPEGOrientation.read(damaged)
            }
        }
        // a directory that claims 65,535 entries behind the end
        let header: [UInt8] = [0xFF, 0xD8, 0xFF, 0xE1, 0, 18, 0x45, 0x78, 0x69, 0x66, 0, 0, 0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0xFF, 0xFF]
        #expect(JPEGOrientation.read(header) == nil)
        #expect(JPEGOrientation.read(header + [UInt8](repeating: 0, count: 500)) == nil)
    }
}
