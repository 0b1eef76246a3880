import Media
import Testing

@Suite struct JPEGCodecTests {
    @Test(
        "A smooth picture survives the round trip, in every format and with odd sides", arguments: PixelFormat.allCases,
        [(64, 48), (33, 17), (1, 1), (7, 200)])
    func roundTrip(_ format: PixelFormat, _ size: (Int, Int)) throws {
        let codec = JPEGCodec()
        let frame = try PixelConverter().convert(gradient(width: size.0, height: size.1), to: format, colour: .jpeg)
        let jpeg = try codec.encode(frame, quality: 95)
        #expect(try jpeg.span.bytes.withUnsafeBytes { try codec.header(of: $0) } == .init(width: size.0, height: size.1))
        let back = try codec.decode(jpeg, to: format)
        #expect(back.format == format && back.width == size.0 && back.height == size.1)
        #expect(meanDifference(back, frame) < 4)
    }

    @Test("Quality weighs bytes against truth")
    func quality() throws {
        let (codec, frame) = (JPEGCodec(), quarters(width: 160, height: 120))
        #expect(try codec.encode(frame, quality: 20).count < codec.encode(frame, quality: 95).count)
        #expect(throws: MediaError.self) { try codec.encode(frame, quality: 0) }
        #expect(throws: MediaError.self) { try codec.encode(frame, quality: 101) }
    }

    @Test(
        "JFIF: luma has full range, so video's black and white become 0 and 255",
        arguments: [(Colour.Range.limited, 16, 0), (.limited, 235, 255), (.limited, 126, 128), (.full, 16, 16), (.full, 235, 235)])
    func range(_ range: Colour.Range, _ luma: Int, _ expected: Int) throws {
        let codec = JPEGCodec()
        let grey = VideoFrame(.i420, width: 32, height: 32, colour: Colour(.bt709, range)) { bytes in
            for index in bytes.indices { bytes[index] = index < 1024 ? UInt8(luma) : 128 }
        }
        let back = try codec.decode(try codec.encode(grey, quality: 100))
        #expect(pixel(back, 16, 16).allSatisfy { abs(Int($0) - expected) <= 1 }, "\(pixel(back, 16, 16))")
    }

    @Test(
        "JFIF: luma weights are BT.601's, whatever the video's were", arguments: [Colour.Matrix.bt601, .bt709, .bt2020],
        [Colour.Range.limited, .full])
    func matrix(_ matrix: Colour.Matrix, _ range: Colour.Range) throws {
        let codec = JPEGCodec()
        for bgr: [UInt8] in [[30, 60, 200], [200, 90, 20], [40, 180, 60], [128, 128, 128]] {
            let flat = VideoFrame(.bgr24, width: 36, height: 36) { pixels in for index in pixels.indices { pixels[index] = bgr[index % 3] } }
            let video = try PixelConverter().convert(flat, to: .i420, colour: Colour(matrix, range))
            let back = try codec.decode(try codec.encode(video, quality: 100))
            #expect(zip(pixel(back, 18, 18), bgr).allSatisfy { abs(Int($0) - Int($1)) <= 4 }, "\(pixel(back, 18, 18)) instead of \(bgr)")
        }
    }

    @Test("Every prefix of a picture is an error, and so is the empty one")
    func prefixes() throws {
        let codec = JPEGCodec()
        let jpeg = try codec.encode(gradient(width: 24, height: 16), quality: 80)
        // the last two bytes are the end marker, without which the picture is still whole
        for count in 0..<jpeg.count - 2 {
            #expect(throws: MediaError.self) { try codec.decode(Array(jpeg.prefix(count))) }
        }
        _ = try codec.decode(jpeg)
    }

