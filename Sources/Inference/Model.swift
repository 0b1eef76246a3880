package import Media

/// Something that answers frames with detections. One model serves every session of a process at once.
package protocol Model: Sendable {
    var name: String { get }
    var classNames: [String] { get }
    /// What does the work, for logs.
    var engine: EngineInfo { get }
    /// How many frames the engine works on at the same time; more may be handed in, and wait in order.
    var requestsInFlight: Int { get }
    /// How many frames of one size the engine takes at once; 1: batches gain nothing here.
    var batchSize: Int { get }
    /// True where frames of different sizes may share a batch, because the engine is given pictures of one size anyway.
    var mixesGeometries: Bool { get }
    /// True when answers are made up, for measurements; they say so themselves.
    var isSynthetic: Bool { get }

    /// Answers each frame, in the order given. Frames may be of any format and size; hand them in as they are decoded.
    /// No thread waits meanwhile. Cancelling the task takes frames that have not begun out of the queue.
    func infer(_ frames: [VideoFrame]) async throws(InferenceError) -> [FrameResult]
}

extension Model {
    package var mixesGeometries: Bool { false }

    package func infer(_ frame: VideoFrame) async throws(InferenceError) -> FrameResult {
        let results = try await infer([frame])
        guard let result = results.first else { throw .inferenceFailed(reason: "there was no answer") }
        return result
    }
}

package struct EngineInfo: Sendable, Equatable {
    package var name: String
    package var version: String
    package var device: String

    package init(name: String, version: String, device: String) {
        self.name = name
        self.version = version
        self.device = device
    }
}

/// The answer to one frame.
package struct FrameResult: Sendable, Equatable {
    /// Surest first.
    package var detections: [Detection]
    /// Of the frame that was looked at: what boxes are measured in.
    package var width, height: Int
    package var isSynthetic = false
    /// From being handed in to the engine's start.
    package var waited: Duration = .zero
    /// The engine's own time; of the whole batch, where there was one.
    package var inferred: Duration = .zero

    package init(
        detections: [Detection], width: Int, height: Int, isSynthetic: Bool = false, waited: Duration = .zero, inferred: Duration = .zero
    ) {
        self.detections = detections
        self.width = width
        self.height = height
        self.isSynthetic = isSynthetic
        self.waited = waited
        self.inferred = inferred
    }
}

/// One thing found. The box is in pixels of the source, from its top left corner, and lies within the picture.
package struct Detection: Sendable, Equatable, Codable {
    /// From 0.
    package var classID: Int
    package var className: String
    /// 0 … 1.
    package var confidence: Double
    package var x, y, width, height: Double

    package init(classID: Int, className: String, confidence: Double, x: Double, y: Double, width: Double, height: Double) {
        self.classID = classID
        self.className = className
        self.confidence = confidence
        self.x = x
        self.y = y
        self.width = width
        self.height = height
    }

    /// How much of two boxes is shared: intersection over union.
    package func overlap(with other: Detection) -> Double {
        let shared =
            max(0, min(x + width, other.x + other.width) - max(x, other.x))
            * max(0, min(y + height, other.y + other.height) - max(y, other.y))
        let union = width * height + other.width * other.height - shared
        return union > 0 ? shared / union : 0
    }
}

extension Annotator {
    /// The picture with a labelled box around each detection.
    package func draw(_ result: FrameResult, on frame: VideoFrame, converter: PixelConverter = PixelConverter()) throws(MediaError) -> VideoFrame {
        let marks = result.detections.map { found in
            let percent = Int((found.confidence * 100).rounded())
            return Mark(
                x: found.x, y: found.y, width: found.width, height: found.height, label: "\(found.className) \(percent)%",
                colour: .ofClass(found.classID))
        }
        return try draw(marks, on: frame, converter: converter)
    }
}
