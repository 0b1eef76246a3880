package import NIOCore
package import Wire

/// The server's end of one connection of `everyframe.v1`. Jobs outlive it: `takeJobs` when it is lost, `ParkedJobs` until they are asked for.
///
/// The application answers `.opened` with `accept` or `reject`, and `.resumeRequested` with `resume` or `reject`.
package struct ServerConnection: ConnectionEngine, ~Copyable {
    package enum Event: Hashable, Sendable {
        case ready(Hello)
        case opened(JobNumber, JobRequest)
        /// The job is parked, or still on another connection (take it from there: that one is as good as lost), or unknown.
        case resumeRequested(JobNumber, ResumeRequest)
        case job(JobNumber, FrameReceiver.Event)
        case stalled(Stall)
        case failed(ConnectionFailure)
    }

    private enum Pending: Sendable {
        case open(JobRequest)
        case resume(ResumeRequest)
    }

    package let limits: JobLimits
    private let hello: Hello
    private var core: ConnectionCore
    private var generator: any RandomNumberGenerator & Sendable
    private var jobs: [JobNumber: Cell<FrameReceiver>] = [:]
    private var pending: [JobNumber: Pending] = [:]
    /// The next to send first.
    private var turns: [JobNumber] = []
    private var events = CircularBuffer<Event>()

    /// `extra`: what clients shall know of the server beside its limits, for instance its models.
    package init(
        limits: JobLimits = JobLimits(), settings: TransportSettings = TransportSettings(), agent: String,
        encodings: [PayloadEncoding] = PayloadEncoding.allCases, compressions: [Compression] = [], extra: JSON = .object([:]),
        generator: consuming any RandomNumberGenerator & Sendable
    ) {
        self.limits = limits.consistent
        self.generator = generator
        core = ConnectionCore(settings: settings, format: .messagePack)
        var hello = Hello(versions: [Lane.version], maximumMessageBytes: settings.maximumMessageBytes)
        hello.agent = agent
        hello.limits = self.limits
        hello.encodings = encodings
        hello.compressions = compressions
        hello.extra = extra
        self.hello = hello
    }

    // MARK: The driver's verbs

    package mutating func connected(channelMessageBytes: Int? = nil, at now: Instant) {
        core.connect(channelMessageBytes: channelMessageBytes, at: now)
    }

    /// The jobs go on here until `takeJobs`. The engine is of no use for another connection.
    package mutating func disconnected(at now: Instant) {
        core.disconnect()
        pending.removeAll()
        for number in turns { jobs[number]?.value?.detach(at: now) }
    }

    package mutating func handle(_ lane: Lane, _ message: ByteBuffer, isText: Bool, at now: Instant) {
        switch core.receive(lane, message, isText: isText, hasJobs: !jobs.isEmpty, at: now) {
        case .control(let message): handle(message, at: now)
        case .bulk(let kind, let message): handle(kind, message, at: now)
        case nil: break
        }
    }

    package mutating func setBuffered(_ bytes: Int, on lane: Lane, at now: Instant) { core.setBuffered(bytes, on: lane, at: now) }

    package mutating func handleTimeout(at now: Instant) {
        core.handleTimeout(hasJobs: !jobs.isEmpty, at: now)
        for number in turns { jobs[number]?.value?.handleTimeout(at: now) }
    }

    package var deadline: Instant? {
        var result = core.deadline
        for number in turns { result = earliest(result, jobs[number]?.value?.deadline) }
        return result
    }

    package mutating func poll(at now: Instant) -> ConnectionOutput<Event>? {
        if core.canSendControl, let message = nextControl(at: now) {
            return core.send(message, at: now)
        }
        if let event = nextEvent() { return .event(event) }
        guard let budget = core.bulkBudget(jobs: jobs.count) else { return nil }
        for index in turns.indices {
            guard let message = jobs[turns[index]]?.value?.pollBulk(budget, at: now) else { continue }
            return core.send(message, from: index, of: &turns, at: now)
        }
        return nil
    }

    /// The connection is lost or was given up: its jobs, to be parked. The engine is of no more use.
    package mutating func takeJobs(at now: Instant, _ body: (consuming FrameReceiver) -> Void) {
        disconnected(at: now)
        for number in turns {
            guard let receiver = takeJob(number, at: now) else { continue }
            body(consume receiver)
        }
    }

    /// One job, because another connection asked for it.
    package mutating func takeJob(_ number: JobNumber, at now: Instant) -> FrameReceiver? {
        guard let cell = jobs.removeValue(forKey: number) else { return nil }
        turns.removeAll { $0 == number }
        cell.value?.detach(at: now)
        return cell.value.take()
    }

    /// The same while this connection may still live: its client is told that another one goes on with the job.
    package mutating func yieldJob(_ number: JobNumber, at now: Instant) -> FrameReceiver? {
        guard let receiver = takeJob(number, at: now) else { return nil }
        core.enqueue(.end(job: number, JobEnd(status: .failed, reason: .takenOver, message: "the job goes on over another connection")))
        return receiver
    }

    // MARK: The application's verbs

    /// Takes a job that was asked for; answers with its token. `timeLimit` bounds what the request wishes.
    @discardableResult
    package mutating func accept(_ number: JobNumber, timeLimit: Duration? = nil, at now: Instant) -> String? {
        guard case .open(var request)? = pending.removeValue(forKey: number) else { return nil }
        if let timeLimit { request.timeLimit = min(request.timeLimit ?? timeLimit, timeLimit) }
        let token = Hex64.text(generator.next()) + Hex64.text(generator.next())
        var receiver = FrameReceiver(request: request, token: token, limits: limits, settings: core.settings, at: now)
        receiver.attach(as: number, at: now)
        jobs[number] = Cell(consume receiver)
        turns.append(number)
        core.watch(at: now)
        return token
    }

    package mutating func reject(_ number: JobNumber, _ reason: JobFailure, message: String = "") {
        guard pending.removeValue(forKey: number) != nil else { return }
        core.enqueue(.rejected(job: number, reason: reason, message: message))
    }

    /// Goes on with a parked job. Comes back with it where the client's words do not fit it: then it is still to be kept.
    package mutating func resume(_ number: JobNumber, _ receiver: consuming FrameReceiver, at now: Instant) -> FrameReceiver? {
        guard case .resume(let request)? = pending.removeValue(forKey: number) else { return receiver }
        guard receiver.token == request.token, receiver.resume(as: number, request, at: now) else {
            core.enqueue(.rejected(job: number, reason: .unknownToken, message: "there is no such job at this point"))
            return receiver
        }
        jobs[number] = Cell(consume receiver)
        turns.append(number)
        core.watch(at: now)
        return nil
    }

    /// A job's own verbs: `release`, `order`, `complete`, `retry`, `settle`, `end`. nil where the job is over. `poll` afterwards.
    package mutating func withJob<Result, Failure: Error>(
        _ number: JobNumber, _ body: (inout FrameReceiver) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        try jobs[number]?.with(body)
    }

    package var jobNumbers: [JobNumber] { Array(jobs.keys) }
    package var jobCount: Int { jobs.count }
    package var counters: ConnectionCounters { core.counters }
    package var isReady: Bool { core.phase == .ready }

    // MARK: Inside

    private mutating func nextControl(at now: Instant) -> ControlMessage? {
        if let message = core.nextControl() { return message }
        guard core.phase == .ready else { return nil }
        for number in turns {
            if let message = jobs[number]?.value?.pollControl(at: now) { return message }
        }
        return nil
    }

    private mutating func nextEvent() -> Event? {
        if let event = events.popFirst() { return event }
        switch core.nextNews() {
        case .failed(let failure): return .failed(failure)
        case .stalled(let stall): return .stalled(stall)
        case nil: break
        }
        for number in turns {
            if let event = jobs[number]?.value?.pollEvent() { return .job(number, event) }
        }
        for number in turns where jobs[number]?.value?.isDone ?? true { jobs[number] = nil }
        turns.removeAll { jobs[$0] == nil }
        return nil
    }

    private mutating func handle(_ message: ControlMessage, at now: Instant) {
        switch message {
        case .hello(let theirs):
            guard core.phase == .greeting else { return core.fail(.hello) }
            guard theirs.versions.contains(Lane.version) else { return core.fail(.noCommonVersion) }
            core.format = theirs.format
            core.agree(theirs)
            core.enqueue(.hello(hello))
            events.append(.ready(theirs))
        case .open(let number, let request): begin(number, .open(request))
        case .resume(let number, let request): begin(number, .resume(request))
        default:
            guard core.phase == .ready, let number = message.job else { return core.fail(.hello) }
            if isKnown(number) { jobs[number]?.value?.handle(message, at: now) }
        }
    }

    private mutating func begin(_ number: JobNumber, _ what: Pending) {
        guard core.phase == .ready else { return core.fail(.hello) }
        guard number > core.lastNumber else { return core.fail(.unknownJob(Int(number))) }
        core.lastNumber = number
        guard jobs.count + pending.count < limits.jobs else {
            return core.enqueue(.rejected(job: number, reason: .tooManyJobs, message: "\(limits.jobs) at a time"))
        }
        if case .open(let request) = what, !hello.encodings.contains(request.encoding) {
            return core.enqueue(.rejected(job: number, reason: .unsupported, message: "encoding \(request.encoding.name)"))
        }
        pending[number] = what
        switch what {
        case .open(let request): events.append(.opened(number, request))
        case .resume(let request): events.append(.resumeRequested(number, request))
        }
    }

    private mutating func handle(_ kind: BinaryMessage.Kind, _ message: ByteBuffer, at now: Instant) {
        var message = message
        do throws(BinaryMessageError) {
            switch kind {
            case .frame:
                let header = try FrameHeader(readingFrom: &message)
                if isKnown(header.job) { jobs[header.job]?.value?.handle(header, message, at: now) }
            case .frameChunk:
                let chunk = try ChunkHeader(readingFrom: &message)
                if isKnown(chunk.job) { jobs[chunk.job]?.value?.handle(chunk, message, at: now) }
            case .configuration:
                let (number, configuration) = try CodecConfiguration.read(message)
                if isKnown(number) { jobs[number]?.value?.handle(configuration, at: now) }
            case .control, .result, .resultChunk: core.fail(.wrongLane)
            }
        } catch {
            core.fail(.unreadable(error))
        }
    }

    private mutating func isKnown(_ number: JobNumber) -> Bool {
        if jobs[number] != nil { return true }
        core.isOver(number)
        return false
    }
}
