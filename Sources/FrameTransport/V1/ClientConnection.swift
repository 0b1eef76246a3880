package import NIOCore
package import Wire

/// The client's end of `everyframe.v1`: one engine for as long as its jobs live, over as many connections as it takes.
///
/// On `.failed`, `.stalled` or a lost connection its driver calls `disconnected`, connects anew, and calls `connected`: the jobs
/// resume by themselves.
package struct ClientConnection: ConnectionEngine, ~Copyable {
    package struct JobKey: Hashable, Sendable {
        let value: Int
    }

    package enum Event: Hashable, Sendable {
        /// The server's hello came: its limits and what it can do.
        case ready(Hello)
        case job(JobKey, FrameSender.Event)
        case stalled(Stall)
        case failed(ConnectionFailure)
    }

    package let agent: String
    package private(set) var server: Hello?
    private var core: ConnectionCore
    private var jobs: [JobKey: Cell<FrameSender>] = [:]
    /// In the order of opening, the next to send first.
    private var turns: [JobKey] = []
    private var keys: [JobNumber: JobKey] = [:]
    private var numbers: [JobKey: JobNumber] = [:]
    private var nextKey = 1
    private var events = CircularBuffer<Event>()

    /// `format`: how control messages are written, both ways.
    package init(settings: TransportSettings = TransportSettings(), agent: String, format: Answer.Format = .messagePack) {
        self.agent = agent
        core = ConnectionCore(settings: settings, format: format)
    }

    // MARK: The driver's verbs

    package mutating func connected(channelMessageBytes: Int? = nil, at now: Instant) {
        disconnected(at: now)
        core.connect(channelMessageBytes: channelMessageBytes, at: now)
        var hello = Hello(versions: [Lane.version], maximumMessageBytes: core.settings.maximumMessageBytes)
        hello.agent = agent
        hello.format = core.format
        hello.encodings = PayloadEncoding.allCases
        core.enqueue(.hello(hello))
    }

    /// The jobs wait for the next connection.
    package mutating func disconnected(at now: Instant) {
        core.disconnect()
        for key in turns { jobs[key]?.value?.detach() }
        keys.removeAll()
        numbers.removeAll()
        server = nil
    }

    package mutating func handle(_ lane: Lane, _ message: ByteBuffer, isText: Bool, at now: Instant) {
        switch core.receive(lane, message, isText: isText, hasJobs: !keys.isEmpty, at: now) {
        case .control(let message): handle(message, at: now)
        case .bulk(let kind, let message): handle(kind, message)
        case nil: break
        }
    }

    package mutating func setBuffered(_ bytes: Int, on lane: Lane, at now: Instant) { core.setBuffered(bytes, on: lane, at: now) }

    package mutating func handleTimeout(at now: Instant) { core.handleTimeout(hasJobs: !keys.isEmpty, at: now) }

    package var deadline: Instant? { core.deadline }

    package mutating func poll(at now: Instant) -> ConnectionOutput<Event>? {
        attachJobs(at: now)
        if core.canSendControl, let message = nextControl() {
            let (bytes, isText) = core.encode(message)
            if case .open(let number, _) = message, bytes.readableBytes > core.messageBytes {
                // nothing that the other end could read
                let end = JobEnd(status: .failed, reason: .unsupported, message: "the request is longer than \(core.messageBytes) bytes")
                if let key = keys[number] { jobs[key]?.value?.end(end) }
            } else {
                return core.send(bytes, isText: isText, on: .control, at: now)
            }
        }
        if let event = nextEvent() { return .event(event) }
        guard let budget = core.bulkBudget(jobs: keys.count) else { return nil }
        for index in turns.indices {
            guard let message = jobs[turns[index]]?.value?.pollBulk(budget) else { continue }
            return core.send(message, from: index, of: &turns, at: now)
        }
        return nil
    }

    // MARK: The application's verbs

    /// A new job. It waits for the connection and for its turn where the server takes only so many at a time.
    package mutating func open(_ request: JobRequest, at now: Instant) -> JobKey {
        add(FrameSender(request: request, settings: core.settings))
    }

    /// A job that another process began.
    package mutating func resume(_ ticket: ResumeTicket, request: JobRequest, at now: Instant) -> JobKey {
        add(FrameSender(resuming: ticket, request: request, settings: core.settings))
    }

    /// A job's own verbs: `room`, `declare`, `submit`, `finishSource`, `take`, `cancel`. nil where the job is over. `poll` afterwards.
    package mutating func withJob<Result, Failure: Error>(
        _ key: JobKey, _ body: (inout FrameSender) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        try jobs[key]?.with(body)
    }

    package func room(of key: JobKey) -> Int { jobs[key]?.value?.room ?? 0 }

    package var jobKeys: [JobKey] { Array(jobs.keys) }
    package var counters: ConnectionCounters { core.counters }
    package var isReady: Bool { core.phase == .ready }

    /// Payloads and results held for all jobs.
    package var heldBytes: Int { turns.reduce(0) { $0 + (jobs[$1]?.value?.heldBytes ?? 0) } }

    // MARK: Inside

    private mutating func add(_ sender: consuming FrameSender) -> JobKey {
        let key = JobKey(value: nextKey)
        nextKey += 1
        jobs[key] = Cell(consume sender)
        turns.append(key)
        return key
    }

    private mutating func attachJobs(at now: Instant) {
        guard core.phase == .ready, numbers.count < jobs.count, let limits = server?.limits else { return }
        for key in turns where numbers[key] == nil && numbers.count < limits.jobs {
            guard jobs[key]?.value?.isEnded == false else { continue }
            // a connection has 65535 numbers; the driver makes another one long before
            guard core.lastNumber < .max else { return core.fail(.backlog) }
            core.lastNumber += 1
            keys[core.lastNumber] = key
            numbers[key] = core.lastNumber
            jobs[key]?.value?.attach(as: core.lastNumber, limits: limits)
            core.watch(at: now)
        }
    }

    private mutating func nextControl() -> ControlMessage? {
        if let message = core.nextControl() { return message }
        guard core.phase == .ready else { return nil }
        for key in turns {
            if let message = jobs[key]?.value?.pollControl() { return message }
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
        for key in turns {
            if let event = jobs[key]?.value?.pollEvent() { return .job(key, event) }
        }
        let done = turns.filter { key in
            guard let isDone = jobs[key]?.value?.isDone, let isEnded = jobs[key]?.value?.isEnded else { return true }
            return isDone || (isEnded && numbers[key] == nil)
        }
        for key in done {
            jobs[key] = nil
            turns.removeAll { $0 == key }
            if let number = numbers.removeValue(forKey: key) { keys[number] = nil }
        }
        return nil
    }

    private mutating func handle(_ message: ControlMessage, at now: Instant) {
        switch message {
        case .hello(let hello):
            guard core.phase == .greeting, hello.limits != nil else { return core.fail(.hello) }
            guard hello.versions.contains(Lane.version) else { return core.fail(.noCommonVersion) }
            core.agree(hello)
            server = hello
            events.append(.ready(hello))
        default:
            guard core.phase == .ready, let number = message.job else { return core.fail(.hello) }
            if let key = keys[number] {
                jobs[key]?.value?.handle(message)
            } else if core.isOver(number), case .end = message {
                // the server keeps a job until its end was understood
                core.enqueue(.bye(job: number))
            }
        }
    }

    private mutating func handle(_ kind: BinaryMessage.Kind, _ message: ByteBuffer) {
        var message = message
        do throws(BinaryMessageError) {
            switch kind {
            case .result:
                let header = try ResultHeader(readingFrom: &message)
                guard let key = key(of: header.job) else { return }
                jobs[key]?.value?.handle(header, message)
            case .resultChunk:
                let chunk = try ChunkHeader(readingFrom: &message)
                guard let key = key(of: chunk.job) else { return }
                jobs[key]?.value?.handle(chunk, message)
            case .control, .frame, .frameChunk, .configuration: core.fail(.wrongLane)
            }
        } catch {
            core.fail(.unreadable(error))
        }
    }

    private mutating func key(of number: JobNumber) -> JobKey? {
        if let key = keys[number] { return key }
        core.isOver(number)
        return nil
    }
}
