import Wire

/// One DATA chunk that has a TSN and is not yet acknowledged cumulatively. Its bytes lie in its message.
struct SentChunk: BitwiseCopyable {
    enum State: UInt8, BitwiseCopyable {
        /// On its way; in the list of sent chunks.
        case sent
        /// Taken for lost; in the list of lost chunks.
        case lost
        /// Reported in a gap block. The peer may still change its mind (RFC 9260 §6.2.1 on reneging).
        case acknowledged
        /// Given up (RFC 3758); its TSN is skipped by FORWARD-TSN.
        case abandoned
    }

    var slot: Int32 = 0
    var offset: UInt32 = 0
    var length: UInt16 = 0
    var flags: UInt8 = 0
    var state = State.sent
    var fragment: UInt32 = 0
    var transmissions: UInt32 = 0
    /// Neighbours in its list, 0 for none.
    var previous: UInt64 = 0
    var next: UInt64 = 0
    /// Counts transmissions of the association: tells the order of sending, also of retransmissions.
    var serial: UInt64 = 0
    var sentAt = Instant.zero
    /// What was delivered when it was sent.
    var stamp = DeliveryStamp()
    /// It went over the end of the base size in its packet, which is therefore a large one; true of one chunk in each.
    var marksLargePacket = false

    func with(flags: UInt8) -> SentChunk {
        var result = self
        result.flags = flags
        return result
    }
}

/// Chunks between the cumulative TSN and the last one sent, in a ring indexed by TSN. Each operation costs the same however many there are.
///
/// Two lists run through the ring: sent chunks in the order of sending (loss detection looks at its head only) and lost ones in the order of
/// their retransmission.
struct InFlight {
    struct List {
        var head: UInt64 = 0
        var tail: UInt64 = 0
        var isEmpty: Bool { head == 0 }
    }

    private var ring: [SentChunk] = []
    private var mask: UInt64 = 0
    /// The first TSN not acknowledged cumulatively.
    private(set) var base: UInt64
    /// The next TSN to be given.
    private(set) var next: UInt64
    private(set) var sent = List()
    private(set) var lost = List()
    private var serial: UInt64 = 0
    /// Bytes of chunks in `sent`, headers included: what the congestion window limits.
    private(set) var bytes = 0
    /// User data in `sent`: what the peer's window limits.
    private(set) var payloadBytes = 0
    /// What gap blocks reported.
    private(set) var acknowledgedRanges: [TSNTracker.Range] = []
    /// Chunks in `acknowledgedRanges`.
    private(set) var acknowledgedBehindGap = 0
    private let headerSize: Int
    var delivery = DeliveryRateEstimator()

    init(initialTSN: TSN, headerSize: Int) {
        base = 1 << 32 + UInt64(initialTSN.rawValue)
        next = base
        self.headerSize = headerSize
    }

    var isEmpty: Bool { base == next }
    var count: Int { Int(next - base) }
    var cumulative: UInt64 { base - 1 }
    var serialOfLast: UInt64 { serial }
    /// The lowest TSN that is not acknowledged. The peer's first gap block begins behind it.
    var firstOutstanding: UInt64 { base }

    @inline(__always)
    subscript(tsn: UInt64) -> SentChunk {
        get { ring[Int(tsn & mask)] }
        set { ring[Int(tsn & mask)] = newValue }
    }

    func contains(_ tsn: UInt64) -> Bool { tsn >= base && tsn < next }

    /// A chunk's share of the congestion window.
    @inline(__always)
    func size(_ length: UInt16) -> Int { (Int(length) + headerSize + 3) & ~3 }

    /// Records a chunk that is just being sent for the first time.
    @inline(__always)
    mutating func append(_ new: SentChunk, marksLargePacket: Bool = false, at now: Instant) {
        if count == ring.count { grow() }
        var chunk = new
        serial += 1
        chunk.serial = serial
        chunk.sentAt = now
        chunk.transmissions = 1
        chunk.marksLargePacket = marksLargePacket
        chunk.state = .sent
        chunk.previous = sent.tail
        chunk.next = 0
        count(&chunk, at: now)
        self[next] = chunk
        if sent.tail == 0 { sent.head = next } else { ring[Int(sent.tail & mask)].next = next }
        sent.tail = next
        next += 1
    }

