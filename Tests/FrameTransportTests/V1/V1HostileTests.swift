import NIOCore
import Testing
import Wire

@testable import FrameTransport

/// Peers that break the rules: a typed failure each, memory within its bounds, never a trap.
@Suite struct V1HostileTests {
    /// A server with one accepted job of JPEG frames, and what it has said so far.
    struct Server: ~Copyable {
        var engine: ServerConnection
        var events: [ServerConnection.Event] = []
        var sent: [ReceivedControl] = []
        var now = Instant.zero

        init(limits change: (inout JobLimits) -> Void = { _ in }, request: JobRequest = JobRequest(encoding: .jpeg), isGreeted: Bool = true) {
            var limits = JobLimits()
            limits.framesInFlight = 8
            limits.bytesInFlight = 50_000
            limits.frameBytes = 20_000
            limits.jobs = 2
            change(&limits)
            engine = ServerConnection(limits: limits, agent: "test", generator: SplitMix64(seed: 1))
            engine.connected(at: .zero)
            guard isGreeted else { return }
            control(.hello(Hello(versions: [1], maximumMessageBytes: 262_144)))
            control(.open(job: 1, request))
            engine.accept(1, at: now)
            drain()
        }

        mutating func control(_ message: ControlMessage, lane: Lane = .control) {
            var bytes = ByteBuffer()
            message.write(.messagePack, into: &bytes)
            raw(bytes, lane)
        }

        mutating func frame(
            _ id: Int, length: Int? = nil, bytes: ByteBuffer = ByteBuffer(string: "frame"), job: JobNumber = 1, change: (inout FrameHeader) -> Void = { _ in }
        ) {
            var header = FrameHeader(
                job: job, id: id, length: length ?? bytes.readableBytes, digest: XXH64.digest(bytes), info: FrameInfo(encoding: .jpeg, width: 8, height: 8))
            change(&header)
            var message = ByteBuffer()
            header.write(into: &message)
            message.writeImmutableBuffer(bytes)
            raw(message, .bulk)
        }

        mutating func chunk(_ id: Int, offset: Int, count: Int) {
            var message = ByteBuffer()
            ChunkHeader(kind: .frame, job: 1, offset: offset, id: id).write(into: &message)
            message.writeRepeatingByte(7, count: count)
            raw(message, .bulk)
        }

        mutating func raw(_ bytes: ByteBuffer, _ lane: Lane, isText: Bool = false) {
            engine.handle(lane, bytes, isText: isText, at: now)
            drain()
        }

        mutating func drain() {
            while let output = engine.poll(at: now) {
                switch output {
                case .event(let event): events.append(event)
                case .send(let lane, var bytes, _):
                    engine.setBuffered(0, on: lane, at: now)
                    if bytes.readInteger() == UInt8(1), let message = try? ControlMessage.read(bytes, isText: false) { sent.append(message) }
                }
            }
            let held = engine.withJob(1) { $0.heldBytes } ?? 0
            #expect(held >= 0 && held <= 50_000)
        }

        var failure: ConnectionFailure? {
            for case .failed(let failure) in events { return failure }
            return nil
        }

        var end: JobEnd? {
            for case .job(_, .ended(let end)) in events { return end }
            return nil
        }
    }

    @Test("A frame beyond the credit of ids ends its job")
    func ids() {
        var server = Server()
        for id in 1...9 { server.frame(id) }
        #expect(server.end?.reason == .protocolViolation)
        #expect(server.end?.counts.received == 8)
        #expect(server.failure == nil)
    }

