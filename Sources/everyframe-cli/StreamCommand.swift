import ArgumentParser
import Everyframe
import Foundation
import FrameTransport
import Logging
import Media
import ServiceLifecycle
import UnixSignals
import WebRTCNIO

struct StreamCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stream", abstract: "Send every frame of videos to a server and bring every result back.",
        discussion: """
            VIDEO is a file, a pattern such as 'videos/*.mp4', rtsp://camera/stream, /dev/video0, a folder of pictures (JPEG, PNG; in order of
            their names), or - for standard input (--input-format). With several, --results, --csv, --coco and --annotated name folders,
            and each video has its own files there.

            \(ExitStatus.table)
            """)

    @Argument(help: "What to send.")
    var video: [String]
    @Option(help: "The server's URL (EVERYFRAME_SERVER; default http://127.0.0.1:9001).")
    var server: String?
    @Option(help: "Key for the server (EVERYFRAME_API_KEY).")
    var apiKey: String?

    @Option(
        help: """
            A STUN or TURN server, stun:HOST[:PORT] or turn:HOST[:PORT],USERNAME,CREDENTIAL; may be given several times (EVERYFRAME_ICE_SERVERS, parted by \
            blanks). An offer waits for it only where the server knows no WHIP.
            """)
    var iceServer: [String] = []

    @OptionGroup
    var relay: RelayOptions

    @OptionGroup(title: "How connections behave")
    var transport: TransportOptions
    @OptionGroup(title: "How frames travel")
    var travel: TravelOptions
    @OptionGroup(title: "Which frames")
    var choice: ChoiceOptions
    @OptionGroup(title: "What comes back")
    var output: OutputOptions

    @Option(help: "Go on with the job that another process began, by the token that it printed and with the same options; --results is continued.")
    var resume: String?
    @Option(help: "Connections, for several videos.")
    var pool: Int = 2
    @Option(help: "Videos at the same time.")
    var parallel: Int = 4
    @Option(help: "Seconds that a lost connection is sought again.")
    var resumeTimeout: Int = 60
    @Option(help: "Seconds without any answer until the job counts as lost.")
    var stallTimeout: Int = 60
    @Flag(name: .shortAndLong, help: "No progress and no table.")
    var quiet = false
    @Option(help: "trace, debug, info, notice, warning, error, critical (LOG_LEVEL; default warning).")
    var logLevel: LogLevelOption?

    mutating func validate() throws {
        try travel.check(isStandardInput: video.contains("-"))
        var peer = PeerConnection.Configuration()
        try transport.apply(to: &peer)
        _ = try iceServers()
        try output.check(isSeveral: Self.expanded(video).count > 1)
        do throws(StreamError) {
            try streamConfiguration().validate()
        } catch {
            throw ValidationError(error.detail)
        }
        _ = try inRange(stallTimeout, 1...86_400, "stall-timeout")
        _ = try inRange(resumeTimeout, 0...86_400, "resume-timeout")
        _ = try inRange(pool, 1...64, "pool")
        _ = try inRange(parallel, 1...256, "parallel")
        try choice.check()
        if resume != nil {
            guard Self.expanded(video).count == 1 else { throw ValidationError("--resume goes on with one video") }
            guard output.csv == nil, output.coco == nil, output.annotated == nil else {
                throw ValidationError("--resume can continue --results only: the other files would lack what came before")
            }
            switch choice.drop?.policy {
            case .latest, .maximumLag: throw ValidationError("--resume needs the same frames again, which --drop latest and max-lag do not choose")
            case .all, .everyNth, .maximumRate, nil: break
            }
        }
    }

    func run() async throws {
        try Log.start(logLevel, default: .warning)
        Memory.keepFreed()
        let runner = StreamRunner(
            videos: Self.expanded(video), configuration: streamConfiguration(), range: choice.range, inputFormat: travel.inputFormat, files: output.files,
            pool: pool, parallel: parallel, isQuiet: quiet)
        let status = StatusBox()
        let service = ClosureService { await status.set(runner.run()) }
        // The first signal cancels the stream, which says goodbye to the server; the group ends with it.
        let group = ServiceGroup(
            configuration: .init(
                services: [.init(service: service, successTerminationBehavior: .gracefullyShutdownGroup, failureTerminationBehavior: .gracefullyShutdownGroup)],
                cancellationSignals: [.sigint, .sigterm], logger: Log.silent))
        try? await group.run()
        if let code = await status.status?.code { throw code }
    }

    private func streamConfiguration() -> StreamConfiguration {
        var configuration = StreamConfiguration(server: server ?? Environment.text("EVERYFRAME_SERVER") ?? "http://127.0.0.1:9001")
        configuration.apiKey = apiKey ?? Environment.text("EVERYFRAME_API_KEY")
        // `validate()` has looked at it before
        try? transport.apply(to: &configuration.peer)
        relay.apply((try? iceServers()) ?? [], to: &configuration.peer)
        travel.apply(to: &configuration)
        choice.apply(to: &configuration)
        output.apply(to: &configuration)
        configuration.resume = resume.map { ResumeTicket($0) ?? ResumeTicket(token: $0, taken: 0) }
        configuration.timeouts.stall = .seconds(stallTimeout)
        configuration.timeouts.resume = .seconds(resumeTimeout)
        return configuration
    }

    private func iceServers() throws -> [PeerConnection.IceServer] {
        let variable = Environment.text("EVERYFRAME_ICE_SERVERS")?.split(separator: " ").map(String.init) ?? []
        return try (iceServer.isEmpty ? variable : iceServer).map { try .init($0, option: "--ice-server") }
    }

    /// Patterns that the shell left alone.
    private static func expanded(_ names: [String]) -> [String] {
        names.flatMap { name -> [String] in
            guard name.contains(where: { "*?[".contains($0) }), !FileManager.default.fileExists(atPath: name) else { return [name] }
            var found = glob_t()
            defer { globfree(&found) }
            guard glob(name, 0, nil, &found) == 0 else { return [name] }
            return (0..<Int(found.gl_pathc)).compactMap { found.gl_pathv[$0].map { String(cString: $0) } }
        }
    }
}

