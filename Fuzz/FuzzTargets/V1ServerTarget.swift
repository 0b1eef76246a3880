import FrameTransport
import NIOCore
import Wire

extension FuzzTarget {
    /// A server of everyframe.v1 and a client that says whatever it likes, on both lanes; the application and time do the same.
    static let v1Server = FuzzTarget(name: "v1-server") { input in
        var commands = Commands(input)
        var server = ServerUnderTest(commands.byte())
        while !commands.isAtEnd { server.perform(&commands) }
    }
}

private struct ServerUnderTest: ~Copyable {
    private var engine: ServerConnection
    private var parked = ParkedJobs(capacity: 2)
    private var now = Instant.zero
    private var seed: UInt64 = 1
    private let limits: JobLimits
    private let settings: TransportSettings
    private var opened: [JobNumber] = []
    private var resumes: [(number: JobNumber, token: String)] = []
    private var tokens: [String] = []
    private var hasFailed = false
    /// Nothing leaves the channels.
    private var isBlocked = false
    private var ended: Set<JobNumber> = []
    /// What the client said that it takes.
    private var messageBytes = TransportSettings.leastMessageBytes

    init(_ choice: UInt8) {
        var limits = JobLimits()
        limits.jobs = 3
        limits.frameBytes = 8000
        limits.framePixels = 1 << 20
        limits.framesInFlight = choice & 1 == 0 ? 6 : 64
        limits.bytesInFlight = 24_000
        limits.resultBytes = 4000
        limits.configurations = 2
        limits.tries = choice & 2 == 0 ? 2 : 3
        limits.resumeLifetime = .seconds(5)
        self.limits = limits.consistent
        var settings = TransportSettings()
        settings.controlBacklog = 64
        settings.bulkHighWater = 20_000
        self.settings = settings
        engine = ServerConnection(limits: limits, settings: settings, agent: "fuzz", generator: SplitMix64(seed: seed))
        engine.connected(at: now)
    }

    mutating func perform(_ commands: inout Commands) {
        switch commands.number(below: 24) {
        case 0: send(.hello(hello(&commands)), &commands)
        case 1: send(.open(job: job(&commands), request(&commands)), &commands)
        case 2:
            let token = tokens.isEmpty ? "00112233445566778899aabbccddeeff" : tokens[commands.number(below: tokens.count)]
            let taken = commands.number(below: 8)
            send(.resume(job: job(&commands), ResumeRequest(token: token, taken: taken, have: taken + commands.number(below: 4))), &commands)
        case 3: send(.taken(job: job(&commands), sequence: commands.number(below: 20)), &commands)
        case 4:
            let number = job(&commands)
            let received = engine.withJob(number) { $0.received } ?? 0
            send(.finish(job: number, JobFinish(last: commands.mostly(received), error: commands.flag() ? "broken" : nil)), &commands)
        case 5:
            switch commands.number(below: 8) {
            case 0: send(.cancel(job: job(&commands)), &commands)
            case 1: send(.bye(job: job(&commands)), &commands)
            case 2: send(.ping(3), &commands)
            case 3: send(.pong(3), &commands)
            case 4: send(.goodbye(reason: "tired", message: ""), &commands)
            default: send(.bye(job: job(&commands)), &commands)
            }
        case 6, 7, 8, 9: sendFrame(&commands)
        case 10: sendChunk(&commands)
        case 11: sendConfiguration(&commands)
        case 12: receive(commands.flag() ? .control : .bulk, commands.take(commands.number(below: 128)), isText: commands.flag())
        case 13:
            var bytes = ByteBuffer(integer: UInt8(1))
            bytes.writeImmutableBuffer(commands.take(commands.number(below: 128)))
            receive(.control, bytes, isText: false)
        case 14: advance(.milliseconds(Int(commands.byte()) * Int(commands.byte())))
        case 15:
            isBlocked = commands.flag()
            engine.setBuffered(Int(commands.byte()) * 200, on: commands.flag() ? .control : .bulk, at: now)
        case 16: answerOpening(&commands)
        case 17: answerResume(&commands)
        case 18:
            let (number, id) = (job(&commands), commands.number(below: 12))
            _ = engine.withJob(number) { [now] in $0.release(id, at: now) }
        case 19, 20:
            let (number, id, answer) = (job(&commands), commands.number(below: 12), answer(&commands))
            _ = engine.withJob(number) { [now] in $0.complete(id, answer, at: now) }
        case 21: order(&commands)
        case 22:
            let (number, choice) = (job(&commands), commands.byte())
            if choice < 40 { _ = engine.withJob(number) { [now] in $0.end(choice & 1 == 0 ? .failed : .completed, message: "enough", at: now) } }
        default: if commands.byte() < 96 { reconnect() }
        }
        settle()
    }

    // MARK: The client

    private func job(_ commands: inout Commands) -> JobNumber { JobNumber(commands.number(below: 5)) }

