import FrameLink
import FrameTransport
import Logging
import NIOCore
import NIOPosix
import WebRTCNIO
import Wire

/// All jobs of `everyframe.v1` on this server, and the connections they are on or wait for.
///
/// It lives on the event loop of the server's sockets, so a job moves from a lost connection to the next one without a hop or a lock.
/// Pipelines work on other threads and answer through a mailbox.
actor FrameHub {
    nonisolated let eventLoop: any EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.executor.asUnownedSerialExecutor() }

    /// What a job's pipeline says.
    struct Note: Sendable {
        var token: String
        var event: JobPipeline.Event
    }

    private let configuration: ServerConfiguration
    private let jobLimits: JobLimits
    private let resources: PipelineResources
    private let log: Logger
    private var connections: [Int: HubConnection] = [:]
    private var parked: ParkedJobs
    private var jobs: [String: HubJob] = [:]
    /// Those whose connection the pipelines' notes touched in this turn.
    private var touched: Set<Int> = []
    private var timer: (callback: NIOScheduledCallback, due: Instant)?
    private lazy var mailbox = Mailbox<Note>(on: eventLoop) { [weak self] in self?.assumeIsolated { $0.readMail() } }

    init(configuration: ServerConfiguration, resources: PipelineResources, on eventLoop: any EventLoop, logger: Logger) {
        self.configuration = configuration
        self.resources = resources
        self.eventLoop = eventLoop
        log = logger
        jobLimits = configuration.limits.job.consistent
        parked = ParkedJobs(capacity: configuration.limits.parkedJobs)
    }

    // MARK: Connections

    /// Both channels of a connection are open.
    func attach(_ id: Int, peer: PeerConnection, control: DataChannel, bulk: DataChannel) {
        var settings = TransportSettings()
        settings.maximumChunkBytes = configuration.limits.chunkBytes
        let engine = ServerConnection(
            limits: jobLimits, settings: settings, agent: "everyframe", compressions: [.lz4, .zstd],
            extra: ["model": .string(resources.predictor.name), "outputs": .array(Predictor.outputs.map(JSON.string))],
            generator: SystemRandomNumberGenerator())
        let link = EngineLink(engine, on: eventLoop) { [weak self] in self?.assumeIsolated { $0.turn(id) } }
        connections[id] = HubConnection(id: id, peer: peer, link: link, at: .now)
        link.attach(
            control: control, bulk: bulk,
            onMessage: { [weak self] lane, bytes, isText in
                self?.assumeIsolated { $0.connections[id]?.link.received(bytes, isText: isText, on: lane) }
            },
            onBufferedAmount: { [weak self] lane, amount in self?.assumeIsolated { $0.connections[id]?.link.buffered(amount, on: lane) } },
            onEnd: { [weak self] error in self?.assumeIsolated { _ = $0.drop(id, "\(error)") } })
        armTimer()
    }

    /// The connection is over: its jobs wait for another. Answers with why it ended, once.
    @discardableResult
    func drop(_ id: Int, _ reason: String) -> String? {
        guard let connection = connections.removeValue(forKey: id) else { return nil }
        let now = Instant.now
        connection.link.engine.takeJobs(at: now) { receiver in
            let token = receiver.token
            if jobs[token] != nil {
                jobs[token]?.place = .parked
                parked.park(receiver, at: now)
            }
        }
        // what its client had said goodbye to is forgotten with it
        for (token, job) in jobs where job.place == .connection(id, connection.numbers[token] ?? 0) { forget(token) }
        connection.link.detach()
        connection.ending = connection.ending ?? reason
        let peer = connection.peer
        Task { await peer.close() }
        pollParked()
        armTimer()
        return connection.ending
    }

    /// What all jobs are and hold together.
    var state: HubState {
        var state = HubState()
        for (token, job) in jobs {
            if !job.isEnded { state.jobs += 1 }
            if job.place == .parked { state.parked += 1 }
            state.pictureBytes += job.pipeline.pictureBytes
            withReceiver(token) { receiver in
                state.payloadBytes += receiver.heldBytes
                state.resultBytes += receiver.resultBytes
                state.answered += receiver.counts.answered
            }
        }
        return state
    }

    /// Has the jobs of a connection answer what they have, end, and tell their client; the connection ends behind the last.
    func drain(_ id: Int) {
        guard let connection = connections[id] else { return }
        connection.isDraining = true
        for token in connection.numbers.keys { withReceiver(token) { $0.drain(message: "the server is shutting down", at: .now) } }
        turn(id)
    }

    // MARK: Turns of the loop

    private func turn(_ id: Int) {
        guard let connection = connections[id] else { return }
        var failure: String?
        connection.link.turn { event in
            switch event {
            case .ready(let hello): log.debug("Session \(id): everyframe.v1 with \(hello.agent.prefix(64))")
            case .opened(let number, let request): open(number, request, on: connection)
            case .resumeRequested(let number, let request): resume(number, request, on: connection)
            case .job(let number, let event): if let token = connection.token(of: number) { handle(event, token: token) }
            case .stalled(let stall): failure = "stalled: \(stall)"
            case .failed(let reason): failure = "\(reason)"
            }
        }
        prune(connection)
        if failure == nil, connection.isDraining, connection.numbers.isEmpty {
            connection.ending = SessionEnding.shutdown.terminationReason
            failure = "shutdown"
        }
        if let failure {
            if !connection.isDraining { log.warning("Session \(id): the connection is given up: \(failure)") }
            drop(id, failure)
        }
    }

    private func readMail() {
        let now = Instant.now
        for note in mailbox.takeAll() {
            guard let job = jobs[note.token], !job.isEnded else { continue }
            var given: Int?
            withReceiver(note.token) { receiver in
                switch note.event {
                case .ordered(let id): receiver.order(id)
                case .released(let id): receiver.release(id, at: now)
                case .settled(let id): receiver.settle(below: id, at: now)
                case .answered(let id, let answer):
                    (receiver.idle, receiver.blocked) = job.pipeline.stoppages(at: now)
                    receiver.complete(id, answer, at: now)
                    ServerMetrics.frameAnswered(isFailure: answer.status.isFailure)
                    if answer.status == .ok { ServerMetrics.record(answer.times) }
                case .undecodable(let id, let reason):
                    log.debug("Job \(job.number): unit \(id): \(reason)")
                    if receiver.retry(id, at: now) { ServerMetrics.frameRetried() } else { given = id }
                }
            }
            if let given { job.pipeline.skip(given) }
            if case .connection(let id, _) = job.place { touched.insert(id) }
        }
        for id in touched { turn(id) }
        touched.removeAll()
        pollParked()
    }

    private func pollParked() {
        while let event = parked.poll() {
            switch event {
            case .job(let token, let event): handle(event, token: token)
            case .forgotten(let token): forget(token)
            }
        }
        armTimer()
    }

    // MARK: Jobs

    private func open(_ number: JobNumber, _ request: JobRequest, on connection: HubConnection) {
        let now = Instant.now
        let parameters: JobParameters
        do throws(JobParameters.Refusal) {
            parameters = try JobParameters(request.parameters, model: resources.predictor.name, outputs: Predictor.outputs)
        } catch {
            return connection.link.engine.reject(number, .unsupported, message: error.message)
        }
        guard let token = connection.link.engine.accept(number, timeLimit: configuration.limits.sessionTime, at: now) else { return }
        connection.numbers[token] = number
        let mailbox = mailbox
        let pipeline = JobPipeline(request: request, parameters: parameters, resources: resources, at: now) { event in
            mailbox.post(Note(token: token, event: event))
        }
        jobs[token] = HubJob(
            number: "\(connection.id).\(number)", request: request, pipeline: pipeline, place: .connection(connection.id, number), at: now)
        if connection.isDraining { withReceiver(token) { $0.drain(message: "the server is shutting down", at: now) } }
        ServerMetrics.jobOpened()
        log.info(
            "Job \(connection.id).\(number): \(request.encoding.name), \(parameters.outputMode.rawValue), drops \(request.dropPolicy)")
    }

    private func resume(_ number: JobNumber, _ request: ResumeRequest, on connection: HubConnection) {
        let now = Instant.now
        let engine = connection.link
        guard let job = jobs[request.token] else { return engine.engine.reject(number, .unknownToken, message: "the job is unknown, or its time is over") }
        var taken: FrameReceiver?
        switch job.place {
        case .parked: taken = parked.take(request.token)
        case .connection(let id, let old):
            // the other connection is as good as lost, or another client's
            taken = connections[id]?.link.engine.yieldJob(old, at: now)
            connections[id]?.numbers[request.token] = nil
            connections[id]?.link.setNeedsPump()
        }
        guard let receiver = taken.take() else { return engine.engine.reject(number, .unknownToken, message: "the job is over") }
        if let refused = engine.engine.resume(number, receiver, at: now) {
            jobs[request.token]?.place = .parked
            parked.park(refused, at: now)
            return
        }
        connection.numbers[request.token] = number
        jobs[request.token]?.place = .connection(connection.id, number)
        ServerMetrics.jobResumed()
        log.info("Job \(job.number): goes on as \(connection.id).\(number)")
    }

    private func handle(_ event: FrameReceiver.Event, token: String) {
        guard let job = jobs[token] else { return }
        switch event {
        case .frame(let frame): job.pipeline.submit(frame, receivedAt: WallClock.microseconds())
        case .lost(let id): job.pipeline.skip(id)
        case .finished(let last): job.pipeline.finish(last: last)
        case .ended(let end):
            job.pipeline.cancel()
            guard !job.isEnded else { return }
            jobs[token]?.isEnded = true
            var progress = ServerProgress()
            withReceiver(token) { receiver in
                (receiver.idle, receiver.blocked) = job.pipeline.stoppages(at: .now)
                progress = receiver.progress(at: .now)
            }
            log.info("\(job.line(end, progress))")
        }
    }

    /// Jobs whose end the client has confirmed are gone from the engine.
    private func prune(_ connection: HubConnection) {
        guard connection.numbers.count != connection.link.engine.jobCount else { return }
        let alive = Set(connection.link.engine.jobNumbers)
        for (token, number) in connection.numbers where !alive.contains(number) {
            connection.numbers[token] = nil
            if jobs[token]?.place == .connection(connection.id, number) { forget(token) }
        }
        if connection.numbers.isEmpty { connection.idleSince = .now }
        armTimer()
    }

    private func forget(_ token: String) {
        guard let job = jobs.removeValue(forKey: token) else { return }
        job.pipeline.cancel()
    }

    /// Wherever the job is.
    private func withReceiver(_ token: String, _ body: (inout FrameReceiver) -> Void) {
        switch jobs[token]?.place {
        case .connection(let id, let number): _ = connections[id]?.link.engine.withJob(number, body)
        case .parked: _ = parked.withJob(token, body)
        case nil: break
        }
    }

    // MARK: Time

    /// Parked jobs whose lifetime is over, connections that nobody uses, jobs in which nothing moves.
    private func handleTimeout() {
        let now = Instant.now
        if let deadline = parked.deadline, deadline <= now { parked.handleTimeout(at: now) }
        for connection in connections.values {
            if connection.numbers.isEmpty, now - connection.idleSince >= configuration.limits.idleTime {
                connection.ending = "idle"
                drop(connection.id, "idle")
            }
        }
        for (token, job) in jobs where !job.isEnded && now >= job.nextLook {
            look(token, job, at: now)
        }
        pollParked()
    }

    /// A client that is there but neither sends nor takes for `idleTime` holds a place that others may need; one that owes us nothing
    /// but the taking of its results has ten times as long.
    private func look(_ token: String, _ job: HubJob, at now: Instant) {
        var counts = JobCounts()
        var unanswered = 0
        withReceiver(token) { receiver in
            counts = receiver.counts
            unanswered = receiver.unanswered
        }
        let moves = counts != job.lastCounts || unanswered > 0
        jobs[token]?.lastCounts = counts
        if moves { jobs[token]?.lastMove = now }
        let limit = counts.answered > counts.taken ? configuration.limits.idleTime * 10 : configuration.limits.idleTime
        jobs[token]?.nextLook = now + configuration.limits.idleTime / 4
        guard !moves, now - job.lastMove >= limit else { return }
        withReceiver(token) { $0.end(.timedOut, message: "nothing happened for \(limit.components.seconds) s", at: now) }
        if case .connection(let id, _) = job.place { turn(id) }
    }

    private func armTimer() {
        var due = parked.deadline
        for connection in connections.values where connection.numbers.isEmpty { due = earliest(due, connection.idleSince + configuration.limits.idleTime) }
        for job in jobs.values where !job.isEnded { due = earliest(due, job.nextLook) }
        guard let due else { return }
        if let timer, timer.due <= due { return }
        timer?.callback.cancel()
        let handler = TimerHandler { [weak self] in
            self?.assumeIsolated { hub in
                hub.timer = nil
                hub.handleTimeout()
            }
        }
        // it throws only where the loop is shutting down
        timer = (try? eventLoop.scheduleCallback(at: NIODeadline(due), handler: handler)).map { ($0, due) }
    }

    private struct TimerHandler: NIOScheduledCallbackHandler, Sendable {
        let fire: @Sendable () -> Void
        func handleScheduledCallback(eventLoop: some EventLoop) { fire() }
    }
}
