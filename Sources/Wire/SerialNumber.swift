/// A number that wraps (RFC 1982). One type per number space; deliberately not `Comparable`, because a circular order is no order.
public protocol SerialNumber: Hashable, Sendable, BitwiseCopyable {
    associatedtype RawValue: FixedWidthInteger & UnsignedInteger & Sendable
    var rawValue: RawValue { get }
    init(rawValue: RawValue)
}

extension SerialNumber {
    /// True when `self` comes after `other` by less than half of the number space.
    @inlinable
    public func isAfter(_ other: Self) -> Bool {
        let distance = rawValue &- other.rawValue
        return distance != 0 && distance < 1 << (RawValue.bitWidth - 1)
    }

    @inlinable
    public func isAtOrAfter(_ other: Self) -> Bool { self == other || isAfter(other) }

    @inlinable
    public func isBefore(_ other: Self) -> Bool { other.isAfter(self) }

    @inlinable
    public func isAtOrBefore(_ other: Self) -> Bool { self == other || isBefore(other) }

    @inlinable
    public var next: Self { Self(rawValue: rawValue &+ 1) }

    @inlinable
    public var previous: Self { Self(rawValue: rawValue &- 1) }

    @inlinable
    public func advanced(by count: RawValue) -> Self { Self(rawValue: rawValue &+ count) }

    /// Steps forward from `other` to `self`, modulo the number space.
    @inlinable
    public func distance(from other: Self) -> RawValue { rawValue &- other.rawValue }
}
