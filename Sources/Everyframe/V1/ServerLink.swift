import FrameLink
import FrameTransport
import Logging
import NIOCore
import NIOPosix
import WebRTC
import WebRTCNIO
import Wire

/// A client's way to a server, for as long as its jobs live: when a connection is lost it makes another one, and the jobs go on.
///
///     idle ── open ──► connecting ── hello ──► ready ── lost, with jobs ──► connecting … ── too long ──► failed
///       ▲                                        │
///       └────────────── lost, without jobs ──────┘
///
/// It lives on one event loop with all of its connections.
actor ServerLink {
    typealias JobKey = ClientConnection.JobKey

    nonisolated let eventLoop: any EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.executor.asUnownedSerialExecutor() }

    private enum Phase {
        case idle
        case connecting(Task<Void, Never>)
        case ready
        case failed(StreamError)
    }

    private struct Connected {
        let peer: PeerConnection
        let control: DataChannel
        let bulk: DataChannel
        let whip: WhipClient?
    }

    /// What a job was told and has not read.
    private final class Inbox {
        var events = CircularBuffer<FrameSender.Event>()
        var reader: CheckedContinuation<Void, Never>?
        /// Waits for room.
        var writer: CheckedContinuation<Void, Never>?
        var isOver = false
    }

    private let configuration: StreamConfiguration
    private let settings: TransportSettings
    private let declaredFPS: Double?
    private let log: Logger
    private var phase = Phase.idle
    private var connected: Connected?
    /// Tells what a lost connection still brings from what the next one does.
    private var generation = 0
    private var inboxes: [JobKey: Inbox] = [:]
    private var lostAt: Instant?
    /// Connections that the server or we gave up since the last answer: a pair that does not understand each other is not tried for ever.
    private var failures = 0
    private(set) var reconnections = 0
    private(set) var setupTime: Duration?
    private lazy var link = EngineLink(
        ClientConnection(settings: settings, agent: "everyframe", format: configuration.messageFormat), on: eventLoop
    ) { [weak self] in self?.assumeIsolated { $0.turn() } }

    init(configuration: StreamConfiguration, declaredFPS: Double? = nil, isLive: Bool = false, logger: Logger) {
        self.configuration = configuration
        self.declaredFPS = declaredFPS
        var settings = TransportSettings()
        // a live source's frame is encoded only when it can leave
        if isLive { settings.readAhead = 0 }
        self.settings = settings
        log = logger
        eventLoop = MultiThreadedEventLoopGroup.singleton.next()
    }

    // MARK: Jobs

    /// A new job, or one that another process began; connects where there is no connection.
    /// - Throws: why there is none to be had.
    func open(_ request: JobRequest, resuming ticket: ResumeTicket?) async throws(StreamError) -> JobKey {
        if case .failed(let error) = phase { throw error }
        // a connection may be lost while we wait for our turn
        while case .idle = phase { try await connectFirst() }
        if case .failed(let error) = phase { throw error }
        let key = ticket.map { link.engine.resume($0, request: request, at: .now) } ?? link.engine.open(request, at: .now)
        inboxes[key] = Inbox()
        link.setNeedsPump()
        return key
    }

    /// What happened to a job since it was last asked, waiting for something; empty: nothing more will.
    /// - Parameter sequence: the application is done with the results up to this one.
    func events(of key: JobKey, taken sequence: Int? = nil) async -> [FrameSender.Event] {
        if let sequence { take(key, through: sequence) }
        while let inbox = inboxes[key] {
            if !inbox.events.isEmpty {
                let events = Array(inbox.events)
                inbox.events.removeAll()
                if inbox.isOver { inboxes[key] = nil }
                return events
            }
            if inbox.isOver { break }
            await withCheckedContinuation { inbox.reader = $0 }
        }
        inboxes[key] = nil
        return []
    }

    /// The application is done with the results up to this one.
    func take(_ key: JobKey, through sequence: Int) {
        _ = link.engine.withJob(key) { $0.take(through: sequence) }
        link.setNeedsPump()
    }

    /// Waits until a frame may be submitted; false: none will be any more.
    func waitForRoom(of key: JobKey) async -> Bool {
        while let inbox = inboxes[key], !inbox.isOver {
            if link.engine.room(of: key) > 0 { return true }
            await withCheckedContinuation { inbox.writer = $0 }
        }
        return false
    }

    /// Hands frames to the job, waiting for room for each.
    func submit(_ frames: [EncodedFrame], to key: JobKey) async throws(SubmitError) {
        for frame in frames {
            guard await waitForRoom(of: key) else { throw .ended }
            try link.engine.withJob(key) { sender throws(SubmitError) in
                var info = frame.info
                if let configuration = frame.configuration { info.configuration = try sender.declare(configuration) }
                try sender.submit(OutgoingFrame(info: info, payload: frame.payload, digest: frame.digest))
            }
            link.setNeedsPump()
        }
    }

    func finish(_ key: JobKey, drops: DropCounts, error: String? = nil) {
        _ = link.engine.withJob(key) { sender in
            sender.setDrops(drops)
            sender.finishSource(error: error)
        }
        link.setNeedsPump()
    }

    /// Ends the job; the server frees what it holds for it as soon as it hears of it. An end comes as the last event.
    func cancel(_ key: JobKey) {
        _ = link.engine.withJob(key) { $0.cancel() }
        link.setNeedsPump()
    }

    /// The server has had units of a job that goes on which were not submitted here.
    func isBehindServer(_ key: JobKey) -> Bool { link.engine.withJob(key) { $0.isBehindServer } ?? false }

    /// Has no more to do with a job, which stays with the server for whoever knows its token.
    func leave(_ key: JobKey) {
        if let inbox = inboxes[key], !inbox.isOver { over(inbox, .ended(JobEnd(status: .failed))) }
    }

    /// Ends a job here, whatever the server thinks of it.
    func abandon(_ key: JobKey, _ end: JobEnd) {
        guard let inbox = inboxes[key], !inbox.isOver else { return }
        _ = link.engine.withJob(key) { $0.cancel() }
        link.setNeedsPump()
        over(inbox, .ended(end))
    }

    var isReconnecting: Bool { lostAt != nil }
    var jobCount: Int { inboxes.count }
    /// Of the present connection; nil while there is none.
    func stats() async -> StatsReport? { await connected?.peer.getStats() }
    /// Why there is no connection and will be none.
    var failure: StreamError? { if case .failed(let error) = phase { error } else { nil } }

    /// Says goodbye once the last words are through, for at most `timeouts.completion`; also where the caller's task is cancelled.
    func close() async { await Task { await self.finish() }.value }

    private func finish() async {
        generation += 1
        if case .connecting(let task) = phase { task.cancel() }
        phase = .failed(StreamError(.cancelled, "the client was closed"))
        for inbox in inboxes.values { over(inbox, .ended(JobEnd(status: .cancelled))) }
        guard let connected = connected.take() else { return }
        link.turn { _ in }
        let bound = configuration.timeouts.completion
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await connected.control.drained() }
            group.addTask { try? await Task.sleep(for: bound) }
            await group.next()
            group.cancelAll()
        }
        link.detach()
        await connected.peer.close()
        await connected.whip?.end()
    }

    // MARK: Turns of the loop

    private func turn() {
        var lost: String?
        link.turn { event in
            switch event {
            case .ready: break
            case .stalled(let stall): lost = "the connection stands still (\(stall))"
            case .failed(let failure):
                failures += 1
                lost = "\(failure)"
            case .job(let key, let event): pass(event, to: key)
            }
        }
        if link.engine.isReady, case .connecting = phase { becomeReady() }
        if let lost { self.lost(generation, lost) }
    }

    private func pass(_ event: FrameSender.Event, to key: JobKey) {
        guard let inbox = inboxes[key], !inbox.isOver else { return }
        switch event {
        case .roomAvailable: break
        case .result:
            failures = 0
            inbox.events.append(event)
        case .ended: return over(inbox, event)
        default: inbox.events.append(event)
        }
        wake(&inbox.reader)
        if link.engine.room(of: key) > 0 { wake(&inbox.writer) }
    }

    private func over(_ inbox: Inbox, _ event: FrameSender.Event) {
        inbox.events.append(event)
        inbox.isOver = true
        wake(&inbox.reader)
        wake(&inbox.writer)
    }

    private func wake(_ waiter: inout CheckedContinuation<Void, Never>?) { waiter.take()?.resume() }

    // MARK: Connecting

    private func connectFirst() async throws(StreamError) {
        let task = Task { await self.run(firstAttempt: true) }
        phase = .connecting(task)
        await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
        if case .failed(let error) = phase { throw error }
    }

    /// Tries until there is a connection, or it makes no sense any more.
    private func run(firstAttempt: Bool) async {
        var isFirst = firstAttempt
        var pause: Duration = .milliseconds(100)
        while !Task.isCancelled {
            do throws(StreamError) {
                try await connect(patience: isFirst ? nil : .seconds(5))
                return
            } catch {
                let waited = lostAt.map { Instant.now - $0 } ?? .zero
                // the last try is at the end of the time
                pause = min(pause, configuration.timeouts.resume - waited)
                guard !isFirst, error.isTransient, pause > .zero else {
                    return fail(isFirst ? error : StreamError(.connectionLost, "no connection for \(waited.components.seconds) s: \(error)"))
                }
                log.info("The server cannot be reached, trying again: \(error)")
            }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, .seconds(2))
            isFirst = false
        }
        if case .failed = phase { return }
        fail(StreamError(.cancelled))
    }

    private func connect(patience: Duration?) async throws(StreamError) {
        let start = Instant.now
        let peer: PeerConnection
        do {
            peer = try await PeerConnection(configuration: configuration.peerConfiguration, group: eventLoop, logger: log)
        } catch {
            throw StreamError(.cannotConnect, "\(error)")
        }
        var whip: WhipClient?
        do {
            let control = try await peer.createDataChannel(Lane.control.label, .init(protocol: Lane.subprotocol, priority: 512))
            let bulk = try await peer.createDataChannel(Lane.bulk.label, .init(protocol: Lane.subprotocol))
            let answer = try await Signalling(configuration: configuration).negotiate(peer, declaredFPS: declaredFPS, timeout: patience)
            whip = answer.whip
            let trickle = answer.whip.map { whip in Task { await whip.trickle(peer) } }
            // connected, it needs no more candidates
            defer { trickle?.cancel() }
            try await peer.waitUntilConnected(timeout: patience.map { min($0, configuration.timeouts.connect) } ?? configuration.timeouts.connect)
            try await control.waitUntilOpen()
            try await bulk.waitUntilOpen()
            if setupTime == nil { setupTime = Instant.now - start }
            attach(Connected(peer: peer, control: control, bulk: bulk, whip: whip))
        } catch {
            await peer.close()
            await whip?.end()
            if Task.isCancelled { throw StreamError(.cancelled) }
            throw error as? StreamError ?? StreamError(.cannotConnect, "\(error)")
        }
    }

    private func attach(_ connected: Connected) {
        generation += 1
        let mine = generation
        self.connected = connected
        link.attach(
            control: connected.control, bulk: connected.bulk,
            onMessage: { [weak self] lane, bytes, isText in
                self?.assumeIsolated { if $0.generation == mine { $0.link.received(bytes, isText: isText, on: lane) } }
            },
            onBufferedAmount: { [weak self] lane, amount in
                self?.assumeIsolated { if $0.generation == mine { $0.link.buffered(amount, on: lane) } }
            },
            onEnd: { [weak self] error in self?.assumeIsolated { $0.lost(mine, "\(error)") } })
    }

    private func becomeReady() {
        phase = .ready
        guard lostAt != nil else { return }
        reconnections += 1
        lostAt = nil
        tellAll()
    }

    /// Something that concerns every job has changed.
    private func tellAll() {
        for (key, inbox) in inboxes where !inbox.isOver {
            guard let counters = link.engine.withJob(key, { $0.counters }) else { continue }
            inbox.events.append(.progress(counters))
            wake(&inbox.reader)
        }
    }

    private func lost(_ mine: Int, _ reason: String) {
        guard mine == generation, let lost = connected.take() else { return }
        generation += 1
        link.engine.disconnected(at: .now)
        link.detach()
        Task { await lost.peer.close() }
        log.info("The connection is lost: \(reason)")
        guard !inboxes.isEmpty else {
            phase = .idle
            return
        }
        guard failures < 4 else { return fail(StreamError(.connectionLost, "given up after \(failures) connections: \(reason)")) }
        lostAt = lostAt ?? .now
        tellAll()
        phase = .connecting(Task { await self.run(firstAttempt: false) })
    }

    private func fail(_ error: StreamError) {
        phase = .failed(error)
        let end = JobEnd(status: .failed, reason: .none, message: "\(error)")
        for inbox in inboxes.values where !inbox.isOver { over(inbox, .ended(end)) }
    }
}

extension StreamError {
    /// Trying again may help.
    fileprivate var isTransient: Bool {
        switch code {
        case .serverUnreachable, .cannotConnect: true
        // full, or about to be another process
        case .refused: status == 503 || status == 502 || status == 504
        default: false
        }
    }
}
