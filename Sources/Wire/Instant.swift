/// A point in time as the engines know it: nanoseconds since an origin that the driver chooses.
///
/// Engines never read a clock; every entry point is told the time. `Duration` appears in configuration only.
@frozen
public struct Instant: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var nanoseconds: Int64

    @inlinable
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    public static let zero = Instant(nanoseconds: 0)

    @inlinable
    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

    @inlinable
    public static func + (left: Instant, right: Duration) -> Instant {
        Instant(nanoseconds: left.nanoseconds &+ right.inNanoseconds)
    }

    @inlinable
    public static func - (left: Instant, right: Duration) -> Instant {
        Instant(nanoseconds: left.nanoseconds &- right.inNanoseconds)
    }

    /// The time from `right` to `left`; negative where `left` is the earlier one.
    @inlinable
    public static func - (left: Instant, right: Instant) -> Duration {
        .nanoseconds(left.nanoseconds &- right.nanoseconds)
    }

    @inlinable
    public static func += (left: inout Instant, right: Duration) { left = left + right }
}

extension Duration {
    /// Whole nanoseconds, saturating at the bounds of Int64 (292 years).
    @inlinable
    public var inNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, carried) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carried ? (seconds < 0 ? .min : .max) : sum
    }

    /// Milliseconds with a fraction, for reports.
    @inlinable
    public var inMilliseconds: Double { Double(inNanoseconds) / 1e6 }
}

/// The earlier of two deadlines, where nil means none.
@inlinable
public func earliest(_ left: Instant?, _ right: Instant?) -> Instant? {
    guard let left else { return right }
    guard let right else { return left }
    return min(left, right)
}
