import Foundation
import Media
import Testing

/// What containers say beside the units: cuts, turns, times, changes in the middle.
@Suite struct SourceFactsTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    private func expectSame(_ path: String, _ expected: [Shown], _ note: String = "", threads: [Int] = [1, 3]) throws {
        for threads in threads {
            let crossing = try Crossing(.file(path), .init(threads: threads))
            #expect(firstDifference(crossing.shown, expected) == nil, "\(note), \(threads) threads")
            #expect(crossing.refused.isEmpty && crossing.strays == 0, "\(note), \(threads) threads: \(crossing.refused)")
        }
        #expect(firstDifference(try allFrames(path).map(Shown.init), expected) == nil, "\(note), the file's reader")
    }

    @Test(
        "What an edit list cuts away is decoded and not shown", arguments: [Coding.openGOP + ["-bf", "3"], Coding.x265OpenGOP, ["-c:v", "mpeg4", "-bf", "2"]])
    func editList(_ codec: [String]) throws {
        let whole = try workshop.make("whole.mp4", codec)
        let path = workshop.path("cut.mp4")
        try workshop.run(["-ss", "0.52", "-i", whole, "-c", "copy", "-t", "0.6", path])
        let expected = try workshop.judge(path)
        let units = try allUnits(path).units
        #expect(units.contains { $0.facts.isDiscard })
        #expect(expected.count < units.count)
        try expectSame(path, expected)
    }

    @Test("Pictures are turned as the container says", arguments: [0, 90, 180, 270])
    func rotation(_ degrees: Int) throws {
        let upright = try workshop.make("upright.mp4", seconds: 0.4, size: "160x96", Coding.x264)
        let path = workshop.path("turned.mp4")
        try workshop.run(["-i", upright, "-c", "copy", "-metadata:s:v:0", "rotate=\(degrees)", path])
        let expected = try workshop.judge(path)
        #expect(try PacketReader(.file(path)).info.orientation.swapsSides == (degrees % 180 == 90))
        try expectSame(path, expected)
    }

    @Test(
        "A recording that begins in the middle of a group of pictures shows what the ffmpeg program shows",
        arguments: [
            Coding.openGOP, Coding.x264 + ["-x264-params", "intra-refresh=1:keyint=12"], Coding.x265OpenGOP, ["-c:v", "mpeg2video", "-bf", "2", "-g", "12"],
        ])
    func cutBeginning(_ codec: [String]) throws {
        let whole = Array(try Data(contentsOf: URL(fileURLWithPath: try workshop.make("whole.ts", codec))))
        // packets of a transport stream have 188 bytes; the tables come again
        let path = try workshop.write(Array(whole.dropFirst(whole.count / 188 / 4 * 188)), as: "cut.ts")
        let expected = try workshop.judge(path)
        #expect((5..<40).contains(expected.count))
        for threads in [1, 3] {
            #expect(firstDifference(try Crossing(.file(path), .init(threads: threads)).shown, expected) == nil)
        }
    }

    @Test("A variable rate stays one", arguments: ["mp4", "mkv", "ts"])
    func variableRate(_ container: String) throws {
        let path = try workshop.make("varied.\(container)", Coding.x264 + ["-bf", "2", "-vf", "select=not(mod(n\\,3))+eq(mod(n\\,7)\\,1)", "-vsync", "vfr"])
        let expected = try workshop.judge(path)
        #expect(Set(zip(expected, expected.dropFirst()).map { $1.pts - $0.pts }).count > 1)
        try expectSame(path, expected)
    }

    @Test("A size that changes in the middle is followed", arguments: ["h264", "ts"])
    func sizeInBand(_ container: String) throws {
        var joined: [UInt8] = []
        for (index, size) in ["96x64", "160x120", "64x64"].enumerated() {
            let part = try workshop.make(
                "\(index).\(container)", seconds: 0.6, size: size, Coding.x264 + ["-bf", "2", "-output_ts_offset", "\(Double(index) * 0.8)", "-muxdelay", "0"])
            joined += try Data(contentsOf: URL(fileURLWithPath: part))
        }
        let path = try workshop.write(joined, as: "joined.\(container)")
        let expected = try workshop.judge(path, after: ["-autoscale", "0"])
        #expect(Set(expected.map(\.size)).count == 3)
        try expectSame(path, expected)
    }

    @Test("New parameters in the middle travel with the first unit that needs them", arguments: [["-bf", "0"], ["-bf", "2"]])
    func newExtradata(_ options: [String]) throws {
        var joined: [UInt8] = []
        for (index, size) in ["96x64", "160x120"].enumerated() {
            let part = try workshop.make("\(index).flv", seconds: 0.6, size: size, Coding.x264 + options + ["-output_ts_offset", "\(Double(index) * 0.8)"])
            // header and the length of the tag before
            joined += try Data(contentsOf: URL(fileURLWithPath: part)).dropFirst(index == 0 ? 0 : 13)
        }
        let path = try workshop.write(joined, as: "joined.flv")
        let units = try allUnits(path).units
        #expect(units.map(\.configuration) == Array(repeating: 1, count: 15) + Array(repeating: 2, count: 15))
        #expect(units.first?.parameters.extradata != units.last?.parameters.extradata)
        try expectSame(path, try workshop.judge(path, after: ["-autoscale", "0"]))
    }

    @Test("Another codec in the middle: the pictures of the first come out, then those of the second")
    func otherCodec() throws {
        let first = try allUnits(try workshop.make("a.mp4", seconds: 0.4, Coding.x264 + ["-bf", "3"]))
        let second = try allUnits(try workshop.make("b.mp4", seconds: 0.4, size: "96x64", ["-c:v", "mpeg4", "-bf", "2"]))
        let third = try allUnits(try workshop.make("c.h264", seconds: 0.4, size: "128x64", Coding.x264 + ["-bf", "3"]))
        for threads in [1, 3] {
            let decoder = try AccessUnitDecoder(first.reader.parameters, facts: first.reader.facts, configuration: .init(threads: threads))
            var pictures: [AccessUnitDecoder.Picture] = []
            var id = 0
            for part in [first, second, third, first] {
                decoder.facts = part.reader.facts
                for unit in part.units {
                    id += 1
                    pictures += try decoder.decode(unit, id: id).pictures
                }
            }
            pictures += decoder.flush().pictures
            #expect(pictures.map(\.id).sorted() == Array(1...40))
            #expect(
                pictures.map(\.frame.width) == Array(repeating: 160, count: 10) + Array(repeating: 96, count: 10) + Array(repeating: 128, count: 10)
                    + Array(repeating: 160, count: 10))
            let alone = try Crossing(.file(workshop.path("a.mp4"))).shown
            #expect(pictures.suffix(10).map { Shown($0.frame) } == alone)
        }
    }

    @Test("Units that are never shown have no picture: VP8's and VP9's references for later", arguments: [1, 3])
    func hiddenUnits(threads: Int) throws {
        let vp8 = try twoPasses("hidden.webm", ["-c:v", "libvpx", "-cpu-used", "4", "-auto-alt-ref", "1", "-lag-in-frames", "25", "-b:v", "100k"])
        let crossing = try Crossing(.file(vp8), .init(threads: threads))
        #expect(crossing.units.count > crossing.pictures.count)
        var difference = firstDifference(crossing.shown, try workshop.judge(vp8))
        #expect(difference == nil)
        #expect(crossing.refused.isEmpty)

        // shows pictures that were decoded long before, under the name of the unit that says so
        let vp9 = try twoPasses("layers.webm", ["-c:v", "libvpx-vp9", "-cpu-used", "4", "-auto-alt-ref", "6", "-lag-in-frames", "25", "-b:v", "60k"])
        let layers = try Crossing(.file(vp9), .init(threads: threads))
        // a unit of two bytes is "show that one"
        #expect(layers.units.contains { $0.bytes.count < 4 })
        difference = firstDifference(layers.shown, try workshop.judge(vp9))
        #expect(difference == nil)
        #expect(layers.pictures.map(\.id) == Array(1...layers.units.count))
    }

    private func twoPasses(_ name: String, _ options: [String]) throws -> String {
        let common = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=1.6", "-pix_fmt", "yuv420p", "-passlogfile", workshop.path("log")]
        try workshop.run(common + options + ["-pass", "1", "-f", "null", "-"])
        try workshop.run(common + options + ["-pass", "2", workshop.path(name)])
        return workshop.path(name)
    }

    @Test("H.264 that does not say how far it reorders comes out whole, since the parameters do", arguments: [1, 3])
    func reorderingUnsaid(threads: Int) throws {
        let options = ["-profile:v", "main", "-x264-params", "bframes=3:b-adapt=0:b-pyramid=normal"]
        let path = try workshop.make("video.mp4", Coding.x264 + options)
        let said = try Crossing(.file(path)).shown
        // an SPS without VUI, as cameras write it, in the place of x264's
        let avcC = try PacketReader(.file(path)).parameters.extradata
        let sps = Array(avcC[8..<8 + Int(avcC[6]) << 8 + Int(avcC[7])])
        var file = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let place = try #require(file.firstRange(of: sps))
        file.replaceSubrange(place, with: withoutVUI(sps))
        let silent = try workshop.write(file, as: "silent.mp4")
        #expect(try PacketReader(.file(silent)).parameters.reorderDepth == 2)
        let crossing = try Crossing(.file(silent), .init(threads: threads))
        #expect(firstDifference(crossing.shown, try workshop.judge(silent)) == nil)
        #expect(firstDifference(crossing.shown, said) == nil)
    }

    @Test("A codec without reordering settles at once; one that reorders within its bound")
    func delays() throws {
        func delay(_ codec: String, threads: Int = 1, lowDelay: Bool = false) throws -> Int {
            try AccessUnitDecoder(
                CodecParameters(codec: codec, width: 64, height: 64, tag: codec == "rawvideo" ? 0x3032_3449 : 0), facts: .init(timeBase: .init(1, 25)),
                configuration: .init(threads: threads, lowDelay: lowDelay)
            ).maximumDelay
        }
        #expect(try delay("mjpeg") == 0)
        #expect(try delay("png") == 0)
        #expect(try delay("rawvideo") == 0)
        #expect(try delay("vp8") <= 1)
        #expect(try delay("vp8", threads: 4) <= 5)
        #expect(try delay("vp8", threads: 4, lowDelay: true) <= 1)
        #expect(try delay("av1", threads: 4, lowDelay: true) <= 2)
        #expect((32...36).contains(try delay("h264", threads: 4, lowDelay: true)))
        #expect(["mjpeg", "png", "prores", "dnxhd", "huffyuv", "rawvideo", "utvideo"].allSatisfy(CodecRules.isIntraOnly))
        #expect(!["h264", "hevc", "vp8", "vp9", "av1", "mpeg2video", "nonsense", ""].contains(where: CodecRules.isIntraOnly))
    }
}