    @Test("Ids out of order end the job", arguments: [0, 2, 5, 1 << 40])
    func order(id: Int) {
        var server = Server()
        server.frame(id)
        if id == 0 { #expect(server.failure == .unreadable(.badField(.id))) } else { #expect(server.end?.reason == .protocolViolation) }
    }

    @Test("Payload bytes beyond the credit end the job; nothing beyond it is held")
    func bytes() {
        var server = Server()
        for id in 1...3 { server.frame(id, bytes: ByteBuffer(repeating: 1, count: 19_999)) }
        #expect(server.end?.message.contains("credit") ?? false)
    }

    @Test("Lengths and geometries beyond the limits end the job before a byte is kept")
    func lengths() {
        for change: (inout FrameHeader) -> Void in [
            { $0.length = 20_001 }, { $0.length = Int(UInt32.max) }, { $0.info.uncompressedLength = .max },
            { header in
                header.info.width = .max
                header.info.height = .max
            }, { $0.info.encoding = .raw },
        ] {
            var server = Server()
            server.frame(1, change: change)
            #expect(server.end?.reason == .protocolViolation)
        }
    }

    @Test("A flood of tiny pieces costs the frame its tries and no more")
    func tinyPieces() {
        var server = Server()
        for _ in 0..<3 {
            server.frame(1, length: 10_000, bytes: ByteBuffer())
            for offset in 0..<10 { server.chunk(1, offset: offset, count: 1) }
        }
        let faults = server.engine.withJob(1) { $0.faults } ?? [:]
        #expect(faults[.badPiece] == 3 && (faults[.stray] ?? 0) == 30)
        #expect(server.engine.withJob(1) { $0.counts.failed } == 1, "given up after three tries")
        server.frame(2)
        #expect(server.end == nil, "the job goes on")
    }

    @Test("A frame begun inside another, pieces at wrong offsets, pieces of no frame: asked for again")
    func pieces() {
        var server = Server()
        server.frame(1, length: 10_000, bytes: ByteBuffer(repeating: 0, count: 2000))
        server.frame(2)
        server.frame(3, length: 10_000, bytes: ByteBuffer(repeating: 0, count: 2000))
        server.chunk(3, offset: 3000, count: 2000)
        server.chunk(3, offset: 4000, count: 2000)
        #expect(server.sent.contains(.message(.retry(job: 1, ids: [1]))))
        #expect(server.sent.contains(.message(.retry(job: 1, ids: [3]))))
        server.frame(1)
        server.frame(3)
        server.frame(3)
        let ids = server.events.compactMap { if case .job(_, .frame(let frame)) = $0 { frame.id } else { nil } }
        #expect(ids == [2, 1, 3])
        #expect(server.engine.withJob(1) { $0.faults } == [.interrupted: 1, .badPiece: 1, .stray: 1, .duplicate: 1])
    }

    @Test("A unit that was asked for again and never comes is given up in bounded time; the others are answered")
    func overdue() {
        var server = Server()
        server.frame(1, change: { $0.digest ^= 1 })
        server.frame(2)
        _ = server.engine.withJob(1) { $0.complete(2, Answer(), at: .zero) }
        while let deadline = server.engine.deadline, deadline < .zero + .seconds(60), server.engine.withJob(1, { $0.counts.answered }) != 2 {
            server.now = deadline
            server.engine.handleTimeout(at: deadline)
            server.control(.pong(1))
        }
        #expect(server.engine.withJob(1) { $0.counts.failed } == 1)
        #expect(server.now - Instant.zero <= .seconds(15))
    }

    @Test("What is no message at all fails the connection, typed")
    func garbage() {
        let cases: [(bytes: [UInt8], lane: Lane, isText: Bool)] = [
            ([], .bulk, false), ([0xFF], .bulk, false), ([1], .control, false), ([1, 0xC1], .control, false), (Array("{".utf8), .control, true),
            ([0x10, 22], .bulk, false), ([0x11, 0, 0, 1], .bulk, false), ([0x12, 255], .bulk, false), ([0x20, 28, 0, 1], .bulk, false),
            ([0x10, 22, 0, 1], .control, false), ([UInt8](repeating: 1, count: 300_000), .control, false),
            ([0x11] + [UInt8](repeating: 0, count: 14) + [1, 9], .bulk, false),
        ]
        for (bytes, lane, isText) in cases {
            var server = Server()
            server.raw(ByteBuffer(bytes: bytes), lane, isText: isText)
            #expect(server.failure != nil, "\(bytes.prefix(8))")
            server.frame(1)
        }
    }

    @Test("Greetings: none, two, of another version; messages for jobs that never were")
    func greetings() {
        var silent = Server(isGreeted: false)
        silent.frame(1)
        #expect(silent.failure == .hello)
        var early = Server(isGreeted: false)
        early.control(.open(job: 1, JobRequest(encoding: .jpeg)))
        #expect(early.failure == .hello)
        var future = Server(isGreeted: false)
        future.control(.hello(Hello(versions: [2, 3], maximumMessageBytes: 65_536)))
        #expect(future.failure == .noCommonVersion)
        var twice = Server()
        twice.control(.hello(Hello(versions: [1], maximumMessageBytes: 65_536)))
        #expect(twice.failure == .hello)
        var stranger = Server()
        stranger.control(.cancel(job: 7))
        #expect(stranger.failure == .unknownJob(7))
        var again = Server()
        again.control(.open(job: 1, JobRequest(encoding: .jpeg)))
        #expect(again.failure == .unknownJob(1))
    }

    @Test("Jobs beyond the limit are refused; a peer that makes us answer without reading is cut off")
    func jobs() {
        var server = Server()
        for number in 2...10 { server.control(.open(job: JobNumber(number), JobRequest(encoding: .jpeg))) }
        let refused = server.sent.filter { if case .message(.rejected(_, .tooManyJobs, _)) = $0 { true } else { false } }
        #expect(refused.count == 8)
        var deaf = Server()
        deaf.engine.setBuffered(10 << 20, on: .control, at: .zero)
        for number in 0..<2000 {
            var bytes = ByteBuffer()
            ControlMessage.ping(number).write(.messagePack, into: &bytes)
            deaf.engine.handle(.control, bytes, isText: false, at: .zero)
        }
        deaf.drain()
        #expect(deaf.failure == .backlog)
    }

    @Test("Answers taken before they were sent, and a source that ends elsewhere, end the job")
    func lies() {
        var server = Server()
        server.control(.taken(job: 1, sequence: 1))
        #expect(server.end?.reason == .protocolViolation)
        var other = Server()
        other.frame(1)
        other.control(.finish(job: 1, JobFinish(last: 5)), lane: .bulk)
        #expect(other.end?.reason == .protocolViolation)
        var behind = Server()
        behind.frame(1)
        behind.control(.finish(job: 1, JobFinish(last: 1)), lane: .bulk)
        behind.frame(2)
        #expect(behind.end?.reason == .protocolViolation)
    }

    @Test("A raw picture of another length than its geometry, and an unknown configuration, are errors of that unit")
    func wrongPictures() {
        var request = JobRequest(encoding: .raw)
        request.resultFormat = .json
        var server = Server(request: request)
        server.frame(1) { header in
            header.info.encoding = .raw
            header.info.pixelFormat = .i420
        }
        #expect(server.engine.withJob(1) { $0.counts.failed } == 1)
        var source = Server(request: JobRequest(encoding: .source))
        for _ in 0..<3 {
            source.frame(1) { header in
                header.info.encoding = .source
                header.info.configuration = 4
            }
        }
        #expect(source.engine.withJob(1) { $0.counts.failed } == 1)
        #expect(source.end == nil)
    }

    @Test("Messages of a real run, shuffled, cut and damaged, trap neither end", arguments: Array(UInt64(1)...30))
    func commands(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let samples = Self.samples
        var server = Server(isGreeted: seed % 5 == 0)
        var client = ClientConnection(agent: "test")
        client.connected(at: .zero)
        let key = client.open(JobRequest(encoding: .jpeg), at: .zero)
        var now = Instant.zero
        for step in 0..<400 {
            guard let sample = samples.randomElement(using: &random) else { return }
            var bytes = sample.bytes
            switch Int.random(in: 0..<8, using: &random) {
            case 0: bytes = ByteBuffer(bytes.readableBytesView.prefix(Int.random(in: 0...bytes.readableBytes, using: &random)))
            case 1 where bytes.readableBytes > 0:
                bytes.setInteger(UInt8.random(in: 0...255, using: &random), at: Int.random(in: 0..<bytes.readableBytes, using: &random))
            default: break
            }
            now += .milliseconds(Int.random(in: 0...50, using: &random))
            server.now = now
            server.raw(bytes, sample.lane, isText: sample.isText)
            for event in server.events {
                if case .opened(let number, _) = event { server.engine.accept(number, at: now) }
                if case .job(let number, .frame(let frame)) = event { _ = server.engine.withJob(number) { $0.complete(frame.id, Answer(), at: now) } }
            }
            server.events.removeAll()
            server.sent.removeAll()
            client.handle(sample.lane, bytes, isText: sample.isText, at: now)
            while let output = client.poll(at: now) {
                if case .event(.job(_, .ended)) = output { continue }
                if case .event(.failed) = output { client.connected(at: now) }
            }
            if client.room(of: key) > 0 {
                let frame = OutgoingFrame(info: FrameInfo(encoding: .jpeg, width: 8, height: 8), payload: ByteBuffer(string: "frame"))
                _ = try? client.withJob(key) { sender throws(SubmitError) in try sender.submit(frame) }
            }
            if let deadline = client.deadline, deadline <= now { client.handleTimeout(at: now) }
            if let deadline = server.engine.deadline, deadline <= now { server.engine.handleTimeout(at: now) }
            if step % 50 == 49 {
                server = Server(isGreeted: random.next() % 2 == 0)
                server.now = now
                client.disconnected(at: now)
                client.connected(at: now)
            }
        }
    }

    /// All that went over the channels in a small run, both ways.
    static let samples: [(bytes: ByteBuffer, lane: Lane, isText: Bool)] = {
        var plan = V1World.Plan()
        plan.units = 12
        plan.cuts = 60...120
        plan.damage = 0.1
        let world = V1World(plan, seed: 5)
        world.recording = []
        world.run()
        return world.recording ?? []
    }()
}