struct TravelOptions: ParsableArguments {
    @Option(help: "Messages on the data channels: everyframe or prototype.")
    var wire: WireOption = .everyframe
    @Option(help: "How frames are packed: source (as they are stored), jpeg, png or raw. Default: source, and jpeg on the prototype's wire.")
    var encoding: EncodingOption?
    @Option(help: "JPEG quality, 1 to 100 (default 85); alone it means --encoding jpeg.")
    var quality: Int?
    @Option(help: "Pixels of raw frames: i420, nv12 or bgr24 (default i420).")
    var pixelFormat: PixelFormatOption?
    @Option(help: "Compression of raw frames: none, lz4 or zstd (default none).")
    var compression: CompressionOption?
    @Option(help: "Frames sent and not answered, at most (default: what the server allows; 32 on the prototype's wire).")
    var window: Int?
    @Option(help: "What standard input is: mjpeg, yuv4mpegpipe, mpegts, … (default: told from its first bytes).")
    var inputFormat: String?
    @Flag(help: "Control messages and results as JSON instead of MessagePack, for looking at the wire.")
    var jsonMessages = false

    /// What would have no effect is a mistake.
    func check(isStandardInput: Bool) throws {
        if quality != nil, let encoding, encoding != .jpeg { throw ValidationError("--quality is for --encoding jpeg, not for \(encoding.rawValue)") }
        if encoding != .raw {
            if pixelFormat != nil { throw ValidationError("--pixel-format is for --encoding raw") }
            if compression != nil { throw ValidationError("--compression is for --encoding raw") }
        }
        if let inputFormat {
            guard isStandardInput else { throw ValidationError("--input-format is for standard input (-)") }
            guard MediaLocation.knows(container: inputFormat) else {
                throw ValidationError("--input-format \(inputFormat) is no container; try mjpeg, yuv4mpegpipe, mpegts, matroska, h264, …")
            }
        }
    }

    func apply(to configuration: inout StreamConfiguration) {
        configuration.wire = wire == .prototype ? .prototype : .everyframe
        let quality = quality ?? StreamConfiguration.defaultQuality
        switch encoding {
        case nil: break
        case .source: configuration.encoding = .source
        case .jpeg: configuration.encoding = .jpeg(quality: quality)
        case .png: configuration.encoding = .png
        case .raw: configuration.encoding = .raw(pixelFormat?.format ?? .i420, compression?.compression)
        }
        if encoding == nil, self.quality != nil { configuration.encoding = .jpeg(quality: quality) }
        configuration.window = window
        configuration.messageFormat = jsonMessages ? .json : .messagePack
    }

    enum WireOption: String, ExpressibleByArgument, CaseIterable { case everyframe, prototype }
    enum EncodingOption: String, ExpressibleByArgument, CaseIterable { case source, jpeg, png, raw }
    enum PixelFormatOption: String, ExpressibleByArgument, CaseIterable {
        case i420, nv12, bgr24

        var format: FrameTransport.PixelFormat {
            switch self {
            case .i420: .i420
            case .nv12: .nv12
            case .bgr24: .bgr24
            }
        }
    }
    enum CompressionOption: String, ExpressibleByArgument, CaseIterable {
        case none, lz4, zstd

        var compression: Compression? {
            switch self {
            case .none: nil
            case .lz4: .lz4
            case .zstd: .zstd
            }
        }
    }
}

struct ChoiceOptions: ParsableArguments {
    @Option(help: "all, latest, max-lag=MILLISECONDS, every-nth=N or max-fps=RATE (default: all of a file, latest of a camera).")
    var drop: DropOption?
    @Option(help: "Begin at this second of the video.")
    var start: Double?
    @Option(help: "End before this second of the video.")
    var end: Double?
    @Option(help: "Of the frames, the first of each so many is answered.")
    var stride: Int = 1
    @Option(help: "Stop after so many frames.")
    var frames: Int?