    @Test("Every flipped bit is an error or another picture of a checked size")
    func flipped() throws {
        let codec = JPEGCodec()
        let jpeg = try codec.encode(gradient(width: 24, height: 16), quality: 80)
        for index in jpeg.indices {
            for bit in [0, 3, 7] {
                var damaged = jpeg
                damaged[index] ^= 1 << bit
                if let frame = try? codec.decode(damaged, pixelLimit: 1 << 16) { #expect(frame.width * frame.height <= 1 << 16) }
            }
        }
        #expect(try codec.decode(jpeg).width == 24)
    }

    @Test("A header that claims 65,500 by 65,500 pixels costs nothing")
    func hugeClaim() throws {
        let codec = JPEGCodec()
        var jpeg = try codec.encode(gradient(width: 24, height: 16), quality: 80)
        let start = try #require((0..<jpeg.count - 1).first { jpeg[$0] == 0xff && jpeg[$0 + 1] == 0xc0 })
        jpeg.replaceSubrange(start + 5..<start + 9, with: [0xff, 0xdc, 0xff, 0xdc])
        #expect(throws: MediaError.tooManyPixels(width: 65_500, height: 65_500, limit: VideoFrame.defaultPixelLimit)) { try codec.decode(jpeg) }
        #expect(throws: MediaError.tooManyPixels(width: 24, height: 16, limit: 383)) {
            try codec.decode(try codec.encode(gradient(width: 24, height: 16), quality: 80), pixelLimit: 383)
        }
    }

    @Test("What is no JPEG says so")
    func garbage() throws {
        let codec = JPEGCodec()
        for bytes: [UInt8] in [[], [0xff], [0xff, 0xd8, 0xff, 0xd9], Array("GIF89a".utf8), [UInt8](repeating: 0xff, count: 300)] {
            #expect(throws: MediaError.self) { try codec.decode(bytes) }
        }
    }
}

@Suite struct PNGCodecTests {
    @Test("PNG loses nothing", arguments: [(64, 48), (33, 17), (1, 1)])
    func roundTrip(_ size: (Int, Int)) throws {
        let frame = gradient(width: size.0, height: size.1)
        #expect(bytes(of: try PNGCodec.decode(try PNGCodec.encode(frame))) == bytes(of: frame))
    }

