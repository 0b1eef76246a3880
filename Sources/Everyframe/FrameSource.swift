public import FrameTransport
package import Media
public import NIOCore

/// Where frames come from. `next()` is called again only after it returned, and never after it returned nil.
public protocol FrameSource: Sendable {
    /// Frames per second, where it is known.
    var declaredFPS: Double? { get async }
    /// How many frames there will be, where it can be guessed; for progress only.
    var expectedFrameCount: Int? { get async }
    /// What could not be read so far, in words for a person; nil where all was well.
    var damage: String? { get async }
    /// The next frame; nil after the last.
    func next() async throws -> SourceFrame?
}

extension FrameSource {
    public var declaredFPS: Double? { get async { nil } }
    public var expectedFrameCount: Int? { get async { nil } }
    public var damage: String? { get async { nil } }
}

/// One frame of a source.
public struct SourceFrame: Sendable {
    package enum Content: Sendable {
        case encoded(ByteBuffer, FrameEncoding)
        case pixels(VideoFrame)
    }
    package var content: Content
    public let width: Int
    public let height: Int

    package init(_ frame: VideoFrame) {
        content = .pixels(frame)
        width = frame.width
        height = frame.height
    }

    /// A picture that is encoded already; it goes as it is.
    public init(encoded bytes: ByteBuffer, as encoding: FrameEncoding, width: Int, height: Int) {
        content = .encoded(bytes, encoding)
        self.width = width
        self.height = height
    }

    /// Pixels of three bytes, blue, green, red, row by row without padding; nil if there are not `3 * width * height` bytes.
    public init?(bgr bytes: [UInt8], width: Int, height: Int) {
        guard let frame = VideoFrame(.bgr24, width: width, height: height, bytes: bytes) else { return nil }
        self.init(frame)
    }
}
