package import NIOCore
package import Wire

/// What a one-way link does to datagrams. Probabilities are 0...1 per datagram.
package struct LinkConditions: Sendable {
    /// One-way propagation delay.
    package var delay: Duration = .milliseconds(10)
    /// Extra delay, uniform between zero and this; more than the spacing of datagrams reorders them.
    package var jitter: Duration = .zero
    package var loss: Double = 0
    /// Losses that come together; nil means none but those of `loss`.
    package var bursts: LossBursts?
    package var duplication: Double = 0
    /// Datagrams held back by `reorderingDelay`.
    package var reordering: Double = 0
    package var reorderingDelay: Duration = .milliseconds(30)
    /// Datagrams with one flipped bit.
    package var corruption: Double = 0
    /// Larger datagrams vanish (a path without ICMP), counted in bytes of UDP payload.
    package var maximumDatagram: Int = 65_507
    /// Bits per second; nil means no limit.
    package var rate: Double?
    /// Bytes that wait for the link before the tail is dropped.
    package var queueLimit: Int = 1 << 20
    /// Nothing passes.
    package var isDown = false

    package init() {}
}

/// Losses in bursts: a chain of two states (Gilbert 1960, Elliott 1963) that changes with time, not with datagrams, so that a sender who falls silent
/// does not stay in a burst for ever.
package struct LossBursts: Sendable {
    /// How long a burst and the time between two bursts last on average; each is drawn evenly between nothing and twice that.
    package var length: Duration
    package var spacing: Duration
    /// What is lost during a burst, beside `LinkConditions.loss`.
    package var loss: Double

    package init(length: Duration, spacing: Duration, loss: Double = 1) {
        self.length = length
        self.spacing = spacing
        self.loss = loss
    }

    /// The share of all datagrams that bursts take.
    package var averageLoss: Double {
        let (bad, good) = (length.inMilliseconds, spacing.inMilliseconds)
        return bad + good > 0 ? loss * bad / (bad + good) : 0
    }
}

/// One direction of a simulated network: datagrams go in with a time and come out with a later one. No clock, no IO; the same seed gives the same run.
package struct Link: Sendable {
    package struct Counters: Sendable, Equatable {
        package var offered = 0, delivered = 0, lost = 0, tooLarge = 0, queueDropped = 0, duplicated = 0, corrupted = 0
    }

    package var conditions: LinkConditions
    package private(set) var counters = Counters()
    private var generator: SplitMix64
    /// Bursts draw from a generator of their own.
    private var burstGenerator: SplitMix64
    private var isInBurst = false
    private var burstChangesAt: Instant?
    private var inFlight: [(due: Instant, order: UInt64, datagram: ByteBuffer)] = []
    private var order: UInt64 = 0
    private var lineFreeAt = Instant.zero

    package init(_ conditions: LinkConditions = .init(), seed: UInt64) {
        self.conditions = conditions
        generator = SplitMix64(seed: seed)
        burstGenerator = SplitMix64(seed: ~seed)
    }

    /// When the next datagram arrives; nil while the link is empty.
    package var deadline: Instant? { inFlight.first?.due }

    package mutating func send(_ datagram: ByteBuffer, at now: Instant) {
        counters.offered += 1
        // every draw is made for every datagram, so that one setting does not shift the draws of another
        let lost = chance(conditions.loss) || isLostInBurst(at: now)
        let doubled = chance(conditions.duplication)
        let late = chance(conditions.reordering)
        let flipped = chance(conditions.corruption)
        let jitter = Int64(Double(conditions.jitter.inNanoseconds) * unit())
        let bit = Int(truncatingIfNeeded: generator.next() & 0x7FFF_FFFF)
        guard !conditions.isDown, !lost else { counters.lost += 1; return }
        guard datagram.readableBytes <= conditions.maximumDatagram else { counters.tooLarge += 1; return }
        var departure = now
        if let rate = conditions.rate {
            let start = max(now, lineFreeAt)
            let waiting = Double((start - now).inNanoseconds) * 1e-9 * rate / 8
            guard Int(waiting) + datagram.readableBytes <= conditions.queueLimit else { counters.queueDropped += 1; return }
            departure = start + .nanoseconds(Int64(Double(datagram.readableBytes * 8) / rate * 1e9))
            lineFreeAt = departure
        }
        var payload = datagram
        if flipped, payload.readableBytes > 0 {
            counters.corrupted += 1
            let index = payload.readerIndex + (bit / 8) % payload.readableBytes
            if let byte = payload.getInteger(at: index, as: UInt8.self) { payload.setInteger(byte ^ (1 << UInt8(bit % 8)), at: index) }
        }
        var due = departure + conditions.delay + .nanoseconds(jitter)
        if late { due += conditions.reorderingDelay }
        insert(payload, due: due)
        if doubled {
            counters.duplicated += 1
            insert(payload, due: due + .microseconds(100))
        }
    }

    /// The line stands still until then, and what is sent meanwhile waits; needs a rate.
    package mutating func stall(until time: Instant) { lineFreeAt = max(lineFreeAt, time) }

    /// The next datagram that has arrived by `now`.
    package mutating func receive(at now: Instant) -> ByteBuffer? {
        guard let first = inFlight.first, first.due <= now else { return nil }
        counters.delivered += 1
        return inFlight.removeFirst().datagram
    }

    private mutating func insert(_ datagram: ByteBuffer, due: Instant) {
        order += 1
        var low = 0
        var high = inFlight.count
        while low < high {
            let middle = (low + high) / 2
            if inFlight[middle].due <= due { low = middle + 1 } else { high = middle }
        }
        inFlight.insert((due, order, datagram), at: low)
    }

    private mutating func isLostInBurst(at now: Instant) -> Bool {
        guard let bursts = conditions.bursts else { return false }
        var changesAt = burstChangesAt ?? now + stay(bursts.spacing)
        while changesAt <= now {
            isInBurst.toggle()
            changesAt += stay(isInBurst ? bursts.length : bursts.spacing)
        }
        burstChangesAt = changesAt
        return isInBurst && Self.unit(&burstGenerator) < bursts.loss
    }

    private mutating func stay(_ average: Duration) -> Duration {
        max(.microseconds(1), .nanoseconds(Int64(Double(average.inNanoseconds) * 2 * Self.unit(&burstGenerator))))
    }

    private static func unit(_ generator: inout SplitMix64) -> Double { Double(generator.next() >> 11) * 0x1p-53 }
    private mutating func unit() -> Double { Self.unit(&generator) }
    private mutating func chance(_ probability: Double) -> Bool { unit() < probability }
}
