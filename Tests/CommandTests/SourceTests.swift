import Foundation
import Testing

/// Whatever frames come from: each is answered, and what cannot be read is told.
@Suite(.timeLimit(.minutes(3)), .serialized) struct SourceTests {
    let workshop: Workshop

    init() throws {
        workshop = try Workshop()
        try workshop.video("video.mp4", frames: 60)
    }

    private func stream(_ server: Server, _ arguments: [String], input: String? = nil) async throws -> Program.Ended {
        try await Program.run(["stream", "--server", server.url, "--results", "r.jsonl"] + arguments, in: workshop, input: input)
    }

    @Test(
        "A file that is none, and one that is no video",
        arguments: [
            ("nosuch.mp4", "there is no file nosuch.mp4"), ("text.mp4", "text.mp4 is not a video"), ("none", "none"),
            ("nosuch*.mp4", "there is no file nosuch*.mp4"),
        ])
    func unreadable(name: String, words: String) async throws {
        try workshop.write(Data("This is no video at all.\n".utf8), as: "text.mp4")
        try FileManager.default.createDirectory(atPath: workshop.file("none"), withIntermediateDirectories: true)
        let ended = try await Program.run(["stream", name, "--server", "http://127.0.0.1:9"], in: workshop)
        #expect(ended.code == 66)
        #expect(ended.errors.hasPrefix("everyframe: source failed: ") && ended.errors.contains(words), "\(ended.errors)")
    }

    @Test("A file that was cut is answered as far as it goes, with a warning", arguments: ["source", "jpeg"])
    func truncated(encoding: String) async throws {
        try workshop.video("whole.mp4", frames: 60, ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "3", "-movflags", "+faststart"])
        let whole = try Data(contentsOf: URL(fileURLWithPath: workshop.file("whole.mp4")))
        try workshop.write(whole.prefix(whole.count * 6 / 10), as: "cut.mp4")
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, ["cut.mp4", "--encoding", encoding, "--summary", "s.json"])
            #expect(ended.code == 0)
            #expect(ended.errors.contains("everyframe: warning: cut.mp4: "), "\(ended.errors)")
            let frames = workshop.frames(of: "r.jsonl")
            #expect(frames.count > 10 && frames.count < 60 && frames == Array(1...frames.count))
            #expect(try workshop.json("s.json")["source_damage"] as? String != nil)
        }
        // without its end an MP4 has no index
        try workshop.write(Data(contentsOf: URL(fileURLWithPath: workshop.file("video.mp4"))).prefix(5000), as: "headless.mp4")
        let headless = try await Program.run(["stream", "headless.mp4", "--server", "http://127.0.0.1:9"], in: workshop)
        #expect(headless.code == 66)
    }

    @Test("Bytes that are wrong in the middle cost frames, which are told one by one, and no more")
    func damaged() async throws {
        var bytes = try Data(contentsOf: URL(fileURLWithPath: workshop.file("video.mp4")))
        let middle = bytes.count / 2
        for index in middle..<(middle + 600) { bytes[index] = UInt8(truncatingIfNeeded: index &* 41) }
        try workshop.write(bytes, as: "damaged.mp4")
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, ["damaged.mp4"])
            #expect([0, 1].contains(ended.code), "\(ended.errors)")
            let frames = workshop.frames(of: "r.jsonl")
            #expect(frames.count > 30 && frames == Array(1...frames.count))
        }
    }

    @Test("A part of a file", arguments: ["source", "jpeg"])
    func part(encoding: String) async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            for (options, count) in [
                ("--start 0.4 --end 1.2", 20), ("--start 1", 35), ("--end 0.2", 5), ("--stride 7", 9), ("--start 1 --stride 10 --end 2", 3),
            ] {
                let ended = try await stream(server, ["video.mp4", "--encoding", encoding] + options.split(separator: " ").map(String.init))
                #expect(ended.code == 0, "\(options): \(ended.errors)")
                #expect(workshop.frames(of: "r.jsonl") == Array(1...count), "\(options)")
            }
            let frames = try await stream(server, ["video.mp4", "--encoding", encoding, "--frames", "12"])
            #expect(frames.code == 0, "\(frames.errors)")
            let nothing = try await stream(server, ["video.mp4", "--encoding", encoding, "--start", "99"])
            #expect(nothing.code == 66)
            #expect(nothing.errors.contains("everyframe: video.mp4 has no frame in that part of it\n"), "\(nothing.errors)")
        }
    }

    @Test(
        "Frames that are dropped by choice are counted, and the others answered",
        arguments: [("every-nth=3", 20), ("every-nth=7", 9), ("max-fps=5", 12), ("all", 60)])
    func drops(policy: String, count: Int) async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, ["video.mp4", "--encoding", "jpeg", "--drop", policy, "--summary", "s.json"])
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(workshop.frames(of: "r.jsonl") == Array(1...count))
            let dropped = try workshop.json("s.json")["dropped"] as? [String: Int] ?? [:]
            #expect(dropped.values.reduce(0, +) == 60 - count)
            #expect(count == 60 || ended.errors.contains("\(60 - count) dropped by choice"), "\(ended.errors)")
        }
    }

    @Test(
        "Pipes: Motion JPEG and YUV4MPEG, told by their first bytes or by name",
        arguments: [("mjpeg", ""), ("mjpeg", "mjpeg"), ("yuv4mpegpipe", ""), ("yuv4mpegpipe", "yuv4mpegpipe"), ("mpegts", "")])
    func pipe(format: String, told: String) async throws {
        #expect(mkfifo(workshop.file("pipe"), 0o600) == 0)
        try await withServer("synthetic:0", in: workshop) { server in
            let writer = Process()
            writer.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            writer.arguments =
                ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", workshop.file("video.mp4")] + (format == "mpegts" ? ["-c", "copy"] : []) + [
                    "-f", format, workshop.file("pipe"),
                ]
            try writer.run()
            // the reader's end is opened here, which waits for the writer's
            let ended = try await stream(server, ["-"] + (told.isEmpty ? [] : ["--input-format", told]), input: workshop.file("pipe"))
            writer.waitUntilExit()
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(workshop.frames(of: "r.jsonl") == Array(1...60))
        }
        let nothing = try await Program.run(["stream", "-", "--server", "http://127.0.0.1:9"], in: workshop)
        #expect(nothing.code == 66)
    }

    @Test(
        "A folder of pictures: in the order of numbers, upright, and what is no picture is told",
        arguments: [[], ["--encoding", "jpeg"], ["--encoding", "png"]])
    func folder(options: [String]) async throws {
        try FileManager.default.createDirectory(atPath: workshop.file("pictures"), withIntermediateDirectories: true)
        try workshop.ffmpeg(["-i", workshop.file("video.mp4"), "-frames:v", "12", workshop.file("pictures/%d.jpg")])
        // one of them was taken with the camera held sideways: EXIF's 6
        let upright = try Data(contentsOf: URL(fileURLWithPath: workshop.file("pictures/5.jpg")))
        let tiff: [UInt8] = [0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]
        let exif: [UInt8] = [0xFF, 0xE1, 0, UInt8(2 + 6 + tiff.count)] + Array("Exif".utf8) + [0, 0] + tiff
        try workshop.write(upright.prefix(2) + Data(exif) + upright.dropFirst(2), as: "pictures/5.jpg")
        try workshop.write(Data("no picture".utf8), as: "pictures/7.png")
        try workshop.write(Data("left alone".utf8), as: "pictures/notes.txt")
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, ["pictures"] + options)
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(ended.errors.contains("everyframe: warning: pictures: 7.png is no picture"), "\(ended.errors)")
            #expect(workshop.frames(of: "r.jsonl") == Array(1...12))
            let sizes = workshop.lines(of: "r.jsonl").map { $0.contains(#""image":{"width":120,"height":160}"#) }
            #expect(sizes.indices.filter { sizes[$0] } == [4], "the fifth is the one that is upright: \(sizes)")
        }
    }

    @Test(
        "Raw pictures and PNG cross as well",
        arguments: ["raw", "raw --compression lz4", "raw --compression zstd --pixel-format nv12", "png", "jpeg --quality 30"])
    func encodings(options: String) async throws {
        try await withServer("synthetic:0", ["--decode-threads", "1"], in: workshop) { server in
            let ended = try await stream(server, ["video.mp4", "--encoding"] + options.split(separator: " ").map(String.init))
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(workshop.frames(of: "r.jsonl") == Array(1...60))
        }
    }

    @Test("The prototype's wire answers each frame, too")
    func prototype() async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, ["video.mp4", "--wire", "prototype", "--annotated", "a.mp4"])
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(workshop.frames(of: "r.jsonl") == Array(1...60))
            #expect(try workshop.pictures(in: "a.mp4") == 60)
        }
    }
}
