package import Media
import Synchronization

/// Finds nothing and takes its time about it, without using the processor: for measuring all that lies around a model.
/// It behaves like an engine of `requestsInFlight` slots, each busy for `delay` with one batch of up to `batchSize` frames after the other.
package final class SyntheticModel: Model {
    package let name: String
    package let classNames: [String] = []
    package let engine = EngineInfo(name: "synthetic", version: "1", device: "none")
    package let requestsInFlight: Int
    package let batchSize: Int
    package let mixesGeometries = true
    package let isSynthetic = true
    package let delay: Duration

    /// When each slot is free again.
    private let slots: Mutex<[ContinuousClock.Instant]>

    package init(delay: Duration, requestsInFlight: Int = 1, batchSize: Int = 1) {
        let count = max(1, requestsInFlight)
        self.batchSize = max(1, batchSize)
        self.delay = max(.zero, delay)
        self.requestsInFlight = count
        name = "synthetic:\(Self.text(of: max(.zero, delay)))"
        slots = Mutex(Array(repeating: .now, count: count))
    }

    package func infer(_ frames: [VideoFrame]) async throws(InferenceError) -> [FrameResult] {
        let asked = ContinuousClock.now
        let batches = (frames.count + batchSize - 1) / batchSize
        let reservations = delay == .zero ? [] : (0..<batches).map { _ in reserve(from: asked) }
        let results = frames.enumerated().map { index, frame in
            let start = delay == .zero ? asked : reservations[index / batchSize].start
            return FrameResult(
                detections: [], width: frame.width, height: frame.height, isSynthetic: true, waited: start - asked, inferred: delay)
        }
        if let last = reservations.map(\.start).max() {
            // to a point in time, so that late timers do not add up
            do { try await Task.sleep(until: last + delay, clock: .continuous) } catch {
                giveBack(reservations)
                throw .cancelled
            }
        }
        return results
    }

    private struct Reservation {
        var slot: Int
        var start: ContinuousClock.Instant
    }

    /// Takes the slot that is free first.
    private func reserve(from now: ContinuousClock.Instant) -> Reservation {
        slots.withLock { slots in
            var first = slots.startIndex
            for index in slots.indices where slots[index] < slots[first] { first = index }
            let start = max(now, slots[first])
            slots[first] = start + delay
            return Reservation(slot: first, start: start)
        }
    }

    /// What has not begun and has nothing behind it: nobody need wait for it.
    private func giveBack(_ reservations: [Reservation]) {
        let now = ContinuousClock.now
        slots.withLock { slots in
            for reservation in reservations.reversed() where reservation.start > now && slots[reservation.slot] == reservation.start + delay {
                slots[reservation.slot] = reservation.start
            }
        }
    }

    private static func text(of delay: Duration) -> String {
        let microseconds = delay.components.seconds * 1_000_000 + delay.components.attoseconds / 1_000_000_000_000
        return microseconds % 1000 == 0 ? "\(microseconds / 1000)ms" : "\(microseconds)us"
    }
}
