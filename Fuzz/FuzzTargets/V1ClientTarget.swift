import FrameTransport
import NIOCore
import Wire

extension FuzzTarget {
    /// A client of everyframe.v1 and a server that says whatever it likes, on both lanes; the application and time do the same.
    static let v1Client = FuzzTarget(name: "v1-client") { input in
        var commands = Commands(input)
        var client = ClientUnderTest(commands.byte())
        while !commands.isAtEnd { client.perform(&commands) }
    }
}

private struct ClientUnderTest: ~Copyable {
    /// What the application knows of a job.
    private struct Job {
        var key: ClientConnection.JobKey
        var encoding: PayloadEncoding
        var isAdopted: Bool
        var results: [Int] = []
        var hasEnded = false
    }

    /// What the server was told on this connection.
    private struct Heard {
        var ids: [(id: Int, digest: UInt64)] = []
        var answered = 0
        var token: String?
    }

    private var engine: ClientConnection
    private var now = Instant.zero
    private var jobs: [Job] = []
    private var heard: [JobNumber: Heard] = [:]
    private var isConnected = false
    private var hasFailed = false
    /// Nothing leaves the channels.
    private var isBlocked = false
    private var messageBytes = 0
    private let settings: TransportSettings
    private static let resultWindow = 10_000
    private static let token = "00112233445566778899aabbccddeeff"

    init(_ choice: UInt8) {
        var settings = TransportSettings()
        settings.controlBacklog = 64
        settings.retainedBytes = 20_000
        settings.bulkHighWater = 20_000
        settings.resultBytes = 20_000
        settings.readAhead = choice & 2 == 0 ? 4 : 0
        self.settings = settings
        engine = ClientConnection(settings: settings, agent: "fuzz", format: choice & 1 == 0 ? .messagePack : .json)
    }

    mutating func perform(_ commands: inout Commands) {
        switch commands.number(below: 26) {
        case 0: connect(&commands)
        case 1: if commands.byte() < 96 { disconnect() }
        case 2: open(&commands)
        case 3, 4, 5: submit(&commands)
        case 6: with(&commands) { $0.finishSource(error: nil) }
        case 7:
            let sequence = commands.number(below: 20)
            with(&commands) { $0.take(through: sequence) }
        case 8: if commands.byte() < 40 { with(&commands) { $0.cancel() } }
        case 9: send(.hello(hello(&commands)), &commands)
        case 10, 11:
            let token = commands.mostly(0) == 0 ? Self.token : Self.token + "00"
            send(.accepted(job: job(&commands), JobAcceptance(token: token, lifetime: .seconds(9), credit: credit(&commands))), &commands)
        case 12: send(.rejected(job: job(&commands), reason: .tooManyJobs, message: ""), &commands)
        case 13: sendResumed(&commands)
        case 14, 15:
            let acknowledged = commands.number(below: 12)
            send(
                .acknowledgement(
                    job: job(&commands), Acknowledgement(received: acknowledged, acknowledged: acknowledged, credit: credit(&commands))), &commands)
        case 16: send(.retry(job: job(&commands), ids: (0..<commands.number(below: 6)).map { _ in 1 + commands.number(below: 12) }), &commands)
        case 17: sendEnd(&commands)
        case 18, 19, 20: sendResult(&commands)
        case 21: sendChunk(&commands)
        case 22: receive(commands.flag() ? .control : .bulk, commands.take(commands.number(below: 128)), isText: commands.flag())
        case 23:
            var bytes = ByteBuffer(integer: UInt8(1))
            bytes.writeImmutableBuffer(commands.take(commands.number(below: 128)))
            receive(.control, bytes, isText: false)
        case 24:
            isBlocked = commands.flag()
            engine.setBuffered(Int(commands.byte()) * 200, on: commands.flag() ? .control : .bulk, at: now)
        default: advance(.milliseconds(Int(commands.byte()) * Int(commands.byte())))
        }
        settle()
    }

    // MARK: The application

    private mutating func connect(_ commands: inout Commands) {
        messageBytes = TransportSettings.leastMessageBytes + 256 * Int(commands.byte())
        engine.connected(channelMessageBytes: messageBytes, at: now)
        (isConnected, hasFailed, heard) = (true, false, [:])
    }

    private mutating func disconnect() {
        engine.disconnected(at: now)
        (isConnected, heard) = (false, [:])
    }

