import FrameTransport
import Glibc
import Hummingbird
package import Inference
public import Logging
import NIOCore
import NIOPosix
public import ServiceLifecycle
import WebRTC
import WebRTCNIO
import Wire

/// The server: signalling over HTTP, frames over WebRTC data channels, inference, results.
///
///     let server = try await EveryframeServer(configuration: .init())
///     try await ServiceGroup(services: [server], gracefulShutdownSignals: [.sigint, .sigterm], logger: logger).run()
public struct EveryframeServer: Service {
    private let configuration: ServerConfiguration
    private let log: Logger
    private let endpoint: UDPEndpoint
    private let pool: WorkPool
    private let hub: FrameHub
    private let metrics: MetricsExporter?
    private let registry: SessionRegistry
    private let predictor: Predictor
    private let onListening: @Sendable (_ port: Int) async -> Void

    /// Loads the model and binds the UDP port; what is wrong with either is thrown here, before anything is served.
    /// - Parameters:
    ///   - metrics: what `GET /metrics` answers with; nil: nothing does.
    ///   - onListening: told the HTTP port once it is open.
    public init(
        configuration: ServerConfiguration, metrics: MetricsExporter? = nil, logger: Logger? = nil,
        onListening: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
    ) async throws(ServerError) {
        let log = logger ?? Logger(label: "everyframe.server")
        let predictor = try await Predictor.load(configuration, logger: log)
        try await self.init(configuration, predictor, metrics, log, onListening)
    }

    /// With a model that the catalogue does not know, whatever the configuration names.
    package init(
        configuration: ServerConfiguration, model: any Model, logger: Logger, onListening: @escaping @Sendable (_ port: Int) async -> Void
    ) async throws(ServerError) {
        try await self.init(configuration, Predictor(model: model, batchWait: configuration.batchWait), nil, logger, onListening)
    }

    private init(
        _ configuration: ServerConfiguration, _ predictor: Predictor, _ metrics: MetricsExporter?, _ log: Logger,
        _ onListening: @escaping @Sendable (_ port: Int) async -> Void
    ) async throws(ServerError) {
        self.configuration = configuration
        self.predictor = predictor
        self.metrics = metrics
        self.log = log
        self.onListening = onListening
        await PeerConnection.prepare()
        do {
            var options = UDPEndpoint.Options()
            options.host = configuration.udpHost
            options.ports = configuration.udpPorts
            options.includeLoopback = true
            options.advertisedAddresses = configuration.advertisedAddresses
            endpoint = try await UDPEndpoint.bind(options)
        } catch {
            let ports = configuration.udpPorts
            let range = ports.count == 1 ? "port \(ports.lowerBound)" : "ports \(ports.lowerBound) to \(ports.upperBound)"
            throw ServerError(.cannotBind, "UDP \(configuration.udpHost ?? "on all interfaces"), \(range): \(Self.words(for: error))")
        }
        let threads = max(1, configuration.decodeThreads ?? System.coreCount)
        pool = WorkPool(threads: threads, name: "frames")
        let resources = PipelineResources(
            pool: pool, predictor: predictor, frames: configuration.limits.framesInPipeline, bytes: configuration.limits.pipelineBytes,
            // the least window of access units allows for so many
            pixelLimit: configuration.limits.pixels, threadsPerDecoder: min(threads, 8))
        hub = FrameHub(configuration: configuration, resources: resources, on: endpoint.eventLoop, logger: log)
        registry = SessionRegistry(configuration: configuration, endpoint: endpoint, resources: resources, hub: hub, logger: log)
    }

    /// Serves until the graceful shutdown of the service group, which finishes what is queued within the configured bound.
    public func run() async throws {
        let application = Application(
            responder: Routes(configuration: configuration, registry: registry, hub: hub, predictor: predictor, metrics: metrics, log: log).responder(),
            configuration: .init(address: .hostname(configuration.host, port: configuration.port), serverName: "everyframe"),
            onServerRunning: { [log, predictor, endpoint, onListening, host = configuration.host] channel in
                let port = channel.localAddress?.port ?? 0
                let addresses = endpoint.localAddresses.map { "\($0)" }.joined(separator: ", ")
                let name = host.contains(":") ? "[\(host)]" : host
                log.info(
                    "Listening on http://\(name):\(port); UDP \(addresses); model \(predictor.name), \(predictor.requestsInFlight) requests in flight")
                await onListening(port)
            },
            logger: httpLog)
        do {
            try await withGracefulShutdownHandler {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    // The sessions end while HTTP still answers: with 503 to whoever comes now.
                    group.addTask {
                        try? await gracefulShutdown()
                        await registry.shutDown()
                    }
                    group.addTask { try await application.run() }
                    // the first that fails ends the other
                    for try await _ in group {}
                }
            } onGracefulShutdown: {
                log.info("Shutting down")
            }
        } catch let error where error is IOError || error is SocketAddressError.UnknownHost {
            await close()
            throw ServerError(.cannotBind, "http://\(configuration.host):\(configuration.port): \(Self.words(for: error))")
        } catch {
            await close()
            throw error
        }
        await close()
    }

    /// Sessions that are open.
    package var sessionCount: Int { get async { await registry.count } }

    /// Of the jobs of `everyframe.v1`, with or without a connection.
    package var state: HubState { get async { await hub.state } }
    /// Of the sockets that all sessions share.
    var udpStatistics: UDPEndpoint.Statistics { get async { await endpoint.statistics() } }
    /// Of the first socket.
    package var udpPort: Int { endpoint.localAddresses.first.map { Int($0.port) } ?? 0 }

    private func close() async {
        await registry.shutDown()
        await endpoint.close()
        let pool = pool
        // it waits for what is at work
        try? await NIOThreadPool.singleton.runIfActive { pool.shutDown() }
    }

    private static func words(for error: any Error) -> String {
        switch error {
        case let error as IOError: String(cString: strerror(error.errnoCode)).lowercased()
        case SocketAddressError.failedToParseIPString: "that is no numeric address"
        case is SocketAddressError.UnknownHost: "there is no host of that name"
        case let error as PeerConnectionError: error.detail
        default: "\(error)"
        }
    }

    /// What the HTTP layer says of every connection is of no use at the level of what the sessions say.
    private var httpLog: Logger {
        var log = log
        if log.logLevel < .notice, log.logLevel > .debug { log.logLevel = .notice }
        return log
    }
}

/// Why a server cannot start.
public struct ServerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Grows with the server: compare, do not switch.
    public struct Code: Hashable, Sendable {
        private let name: String
        private init(_ name: String) { self.name = name }

        /// The address or port is not to be had.
        public static let cannotBind = Code("cannotBind")
        /// There is no model of that name, or it or its engine is not installed.
        public static let modelUnavailable = Code("modelUnavailable")
    }

    public var code: Code
    public var detail: String

    init(_ code: Code, _ detail: String) {
        self.code = code
        self.detail = detail
    }

    public var description: String { code == .cannotBind ? "cannot bind \(detail)" : detail }
}
