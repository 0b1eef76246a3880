import ArgumentParser
import EveryframeServer
import Foundation
import FrameTransport
import Logging
import ServiceLifecycle
import UnixSignals
import WebRTCNIO

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Answer the frames that clients send.",
        discussion: """
            Each option may also be given by the environment variable named with it. SIGINT and SIGTERM finish what is queued; a second one ends at once.

            \(ExitStatus.table)
            """)

    @Option(help: "HTTP address (EVERYFRAME_HOST; default 127.0.0.1).")
    var host: String?
    @Option(help: "HTTP port, 0 for any (EVERYFRAME_PORT; default 9001).")
    var port: Int?
    @Option(help: "Numeric address for UDP (EVERYFRAME_UDP_HOST; default: those of all interfaces).")
    var udpHost: String?
    @Option(help: "UDP port of all sessions, 0 for any, or a range to take a free one of, as 50000-50100 (EVERYFRAME_UDP_PORT; default 0).")
    var udpPort: PortsOption?
    @Option(
        name: .customLong("advertise-address"),
        help: ArgumentHelp(
            "Numeric address that clients are told in place of this machine's own, as behind a NAT that maps one to one; once for each family "
                + "(EVERYFRAME_ADVERTISE_ADDRESS, with commas; default: none).", valueName: "address"))
    var advertisedAddresses: [String] = []
    @Option(help: "Model id, path of a model file, or synthetic:MS (EVERYFRAME_MODEL). See 'everyframe models'.")
    var model: String?
    @Option(help: "Frames in the engine at once (EVERYFRAME_REQUESTS_IN_FLIGHT; default: the engine's choice).")
    var requestsInFlight: Int?
    @Option(help: "Frames of one batch, gathered over all sessions (EVERYFRAME_BATCH_SIZE; default 1; more gains on machines with many cores).")
    var batchSize: Int?
    @Option(help: "Milliseconds that a batch which is not full waits for more (EVERYFRAME_BATCH_WAIT; default 2).")
    var batchWait: Int?
    @Option(help: "Threads that decode pictures (EVERYFRAME_DECODE_THREADS; default: one a core).")
    var decodeThreads: Int?
    @Option(help: "Key that clients must show (EVERYFRAME_API_KEY, which keeps it out of process lists; default: none).")
    var apiKey: String?
    @Option(
        help:
            "STUN or TURN server that clients of the WHIP route are told: stun:HOST[:PORT] or turn:HOST[:PORT],USERNAME,CREDENTIAL; several parted by blanks (EVERYFRAME_ICE_SERVERS)."
    )
    var iceServers: String?
    @Option(
        help: """
            A STUN or TURN server that this server uses itself, stun:HOST[:PORT] or turn:HOST[:PORT],USERNAME,CREDENTIAL; may be given several times \
            (EVERYFRAME_RELAY_SERVERS, parted by blanks). All sessions share one allocation on each.
            """)
    var relayServer: [String] = []
    @OptionGroup
    var relay: RelayOptions
    @Option(help: "Sessions at once (EVERYFRAME_MAX_SESSIONS; default 64).")
    var maxSessions: Int?
    @Option(help: "Decoded frames of a session on their way to the answer (EVERYFRAME_PIPELINE_FRAMES; default 16).")
    var pipelineFrames: Int?
    @Option(help: "The same in MiB of pixels (EVERYFRAME_PIPELINE_MIB; default 256).")
    var pipelineMib: Int?
    @Option(help: "Frames of a job that a client may have sent without taking their answers (EVERYFRAME_WINDOW_FRAMES; default 64).")
    var windowFrames: Int?
    @Option(help: "MiB of a job's frames that wait here to be decoded (EVERYFRAME_WINDOW_MIB; default 64).")
    var windowMib: Int?
    @Option(help: "Seconds that a job is kept when its connection is lost (EVERYFRAME_RESUME_TIME; default 60).")
    var resumeTime: Int?
    @Option(help: "Seconds a session may last (EVERYFRAME_SESSION_TIMEOUT or WEBRTC_MODAL_FUNCTION_TIME_LIMIT; default: no limit).")
    var sessionTimeout: Int?
    @Option(help: "Seconds a session may be idle (EVERYFRAME_IDLE_TIMEOUT; default 60).")
    var idleTimeout: Int?
    @Option(help: "Seconds to finish what is queued when stopped (EVERYFRAME_DRAIN_TIMEOUT; default 10).")
    var drainTimeout: Int?
    @OptionGroup(title: "How connections behave")
    var transport: TransportOptions
    @Option(help: "trace, debug, info, notice, warning, error, critical (LOG_LEVEL; default info).")
    var logLevel: LogLevelOption?

    mutating func validate() throws { _ = try serverConfiguration() }

    func run() async throws {
        try Log.start(logLevel, default: .info)
        let log = Logger(label: "everyframe.server")
        Memory.keepFreed()
        let metrics = MetricsExporter.bootstrap()
        let configuration = serverConfigurationOrDefault()
        let server: EveryframeServer
        do throws(ServerError) {
            server = try await EveryframeServer(configuration: configuration, metrics: metrics, logger: log)
        } catch {
            log.critical("\(error)")
            throw ExitStatus(error).code
        }
        var group = ServiceGroupConfiguration(
            services: [.init(service: server)], gracefulShutdownSignals: [.sigint, .sigterm], logger: Log.silent)
        // the server keeps its own bound: once for the answers, once for the clients to take them
        group.maximumGracefulShutdownDuration = configuration.limits.drainTime * 2 + .seconds(10)
        let impatience = Task { await Self.endAtSecondSignal(log) }
        defer { impatience.cancel() }
        do {
            try await ServiceGroup(configuration: group).run()
        } catch {
            log.critical("The server ended: \(error)")
            throw ExitStatus.serverUnavailable.code
        }
        log.info("Goodbye")
    }

    /// The first signal lets what is queued be finished; whoever sends another does not want to wait for that.
    private static func endAtSecondSignal(_ log: Logger) async {
        var count = 0
        for await _ in await UnixSignalsSequence(trapping: .sigint, .sigterm) {
            count += 1
            guard count > 1 else { continue }
            log.warning("Ended at once by a second signal")
            Foundation.exit(ExitStatus.interrupted.rawValue)
        }
    }

    /// `validate()` has looked at it before.
    private func serverConfigurationOrDefault() -> ServerConfiguration {
        (try? serverConfiguration()) ?? ServerConfiguration()
    }

    private func serverConfiguration() throws -> ServerConfiguration {
        var configuration = ServerConfiguration()
        if let value = host ?? Environment.text("EVERYFRAME_HOST") { configuration.host = value }
        if let value = try port ?? Environment.value("EVERYFRAME_PORT") { configuration.port = try inRange(value, 0...65_535, "port") }
        try transport.apply(to: &configuration.peer)
        let relays = relayServer.isEmpty ? Environment.text("EVERYFRAME_RELAY_SERVERS")?.split(separator: " ").map(String.init) ?? [] : relayServer
        relay.apply(try relays.map { try .init($0, option: "--relay-server") }, to: &configuration.peer)
        do throws(PeerConnectionError) {
            try configuration.peer.validate()
        } catch {
            throw ValidationError("--relay-server: \(error.detail)")
        }
        configuration.udpHost = udpHost ?? Environment.text("EVERYFRAME_UDP_HOST")
        if let value = try udpPort ?? Environment.value("EVERYFRAME_UDP_PORT") { configuration.udpPorts = value.range }
        configuration.advertisedAddresses = advertisedAddresses
        if advertisedAddresses.isEmpty, let text = Environment.text("EVERYFRAME_ADVERTISE_ADDRESS") {
            configuration.advertisedAddresses = text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
        }
        if let value = model ?? Environment.text("EVERYFRAME_MODEL") { configuration.model = value }
        if let value = try requestsInFlight ?? Environment.value("EVERYFRAME_REQUESTS_IN_FLIGHT") {
            configuration.requestsInFlight = try inRange(value, 1...1024, "requests-in-flight")
        }
        if let value = try decodeThreads ?? Environment.value("EVERYFRAME_DECODE_THREADS") {
            configuration.decodeThreads = try inRange(value, 1...1024, "decode-threads")
        }
        configuration.apiKey = apiKey ?? Environment.text("EVERYFRAME_API_KEY")
        if let text = iceServers ?? Environment.text("EVERYFRAME_ICE_SERVERS") {
            configuration.iceServers = try text.split(separator: " ").map { try .init(String($0), option: "--ice-servers") }
        }
        if let value = try maxSessions ?? Environment.value("EVERYFRAME_MAX_SESSIONS") {
            configuration.limits.sessions = try inRange(value, 1...100_000, "max-sessions")
        }
        if let value = try pipelineFrames ?? Environment.value("EVERYFRAME_PIPELINE_FRAMES") {
            configuration.limits.framesInPipeline = try inRange(value, 1...1024, "pipeline-frames")
        }
        if let value = try batchSize ?? Environment.value("EVERYFRAME_BATCH_SIZE") { configuration.batchSize = try inRange(value, 1...1024, "batch-size") }
        if let value = try batchWait ?? Environment.value("EVERYFRAME_BATCH_WAIT") {
            configuration.batchWait = .milliseconds(try inRange(value, 0...10_000, "batch-wait"))
        }
        if let value = try pipelineMib ?? Environment.value("EVERYFRAME_PIPELINE_MIB") {
            configuration.limits.pipelineBytes = try inRange(value, 1...1 << 20, "pipeline-mib") << 20
        }
        if let value = try windowFrames ?? Environment.value("EVERYFRAME_WINDOW_FRAMES") {
            configuration.limits.job.framesInFlight = try inRange(value, 1...65_536, "window-frames")
        }
        if let value = try windowMib ?? Environment.value("EVERYFRAME_WINDOW_MIB") {
            configuration.limits.job.bytesInFlight = try inRange(value, 1...1 << 20, "window-mib") << 20
            configuration.limits.job.frameBytes = min(configuration.limits.job.frameBytes, configuration.limits.job.bytesInFlight)
        }
        if let value = try resumeTime ?? Environment.value("EVERYFRAME_RESUME_TIME") {
            configuration.limits.job.resumeLifetime = .seconds(try inRange(value, 0...86_400, "resume-time"))
        }
        if let value = try sessionTimeout ?? Environment.value("EVERYFRAME_SESSION_TIMEOUT", "WEBRTC_MODAL_FUNCTION_TIME_LIMIT") {
            configuration.limits.sessionTime = .seconds(try inRange(value, 1...31_536_000, "session-timeout"))
        }
        if let value = try idleTimeout ?? Environment.value("EVERYFRAME_IDLE_TIMEOUT") {
            configuration.limits.idleTime = .seconds(try inRange(value, 1...86_400, "idle-timeout"))
        }
        if let value = try drainTimeout ?? Environment.value("EVERYFRAME_DRAIN_TIMEOUT") {
            configuration.limits.drainTime = .seconds(try inRange(value, 0...3600, "drain-timeout"))
        }
        return configuration
    }
}

/// `PORT`, or `LOW-HIGH`.
struct PortsOption: ExpressibleByArgument {
    let range: ClosedRange<UInt16>

    init?(argument: String) {
        let ends = argument.split(separator: "-", omittingEmptySubsequences: false).map { UInt16($0) }
        guard ends.count <= 2, let low = ends.first.flatMap({ $0 }), let high = ends.last.flatMap({ $0 }), low < high && low > 0 || ends.count == 1 else {
            return nil
        }
        range = low...high
    }
}

/// A number within bounds, or a usage error.
func inRange(_ value: Int, _ range: ClosedRange<Int>, _ name: String) throws -> Int {
    guard range.contains(value) else { throw ValidationError("--\(name) \(value) is not between \(range.lowerBound) and \(range.upperBound)") }
    return value
}
