import FrameTransport
import NIOCore
import Wire

extension FuzzTarget {
    /// Both ends of everyframe.v1 over channels that are slow, cut and damaged as the bytes say; then all goes well until the end.
    /// Every unit is answered once, in order, and proved, unless somebody ended the job on purpose or nobody came back for it.
    static let v1Pair = FuzzTarget(name: "v1-pair") { input in
        var commands = Commands(input)
        var pair = ConnectionPair(commands.byte())
        while !commands.isAtEnd { pair.perform(&commands) }
        pair.finish()
    }
}

private struct ConnectionPair: ~Copyable {
    private struct Job {
        var key: ClientConnection.JobKey
        var units: Int
        var encoding: PayloadEncoding
        var isSourceFinished = false
        var isCancelled = false
        var submitted = 0
        var results: [FrameResult] = []
        var waiting: [FrameResult] = []
        var token: String?
        var end: JobEnd?
    }

    /// Client to server: 0 and 1; server to client: 2 and 3; by lane.
    private var wires: [[(bytes: ByteBuffer, isText: Bool)]] = [[], [], [], []]
    private var client: ClientConnection
    private var server: ServerConnection?
    /// A connection that the client gave up and the server has not missed yet.
    private var ghost: ServerConnection?
    private var parked = ParkedJobs(capacity: 4)
    private var now = Instant.zero
    private var seed: UInt64 = 1
    private let settings: TransportSettings
    private var limits = JobLimits()
    private var jobs: [Job] = []
    private var tokens: [String: JobNumber] = [:]
    private var ghostTokens: [String: JobNumber] = [:]
    /// Units with the server's application.
    private var pending: [(token: String, id: Int)] = []
    private var forgotten: Set<String> = []
    private var isCut = true

    init(_ choice: UInt8) {
        var settings = TransportSettings()
        settings.bulkHighWater = 16_000
        settings.maximumChunkBytes = 16_384
        settings.retainedBytes = 20_000
        self.settings = settings
        limits.framesInFlight = choice & 1 == 0 ? 4 : 48
        limits.bytesInFlight = 20_000
        limits.frameBytes = 10_000
        limits.resultBytes = 8000
        client = ClientConnection(settings: settings, agent: "fuzz", format: choice & 2 == 0 ? .messagePack : .json)
        for number in 0..<(choice & 4 == 0 ? 1 : 3) {
            let encoding: PayloadEncoding = choice & 8 == 0 ? .jpeg : .source
            let request = JobRequest(encoding: encoding, resultWindow: choice & 16 == 0 ? 1 << 20 : 5000)
            jobs.append(Job(key: client.open(request, at: now), units: 4 * number + Int(choice >> 5), encoding: encoding))
        }
        reconnect()
    }

    mutating func perform(_ commands: inout Commands) {
        switch commands.number(below: 18) {
        case 0, 1: deliver(on: commands.number(below: 4), count: 1 + commands.number(below: 8))
        case 2: for wire in 0..<4 { deliver(on: wire, count: .max) }
        case 3: advance(.milliseconds(Int(commands.byte())))
        case 4: advance(.milliseconds(Int(commands.byte()) * 20))
        case 5, 6: submit(commands.number(below: jobs.count), count: 1 + commands.number(below: 4))
        case 7, 8: answer(commands.number(below: max(1, pending.count)), size: Int(commands.byte()) * 40)
        case 9:
            let index = commands.number(below: max(1, pending.count))
            if index < pending.count { withReceiver(pending[index].token) { [now, id = pending[index].id] in $0.release(id, at: now) } }
        case 10, 11: take(commands.number(below: jobs.count), count: 1 + commands.number(below: 4))
        case 12:
            let index = commands.number(below: max(1, pending.count))
            guard index < pending.count, commands.byte() < 96 else { return }
            let unit = pending[index]
            // a payload that was released is not there any more to be refused
            if withReceiver(unit.token, { [now] in $0.retry(unit.id, at: now) }) == true { pending.remove(at: index) }
        case 13: if commands.byte() < 96 { cut() }
        case 14: if commands.flag() { reconnect() } else { reconnectUnnoticed() }
        case 15:
            let index = commands.number(below: jobs.count)
            guard commands.byte() < 12 else { return }
            jobs[index].isCancelled = true
            _ = client.withJob(jobs[index].key) { $0.cancel() }
        case 16: damage(Int(commands.byte()))
        default:
            let index = commands.number(below: jobs.count)
            if jobs[index].submitted == jobs[index].units { finishSource(index) }
        }
        settle()
    }

