import FrameTransport
import Logging
import NIOCore
import WebRTC
import WebRTCNIO

/// A client's connection, from its offer to its end, whatever it speaks.
protocol ServedSession: Sendable {
    nonisolated var id: Int { get }
    nonisolated var connection: PeerConnection { get }
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
    private let peer: PeerConnection.Configuration
    private let endpoint: UDPEndpoint
    private let resources: PipelineResources
    private let hub: FrameHub
    private let log: Logger
    private var sessions: [Int: any ServedSession] = [:]
    /// Each belongs to the session of the same number and ends with it.
    private var tasks: [Int: Task<Void, Never>] = [:]
    /// The sessions that were opened over WHIP, by the last part of their resource's path. Each goes with its session.
    private var whip: [String: WhipSession] = [:]
    private var lastID = 0
    private var pending = 0
    private var isShuttingDown = false

    init(configuration: ServerConfiguration, endpoint: UDPEndpoint, resources: PipelineResources, hub: FrameHub, logger: Logger) {
        limits = configuration.limits
        peer = configuration.peer
        self.endpoint = endpoint
        self.resources = resources
        self.hub = hub
        log = logger
    }

    var count: Int { sessions.count }

    /// The numbers of the sessions that are open.
    var numbers: [Int] { sessions.keys.sorted() }

    /// What the connection of a session counts and measures; nil where there is no such session.
    func stats(of number: Int) async -> StatsReport? { await sessions[number]?.connection.getStats() }

    /// Starts a session for a request and answers its offer, with all candidates: its client takes none later.
    func open(_ request: WorkerRequest) async throws(HTTPFault) -> SessionDescription {
        try reserve()
        defer { pending -= 1 }
        let connection = try await connect(request.offer)
        let answer: SessionDescription
        do {
            answer = try await connection.gatheringComplete()
        } catch {
            await connection.close()
            throw .offer("The offer cannot be answered: \(error)")
        }
        let id = try await admit(connection)
        switch request.frameProtocol {
        case .everyframe: start(V1Session(id: id, connection: connection, hub: hub, limits: limits, logger: log))
        case .prototype:
            start(
                FrameSession(id: id, connection: connection, request: request, limits: limits, worker: FrameWorker(resources: resources), logger: log))
        }
        if request.frameProtocol == .prototype, request.outputMode == .both {
            log.warning("Session \(id): output_mode 'both' is served with data only: there are no media tracks yet")
        }
        return answer
    }

    /// Starts a session of `everyframe.v1` for an offer and answers it at once, with the candidates that need no asking. Where this server uses
    /// STUN or TURN servers itself it waits for what they say, for a bounded time: it has no way to tell a client later (RFC 9725 §4.3.1).
    func openWhip(_ offer: String) async throws(HTTPFault) -> WhipSession {
        try reserve()
        defer { pending -= 1 }
        let connection = try await connect(offer)
        if !peer.iceServers.isEmpty { _ = try? await connection.gatheringComplete() }
        guard let answer = await connection.localDescription, let fragment = await connection.localFragment else {
            await connection.close()
            throw .offer("The offer cannot be answered: the connection is over")
        }
        let id = try await admit(connection)
        let token = Hex64.text(.random(in: 0 ... .max)) + Hex64.text(.random(in: 0 ... .max))
        let session = WhipSession(id: id, token: token, tag: WhipSession.tag(of: fragment), answer: answer, connection: connection)
        whip[token] = session
        start(V1Session(id: id, connection: connection, hub: hub, limits: limits, logger: log))
        return session
    }

    func whipSession(_ token: String) -> WhipSession? { whip[token] }

    /// ICE was restarted.
    func renewTag(of token: String, _ fragment: TrickleFragment) -> String? {
        whip[token]?.tag = WhipSession.tag(of: fragment)
        return whip[token]?.tag
    }

    /// The client says goodbye; false: there is no such session.
    func endWhip(_ token: String) async -> Bool {
        guard let session = whip.removeValue(forKey: token) else { return false }
        await sessions[session.id]?.end(.completed)
        return true
    }

    /// A place for one more; the caller gives it back in `pending` when its session has started, or could not.
    private func reserve() throws(HTTPFault) {
        guard !isShuttingDown else { throw .shuttingDown }
        guard sessions.count + pending < limits.sessions else { throw .tooManySessions(limit: limits.sessions) }
        pending += 1
    }

    /// The connection for an offer, with the local description set.
    private func connect(_ offer: String) async throws(HTTPFault) -> PeerConnection {
        var configuration = peer
        configuration.maxMessageSize = limits.messageBytes
        let connection: PeerConnection
        do {
            connection = try await PeerConnection(configuration: configuration, endpoint: endpoint, logger: log)
        } catch {
            throw .offer("No connection could be made: \(error)")
        }
        do {
            try await connection.setRemoteDescription(SessionDescription(kind: .offer, sdp: offer))
            try await connection.setLocalDescription(connection.createAnswer())
        } catch {
            await connection.close()
            throw .offer("The offer cannot be answered: \(error)")
        }
        return connection
    }

    /// The number of a new session, unless the server has begun to end meanwhile.
    private func admit(_ connection: PeerConnection) async throws(HTTPFault) -> Int {
        guard !isShuttingDown else {
            await connection.close()
            throw .shuttingDown
        }
        lastID += 1
        return lastID
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
        whip = whip.filter { $0.value.id != session.id }
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
