import Foundation
import Media
import Testing

/// Units and parameters come from strangers: nothing that they hold may end the process, take memory without bound or name what they please.
@Suite struct HostileUnitTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    static let codings: [(String, [String])] = [
        ("a.mp4", Coding.x264 + ["-bf", "3", "-g", "8"]), ("a.ts", Coding.x264 + ["-bf", "3", "-g", "8"]), ("b.mp4", Coding.x265OpenGOP),
        ("a.webm", Coding.vp8),
        ("b.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]),
        ("c.mp4", ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"]),
        ("d.mp4", ["-c:v", "mpeg4", "-bf", "2"]), ("e.ts", ["-c:v", "mpeg2video", "-bf", "2"]), ("f.avi", ["-c:v", "msmpeg4"]),
        ("g.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]), ("h.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv420p"]),
        ("i.avi", ["-c:v", "huffyuv", "-pix_fmt", "yuv422p"]),
        ("j.mov", ["-c:v", "prores_ks"]), ("k.mov", ["-c:v", "png"]), ("l.nut", ["-c:v", "rawvideo", "-pix_fmt", "yuv420p"]), ("m.mov", ["-c:v", "qtrle"]),
        ("n.ogv", ["-c:v", "libtheora"]), ("o.flv", ["-c:v", "flv"]), ("p.avi", ["-c:v", "utvideo"]),
    ]

    @Test("Damaged, cut, empty and exchanged units are survived; what comes out has an id that went in, and never too late", arguments: codings.map(\.0))
    func damagedUnits(_ name: String) throws {
        let path = try workshop.make(name, seconds: 0.8, size: "96x64", try #require(Self.codings.first { $0.0 == name }).1)
        let (reader, units) = try allUnits(path)
        for (seed, threads) in [(1, 1), (2, 1), (3, 3), (4, 3)] as [(UInt64, Int)] {
            var dice = Dice(seed: seed)
            let decoder = try AccessUnitDecoder(reader.parameters, facts: reader.facts, configuration: .init(threads: threads, pixelLimit: 200 * 200))
            var waiting: Set<Int> = []
            for id in 1...60 {
                var unit = units[dice.roll(10) == 0 ? dice.roll(units.count) : (id - 1) % units.count]
                switch dice.roll(5) {
                case 0 where !unit.bytes.isEmpty: for _ in 0...dice.roll(8) { unit.bytes[dice.roll(unit.bytes.count)] ^= UInt8(1 << dice.roll(8)) }
                case 1: unit.bytes = Array(unit.bytes.prefix(dice.roll(unit.bytes.count + 1)))
                case 2 where dice.roll(3) == 0: unit.bytes = (0..<dice.roll(400)).map { _ in UInt8(dice.roll(256)) }
                default: break
                }
                if dice.roll(20) == 0 { (unit.facts.pts, unit.facts.dts) = (.max - Int64(dice.roll(3)), .min + 1) }
                if dice.roll(20) == 0 { (unit.facts.pts, unit.facts.dts, unit.facts.duration) = (nil, nil, .max) }
                waiting.insert(id)
                let output = try decoder.decode(unit, id: id)
                #expect(output.pictures.count <= decoder.maximumDelay + 2)
                for picture in output.pictures {
                    #expect(waiting.contains(picture.id) && picture.id >= id - decoder.maximumDelay, "\(picture.id) after \(id)")
                    #expect(picture.frame.width * picture.frame.height <= 200 * 200)
                }
                #expect(output.refused.allSatisfy { waiting.contains($0.id) && !$0.reason.isEmpty })
            }
            #expect(decoder.flush().pictures.allSatisfy { waiting.contains($0.id) })
            // and afterwards it still decodes
            var pictures = 0
            for (index, unit) in units.enumerated() { pictures += try decoder.decode(unit, id: 1000 + index).pictures.count }
            pictures += decoder.flush().pictures.count
            #expect(pictures > units.count / 2)
        }
    }

    @Test("A refused unit is named, and the others have their pictures", arguments: [1, 3])
    func refusedUnit(threads: Int) throws {
        let (reader, units) = try allUnits(try workshop.make("a.avi", seconds: 0.8, ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]))
        let decoder = try AccessUnitDecoder(reader.parameters, facts: reader.facts, configuration: .init(threads: threads))
        var output = AccessUnitDecoder.Output()
        for (index, unit) in units.enumerated() {
            var unit = unit
            if index == 6 { unit.bytes = Array("no picture at all".utf8) }
            if index == 9 { unit.bytes = [] }
            let part = try decoder.decode(unit, id: index)
            output.pictures += part.pictures
            output.refused += part.refused
        }
        output.pictures += decoder.flush().pictures
        #expect(output.refused.map(\.id) == [6])
        #expect(output.pictures.map(\.id) == (0..<20).filter { $0 != 6 && $0 != 9 })
    }

    @Test("Frame threads: a refused unit is still named rightly", arguments: ["ffv1", "png"])
    func refusedAmongThreads(_ codec: String) throws {
        let (reader, units) = try allUnits(try workshop.make("a.mkv", seconds: 0.8, ["-c:v", codec, "-g", "1"]))
        let decoder = try AccessUnitDecoder(reader.parameters, facts: reader.facts, configuration: .init(threads: 4))
        var refused: [Int] = []
        for (index, unit) in units.enumerated() {
            var unit = unit
            if index == 6 { unit.bytes = [0xff, 0xff, 0xff] }
            refused += try decoder.decode(unit, id: index).refused.map(\.id)
        }
        refused += decoder.flush().refused.map(\.id)
        #expect(refused == [6])
    }

    @Test("Names are codecs of video that one may ask for, not decoders, wrappers or containers")
    func names() throws {
        for name in [
            "", "h264_cuvid", "h264_v4l2m2m", "libdav1d", "wrapped_avframe", "aac", "subrip", "ansi", "lavfi", "none", "H264", "h264 ", "h264\u{0}x", "mp4",
            "../h264", "vnull",
            String(repeating: "h", count: 10_000),
        ] {
            #expect(throws: MediaError.noDecoder(codec: name)) { try AccessUnitDecoder(CodecParameters(codec: name), facts: .init(timeBase: .init(1, 25))) }
            #expect(!CodecRules.isDecodable(name))
        }
        for name in ["h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "mpeg4", "mpeg2video", "msmpeg4v3", "ffv1", "png", "prores", "huffyuv", "rawvideo"] {
            #expect(CodecRules.isDecodable(name), "\(name)")
        }
    }

    @Test("Parameters of nonsense are an error or come to nothing")
    func parameters() throws {
        let codecs = [
            "h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "mpeg4", "mpeg2video", "ffv1", "png", "prores", "huffyuv", "rawvideo", "theora", "qtrle", "svq3",
            "dirac", "wmv2", "vc1", "utvideo", "msrle",
        ]
        for codec in codecs {
            for seed in 0..<24 as Range<UInt64> {
                var dice = Dice(seed: seed + 1)
                var parameters = CodecParameters(codec: codec, width: 64, height: 48)
                if dice.roll(2) == 0 {
                    (parameters.width, parameters.height) = ([0, 1, 64, 65_535, 32_768, -1, .max][dice.roll(7)], [0, 1, 48, 65_535, 2, .min][dice.roll(6)])
                }
                if dice.roll(2) == 0 { parameters.tag = UInt32(truncatingIfNeeded: dice.roll(.max)) }
                if codec == "rawvideo", dice.roll(2) == 0 {
                    parameters.tag = [0, 0x3032_3449, 0x2077_6172, 0x5241_5757, 0x0803_4150, 0xffff_ffff][dice.roll(6)]
                }
                if dice.roll(2) == 0 { (parameters.profile, parameters.level) = (Int32(truncatingIfNeeded: dice.roll(.max)), .min) }
                parameters.packedDetails = UInt16(truncatingIfNeeded: dice.roll(65_536))
                parameters.extradata = (0..<dice.roll(200)).map { _ in UInt8(dice.roll(256)) }
                if seed % 2 == 0, !parameters.extradata.isEmpty { parameters.extradata[0] = 1 }
                if dice.roll(3) == 0 { parameters.palette = (0..<[4, 1024, 5000][dice.roll(3)]).map { _ in 7 } }
                var facts = StreamFacts(timeBase: dice.roll(8) == 0 ? .init(Int32(dice.roll(3)) - 1, -5) : .init(1, 90_000))
                facts.colour = CodedColour(
                    range: UInt8(dice.roll(256)), matrix: UInt8(dice.roll(256)), primaries: UInt8(dice.roll(256)), transfer: UInt8(dice.roll(256)))
                facts.sampleAspectRatio = SampleAspectRatio(UInt16(dice.roll(65_536)), UInt16(dice.roll(2)))
                do {
                    let decoder = try AccessUnitDecoder(parameters, facts: facts, configuration: .init(threads: 1, pixelLimit: 1 << 20))
                    for id in 0..<4 {
                        let bytes = (0..<[9, 300, 9300][dice.roll(3)]).map { _ in UInt8(dice.roll(256)) }
                        var next = parameters
                        next.extradata = Array(bytes.prefix(40))
                        let output = try bytes.withUnsafeBytes {
                            try decoder.decode($0, UnitFacts(pts: 0, dts: nil, isKeyframe: true), id: id, parameters: id == 2 ? next : nil)
                        }
                        #expect(output.pictures.allSatisfy { $0.frame.width * $0.frame.height <= 1 << 20 })
                    }
                    _ = decoder.flush()
                } catch let error as MediaError {
                    #expect(!error.description.isEmpty)
                }
            }
        }
    }

    @Test("Parameters over the limit are refused before memory is taken, in the middle of a stream too; the old pictures are not lost")
    func limits() throws {
        let (reader, units) = try allUnits(try workshop.make("a.mp4", seconds: 0.4, Coding.x264 + ["-bf", "3"]))
        #expect(throws: MediaError.tooManyPixels(width: 160, height: 120, limit: 19_199)) {
            try AccessUnitDecoder(reader.parameters, facts: reader.facts, configuration: .init(pixelLimit: 19_199))
        }
        // only the bitstream says it
        var silent = reader.parameters
        (silent.width, silent.height) = (0, 0)
        let small = try AccessUnitDecoder(silent, facts: reader.facts, configuration: .init(threads: 1, pixelLimit: 19_199))
        var refused = 0
        for (index, unit) in units.enumerated() {
            let output = try unit.bytes.withUnsafeBytes { try small.decode($0, unit.facts, id: index) }
            #expect(output.pictures.isEmpty)
            refused += output.refused.count
        }
        #expect(refused > 0)

        let decoder = try AccessUnitDecoder(reader.parameters, facts: reader.facts, configuration: .init(threads: 1, pixelLimit: 20_000))
        var pictures = 0
        for (index, unit) in units.enumerated() { pictures += try decoder.decode(unit, id: index).pictures.count }
        #expect(throws: MediaError.noDecoder(codec: "nonsense")) {
            _ = try [1].withUnsafeBytes { try decoder.decode($0, UnitFacts(pts: 9, dts: 9), id: 99, parameters: CodecParameters(codec: "nonsense")) }
        }
        #expect(throws: MediaError.tooManyPixels(width: 2000, height: 20, limit: 20_000)) {
            let parameters = CodecParameters(codec: "mjpeg", width: 2000, height: 20)
            _ = try [1].withUnsafeBytes { try decoder.decode($0, UnitFacts(pts: 9, dts: 9), id: 99, parameters: parameters) }
        }
        pictures += decoder.flush().pictures.count
        #expect(pictures == units.count)
    }

    @Test(
        "A picture of just the limit is within it", arguments: ["libx264", "libx265", "mpeg4", "mpeg2video", "libvpx-vp9", "mjpeg", "ffv1"],
        ["640x480", "1918x130"])
    func atTheLimit(_ codec: String, _ size: String) throws {
        let path = try workshop.make("a.mkv", seconds: 0.08, size: size, ["-c:v", codec, "-pix_fmt", codec == "mjpeg" ? "yuvj420p" : "yuv420p"])
        let limit = size.split(separator: "x").compactMap { Int($0) }.reduce(1, *)
        #expect(try allFrames(path, .init(pixelLimit: limit)).count == 2)
        #expect(throws: MediaError.self) { try allFrames(path, .init(pixelLimit: limit - 1)) }
    }

    @Test(
        "Files with flipped bytes and files cut short are read to an end", arguments: ["a.mp4", "a.ts", "b.mp4", "a.webm", "g.avi", "h.mkv", "n.ogv", "o.flv"])
    func damagedFiles(_ name: String) throws {
        let path = try workshop.make(name, seconds: 0.8, size: "96x64", try #require(Self.codings.first { $0.0 == name }).1)
        let whole = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        for seed in 0..<12 as Range<UInt64> {
            var dice = Dice(seed: seed + 7)
            var data = whole
            if seed % 3 == 0 { data = Array(data.prefix(dice.roll(data.count))) }
            for _ in 0..<(seed % 2 == 0 ? 30 : 3) where !data.isEmpty { data[dice.roll(data.count)] = UInt8(dice.roll(256)) }
            let broken = try workshop.write(data, as: "broken-" + name)
            do {
                let crossing = try Crossing(
                    .file(broken), options: .init(start: seed % 4 == 0 ? 0.3 : nil, end: seed % 5 == 0 ? 0.6 : nil, pixelLimit: 1 << 20),
                    .init(threads: 2, pixelLimit: 1 << 20))
                #expect(crossing.pictures.count <= crossing.units.count + 2 && crossing.units.count < 500)
            } catch let error as MediaError {
                #expect(!error.description.isEmpty)
            }
        }
    }
}
