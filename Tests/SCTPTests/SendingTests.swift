import NIOCore
import Testing
import Wire

@testable import SCTP

@Suite("Sending")
struct SendingTests {
    func flight(_ count: Int) -> InFlight {
        var flight = InFlight(initialTSN: TSN(rawValue: .max - 3), headerSize: 16)
        for index in 0..<count { flight.append(SentChunk(slot: 0, length: 100), at: Instant(nanoseconds: Int64(index))) }
        return flight
    }

    @Test("RFC 9260 §6.2.1: gap blocks acknowledge each chunk once, whatever they overlap", arguments: 0..<20)
    func gapBlocks(seed: Int) {
        var generator = SplitMix64(seed: UInt64(seed))
        var flight = flight(200)
        var detector = LossDetector()
        var known: Set<UInt64> = []
        let base = flight.base
        for _ in 0..<60 {
            let first = base + 1 + generator.next() % 190
            let last = min(base + 199, first + generator.next() % 20)
            detector.sackBegins(at: .zero, minimum: nil)
            flight.reportBlock(first: first, last: last, to: &detector)
            let new = Set(first...last).subtracting(known)
            known.formUnion(new)
            #expect(detector.newBytes == new.count * 116)
            #expect(flight.bytes == (200 - known.count) * 116)
            #expect(flight.payloadBytes == (200 - known.count) * 100)
            #expect(flight.acknowledgedBehindGap == known.count)
            let covered = flight.acknowledgedRanges.flatMap { Array($0.first...$0.last) }
            #expect(covered == known.sorted())
        }
        for _ in 0..<200 { _ = flight.popFront() }
        flight.trimRanges()
        #expect(flight.bytes == 0)
        #expect(flight.acknowledgedBehindGap == 0)
        #expect(flight.acknowledgedRanges.isEmpty)
        #expect(flight.sent.isEmpty)
    }

    @Test("RFC 9260 §6.3.3: after T3 the lowest TSN goes first; RFC 9260 §6.2.1: reneging brings everything back")
    func lose() {
        var flight = flight(10)
        var detector = LossDetector()
        let base = flight.base
        flight.reportBlock(first: base + 3, last: base + 5, to: &detector)
        flight.lose(base + 8)
        flight.lose(base + 1)
        flight.loseAll()
        var order: [UInt64] = []
        while !flight.lost.isEmpty {
            order.append(flight.lost.head - base)
            flight.resend(flight.lost.head, at: .zero)
        }
        #expect(order == [0, 1, 2, 6, 7, 8, 9])
        #expect(flight.bytes == 7 * 116)
        flight.forgetReports()
        order = []
        while !flight.lost.isEmpty {
            order.append(flight.lost.head - base)
            flight.resend(flight.lost.head, at: .zero)
        }
        #expect(order == Array(0..<10))
    }

    @Test("RFC 8985 §6.2: three later arrivals show a loss at once; fewer wait for a quarter of the round trip")
    func detector() {
        let sentAt = Instant(nanoseconds: 0)
        let now = sentAt + .milliseconds(40)
        for (arrived, lostAtOnce) in [(1, false), (2, false), (3, true)] {
            var flight = InFlight(initialTSN: TSN(rawValue: 1), headerSize: 16)
            for _ in 0..<5 { flight.append(SentChunk(slot: 0, length: 100), at: sentAt) }
            var detector = LossDetector()
            detector.sackBegins(at: now, minimum: .milliseconds(40))
            flight.reportBlock(first: flight.base + 1, last: flight.base + UInt64(arrived), to: &detector)
            let due = detector.detect(
                &flight, at: now, minimum: .milliseconds(40), smoothed: .milliseconds(40), isInRecovery: false, chunksPerPacket: 1)
            #expect(detector.hasLost == lostAtOnce)
            #expect(due == (lostAtOnce ? nil : sentAt + .milliseconds(50)))
        }
    }

    func queue(interleaved: Bool) -> SendQueue {
        var queue = SendQueue()
        queue.interleaved = interleaved
        return queue
    }

    /// The streams of `count` fragments of at most 1000 bytes.
    func drain(_ queue: inout SendQueue, _ count: Int) -> [UInt16] {
        var result: [UInt16] = []
        var tsn: UInt64 = 1
        while result.count < count {
            let slot = queue.selectNext(at: .zero)
            guard slot >= 0 else { break }
            let message = queue.messages[Int(slot)]
            let (_, header) = queue.takeFragment(slot, length: min(1000, message.size - message.sent), tsn: tsn)
            tsn += 1
            result.append(header.stream)
        }
        return result
    }

