import Foundation
import Synchronization
import Testing

@testable import EveryframeServer

/// Work of many sessions on few threads. Every wait is for an event and ends after a minute.
@Suite(.timeLimit(.minutes(1))) struct WorkPoolTests {
    /// What happened, in order.
    private final class Log: Sendable {
        private let entries = Mutex<[Int]>([])
        var all: [Int] { entries.withLock { $0 } }
        func add(_ entry: Int) { entries.withLock { $0.append(entry) } }
    }

    /// Holds threads until it is opened.
    private final class Gate: Sendable {
        private let group = DispatchGroup()
        init() { group.enter() }
        func open() { group.leave() }
        func wait() { #expect(group.wait(timeout: .now() + 30) == .success) }
    }

    /// Counts down to an event.
    private final class Countdown: Sendable {
        private let group = DispatchGroup()
        init(_ count: Int) { for _ in 0..<count { group.enter() } }
        func tick() { group.leave() }
        func wait() { #expect(group.wait(timeout: .now() + 30) == .success) }
    }

    /// Threads go on only together, so that none runs ahead while the system lets another wait.
    private final class Step: Sendable {
        private let count: Int
        private let condition = NSCondition()
        private let arrived = Atomic(0)
        private let generation = Atomic(0)
        init(_ count: Int) { self.count = count }

        func wait() {
            condition.lock()
            defer { condition.unlock() }
            let mine = generation.load(ordering: .relaxed)
            if arrived.add(1, ordering: .relaxed).newValue == count {
                arrived.store(0, ordering: .relaxed)
                generation.add(1, ordering: .relaxed)
                condition.broadcast()
            }
            while mine == generation.load(ordering: .relaxed) {
                guard condition.wait(until: Date() + 30) else {
                    Issue.record("the others did not come")
                    return
                }
            }
        }
    }

    @Test("A line with ten thousand items delays another line's by one turn", arguments: [1, 2])
    func fairness(threads: Int) {
        let pool = WorkPool(threads: threads, name: "fair")
        let (greedy, modest) = (pool.makeLine(isSerial: false, limit: 20_000), pool.makeLine(isSerial: false))
        let (gate, done, log, step) = (Gate(), Countdown(10_004), Log(), Step(threads))
        for _ in 0..<threads { #expect(greedy.submit { gate.wait() }) }
        for item in 0..<10_004 {
            let isTaken = (item < 10_000 ? greedy : modest).submit {
                log.add(item)
                done.tick()
                step.wait()
            }
            #expect(isTaken)
        }
        gate.open()
        done.wait()
        let places = log.all.enumerated().filter { $0.element >= 10_000 }.map(\.offset)
        // of two threads the one may log before or after the other
        for (turn, place) in places.enumerated() { #expect(abs(place - (2 * turn + 1)) <= threads, "place \(place) in turn \(turn)") }
        #expect(places.count == 4 && log.all.count == 10_004)
        pool.shutDown()
    }

    @Test("Items of a serial line come in order and never overlap, on whatever thread")
    func serial() {
        let pool = WorkPool(threads: 4, name: "serial")
        let done = Countdown(8 * 500)
        let logs = (0..<8).map { _ in Log() }
        let lines = logs.map { _ in pool.makeLine(isSerial: true) }
        let atWork = (0..<8).map { _ in Inside() }
        for item in 0..<500 {
            for (index, line) in lines.enumerated() {
                line.submit {
                    #expect(atWork[index].enter() == 1, "two at once")
                    logs[index].add(item)
                    atWork[index].leave()
                    done.tick()
                }
            }
        }
        done.wait()
        for log in logs { #expect(log.all == Array(0..<500)) }
        pool.shutDown()
    }

    /// How many are inside.
    private final class Inside: Sendable {
        private let inside = Atomic(0)
        func enter() -> Int { inside.add(1, ordering: .sequentiallyConsistent).newValue }
        func leave() { inside.subtract(1, ordering: .sequentiallyConsistent) }
    }

    @Test("Items of a concurrent line are at work side by side; those of a serial line wait for each other, not for other lines")
    func concurrent() {
        let pool = WorkPool(threads: 2, name: "side")
        let (meeting, done) = (Countdown(2), Countdown(2))
        let line = pool.makeLine(isSerial: false)
        for _ in 0..<2 {
            line.submit {
                meeting.tick()
                // comes back only when the other is here as well
                meeting.wait()
                done.tick()
            }
        }
        done.wait()
        let (gate, second, other) = (Gate(), Countdown(1), Countdown(1))
        let serial = pool.makeLine(isSerial: true)
        serial.submit { gate.wait() }
        serial.submit { second.tick() }
        pool.makeLine(isSerial: true).submit { other.tick() }
        other.wait()
        #expect(serial.waiting == 1)
        gate.open()
        second.wait()
        pool.shutDown()
    }

    @Test("A full line refuses; others take")
    func bounded() {
        let pool = WorkPool(threads: 1, name: "bounded")
        let (gate, started) = (Gate(), Countdown(1))
        let line = pool.makeLine(isSerial: true, limit: 3)
        line.submit {
            started.tick()
            gate.wait()
        }
        started.wait()
        #expect((0..<5).map { _ in line.submit {} } == [true, true, true, false, false])
        #expect(line.waiting == 3 && pool.waiting == 3 && pool.busy == 1)
        let done = Countdown(1)
        #expect(pool.makeLine(isSerial: true).submit { done.tick() })
        gate.open()
        done.wait()
        pool.shutDown()
        #expect(pool.waiting == 0 && pool.busy == 0)
    }

    @Test("Cancelling drops what waits and nothing else; what is at work finishes")
    func cancel() {
        let pool = WorkPool(threads: 1, name: "cancel")
        let (gate, started, done, log) = (Gate(), Countdown(1), Countdown(1), Log())
        let (gone, stays) = (pool.makeLine(isSerial: true), pool.makeLine(isSerial: true))
        gone.submit {
            started.tick()
            gate.wait()
            log.add(1)
        }
        started.wait()
        for _ in 0..<10 { gone.submit { log.add(2) } }
        stays.submit {
            log.add(3)
            done.tick()
        }
        gone.cancel()
        #expect(gone.waiting == 0 && stays.waiting == 1 && pool.waiting == 1)
        #expect(!gone.submit { log.add(4) })
        gate.open()
        done.wait()
        pool.shutDown()
        #expect(log.all == [1, 3])
    }

    @Test("Shutting down waits for what is at work, drops what waits, and ends the threads; twice is as good as once")
    func shutDown() {
        let pool = WorkPool(threads: 3, name: "down")
        let (gate, started, log) = (Gate(), Countdown(3), Log())
        let line = pool.makeLine(isSerial: false)
        for item in 0..<20 {
            line.submit {
                if item < 3 { started.tick() }
                gate.wait()
                log.add(item)
            }
        }
        started.wait()
        DispatchQueue.global().async { gate.open() }
        pool.shutDown()
        let finished = log.all
        #expect(finished.count >= 3)
        #expect(!line.submit { log.add(-1) })
        #expect(line.waiting == 0 && pool.waiting == 0 && pool.busy == 0)
        pool.shutDown()
        #expect(log.all == finished, "nothing ran afterwards")
    }

    @Test("An item may shut its own pool down")
    func fromWithin() {
        let pool = WorkPool(threads: 2, name: "within")
        let done = Countdown(1)
        pool.makeLine(isSerial: true).submit {
            pool.shutDown()
            done.tick()
        }
        done.wait()
        pool.shutDown()
    }

    /// Something that an item holds, and that says when it dies.
    private final class Held: Sendable {
        let end: @Sendable () -> Void
        init(_ end: @escaping @Sendable () -> Void) { self.end = end }
        deinit { end() }
        func touch() {}
    }

    @Test("Nothing is kept: of items that ran, were cancelled, or were dropped; and what dies with an item may submit another")
    func leaks() {
        let (gone, started, gate) = (Countdown(4), Countdown(1), Gate())
        do {
            let pool = WorkPool(threads: 1, name: "leaks")
            let line = pool.makeLine(isSerial: true)
            let cancelled = pool.makeLine(isSerial: true)
            let other = pool.makeLine(isSerial: true)
            func hold() -> @Sendable () -> Void {
                let held = Held { [other] in
                    other.submit {}
                    gone.tick()
                }
                return { held.touch() }
            }
            line.submit(hold())
            line.submit {
                started.tick()
                gate.wait()
            }
            started.wait()
            cancelled.submit(hold())
            cancelled.submit(hold())
            cancelled.cancel()
            line.submit(hold())
            gate.open()
            // the pool goes without being shut down
        }
        gone.wait()
    }

    @Test("Threads carry the pool's name", arguments: [("decode", "decode-0"), ("a name that is too long", "a name that i-0")])
    func names(given: String, expected: String) {
        let pool = WorkPool(threads: 1, name: given)
        let done = Countdown(1)
        let name = Mutex("")
        pool.makeLine(isSerial: true).submit {
            let text = try? String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)
            name.withLock { $0 = text ?? "unknown" }
            done.tick()
        }
        done.wait()
        #expect(name.withLock { $0 } == expected + "\n")
        pool.shutDown()
    }

    @Test("Submitted from many threads at once, each item runs once")
    func contended() {
        let pool = WorkPool(threads: 3, name: "contended")
        let (done, log) = (Countdown(4 * 2000), Log())
        let lines = (0..<4).map { pool.makeLine(isSerial: $0 % 2 == 0, limit: 10_000) }
        DispatchQueue.concurrentPerform(iterations: 4) { sender in
            for item in 0..<2000 {
                lines[(sender + item) % 4].submit {
                    log.add(sender * 2000 + item)
                    done.tick()
                }
            }
        }
        done.wait()
        #expect(log.all.sorted() == Array(0..<8000))
        pool.shutDown()
        #expect(pool.waiting == 0)
    }
}
