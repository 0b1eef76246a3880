import Foundation
import Testing

/// What is asked for is there, whole, and nothing else is touched.
@Suite(.timeLimit(.minutes(3)), .serialized) struct OutputTests {
    let workshop: Workshop

    init() throws {
        workshop = try Workshop()
        try workshop.video("video.mp4", frames: 60)
    }

    private func stream(_ server: Server, _ arguments: String...) async throws -> Program.Ended {
        try await Program.run(["stream", "--server", server.url] + arguments, in: workshop)
    }

    @Test("All outputs of one video are complete")
    func complete() async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(
                server, "video.mp4", "--results", "r.jsonl", "--csv", "c.csv", "--coco", "o.json", "--annotated", "a.mp4", "--summary", "s.json")
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(workshop.frames(of: "r.jsonl") == Array(1...60))
            let rows = workshop.text(of: "c.csv").components(separatedBy: "\r\n")
            #expect(rows.count == 62 && rows[1].hasPrefix("1,0,0.0,") && rows[60].hasPrefix("60,") && rows[61].isEmpty)
            #expect((try workshop.json("o.json")["images"] as? [Any])?.count == 60)
            #expect(try workshop.pictures(in: "a.mp4") == 60)
            let summary = try workshop.json("s.json")
            #expect(summary["ok"] as? Bool == true && summary["results_received"] as? Int == 60)
        }
    }

    @Test("Several videos share a few connections and have their own files in folders")
    func several() async throws {
        try workshop.video("second.mp4", frames: 30)
        try workshop.video("third.avi", frames: 20, ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"])
        try FileManager.default.createDirectory(atPath: workshop.file("more"), withIntermediateDirectories: true)
        try workshop.video("more/video.mp4", frames: 10)
        try await withServer("synthetic:1ms", in: workshop) { server in
            let ended = try await stream(
                server, "video.mp4", "second.mp4", "*.avi", "more/video.mp4", "--pool", "2", "--parallel", "3", "--results", "out", "--csv", "out", "--coco",
                "out/coco", "--annotated", "out", "--summary", "out.json")
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(ended.errors.contains("4 of 4 videos answered to the last frame: 120 frames"), "\(ended.errors)")
            for (name, count) in [("video", 60), ("second", 30), ("third", 20), ("video-2", 10)] {
                #expect(workshop.frames(of: "out/\(name).jsonl") == Array(1...count))
                #expect(workshop.text(of: "out/\(name).csv").components(separatedBy: "\r\n").count == count + 2)
                #expect((try workshop.json("out/coco/\(name).json")["images"] as? [Any])?.count == count)
                #expect(try workshop.pictures(in: "out/\(name).mp4") == count)
            }
            let summaries = try JSONSerialization.jsonObject(with: Data(workshop.text(of: "out.json").utf8)) as? [[String: Any]]
            #expect(summaries?.map { $0["video"] as? String } == ["video.mp4", "second.mp4", "third.avi", "more/video.mp4"])
            #expect(summaries?.allSatisfy { $0["ok"] as? Bool == true } == true)
        }
    }

    @Test("One bad video among several: the others are answered, and it is told")
    func oneIsBad() async throws {
        try workshop.write(Data("no video".utf8), as: "text.mp4")
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, "video.mp4", "text.mp4", "nosuch.mp4", "--results", "out", "--summary", "out.json")
            #expect(ended.code == 66)
            #expect(
                ended.errors.contains("text.mp4 is not a video that can be read") && ended.errors.contains("there is no file nosuch.mp4"), "\(ended.errors)")
            #expect(ended.errors.contains("1 of 3 videos answered to the last frame: 60 frames"))
            #expect(workshop.frames(of: "out/video.jsonl") == Array(1...60))
            let summaries = try JSONSerialization.jsonObject(with: Data(workshop.text(of: "out.json").utf8)) as? [[String: Any]]
            #expect(summaries?.map { $0["ok"] as? Bool } == [true, false, false])
        }
    }

    @Test("An output that cannot be created", arguments: ["--results", "--csv", "--coco", "--annotated", "--summary"])
    func unwritable(option: String) async throws {
        let ended = try await Program.run(["stream", "video.mp4", "--server", "http://127.0.0.1:9", option, "nowhere/file"], in: workshop)
        #expect(ended.code == 73)
        #expect(ended.errors == "everyframe: cannot write nowhere/file: No such file or directory\n", "\(ended.errors)")
        // with several videos it is a folder
        let file = try await Program.run(["stream", "video.mp4", "video.mp4", "--server", "http://127.0.0.1:9", "--csv", "video.mp4"], in: workshop)
        #expect(file.code == 73)
        #expect(file.errors == "everyframe: cannot write video.mp4: with several videos it must be a folder\n", "\(file.errors)")
    }

    @Test("A video file whose kind holds no H.264 is told before a frame is sent")
    func container() async throws {
        let ended = try await Program.run(["stream", "video.mp4", "--server", "http://127.0.0.1:9", "--annotated", "a.webm"], in: workshop)
        #expect(ended.code == 73)
        #expect(ended.errors == "everyframe: cannot write a.webm: such a file holds no H.264: choose .mp4, .mkv or .mov\n", "\(ended.errors)")
        #expect(!FileManager.default.fileExists(atPath: workshop.file("a.webm")))
    }

    @Test("A disk that is full", arguments: ["--results", "--csv", "--coco", "--annotated", "--summary"])
    func diskFull(option: String) async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, "video.mp4", option, "/dev/full")
            #expect(ended.code == 74)
            #expect(ended.errors.lowercased().contains("everyframe: cannot write /dev/full: no space left on device\n"), "\(ended.errors)")
        }
    }

    @Test("No output is one of the videos", arguments: ["video.mp4", "./video.mp4", "link.mp4", "."])
    func overwriting(output: String) async throws {
        try FileManager.default.createSymbolicLink(atPath: workshop.file("link.mp4"), withDestinationPath: "video.mp4")
        let before = try Data(contentsOf: URL(fileURLWithPath: workshop.file("video.mp4")))
        // in a folder it would have the video's name
        let videos = output == "." ? ["video.mp4", "link.mp4"] : ["video.mp4"]
        let ended = try await Program.run(["stream"] + videos + ["--server", "http://127.0.0.1:9", "--annotated", output], in: workshop)
        #expect(ended.code == 73)
        #expect(ended.errors.contains("it is a video that is to be sent"), "\(ended.errors)")
        #expect(try Data(contentsOf: URL(fileURLWithPath: workshop.file("video.mp4"))) == before)
    }

    @Test("Standard output carries results and nothing else, and the summary where that is asked for")
    func standardOutput() async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let results = try await stream(server, "video.mp4", "--results", "-")
            #expect(results.code == 0)
            try workshop.write(Data(results.output.utf8), as: "results")
            #expect(workshop.frames(of: "results") == Array(1...60))
            let summary = try await stream(server, "video.mp4", "--summary", "-", "--quiet")
            #expect(summary.code == 0 && summary.errors.isEmpty)
            #expect((try JSONSerialization.jsonObject(with: Data(summary.output.utf8)) as? [String: Any])?["ok"] as? Bool == true)
            #expect(!FileManager.default.fileExists(atPath: workshop.file("-")))
        }
    }

    @Test("An old summary is not left for the new run's")
    func summaryOfNothing() async throws {
        try workshop.write(Data(#"{"ok":true}"#.utf8), as: "s.json")
        let ended = try await Program.run(["stream", "video.mp4", "--server", "http://127.0.0.1:9", "--summary", "s.json"], in: workshop)
        #expect(ended.code == 69)
        let summary = try workshop.json("s.json")
        #expect(summary["ok"] as? Bool == false && (summary["failure"] as? String)?.contains("connection refused") == true)
    }

    @Test("Pictures come back, too, and an annotated file takes them as they are", arguments: ["mp4", "mkv", "avi"])
    func annotated(ending: String) async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let ended = try await stream(server, "video.mp4", "--annotated", "a.\(ending)", "--output", "both", "--quiet")
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(try workshop.pictures(in: "a.\(ending)") == 60)
            let jpeg = try await stream(server, "video.mp4", "--annotated", "b.\(ending)", "--image", "jpeg", "--image-quality", "60", "--quiet")
            #expect(jpeg.code == 0, "\(jpeg.errors)")
            #expect(try workshop.pictures(in: "b.\(ending)") == 60)
        }
    }
}
