import ArgumentParser
import EveryframeServer
import Foundation
import Logging
import ServiceLifecycle
import UnixSignals

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Answer the frames that clients send.",
        discussion: """
            Each option may also be given by the environment variable named with it. SIGINT and SIGTERM finish what is queued.

            \(ExitStatus.table)
            """)

    @Option(help: "HTTP address (EVERYFRAME_HOST; default 127.0.0.1).")
    var host: String?
    @Option(help: "HTTP port, 0 for any (EVERYFRAME_PORT; default 9001).")
    var port: Int?
    @Option(help: "Numeric address for UDP (EVERYFRAME_UDP_HOST; default: those of all interfaces).")
    var udpHost: String?
    @Option(help: "UDP port of all sessions, 0 for any (EVERYFRAME_UDP_PORT; default 0).")
    var udpPort: Int?
    @Option(help: "Model id, path of a model file, or synthetic:MS (EVERYFRAME_MODEL). See 'everyframe models'.")
    var model: String?
    @Option(help: "Frames in the engine at once (EVERYFRAME_REQUESTS_IN_FLIGHT; default: the engine's choice).")
    var requestsInFlight: Int?
    @Option(help: "Threads that decode pictures (EVERYFRAME_DECODE_THREADS; default: one a core).")
    var decodeThreads: Int?
    @Option(help: "Key that clients must show (EVERYFRAME_API_KEY, which keeps it out of process lists; default: none).")
    var apiKey: String?
    @Option(help: "Sessions at once (EVERYFRAME_MAX_SESSIONS; default 64).")
    var maxSessions: Int?
    @Option(help: "Frames of a session between network and answer (EVERYFRAME_PIPELINE_FRAMES; default 16).")
    var pipelineFrames: Int?
    @Option(help: "Seconds a session may last (EVERYFRAME_SESSION_TIMEOUT or WEBRTC_MODAL_FUNCTION_TIME_LIMIT; default: no limit).")
    var sessionTimeout: Int?
    @Option(help: "Seconds a session may be idle (EVERYFRAME_IDLE_TIMEOUT; default 60).")
    var idleTimeout: Int?
    @Option(help: "Seconds to finish what is queued when stopped (EVERYFRAME_DRAIN_TIMEOUT; default 10).")
    var drainTimeout: Int?
    @Option(help: "trace, debug, info, notice, warning, error, critical (LOG_LEVEL; default info).")
    var logLevel: LogLevelOption?

    mutating func validate() throws { _ = try serverConfiguration() }

    func run() async throws {
        try Log.start(logLevel, default: .info)
        let log = Logger(label: "everyframe.server")
        let server: EveryframeServer
        do throws(ServerError) {
            server = try await EveryframeServer(configuration: try serverConfigurationOrDefault(), logger: log)
        } catch {
            log.critical("\(error)")
            throw ExitStatus(error).code
        }
        var group = ServiceGroupConfiguration(
            services: [.init(service: server)], gracefulShutdownSignals: [.sigint, .sigterm], logger: Log.silent)
        group.maximumGracefulShutdownDuration = .seconds(60)
        do {
            try await ServiceGroup(configuration: group).run()
        } catch {
            log.critical("The server ended: \(error)")
            throw ExitStatus.serverUnavailable.code
        }
        log.info("Goodbye")
    }

    /// `validate()` has looked at it before.
    private func serverConfigurationOrDefault() throws(ServerError) -> ServerConfiguration {
        (try? serverConfiguration()) ?? ServerConfiguration()
    }

    private func serverConfiguration() throws -> ServerConfiguration {
        var configuration = ServerConfiguration()
        if let value = host ?? Environment.text("EVERYFRAME_HOST") { configuration.host = value }
        if let value = try port ?? Environment.value("EVERYFRAME_PORT") { configuration.port = try inRange(value, 0...65_535, "port") }
        configuration.udpHost = udpHost ?? Environment.text("EVERYFRAME_UDP_HOST")
        if let value = try udpPort ?? Environment.value("EVERYFRAME_UDP_PORT") { configuration.udpPort = try inRange(value, 0...65_535, "udp-port") }
        if let value = model ?? Environment.text("EVERYFRAME_MODEL") { configuration.model = value }
        if let value = try requestsInFlight ?? Environment.value("EVERYFRAME_REQUESTS_IN_FLIGHT") {
            configuration.requestsInFlight = try inRange(value, 1...1024, "requests-in-flight")
        }
        if let value = try decodeThreads ?? Environment.value("EVERYFRAME_DECODE_THREADS") {
            configuration.decodeThreads = try inRange(value, 1...1024, "decode-threads")
        }
        configuration.apiKey = apiKey ?? Environment.text("EVERYFRAME_API_KEY")
        if let value = try maxSessions ?? Environment.value("EVERYFRAME_MAX_SESSIONS") {
            configuration.limits.sessions = try inRange(value, 1...100_000, "max-sessions")
        }
        if let value = try pipelineFrames ?? Environment.value("EVERYFRAME_PIPELINE_FRAMES") {
            configuration.limits.framesInPipeline = try inRange(value, 1...1024, "pipeline-frames")
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

/// A number within bounds, or a usage error.
func inRange(_ value: Int, _ range: ClosedRange<Int>, _ name: String) throws -> Int {
    guard range.contains(value) else { throw ValidationError("--\(name) \(value) is not between \(range.lowerBound) and \(range.upperBound)") }
    return value
}