    private mutating func open(_ commands: inout Commands) {
        guard jobs.count < 6 else { return }
        let encoding = PayloadEncoding(rawValue: commands.byte() & 3) ?? .jpeg
        let request = JobRequest(encoding: encoding, resultWindow: Self.resultWindow)
        if commands.mostly(0) == 0 {
            jobs.append(Job(key: engine.open(request, at: now), encoding: encoding, isAdopted: false))
        } else {
            let ticket = ResumeTicket(token: Self.token, taken: commands.number(below: 4))
            jobs.append(Job(key: engine.resume(ticket, request: request, at: now), encoding: encoding, isAdopted: true))
        }
    }

    private mutating func with(_ commands: inout Commands, _ body: (inout FrameSender) -> Void) {
        guard !jobs.isEmpty else { return }
        _ = engine.withJob(jobs[commands.number(below: jobs.count)].key, body)
    }

    private mutating func submit(_ commands: inout Commands) {
        guard !jobs.isEmpty else { return }
        let job = jobs[commands.number(below: jobs.count)]
        var info = FrameInfo(encoding: job.encoding, width: 4, height: 4)
        if job.encoding == .raw { info.pixelFormat = .bgr24 }
        let payload = ByteBuffer(repeating: commands.byte(), count: job.encoding == .raw ? 48 : 40 * Int(commands.byte()))
        let (extradata, room) = (commands.number(below: 3), engine.room(of: job.key))
        require(room >= 0, "a room of \(room)")
        _ = engine.withJob(job.key) { sender in
            if job.encoding == .source {
                let configuration = CodecConfiguration(codec: "h264", width: 4, height: 4, extradata: ByteBuffer(repeating: 1, count: extradata))
                info.configuration = (try? sender.declare(configuration)) ?? 0
            }
            let before = sender.nextID
            do throws(SubmitError) {
                let id = try sender.submit(OutgoingFrame(info: info, payload: payload))
                require(id == before && room > 0, "unit \(id) after \(before - 1), with room for \(room)")
            } catch {
                require(sender.nextID == before, "an id for a unit that was refused")
                require(error != .noRoom || room == 0, "no room in a room of \(room)")
            }
        }
    }

    // MARK: The server

    private func job(_ commands: inout Commands) -> JobNumber { JobNumber(1 + commands.number(below: 4)) }

    private func credit(_ commands: inout Commands) -> Credit { Credit(id: commands.number(below: 40), bytes: 400 * Int(commands.byte())) }

    private func hello(_ commands: inout Commands) -> Hello {
        var hello = Hello(versions: [commands.mostly(1)], maximumMessageBytes: TransportSettings.leastMessageBytes + 64 * Int(commands.byte()))
        var limits = JobLimits()
        limits.jobs = 1 + commands.number(below: 4)
        limits.framesInFlight = 1 + commands.number(below: 16)
        limits.frameBytes = 1024 * (1 + commands.number(below: 16))
        limits.configurations = 1 + commands.number(below: 3)
        if commands.mostly(0) == 0 { hello.limits = limits }
        return hello
    }

    private mutating func send(_ message: ControlMessage, _ commands: inout Commands) {
        let isText = commands.flag()
        if case .hello(let hello) = message, !engine.isReady { messageBytes = min(messageBytes, hello.maximumMessageBytes) }
        receive(commands.mostly(0) == 0 ? .control : .bulk, message.written(isText ? .json : .messagePack), isText: isText)
    }

    private mutating func sendResumed(_ commands: inout Commands) {
        let received = commands.number(below: 12)
        let resumption = JobResumption(
            lifetime: .seconds(9), received: received, acknowledged: commands.mostly(received), taken: commands.number(below: 4), digest: 0,
            credit: credit(&commands))
        send(.resumed(job: job(&commands), resumption), &commands)
    }

    private mutating func sendEnd(_ commands: inout Commands) {
        let number = job(&commands)
        var end = JobEnd(status: JobEnd.Status.allCases[commands.number(below: 4)], message: "over")
        end.counts.answered = commands.mostly(heard[number]?.answered ?? 0)
        send(.end(job: number, end), &commands)
    }

