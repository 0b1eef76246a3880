import FrameMedia
public import FrameTransport
package import Media
public import NIOCore

/// Where frames come from. Ten lines make one:
///
///     actor Slides: FrameSource {
///         private var left: [String]
///         init(_ paths: [String]) { left = paths.reversed() }
///         func next() throws -> SourceFrame? {
///             guard let path = left.popLast() else { return nil }
///             let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
///             return SourceFrame(encoded: ByteBuffer(bytes: bytes), as: .jpeg, width: 1280, height: 720)
///         }
///     }
///
/// `next()` is called again only after it returned, and never after it returned nil.
public protocol FrameSource: Sendable {
    /// Frames per second, where it is known.
    var declaredFPS: Double? { get async }
    /// How many frames there will be, where it can be guessed; for progress only.
    var expectedFrameCount: Int? { get async }
    /// What could not be read so far, in words for a person; nil where all was well.
    var damage: String? { get async }
    /// The source goes on whether it is read or not: a camera, a pipe from one. Such a source is read all the time, and what cannot be
    /// sent is dropped as the policy says.
    var isLive: Bool { get async }

    /// Called once, before the first frame. `needsPixels`: frames are going to be encoded anew, or looked at; else a source may give what
    /// it has, as it is stored.
    func prepare(needsPixels: Bool) async throws
    /// The next frame; nil after the last.
    func next() async throws -> SourceFrame?
    /// The next few, for sources to which each call is dear; empty after the last. A live source gives what it has and never waits for a second.
    func nextFew() async throws -> [SourceFrame]
    /// Nobody wants another frame: a `next()` that waits comes back soon.
    func stop() async
}

extension FrameSource {
    public var declaredFPS: Double? { get async { nil } }
    public var expectedFrameCount: Int? { get async { nil } }
    public var damage: String? { get async { nil } }
    public var isLive: Bool { get async { false } }
    public func prepare(needsPixels: Bool) async throws {}
    public func nextFew() async throws -> [SourceFrame] { try await next().map { [$0] } ?? [] }
    public func stop() async {}
}

/// One frame of a source: a picture, or an access unit of a video stream.
public struct SourceFrame: Sendable {
    package enum Content: Sendable {
        case encoded(ByteBuffer, FrameEncoding)
        case pixels(VideoFrame)
        /// With the codec's configuration and the stream's facts.
        case unit(AccessUnit, StreamFacts)
    }
    package var content: Content
    /// Pixels of the stored picture; 0 where only a decoder knows.
    public let width: Int
    public let height: Int
    /// When it is shown, in `timeBase`; nil where the source has no times.
    public var pts: Int64?
    public var timeBase = TimeBase(numerator: 1, denominator: 1_000_000)
    /// Wall clock of the capture, microseconds since 1970; nil for files.
    public var captureTime: Int64?
    /// How an encoded picture must be turned; it goes as it is, and the server turns it.
    public var orientation = FrameTransport.Orientation.up

    package init(_ frame: VideoFrame) {
        content = .pixels(frame)
        width = frame.width
        height = frame.height
        pts = frame.pts
        timeBase = TimeBase(frame.timeBase)
    }

    package init(_ unit: AccessUnit, _ facts: StreamFacts) {
        content = .unit(unit, facts)
        width = unit.parameters.width
        height = unit.parameters.height
        pts = unit.facts.pts
        timeBase = TimeBase(facts.timeBase)
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
        pts = nil
    }
}
