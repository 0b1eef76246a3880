import NIOCore
package import Wire

/// A unit that arrived whole and as it was sent.
package struct ReceivedFrame: Hashable, Sendable {
    package var id: Int
    package var info: FrameInfo
    package var payload: FramePayload
    /// What `info.configuration` refers to.
    package var configuration: CodecConfiguration?
    /// How often it was sent before.
    package var attempt: Int
    package var receivedAt: Instant
}

/// What was wrong with what a client sent, counted.
package enum FrameFaultReason: String, Hashable, Sendable, CaseIterable {
    /// Another frame began before this one was whole.
    case interrupted
    /// A piece that does not continue its frame, or is too small or too long.
    case badPiece
    /// A piece of no frame.
    case stray
    case digest
    /// It names a configuration that is not there.
    case noConfiguration
    /// Its bytes cannot be what its header says.
    case malformed
    /// It is here already.
    case duplicate
    case undecodable
    /// It was asked for again and did not come.
    case overdue
    case configurationTooLarge
    /// The job had ended.
    case stale
    case badAcknowledgement
}

/// The server's side of one job (docs/protocol.md, "A job's life"). It outlives connections: `detach` and `attach` again.
///
/// The application takes each `.frame`, says `release` when the payload is not needed any more, and `complete`s the unit with its
/// answer, in any order. Answers leave in the order of ids; for `source` in the order of `order(_:)`, since access units and
/// pictures come in different orders. All that a client can make it hold is bounded by the limits it was given.
package struct FrameReceiver: ~Copyable, Sendable {
    package enum Event: Hashable, Sendable {
        case frame(ReceivedFrame)
        /// This unit never arrived intact, as often as it was sent. It is answered; a decoder goes on without it.
        case lost(Int)
        /// No unit follows this one, and none is missing: time to flush a decoder, then `settle(below: last + 1)`.
        case finished(last: Int)
        /// Always the last. What the application still does for the job is in vain.
        case ended(JobEnd)
    }

    enum Phase: Hashable, Sendable {
        case running
        /// Until the client has confirmed the end.
        case ended(JobEnd)
        case done
    }

    /// A unit from its first byte until it was answered and is not needed any more.
    struct Slot: Sendable {
        var info: FrameInfo?
        var digest: UInt64 = 0
        var tries = 1
        /// Not here, and asked for.
        var isMissing = true
        var askedAt = Instant.zero
        var heldBytes = 0
        var isReleased = false
        var isOrdered = false
        var answer: Answer?
        var isAnswered = false
    }

    struct RetainedResult: Sendable {
        var header: ResultHeader
        var bytes: [ByteBuffer]
        /// The rolling digest behind this answer.
        var rolling: RollingDigest
        var answeredAt: Instant
        var isTimed = false

        var length: Int { header.length }
    }

    package let request: JobRequest
    package let token: String
    package let limits: JobLimits
    package internal(set) var counts = JobCounts()
    package internal(set) var faults: [FrameFaultReason: Int] = [:]
    let settings: TransportSettings
    let window: Int
    let acceptedAt: Instant
    var phase = Phase.running
    var job: JobNumber?
    var events = CircularBuffer<Event>()
    var timers = TimerTable<TimerKey>()
    var stages = StageHistograms()

    // Frames
    /// Ids `base + 1`… in order.
    var slots = CircularBuffer<Slot>()
    var base = 0
    var acknowledged = 0
    var partial: PartialFrame?
    /// Payload bytes on this connection.
    var receivedBytes = 0
    /// Payload bytes in `partial` or with the application.
    package internal(set) var heldBytes = 0
    var announced = Credit(id: 0, bytes: 0)
    var announcedAcknowledged = 0
    /// Units that were asked for again.
    var awaited: [Int] = []
    /// Those of them that the client was not told yet.
    var retryDue: [Int] = []
    var lastBulk = Instant.zero
    var configurations: [CodecConfiguration] = []
    var finish: JobFinish?
    var isFinishedTold = false
    /// Why no more is let in.
    var draining: String?
    /// Of access units, those behind this one are not given to the application any more.
    var drainLast = Int.max

    // Answers
    /// Ids in the order in which their answers leave.
    var order = CircularBuffer<Int>()
    var sequence = 0
    var picture = 0
    var rolling = RollingDigest()
    /// Sequences `taken + 1`… in order.
    var outbox = CircularBuffer<RetainedResult>()
    package internal(set) var resultBytes = 0
    var taken = 0
    var takenRolling = RollingDigest()
    /// Sequences handed to the channel, or with the client before it.
    var sentThrough = 0
    var currentOffset = 0
    var isBegun = false
    /// Bytes of the results `taken + 1 ... sentThrough`.
    var unacknowledgedBytes = 0
    var isGreetingDue = false
    var resumeHave: Int?
    var isEndDue = false
    var isProgressDue = false
    var progressTold = JobCounts()
    var elapsedAtEnd: Duration?
    /// How long the application had nothing of this job to work on, and how long its frames together waited for what follows the decoder;
    /// told with the progress.
    package var idle: Duration = .zero
    package var blocked: Duration = .zero

    enum TimerKey: Int, CaseIterable, Sendable {
        case timeLimit
        case parked
        case progress
    }

    package init(request: JobRequest, token: String, limits: JobLimits, settings: TransportSettings, at now: Instant) {
        self.request = request
        self.token = token
        self.limits = limits.consistent
        self.settings = settings
        acceptedAt = now
        let most = self.limits.window(of: request.encoding)
        // a decoder keeps units back: fewer than the least would be a deadlock
        window = request.encoding == .source ? max(min(request.window ?? most, most), JobLimits.leastSourceWindow) : min(request.window ?? most, most)
        if let limit = request.timeLimit { timers[.timeLimit] = now + limit }
        timers[.parked] = now + self.limits.resumeLifetime
    }

    // MARK: The application's verbs

    /// The payload is not needed any more: its bytes are given back to the sender as credit.
    package mutating func release(_ id: Int, at now: Instant) {
        guard phase == .running, let index = index(of: id), !slots[offset: index].isMissing, !slots[offset: index].isReleased else { return }
        markReleased(index)
    }

    /// The unit cannot be decoded: asks for it again. False when it was asked for often enough; then it is answered as undecodable.
    @discardableResult
    package mutating func retry(_ id: Int, at now: Instant) -> Bool {
        guard phase == .running, let index = index(of: id), !slots[offset: index].isMissing, !slots[offset: index].isReleased,
            slots[offset: index].answer == nil, !slots[offset: index].isAnswered
        else { return false }
        return askAgain(index, id: id, .undecodable, at: now)
    }

    /// For `source`: this unit's picture is the next in presentation order. For other encodings ids are the order.
    package mutating func order(_ id: Int) {
        guard phase == .running, request.encoding == .source, let index = index(of: id), !slots[offset: index].isOrdered else { return }
        slots[offset: index].isOrdered = true
        order.append(id)
    }

    /// The answer to a unit, once; its payload counts as released. Where `order` was not called, it takes the next place.
    package mutating func complete(_ id: Int, _ answer: Answer, at now: Instant) {
        guard phase == .running, let index = index(of: id), slots[offset: index].answer == nil, !slots[offset: index].isAnswered else { return }
        guard !slots[offset: index].isMissing else { return }
        enter(answer, index, id: id, at: now)
    }

    /// For `source`: units below this id of which the decoder has made no picture will have none.
    package mutating func settle(below id: Int, at now: Instant) {
        guard phase == .running, request.encoding == .source else { return }
        for unit in (base + 1)..<max(base + 1, id) {
            guard let index = index(of: unit), !slots[offset: index].isOrdered, !slots[offset: index].isMissing else { continue }
            guard slots[offset: index].answer == nil, !slots[offset: index].isAnswered else { continue }
            enter(Answer(status: .noPicture, format: request.resultFormat), index, id: unit, at: now)
        }
    }

    /// The server is about to go: no more units are let in than were allowed, and once the answers to those that came are taken the job ends
    /// as failed, with this message. A decoder keeps access units back until it is told that no other follows: of these, what is here is the end.
    package mutating func drain(message: String, at now: Instant) {
        guard phase == .running, draining == nil else { return }
        draining = message
        if request.encoding == .source { drainLast = received }
        checkFinished(at: now)
        checkDrained(at: now)
    }

    /// Ends the job for a reason of the server's own.
    package mutating func end(_ status: JobEnd.Status, reason: JobFailure = .server, message: String = "", at now: Instant) {
        end(JobEnd(status: status, reason: status == .completed ? .none : reason, message: message), at: now)
    }

    package mutating func pollEvent() -> Event? { events.popFirst() }

    package var isEnded: Bool { phase != .running }
    /// The client knows the end, or nobody can be told any more.
    package var isDone: Bool { phase == .done && events.isEmpty }
    package var isAttached: Bool { job != nil }
    /// Units that are here and have no answer yet.
    package var unanswered: Int { slots.count - slots.count { $0.isAnswered || $0.answer != nil } }
    /// Ids that arrived or are asked for, up to this one.
    package var received: Int { base + slots.count }

    package func progress(at now: Instant) -> ServerProgress {
        var progress = ServerProgress()
        progress.counts = counts
        progress.elapsed = elapsedAtEnd ?? (now - acceptedAt)
        progress.idle = min(idle, progress.elapsed)
        progress.blocked = blocked
        progress.stages = stages.summaries
        return progress
    }

    // MARK: Time

    package var deadline: Instant? {
        guard phase != .done else { return nil }
        return earliest(timers.next, retryDeadline)
    }

    package mutating func handleTimeout(at now: Instant) {
        while let key = timers.popDue(at: now) {
            switch key {
            case .timeLimit: end(JobEnd(status: .timedOut, message: "the job's time is over"), at: now)
            case .parked:
                end(JobEnd(status: .failed, reason: .unknownToken, message: "the client did not come back"), at: now)
                phase = .done
                timers.stopAll()
            case .progress:
                guard phase == .running, job != nil else { break }
                isProgressDue = counts != progressTold
                if !isProgressDue { break }
            }
        }
        expireRetries(at: now)
    }

    // MARK: For the parts in other files

    func index(of id: Int) -> Int? {
        let offset = id - base - 1
        guard offset >= 0, offset < slots.count else { return nil }
        return offset
    }

    mutating func count(_ fault: FrameFaultReason) { faults[fault, default: 0] += 1 }

    mutating func fail(_ message: String, at now: Instant) {
        end(JobEnd(status: .failed, reason: .protocolViolation, message: message), at: now)
    }

    mutating func end(_ end: JobEnd, at now: Instant) {
        guard phase == .running else { return }
        var end = end
        end.counts = counts
        end.digest = rolling.value
        phase = .ended(end)
        partial = nil
        slots.removeAll()
        order.removeAll()
        outbox.removeAll()
        retryDue.removeAll()
        awaited.removeAll()
        configurations.removeAll()
        events.removeAll()
        heldBytes = 0
        resultBytes = 0
        unacknowledgedBytes = 0
        timers[.timeLimit] = nil
        timers[.progress] = nil
        isEndDue = true
        elapsedAtEnd = now - acceptedAt
        // the whole job's figures, ahead of its end
        isProgressDue = true
        events.append(.ended(end))
    }

    mutating func changed(at now: Instant) {
        guard job != nil, phase == .running, !timers.isArmed(.progress) else { return }
        timers[.progress] = now + settings.progressInterval
    }
}

/// A frame whose bytes have not all come.
struct PartialFrame: Sendable {
    var header: FrameHeader
    var payload: FramePayload
    var digest = XXH64.Running()
    /// Its bytes are passed over: it is here already.
    var isIgnored: Bool
    var count: Int

    init(header: FrameHeader, isIgnored: Bool) {
        self.header = header
        self.isIgnored = isIgnored
        payload = FramePayload()
        count = 0
    }

    mutating func append(_ piece: ByteBuffer) {
        count += piece.readableBytes
        guard !isIgnored else { return }
        payload.append(piece)
        digest.add(piece)
    }
}
