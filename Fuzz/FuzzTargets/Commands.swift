import NIOCore

/// Reads a fuzzer's bytes as choices. Past the end everything is zero.
struct Commands {
    private var bytes: ByteBuffer

    init(_ input: ByteBuffer) { bytes = input }

    var isAtEnd: Bool { bytes.readableBytes == 0 }

    mutating func byte() -> UInt8 { bytes.readInteger() ?? 0 }

    mutating func number(below bound: Int) -> Int { Int(byte()) % max(bound, 1) }

    /// Up to `count` bytes.
    mutating func take(_ count: Int) -> ByteBuffer { bytes.readSlice(length: min(count, bytes.readableBytes)) ?? ByteBuffer() }
}

extension ByteBuffer {
    /// One byte inverted, where there is one.
    func damaged(at position: Int) -> ByteBuffer {
        guard readableBytes > 0 else { return self }
        var copy = self
        let index = readerIndex + position % readableBytes
        if let byte = getInteger(at: index, as: UInt8.self) { copy.setInteger(~byte, at: index) }
        return copy
    }
}

/// A property that must hold whatever the bytes are. Unlike `precondition` it says what was wrong in a release build too.
func require(_ holds: Bool, _ broken: @autoclosure () -> String) {
    if !holds { fatalError(broken()) }
}
