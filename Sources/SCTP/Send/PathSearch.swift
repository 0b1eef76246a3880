/// Which packet size the path carries, and which to try next: Datagram Packetization Layer Path MTU Discovery (RFC 8899). No time, no packets.
///
/// Sizes are bytes of SCTP packets. Chart of states (RFC 8899 §5.2):
///
///     base ──► searching ──no candidate is left──► complete
///      ▲           ▲                                  │
///      │           └──────── PMTU_RAISE_TIMER ────────┤
///      └──────── black hole, another path ────────────┘
///
/// The search is optimistic (§5.3.2 leaves the choice of sizes open): first the largest candidate, then the middle of what is left, so that a path without
/// a limit is in full use after one round trip. Before it ends, the least size that failed is tried once more: it may have been bad luck.
struct PathSearch {
    /// RFC 8899 §5.1.2.
    static let maximumProbes = 3

    struct Probe {
        let size: Int
        /// What the peer must send back; from our generator, so nobody can make it up.
        let nonce: UInt64
        fileprivate let index: Int
        /// Times that it was lost while the peer was heard.
        fileprivate var losses = 0
        /// Times that it was lost while nothing was heard: that says nothing about its size.
        private(set) var silences = 0
        fileprivate var packetsHeard: Int

        fileprivate mutating func expire(packetsHeard: Int) {
            if packetsHeard == self.packetsHeard { silences = min(silences + 1, 4) } else { (losses, silences) = (losses + 1, 0) }
            self.packetsHeard = packetsHeard
        }
    }

    enum Verdict { case tryAgain, failed }

    /// BASE_PLPMTU: taken for granted.
    let base: Int
    /// PLPMTU: what packets may be long now.
    private(set) var current: Int
    /// At most one at a time.
    private(set) var probe: Probe?
    private let candidates: [Int]
    /// Index of the largest candidate that is proved, and of the least that failed (or the count).
    private var good = 0
    private var bad: Int
    /// `bad` failed twice, or our own host refuses it.
    private var isSure = false
    /// Proved before a black hole seemed to open: the first to try.
    private var favourite: Int?

    init(base: Int, maximum: Int) {
        self.base = base
        current = base
        candidates = Self.candidates(base: base, maximum: maximum)
        bad = candidates.count
    }

    /// What IP leaves of the MTUs that exist, with DTLS 1.2 AES-GCM: tunnels, PPPoE, Ethernet, receive buffers of 2048 bytes, pages, jumbo frames.
    private static func candidates(base: Int, maximum: Int) -> [Int] {
        var sizes: Set = [base]
        for mtu in [1280, 1400, 1420, 1440, 1492, 1500, 2048, 4096, 9000] {
            // IPv6, IPv4, each with UDP
            for headers in [48, 28] { sizes.insert((mtu - headers - 37) & ~3) }
        }
        sizes.insert(maximum & ~3)
        return sizes.filter { $0 == base || $0 > base && $0 <= maximum }.sorted()
    }

    /// Chooses what to probe. False when there is nothing left.
    mutating func begin(nonce: UInt64, packetsHeard: Int) -> Bool {
        guard probe == nil else { return true }
        guard let index = next else { return false }
        probe = Probe(size: candidates[index], nonce: nonce, index: index, packetsHeard: packetsHeard)
        return true
    }

    private var next: Int? {
        if let favourite, favourite > good, favourite < bad { return favourite }
        if bad == candidates.count { return good + 1 < bad ? bad - 1 : nil }
        if bad - good > 1 { return (good + bad) / 2 }
        return bad - good == 1 && !isSure ? bad : nil
    }

    /// The peer has received a probe (RFC 8899 §4.2). Its size is what we sent: nothing that the peer says enters. False when there is no such probe.
    mutating func acknowledged(nonce: UInt64) -> Bool {
        guard let probe, probe.nonce == nonce else { return false }
        self.probe = nil
        favourite = nil
        good = probe.index
        current = probe.size
        // what seemed impossible was possible: so may be what is above
        if good >= bad { (bad, isSure) = (candidates.count, false) }
        return true
    }

    /// The probe was not answered in time.
    mutating func expired(packetsHeard: Int) -> Verdict {
        guard probe != nil else { return .failed }
        probe?.expire(packetsHeard: packetsHeard)
        guard let probe, probe.losses >= Self.maximumProbes else { return .tryAgain }
        self.probe = nil
        favourite = nil
        (bad, isSure) = (probe.index, probe.index == bad)
        return .failed
    }

    /// Our own host does not send packets of this size. True when the size in use is among those.
    mutating func refused(_ size: Int) -> Bool {
        guard let first = candidates.firstIndex(where: { $0 >= size }), first > 0 else { return false }
        if first <= bad { (bad, isSure) = (first, true) }
        if let probe, probe.index >= first { self.probe = nil }
        guard good >= first else { return false }
        good = 0
        current = base
        return true
    }

    /// PMTU_RAISE_TIMER (RFC 8899 §5.1.1): perhaps the path carries more by now.
    mutating func raise() {
        bad = candidates.count
        isSure = false
    }

    /// A black hole (RFC 8899 §4.3): back to the base, and look again, first whether it is one. What was too large before still is.
    mutating func fallBack() {
        favourite = good
        probe = nil
        good = 0
        current = base
    }

    /// Nothing is known of the path.
    mutating func startAnew() {
        fallBack()
        favourite = nil
        raise()
    }
}
