/// Which frames of a live source may be dropped. Drops come before encoding and before a frame gets an id.
public enum DropPolicy: Hashable, Sendable {
    /// None: the source waits.
    case all
    /// When there is no room, only the newest waits.
    case latest
    /// Frames wait, but none longer than this.
    case maximumLag(Duration)
    /// The first of each `n` frames.
    case everyNth(Int)
    /// As many as fit this rate by their presentation times.
    case maximumRate(Double)
}

/// Dropped frames by reason.
public struct DropCounts: Hashable, Sendable {
    public enum Reason: String, Hashable, Sendable, CaseIterable {
        /// A newer one took its place.
        case superseded
        /// It waited for longer than the policy allows.
        case late
        /// Left out by `everyNth`.
        case skipped
        /// Left out by `maximumRate`.
        case rate
        /// A frame it refers to was dropped.
        case reference
        /// The application gave it up: too large, or not encodable.
        case refused
    }

    public internal(set) var byReason: [Reason: Int] = [:]

    public init() {}

    public subscript(reason: Reason) -> Int { byReason[reason] ?? 0 }

    public var total: Int { byReason.values.reduce(0, +) }

    package mutating func count(_ reason: Reason, _ number: Int = 1) {
        if number > 0 { byReason[reason, default: 0] += number }
    }
}
