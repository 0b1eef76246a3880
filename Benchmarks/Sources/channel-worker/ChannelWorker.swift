import Glibc
import NIOCore
import NIOPosix
import WebRTC
import WebRTCNIO

/// One end of a data channel, driven by lines: the worker protocol of the bench that compares data channel stacks (Benchmarks/README.md).
///
/// Everything runs on the connection's event loop, so that a message costs no change of threads.
@main struct ChannelWorker {
    static func main() async {
        let arguments = Arguments(CommandLine.arguments.dropFirst())
        Lines.limitLife(to: arguments.deadline)
        if arguments.idleSessions > 0 {
            do { try await IdleSessions.run(arguments.idleSessions) } catch { Lines.fail("\(error)") }
            return
        }
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let commands = Lines.commands()
        let work = Task(executorPreference: LoopExecutor(loop)) {
            do {
                try await Worker(arguments, loop).run(commands)
            } catch {
                Lines.fail("\(error)")
            }
            _exit(0)
        }
        await work.value
    }
}

/// Runs tasks on an event loop, so that the stack's functions without an actor do not move to another thread either.
final class LoopExecutor: TaskExecutor {
    private let loop: any EventLoop
    init(_ loop: any EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.execute { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

/// The state of one run. An actor on the event loop: its methods never wait for another thread.
actor Worker {
    private let arguments: Arguments
    private let loop: any EventLoop
    private let tasks: LoopExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.executor.asUnownedSerialExecutor() }

    private var connection: PeerConnection?
    private var channel: DataChannel?
    /// Where pings go while the transfer runs (`control=`).
    private var control: DataChannel?
    private var isDone = false
    private var cpuAtStart = 0.0

    // The sender's.
    private var pingSentAt: UInt64 = 0
    private var roundTrips: [UInt32] = []
    private var bytesSent = 0
    private var isAnswered = false
    /// Round trips of `control`, in microseconds.
    private var controlTimes: [UInt32] = []

    // The receiver's.
    private var bytesReceived = 0
    private var messagesReceived = 0
    private var outOfOrder = 0

    init(_ arguments: Arguments, _ loop: any EventLoop) {
        self.arguments = arguments
        self.loop = loop
        tasks = LoopExecutor(loop)
    }

    func run(_ commands: AsyncStream<[Substring]>) async throws {
        await PeerConnection.prepare()
        Lines.emit("ready", "everyframe", "main")
        for await words in commands {
            switch words.first {
            case "start": try await start()
            case "sdp" where words.count == 3: try await setDescription(isOffer: words[1] == "offer", Lines.text(hex: words[2]))
            case "cand" where words.count == 3: try await addCandidate(Lines.text(hex: words[2]), mid: String(words[1]))
            case "go": try await go()
            case "mark": Lines.emit("mark", Lines.now, bytesReceived)
            case "stop": if !arguments.isSender { try await report() }
            case "quit": return
            default: break
            }
        }
    }

    // MARK: Connecting

    private func start() async throws {
        Lines.emit("pc", Lines.now)
        var configuration = PeerConnection.Configuration()
        configuration.includeLoopback = false
        if let size = arguments.datagramSize { configuration.maximumDatagramSize = size }
        let connection = try await PeerConnection(configuration: configuration, group: loop)
        self.connection = connection
        follow { worker in
            for await event in connection.events { try await worker.handle(event) }
        }
        guard arguments.isSender else { return }
        attach(try await connection.createDataChannel("bench"))
        if arguments.control > 0 {
            control = try await connection.createDataChannel("control", .init(priority: UInt16(clamping: arguments.control)))
            if let control { follow(control) }
        }
        let offer = try await connection.createOffer()
        try await connection.setLocalDescription(offer)
        Lines.emit("sdp", "offer", Lines.hex(await connection.localDescription?.sdp ?? offer.sdp))
    }

    private func setDescription(isOffer: Bool, _ sdp: String) async throws {
        guard let connection else { return }
        try await connection.setRemoteDescription(SessionDescription(kind: isOffer ? .offer : .answer, sdp: sdp))
        guard isOffer else { return }
        let answer = try await connection.createAnswer()
        try await connection.setLocalDescription(answer)
        Lines.emit("sdp", "answer", Lines.hex(await connection.localDescription?.sdp ?? answer.sdp))
    }

    private func addCandidate(_ text: String, mid: String) async throws {
        guard let connection, !text.isEmpty, var candidate = try? IceCandidate(sdp: text) else { return }
        candidate.sdpMid = mid
        try await connection.addIceCandidate(candidate)
    }

    private func handle(_ event: PeerConnection.Event) async throws {
        switch event {
        case .iceCandidate(let candidate): Lines.emit("cand", candidate.sdpMid ?? "0", Lines.hex(candidate.sdp))
        case .dataChannel(let channel):
            if channel.label == "control" {
                control = channel
                follow(channel)
            } else {
                attach(channel)
            }
        case .connectionStateChanged(.failed): Lines.fail("connection failed")
        default: break
        }
    }

    private func attach(_ channel: DataChannel) {
        self.channel = channel
        follow { worker in
            try await channel.waitUntilOpen()
            // Beyond the bench's own mark: it decides when to go on.
            await channel.setBufferedAmountHighWaterMark(worker.arguments.highWaterMark + worker.arguments.messageSize)
            Lines.emit("open", Lines.now)
            for try await message in channel.messages {
                if case .binary(let bytes) = message { try await worker.handle(bytes) }
            }
        }
    }

    private func follow(_ control: DataChannel) {
        follow { worker in
            for try await message in control.messages {
                guard case .binary(let bytes) = message else { continue }
                if worker.arguments.isSender { worker.controlAnswered() } else { try await control.send(bytes) }
            }
        }
    }

    /// A task on this loop; its failure is the run's.
    private func follow(_ body: @escaping @Sendable (isolated Worker) async throws -> Void) {
        Task(executorPreference: tasks) {
            do { try await body(self) } catch { Lines.fail("\(error)") }
        }
    }

    // MARK: Messages, told apart by their first byte

    private func handle(_ message: ByteBuffer) async throws {
        switch message.getInteger(at: message.readerIndex, as: UInt8.self) {
        case UInt8(ascii: "D"): try await handleData(message)
        case UInt8(ascii: "P"): try await handlePing(message)
        case UInt8(ascii: "A"): acknowledged()
        default: break
        }
    }

    private func handleData(_ message: ByteBuffer) async throws {
        if isDone { return }
        if messagesReceived == 0 { cpuAtStart = Lines.cpuSeconds }
        let sequence = message.getInteger(at: message.readerIndex + 1, endianness: .little, as: UInt32.self)
        if sequence != UInt32(truncatingIfNeeded: messagesReceived) { outOfOrder += 1 }
        messagesReceived += 1
        bytesReceived += message.readableBytes
        if bytesReceived >= arguments.total { try await report() }
    }

    private func handlePing(_ message: ByteBuffer) async throws {
        guard arguments.isSender else {
            try await channel?.send(message)
            return
        }
        roundTrips.append(UInt32(truncatingIfNeeded: Lines.now - pingSentAt))
        if roundTrips.count < arguments.warmUp + arguments.pings { return try await ping() }
        Lines.emit("rtt", list: Array(roundTrips.dropFirst(arguments.warmUp)))
        follow { try await $0.transfer() }
    }

    // MARK: The sender

    private func go() async throws {
        if arguments.pings > 0 { try await ping() } else { follow { try await $0.transfer() } }
    }

    private func ping() async throws {
        var message = ByteBuffer(repeating: 0, count: arguments.pingSize)
        message.setInteger(UInt8(ascii: "P"), at: 0)
        pingSentAt = Lines.now
        try await channel?.send(message)
    }

    private func transfer() async throws {
        guard let channel else { return }
        var generator = SystemRandomNumberGenerator()
        var message = ByteBuffer(bytes: (0..<arguments.messageSize).map { _ in UInt8.random(in: 0...255, using: &generator) })
        message.setInteger(UInt8(ascii: "D"), at: 0)
        var sequence: UInt32 = 0
        cpuAtStart = Lines.cpuSeconds
        Lines.emit("xfer-start", Lines.now)
        if let control { follow { try await $0.pingBesides(on: control) } }
        while bytesSent < arguments.total, !isDone {
            if await channel.bufferedAmount >= arguments.highWaterMark { try await channel.waitUntilBuffered(atMost: arguments.lowWaterMark) }
            message.setInteger(sequence, at: 1, endianness: .little)
            try await channel.send(message)
            sequence &+= 1
            bytesSent += arguments.messageSize
        }
    }

    /// One ping after the other while the transfer runs, 20 ms apart.
    private func pingBesides(on control: DataChannel) async throws {
        while !isDone {
            var message = ByteBuffer(repeating: 0, count: arguments.pingSize)
            message.setInteger(UInt8(ascii: "P"), at: 0)
            pingSentAt = Lines.now
            isAnswered = false
            try await control.send(message)
            while !isAnswered, !isDone { try await Task.sleep(for: .milliseconds(1)) }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func controlAnswered() {
        isAnswered = true
        controlTimes.append(UInt32(truncatingIfNeeded: (Lines.now - pingSentAt) / 1000))
    }

    private func acknowledged() {
        guard !isDone else { return }
        isDone = true
        if arguments.control > 0 { Lines.emit("control", list: controlTimes) }
        Lines.emit("sent", Lines.now, Lines.cpuSeconds - cpuAtStart, bytesSent, Lines.peakKB)
    }

    // MARK: The receiver

    private func report() async throws {
        guard !isDone else { return }
        isDone = true
        let now = Lines.now
        let cpu = messagesReceived > 0 ? Lines.cpuSeconds - cpuAtStart : 0
        Lines.emit("xfer", now, cpu, bytesReceived, messagesReceived, outOfOrder, Lines.peakKB)
        var acknowledgement = ByteBuffer(repeating: 0, count: 16)
        acknowledgement.setInteger(UInt8(ascii: "A"), at: 0)
        try await channel?.send(acknowledgement)
    }
}