    /// From now on all goes well.
    mutating func finish() {
        for round in 0... {
            require(round < 5000, "no end: \(jobs.map(\.results.count)) answers, \(jobs.map(\.submitted)) units of \(jobs.map(\.units))")
            if isCut { reconnect() }
            let before = (jobs.map(\.results.count), jobs.map(\.submitted), wires.map(\.count), pending.count)
            for wire in 0..<4 { deliver(on: wire, count: .max) }
            for index in jobs.indices {
                submit(index, count: .max)
                if jobs[index].submitted == jobs[index].units { finishSource(index) }
                take(index, count: .max)
            }
            while !pending.isEmpty { answer(0, size: 100) }
            settle()
            if jobs.allSatisfy({ $0.end != nil }) { break }
            let after = (jobs.map(\.results.count), jobs.map(\.submitted), wires.map(\.count), pending.count)
            if before == after, let next = deadline() { advance(max(.zero, next - now)) }
        }
        for job in jobs { check(job) }
    }

    private func check(_ job: Job) {
        guard let end = job.end else { return }
        require(job.results.map(\.sequence) == Array(1..<job.results.count + 1), "answers out of order: \(job.results.map(\.sequence))")
        require(Set(job.results.map(\.id)).count == job.results.count, "a unit was answered twice")
        for result in job.results {
            let payload = Self.payload(result.id)
            require(result.digest == XXH64.digest(payload) || result.answer.status == .damaged, "unit \(result.id) was answered for another payload")
        }
        guard end.status == .completed else { return require(job.isCancelled || job.token.map(forgotten.contains) ?? false, "a job ended as \(end)") }
        require(job.results.map(\.id).sorted() == Array(1..<job.units + 1), "\(job.results.count) answers to \(job.units) units")
        require(end.proof == .proved, "a proof that is \(end.proof)")
    }

    // MARK: The client's application

    private static func payload(_ id: Int) -> ByteBuffer { ByteBuffer(repeating: UInt8(truncatingIfNeeded: id), count: id % 5 == 4 ? 9000 : 500 + id) }

    private mutating func submit(_ index: Int, count: Int) {
        let (key, encoding) = (jobs[index].key, jobs[index].encoding)
        var left = count
        while left > 0, jobs[index].end == nil, jobs[index].submitted < jobs[index].units, client.room(of: key) > 0 {
            left -= 1
            let unit = jobs[index].submitted + 1
            var info = FrameInfo(encoding: encoding, width: 8, height: 8)
            do throws(SubmitError) {
                let id = try client.withJob(key) { sender throws(SubmitError) in
                    if encoding == .source {
                        let extradata = ByteBuffer(integer: unit / 4)
                        info.configuration = try sender.declare(CodecConfiguration(codec: "h264", width: 8, height: 8, extradata: extradata))
                    }
                    return try sender.submit(OutgoingFrame(info: info, payload: Self.payload(unit)))
                }
                require(id == unit, "unit \(unit) got id \(id ?? 0)")
            } catch {
                fatalError("unit \(unit) was refused: \(error)")
            }
            jobs[index].submitted = unit
            settle()
        }
    }

    private mutating func finishSource(_ index: Int) {
        guard !jobs[index].isSourceFinished else { return }
        jobs[index].isSourceFinished = true
        _ = client.withJob(jobs[index].key) { $0.finishSource() }
    }

