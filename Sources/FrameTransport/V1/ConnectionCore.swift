package import NIOCore
import Wire

/// The two ordered, reliable data channels of a connection, both with the subprotocol `everyframe.v1`.
package enum Lane: Int, Hashable, Sendable, CaseIterable {
    /// Small messages that must not wait behind frames.
    case control
    /// Frames up, results down.
    case bulk

    package var label: String { self == .control ? "everyframe.control" : "everyframe.bulk" }

    package static let subprotocol = "everyframe.v1"
    package static let version = 1
}

/// Why a connection cannot go on. The driver closes it; jobs may be resumed on another.
package enum ConnectionFailure: Error, Hashable, Sendable {
    case unreadable(BinaryMessageError)
    case unreadableControl(ControlMessageError)
    /// Longer than this end said it takes.
    case tooLong(Int)
    /// Frames among control messages.
    case wrongLane
    /// Something else came first, or a second one came.
    case hello
    case noCommonVersion
    /// A message for a job that was never there.
    case unknownJob(Int)
    /// The peer makes us answer and does not read.
    case backlog
    /// The other end says that it gives up.
    case goodbye(reason: String, message: String)
}

/// What stands still. The driver makes a new connection and resumes.
package enum Stall: Hashable, Sendable {
    /// Bytes wait in this channel and none has left it for `stallLimit`.
    case lane(Lane)
    /// Nothing was heard, not even an answer to a ping.
    case silence
}

/// What an engine wants done.
package enum ConnectionOutput<Event: Sendable>: Sendable {
    /// To be sent on this channel, whole and in order.
    case send(Lane, ByteBuffer, isText: Bool)
    case event(Event)
}

/// What was counted on a connection.
package struct ConnectionCounters: Hashable, Sendable {
    package var messagesSent = 0
    package var messagesReceived = 0
    package var bytesSent = 0
    package var bytesReceived = 0
    /// Control messages of a type from the future.
    package var unknownTypes = 0
    /// Messages for jobs that are over.
    package var stale = 0
}

/// What both ends of a connection share: the channels' fill, the watchdog, control messages on their way.
struct ConnectionCore: Sendable {
    enum Phase: Hashable, Sendable {
        case disconnected
        case greeting
        case ready
        case failed
    }

    enum TimerKey: Int, CaseIterable, Sendable {
        case ping
        case silence
        case controlStall
        case bulkStall
    }

    private struct LaneState: Sendable {
        var buffered = 0
    }

    let settings: TransportSettings
    var phase = Phase.disconnected
    var format: Answer.Format
    var counters = ConnectionCounters()
    /// What the other end and the channel take.
    var messageBytes = TransportSettings.leastMessageBytes
    private var outbox = CircularBuffer<ControlMessage>()
    private var lanes = [LaneState](repeating: LaneState(), count: Lane.allCases.count)
    private var timers = TimerTable<TimerKey>()
    private var pings = 0
    private(set) var stall: Stall?
    private(set) var failure: ConnectionFailure?
    var isStallTold = false
    var isFailureTold = false
    /// The highest number that was given to a job.
    var lastNumber: JobNumber = 0

    init(settings: TransportSettings, format: Answer.Format) {
        self.settings = settings
        self.format = format
    }

    mutating func connect(channelMessageBytes: Int?, at now: Instant) {
        phase = .greeting
        messageBytes = max(TransportSettings.leastMessageBytes, min(channelMessageBytes ?? settings.channelMessageBytes, settings.channelMessageBytes))
        outbox.removeAll()
        for lane in Lane.allCases { lanes[lane.rawValue].buffered = 0 }
        timers.stopAll()
        stall = nil
        failure = nil
        isStallTold = false
        isFailureTold = false
        lastNumber = 0
        // the other end's hello is the first sign of life
        timers[.silence] = now + settings.silenceLimit
    }

    mutating func disconnect() {
        phase = .disconnected
        outbox.removeAll()
        timers.stopAll()
    }

    /// Both hellos are there.
    mutating func agree(_ hello: Hello) {
        phase = .ready
        messageBytes = min(messageBytes, hello.maximumMessageBytes)
    }

    mutating func fail(_ failure: ConnectionFailure) {
        guard phase != .failed, phase != .disconnected else { return }
        phase = .failed
        self.failure = failure
        outbox.removeAll()
        timers.stopAll()
        if case .goodbye = failure { return }
        outbox.append(.goodbye(reason: "protocol", message: "\(failure)"))
    }

    mutating func enqueue(_ message: ControlMessage) {
        guard phase != .failed, phase != .disconnected else { return }
        guard outbox.count < settings.controlBacklog else { return fail(.backlog) }
        outbox.append(message)
    }

    // MARK: Receiving

    enum Received {
        case control(ControlMessage)
        case bulk(BinaryMessage.Kind, ByteBuffer)
    }

