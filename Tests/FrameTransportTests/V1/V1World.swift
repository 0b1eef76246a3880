import NIOCore
import Wire

@testable import FrameTransport

/// A client and a server with two ordered, reliable channels between them that can be cut, in virtual time, from one seed.
///
/// The applications on both ends are here as well: a source that can be read again from any unit, a decoder that gives payloads
/// back late, a model that answers out of order, and a reader of results. What must always hold is checked after each step.
final class V1World {
    struct Plan: Sendable {
        var units = 40
        var jobs = 1
        var encoding = PayloadEncoding.jpeg
        var sizes = 0...50_000
        var latency: Duration = .milliseconds(5)
        /// Bytes a second in each direction.
        var rate = 20_000_000
        var decodeTime = 0...4
        var inferTime = 1...30
        /// How long the client's application takes for a result, in milliseconds.
        var takeTime = 0...2
        /// Milliseconds between two cuts; nil: none.
        var cuts: ClosedRange<Int>?
        /// How many of the cuts end the client's process.
        var restarts = 0.0
        /// How many of the cuts are silent: nobody is told, everything vanishes.
        var silent = 0.0
        /// How many frame messages are damaged behind their header.
        var damage = 0.0
        /// How many units the decoder refuses, each time.
        var undecodable = 0.0
        var limits = JobLimits()
        var settings = TransportSettings()
        var request = JobRequest(encoding: .jpeg)
        var format = Answer.Format.messagePack
        /// The client cancels after that many results.
        var cancelAfter: Int?
        /// The reader of results stands still between these milliseconds.
        var pause: ClosedRange<Int>?

        init() {
            limits.framesInFlight = 12
            limits.bytesInFlight = 100_000
            limits.frameBytes = 60_000
            limits.resumeLifetime = .seconds(30)
            settings.retainedBytes = 80_000
        }
    }

    /// What the client's application knows of a job, on disk as it were.
    struct Job {
        var request: JobRequest
        var key: ClientConnection.JobKey?
        var token: String?
        var results: [FrameResult] = []
        /// Handed over and not yet dealt with.
        var waiting: [FrameResult] = []
        var nextUnit = 1
        var configuration: UInt16 = 0
        var isSourceFinished = false
        var end: JobEnd?
        var serverEnd: JobEnd?
    }

    /// A decoder with frames that come in another order: units 2 and 3 of each three change places.
    struct Decoder {
        var group: [Int] = []
        mutating func decode(_ id: Int) -> [Int] {
            group.append(id)
            guard group.count == 3 else { return [] }
            defer { group = [] }
            return [group[0], group[2], group[1]]
        }
        mutating func flush() -> [Int] {
            defer { group = [] }
            return group
        }
    }

    struct Packet {
        var bytes: ByteBuffer
        var isText: Bool
        var at: Instant
    }

    enum Action {
        case release(token: String, id: Int)
        case complete(token: String, id: Int)
        case take(job: Int)
        case cut
        case reconnect
        case submit
    }

    let plan: Plan
    var random: SplitMix64
    var now = Instant.zero
    var client: ClientConnection
    var server: ServerConnection?
    var parked = ParkedJobs(capacity: 8)
    var numbers: [String: JobNumber] = [:]
    var decoders: [String: Decoder] = [:]
    var jobs: [Job] = []
    var wires: [[Packet]] = Array(repeating: [], count: 4)
    var isCut = true
    var isSilent = false
    var actions: [(at: Instant, action: Action)] = []
    var faults: [String] = []
    var cutCount = 0
    var restartCount = 0
    var stallCount = 0
    var failures: [ConnectionFailure] = []
    var highestHeld = 0
    var damaged = 0
    var refused: [String: Int] = [:]
    var serverFaults: [FrameFaultReason: Int] = [:]
    var progress: [JobProgress] = []
    /// Every message, where somebody wants them.
    var recording: [(bytes: ByteBuffer, lane: Lane, isText: Bool)]?

