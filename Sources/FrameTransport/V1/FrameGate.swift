package import Wire

/// Why a policy cannot be used.
package enum DropPolicyError: Error, Hashable, Sendable {
    /// Units that refer to each other cannot be thinned out one by one: decode first, or let the server leave them out.
    case needsIndependentFrames
    /// A rate or a count that is not above zero.
    case badValue
}

/// Carries a drop policy out, in front of the encoder: what waits here was neither encoded nor given an id.
///
/// The driver asks `wantsFrame` before it reads a source that can wait, `offer`s each frame, and takes `next` whenever the sender
/// has room. What is dropped is counted by reason: `offered = passed + dropped + waiting`, always.
package struct FrameGate<Frame: Sendable>: Sendable {
    private struct Candidate: Sendable {
        var frame: Frame
        var since: Instant
    }

    package let policy: DropPolicy
    package private(set) var drops = DropCounts()
    package private(set) var offered = 0
    package private(set) var passed = 0
    /// The frames are access units that refer to others.
    private let isDependent: Bool
    private let capacity: Int
    private var waiting: [Candidate] = []
    private var index = 0
    /// In seconds of the source's time.
    private var due: Double?
    private var needsKeyframe = false

    /// `capacity`: frames that may wait under `maximumLag`, whatever their age.
    package init(_ policy: DropPolicy, isDependent: Bool = false, capacity: Int = 64) throws(DropPolicyError) {
        switch policy {
        case .all, .latest, .maximumLag: break
        case .everyNth(let n):
            guard n > 0 else { throw .badValue }
            guard !isDependent || n == 1 else { throw .needsIndependentFrames }
        case .maximumRate(let rate):
            guard rate > 0, rate.isFinite else { throw .badValue }
            guard !isDependent else { throw .needsIndependentFrames }
        }
        self.policy = policy
        self.isDependent = isDependent
        self.capacity = max(1, capacity)
    }

    package var count: Int { waiting.count }

    /// Whether a source that can wait should be read. Live policies take every frame.
    package var wantsFrame: Bool {
        switch policy {
        case .all, .everyNth, .maximumRate: waiting.isEmpty
        case .latest, .maximumLag: true
        }
    }

    /// A frame of the source. `seconds`: its presentation time, where it has one. `since`: when it was captured.
    package mutating func offer(_ frame: Frame, seconds: Double? = nil, isKeyframe: Bool = true, since: Instant? = nil, at now: Instant) {
        offered += 1
        let candidate = Candidate(frame: frame, since: since ?? now)
        if isDependent, needsKeyframe {
            guard isKeyframe else { return drops.count(.reference) }
            needsKeyframe = false
        }
        switch policy {
        case .all: waiting.append(candidate)
        case .everyNth(let n):
            defer { index += 1 }
            guard index % n == 0 else { return drops.count(.skipped) }
            waiting.append(candidate)
        case .maximumRate(let rate):
            let time = seconds ?? Double(now.nanoseconds) / 1e9
            let period = 1 / rate
            // a thousandth of a period forgives rounded timestamps
            if let due, time < due - period / 1000, time > due - 4 * period { return drops.count(.rate) }
            // in step with the rate while frames come, begun anew after a gap or a jump back
            due = due.map { abs(time - $0) < period ? $0 + period : time + period } ?? time + period
            waiting.append(candidate)
        case .latest: replace(with: candidate, isKeyframe: isKeyframe, room: 1)
        case .maximumLag(let lag):
            expire(olderThan: lag, at: now)
            if isDependent, needsKeyframe, !isKeyframe { return drops.count(.reference) }
            needsKeyframe = false
            replace(with: candidate, isKeyframe: isKeyframe, room: capacity)
        }
    }

    /// The next frame to encode; to be asked only when the sender has room.
    package mutating func next(at now: Instant) -> Frame? {
        if case .maximumLag(let lag) = policy { expire(olderThan: lag, at: now) }
        guard !waiting.isEmpty else { return nil }
        passed += 1
        return waiting.removeFirst().frame
    }

    /// The application cannot encode it, or it is larger than the server takes.
    package mutating func refuse() {
        passed -= 1
        drops.count(.refused)
        if isDependent { needsKeyframe = true }
    }

    /// When the oldest that waits becomes too old.
    package var deadline: Instant? {
        guard case .maximumLag(let lag) = policy else { return nil }
        return waiting.first.map { $0.since + lag + .nanoseconds(1) }
    }

    package mutating func handleTimeout(at now: Instant) {
        if case .maximumLag(let lag) = policy { expire(olderThan: lag, at: now) }
    }

    /// Makes room for the newcomer at the cost of the oldest; among units that refer to each other only a keyframe may do that.
    private mutating func replace(with candidate: Candidate, isKeyframe: Bool, room: Int) {
        guard waiting.count >= room else { return waiting.append(candidate) }
        if isDependent {
            guard isKeyframe else {
                needsKeyframe = true
                return drops.count(.superseded)
            }
            for _ in waiting { drops.count(.superseded) }
            waiting.removeAll()
        } else {
            waiting.removeFirst()
            drops.count(.superseded)
        }
        waiting.append(candidate)
    }

    private mutating func expire(olderThan lag: Duration, at now: Instant) {
        let late = waiting.prefix { now - $0.since > lag }.count
        guard late > 0 else { return }
        if isDependent {
            // what follows a late unit refers to it
            drops.count(.late, late)
            drops.count(.reference, waiting.count - late)
            waiting.removeAll()
            needsKeyframe = true
        } else {
            drops.count(.late, late)
            waiting.removeFirst(late)
        }
    }
}
