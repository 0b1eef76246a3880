package import FrameTransport
import Media
import NIOCore
import NIOPosix

/// Writes the frames of a stream with their detections drawn in, with the source's timing, on a thread of its own.
package actor AnnotatedVideo {
    private let path: String
    private let frameRate: Double
    private let thread: any EventLoop
    private var writer: VideoFileWriter?
    /// Sent, and not answered: no more than the window.
    private var open: [Int: VideoFrame] = [:]

    package nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor.asUnownedSerialExecutor() }

    package init(path: String, frameRate: Double?) {
        self.path = path
        self.frameRate = frameRate ?? 25
        thread = VideoSource.threads.next()
    }

    package func remember(_ id: Int, _ frame: SourceFrame) {
        if case .pixels(let pixels) = frame.content { open[id] = pixels }
    }

    /// Draws what the answer says; an answer without detections leaves the frame as it is.
    package func write(_ result: ResultMessage) throws {
        guard let frame = open.removeValue(forKey: result.videoMetadata.frameID) else { return }
        var annotator = Annotator()
        if result.outputs?["synthetic"]?.bool == true { annotator.caption = "synthetic" }
        let picture = try annotator.draw(Self.marks(result.outputs), on: frame)
        let writer = try self.writer ?? makeWriter(for: frame)
        self.writer = writer
        try writer.write(picture)
    }

    package func finish() throws { try writer?.finish() }

    private func makeWriter(for frame: VideoFrame) throws -> VideoFileWriter {
        try VideoFileWriter(
            path: path, width: frame.width, height: frame.height, timeBase: frame.timeBase, colour: frame.colour,
            configuration: .init(frameRate: frameRate))
    }

    /// Roboflow's shape: boxes by their centre.
    private static func marks(_ outputs: JSON?) -> [Annotator.Mark] {
        let boxes = outputs?["predictions"]?["predictions"]?.array ?? []
        return boxes.compactMap { box in
            guard let x = box["x"]?.double, let y = box["y"]?.double, let width = box["width"]?.double, let height = box["height"]?.double else {
                return nil
            }
            let name = box["class"]?.string ?? "object"
            let label = box["confidence"]?.double.map { "\(name) \(Int(($0 * 100).rounded()))%" } ?? name
            return Annotator.Mark(
                x: x - width / 2, y: y - height / 2, width: width, height: height, label: label, colour: .ofClass(box["class_id"]?.integer ?? 0))
        }
    }
}