    private mutating func take(_ index: Int, count: Int) {
        let taken = jobs[index].waiting.prefix(count)
        guard let last = taken.last else { return }
        jobs[index].results += taken
        jobs[index].waiting.removeFirst(taken.count)
        _ = client.withJob(jobs[index].key) { $0.take(through: last.sequence) }
    }

    private mutating func see(_ event: ClientConnection.Event) {
        switch event {
        case .ready: break
        case .stalled, .failed: cut()
        case .job(let key, let event):
            guard let index = jobs.firstIndex(where: { $0.key == key }) else { fatalError("an event of no job") }
            require(jobs[index].end == nil, "an event after a job's end")
            switch event {
            case .accepted(let ticket): jobs[index].token = ticket.token
            case .result(let result): jobs[index].waiting.append(result)
            case .ended(let end):
                jobs[index].end = end
                // they were handed out before
                jobs[index].results += jobs[index].waiting
                jobs[index].waiting = []
            default: break
            }
        }
    }

    // MARK: The server's application

    private mutating func answer(_ index: Int, size: Int) {
        guard index < pending.count else { return }
        let unit = pending.remove(at: index)
        withReceiver(unit.token) { [now] in $0.complete(unit.id, Answer(body: ByteBuffer(repeating: 3, count: size)), at: now) }
        settle()
    }

    /// Wherever the job is.
    @discardableResult
    private mutating func withReceiver<Result>(_ token: String, _ body: (inout FrameReceiver) -> Result) -> Result? {
        if let number = tokens[token] { return server?.withJob(number, body) }
        if let number = ghostTokens[token] { return ghost?.withJob(number, body) }
        return parked.withJob(token, body)
    }

    private mutating func see(_ event: FrameReceiver.Event, _ token: String) {
        switch event {
        case .frame(let frame):
            require(XXH64.digest(frame.payload.contiguous) == XXH64.digest(Self.payload(frame.id)), "unit \(frame.id) is not what was sent")
            require(!pending.contains { $0.token == token && $0.id == frame.id }, "unit \(frame.id) comes twice")
            pending.append((token, frame.id))
        case .lost: break
        case .finished(let last): withReceiver(token) { [now] in $0.settle(below: last + 1, at: now) }
        case .ended: pending.removeAll { $0.token == token }
        }
    }

    private mutating func see(_ event: ServerConnection.Event) {
        switch event {
        case .ready: break
        case .stalled, .failed: cut()
        case .opened(let number, _): if let token = server?.accept(number, at: now) { tokens[token] = number }
        case .resumeRequested(let number, let request):
            let stolen = ghostTokens.removeValue(forKey: request.token)
            guard let receiver = parked.take(request.token) ?? stolen.flatMap({ ghost?.takeJob($0, at: now) }) else {
                server?.reject(number, .unknownToken)
                return
            }
            if let refused = server?.resume(number, receiver, at: now) { parked.park(refused, at: now) } else { tokens[request.token] = number }
        case .job(let number, let event): if let token = tokens.first(where: { $0.value == number })?.key { see(event, token) }
        }
    }

    // MARK: The channels

    private mutating func cut() {
        guard !isCut else { return }
        isCut = true
        wires = [[], [], [], []]
        client.disconnected(at: now)
        for number in server?.jobNumbers ?? [] { if let receiver = server?.takeJob(number, at: now) { parked.park(receiver, at: now) } }
        tokens = [:]
        server = nil
    }

    /// The client comes back before the server has missed it.
    private mutating func reconnectUnnoticed() {
        guard !isCut else { return reconnect() }
        missGhost()
        ghost = server.take()
        ghostTokens = tokens
        (wires, tokens) = ([[], [], [], []], [:])
        client.disconnected(at: now)
        isCut = true
        reconnect()
    }

    private mutating func missGhost() {
        for number in ghost?.jobNumbers ?? [] { if let receiver = ghost?.takeJob(number, at: now) { parked.park(receiver, at: now) } }
        ghost = nil
        ghostTokens = [:]
    }

