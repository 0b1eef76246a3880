import Wire

/// Finds lost chunks by the order in which they were sent (RFC 8985, adapted to SCTP).
///
/// It takes the place of the three miss indications of RFC 9260 §7.2.4: without reordering a chunk is lost as soon as three sent after it were
/// reported, which is the same rule counted in chunks, since one SACK answers a whole burst here. Unlike miss indications it also finds lost
/// retransmissions, and it waits a quarter of the round-trip time where the path reorders.
struct LossDetector {
    private static let threshold = 3

    /// The last sent of all chunks known to have arrived.
    private var serial: UInt64 = 0
    private var sentAt = Instant.zero
    private var arrivedAt = Instant.zero
    /// The highest TSN known to have arrived.
    private var highest: UInt64 = 0
    private var highestBefore: UInt64 = 0
    private var reorderingSeen = false
    private var windowMultiplier = 1
    private var recoveriesSinceDuplicate = 0
    /// The last sent of all large packets known to have arrived.
    private var largeSerial: UInt64 = 0
    /// Large packets lost since then, though something sent after them arrived: many in a row are a black hole (RFC 8899 §4.3).
    private(set) var largePacketsLost = 0
    /// T3 expiries since then with a large packet under way.
    private var largeTimeouts = 0

    /// TSNs lost in this recovery, or in the last one, of which nothing shows yet that they had only been late.
    private var suspects: [UInt64] = []
    private var hasSuspects = false
    /// When T3 expired; nil once it is settled whether that was right.
    private var timedOutAt: Instant?
    /// Data arrived that was neither acknowledged before T3 expired nor sent again since (F-RTO, RFC 5682 §3).
    private(set) var isTimeoutSpurious = false
    /// `detect` found something.
    private(set) var hasLost = false

    /// What the SACK in hand acknowledged for the first time.
    private(set) var newBytes = 0
    /// When the newest of those that were sent once only was sent: a sample of the round-trip time (RFC 9260 §6.3.1 C4, C5).
    private(set) var sampleSentAt: Instant?
    private var sackAt = Instant.zero
    private var minimum: Duration?

    /// Before the chunks of a SACK are acknowledged.
    mutating func sackBegins(at now: Instant, minimum: Duration?) {
        highestBefore = highest
        newBytes = 0
        sampleSentAt = nil
        sackAt = now
        self.minimum = minimum
    }

    /// A chunk was acknowledged for the first time.
    @inline(__always)
    mutating func acknowledged(_ chunk: SentChunk, tsn: UInt64, size: Int) {
        newBytes += size
        if chunk.marksLargePacket, chunk.serial > largeSerial {
            largeSerial = chunk.serial
            forgetLargeLosses()
        }
        if chunk.state == .lost {
            found(tsn)
            if chunk.transmissions == 1, timedOutAt != nil { isTimeoutSpurious = true }
        }
        if chunk.transmissions > 1 {
            // RFC 8985 §6.2 step 2: too soon to be the answer to the retransmission
            if let minimum, sackAt - chunk.sentAt < minimum {
                if timedOutAt != nil { isTimeoutSpurious = true }
                return found(tsn)
            }
        } else {
            if tsn < highestBefore { reorderingSeen = true }
            sampleSentAt = sampleSentAt.map { max($0, chunk.sentAt) } ?? chunk.sentAt
        }
        if chunk.serial > serial {
            serial = chunk.serial
            sentAt = chunk.sentAt
            arrivedAt = sackAt
        }
        if tsn > highest { highest = tsn }
    }

    /// The peer reported a TSN as duplicate: a retransmission was for nothing, so wait longer (RFC 8985 §6.2 step 4).
    mutating func duplicateReported() {
        if recoveriesSinceDuplicate > 0 {
            windowMultiplier = min(windowMultiplier + 1, 8)
            recoveriesSinceDuplicate = 0
        }
    }

    /// What was taken for lost had only been late.
    mutating func found(_ tsn: UInt64) {
        if let index = suspects.firstIndex(of: tsn) { suspects.remove(at: index) }
    }

    /// Each loss of a recovery was none.
    var isRecoverySpurious: Bool { hasSuspects && suspects.isEmpty }

    mutating func suspicionIsOver() {
        hasSuspects = false
        suspects.removeAll(keepingCapacity: true)
    }

    mutating func timedOut(at now: Instant) {
        timedOutAt = now
        isTimeoutSpurious = false
        suspicionIsOver()
    }

    /// The time-out was none: what was taken for the answer to the retransmission was late, too, and tells nothing of the order.
    mutating func timeoutWasNone() {
        serial = 0
        timeoutIsOver()
    }

    mutating func timeoutIsOver() {
        timedOutAt = nil
        isTimeoutSpurious = false
    }

    private mutating func suspect(_ tsn: UInt64, startsEpisode: Bool) {
        if startsEpisode {
            suspicionIsOver()
            hasSuspects = true
        }
        suspects.append(tsn)
        // so many late packets are loss enough
        if suspects.count > 64 { suspicionIsOver() }
    }

    /// What was learnt of the order and the speed of arrivals belongs to the old path; what has arrived has arrived.
    mutating func pathChanged() {
        reorderingSeen = false
        windowMultiplier = 1
        recoveriesSinceDuplicate = 0
        sampleSentAt = nil
        timeoutIsOver()
        suspicionIsOver()
    }

    /// Packets go in the base size from now on, or a large one arrived.
    mutating func forgetLargeLosses() {
        largePacketsLost = 0
        largeTimeouts = 0
    }

    /// T3 expired: how often it did since a large packet arrived, counting only where one was under way.
    mutating func timeoutsOfLargePackets(_ inFlight: InFlight) -> Int {
        var tsn = inFlight.base
        while tsn < inFlight.next {
            let chunk = inFlight[tsn]
            if chunk.marksLargePacket, chunk.serial > largeSerial, chunk.state == .sent || chunk.state == .lost {
                largeTimeouts += 1
                break
            }
            tsn += 1
        }
        return largeTimeouts
    }

    mutating func recoveryEnded() {
        timeoutIsOver()
        recoveriesSinceDuplicate += 1
        if recoveriesSinceDuplicate >= 16 {
            windowMultiplier = 1
            reorderingSeen = false
        }
    }

    /// Marks what is lost. Returns when the next chunk would be.
    mutating func detect(
        _ inFlight: inout InFlight, at now: Instant, minimum: Duration?, smoothed: Duration?, isInRecovery: Bool, chunksPerPacket: Int
    ) -> Instant? {
        hasLost = false
        var reordering: Duration = .zero
        if reorderingSeen || !isInRecovery && inFlight.acknowledgedBehindGap < Self.threshold * chunksPerPacket {
            reordering = min((minimum ?? .zero) / 4 * windowMultiplier, smoothed ?? .zero)
        }
        let patience = arrivedAt - sentAt + reordering
        while inFlight.sent.head != 0 {
            let tsn = inFlight.sent.head
            let chunk = inFlight[tsn]
            guard chunk.serial < serial else { return nil }
            let due = chunk.sentAt + patience
            guard due <= now else { return due }
            inFlight.lose(tsn)
            if chunk.marksLargePacket, chunk.serial > largeSerial { largePacketsLost += 1 }
            if hasSuspects || !isInRecovery { suspect(tsn, startsEpisode: !isInRecovery && !hasLost) }
            hasLost = true
        }
        return nil
    }
}