    init(_ plan: Plan, seed: UInt64) {
        self.plan = plan
        random = SplitMix64(seed: seed)
        client = ClientConnection(settings: plan.settings, agent: "test", format: plan.format)
        for _ in 0..<plan.jobs {
            var request = plan.request
            request.encoding = plan.encoding
            jobs.append(Job(request: request))
        }
    }

    // MARK: The run

    /// Until every job has ended, or virtual time is over.
    func run(limit: Duration = .seconds(600)) {
        for index in jobs.indices { jobs[index].key = client.open(jobs[index].request, at: now) }
        connect()
        if let cuts = plan.cuts { schedule(.cut, in: cuts) }
        var steps = 0
        while !isOver, now - .zero < limit {
            step()
            steps += 1
            if steps > 2_000_000 {
                faults.append("no end in \(steps) steps")
                return
            }
        }
        // the farewells
        let end = now + .seconds(2)
        while now < end, step() {}
    }

    var isOver: Bool { jobs.allSatisfy { $0.end != nil } }

    @discardableResult
    func step() -> Bool {
        pump()
        check()
        var next = actions.map(\.at).min()
        for wire in wires { next = earliest(next, wire.first?.at) }
        next = earliest(next, client.deadline)
        next = earliest(next, server?.deadline)
        next = earliest(next, parked.deadline)
        guard let next else {
            if !isOver { faults.append("nothing to wait for at \(now.nanoseconds / 1_000_000) ms") }
            now += .seconds(1000)
            return false
        }
        if next < now { faults.append("a deadline in the past") }
        now = max(now, next)
        for wire in 0..<4 {
            while let packet = wires[wire].first, packet.at <= now {
                wires[wire].removeFirst()
                deliver(packet, on: wire)
            }
        }
        if let deadline = client.deadline, deadline <= now { client.handleTimeout(at: now) }
        if let deadline = client.deadline, deadline <= now { faults.append("the client's deadline stays") }
        if server?.deadline.map({ $0 <= now }) ?? false { server?.handleTimeout(at: now) }
        if server?.deadline.map({ $0 <= now }) ?? false { faults.append("the server's deadline stays") }
        if let deadline = parked.deadline, deadline <= now { parked.handleTimeout(at: now) }
        let due = actions.filter { $0.at <= now }
        actions.removeAll { $0.at <= now }
        for entry in due { perform(entry.action) }
        return true
    }

    func check() {
        let held = client.heldBytes
        highestHeld = max(highestHeld, held)
        let bound = plan.jobs * (plan.settings.retainedBytes + plan.limits.frameBytes + plan.request.resultWindow)
        if held > bound { faults.append("the client holds \(held) bytes") }
        for number in numbers.values {
            guard let (held, results) = server?.withJob(number, { ($0.heldBytes, $0.resultBytes) }) else { continue }
            if held > plan.limits.bytesInFlight || held < 0 { faults.append("the server holds \(held) payload bytes") }
            if results > plan.request.resultWindow + plan.limits.resultBytes * (plan.limits.framesInFlight + 1) || results < 0 {
                faults.append("the server holds \(results) result bytes")
            }
        }
    }

    // MARK: Channels

    func connect() {
        isCut = false
        isSilent = false
        wires = Array(repeating: [], count: 4)
        var fresh = ServerConnection(limits: plan.limits, settings: plan.settings, agent: "test", generator: SplitMix64(seed: random.next()))
        fresh.connected(at: now)
        park()
        server = consume fresh
        client.connected(at: now)
    }

    /// Jobs of the old connection.
    func park() {
        server?.takeJobs(at: now) { receiver in
            numbers[receiver.token] = nil
            for (reason, count) in receiver.faults { serverFaults[reason, default: 0] += count }
            parked.park(receiver, at: now)
        }
        server = nil
    }

    func cut() {
        guard !isCut, !isOver else { return }
        cutCount += 1
        if chance(plan.silent) {
            isSilent = true
            for wire in 0..<4 { wires[wire] = [] }
            return
        }
        for wire in 0..<4 { wires[wire] = [] }
        isCut = true
        if chance(0.5) { park() }
        if chance(plan.restarts) {
            restart()
        } else {
            client.disconnected(at: now)
        }
        schedule(.reconnect, in: 1...200)
    }

