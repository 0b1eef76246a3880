public import FrameTransport

/// The answer to one frame, whatever the wire.
public struct StreamResult: Hashable, Sendable {
    /// From 1, in order of presentation, without gaps.
    public var frameID: Int
    /// Source presentation time in `timeBase`; nil where the source or the wire has none.
    public var pts: Int64?
    /// Seconds per tick.
    public var timeBase: TimeBase?
    /// Microseconds since 1970.
    public var captureTime: Int64?
    /// ISO 8601, as the server says.
    public var receivedAt: String?
    /// Of the picture that was looked at, in pixels; nil where nobody says.
    public var width: Int?
    public var height: Int?
    /// By name, for instance `{"predictions":{"image":{"width":…,"height":…},"predictions":[{"x":…,"y":…,"width":…,"height":…,
    /// "confidence":…,"class":…,"class_id":…}]},"count":2}`; nil where the frame failed.
    public var outputs: JSON?
    /// Why the frame failed; empty for all others.
    public var errors: [String]
    /// An annotated picture (JPEG, PNG or an H.264 access unit), where it was asked for.
    public var image: Answer.Image?
    public var times: StageTimes?
    /// How often the frame was sent.
    public var tries: Int

    public init(frameID: Int, pts: Int64? = nil, timeBase: TimeBase? = nil, outputs: JSON? = nil, errors: [String] = []) {
        self.frameID = frameID
        self.pts = pts
        self.timeBase = timeBase
        self.outputs = outputs
        self.errors = errors
        tries = 1
        takeSizeFromOutputs()
    }

    /// Of the prototype wire.
    public init(_ message: ResultMessage) {
        let metadata = message.videoMetadata
        self.init(
            frameID: metadata.frameID, pts: metadata.pts.map(Int64.init), timeBase: metadata.timeBase.flatMap(TimeBase.init(seconds:)),
            outputs: message.outputs, errors: message.errors)
        receivedAt = metadata.receivedAt
    }

    /// Of `everyframe.v1`.
    public init(_ result: FrameResult) {
        let answer = result.answer
        let value = answer.value
        let isFailure = answer.status.isFailure
        self.init(
            frameID: result.picture, pts: result.pts, timeBase: result.timeBase, outputs: isFailure ? nil : value,
            errors: isFailure ? [value?["message"]?.string ?? answer.status.sentence] : [])
        captureTime = result.captureTime
        receivedAt = answer.receivedAt.map(Timestamp.text)
        image = answer.image
        times = answer.times
        tries = answer.tries
    }

    /// `pts` in seconds; nil where there is none.
    public var seconds: Double? {
        guard let pts, let timeBase, timeBase.denominator > 0 else { return nil }
        return Double(pts) * Double(timeBase.numerator) / Double(timeBase.denominator)
    }

    /// As the prototype writes it; the image is not in it.
    ///
    ///     {"video_metadata":{"frame_id":1,"received_at":"2025-11-11T12:48:10.123456","pts":512,"time_base":0.001,"declared_fps":null,
    ///      "measured_fps":null,"width":768,"height":576},"serialized_output_data":{…},"errors":[]}
    public var json: JSON {
        var metadata: JSONObject = ["frame_id": .integer(frameID)]
        metadata.append("received_at", receivedAt.map(JSON.string) ?? .null)
        metadata.append("pts", pts.map { .integer(Int($0)) } ?? .null)
        let tick = timeBase.flatMap { $0.denominator > 0 ? Double($0.numerator) / Double($0.denominator) : nil }
        metadata.append("time_base", tick.map(JSON.number) ?? .null)
        metadata.append("declared_fps", .null)
        metadata.append("measured_fps", .null)
        if let width, let height {
            metadata.append("width", .integer(width))
            metadata.append("height", .integer(height))
        }
        return ["video_metadata": .object(metadata), "serialized_output_data": outputs ?? .null, "errors": .array(errors.map(JSON.string))]
    }

    /// Detections come with the size of the picture that their coordinates are in.
    private mutating func takeSizeFromOutputs() {
        guard let members = outputs?.object?.members else { return }
        for member in members {
            guard let image = member.value["image"], let width = image["width"]?.integer, let height = image["height"]?.integer, width > 0, height > 0
            else { continue }
            (self.width, self.height) = (width, height)
            return
        }
    }
}

extension Answer.Status {
    fileprivate var sentence: String {
        switch self {
        case .ok: "answered"
        case .noPicture: "there is no picture in it"
        case .damaged: "the frame arrived damaged as often as it was sent"
        case .undecodable: "the frame could not be decoded"
        case .inferenceFailed: "inference failed"
        case .tooLarge: "the answer was too large"
        }
    }
}

extension TimeBase {
    /// The fraction that was written as a decimal number (0.001, 0.03336666666666667): the simplest one that is as good as the number.
    init?(seconds: Double) {
        guard seconds.isFinite, seconds > 1e-9, seconds < 1e9 else { return nil }
        // continued fraction
        var (above, below, lastAbove, lastBelow) = (1.0, 0.0, 0.0, 1.0)
        var rest = seconds
        for _ in 0..<32 {
            let whole = rest.rounded(.down)
            let (nextAbove, nextBelow) = (whole * above + lastAbove, whole * below + lastBelow)
            guard nextAbove < 4e9, nextBelow < 4e9 else { break }
            (above, below, lastAbove, lastBelow) = (nextAbove, nextBelow, above, below)
            if abs(above / below - seconds) <= seconds * 1e-12 || rest - whole < 1e-12 { break }
            rest = 1 / (rest - whole)
        }
        guard above >= 1, below >= 1 else { return nil }
        self.init(numerator: UInt32(above), denominator: UInt32(below))
    }
}
