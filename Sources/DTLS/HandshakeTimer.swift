import COpenSSL
import Wire

/// When a handshake flight is sent again.
///
/// OpenSSL reads the wall clock for this, and looks at its timer on every read as well, not only when asked. Up to 3.1 it hands its BIO the address of its
/// deadline each time it starts or stops the timer (`BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT`, made for sockets with a receive timeout), and that address is a field
/// of the connection. So we let time stand still for OpenSSL: a started deadline is moved out of reach, and when ours is due it is moved into the past
/// just before `DTLSv1_handle_timeout`. Retransmissions then follow the engine's time alone. From 3.2 on the address is that of a copy, and we follow
/// OpenSSL's wall clock (`DTLSConfiguration.Clock.wall`).
struct HandshakeTimer {
    private(set) var deadline: Instant?
    private let initial: Duration
    private let maximum: Duration
    let isVirtual: Bool

    private var opensslDeadline: UnsafeMutableRawPointer?
    private var wasStarted = false
    private var wasStopped = false
    private var wait: Duration

    init(_ configuration: DTLSConfiguration) {
        initial = configuration.initialRetransmission
        maximum = configuration.maximumRetransmission
        wait = initial
        isVirtual = configuration.clock == .engine && DTLSConfiguration.Clock.engineIsPossible
    }

    /// OpenSSL started or stopped its timer.
    mutating func opensslSet(_ value: UnsafeMutableRawPointer) {
        guard isVirtual else { return }
        opensslDeadline = value
        if everyframe_timer_is_running(value) {
            wasStarted = true
            everyframe_timer_set(value, Self.never)
        } else {
            wasStopped = true
            wasStarted = false
        }
    }

    /// After each call into OpenSSL: takes over what became of its timer.
    mutating func update(_ ssl: OpaquePointer, at now: Instant) {
        guard isVirtual else {
            let remaining = everyframe_timer_remaining(ssl)
            deadline = remaining < 0 ? nil : now + .microseconds(max(remaining, 1000))
            return
        }
        if wasStopped {
            wait = initial
            deadline = nil
        }
        if wasStarted { deadline = now + wait }
        wasStarted = false
        wasStopped = false
    }

    /// Whether the flight is to be sent again; if so, OpenSSL's timer now looks expired to it, and `DTLSv1_handle_timeout` has to follow.
    mutating func willExpire(at now: Instant) -> Bool {
        guard let deadline, deadline <= now else { return false }
        guard isVirtual else { return true }
        guard let opensslDeadline, everyframe_timer_is_running(opensslDeadline) else {
            self.deadline = nil
            return false
        }
        wait = min(wait * 2, maximum)
        everyframe_timer_set(opensslDeadline, Self.longAgo)
        return true
    }

    mutating func stop() { deadline = nil }

    /// OpenSSL's back-off on the wall clock: it asks with the last wait, or zero at the first.
    func nextWait(after microseconds: UInt32) -> UInt32 {
        let wait = microseconds == 0 ? initial : min(.microseconds(Int64(microseconds) * 2), maximum)
        return UInt32(clamping: wait.inNanoseconds / 1000)
    }

    /// Seconds since 1970; small enough that OpenSSL's subtraction cannot overflow.
    private static let never: Int64 = 1 << 40
    private static let longAgo: Int64 = 1
}

extension DTLSConfiguration.Clock {
    static let engineIsPossible: Bool = {
        let version = OpenSSL_version_num()
        // 0xMNN00PP0: major, minor, patch
        return version >> 28 == 3 && version >> 20 & 0xFF < 2
    }()

    package static var preferred: Self { engineIsPossible ? .engine : .wall }
}
