package import NIOCore

/// A frame's or a result's bytes in the pieces in which they came: nothing is copied together before somebody needs it in one.
package struct FramePayload: Hashable, Sendable {
    package private(set) var pieces: [ByteBuffer] = []
    package private(set) var readableBytes = 0

    package init(_ bytes: ByteBuffer = ByteBuffer()) { append(bytes) }

    package mutating func append(_ piece: ByteBuffer) {
        guard piece.readableBytes > 0 else { return }
        readableBytes += piece.readableBytes
        // a small one may be a slice of many times as much memory
        pieces.append(piece.readableBytes < Self.small ? ByteBuffer(piece.readableBytesView) : piece)
    }

    private static let small = 4096

    /// All of them as one; costs a copy where there are several.
    package var contiguous: ByteBuffer {
        guard pieces.count != 1, let first = pieces.first else { return pieces.first ?? ByteBuffer() }
        var whole = ByteBuffer()
        whole.reserveCapacity(readableBytes)
        whole.writeImmutableBuffer(first)
        for piece in pieces.dropFirst() { whole.writeImmutableBuffer(piece) }
        return whole
    }
}