    /// What the ghost says reaches nobody.
    private mutating func see(ofGhost output: ConnectionOutput<ServerConnection.Event>) {
        guard case .event(let event) = output else { return }
        switch event {
        case .job(let number, let event): if let token = ghostTokens.first(where: { $0.value == number })?.key { see(event, token) }
        case .stalled, .failed: missGhost()
        case .ready, .opened, .resumeRequested: break
        }
    }

    private mutating func reconnect() {
        cut()
        isCut = false
        seed += 1
        var fresh = ServerConnection(limits: limits, settings: settings, agent: "fuzz", generator: SplitMix64(seed: seed))
        fresh.connected(at: now)
        server = consume fresh
        client.connected(at: now)
    }

    private mutating func deliver(on wire: Int, count: Int) {
        var left = min(count, wires[wire].count)
        let lane: Lane = wire & 1 == 0 ? .control : .bulk
        while left > 0, !wires[wire].isEmpty {
            left -= 1
            let message = wires[wire].removeFirst()
            let buffered = wires[wire].reduce(0) { $0 + $1.bytes.readableBytes }
            if wire < 2 {
                client.setBuffered(buffered, on: lane, at: now)
                server?.handle(lane, message.bytes, isText: message.isText, at: now)
            } else {
                server?.setBuffered(buffered, on: lane, at: now)
                client.handle(lane, message.bytes, isText: message.isText, at: now)
            }
            settle()
        }
    }

    /// Of a payload, behind the header: below, DTLS would end the connection.
    private mutating func damage(_ position: Int) {
        guard let first = wires[1].first, let kind = first.bytes.getInteger(at: first.bytes.readerIndex, as: UInt8.self) else { return }
        let header = kind == 0x10 ? 88 : 16
        guard kind == 0x10 || kind == 0x11, first.bytes.readableBytes > header else { return }
        var payload = first.bytes
        payload.moveReaderIndex(forwardBy: header)
        var bytes = ByteBuffer(first.bytes.readableBytesView.prefix(header))
        bytes.writeImmutableBuffer(payload.damaged(at: position))
        wires[1][0].bytes = bytes
    }

    private mutating func deadline() -> Instant? {
        earliest(earliest(client.deadline, parked.deadline), earliest(server?.deadline, ghost?.deadline))
    }

    private mutating func advance(_ duration: Duration) {
        let end = now + duration
        for _ in 0..<64 {
            guard let next = deadline(), next <= end else { break }
            now = max(now, next)
            client.handleTimeout(at: now)
            server?.handleTimeout(at: now)
            ghost?.handleTimeout(at: now)
            parked.handleTimeout(at: now)
            let left = deadline()
            require(left.map { $0 > now } ?? true, "a deadline stays at \(now)")
            settle()
        }
        now = max(now, end)
    }

    private mutating func settle() {
        for round in 0... {
            require(round < 10_000, "output without end")
            var isQuiet = true
            if let output = client.poll(at: now) {
                isQuiet = false
                switch output {
                case .send(let lane, let bytes, let isText): wires[lane.rawValue].append((bytes, isText))
                case .event(let event): see(event)
                }
            }
            if let output = server?.poll(at: now) {
                isQuiet = false
                switch output {
                case .send(let lane, let bytes, let isText): wires[2 + lane.rawValue].append((bytes, isText))
                case .event(let event): see(event)
                }
            }
            if let output = ghost?.poll(at: now) {
                isQuiet = false
                see(ofGhost: output)
            }
            if let event = parked.poll() {
                isQuiet = false
                switch event {
                case .job(let token, let event): see(event, token)
                case .forgotten(let token): forgotten.insert(token)
                }
            }
            if isQuiet { break }
        }
        let bound = jobs.count * (settings.retainedBytes + limits.frameBytes + (1 << 20) + limits.resultBytes)
        require((0...bound).contains(client.heldBytes), "the client holds \(client.heldBytes) bytes")
        for number in server?.jobNumbers ?? [] {
            let held = server?.withJob(number) { $0.heldBytes } ?? 0
            require((0...limits.bytesInFlight).contains(held), "the server holds \(held) bytes")
        }
    }
}
