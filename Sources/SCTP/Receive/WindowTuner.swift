import Wire

/// How much the peer may have under way to us: the window grows with what the application takes in a round trip, up to the configured bound.
///
/// Twice that much carries a sender at full rate through a round trip of retransmission, and as much again as it grew since the last round trip lets a
/// slow start double. So an application that takes nothing holds no more than the window of the start, and one behind a long fat path gets all that
/// it uses. This is what the peer is told; what is refused is still measured by the bound. A window never shrinks: what was granted stays granted
/// (RFC 9260 §6.2 C).
struct WindowTuner {
    /// Before anything was taken.
    static let start = 512 << 10
    /// A shorter measure would see one burst instead of a rate.
    private static let shortest: Duration = .milliseconds(10)

    private(set) var limit: Int
    private let bound: Int
    private var began: Instant?
    private var taken = 0
    private var takenBefore = 0
    private var lastRate = 0

    init(bound: Int) {
        self.bound = bound
        limit = min(bound, Self.start)
    }

    /// - Parameters:
    ///   - received: all user data that ever arrived.
    ///   - held: what of it counts against the window.
    mutating func update(received: Int, held: Int, roundTrip: Duration?, at now: Instant) {
        guard limit < bound else { return }
        taken = received - held
        guard let began else {
            self.began = now
            takenBefore = taken
            return
        }
        // a round trip that is not known yet is taken for a long one: the window then grows too far rather than too little
        guard now - began >= max(roundTrip ?? .milliseconds(200), Self.shortest) else { return }
        let rate = max(0, taken - takenBefore)
        limit = max(limit, min(bound, 2 * rate + 2 * max(0, rate - lastRate)))
        lastRate = rate
        takenBefore = taken
        self.began = now
    }
}