    var range: VideoSource.Range { VideoSource.Range(start: start, end: end) }

    func check() throws {
        if let start { guard start >= 0, start.isFinite else { throw ValidationError("--start \(start) is not a time") } }
        if let end { guard end > start ?? 0, end.isFinite else { throw ValidationError("--end \(end) is not after the start") } }
    }

    func apply(to configuration: inout StreamConfiguration) {
        configuration.dropPolicy = drop?.policy
        configuration.stride = stride
        configuration.frameLimit = frames
    }
}

struct DropOption: ExpressibleByArgument {
    let policy: DropPolicy

    init?(argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
        switch (parts.first, parts.count > 1 ? Double(parts[1]) : nil) {
        case ("all", nil) where parts.count == 1: policy = .all
        case ("latest", nil) where parts.count == 1: policy = .latest
        case ("max-lag", let value?) where value > 0 && value < 1e9: policy = .maximumLag(.microseconds(Int64(value * 1000)))
        case ("every-nth", let value?) where value >= 1 && value < 1e9 && value == value.rounded(): policy = .everyNth(Int(value))
        case ("max-fps", let value?) where value > 0 && value < 1e6: policy = .maximumRate(value)
        default: return nil
        }
    }
}

struct OutputOptions: ParsableArguments {
    @Option(help: "data, video (the picture with what was found drawn in) or both.")
    var output: OutputOption = .data
    @Option(help: "How pictures come back: jpeg or h264.")
    var image: ImageOption?
    @Option(help: "Quality of those: 1 to 100 for jpeg (default 85), 0 to 51 for h264, smaller is better (default 23).")
    var imageQuality: Int?
    @Option(help: "Which outputs: all, none, or names separated by commas.")
    var dataOutput: String = "all"
    @Option(help: "Write one JSON result a line here; - is standard output.")
    var results: String?
    @Option(help: "Write detections as comma-separated values here.")
    var csv: String?
    @Option(help: "Write detections in COCO's format here.")
    var coco: String?
    @Option(help: "Write the video with the detections drawn in here, with the source's timing.")
    var annotated: String?
    @Option(help: "Write what came of it here, as JSON.")
    var summary: String?

    func check(isSeveral: Bool) throws {
        if output == .data, annotated == nil {
            if image != nil { throw ValidationError("--image is for --output video or both, or for --annotated") }
            if imageQuality != nil { throw ValidationError("--image-quality is for --output video or both, or for --annotated") }
        }
        let outputs = [("--results", results), ("--csv", csv), ("--coco", coco), ("--annotated", annotated), ("--summary", summary)]
        for (index, (name, path)) in outputs.enumerated() {
            guard let path else { continue }
            if path.isEmpty { throw ValidationError("\(name) names no file") }
            if path == "-", name == "--annotated" { throw ValidationError("--annotated needs a file: a video cannot go to standard output") }
            if path == "-", isSeveral, name != "--summary" {
                throw ValidationError("with several videos \(name) is a folder: they cannot share standard output")
            }
            // in a folder each has files of its own
            if isSeveral, path != "-" { continue }
            if let other = outputs[..<index].first(where: { $0.1 == path }) { throw ValidationError("\(other.0) and \(name) cannot both go to \(path)") }
        }
    }

    var files: OutputFiles { OutputFiles(results: results, csv: csv, coco: coco, annotated: annotated, summary: summary) }

    func apply(to configuration: inout StreamConfiguration) {
        // a video file takes H.264 as it is
        let format: StreamConfiguration.ImageFormat =
            switch image ?? (annotated != nil ? .h264 : .jpeg) {
            case .jpeg: .jpeg(quality: imageQuality ?? 85)
            case .h264: .h264(quality: imageQuality ?? 23)
            }
        switch output {
        case .data: configuration.output = annotated != nil && configuration.wire == .everyframe ? .both(format) : .data
        case .video: configuration.output = .video(format)
        case .both: configuration.output = .both(format)
        }
        switch dataOutput {
        case "all": configuration.dataOutput = .all
        case "none": configuration.dataOutput = .none
        default:
            configuration.dataOutput = .named(
                dataOutput.split(separator: ",", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) })
        }
    }

    enum OutputOption: String, ExpressibleByArgument, CaseIterable { case data, video, both }
    enum ImageOption: String, ExpressibleByArgument, CaseIterable { case jpeg, h264 }
}

/// What the process will say when it ends.
private actor StatusBox {
    private(set) var status: ExitStatus?
    func set(_ status: ExitStatus?) { self.status = status }
}

private struct ClosureService: Service {
    let body: @Sendable () async -> Void
    func run() async throws { await body() }
}
