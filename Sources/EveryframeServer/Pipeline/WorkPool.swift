import Foundation

/// Threads for work that keeps a processor busy (decoding, drawing, writing results), shared by all sessions.
///
/// Work comes in *lines*, one for each job of a session. The threads take one item from each line in turn, so that a line with ten
/// thousand items delays another by one; within a line the first comes first. A serial line has at most one item at work, on
/// whatever thread: what a decoder with a memory needs. Any idle thread takes any line's next item.
final class WorkPool: Sendable {
    private let core: Core

    /// `name`: of the threads, with their number behind it; cut to the 15 bytes that the system keeps.
    init(threads: Int, name: String) {
        core = Core(threads: max(1, threads))
        core.withLock {
            for index in 0..<max(1, threads) {
                let suffix = "-\(index)"
                let name = name.prefix(15 - suffix.utf8.count) + suffix
                Thread { [core] in core.run(name: String(name)) }.start()
            }
        }
    }

    /// The threads end by themselves, and what waits is dropped.
    deinit { core.stop() }

    /// `limit`: items that may wait in the line; credit keeps them fewer, this is for when it does not.
    func makeLine(isSerial: Bool, limit: Int = 1024) -> Line { Line(core: core, state: LineState(isSerial: isSerial, limit: max(1, limit))) }

    /// Takes nothing more, drops what waits, and comes back when what is at work has finished and the threads have ended.
    /// Called by an item of its own, it does not wait for that one.
    func shutDown() {
        core.stop()
        core.join()
    }

    /// Items that wait, of all lines.
    var waiting: Int { core.withLock { core.waiting } }
    /// Threads with an item at work.
    var busy: Int { core.withLock { core.busy } }

    /// A session's job. Letting go of it drops nothing.
    final class Line: Sendable {
        private let core: Core
        private let state: LineState

        fileprivate init(core: Core, state: LineState) {
            self.core = core
            self.state = state
        }

        /// Adds an item behind those that wait. False: it was not taken, because the line is full or cancelled or the pool is shut down.
        @discardableResult
        func submit(_ work: @escaping @Sendable () -> Void) -> Bool { core.submit(work, to: state) }

        /// The same from within an item of this pool, as the last thing that it does: its own thread goes on, so no other is woken for it.
        @discardableResult
        func follow(with work: @escaping @Sendable () -> Void) -> Bool { core.submit(work, to: state, wakes: !core.isOwnThread) }

        /// Drops what waits, for good. What is at work finishes.
        func cancel() { core.cancel(state) }

        /// Items that wait, without those at work.
        var waiting: Int { core.withLock { state.waiting } }
    }

    /// Unchecked: all that changes is read and written by `Core` alone, and only while it has its lock.
    fileprivate final class LineState: @unchecked Sendable {
        let isSerial: Bool
        let limit: Int
        /// Those before `first` were taken.
        private var items: [(@Sendable () -> Void)?] = []
        private var first = 0
        var isAtWork = false
        /// It is among those that wait for a thread.
        var isQueued = false
        var isCancelled = false

        init(isSerial: Bool, limit: Int) {
            self.isSerial = isSerial
            self.limit = limit
        }

        var waiting: Int { items.count - first }
        var canRun: Bool { waiting > 0 && !(isSerial && isAtWork) }

        func append(_ work: @escaping @Sendable () -> Void) { items.append(work) }

        func takeFirst() -> (@Sendable () -> Void)? {
            guard first < items.count else { return nil }
            let item = items[first]
            items[first] = nil
            first += 1
            if first == items.count || first >= 256 {
                items.removeFirst(first)
                first = 0
            }
            return item
        }

        func takeAll() -> [(@Sendable () -> Void)?] {
            defer {
                items = []
                first = 0
            }
            return Array(items[first...])
        }
    }

    /// What threads and lines share, and what outlives the pool for as long as they do.
    ///
    /// Unchecked: everything that changes is read and written only while `condition` is locked. No item is run or let go of
    /// meanwhile, for what it holds may come back here when it dies.
    fileprivate final class Core: @unchecked Sendable {
        private let condition = NSCondition()
        /// Lines with work that may be done, the next to be served first.
        private var ready: [LineState] = []
        private var firstReady = 0
        private var idle = 0
        private var alive: Int
        private var isStopped = false
        private(set) var waiting = 0
        private(set) var busy = 0

        init(threads: Int) { alive = threads }

        func withLock<Result>(_ body: () -> Result) -> Result {
            condition.lock()
            defer { condition.unlock() }
            return body()
        }

        func submit(_ work: @escaping @Sendable () -> Void, to line: LineState, wakes: Bool = true) -> Bool {
            withLock {
                guard !isStopped, !line.isCancelled, line.waiting < line.limit else { return false }
                line.append(work)
                waiting += 1
                enqueue(line, wakes: wakes)
                return true
            }
        }

        func cancel(_ line: LineState) {
            let dropped = withLock {
                line.isCancelled = true
                return takeAll(of: line)
            }
            withExtendedLifetime(dropped) {}
        }

        func stop() {
            let dropped = withLock {
                isStopped = true
                let dropped = ready[firstReady...].flatMap { takeAll(of: $0) }
                ready = []
                firstReady = 0
                condition.broadcast()
                return dropped
            }
            withExtendedLifetime(dropped) {}
        }

        func join() {
            // an item that ends the pool would wait for itself
            let own = isOwnThread ? 1 : 0
            condition.lock()
            while alive > own { condition.wait() }
            condition.unlock()
        }

        /// Whether an item of this pool asks.
        var isOwnThread: Bool { Thread.current.threadDictionary[Self.mark] as? Core === self }

        /// A thread's life.
        func run(name: String) {
            // Foundation can name a thread only when `start` has come back from it
            withLock {}
            Thread.current.name = name
            Thread.current.threadDictionary[Self.mark] = self
            while let (item, line) = next() {
                item()
                finished(line)
            }
            Thread.current.threadDictionary.removeObject(forKey: Self.mark)
            withLock {
                alive -= 1
                condition.broadcast()
            }
        }

        private func next() -> (item: @Sendable () -> Void, line: LineState)? {
            condition.lock()
            defer { condition.unlock() }
            while true {
                while firstReady < ready.count {
                    let line = ready[firstReady]
                    firstReady += 1
                    if firstReady == ready.count || (firstReady >= 64 && firstReady * 2 > ready.count) {
                        ready.removeFirst(firstReady)
                        firstReady = 0
                    }
                    line.isQueued = false
                    // cancelled meanwhile
                    guard let item = line.takeFirst() else { continue }
                    waiting -= 1
                    busy += 1
                    line.isAtWork = true
                    // a line that is not serial goes on at once, behind the others
                    enqueue(line)
                    return (item, line)
                }
                guard !isStopped else { return nil }
                idle += 1
                condition.wait()
                idle -= 1
            }
        }

        private func finished(_ line: LineState) {
            let dropped = withLock {
                busy -= 1
                line.isAtWork = false
                if isStopped { return takeAll(of: line) }
                enqueue(line)
                return []
            }
            withExtendedLifetime(dropped) {}
        }

        private func enqueue(_ line: LineState, wakes: Bool = true) {
            guard line.canRun, !line.isQueued else { return }
            line.isQueued = true
            ready.append(line)
            if idle > 0, wakes { condition.signal() }
        }

        private func takeAll(of line: LineState) -> [(@Sendable () -> Void)?] {
            let dropped = line.takeAll()
            waiting -= dropped.count
            return dropped
        }

        private static let mark = "everyframe.workpool"
    }
}
