import Logging
import NIOCore
import WebRTC
import Wire

/// Drives one peer engine on its sockets' event loop: datagrams in, one batch out per burst, one timer.
///
/// The loop is this actor's executor, so the sockets' handler enters without a hop. The router holds it while the connection is open; `end` lets go.
actor Session {
    nonisolated let eventLoop: any EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.executor.asUnownedSerialExecutor() }

    /// Datagrams' bytes written in one turn of the loop before other connections get theirs.
    static let bytesPerTurn = 512 << 10
    static let roundsPerTurn = 64
    /// Events that nobody took; beyond it the peer's new channels are refused.
    static let maximumEvents = 4096

    let endpoint: UDPEndpoint
    let ownsEndpoint: Bool
    let configuration: PeerConnection.Configuration
    let logger: Logger?

    var engine: PeerEngine
    private var claimed: NetworkPath?
    private var isFlushScheduled = false
    private var timer: (callback: NIOScheduledCallback, due: Instant)?
    var startTime: Instant?

    private(set) var connectionState = PeerConnection.ConnectionState.new
    private(set) var iceConnectionState = PeerConnection.IceConnectionState.new
    var iceGatheringState = PeerConnection.IceGatheringState.new
    private(set) var closeReason: PeerConnectionError?
    private var setupTime: Duration?
    var isEnded: Bool { closeReason != nil }
    var isGathering = false
    /// Name servers and TURN servers that gathering still waits for.
    var lookups = 0
    /// The TURN servers that were asked, and the addresses that they relay for this session.
    var relays: [TurnRelay.Key: RelayRecord] = [:]
    var asked: Set<String> = []

    var channels: [ChannelHandle: ChannelRecord] = [:]
    /// Those with tasks that wait for their buffer to shrink.
    var crowded: Set<ChannelHandle> = []
    /// Those whose owner hears of every change of their buffer.
    var hooked: Set<ChannelHandle> = []
    private var eventQueue = CircularBuffer<PendingEvent>()
    var waiters = Waiters()
    private var eventWaiters: [Waiters.Key] = []
    private var connectionWaiters: [Waiters.Key] = []
    var gatheringWaiters: [Waiters.Key] = []

    /// An event without a reference to the connection, which the queue must not keep alive.
    enum PendingEvent: Sendable {
        case plain(PeerConnection.Event)
        case channel(ChannelHandle, label: String, options: DataChannel.Options)
    }

    init(configuration: PeerConnection.Configuration, endpoint: UDPEndpoint, ownsEndpoint: Bool, logger: Logger?) throws {
        try configuration.validate()
        var settings: PeerConfiguration
        do {
            settings = try PeerConfiguration.standard()
        } catch {
            throw PeerConnectionError(.dtlsFailed, "no certificate: \(error)")
        }
        configuration.apply(to: &settings)
        self.configuration = configuration
        self.endpoint = endpoint
        self.ownsEndpoint = ownsEndpoint
        self.logger = logger
        eventLoop = endpoint.eventLoop
        engine = PeerEngine(configuration: settings, generator: systemRandomness())
    }

    /// Joins the endpoint.
    func start() throws {
        guard !endpoint.router.value.sockets.isEmpty else { throw PeerConnectionError(.endpointClosed) }
        if ownsEndpoint { endpoint.router.value.setOwner(self) } else { endpoint.router.value.add(self, ufrag: engine.localUfrag) }
    }

    /// The public object is gone.
    nonisolated func abandon() { eventLoop.execute { self.assumeIsolated { $0.end(.init(.closed), farewell: true) } } }

    func close() { end(.init(.closed), farewell: true) }

    // MARK: Turns of the loop

    /// Makes sure that what the application just asked for goes out, together with what else it asks for in this turn.
    func setNeedsFlush() {
        guard !isFlushScheduled, !isEnded else { return }
        isFlushScheduled = true
        later { session in
            guard session.isFlushScheduled else { return }
            session.flush(at: .now)
        }
    }

    /// Drains the engine, writes, arms the timer.
    func flush(at now: Instant) {
        guard !isEnded else { return }
        isFlushScheduled = false
        let router = endpoint.router.value
        var written = 0
        var rounds = 0
        while true {
            while let event = engine.poll(at: now, into: &router.scratch) {
                react(to: event, at: now)
                if isEnded { return }
            }
            written += router.scratch.packets.bytes.writerIndex
            write(router, at: now)
            relieveCrowded()
            reportBuffers()
            guard let deadline = engine.deadline, deadline <= now else { break }
            rounds += 1
            if written >= Self.bytesPerTurn || rounds == Self.roundsPerTurn {
                // NIO runs tasks until none is left and only then looks at sockets: a moment's delay lets acknowledgements in
                armTimer(notBefore: .now + .microseconds(30))
                return
            }
            engine.handleTimeout(at: now)
        }
        armTimer()
    }

    private func write(_ router: EndpointRouter, at now: Instant) {
        guard !router.scratch.isEmpty else { return }
        if !ownsEndpoint { claimAddresses(router) }
        if let size = router.sendScratch() { engine.datagramRefused(size: size, at: now) }
    }

    /// Answers from where we send to are ours.
    private func claimAddresses(_ router: EndpointRouter) {
        var previous = claimed
        for path in router.scratch.paths where path != previous {
            router.claim(path.remote, for: self, proved: false)
            previous = path
        }
        claimed = previous
    }

    /// The armed timer stays where the deadline moved back: it will find nothing due and arm the next, which is cheaper than a new one per burst.
    private func armTimer(notBefore bound: Instant? = nil) {
        guard var deadline = engine.deadline else { return }
        if let bound { deadline = max(deadline, bound) }
        if let timer, timer.due <= deadline { return }
        timer?.callback.cancel()
        // it throws only where the loop is shutting down, and then nothing is left to do
        timer = (try? eventLoop.scheduleCallback(at: NIODeadline(deadline), handler: TimerHandler(session: self))).map { ($0, deadline) }
    }

    private struct TimerHandler: NIOScheduledCallbackHandler, Sendable {
        weak var session: Session?

        func handleScheduledCallback(eventLoop: some EventLoop) {
            session?.assumeIsolated { session in
                session.timer = nil
                guard !session.isEnded else { return }
                let now = Instant.now
                session.engine.handleTimeout(at: now)
                session.flush(at: now)
            }
        }
    }

    // MARK: Events

    private func react(to event: PeerEngine.Event, at now: Instant) {
        switch event {
        case .message(let handle, let bytes, let isText): deliver(bytes, isText: isText, on: handle, at: now)
        case .localCandidate(let candidate): emit(.plain(.iceCandidate(candidate)))
        case .gatheringComplete: setGathering(.complete)
        case .iceStateChanged(let state):
            iceConnectionState = PeerConnection.IceConnectionState(state)
            emit(.plain(.iceConnectionStateChanged(iceConnectionState)))
        case .stateChanged(let state):
            // failed and closed come with their reason, by `end`
            if let state = PeerConnection.ConnectionState(rawValue: state.rawValue), state != .failed, state != .closed { setState(state, at: now) }
        case .selectedPath(let path):
            if !ownsEndpoint { endpoint.router.value.claim(path.remote, for: self, proved: true) }
        case .channel(let handle): accept(handle, at: now)
        case .channelOpened(let handle): channelOpened(handle)
        case .allAcknowledged(let handle): channelDrained(handle)
        case .channelClosed(let handle): channelClosed(handle)
        case .ended(let failure): end(PeerConnectionError(failure), farewell: true)
        }
    }

    private func setState(_ state: PeerConnection.ConnectionState, at now: Instant) {
        guard connectionState != state else { return }
        connectionState = state
        if state == .connected {
            if setupTime == nil { setupTime = startTime.map { now - $0 } }
            waiters.wake(&connectionWaiters)
        }
        emit(.plain(.connectionStateChanged(state)))
    }

    private func accept(_ handle: ChannelHandle, at now: Instant) {
        guard eventQueue.count < Self.maximumEvents, let options = engine.options(of: handle) else {
            engine.closeChannel(handle, at: now)
            return
        }
        channels[handle] = ChannelRecord(isOpen: true, highWaterMark: configuration.sendBuffer)
        var publicOptions = DataChannel.Options(
            ordered: options.ordered, maxPacketLifeTime: options.maxPacketLifeTime, maxRetransmits: options.maxRetransmits, protocol: options.subprotocol)
        publicOptions.id = engine.streamID(of: handle)
        publicOptions.priority = options.priority
        emit(.channel(handle, label: options.label, options: publicOptions))
    }

    func emit(_ event: PendingEvent) {
        // a peer whose connectivity flaps must not fill the memory of an application that does not listen
        if eventQueue.count >= 2 * Self.maximumEvents { eventQueue.removeFirst() }
        eventQueue.append(event)
        waiters.wake(&eventWaiters)
    }

    func nextEvent() async -> PendingEvent? {
        while true {
            if let event = eventQueue.popFirst() { return event }
            if isEnded { return nil }
            let key = waiters.newKey()
            eventWaiters.append(key)
            guard await park(key) == .ready else { return nil }
        }
    }

    func waitUntilConnected(timeout: Duration) async throws {
        let due = Instant.now + timeout
        while connectionState != .connected {
            try checkOpen()
            let key = waiters.newKey()
            connectionWaiters.append(key)
            try await resolve(park(key, until: due))
        }
    }

    func stats() -> StatsReport {
        var report = engine.stats(wallClock: WallClock.milliseconds(), at: .now)
        report.peerConnection.everyframe.setupTime = setupTime.map { Double($0.inNanoseconds) / 1e9 }
        report.transport.everyframe.socket = .init(countersOf: endpoint.counters)
        return report
    }

    // MARK: The end

    /// Once: says goodbye, lets go of sockets and timers, and wakes everybody who waits.
    func end(_ reason: PeerConnectionError, farewell: Bool) {
        guard !isEnded else { return }
        let now = Instant.now
        closeReason = reason
        let router = endpoint.router.value
        engine.close(at: now, into: &router.scratch)
        if farewell { write(router, at: now) }
        router.scratch.removeAll()
        timer?.callback.cancel()
        timer = nil
        router.remove(self)
        // allocations are given back before the sockets go
        router.leaveRelays(self) { [endpoint, ownsEndpoint] in if ownsEndpoint { endpoint.closeNow() } }

        let isClean = reason.code == .closed || reason.code == .closedByPeer
        connectionState = isClean ? .closed : .failed
        iceConnectionState = reason.code == .iceFailed ? .failed : .closed
        emit(.plain(.connectionStateChanged(connectionState)))
        let error = isClean ? DataChannelError(.closed, reason: reason) : DataChannelError(.connectionFailed, reason: reason)
        for handle in channels.keys { end(handle, error) }
        crowded.removeAll()
        waiters.wakeAll()
        logger?.debug("connection ended", metadata: ["reason": "\(reason)"])
    }
}

// MARK: - Waiting

extension Session {
    /// Suspends until the key is woken, the task is cancelled, or `due` has come. The caller looks again at what it waits for.
    func park(_ key: Waiters.Key, until due: Instant? = nil) async -> Waiters.Wake {
        if Task.isCancelled { return .cancelled }
        let bound = due.map { due in
            eventLoop.scheduleTask(deadline: NIODeadline(due)) { self.assumeIsolated { $0.waiters.wake(key, .timedOut) } }
        }
        defer { bound?.cancel() }
        // the cancellation handler's work on the loop runs after this turn, so after the continuation is stored
        return await withTaskCancellationHandler {
            await withCheckedContinuation { waiters.store($0, for: key) }
        } onCancel: {
            later { $0.waiters.wake(key, .cancelled) }
        }
    }

    func resolve(_ wake: Waiters.Wake) throws {
        switch wake {
        case .ready: break
        case .cancelled: throw CancellationError()
        case .timedOut: throw PeerConnectionError(.timedOut)
        }
    }

    /// Runs on the loop, after what is running there now.
    nonisolated func later(_ body: @escaping @Sendable (isolated Session) -> Void) {
        eventLoop.execute { self.assumeIsolated(body) }
    }
}