    private func hello(_ commands: inout Commands) -> Hello {
        var hello = Hello(versions: [commands.mostly(1)], maximumMessageBytes: TransportSettings.leastMessageBytes + 256 * Int(commands.byte()))
        hello.format = commands.flag() ? .json : .messagePack
        return hello
    }

    private func request(_ commands: inout Commands) -> JobRequest {
        var request = JobRequest(encoding: PayloadEncoding(rawValue: commands.byte() & 3) ?? .jpeg)
        request.resultWindow = 1 + 64 * Int(commands.byte())
        if commands.flag() { request.window = 1 + commands.number(below: 8) }
        if commands.flag() { request.timeLimit = .milliseconds(Int(commands.byte()) * 100) }
        return request
    }

    private mutating func send(_ message: ControlMessage, _ commands: inout Commands) {
        let isText = commands.flag()
        if case .hello(let hello) = message, !engine.isReady { messageBytes = hello.maximumMessageBytes }
        receive(commands.mostly(0) == 0 ? .control : .bulk, message.written(isText ? .json : .messagePack), isText: isText)
    }

    private mutating func sendFrame(_ commands: inout Commands) {
        let number = job(&commands)
        let payload = ByteBuffer(repeating: commands.byte(), count: 40 * Int(commands.byte()))
        let next = (engine.withJob(number) { $0.received } ?? 0) + 1
        var info = FrameInfo(encoding: engine.withJob(number) { $0.request.encoding } ?? .jpeg, width: 8, height: 8)
        info.configuration = UInt16(commands.number(below: 3))
        if info.encoding == .raw { info.pixelFormat = .i420 }
        var header = FrameHeader(job: number, id: commands.mostly(next), length: payload.readableBytes, digest: XXH64.digest(payload), info: info)
        switch commands.number(below: 16) {
        case 0: header.digest ^= 1
        case 1: header.length += 1
        case 2: header.length = commands.number(below: 256) * 64
        case 3: header.info.encoding = .png
        case 4: header.info.width = 40_000
        default: break
        }
        var bytes = ByteBuffer()
        header.write(into: &bytes)
        // the rest comes as chunks, if at all
        let first = commands.flag() ? payload.readableBytes : min(payload.readableBytes, 1024 + commands.number(below: 128))
        bytes.writeImmutableBuffer(payload.getSlice(at: 0, length: first) ?? ByteBuffer())
        receive(.bulk, bytes, isText: false)
        var offset = first
        while offset < payload.readableBytes, commands.mostly(0) == 0, !commands.isAtEnd {
            let count = min(payload.readableBytes - offset, 1024 + 8 * commands.number(below: 256))
            var chunk = ByteBuffer()
            ChunkHeader(kind: .frame, job: number, offset: offset, id: max(1, header.id)).write(into: &chunk)
            chunk.writeImmutableBuffer(payload.getSlice(at: offset, length: count) ?? ByteBuffer())
            receive(.bulk, chunk, isText: false)
            offset += count
        }
    }

    private mutating func sendChunk(_ commands: inout Commands) {
        var bytes = ByteBuffer()
        ChunkHeader(kind: commands.mostly(0) == 0 ? .frame : .result, job: job(&commands), offset: 64 * Int(commands.byte()), id: 1 + commands.number(below: 8))
            .write(into: &bytes)
        bytes.writeRepeatingByte(7, count: 16 * Int(commands.byte()))
        receive(.bulk, bytes, isText: false)
    }

    private mutating func sendConfiguration(_ commands: inout Commands) {
        let extradata = commands.number(below: 200)
        var bytes = ByteBuffer()
        bytes.writeMultipleIntegers(UInt16(0), job(&commands), UInt16(commands.number(below: 4)), UInt16(8), UInt16(8), UInt16(0))
        bytes.writeMultipleIntegers(UInt32(extradata), UInt32(0), Int32(-99), Int32(-99))
        bytes.writeString("h264")
        bytes.writeRepeatingByte(0, count: 12)
        bytes.writeRepeatingByte(1, count: extradata)
        receive(.bulk, bytes.sealed(kind: 0x12, words: 12), isText: false)
    }

    private mutating func receive(_ lane: Lane, _ message: ByteBuffer, isText: Bool) {
        engine.handle(lane, message, isText: isText, at: now)
        settle()
    }

    // MARK: The application

    private mutating func answerOpening(_ commands: inout Commands) {
        guard !opened.isEmpty else { return }
        let number = opened.remove(at: commands.number(below: opened.count))
        if commands.mostly(0) != 0 { return engine.reject(number, .unsupported) }
        if let token = engine.accept(number, timeLimit: commands.flag() ? .seconds(20) : nil, at: now) { tokens.append(token) }
        if tokens.count > 8 { tokens.removeFirst() }
    }

