package import Media
import NIOCore
import NIOPosix

/// Video from a file, a camera or a pipe: its access units as they are stored, or its pictures, upright, in order of presentation.
/// Reading and decoding happen on a thread of its own.
public actor VideoSource: FrameSource {
    /// Which part of a file is read, in seconds of its own time from its beginning.
    public struct Range: Hashable, Sendable {
        /// The first frame is the first that is shown at or after this.
        public var start: Double?
        /// No frame that is shown at or after this.
        public var end: Double?

        public init(start: Double? = nil, end: Double? = nil) {
            self.start = start
            self.end = end
        }
    }

    /// A camera of Video4Linux.
    public struct Camera: Hashable, Sendable {
        /// `/dev/video0`
        public var path: String
        /// Pixels and frames per second; nil: the driver's choice.
        public var width, height: Int?
        public var frameRate: Double?
        /// `mjpeg`, `h264`, `yuyv422`, …; nil: the driver's first choice.
        public var format: String?

        public init(path: String, width: Int? = nil, height: Int? = nil, frameRate: Double? = nil, format: String? = nil) {
            self.path = path
            self.width = width
            self.height = height
            self.frameRate = frameRate
            self.format = format
        }
    }

    private let reader: PacketReader
    private nonisolated let cancellation: Cancellation
    private var decoding: VideoFileReader?
    private let isFile: Bool
    private let thread: any EventLoop
    public nonisolated let declaredFPS: Double?
    public nonisolated let expectedFrameCount: Int?
    public nonisolated let isLive: Bool

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor.asUnownedSerialExecutor() }

    /// Opens a file; what is wrong with it is thrown here.
    public static func file(_ path: String, range: Range = Range()) async throws(StreamError) -> VideoSource { try await open(.file(path), range) }

    /// Opens `rtsp://` or `rtsps://`; media comes interleaved in the TCP connection.
    public static func rtsp(_ url: String) async throws(StreamError) -> VideoSource { try await open(.url(url), Range()) }

    public static func camera(_ camera: Camera) async throws(StreamError) -> VideoSource {
        try await open(
            .device(
                .init(path: camera.path, format: camera.format, width: camera.width, height: camera.height, frameRate: camera.frameRate)), Range())
    }

    /// Reads standard input. `format`: FFmpeg's name of the container (`mjpeg`, `yuv4mpegpipe`, `mpegts`, …); nil: it is told from the first bytes.
    public static func standardInput(format: String? = nil) async throws(StreamError) -> VideoSource {
        try await open(.standardInput(format: format), Range())
    }

    package static func open(_ location: MediaLocation, _ range: Range) async throws(StreamError) -> VideoSource {
        // one loop of the shared group's would be blocked by decoding: this one does nothing else
        let thread = threads.next()
        let opened: Result<VideoSource, StreamError>
        // opening waits for the network or a pipe
        let cancellation = Cancellation()
        do {
            opened = try await withTaskCancellationHandler {
                try await thread.submit { Result { () throws(StreamError) in try VideoSource(location, range, cancellation, on: thread) } }.get()
            } onCancel: {
                cancellation.cancel()
            }
        } catch {
            throw StreamError(.sourceFailed, "\(error)")
        }
        if Task.isCancelled { throw StreamError(.cancelled) }
        return try opened.get()
    }

    private init(_ location: MediaLocation, _ range: Range, _ cancellation: Cancellation, on thread: any EventLoop) throws(StreamError) {
        self.thread = thread
        do {
            var options = PacketReader.Options()
            options.start = range.start
            options.end = range.end
            options.cancellation = cancellation
            reader = try PacketReader(location, options: options)
            self.cancellation = cancellation
        } catch {
            throw StreamError(.sourceFailed, "\(error)")
        }
        declaredFPS = reader.info.averageFrameRate
        isLive = reader.isLive
        if case .file = location { isFile = true } else { isFile = false }
        // a part of a file has its part of the frames
        let whole = reader.info.estimatedFrameCount
        if range.start != nil || range.end != nil, let seconds = reader.info.seconds, seconds > 0 {
            let part = max(0, min(range.end ?? seconds, seconds) - (range.start ?? 0)) / seconds
            expectedFrameCount = whole.map { Int((Double($0) * part).rounded()) }
        } else {
            expectedFrameCount = whole
        }
    }

    /// What is stored in a way that no server reads is decoded here in any case.
    public func prepare(needsPixels: Bool) throws {
        guard needsPixels || !reader.parameters.canTravel, decoding == nil else { return }
        do { decoding = try VideoFileReader(reader) } catch { throw StreamError(.sourceFailed, "\(error)") }
    }

    public func next() throws -> SourceFrame? {
        do {
            if let decoding { return try decoding.next().map { SourceFrame($0) } }
            return try reader.next().map { SourceFrame($0, reader.facts) }
        } catch {
            throw StreamError(.sourceFailed, "\(error)")
        }
    }

    /// Access units of a file cost next to nothing to read: several at once save the way here and back for each. From a pipe the first would
    /// wait for the others.
    public func nextFew() throws -> [SourceFrame] {
        var frames: [SourceFrame] = []
        let most = decoding == nil && isFile ? 8 : 1
        while frames.count < most, let frame = try next() { frames.append(frame) }
        return frames
    }

    public nonisolated func stop() async { cancellation.cancel() }

    public var damage: String? {
        var words: [String] = []
        if let damage = decoding?.damage {
            if damage.refusedPackets > 0 { words.append("\(damage.refusedPackets) packets could not be decoded") }
            if damage.concealedFrames > 0 { words.append("\(damage.concealedFrames) frames are damaged") }
        } else if reader.damage.corruptUnits > 0 {
            words.append("\(reader.damage.corruptUnits) access units are damaged")
        }
        if let error = reader.damage.readError { words.append("the source ends early: \(error)") }
        return words.isEmpty ? nil : words.joined(separator: "; ")
    }

    /// For decoding only; never for sockets.
    static let threads = MultiThreadedEventLoopGroup(numberOfThreads: max(1, min(4, System.coreCount)))
}
