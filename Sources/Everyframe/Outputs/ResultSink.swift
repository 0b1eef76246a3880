public import FrameTransport

/// Where results go. `write` is called once for each frame, in order, and `finish` once after the last.
///
///     actor Counter: ResultSink {
///         var detections = 0
///         func write(_ result: StreamResult) { detections += result.detections().count }
///         func finish() { print(detections) }
///     }
public protocol ResultSink: Sendable {
    func write(_ result: StreamResult) async throws
    /// What was written is about to be acknowledged: it shall outlive this process. Nothing to do for those who do not mind.
    func flush() async throws
    /// Nothing is complete before.
    func finish() async throws
}

extension ResultSink {
    public func flush() async throws {}
}

/// An output file could not be written.
public struct OutputError: Error, Hashable, Sendable, CustomStringConvertible {
    public var path: String
    /// In words for a person.
    public var reason: String

    public init(path: String, reason: String) {
        self.path = path
        self.reason = reason
    }

    public var description: String { "cannot write \(path): \(reason)" }
}

/// One thing that was found in a picture.
public struct Detection: Hashable, Sendable {
    /// In pixels, by its centre.
    public struct Box: Hashable, Sendable {
        public var x: Double
        public var y: Double
        public var width: Double
        public var height: Double

        public init(x: Double, y: Double, width: Double, height: Double) {
            self.x = x
            self.y = y
            self.width = width
            self.height = height
        }
    }

    public var className: String?
    public var classID: Int?
    /// 0 … 1.
    public var confidence: Double?
    /// nil where the whole picture is meant.
    public var box: Box?

    public init(className: String?, classID: Int? = nil, confidence: Double? = nil, box: Box? = nil) {
        self.className = className
        self.classID = classID
        self.confidence = confidence
        self.box = box
    }

    /// `{"x":…,"y":…,"width":…,"height":…,"confidence":…,"class":…,"class_id":…}`; nil for what is no object. A box counts only whole and finite.
    public init?(_ json: JSON) {
        guard json.object != nil else { return nil }
        func number(_ name: String) -> Double? { json[name]?.double.flatMap { $0.isFinite ? $0 : nil } }
        className = json["class"]?.string
        classID = json["class_id"]?.integer
        confidence = number("confidence")
        guard let x = number("x"), let y = number("y"), let width = number("width"), let height = number("height") else { return }
        box = Box(x: x, y: y, width: width, height: height)
    }
}

extension StreamResult {
    /// The detections of one output.
    /// - Parameter output: its name; nil: `predictions`, or else the first output that has a list of them.
    public func detections(of output: String? = nil) -> [Detection] {
        let list: [JSON]? =
            if let output { Self.list(outputs?[output]) } else {
                Self.list(outputs?["predictions"]) ?? outputs?.object?.members.lazy.compactMap { Self.list($0.value) }.first
            }
        return (list ?? []).compactMap { Detection($0) }
    }

    private static func list(_ output: JSON?) -> [JSON]? { output?["predictions"]?.array }
}
