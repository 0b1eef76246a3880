import Wire

/// How fast data arrived, as the newest chunk of a SACK tells (draft-cheng-iccrg-delivery-rate-estimation, also in draft-ietf-ccwg-bbr).
package struct DeliverySample: Sendable {
    /// Bytes acknowledged since the association's birth.
    package var delivered: UInt64 = 0
    /// The same when the newest acknowledged chunk was sent: a round trip lies between the two. nil where the SACK acknowledged nothing new.
    package var priorDelivered: UInt64?
    /// Bytes per second between the two; nil where nothing can be said.
    package var rate: Double?
    /// The rate is that of an application with little to send, or of a peer with little room.
    package var isApplicationLimited = false
    /// In flight right after the newest acknowledged chunk was sent.
    package var inFlightAtSend = 0
    /// Bytes taken for lost since then.
    package var lost = 0

    package init() {}

    /// Bytes that arrived in the round trip.
    package var bytesInRound: Int { priorDelivered.map { Int(delivered - $0) } ?? 0 }
}

/// What was known when a chunk was sent.
struct DeliveryStamp: BitwiseCopyable {
    var delivered: UInt64 = 0
    var lost: UInt64 = 0
    /// When `delivered` was reached.
    var deliveredAt = Instant.zero
    /// When the first chunk of this flight was sent.
    var firstSentAt = Instant.zero
    var inFlight: UInt32 = 0
    var isApplicationLimited = false
}

/// Counts what arrives and what is lost.
struct DeliveryRateEstimator {
    private(set) var delivered: UInt64 = 0
    private(set) var lost: UInt64 = 0
    private var deliveredAt = Instant.zero
    private var firstSentAt = Instant.zero
    /// Samples are the application's until so much has arrived.
    private var limitedUntil: UInt64 = 0
    /// The newest chunk of the SACK in hand.
    private var newest: (stamp: DeliveryStamp, serial: UInt64, sentAt: Instant)?

    /// A chunk goes out; `inFlight` includes it.
    @inline(__always)
    mutating func stamp(inFlight: Int, isFirst: Bool, at now: Instant) -> DeliveryStamp {
        if isFirst {
            firstSentAt = now
            deliveredAt = now
        }
        return DeliveryStamp(
            delivered: delivered, lost: lost, deliveredAt: deliveredAt, firstSentAt: firstSentAt, inFlight: UInt32(clamping: inFlight),
            isApplicationLimited: delivered < limitedUntil)
    }

    @inline(__always)
    mutating func arrived(_ chunk: SentChunk, size: Int) {
        delivered += UInt64(size)
        if newest.map({ chunk.serial > $0.serial }) ?? true { newest = (chunk.stamp, chunk.serial, chunk.sentAt) }
    }

    mutating func lose(_ size: Int) { lost += UInt64(size) }
    /// It was only late.
    mutating func find(_ size: Int) { lost -= min(lost, UInt64(size)) }

    /// Nothing held data back but the application, or the peer's window.
    mutating func applicationLimited(inFlight: Int) { limitedUntil = max(1, delivered + UInt64(max(0, inFlight))) }

    /// After all chunks of a SACK.
    mutating func takeSample(minimum: Duration?, at now: Instant) -> DeliverySample {
        var sample = DeliverySample()
        sample.delivered = delivered
        guard let newest else { return sample }
        self.newest = nil
        deliveredAt = now
        firstSentAt = newest.sentAt
        sample.priorDelivered = newest.stamp.delivered
        sample.isApplicationLimited = newest.stamp.isApplicationLimited
        sample.inFlightAtSend = Int(newest.stamp.inFlight)
        sample.lost = Int(clamping: lost - min(lost, newest.stamp.lost))
        // the longer of both, so that neither a burst of SACKs nor one of packets shows more than the path carries
        let interval = max(newest.sentAt - newest.stamp.firstSentAt, now - newest.stamp.deliveredAt)
        // shorter than the path: it acknowledges the original of something that was sent again
        if interval > .zero, interval >= minimum ?? .zero {
            sample.rate = Double(delivered - newest.stamp.delivered) * 1e9 / Double(interval.inNanoseconds)
        }
        return sample
    }
}