    /// A TSN for fragments that will never be sent: it lets FORWARD-TSN pass over a message whose last fragment was not sent yet.
    mutating func appendAbandoned(_ new: SentChunk) {
        if count == ring.count { grow() }
        var chunk = new
        chunk.state = .abandoned
        self[next] = chunk
        next += 1
    }

    /// The front chunk is acknowledged cumulatively (or skipped): it leaves the ring. Returns it as it was.
    @inline(__always)
    mutating func popFront() -> SentChunk {
        let chunk = self[base]
        switch chunk.state {
        case .sent:
            unlinkSent(base, chunk)
        case .lost:
            unlinkLost(base, chunk)
        case .acknowledged:
            acknowledgedBehindGap -= 1
        case .abandoned: break
        }
        base += 1
        return chunk
    }

    /// After the cumulative TSN moved.
    mutating func trimRanges() {
        var drop = 0
        while drop < acknowledgedRanges.count, acknowledgedRanges[drop].last < base { drop += 1 }
        if drop > 0 { acknowledgedRanges.removeFirst(drop) }
        if let first = acknowledgedRanges.first, first.first < base { acknowledgedRanges[0].first = base }
    }

    /// A gap block: tells `detector` once of each chunk that was not known to have arrived.
    mutating func reportBlock(first: UInt64, last: UInt64, to detector: inout LossDetector) {
        let first = max(first, base)
        let last = min(last, next - 1)
        guard first <= last else { return }
        var index = rangeIndex(endingAtOrAfter: first)
        if index < acknowledgedRanges.count, acknowledgedRanges[index].first <= first, acknowledgedRanges[index].last >= last { return }
        var merged = TSNTracker.Range(first: first, last: last)
        // ranges that touch the block become one with it
        if index > 0, acknowledgedRanges[index - 1].last + 1 == first { index -= 1 }
        let start = index
        var position = first
        while index < acknowledgedRanges.count, acknowledgedRanges[index].first <= last + 1 {
            let known = acknowledgedRanges[index]
            while position < known.first, position <= last {
                acknowledgeBehindGap(position, &detector)
                position += 1
            }
            position = max(position, known.last + 1)
            merged.first = min(merged.first, known.first)
            merged.last = max(merged.last, known.last)
            index += 1
        }
        while position <= last {
            acknowledgeBehindGap(position, &detector)
            position += 1
        }
        acknowledgedRanges.replaceSubrange(start..<index, with: CollectionOfOne(merged))
    }

    private mutating func acknowledgeBehindGap(_ tsn: UInt64, _ detector: inout LossDetector) {
        let chunk = self[tsn]
        switch chunk.state {
        case .sent: unlinkSent(tsn, chunk)
        case .lost: unlinkLost(tsn, chunk)
        case .acknowledged, .abandoned: return
        }
        ring[Int(tsn & mask)].state = .acknowledged
        acknowledgedBehindGap += 1
        delivery.arrived(chunk, size: size(chunk.length))
        detector.acknowledged(chunk, tsn: tsn, size: size(chunk.length))
    }

    /// RFC 9260 §6.2.1: the peer dropped what it had reported. Everything reported is taken for lost.
    mutating func forgetReports() {
        acknowledgedRanges.removeAll()
        acknowledgedBehindGap = 0
        loseAll()
    }

    mutating func lose(_ tsn: UInt64) {
        guard contains(tsn) else { return }
        let chunk = self[tsn]
        guard chunk.state == .sent else { return }
        unlinkSent(tsn, chunk)
        linkLost(tsn)
        delivery.lose(size(chunk.length))
    }

    /// T3 (RFC 9260 §6.3.3): whatever is not reported is lost; retransmission starts with the lowest TSN.
    mutating func loseAll() {
        sent = List()
        lost = List()
        bytes = 0
        payloadBytes = 0
        var tsn = base
        while tsn < next {
            let state = self[tsn].state
            if state == .sent { delivery.lose(size(self[tsn].length)) }
            if state == .sent || state == .lost || state == .acknowledged && acknowledgedBehindGap == 0 { linkLost(tsn) }
            tsn += 1
        }
    }

