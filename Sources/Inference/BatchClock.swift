import Dispatch

/// The time as a batcher sees it; tests bring their own.
package protocol BatchClock: Sendable {
    var now: ContinuousClock.Instant { get }

    /// Calls `body` once, not before `time`, on any thread.
    func wake(at time: ContinuousClock.Instant, _ body: @escaping @Sendable () -> Void)
}

package struct SystemBatchClock: BatchClock {
    private let queue = DispatchQueue(label: "everyframe.inference.batcher", qos: .userInitiated)

    package init() {}

    package var now: ContinuousClock.Instant { .now }

    package func wake(at time: ContinuousClock.Instant, _ body: @escaping @Sendable () -> Void) {
        // Strict, for `asyncAfter` allows itself a millisecond, half of what a batch waits. The handler keeps the timer until it fired.
        let timer = DispatchSource.makeTimerSource(flags: .strict, queue: queue)
        let wait = max(.zero, time - .now)
        let nanoseconds = Int(clamping: wait.components.seconds) * 1_000_000_000 + Int(wait.components.attoseconds / 1_000_000_000)
        timer.schedule(deadline: .now() + .nanoseconds(nanoseconds), leeway: .nanoseconds(0))
        timer.setEventHandler {
            timer.cancel()
            body()
        }
        timer.resume()
    }
}