    private mutating func answerResume(_ commands: inout Commands) {
        guard !resumes.isEmpty else { return }
        let (number, token) = resumes.remove(at: commands.number(below: resumes.count))
        // the job may be on this very connection: then the client wants it under another number
        let holder = engine.jobNumbers.first { candidate in engine.withJob(candidate) { $0.token } == token }
        guard let receiver = parked.take(token) ?? holder.flatMap({ engine.takeJob($0, at: now) }) else { return engine.reject(number, .unknownToken) }
        if let refused = engine.resume(number, receiver, at: now) { parked.park(refused, at: now) }
    }

    private func answer(_ commands: inout Commands) -> Answer {
        var answer = Answer(status: Answer.Status(rawValue: commands.byte() % 8) ?? .ok, body: ByteBuffer(repeating: 1, count: 20 * Int(commands.byte())))
        if commands.mostly(0) != 0 { answer.image = Answer.Image(encoding: .jpeg, width: 8, height: 8, bytes: ByteBuffer(repeating: 2, count: 300)) }
        return answer
    }

    private mutating func order(_ commands: inout Commands) {
        let (number, id) = (job(&commands), commands.number(below: 12))
        switch commands.number(below: 4) {
        case 0: _ = engine.withJob(number) { $0.order(id) }
        case 1: _ = engine.withJob(number) { [now] in $0.settle(below: id, at: now) }
        default: _ = engine.withJob(number) { [now] in $0.retry(id, at: now) }
        }
    }

    /// The connection is lost: its jobs are parked, and the client comes back.
    private mutating func reconnect() {
        engine.disconnected(at: now)
        settle()
        var taken: [String] = []
        // closures take no inout value that cannot be copied
        for number in engine.jobNumbers {
            guard let receiver = engine.takeJob(number, at: now) else { continue }
            taken.append(receiver.token)
            parked.park(receiver, at: now)
        }
        require(Set(taken).count == taken.count, "a job is there twice")
        seed += 1
        engine = ServerConnection(limits: limits, settings: settings, agent: "fuzz", generator: SplitMix64(seed: seed))
        engine.connected(at: now)
        (opened, resumes, ended, hasFailed, messageBytes) = ([], [], [], false, TransportSettings.leastMessageBytes)
    }

    // MARK: What must hold

    private mutating func advance(_ duration: Duration) {
        let end = now + duration
        for _ in 0..<64 {
            guard let next = earliest(engine.deadline, parked.deadline), next <= end else { break }
            now = max(now, next)
            engine.handleTimeout(at: now)
            parked.handleTimeout(at: now)
            require(engine.deadline.map { $0 > now } ?? true, "a deadline of \(String(describing: engine.deadline)) stays at \(now)")
            require(parked.deadline.map { $0 > now } ?? true, "a parked job's deadline stays")
            settle()
        }
        now = max(now, end)
        engine.handleTimeout(at: now)
        parked.handleTimeout(at: now)
        settle()
        require(engine.deadline.map { $0 > now } ?? true, "a deadline in the past")
    }

    private mutating func settle() {
        var count = 0
        while let output = engine.poll(at: now) {
            count += 1
            require(count < 10_000, "output without end")
            switch output {
            case .send(let lane, let bytes, let isText):
                if !isBlocked { engine.setBuffered(0, on: lane, at: now) }
                let message = checkSent(bytes, on: lane, isText: isText, limit: messageBytes)
                if hasFailed { if case .goodbye? = message {} else { fatalError("words after a failure") } }
            case .event(let event): see(event)
            }
        }
        while let event = parked.poll() {
            count += 1
            require(count < 10_000, "parked jobs without end: \(event)")
        }
        require(parked.count <= 2, "\(parked.count) jobs parked")
        require(engine.jobNumbers.count <= limits.jobs, "\(engine.jobNumbers.count) jobs")
        for number in engine.jobNumbers {
            guard let (held, results, unanswered) = engine.withJob(number, { ($0.heldBytes, $0.resultBytes, $0.unanswered) }) else { continue }
            require((0...limits.bytesInFlight).contains(held), "\(held) bytes held")
            require((0...limits.framesInFlight * limits.resultBytes).contains(results), "\(results) bytes of results held")
            require(unanswered <= limits.framesInFlight, "\(unanswered) units wait")
        }
    }

    private mutating func see(_ event: ServerConnection.Event) {
        switch event {
        case .ready: break
        case .opened(let number, _): opened.append(number)
        case .resumeRequested(let number, let request): resumes.append((number, request.token))
        case .job(let number, let event):
            require(!ended.contains(number), "an event after the end of job \(number)")
            if case .ended = event { ended.insert(number) }
            if case .frame(let frame) = event { require(frame.payload.readableBytes <= limits.frameBytes, "a unit of \(frame.payload.readableBytes) bytes") }
        case .stalled: break
        case .failed:
            require(!hasFailed, "two failures")
            hasFailed = true
        }
    }
}
