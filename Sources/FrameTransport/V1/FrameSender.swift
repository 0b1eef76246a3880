package import NIOCore

/// A frame on its way into a job.
package struct OutgoingFrame: Sendable {
    package var info: FrameInfo
    package var payload: ByteBuffer
    /// XXH64 of the payload where the caller has it already, for instance from the thread that encoded it.
    package var digest: UInt64?

    package init(info: FrameInfo, payload: ByteBuffer, digest: UInt64? = nil) {
        self.info = info
        self.payload = payload
        self.digest = digest
    }
}

/// Why a frame was not taken. Nothing of it was sent.
package enum SubmitError: Error, Hashable, Sendable {
    /// `room` is 0.
    case noRoom
    /// The job has ended, was cancelled, or its source was said to have ended.
    case ended
    case tooLarge(limit: Int)
    case tooManyPixels(limit: Int)
    /// Another encoding than the job's, or one without what it needs: a pixel format, a configuration.
    case wrongEncoding
    /// A raw picture whose length is not that of its geometry.
    case wrongLength(expected: Int)
    case unknownConfiguration
    /// Configurations: too long, or a name that does not fit.
    case badConfiguration
}

/// The client's side of one job (docs/protocol.md, "A job's life"). It outlives connections: `detach` and `attach` again.
///
///     opening ── accepted ──► running ── end ──► ended
///        │                    │    ▲                ▲
///     rejected             detach  resumed          │
///        ▼                    ▼    │                │
///      ended                resuming ── rejected ───┘
package struct FrameSender: ~Copyable, Sendable {
    package enum Event: Hashable, Sendable {
        /// The server took the job. Keep the ticket where another process can find it, if one shall go on.
        case accepted(ResumeTicket)
        /// The job goes on over a new connection. A sender made from a ticket begins with `nextID`: the application submits its
        /// source's units from there, in the same order as before.
        case resumed(nextID: Int)
        /// In order of `sequence`, each once. The application says `take(through:)` when it is done with it.
        case result(FrameResult)
        /// `room` is no longer 0.
        case roomAvailable
        case progress(JobProgress)
        /// Always the last.
        case ended(JobEnd)
    }

    enum Phase: Hashable, Sendable {
        case opening(sent: Bool)
        case resuming(sent: Bool)
        case running
        case ended
    }

    /// Kept until the server needs the payload no more.
    struct Retained: Sendable {
        var header: FrameHeader
        var payload: ByteBuffer
        var isRetryQueued = false
    }

    package let request: JobRequest
    package private(set) var counters = JobProgress()
    /// Answers that broke the rules, and other things that a good server does not do.
    package private(set) var violations = 0

    let settings: TransportSettings
    var limits = JobLimits()
    var phase: Phase
    var job: JobNumber?
    var token: String?
    var events = CircularBuffer<Event>()

    // Frames
    /// Ids `acknowledged + 1`… in order.
    var retained = CircularBuffer<Retained>()
    var retainedBytes = 0
    var acknowledged = 0
    /// The same as the server says it: ahead of `acknowledged` while units of an earlier process have not been submitted again.
    var acknowledgedByServer = 0
    /// The id that the next submitted frame gets.
    package private(set) var nextID = 1
    /// A job that goes on: the server has had units behind the last that was submitted here.
    package var isBehindServer: Bool { nextID - 1 < adoptedThrough }
    /// The highest id whose last byte was handed to the channel of this connection, or was received before it.
    var sentThrough = 0
    var current: (id: Int, offset: Int)?
    var retryQueue = CircularBuffer<Int>()
    var credit = Credit(id: 0, bytes: 0)
    /// Payload bytes on this connection.
    var sentBytes = 0
    var configurations: [CodecConfiguration] = []
    var nextConfiguration: UInt16 = 1
    /// Sent on this connection.
    var announcedConfigurations: Set<UInt16> = []
    var finish: JobFinish?
    var isFinishSent = false
    var isCancelled = false
    var isCancelSent = false
    var isByeDue = false
    var wasFull = true

    // Results
    /// Digests of the units that are submitted and not answered.
    var unanswered: [Int: UInt64] = [:]
    /// Made from a ticket: units up to this id were sent by an earlier process.
    var adoptedThrough = 0
    /// Those of them that were answered to this process.
    var adoptedAnswers: Set<Int> = []
    var adoptedSequence: Int?
    /// Made from a ticket, and not yet told where the job stands.
    var isStranger = false
    var earlyAcknowledgement: Acknowledgement?
    var earlyRetries: [Int] = []
    var arrived = 0
    var taken = 0
    var takenSent = 0
    var rolling = RollingDigest()
    var partial: PartialResult?
    /// Of the results that arrived and were not taken.
    var resultSizes = CircularBuffer<Int>()
    var resultBytes = 0

    /// A new job.
    package init(request: JobRequest, settings: TransportSettings) {
        self.request = request
        self.settings = settings
        phase = .opening(sent: false)
    }

    /// A job that another process began. `request` is as it was then.
    package init(resuming ticket: ResumeTicket, request: JobRequest, settings: TransportSettings) {
        self.request = request
        self.settings = settings
        phase = .resuming(sent: false)
        token = ticket.token
        taken = ticket.taken
        takenSent = ticket.taken
        arrived = ticket.taken
        adoptedSequence = ticket.taken
        isStranger = true
    }

    // MARK: The application's verbs

    /// How many more frames may be submitted now. 0 while the server gives no credit, so that the source need not decode.
    package var room: Int {
        guard phase != .ended, !isCancelled, finish == nil, nextID > 1 || phase == .running, adoptedSequence == nil || phase == .running else { return 0 }
        guard retainedBytes < settings.retainedBytes else { return 0 }
        let unsent = max(0, nextID - 1 - sentThrough)
        // what an earlier process sent need only be kept, so that it can be sent again
        let adopted = max(0, sentThrough - (nextID - 1))
        let byCredit = credit.id + settings.readAhead - (nextID - 1)
        return max(0, min(byCredit, settings.readAhead + 1 - unsent + adopted))
    }

    /// Makes a codec configuration known and answers with the number that frames refer to it by.
    package mutating func declare(_ configuration: CodecConfiguration) throws(SubmitError) -> UInt16 {
        guard phase != .ended else { throw .ended }
        guard configuration.isCodecValid, configuration.extradata.readableBytes <= limits.configurationBytes else { throw .badConfiguration }
        var configuration = configuration
        if let same = configurations.first(where: { existing in
            configuration.number = existing.number
            return existing == configuration
        }) {
            return same.number
        }
        guard nextConfiguration < .max else { throw .badConfiguration }
        configuration.number = nextConfiguration
        nextConfiguration += 1
        configurations.append(configuration)
        // the server forgets the oldest as well
        if configurations.count > limits.configurations {
            let inUse = Set(retained.map(\.header.info.configuration))
            configurations.removeAll { $0.number != configuration.number && !inUse.contains($0.number) }
        }
        return configuration.number
    }

    /// Takes a frame; answers with its id.
    @discardableResult
    package mutating func submit(_ frame: OutgoingFrame) throws(SubmitError) -> Int {
        guard phase != .ended, !isCancelled, finish == nil else { throw .ended }
        try check(frame)
        guard room > 0 else { throw .noRoom }
        let id = nextID
        let digest = frame.digest ?? XXH64.digest(frame.payload)
        nextID += 1
        if id <= acknowledgedByServer {
            acknowledged = id
        } else {
            let header = FrameHeader(id: id, length: frame.payload.readableBytes, digest: digest, info: frame.info)
            retained.append(Retained(header: header, payload: frame.payload))
            retainedBytes += frame.payload.readableBytes
        }
        if !adoptedAnswers.contains(id) { unanswered[id] = digest }
        counters.submitted += 1
        wasFull = room == 0
        return id
    }

    /// A frame was dropped before it got an id.
    package mutating func countDrop(_ reason: DropCounts.Reason) { counters.dropped.count(reason) }

    /// Takes over what a gate counted.
    package mutating func setDrops(_ counts: DropCounts) { counters.dropped = counts }

    /// The source ended, or broke: `error` says how. The job ends when the last result was taken.
    package mutating func finishSource(error: String? = nil) {
        guard finish == nil, phase != .ended else { return }
        finish = JobFinish(last: nextID - 1, dropped: counters.dropped, error: error)
    }

    /// Ends the job without waiting for results; none is handed out any more.
    package mutating func cancel() {
        guard !isCancelled, phase != .ended else { return }
        isCancelled = true
        dropFrames()
        events.removeAll { if case .result = $0 { true } else { false } }
        if phase == .opening(sent: false) { end(JobEnd(status: .cancelled)) }
    }

    /// The application is done with the results up to this sequence: the server may forget them.
    package mutating func take(through sequence: Int) {
        while taken < sequence, let size = resultSizes.popFirst() {
            taken += 1
            resultBytes -= size
        }
        counters.taken = taken
    }

    /// What another process needs to go on; nil before the job was accepted.
    package var ticket: ResumeTicket? { token.map { ResumeTicket(token: $0, taken: taken) } }

    package var isEnded: Bool { phase == .ended }

    /// Payloads and results held here.
    package var heldBytes: Int { retainedBytes + resultBytes + (partial?.payload.readableBytes ?? 0) }

    package mutating func pollEvent() -> Event? {
        if let event = events.popFirst() { return event }
        guard phase != .ended, wasFull, room > 0 else { return nil }
        wasFull = false
        return .roomAvailable
    }

    // MARK: For the parts in other files

    mutating func note(_ body: (inout JobProgress) -> Void) { body(&counters) }

    mutating func adopt(nextID: Int) { self.nextID = nextID }

    /// The server broke the rules: the job fails here, and the server is told to stop.
    mutating func fail(_ reason: JobFailure, _ message: String) {
        guard phase != .ended else { return }
        violations += 1
        isCancelled = true
        isCancelSent = false
        end(JobEnd(status: .failed, reason: reason, message: message))
    }

    mutating func end(_ end: JobEnd) {
        guard phase != .ended else { return }
        phase = .ended
        dropFrames()
        partial = nil
        events.append(.ended(end))
    }

    private mutating func dropFrames() {
        retained.removeAll()
        retainedBytes = 0
        acknowledged = nextID - 1
        current = nil
        retryQueue.removeAll()
        unanswered.removeAll()
        configurations.removeAll()
    }

    private func check(_ frame: OutgoingFrame) throws(SubmitError) {
        let info = frame.info
        guard info.encoding == request.encoding else { throw .wrongEncoding }
        guard info.timeBase.numerator > 0, info.timeBase.denominator > 0 else { throw .wrongEncoding }
        guard frame.payload.readableBytes <= limits.frameBytes, Int(info.uncompressedLength) <= limits.frameBytes else {
            throw .tooLarge(limit: limits.frameBytes)
        }
        guard Int(info.width) * Int(info.height) <= limits.framePixels else { throw .tooManyPixels(limit: limits.framePixels) }
        if info.encoding == .raw {
            guard let expected = info.rawLength else { throw .wrongEncoding }
            let length = info.compression == nil ? frame.payload.readableBytes : Int(info.uncompressedLength)
            guard length == expected else { throw .wrongLength(expected: expected) }
        }
        guard info.configuration == 0 || configurations.contains(where: { $0.number == info.configuration }) else { throw .unknownConfiguration }
        guard info.encoding != .source || info.configuration != 0 else { throw .unknownConfiguration }
    }
}

/// A result whose bytes have not all come.
struct PartialResult: Sendable {
    var header: ResultHeader
    var payload: FramePayload
}