/// The sequence parameter set of Main profile with vui_parameters_present_flag 0 (H.264 7.3.2.1.1), as long as before.
private func withoutVUI(_ sps: [UInt8]) -> [UInt8] {
    var bits = sps.flatMap { byte in (0..<8).map { byte >> (7 - $0) & 1 } }
    var place = 8 * 4
    func number() -> Int {
        let zeros = bits[place...].prefix { $0 == 0 }.count
        defer { place += 2 * zeros + 1 }
        return bits[(place + zeros)...(place + 2 * zeros)].reduce(0) { $0 << 1 | Int($1) } - 1
    }
    _ = number()  // seq_parameter_set_id
    _ = number()  // log2_max_frame_num_minus4
    if number() == 0 { _ = number() }  // pic_order_cnt_type, log2_max_pic_order_cnt_lsb_minus4
    _ = number()  // max_num_ref_frames
    place += 1
    _ = number()  // width and height in macroblocks
    _ = number()
    place += 2  // frame_mbs_only_flag is 1, direct_8x8_inference_flag
    place += 1
    if bits[place - 1] == 1 { for _ in 0..<4 { _ = number() } }
    bits[place] = 0
    bits[place + 1] = 1
    for index in bits.indices where index > place + 1 { bits[index] = 0 }
    return stride(from: 0, to: bits.count, by: 8).map { start in bits[start..<start + 8].reduce(0) { $0 << 1 | $1 } }
}