    @Test("Every prefix and every damaged byte of a picture is an error")
    func hostile() throws {
        let png = try PNGCodec.encode(gradient(width: 12, height: 9))
        for count in 0..<png.count { #expect(throws: MediaError.self) { try PNGCodec.decode(Array(png.prefix(count))) } }
        for index in png.indices {
            var damaged = png
            damaged[index] ^= 0x41
            if let frame = try? PNGCodec.decode(damaged, pixelLimit: 1 << 16) { #expect(frame.width * frame.height <= 1 << 16) }
        }
        var huge = png
        huge.replaceSubrange(16..<24, with: [0, 0, 0x7f, 0xff, 0, 0, 0x7f, 0xff])
        #expect(throws: MediaError.tooManyPixels(width: 32_767, height: 32_767, limit: VideoFrame.defaultPixelLimit)) { try PNGCodec.decode(huge) }
    }
}

@Suite struct OrientationTests {
    @Test("A quarter turn takes the top left pixel to the top right")
    func quarter() throws {
        let frame = try #require(VideoFrame(.bgr24, width: 2, height: 1, bytes: [1, 1, 1, 2, 2, 2]))
        let turned = frame.turned(Orientation(.quarter))
        #expect((turned.width, turned.height) == (1, 2))
        #expect(bytes(of: turned) == [1, 1, 1, 2, 2, 2])
        #expect(bytes(of: frame.turned(Orientation(.threeQuarters))) == [2, 2, 2, 1, 1, 1])
        #expect(bytes(of: frame.turned(Orientation(.half))) == [2, 2, 2, 1, 1, 1])
        #expect(bytes(of: frame.turned(Orientation(.none, mirrored: true))) == [2, 2, 2, 1, 1, 1])
    }

    @Test("Turning goes round", arguments: PixelFormat.allCases, [(5, 3), (8, 6), (1, 4)])
    func goesRound(_ format: PixelFormat, _ size: (Int, Int)) {
        let frame = gradient(format, width: size.0, height: size.1)
        let quarter = Orientation(.quarter)
        let around = frame.turned(quarter).turned(quarter).turned(quarter).turned(quarter)
        #expect(bytes(of: around) == bytes(of: frame))
        #expect(bytes(of: frame.turned(quarter).turned(quarter)) == bytes(of: frame.turned(Orientation(.half))))
        #expect(bytes(of: frame.turned(quarter).turned(Orientation(.threeQuarters))) == bytes(of: frame))
        let mirror = Orientation(.none, mirrored: true)
        #expect(bytes(of: frame.turned(mirror).turned(mirror)) == bytes(of: frame))
        #expect(bytes(of: frame.turned(Orientation(.quarter, mirrored: true))) == bytes(of: frame.turned(mirror).turned(quarter)))
    }
}

@Suite struct AnnotatorTests {
    private let grey = VideoFrame(.bgr24, width: 120, height: 90) { for index in $0.indices { $0[index] = 90 } }

    @Test("A box is drawn where it is, in its colour, and nothing inside it changes")
    func box() throws {
        let mark = Annotator.Mark(x: 40, y: 40, width: 30, height: 20, label: "", colour: .init(10, 20, 30))
        let drawn = try Annotator().draw([mark], on: grey)
        #expect(pixel(drawn, 40, 40) == [30, 20, 10])
        #expect(pixel(drawn, 69, 59) == [30, 20, 10])
        #expect(pixel(drawn, 55, 50) == [90, 90, 90])
        #expect(pixel(drawn, 39, 40) == [90, 90, 90])
        #expect(pixel(grey, 40, 40) == [90, 90, 90])
    }

    @Test("Boxes that lie outside, or nowhere, are clipped")
    func clipped() throws {
        for value in [-500, -3, 0, 119, 5000, 1e300, -1e300, Double.nan, .infinity] {
            for size in [0, 1, 40, 1e9, -5, .nan] {
                let mark = Annotator.Mark(x: value, y: value, width: size, height: size, label: "Label gjpqy 99% \u{1F600}", colour: .ofClass(Int.min))
                _ = try Annotator().draw([mark], on: grey)
            }
        }
    }

    @Test("A label leaves ink on its paper")
    func label() throws {
        let mark = Annotator.Mark(x: 10, y: 40, width: 60, height: 30, label: "person 99%", colour: .init(255, 255, 0))
        let drawn = try Annotator().draw([mark], on: grey)
        let area = (31..<40).flatMap { row in (10..<60).map { pixel(drawn, $0, row) } }
        #expect(area.contains([0, 0, 0]) && area.contains([0, 255, 255]))
    }
}

@Suite struct VideoFrameTests {
    @Test("Bytes must be as many as the geometry says", arguments: PixelFormat.allCases)
    func geometry(_ format: PixelFormat) {
        let count = format.byteCount(width: 5, height: 3)
        #expect(format.planes(width: 5, height: 3).reduce(0) { $0 + $1.bytesPerRow * $1.rows } == count)
        #expect(VideoFrame(format, width: 5, height: 3, bytes: [UInt8](repeating: 0, count: count)) != nil)
        #expect(VideoFrame(format, width: 5, height: 3, bytes: [UInt8](repeating: 0, count: count - 1)) == nil)
        #expect(VideoFrame(format, width: 0, height: 3, bytes: []) == nil)
        #expect(VideoFrame(format, width: -1, height: 3, bytes: []) == nil)
        #expect(VideoFrame(format, width: 1 << 20, height: 1 << 20, bytes: []) == nil)
    }

    @Test("Formats convert there and back", arguments: [(64, 48), (33, 17)])
    func convert(_ size: (Int, Int)) throws {
        let converter = PixelConverter()
        let frame = gradient(width: size.0, height: size.1)
        for format in PixelFormat.allCases {
            let there = try converter.convert(frame, to: format, colour: .jpeg)
            let difference = meanDifference(try converter.convert(there, to: .bgr24), frame)
            #expect(difference < 3, "\(format)")
        }
    }
}
