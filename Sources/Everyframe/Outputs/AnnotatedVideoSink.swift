import FrameTransport
import Glibc
import Media
import NIOCore
import NIOPosix

/// The frames of a stream with their detections drawn in, as a video with the source's timing (MP4, Matroska, … by the name's ending), made on
/// a thread of its own.
///
/// Pictures are the server's, where results have them: H.264 access units go into the file as they are, JPEG and PNG pictures are decoded and
/// encoded. Frames without one that were `remember`ed get their boxes drawn here; an answer without detections leaves its frame as it is.
public actor AnnotatedVideoSink: ResultSink {
    private enum Video {
        case undecided
        case frames(VideoFileWriter)
        case units(EncodedVideoWriter)
    }

    public nonisolated let path: String
    /// Results for which there was no picture to write: then the one before is shown for longer.
    public private(set) var picturesMissing = 0
    public private(set) var picturesWritten = 0

    private let isNew: Bool
    private let frameRate: Double
    private let startsAtZero: Bool
    private let thread: any EventLoop
    private var video = Video.undecided
    /// Sent, and not answered: no more than the window.
    private var open: [Int: SourceFrame] = [:]
    /// Failed frames before the first picture, which decides what kind of video it is.
    private var waiting: [VideoFrame] = []
    private static let waitingLimit = 16
    /// Of the first picture, in its own time base.
    private var origin: (pts: Int64, timeBase: Media.TimeBase)?
    private let codec = JPEGCodec()
    private let converter = PixelConverter()
    private var isFinished = false

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor.asUnownedSerialExecutor() }

    /// The file is opened to see that it can be written; what is in it stays until the first picture comes.
    /// - Parameters:
    ///   - frameRate: what the source declares, for players and for results without a time; 25 where it declares none.
    ///   - startsAtZero: count time from the first picture on, for live sources whose clock began long before.
    public init(path: String, frameRate: Double? = nil, startsAtZero: Bool = false) throws(OutputError) {
        self.path = path
        self.startsAtZero = startsAtZero
        self.frameRate = frameRate.flatMap { $0.isFinite && (0.001...100_000).contains($0) ? $0 : nil } ?? 25
        thread = VideoSource.threads.next()
        do throws(MediaError) { try VideoFileWriter.check(path: path) } catch { throw Self.failure(error, path) }
        isNew = try OutputFile.check(path)
    }

    /// Keeps a frame that is about to be sent, until its result comes.
    public func remember(_ id: Int, _ frame: SourceFrame) { open[id] = frame }

    public func write(_ result: StreamResult) throws(OutputError) {
        guard !isFinished else { throw OutputError(path: path, reason: "it is finished") }
        let remembered = open.removeValue(forKey: result.frameID)
        do throws(MediaError) {
            if let image = result.image {
                try write(image, of: result)
            } else if let remembered, let frame = try pixels(of: remembered, result) {
                try draw(result, on: frame)
            } else {
                picturesMissing += 1
            }
        } catch {
            throw Self.failure(error, path)
        }
    }

    /// Completes the file. Where there was no picture at all, none is left behind.
    public func finish() throws(OutputError) {
        guard !isFinished else { return }
        isFinished = true
        open = [:]
        do throws(MediaError) {
            try flushWaiting()
            switch video {
            case .undecided: break
            case .frames(let writer): try writer.finish()
            case .units(let writer): try writer.finish()
            }
        } catch {
            throw Self.failure(error, path)
        }
        if picturesWritten == 0, isNew { unlink(path) }
    }

    // MARK: The server's pictures

    private func write(_ image: Answer.Image, of result: StreamResult) throws(MediaError) {
        let bytes = image.bytes.readableBytesUInt8Span.bytes
        switch image.encoding {
        case .h264:
            let time = time(of: result)
            let writer = try unitWriter()
            let isWritten = try bytes.withUnsafeBytes { (unit) throws(MediaError) in
                try writer.write(unit, pts: time.pts, timeBase: time.timeBase)
            }
            if isWritten { picturesWritten += 1 } else { picturesMissing += 1 }
        case .jpeg, .png:
            if case .units = video { throw .cannotEncode(reason: "the pictures came as H.264, and now as \(image.encoding)") }
            let frame = try bytes.withUnsafeBytes { (picture) throws(MediaError) in
                image.encoding == .png ? try PNGCodec.decode(picture) : try codec.decode(picture, to: .i420)
            }
            try write(timed(frame, result))
        }
    }

    private func unitWriter() throws(MediaError) -> EncodedVideoWriter {
        switch video {
        case .units(let writer): return writer
        case .frames: throw .cannotEncode(reason: "the pictures came one by one, and now as H.264")
        case .undecided:
            picturesMissing += waiting.count
            waiting = []
            let writer = try EncodedVideoWriter(path: path, frameRate: frameRate)
            video = .units(writer)
            return writer
        }
    }

    // MARK: Our own

    private func draw(_ result: StreamResult, on frame: VideoFrame) throws(MediaError) {
        if case .units = video {
            picturesMissing += 1
            return
        }
        var annotator = Annotator()
        if result.outputs?["synthetic"]?.bool == true { annotator.caption = "synthetic" }
        let picture = try annotator.draw(Self.marks(result), on: frame, converter: converter)
        if case .undecided = video, !result.errors.isEmpty, waiting.count < Self.waitingLimit {
            waiting.append(picture)
        } else {
            try write(picture)
        }
    }

    private func flushWaiting() throws(MediaError) {
        let frames = waiting
        waiting = []
        for frame in frames { try encode(frame) }
    }

    private func write(_ frame: VideoFrame) throws(MediaError) {
        try flushWaiting()
        try encode(frame)
    }

    private func encode(_ frame: VideoFrame) throws(MediaError) {
        let writer: VideoFileWriter
        if case .frames(let open) = video {
            writer = open
        } else {
            // pictures have the colours of JPEG, which not every player shows right in a video
            writer = try VideoFileWriter(
                path: path, width: frame.width, height: frame.height, timeBase: frame.timeBase,
                colour: frame.format == .bgr24 || frame.colour == .jpeg ? .video : frame.colour, configuration: .init(frameRate: frameRate))
            video = .frames(writer)
        }
        try writer.write(frame)
        picturesWritten += 1
    }

    private func pixels(of source: SourceFrame, _ result: StreamResult) throws(MediaError) -> VideoFrame? {
        switch source.content {
        case .pixels(var frame):
            let time = moved((frame.pts, frame.timeBase))
            (frame.pts, frame.timeBase) = (time.pts, time.timeBase)
            return frame
        case .encoded(let bytes, let encoding):
            let bytes = bytes.readableBytesUInt8Span.bytes
            let frame = try bytes.withUnsafeBytes { (picture) throws(MediaError) in
                encoding == .png ? try PNGCodec.decode(picture) : try codec.decode(picture)
            }
            return timed(frame, result)
        // no pixels yet
        case .unit: return nil
        }
    }

    // MARK: Time

    private func timed(_ frame: VideoFrame, _ result: StreamResult) -> VideoFrame {
        var frame = frame
        let time = time(of: result)
        (frame.pts, frame.timeBase) = (time.pts, time.timeBase)
        return frame
    }

    /// The source's; where it has none, as many frames a second as it declares.
    private func time(of result: StreamResult) -> (pts: Int64, timeBase: Media.TimeBase) {
        if let pts = result.pts, let base = result.timeBase, base.numerator > 0, base.denominator > 0,
            let numerator = Int32(exactly: base.numerator), let denominator = Int32(exactly: base.denominator)
        {
            return moved((pts, TimeBase(numerator, denominator)))
        }
        return (Int64(result.frameID) &- 1, TimeBase(1000, Int32((frameRate * 1000).rounded())))
    }

    private func moved(_ time: (pts: Int64, timeBase: Media.TimeBase)) -> (pts: Int64, timeBase: Media.TimeBase) {
        guard startsAtZero else { return time }
        let start = origin ?? time
        origin = start
        // a source keeps its time base; where it does not there is no exact way
        guard start.timeBase == time.timeBase else { return time }
        return (time.pts &- start.pts, time.timeBase)
    }

    private static func failure(_ error: MediaError, _ path: String) -> OutputError {
        if case .cannotWrite(path, let reason) = error { return OutputError(path: path, reason: reason) }
        return OutputError(path: path, reason: "\(error)")
    }

    private static func marks(_ result: StreamResult) -> [Annotator.Mark] {
        result.detections().compactMap { detection in
            guard let box = detection.box else { return nil }
            let name = detection.className ?? "object"
            // a number that is no share must not end the program
            let percent = detection.confidence.flatMap { Int(exactly: ($0 * 100).rounded()) }
            return Annotator.Mark(
                x: box.x - box.width / 2, y: box.y - box.height / 2, width: box.width, height: box.height,
                label: percent.map { "\(name) \($0)%" } ?? name, colour: .ofClass(detection.classID ?? 0))
        }
    }
}