    /// Reads a message as far as both ends do it alike; nil where nothing is left to do.
    mutating func receive(_ lane: Lane, _ message: ByteBuffer, isText: Bool, hasJobs: Bool, at now: Instant) -> Received? {
        guard phase == .greeting || phase == .ready else { return nil }
        counters.messagesReceived += 1
        counters.bytesReceived += message.readableBytes
        hear(hasJobs: hasJobs, at: now)
        guard message.readableBytes <= settings.maximumMessageBytes else {
            fail(.tooLong(message.readableBytes))
            return nil
        }
        var body = message
        if !isText {
            guard let first: UInt8 = message.getInteger(at: message.readerIndex), let kind = BinaryMessage.Kind(rawValue: first) else {
                fail(.unreadable(message.readableBytes == 0 ? .truncated : .badKind(message.getInteger(at: message.readerIndex) ?? 0)))
                return nil
            }
            guard kind == .control else {
                guard phase == .ready else {
                    fail(.hello)
                    return nil
                }
                guard lane == .bulk else {
                    fail(.wrongLane)
                    return nil
                }
                return .bulk(kind, message)
            }
            body.moveReaderIndex(forwardBy: 1)
        }
        guard body.readableBytes <= settings.controlBytes else {
            fail(.tooLong(body.readableBytes))
            return nil
        }
        do throws(ControlMessageError) {
            switch try ControlMessage.read(body, isText: isText) {
            case .unknown:
                counters.unknownTypes += 1
                return nil
            case .message(.ping(let number)):
                enqueue(.pong(number))
                return nil
            case .message(.pong): return nil
            case .message(.goodbye(let reason, let message)):
                fail(.goodbye(reason: reason, message: message))
                return nil
            case .message(let message): return .control(message)
            }
        } catch {
            fail(.unreadableControl(error))
            return nil
        }
    }

    // MARK: Sending

    var canSendControl: Bool { phase != .disconnected && lanes[Lane.control.rawValue].buffered < settings.controlHighWater }

    mutating func nextControl() -> ControlMessage? { outbox.popFirst() }

    mutating func encode(_ message: ControlMessage) -> (bytes: ByteBuffer, isText: Bool) {
        var bytes = ByteBuffer()
        message.write(format, into: &bytes)
        return (bytes, format == .json)
    }

    mutating func encode(_ message: BulkMessage) -> (bytes: ByteBuffer, isText: Bool) {
        switch message {
        case .bytes(let bytes): (bytes, false)
        case .control(let message): encode(message)
        }
    }

    /// What may go on the bulk lane now. Several jobs, or a filling channel, make for smaller pieces, so that none waits long.
    func bulkBudget(jobs: Int) -> BulkBudget? {
        let buffered = lanes[Lane.bulk.rawValue].buffered
        guard phase == .ready, buffered < settings.bulkHighWater else { return nil }
        let chunk = jobs > 1 || buffered > settings.bulkHighWater / 2 ? min(settings.sharedChunkBytes, settings.maximumChunkBytes) : settings.maximumChunkBytes
        return BulkBudget(messageBytes: min(messageBytes, max(chunk, TransportSettings.leastMessageBytes)), room: settings.bulkHighWater - buffered)
    }

    mutating func handOut(_ bytes: Int, on lane: Lane, at now: Instant) {
        counters.messagesSent += 1
        counters.bytesSent += bytes
        let key = Self.stallTimer(lane)
        if !timers.isArmed(key) { timers[key] = now + settings.stallLimit }
        lanes[lane.rawValue].buffered += bytes
    }

    /// The channel says how much waits in it. Less than before: it moves.
    mutating func setBuffered(_ bytes: Int, on lane: Lane, at now: Instant) {
        let before = lanes[lane.rawValue].buffered
        lanes[lane.rawValue].buffered = max(0, bytes)
        let key = Self.stallTimer(lane)
        if bytes <= 0 {
            timers.stop(key)
        } else if bytes < before || !timers.isArmed(key), phase != .disconnected, phase != .failed {
            timers[key] = now + settings.stallLimit
        }
    }

    private static func stallTimer(_ lane: Lane) -> TimerKey { lane == .control ? .controlStall : .bulkStall }

    // MARK: Time

    var deadline: Instant? { phase == .disconnected || phase == .failed ? nil : timers.next }

    mutating func handleTimeout(hasJobs: Bool, at now: Instant) {
        guard phase == .greeting || phase == .ready else { return }
        while let key = timers.popDue(at: now) {
            switch key {
            case .ping:
                guard hasJobs, phase == .ready else { continue }
                pings += 1
                enqueue(.ping(pings))
                timers[.silence] = now + settings.silenceLimit
            case .silence: stall = stall ?? .silence
            case .controlStall: stall = stall ?? .lane(.control)
            case .bulkStall: stall = stall ?? .lane(.bulk)
            }
        }
    }

    /// A job is there: from now on the other end is to be heard.
    mutating func watch(at now: Instant) {
        guard phase == .ready, !timers.isArmed(.ping), !timers.isArmed(.silence) else { return }
        timers[.ping] = now + settings.pingInterval
    }

    private mutating func hear(hasJobs: Bool, at now: Instant) {
        timers.stop(.silence)
        timers[.ping] = hasJobs ? now + settings.pingInterval : nil
    }
}

/// Holds an engine in a table: values that cannot be copied have no other place there.
final class Cell<Value: ~Copyable> {
    var value: Value?

    init(_ value: consuming Value) { self.value = consume value }

    /// nil where the cell is empty.
    func with<Result, Failure: Error>(_ body: (inout Value) throws(Failure) -> Result) throws(Failure) -> Result? {
        guard var taken = value.take() else { return nil }
        do throws(Failure) {
            let result = try body(&taken)
            value = consume taken
            return result
        } catch {
            value = consume taken
            throw error
        }
    }
}
