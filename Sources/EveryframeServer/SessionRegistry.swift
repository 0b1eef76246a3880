import Logging
import NIOCore
import WebRTC
import WebRTCNIO

/// A client's connection, from its offer to its end, whatever it speaks.
protocol ServedSession: Sendable {
    nonisolated var id: Int { get }
    /// Serves until the end; answers with a line for the log.
    func run() async -> String
    /// Ends it for a reason, in order where that is possible.
    func end(_ reason: SessionEnding) async
    /// Ends it at once, whatever it is waiting for.
    func abort() async
}

/// The sessions of a server: it starts, counts and ends them.
actor SessionRegistry {
    private let limits: ServerConfiguration.Limits
    private let endpoint: UDPEndpoint
    private let resources: PipelineResources
    private let hub: FrameHub
    private let log: Logger
    private var sessions: [Int: any ServedSession] = [:]
    /// Each belongs to the session of the same number and ends with it.
    private var tasks: [Int: Task<Void, Never>] = [:]
    private var lastID = 0
    private var pending = 0
    private var isShuttingDown = false

    init(limits: ServerConfiguration.Limits, endpoint: UDPEndpoint, resources: PipelineResources, hub: FrameHub, logger: Logger) {
        self.limits = limits
        self.endpoint = endpoint
        self.resources = resources
        self.hub = hub
        log = logger
    }

    var count: Int { sessions.count }

    /// Starts a session for a request and answers its offer.
    func open(_ request: WorkerRequest) async throws(HTTPFault) -> SessionDescription {
        guard !isShuttingDown else { throw .shuttingDown }
        guard sessions.count + pending < limits.sessions else { throw .tooManySessions(limit: limits.sessions) }
        pending += 1
        defer { pending -= 1 }
        var configuration = PeerConnection.Configuration()
        configuration.maxMessageSize = limits.messageBytes
        let connection: PeerConnection
        let answer: SessionDescription
        do {
            connection = try await PeerConnection(configuration: configuration, endpoint: endpoint, logger: log)
        } catch {
            throw .offer("No connection could be made: \(error)")
        }
        do {
            try await connection.setRemoteDescription(SessionDescription(kind: .offer, sdp: request.offer))
            try await connection.setLocalDescription(connection.createAnswer())
            answer = try await connection.gatheringComplete()
        } catch {
            await connection.close()
            throw .offer("The offer cannot be answered: \(error)")
        }
        guard !isShuttingDown else {
            await connection.close()
            throw .shuttingDown
        }
        lastID += 1
        switch request.frameProtocol {
        case .everyframe: start(V1Session(id: lastID, connection: connection, hub: hub, limits: limits, logger: log))
        case .prototype:
            start(
                FrameSession(
                    id: lastID, connection: connection, request: request, limits: limits, worker: FrameWorker(resources: resources), logger: log))
        }
        if request.frameProtocol == .prototype, request.outputMode == .both {
            log.warning("Session \(lastID): output_mode 'both' is served with data only: there are no media tracks yet")
        }
        return answer
    }

    private func start(_ session: any ServedSession) {
        sessions[session.id] = session
        ServerMetrics.sessionOpened(active: sessions.count)
        tasks[session.id] = Task {
            let line = await session.run()
            remove(session, line)
        }
    }

    private func remove(_ session: any ServedSession, _ line: String) {
        sessions[session.id] = nil
        tasks[session.id] = nil
        ServerMetrics.sessionEnded(active: sessions.count)
        log.info("\(line)")
    }

    /// Takes no more sessions, has those that run answer what they have, and ends at the latest after `drainTime` twice over:
    /// once for the answers, once for the clients to take them.
    func shutDown() async {
        isShuttingDown = true
        let open = Array(sessions.values)
        let running = Array(tasks.values)
        guard !open.isEmpty else { return }
        log.info("Shutting down: \(open.count) sessions finish what they have queued")
        let bound = limits.drainTime * 2
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                try? await Task.sleep(for: bound)
                // cancelled: all ended by themselves
                guard !Task.isCancelled else { return }
                for session in open { await session.abort() }
            }
            group.addTask {
                for session in open { await session.end(.shutdown) }
                for task in running { await task.value }
            }
            await group.next()
            group.cancelAll()
        }
    }
}