    /// The T3 expiry was none: what it took for lost and was not sent again since is still on its way.
    mutating func findAll() {
        var found: [UInt64] = []
        var tsn = lost.head
        while tsn != 0 {
            if self[tsn].transmissions == 1 { found.append(tsn) }
            tsn = self[tsn].next
        }
        for tsn in found {
            unlinkLost(tsn, self[tsn])
            ring[Int(tsn & mask)].state = .sent
            bytes += size(self[tsn].length)
            payloadBytes += Int(self[tsn].length)
            delivery.find(size(self[tsn].length))
        }
        // the list is in the order of sending; what was sent again since comes last
        var again: [UInt64] = []
        tsn = sent.head
        while tsn != 0 {
            again.append(tsn)
            tsn = self[tsn].next
        }
        sent = List()
        for tsn in (found + again).sorted(by: { self[$0].serial < self[$1].serial }) {
            ring[Int(tsn & mask)].previous = sent.tail
            ring[Int(tsn & mask)].next = 0
            if sent.tail == 0 { sent.head = tsn } else { ring[Int(sent.tail & mask)].next = tsn }
            sent.tail = tsn
        }
    }

    /// A lost chunk is sent again.
    mutating func resend(_ tsn: UInt64, marksLargePacket: Bool = false, at now: Instant) {
        var chunk = self[tsn]
        guard chunk.state == .lost else { return }
        unlinkLost(tsn, chunk)
        serial += 1
        chunk.state = .sent
        chunk.serial = serial
        chunk.sentAt = now
        chunk.transmissions += 1
        chunk.marksLargePacket = marksLargePacket
        chunk.previous = sent.tail
        chunk.next = 0
        count(&chunk, at: now)
        self[tsn] = chunk
        if sent.tail == 0 { sent.head = tsn } else { ring[Int(sent.tail & mask)].next = tsn }
        sent.tail = tsn
    }

    /// It counts as in flight from now on.
    @inline(__always)
    private mutating func count(_ chunk: inout SentChunk, at now: Instant) {
        let isFirst = bytes == 0
        bytes += size(chunk.length)
        payloadBytes += Int(chunk.length)
        chunk.stamp = delivery.stamp(inFlight: bytes, isFirst: isFirst, at: now)
    }

    /// Gives up the chunks of one message.
    mutating func abandon(slot: Int32, from first: UInt64, through last: UInt64) {
        var tsn = max(first, base)
        while tsn <= last, tsn < next {
            let chunk = self[tsn]
            if chunk.slot == slot {
                switch chunk.state {
                case .sent: unlinkSent(tsn, chunk)
                case .lost: unlinkLost(tsn, chunk)
                case .acknowledged: acknowledgedBehindGap -= 1
                case .abandoned: break
                }
                ring[Int(tsn & mask)].state = .abandoned
            }
            tsn += 1
        }
    }

    // MARK: Lists

    @inline(__always)
    private mutating func unlinkSent(_ tsn: UInt64, _ chunk: SentChunk) {
        if chunk.previous == 0 { sent.head = chunk.next } else { ring[Int(chunk.previous & mask)].next = chunk.next }
        if chunk.next == 0 { sent.tail = chunk.previous } else { ring[Int(chunk.next & mask)].previous = chunk.previous }
        bytes -= size(chunk.length)
        payloadBytes -= Int(chunk.length)
    }

    private mutating func unlinkLost(_ tsn: UInt64, _ chunk: SentChunk) {
        if chunk.previous == 0 { lost.head = chunk.next } else { ring[Int(chunk.previous & mask)].next = chunk.next }
        if chunk.next == 0 { lost.tail = chunk.previous } else { ring[Int(chunk.next & mask)].previous = chunk.previous }
    }

    private mutating func linkLost(_ tsn: UInt64) {
        ring[Int(tsn & mask)].state = .lost
        ring[Int(tsn & mask)].previous = lost.tail
        ring[Int(tsn & mask)].next = 0
        if lost.tail == 0 { lost.head = tsn } else { ring[Int(lost.tail & mask)].next = tsn }
        lost.tail = tsn
    }

    private func rangeIndex(endingAtOrAfter tsn: UInt64) -> Int {
        var low = 0
        var high = acknowledgedRanges.count
        while low < high {
            let middle = (low + high) / 2
            if acknowledgedRanges[middle].last < tsn { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private mutating func grow() {
        let size = max(64, ring.count * 2)
        var larger = [SentChunk](repeating: SentChunk(), count: size)
        let newMask = UInt64(size - 1)
        var tsn = base
        while tsn < next {
            larger[Int(tsn & newMask)] = self[tsn]
            tsn += 1
        }
        ring = larger
        mask = newMask
    }
}
