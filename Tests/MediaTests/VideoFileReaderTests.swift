import Foundation
import Media
import Testing

@Suite struct VideoFileReaderTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    @Test("Frames of a variable rate come back at the times they were written with")
    func variableRate() throws {
        let times: [Int64] = [0, 40, 100, 110, 400, 1000, 1001, 5000]
        let path = workshop.path("vfr.mp4")
        let writer = try VideoFileWriter(path: path, width: 64, height: 48, timeBase: TimeBase(1, 1000))
        for time in times { try writer.write(quarters(width: 64, height: 48, pts: time, timeBase: TimeBase(1, 1000))) }
        try writer.finish()
        let frames = try allFrames(path)
        #expect(frames.map { Int64(($0.seconds * 1000).rounded()) } == times)
        let reader = try VideoFileReader(path: path)
        #expect(reader.info.estimatedFrameCount == times.count)
        #expect(reader.info.codec == "h264")
    }

    @Test("The display matrix turns pixels, not only numbers", arguments: [Orientation.Turn.none, .quarter, .half, .threeQuarters], [false, true])
    func rotation(_ turn: Orientation.Turn, mirrored: Bool) throws {
        let orientation = Orientation(turn, mirrored: mirrored)
        let path = workshop.path("turned.mp4")
        let writer = try VideoFileWriter(
            path: path, width: 96, height: 64, timeBase: TimeBase(1, 25), configuration: .init(orientation: orientation))
        let original = quarters(width: 96, height: 64)
        for index in 0..<3 { try writer.write(quarters(width: 96, height: 64, pts: Int64(index), timeBase: TimeBase(1, 25))) }
        try writer.finish()

        let reader = try VideoFileReader(path: path)
        let frame = try #require(try reader.next())
        #expect(reader.info.orientation == orientation)
        #expect((frame.width, frame.height) == (orientation.swapsSides ? (64, 96) : (96, 64)))
        #expect((reader.info.width, reader.info.height) == (frame.width, frame.height))
        #expect(try quarterOrder(frame) == quarterOrder(original.turned(orientation)))

        // and the ffmpeg program sees it the same way
        let raw = try workshop.ffmpeg("-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")
        #expect(Array(raw) == bytes(of: frame))
    }

    @Test(
        "Every frame is what the ffmpeg program decodes, byte by byte",
        arguments: [
            ("64x48", "h264.mp4", ["-c:v", "libx264", "-bf", "3"]), ("66x50", "hevc.mp4", ["-c:v", "libx265", "-x265-params", "log-level=none"]),
            ("33x17", "ffv1.mkv", ["-c:v", "ffv1"]), ("33x17", "vp8.webm", ["-c:v", "libvpx"]), ("64x48", "vp9.webm", ["-c:v", "libvpx-vp9"]),
            ("2x2", "ffv1.mkv", ["-c:v", "ffv1"]), ("64x48", "mpeg4.avi", ["-c:v", "mpeg4"]), ("64x48", "motion.avi", ["-c:v", "mjpeg"]),
            ("64x48", "mpeg2.ts", ["-c:v", "mpeg2video"]), ("64x48", "raw.h264", ["-c:v", "libx264", "-bf", "0"]),
        ])
    func sameAsTheProgram(_ size: String, _ name: String, _ codec: [String]) throws {
        let path = workshop.path(name)
        let input = ["-f", "lavfi", "-i", "testsrc2=size=\(size):rate=10:duration=1.5", "-pix_fmt", name == "motion.avi" ? "yuvj420p" : "yuv420p"]
        try workshop.run(input + codec + [path])
        let expected = try workshop.ffmpeg("-i", path, "-f", "rawvideo", "-vsync", "passthrough", "-")
        let frames = try allFrames(path, .init(threads: 2))
        #expect(frames.count == 15)
        #expect(frames.allSatisfy { $0.format == .i420 })
        #expect(frames.flatMap { bytes(of: $0) } == Array(expected))
        #expect(zip(frames, frames.dropFirst()).allSatisfy { $0.pts < $1.pts })
    }

    @Test("Other pixel formats become ours", arguments: ["yuv444p", "yuv422p10le", "gray", "bgr0", "gbrp"])
    func pixelFormats(_ format: String) throws {
        let path = workshop.path("any.mkv")
        try workshop.ffmpeg(
            "-f", "lavfi", "-i", "color=c=0x2060C0:size=48x32:rate=5:duration=1", "-c:v", "ffv1", "-pix_fmt", format, path)
        let frames = try allFrames(path)
        #expect(frames.count == 5)
        let frame = try PixelConverter().convert(try #require(frames.first), to: .bgr24)
        if format == "gray" {
            let middle = pixel(frame, 24, 16)
            #expect(middle.allSatisfy { abs(Int($0) - 88) <= 4 }, "\(middle)")
        } else {
            #expect(zip(pixel(frame, 24, 16), [0xc0, 0x60, 0x20] as [UInt8]).allSatisfy { abs(Int($0) - Int($1)) <= 4 }, "\(pixel(frame, 24, 16))")
        }
    }

    @Test("A stream that changes its size goes on with the new one")
    func resolutionChange() throws {
        for (index, size) in ["64x48", "128x96", "32x32"].enumerated() {
            try workshop.ffmpeg(
                "-f", "lavfi", "-i", "testsrc2=size=\(size):rate=10:duration=1", "-c:v", "libx264", "-pix_fmt", "yuv420p",
                workshop.path("\(index).h264"))
        }
        var joined: [UInt8] = []
        for index in 0..<3 { joined += try Data(contentsOf: URL(fileURLWithPath: workshop.path("\(index).h264"))) }
        let frames = try allFrames(try workshop.write(joined, as: "joined.h264"))
        #expect(frames.count == 30)
        #expect(frames.map(\.width) == Array(repeating: 64, count: 10) + Array(repeating: 128, count: 10) + Array(repeating: 32, count: 10))
        #expect(zip(frames, frames.dropFirst()).allSatisfy { $0.pts < $1.pts })
    }

    @Test("Files that are no videos are told apart, each with a sentence of its own")
    func notVideos() throws {
        #expect(throws: MediaError.fileNotFound(path: "/nowhere/at all.mp4")) { try VideoFileReader(path: "/nowhere/at all.mp4") }
        for (name, bytes) in [("empty.mp4", []), ("text.mp4", Array("This is not a video.\n".utf8)), ("zeros.mp4", [UInt8](repeating: 0, count: 5000))] {
            let path = try workshop.write(bytes, as: name)
            #expect {
                while let reader = Optional(try VideoFileReader(path: path)), try reader.next() != nil {}
            } throws: { error in
                switch error as? MediaError {
                case .notAVideo, .undecodable, .noVideoStream: true
                default: false
                }
            }
        }
        #expect(throws: MediaError.self) { try VideoFileReader(path: workshop.folder.path) }
        try workshop.ffmpeg("-f", "lavfi", "-i", "sine=duration=1", workshop.path("sound.wav"))
        #expect(throws: MediaError.noVideoStream(path: workshop.path("sound.wav"))) { try VideoFileReader(path: workshop.path("sound.wav")) }
    }

    @Test("A name with a colon is a file, not a protocol")
    func colon() throws {
        try workshop.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=5:duration=1", "-f", "matroska", "file:" + workshop.path("a:b.mkv"))
        #expect(try allFrames(workshop.path("a:b.mkv")).count == 5)
        #expect(throws: MediaError.fileNotFound(path: "http://127.0.0.1:9/x.mp4")) { try VideoFileReader(path: "http://127.0.0.1:9/x.mp4") }
    }

    @Test("A picture over the limit is refused before it is decoded")
    func limit() throws {
        let path = workshop.path("big.mkv")
        try workshop.ffmpeg("-f", "lavfi", "-i", "color=size=640x480:rate=5:duration=1", "-c:v", "libx264", path)
        #expect(throws: MediaError.tooManyPixels(width: 640, height: 480, limit: 1000)) {
            try VideoFileReader(path: path, configuration: .init(pixelLimit: 1000))
        }
    }

    @Test("A file cut off anywhere gives the frames before the cut, or an error, and never more", arguments: ["cut.mkv", "cut.mp4", "cut.avi"])
    func truncated(_ name: String) throws {
        let path = workshop.path(name)
        try workshop.ffmpeg(
            "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=2", "-c:v", "mpeg4", "-pix_fmt", "yuv420p", "-movflags", "+faststart", path)
        let whole = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        var best = 0
        for step in 0..<24 {
            let cut = try workshop.write(Array(whole.prefix(whole.count * step / 24)), as: "shorter-" + name)
            let frames = (try? allFrames(cut).count) ?? 0
            #expect(frames <= 20)
            best = max(best, frames)
        }
        #expect(best > 10)
    }

    @Test("Damaged bytes are counted and survived", arguments: 0..<12 as Range<UInt64>)
    func damaged(seed: UInt64) throws {
        let path = workshop.path("damaged.mp4")
        try workshop.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=10:duration=3", "-c:v", "libx264", "-pix_fmt", "yuv420p", path)
        var data = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        var dice = Dice(seed: seed + 1)
        for _ in 0..<(seed < 6 ? 40 : 4) { data[dice.roll(data.count)] = UInt8(truncatingIfNeeded: dice.roll(256)) }
        let broken = try workshop.write(data, as: "broken.mp4")
        do {
            let reader = try VideoFileReader(path: broken, configuration: .init(threads: 1))
            var count = 0
            while let frame = try reader.next() {
                #expect(frame.width > 0 && frame.height > 0)
                count += 1
            }
            #expect(count <= 100)
        } catch {
            #expect(!error.description.isEmpty)
        }
    }

    @Test("The sample footage has 795 frames of 768 by 576")
    func footage() throws {
        let path = ".deps/footage/vtest.avi"
        try #require(FileManager.default.fileExists(atPath: path), "run `scripts/setup footage` first")
        let reader = try VideoFileReader(path: path)
        #expect(reader.info.estimatedFrameCount == 795)
        while let frame = try reader.next() {
            #expect(frame.width == 768 && frame.height == 576 && frame.pts == Int64(reader.framesRead - 1))
        }
        #expect(reader.framesRead == 795)
        #expect(reader.damage.isNone)
    }
}

extension Workshop {
    func run(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ffmpeg", "-nostdin", "-v", "error", "-y"] + arguments
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
    }
}
