package import Wire

/// Jobs whose connection is lost, by token, until a client asks for them or their lifetime is over. Their pipelines go on meanwhile.
package struct ParkedJobs: ~Copyable {
    package enum Event: Hashable, Sendable {
        /// What else the job has to say: frames that nobody took yet, its end.
        case job(token: String, FrameReceiver.Event)
        /// Nobody came back, or there was no room: the job is forgotten.
        case forgotten(token: String)
    }

    private let capacity: Int
    private var jobs: [String: Cell<FrameReceiver>] = [:]
    /// The oldest first.
    private var tokens: [String] = []
    private var forgotten: [String] = []

    /// At most `capacity` jobs are kept; the oldest makes room.
    package init(capacity: Int) { self.capacity = max(1, capacity) }

    package var count: Int { tokens.count }

    package mutating func park(_ receiver: consuming FrameReceiver, at now: Instant) {
        let token = receiver.token
        receiver.detach(at: now)
        if tokens.count >= capacity, let oldest = tokens.first { forget(oldest) }
        tokens.removeAll { $0 == token }
        tokens.append(token)
        jobs[token] = Cell(consume receiver)
    }

    /// For a connection that resumes it; nil where it is not here.
    package mutating func take(_ token: String) -> FrameReceiver? {
        guard let cell = jobs.removeValue(forKey: token) else { return nil }
        tokens.removeAll { $0 == token }
        return cell.value.take()
    }

    /// A job's own verbs, for its pipeline. nil where it is not here.
    package mutating func withJob<Result, Failure: Error>(
        _ token: String, _ body: (inout FrameReceiver) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        try jobs[token]?.with(body)
    }

    package var deadline: Instant? {
        var result: Instant?
        for token in tokens { result = earliest(result, jobs[token]?.value?.deadline) }
        return result
    }

    package mutating func handleTimeout(at now: Instant) {
        for token in tokens { jobs[token]?.value?.handleTimeout(at: now) }
    }

    package mutating func poll() -> Event? {
        for token in tokens {
            if let event = jobs[token]?.value?.pollEvent() { return .job(token: token, event) }
        }
        for token in tokens where jobs[token]?.value?.isDone ?? true { forget(token) }
        return forgotten.popLast().map { .forgotten(token: $0) }
    }

    private mutating func forget(_ token: String) {
        jobs[token] = nil
        tokens.removeAll { $0 == token }
        forgotten.append(token)
    }
}
