import Foundation
import Testing

/// What is wrong shows before anything is sent, in words that say what is right.
@Suite(.timeLimit(.minutes(3))) struct UsageTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    struct Mistake: CustomTestStringConvertible, Sendable {
        var arguments: String
        var words: String
        var testDescription: String { arguments }

        init(_ arguments: String, _ words: String) { (self.arguments, self.words) = (arguments, words) }
    }

    static let mistakes = [
        Mistake("--drop fast", "all, latest, max-lag=MILLISECONDS, every-nth=N or max-fps=RATE"),
        Mistake("--drop every-nth=0", "every-nth=N"),
        Mistake("--drop every-nth=2.5", "every-nth=N"),
        Mistake("--drop max-fps", "max-fps=RATE"),
        Mistake("--drop all=1", "all, latest"),
        Mistake("--stride 0", "a stride of 0 is not positive"),
        Mistake("--stride x", "The value 'x' is invalid for '--stride <stride>'"),
        Mistake("--stride 2 --drop latest --encoding jpeg", "a stride and a drop policy exclude each other"),
        Mistake("--start 3 --end 2", "--end 2.0 is not after the start"),
        Mistake("--start=-1", "--start -1.0 is not a time"),
        Mistake("--end 0", "--end 0.0 is not after the start"),
        Mistake("--start nan", "--start nan is not a time"),
        Mistake("--frames 0", "a limit of 0 frames leaves none"),
        Mistake("--window 0", "the window must hold at least one frame"),
        Mistake("--resume 00000000000000000000000000000000 --csv x.csv", "--resume can continue --results only"),
        Mistake("--resume 00000000000000000000000000000000 --drop latest --encoding jpeg", "--resume needs the same frames again"),
        Mistake("--resume 00000000000000000000000000000000 other.mp4", "--resume goes on with one video"),
        Mistake("--resume XYZ", "'XYZ' is no token of a job"),
        Mistake("--wire prototype --encoding source", "the prototype's wire carries JPEG and PNG only"),
        Mistake("--wire prototype --output video", "the prototype's wire brings no pictures back"),
        Mistake("--wire prototype --resume 00000000000000000000000000000000", "a job of the prototype's wire cannot go on in another process"),
        Mistake("--wire http", "'everyframe' and 'prototype'"),
        Mistake("--encoding gif", "'source', 'jpeg', 'png' or 'raw'"),
        Mistake("--quality 0", "a JPEG quality of 0 is not between 1 and 100"),
        Mistake("--quality 50 --encoding png", "--quality is for --encoding jpeg, not for png"),
        Mistake("--pixel-format rgb --encoding raw", "'i420', 'nv12' or 'bgr24'"),
        Mistake("--pixel-format nv12", "--pixel-format is for --encoding raw"),
        Mistake("--compression gzip --encoding raw", "'none', 'lz4' or 'zstd'"),
        Mistake("--compression lz4 --encoding jpeg", "--compression is for --encoding raw"),
        Mistake("--input-format mjpeg", "--input-format is for standard input (-)"),
        Mistake("--output all", "'data', 'video' or 'both'"),
        Mistake("--image gif --output both", "'jpeg' and 'h264'"),
        Mistake("--image jpeg", "--image is for --output video or both, or for --annotated"),
        Mistake("--image-quality 300", "--image-quality is for --output video or both, or for --annotated"),
        Mistake("--image-quality 300 --output both", "a JPEG quality of 300 is not between 1 and 100"),
        Mistake("--image-quality 52 --annotated a.mp4", "an H.264 quality of 52 is not between 0 and 51"),
        Mistake("--data-output a,,b", "an output has no name"),
        Mistake("--pool 0", "--pool 0 is not between 1 and 64"),
        Mistake("--parallel 0", "--parallel 0 is not between 1 and 256"),
        Mistake("--resume-timeout=-1", "--resume-timeout -1 is not between 0 and 86400"),
        Mistake("--stall-timeout 0", "--stall-timeout 0 is not between 1 and 86400"),
        Mistake("--log-level loud", "trace, debug, info, notice, warning, error, critical"),
        Mistake("--server nonsense", "'nonsense' is not the http or https URL of a server"),
        Mistake("--annotated -", "--annotated needs a file: a video cannot go to standard output"),
        Mistake("--results x --csv x", "--results and --csv cannot both go to x"),
        Mistake("other.mp4 --results -", "with several videos --results is a folder"),
    ]

    @Test("A wrong option of `stream` is told with what is right", arguments: mistakes)
    func stream(_ mistake: Mistake) async throws {
        try workshop.write(Data("never read".utf8), as: "video.mp4")
        let arguments = ["stream", "video.mp4"] + mistake.arguments.split(separator: " ").map(String.init)
        let ended = try await Program.run(arguments, in: workshop)
        #expect(ended.code == 64, "\(ended.errors)")
        #expect(ended.errors.contains(mistake.words), "\(ended.errors)")
        #expect(ended.output.isEmpty)
    }

    @Test("What only a file has is not asked of others")
    func sources() async throws {
        try workshop.video("video.mp4", frames: 3)
        try FileManager.default.createDirectory(atPath: workshop.file("pictures"), withIntermediateDirectories: true)
        try workshop.ffmpeg(["-i", workshop.file("video.mp4"), workshop.file("pictures/%d.jpg")])
        let folder = try await Program.run(["stream", "pictures", "--start", "1"], in: workshop)
        #expect(folder.code == 64 && folder.errors.contains("--start and --end are for video files, not for folders"), "\(folder.errors)")
        let camera = try await Program.run(["stream", "rtsp://127.0.0.1:9/x", "--resume", String(repeating: "0", count: 32)], in: workshop)
        #expect(camera.code == 64 && camera.errors.contains("--resume needs the same frames again, which cameras do not give"), "\(camera.errors)")
        let units = try await Program.run(["stream", "video.mp4", "--drop", "every-nth=2"], in: workshop)
        #expect(units.code == 64)
        #expect(units.errors.contains("frames of a stream whose pictures refer to each other cannot be left out one by one"), "\(units.errors)")
        let container = try await Program.run(["stream", "-", "--input-format", "video"], in: workshop)
        #expect(container.code == 64 && container.errors.contains("--input-format video is no container; try mjpeg, "), "\(container.errors)")
    }

    @Test(
        "A wrong option of `serve` is told with what is right",
        arguments: [
            ("--port 99999", 64, "--port 99999 is not between 0 and 65535"), ("--decode-threads 0", 64, "--decode-threads 0 is not between 1 and 1024"),
            ("--port 0 --model nosuch", 66, "there is no model 'nosuch'; known are people-ssdlite, synthetic:MS, or the path of a model file"),
            ("--port 0 --model synthetic:soon", 66, "there is no model 'synthetic:soon'"),
            ("--port 0 --model ./model.xml", 66, "the model ./model.xml cannot be read: there is no such file"),
            ("--port 0 --model synthetic --udp-host nonsense", 69, "cannot bind UDP nonsense, port 0: that is no numeric address"),
            ("--port 0 --model synthetic --host nosuch.invalid", 69, "cannot bind http://nosuch.invalid:0: there is no host of that name"),
        ])
    func serve(arguments: String, code: Int32, words: String) async throws {
        let ended = try await Program.run(["serve"] + arguments.split(separator: " ").map(String.init), in: workshop, within: 30)
        #expect(ended.code == code, "\(ended.errors)")
        #expect(ended.errors.contains(words), "\(ended.errors)")
    }

    @Test("Two servers cannot have one port")
    func portTaken() async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let second = try await Program.run(["serve", "--port", "\(server.port)", "--model", "synthetic:0"], in: workshop)
            #expect(second.code == 69)
            #expect(second.errors.contains("cannot bind http://127.0.0.1:\(server.port): address already in use"), "\(second.errors)")
        }
    }

    @Test("A variable of the environment is told by its name")
    func environment() async throws {
        let ended = try await Program.run(["serve"], in: workshop, environment: ["EVERYFRAME_PORT": "http"])
        #expect(ended.code == 64)
        #expect(ended.errors.contains("The environment variable EVERYFRAME_PORT has the value 'http', which is not valid"), "\(ended.errors)")
    }

    @Test("The help names every exit code that there is")
    func help() async throws {
        let ended = try await Program.run(["help", "stream"], in: workshop)
        #expect(ended.code == 0)
        for code in ["0 ", "1 ", "64", "66", "69", "70", "73", "74", "75", "76", "77", "130"] { #expect(ended.output.contains(code)) }
    }
}
