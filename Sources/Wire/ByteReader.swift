/// Why bytes could not be read.
public enum WireError: Error, Hashable, Sendable {
    /// Fewer bytes than the format says.
    case truncated
}

/// A bounds-checked cursor over bytes that somebody else owns. Integers are big-endian (RFC 1700).
///
/// Bounds are checked here and nowhere else; a parser built on it cannot read past its input.
@frozen
public struct ByteReader: ~Escapable {
    /// What has not been read yet.
    public var rest: RawSpan

    @inlinable
    @_lifetime(copy bytes)
    public init(_ bytes: RawSpan) { rest = bytes }

    @inlinable
    public var remaining: Int { rest.byteCount }

    @inlinable
    public var isAtEnd: Bool { rest.isEmpty }

    @inlinable
    @_lifetime(self: copy self)
    public mutating func read<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type = T.self) throws(WireError) -> T {
        guard rest.byteCount >= MemoryLayout<T>.size else { throw .truncated }
        let value = unsafe rest.unsafeLoadUnaligned(as: T.self)
        rest = rest.extracting(droppingFirst: MemoryLayout<T>.size)
        return T(bigEndian: value)
    }

    /// The next `count` bytes, without a copy.
    @inlinable
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    public mutating func readSpan(_ count: Int) throws(WireError) -> RawSpan {
        guard count >= 0, rest.byteCount >= count else { throw .truncated }
        let result = rest.extracting(first: count)
        rest = rest.extracting(droppingFirst: count)
        return result
    }

    @inlinable
    @_lifetime(self: copy self)
    public mutating func skip(_ count: Int) throws(WireError) {
        guard count >= 0, rest.byteCount >= count else { throw .truncated }
        rest = rest.extracting(droppingFirst: count)
    }
}