    @Test("RFC 8260 §3.6: with I-DATA a small message passes a big one; without, it waits for its end")
    func smallPassesBig() {
        for interleaved in [true, false] {
            var queue = queue(interleaved: interleaved)
            queue.enqueue(ByteBuffer(repeating: 1, count: 100_000), stream: 1, ppid: 53, isUnordered: false, expiry: nil, maximumTransmissions: .max)
            _ = drain(&queue, 10)
            queue.enqueue(ByteBuffer(repeating: 2, count: 10), stream: 2, ppid: 53, isUnordered: false, expiry: nil, maximumTransmissions: .max)
            let order = drain(&queue, 200)
            #expect(order.count == 91)
            #expect(order.firstIndex(of: 2) == (interleaved ? order.firstIndex(of: 2).map { min($0, 2) } : 90))
            #expect(!queue.hasUnsent)
        }
    }

    @Test("RFC 8831 §6.4: shares follow priorities")
    func weights() {
        var queue = queue(interleaved: true)
        for (stream, weight) in [(UInt16(1), UInt16(128)), (2, 512)] {
            queue.setWeight(weight, of: stream)
            queue.enqueue(ByteBuffer(repeating: 1, count: 1_000_000), stream: stream, ppid: 53, isUnordered: false, expiry: nil, maximumTransmissions: .max)
        }
        let order = drain(&queue, 500)
        let low = order.count { $0 == 1 }
        #expect((95...105).contains(low))
    }

    @Test("messages that would not fit the peer's memory together are not interleaved")
    func partialLimit() {
        var queue = queue(interleaved: true)
        queue.partialLimit = 150_000
        for stream: UInt16 in 1...3 {
            queue.enqueue(ByteBuffer(repeating: 1, count: 100_000), stream: stream, ppid: 53, isUnordered: false, expiry: nil, maximumTransmissions: .max)
        }
        queue.enqueue(ByteBuffer(repeating: 1, count: 1000), stream: 4, ppid: 53, isUnordered: false, expiry: nil, maximumTransmissions: .max)
        let order = drain(&queue, 400)
        #expect(order.count == 301)
        let big = order.filter { $0 != 4 }
        #expect(big == Array(repeating: big[0], count: 100) + Array(repeating: big[100], count: 100) + Array(repeating: big[200], count: 100))
        #expect((order.firstIndex(of: 4) ?? 400) < 5)
    }

    @Test("RFC 3758 §3.5: an expired message that was not begun costs nothing")
    func expiry() {
        var queue = queue(interleaved: false)
        queue.enqueue(ByteBuffer(repeating: 1, count: 10), stream: 1, ppid: 53, isUnordered: false, expiry: Instant(nanoseconds: 5), maximumTransmissions: .max)
        queue.enqueue(ByteBuffer(repeating: 1, count: 10), stream: 1, ppid: 53, isUnordered: false, expiry: nil, maximumTransmissions: .max)
        let slot = queue.selectNext(at: Instant(nanoseconds: 6))
        let (_, header) = queue.takeFragment(slot, length: 10, tsn: 1)
        #expect(header.message == 0)
        #expect(queue.abandoned == 1)
        #expect(queue.selectNext(at: Instant(nanoseconds: 6)) == -1)
    }

    @Test("RFC 9260 §6.3.1: the time-out follows the samples within its limits")
    func timeout() {
        var estimator = RoundTripEstimator(Configuration())
        #expect(estimator.timeout == .milliseconds(500))
        estimator.sample(.milliseconds(200), at: .zero)
        #expect(estimator.timeout == .milliseconds(600))
        for _ in 0..<100 { estimator.sample(.microseconds(50), at: .zero) }
        // the minimum stands for the variation
        #expect(estimator.timeout > .milliseconds(100))
        #expect(estimator.timeout < .microseconds(100_100))
        for _ in 0..<10 { estimator.backOff() }
        #expect(estimator.timeout == .seconds(5))
        estimator.restoreTimeout()
        #expect(estimator.timeout < .microseconds(100_100))
    }
}
