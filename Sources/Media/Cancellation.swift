import Glibc
import Synchronization

/// Ends a wait from another thread: `PacketReader` watches it while it connects and while it reads.
package final class Cancellation: Sendable {
    private let flag = Atomic(false)
    /// A pipe whose reading end has something to read from `cancel()` on, so that `poll` wakes; -1 where the system had none left.
    private let ends: (reading: Int32, writing: Int32)

    package init() {
        var made: [Int32] = [-1, -1]
        if pipe(&made) != 0 { made = [-1, -1] }
        for end in made where end >= 0 {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        ends = (made[0], made[1])
    }

    deinit { for end in [ends.reading, ends.writing] where end >= 0 { close(end) } }

    package var isCancelled: Bool { flag.load(ordering: .acquiring) }

    /// For good. From any thread, as often as one likes.
    package func cancel() {
        flag.store(true, ordering: .releasing)
        _ = write(ends.writing, [0], 1)
    }

    /// Waits at most `seconds`, less when cancelled or when `other` (-1: none) has something to read or has ended; then true.
    @discardableResult
    func wait(for other: Int32 = -1, seconds: Double) -> Bool {
        var watched = [pollfd(fd: ends.reading, events: Int16(POLLIN), revents: 0), pollfd(fd: other, events: Int16(POLLIN), revents: 0)]
        return poll(&watched, 2, Int32(max(0, min(seconds, 3600)) * 1000) + 1) > 0 && watched[1].revents != 0
    }
}

/// Why FFmpeg must stop waiting: somebody cancelled, or it has waited long enough. Used by one thread, but for the cancellation.
final class Interruption {
    let cancellation: Cancellation
    /// Longest silence in seconds; nil: any.
    private let patience: Double?
    private var deadline: ContinuousClock.Instant?

    init(_ cancellation: Cancellation, patience: Double?) {
        self.cancellation = cancellation
        self.patience = patience
    }

    /// A new wait begins.
    func begin() { deadline = patience.map { .now + .seconds($0) } }

    var isTimedOut: Bool { deadline.map { $0 <= .now } ?? false }
    var isDue: Bool { cancellation.isCancelled || isTimedOut }
    /// Seconds that are left of the wait; an hour where nobody said.
    var left: Double {
        guard let deadline else { return 3600 }
        let rest = deadline - .now
        return max(0, Double(rest.components.seconds) + Double(rest.components.attoseconds) * 1e-18)
    }

    /// The error that an interrupted call means; nil when it was not interrupted.
    func error(at location: MediaLocation) -> MediaError? {
        if cancellation.isCancelled { return .cancelled }
        return isTimedOut ? .timedOut(location: location.description, seconds: patience ?? 0) : nil
    }
}
