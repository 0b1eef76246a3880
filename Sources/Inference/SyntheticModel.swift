package import Media
import Synchronization

/// Finds nothing and takes its time about it, without using the processor: for measuring all that lies around a model.
/// It behaves like an engine of `requestsInFlight` slots, each busy for `delay` with one frame after the other.
package final class SyntheticModel: Model {
    package let name: String
    package let classNames: [String] = []
    package let engine = EngineInfo(name: "synthetic", version: "1", device: "none")
    package let requestsInFlight: Int
    package let batchSize = 1
    package let isSynthetic = true
    package let delay: Duration

    /// When each slot is free again.
    private let slots: Mutex<[ContinuousClock.Instant]>

    package init(delay: Duration, requestsInFlight: Int = 1) {
        let count = max(1, requestsInFlight)
        self.delay = max(.zero, delay)
        self.requestsInFlight = count
        name = "synthetic:\(Self.text(of: max(.zero, delay)))"
        slots = Mutex(Array(repeating: .now, count: count))
    }

    package func infer(_ frames: [VideoFrame]) async throws(InferenceError) -> [FrameResult] {
        let asked = ContinuousClock.now
        var results: [FrameResult] = []
        var end = asked
        for frame in frames {
            let start = delay == .zero ? asked : reserve(from: asked)
            end = max(end, start + delay)
            results.append(
                FrameResult(
                    detections: [], width: frame.width, height: frame.height, isSynthetic: true, waited: start - asked, inferred: delay))
        }
        if delay > .zero {
            // to a point in time, so that late timers do not add up
            do { try await Task.sleep(until: end, clock: .continuous) } catch { throw .cancelled }
        }
        return results
    }

    /// Takes the slot that is free first; answers when it is.
    private func reserve(from now: ContinuousClock.Instant) -> ContinuousClock.Instant {
        slots.withLock { slots in
            var first = slots.startIndex
            for index in slots.indices where slots[index] < slots[first] { first = index }
            let start = max(now, slots[first])
            slots[first] = start + delay
            return start
        }
    }

    private static func text(of delay: Duration) -> String {
        let microseconds = delay.components.seconds * 1_000_000 + delay.components.attoseconds / 1_000_000_000_000
        return microseconds % 1000 == 0 ? "\(microseconds / 1000)ms" : "\(microseconds)us"
    }
}
