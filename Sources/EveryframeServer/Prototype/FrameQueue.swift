/// A bounded line of jobs that several workers take from: whatever order they finish in, the answers leave in the order
/// in which the jobs came.
///
/// A job holds its place until its answer was passed on (`release()`), so `capacity` bounds all that is between the
/// network and the answer. While it is full, `put` suspends; that is what stops the reading of the data channel.
actor FrameQueue<Job: Sendable, Answer: Sendable> {
    private let capacity: Int
    private var waiting: [Job] = []
    private var answers: [Int: Answer] = [:]
    /// Tickets: of the next job to come, to be taken, to leave.
    private var nextIn = 0
    private var nextTaken = 0
    private var nextOut = 0
    private var released = 0
    private var state = State.open
    private var putters: [CheckedContinuation<Void, Never>] = []
    private var takers: [CheckedContinuation<Void, Never>] = []
    private var leavers: [CheckedContinuation<Void, Never>] = []

    private enum State { case open, closed, aborted }

    init(capacity: Int) { self.capacity = max(1, capacity) }

    /// Jobs whose answers have not been passed on.
    var count: Int { nextIn - released }

    /// Adds a job, when there is a place for it. False: the queue takes no more.
    func put(_ job: Job) async -> Bool {
        while state == .open, nextIn - released >= capacity { await withCheckedContinuation { putters.append($0) } }
        guard state == .open else { return false }
        nextIn += 1
        waiting.append(job)
        wake(&takers)
        return true
    }

    /// The next job for a worker, which must call `finish` for it; nil when there will be none.
    func take() async -> (ticket: Int, job: Job)? {
        while true {
            if state == .aborted { return nil }
            if !waiting.isEmpty {
                nextTaken += 1
                return (nextTaken - 1, waiting.removeFirst())
            }
            if state == .closed { return nil }
            await withCheckedContinuation { takers.append($0) }
        }
    }

    func finish(_ ticket: Int, with answer: Answer) {
        guard state != .aborted else { return }
        answers[ticket] = answer
        if ticket == nextOut { wake(&leavers) }
    }

    /// The next answer in order; nil when all have left and no more come.
    func next() async -> Answer? {
        while true {
            if state == .aborted { return nil }
            if let answer = answers.removeValue(forKey: nextOut) {
                nextOut += 1
                return answer
            }
            if state == .closed, nextOut == nextIn { return nil }
            await withCheckedContinuation { leavers.append($0) }
        }
    }

    /// The answer that `next()` gave was passed on.
    func release() {
        released += 1
        wake(&putters)
    }

    /// No more jobs; those inside are still answered.
    func close() {
        guard state == .open else { return }
        state = .closed
        wakeAll()
    }

    /// Drops everything; whoever waits comes back empty-handed.
    func abort() {
        state = .aborted
        waiting = []
        answers = [:]
        wakeAll()
    }

    private func wakeAll() {
        wake(&putters)
        wake(&takers)
        wake(&leavers)
    }

    /// Those woken look again and wait again if another one was quicker.
    private func wake(_ waiters: inout [CheckedContinuation<Void, Never>]) {
        for waiter in waiters { waiter.resume() }
        waiters.removeAll(keepingCapacity: true)
    }
}
