import Wire

/// When the next SACK is due (RFC 9260 §6.2). It is decided once per receive burst: `poll` asks after a batch of packets.
struct SackSchedule {
    private(set) var isImmediate = false
    private var packetsSinceSack = 0
    private(set) var deadline: Instant?
    /// TSNs that came again, for the next SACK.
    private(set) var duplicates: [TSN] = []
    /// The window as the peer knows it.
    private(set) var advertisedWindow = 0
    /// What the peer may still send of it.
    private(set) var grant = 0

    var isDue: Bool { isImmediate }

    /// A packet with DATA is done.
    mutating func packetReceived(at now: Instant, delay: Duration) {
        packetsSinceSack += 1
        if packetsSinceSack >= 2 {
            isImmediate = true
        } else if deadline == nil {
            deadline = now + delay
        }
    }

    mutating func requestImmediately() { isImmediate = true }

    mutating func duplicateReceived(_ tsn: TSN) {
        isImmediate = true
        if duplicates.count < 16 { duplicates.append(tsn) }
    }

    mutating func delayExpired() {
        deadline = nil
        isImmediate = true
    }

    mutating func sent(window: Int) {
        isImmediate = false
        packetsSinceSack = 0
        deadline = nil
        duplicates.removeAll(keepingCapacity: true)
        advertisedWindow = window
        grant = window
    }

    mutating func dataTaken(_ bytes: Int) { grant -= bytes }

    /// True when a SACK would ride along with DATA for free.
    var isPending: Bool { isImmediate || deadline != nil }
}