    /// The client's process ends; the next knows the tokens, its results and its source.
    func restart() {
        restartCount += 1
        client = ClientConnection(settings: plan.settings, agent: "test", format: plan.format)
        actions.removeAll { if case .take = $0.action { true } else { false } }
        for index in jobs.indices { jobs[index].key = nil }
        for index in jobs.indices where jobs[index].end == nil {
            jobs[index].waiting = []
            jobs[index].isSourceFinished = false
            jobs[index].configuration = 0
            jobs[index].nextUnit = .max
            if let token = jobs[index].token {
                jobs[index].key = client.resume(ResumeTicket(token: token, taken: jobs[index].results.count), request: jobs[index].request, at: now)
            } else {
                jobs[index].nextUnit = 1
                jobs[index].key = client.open(jobs[index].request, at: now)
            }
        }
    }

    func send(_ bytes: ByteBuffer, isText: Bool, lane: Lane, up: Bool) {
        guard !isCut else { return }
        let wire = lane.rawValue + (up ? 0 : 2)
        recording?.append((bytes, lane, isText))
        var bytes = bytes
        if up, lane == .bulk, chance(plan.damage), let kind: UInt8 = bytes.getInteger(at: 0) {
            let header = kind == 0x10 ? FrameHeader.byteCount : kind == 0x11 ? ChunkHeader.byteCount : bytes.readableBytes
            if header < bytes.readableBytes {
                let position = Int.random(in: header..<bytes.readableBytes, using: &random)
                bytes.setInteger((bytes.getInteger(at: position) ?? UInt8(0)) ^ 0x40, at: position)
                damaged += 1
            }
        }
        let start = max(wires[wire].last.map { $0.at - plan.latency } ?? now, now)
        wires[wire].append(Packet(bytes: bytes, isText: isText, at: start + .microseconds(bytes.readableBytes * 1_000_000 / plan.rate) + plan.latency))
    }

    func deliver(_ packet: Packet, on wire: Int) {
        guard !isSilent, let lane = Lane(rawValue: wire % 2) else { return }
        let waiting = wires[wire].reduce(0) { $0 + $1.bytes.readableBytes }
        if wire < 2 {
            client.setBuffered(waiting, on: lane, at: now)
            server?.handle(lane, packet.bytes, isText: packet.isText, at: now)
        } else {
            server?.setBuffered(waiting, on: lane, at: now)
            client.handle(lane, packet.bytes, isText: packet.isText, at: now)
        }
        pump()
    }

    func pump() {
        var isBusy = true
        while isBusy {
            isBusy = false
            submit()
            while let output = client.poll(at: now) {
                isBusy = true
                switch output {
                case .send(let lane, let bytes, let isText): send(bytes, isText: isText, lane: lane, up: true)
                case .event(let event): handle(event)
                }
            }
            while let output = server?.poll(at: now) {
                isBusy = true
                switch output {
                case .send(let lane, let bytes, let isText): send(bytes, isText: isText, lane: lane, up: false)
                case .event(let event): handle(event)
                }
            }
            while let event = parked.poll() {
                isBusy = true
                if case .job(let token, let event) = event { handle(event, token: token) }
            }
        }
    }

    func perform(_ action: Action) {
        switch action {
        case .cut:
            cut()
            if let cuts = plan.cuts { schedule(.cut, in: cuts) }
        case .reconnect: if isCut { connect() }
        case .release(let token, let id): withReceiver(token) { $0.release(id, at: now) }
        case .complete(let token, let id): complete(token, id)
        case .take(let index): takeResult(index)
        case .submit: break
        }
        pump()
    }

    func schedule(_ action: Action, in range: ClosedRange<Int>) {
        actions.append((now + .milliseconds(Int.random(in: range, using: &random)), action))
    }

    func chance(_ share: Double) -> Bool { share > 0 && Double.random(in: 0..<1, using: &random) < share }
}