    private mutating func sendResult(_ commands: inout Commands) {
        let number = job(&commands)
        let sequence = commands.mostly((heard[number]?.answered ?? 0) + 1)
        let sent = heard[number]?.ids.last { $0.id == sequence }
        let body = ByteBuffer(repeating: 1, count: 40 * Int(commands.byte()))
        let result = FrameResult(
            sequence: max(1, sequence), id: max(1, commands.mostly(sequence)), picture: sequence, pts: 1, timeBase: TimeBase(numerator: 1, denominator: 25),
            captureTime: nil, digest: commands.mostly(0) == 0 ? sent?.digest ?? 0 : 1,
            answer: Answer(status: commands.mostly(0) == 0 ? .ok : .damaged, body: body))
        let header = ResultHeader(job: number, result: result)
        var bytes = ByteBuffer()
        header.write(into: &bytes)
        let first = commands.flag() ? body.readableBytes : min(body.readableBytes, 1024)
        bytes.writeImmutableBuffer(body.getSlice(at: 0, length: first) ?? ByteBuffer())
        receive(.bulk, bytes, isText: false)
        if first < body.readableBytes, commands.mostly(0) == 0 {
            var chunk = ByteBuffer()
            ChunkHeader(kind: .result, job: number, offset: first, id: max(1, sequence)).write(into: &chunk)
            chunk.writeImmutableBuffer(body.getSlice(at: first, length: body.readableBytes - first) ?? ByteBuffer())
            receive(.bulk, chunk, isText: false)
        }
        heard[number]?.answered = sequence
    }

    private mutating func sendChunk(_ commands: inout Commands) {
        var bytes = ByteBuffer()
        ChunkHeader(kind: commands.mostly(0) == 0 ? .result : .frame, job: job(&commands), offset: 64 * Int(commands.byte()), id: 1 + commands.number(below: 8))
            .write(into: &bytes)
        bytes.writeRepeatingByte(7, count: 16 * Int(commands.byte()))
        receive(.bulk, bytes, isText: false)
    }

    private mutating func receive(_ lane: Lane, _ message: ByteBuffer, isText: Bool) {
        engine.handle(lane, message, isText: isText, at: now)
        settle()
    }

    // MARK: What must hold

    private mutating func advance(_ duration: Duration) {
        let end = now + duration
        for _ in 0..<64 {
            guard let next = engine.deadline, next <= end else { break }
            now = max(now, next)
            engine.handleTimeout(at: now)
            require(engine.deadline.map { $0 > now } ?? true, "a deadline of \(String(describing: engine.deadline)) stays at \(now)")
            settle()
        }
        now = max(now, end)
        engine.handleTimeout(at: now)
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
                require(isConnected, "words without a connection")
                let message = checkSent(bytes, on: lane, isText: isText, limit: messageBytes)
                if hasFailed { if case .goodbye? = message {} else { fatalError("words after a failure") } }
                hear(message, bytes)
            case .event(let event): see(event)
            }
        }
        // each job: what it retains and one frame above, results up to the window and one above, one result in the making
        let bound = jobs.count * (settings.retainedBytes + 10_200 + 2 * Self.resultWindow + settings.resultBytes)
        require((0...bound).contains(engine.heldBytes), "\(engine.heldBytes) bytes held")
    }

    private mutating func hear(_ message: ControlMessage?, _ bytes: ByteBuffer) {
        switch message {
        case .open(let number, _):
            require(heard[number] == nil, "job \(number) twice")
            heard[number] = Heard()
        case .resume(let number, let request):
            require(heard[number] == nil && request.have >= request.taken, "job \(number) twice, or less here than taken")
            heard[number] = Heard(answered: request.have)
        case nil:
            var bytes = bytes
            guard let header = try? FrameHeader(readingFrom: &bytes) else { return }
            require(heard[header.job] != nil, "a unit of no job")
            heard[header.job]?.ids.append((header.id, header.digest))
        default: break
        }
    }

    private mutating func see(_ event: ClientConnection.Event) {
        switch event {
        case .ready, .stalled: break
        case .failed:
            require(!hasFailed, "two failures")
            hasFailed = true
        case .job(let key, let event):
            guard let index = jobs.firstIndex(where: { $0.key == key }) else { fatalError("an event of no job") }
            require(!jobs[index].hasEnded, "an event after a job's end")
            switch event {
            case .ended: jobs[index].hasEnded = true
            case .result(let result):
                if let last = jobs[index].results.last {
                    require(result.sequence == last + 1, "answer \(result.sequence) after \(last)")
                } else if !jobs[index].isAdopted {
                    require(result.sequence == 1, "the first answer is \(result.sequence)")
                }
                jobs[index].results.append(result.sequence)
            default: break
            }
            if jobs[index].hasEnded { jobs.remove(at: index) }
        }
    }
}
