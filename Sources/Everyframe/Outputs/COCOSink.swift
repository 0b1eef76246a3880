import FrameTransport
import NIOCore

/// Detections as one file in the format of COCO (cocodataset.org, "Data format", object detection), for tools that train and label.
///
/// - `annotations`: `id`, `image_id`, `category_id`, `bbox` (left, top, width, height in pixels), `area`, `iscrowd` 0, and `score`.
///   Detections without a box are left out.
/// - `images`: every frame that was answered, with `id` (the frame's number), `file_name`, `width` and `height` where they are known,
///   `frame_id`, `seconds`, and `errors` for those that failed.
/// - `categories`: the model's class numbers; a name without a number, or with another's, gets the next free one.
///
/// Annotations go to the file as they come and images to one without a name beside it, so memory does not grow with the video. The file is
/// no JSON before `finish()`.
public actor COCOSink: ResultSink {
    private struct Class: Hashable {
        var name: String
        var id: Int?
    }

    private let file: OutputFile
    private let images: OutputFile
    private let fileName: @Sendable (Int) -> String
    private let output: String?
    private var categories: [Class: Int] = [:]
    private var takenIDs: Set<Int> = []
    private var largestID = 0
    private var annotationCount = 0
    private var imageCount = 0
    private var isFinished = false

    /// More classes than any model has: names without end are no reason to take memory without end.
    private static let categoryLimit = 65_536

    /// - Parameters:
    ///   - fileName: the picture's name for a frame's number; `frame-000001.jpg` and so on unless given.
    ///   - output: whose detections; nil: `predictions`, or else the first output that has some.
    public init(
        path: String, output: String? = nil, fileName: @escaping @Sendable (Int) -> String = COCOSink.defaultFileName
    ) throws(OutputError) {
        self.fileName = fileName
        self.output = output
        file = try OutputFile(path: path)
        images = try OutputFile(besides: path)
        try file.write(#"{"info":{"description":"everyframe"},"annotations":["#)
    }

    public func write(_ result: StreamResult) throws(OutputError) {
        guard !isFinished else { throw OutputError(path: file.path, reason: "it is finished") }
        var image: JSONObject = ["id": .integer(result.frameID), "file_name": .string(fileName(result.frameID))]
        if let width = result.width, let height = result.height {
            image.append("width", .integer(width))
            image.append("height", .integer(height))
        }
        image.append("frame_id", .integer(result.frameID))
        if let seconds = result.seconds { image.append("seconds", .number(seconds)) }
        if !result.errors.isEmpty { image.append("errors", .array(result.errors.map(JSON.string))) }
        try Self.append(.object(image), to: images, isFirst: imageCount == 0)
        imageCount += 1

        for detection in result.detections(of: output) {
            guard let box = detection.box else { continue }
            var annotation: JSONObject = [
                "id": .integer(annotationCount + 1), "image_id": .integer(result.frameID), "category_id": .integer(try category(of: detection)),
                "bbox": [.number(box.x - box.width / 2), .number(box.y - box.height / 2), .number(box.width), .number(box.height)],
                "area": .number(box.width * box.height), "iscrowd": 0,
            ]
            if let confidence = detection.confidence { annotation.append("score", .number(confidence)) }
            try Self.append(.object(annotation), to: file, isFirst: annotationCount == 0)
            annotationCount += 1
        }
    }

    public func finish() throws(OutputError) {
        guard !isFinished else { return }
        isFinished = true
        try file.write(#"],"images":["#)
        try images.copy(to: file)
        let list = categories.sorted { $0.value < $1.value }.map { entry -> JSON in
            ["id": .integer(entry.value), "name": .string(entry.key.name), "supercategory": ""]
        }
        try file.write("],\"categories\":\(JSON.array(list))}\n")
        try images.close()
        try file.close()
    }

    public static func defaultFileName(_ frameID: Int) -> String {
        let digits = String(frameID)
        return "frame-\(String(repeating: "0", count: max(0, 6 - digits.count)))\(digits).jpg"
    }

    private func category(of detection: Detection) throws(OutputError) -> Int {
        let kind = Class(name: detection.className ?? detection.classID.map { "class \($0)" } ?? "object", id: detection.classID)
        if let known = categories[kind] { return known }
        guard categories.count < Self.categoryLimit else {
            throw OutputError(path: file.path, reason: "there are more than \(Self.categoryLimit) classes")
        }
        var id = kind.id ?? largestID &+ 1
        if takenIDs.contains(id) { id = largestID &+ 1 }
        // a model's number may be the largest there is
        while !takenIDs.insert(id).inserted { id &+= 1 }
        largestID = max(largestID, id)
        categories[kind] = id
        return id
    }

    private static func append(_ json: JSON, to file: OutputFile, isFirst: Bool) throws(OutputError) {
        try file.write { buffer in
            if !isFirst { buffer.writeInteger(UInt8(ascii: ",")) }
            buffer.writeStaticString("\n")
            json.write(into: &buffer)
        }
    }
}
