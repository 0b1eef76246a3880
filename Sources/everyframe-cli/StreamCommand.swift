import ArgumentParser
import Everyframe
import Foundation
import FrameTransport
import Logging
import ServiceLifecycle
import UnixSignals

struct StreamCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stream", abstract: "Send every frame of a video to a server and bring every result back.",
        discussion: ExitStatus.table)

    @Argument(help: "A video file.")
    var video: String
    @Option(help: "The server's URL (EVERYFRAME_SERVER; default http://127.0.0.1:9001).")
    var server: String?
    @Option(help: "Messages on the data channels: prototype.")
    var wire: WireOption = .prototype
    @Option(help: "How frames travel: data-channel.")
    var transport: TransportOption = .dataChannel
    @Option(help: "How frames are packed: jpeg or png.")
    var encoding: EncodingOption = .jpeg
    @Option(help: "JPEG quality, 1 to 100.")
    var quality: Int = 85
    @Option(help: "What comes back: data.")
    var output: OutputOption = .data
    @Option(help: "Which outputs: all, none, or names separated by commas.")
    var dataOutput: String = "all"
    @Option(help: "Write one JSON result a line here; - is standard output.")
    var results: String?
    @Option(help: "Write the video with the detections drawn in here.")
    var annotated: String?
    @Option(help: "Write what came of it here, as JSON.")
    var summary: String?
    @Option(help: "Key for the server (EVERYFRAME_API_KEY).")
    var apiKey: String?
    @Option(help: "Stop after so many frames.")
    var frames: Int?
    @Option(help: "Frames sent and not answered, at most.")
    var window: Int = 32
    @Option(help: "Seconds without any answer until the connection counts as lost.")
    var stallTimeout: Int = 60
    @Flag(name: .shortAndLong, help: "No progress and no table.")
    var quiet = false
    @Option(help: "trace, debug, info, notice, warning, error, critical (LOG_LEVEL; default warning).")
    var logLevel: LogLevelOption?

    mutating func validate() throws {
        do throws(StreamError) {
            try streamConfiguration().validate()
        } catch {
            throw ValidationError(error.detail)
        }
        _ = try inRange(stallTimeout, 1...86_400, "stall-timeout")
    }

    func run() async throws {
        try Log.start(logLevel, default: .warning)
        let job = StreamRunner(
            video: video, configuration: streamConfiguration(), results: results, annotated: annotated, summary: summary, isQuiet: quiet)
        let status = StatusBox()
        let service = ClosureService { await status.set(job.run()) }
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
        switch wire {
        case .prototype: configuration.wire = .prototype
        }
        configuration.encoding = encoding == .png ? .png : .jpeg(quality: quality)
        switch dataOutput {
        case "all": configuration.dataOutput = .all
        case "none": configuration.dataOutput = .none
        default:
            configuration.dataOutput = .named(
                dataOutput.split(separator: ",", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) })
        }
        configuration.apiKey = apiKey ?? Environment.text("EVERYFRAME_API_KEY")
        configuration.frameLimit = frames
        configuration.window = window
        configuration.timeouts.stall = .seconds(stallTimeout)
        return configuration
    }

    enum WireOption: String, ExpressibleByArgument, CaseIterable { case prototype }
    enum TransportOption: String, ExpressibleByArgument, CaseIterable { case dataChannel = "data-channel" }
    enum EncodingOption: String, ExpressibleByArgument, CaseIterable { case jpeg, png }
    enum OutputOption: String, ExpressibleByArgument, CaseIterable { case data }
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
