import NIOCore

/// Detections as comma-separated values (RFC 4180, UTF-8), one row for each.
///
///     frame_id,pts,seconds,class,class_id,confidence,x,y,width,height,error
///     1,512,0.512,car,2,0.91,320.5,200.0,64.0,48.0,
///
/// `x` and `y` are the box's centre, in pixels. What is not known is an empty field. A frame that failed has one row with its `error` and
/// no detection, so does — with `emptyFrames: .row` — a frame in which nothing was found, without an error: then each frame is in the file.
public actor CSVSink: ResultSink {
    public enum EmptyFrames: Hashable, Sendable {
        /// One row with the frame's number and time only.
        case row
        case omitted
    }

    private static let header = "frame_id,pts,seconds,class,class_id,confidence,x,y,width,height,error\r\n"

    private let file: OutputFile
    private let emptyFrames: EmptyFrames
    private let output: String?

    /// - Parameters:
    ///   - path: `-` is standard output.
    ///   - output: whose detections; nil: `predictions`, or else the first output that has some.
    public init(path: String, emptyFrames: EmptyFrames = .row, output: String? = nil) throws(OutputError) {
        self.emptyFrames = emptyFrames
        self.output = output
        file = try OutputFile(path: path)
        try file.write(Self.header)
    }

    public func write(_ result: StreamResult) throws(OutputError) {
        let frame = ["\(result.frameID)", result.pts.map { "\($0)" } ?? "", Self.text(result.seconds)]
        let detections = result.detections(of: output)
        try file.write { buffer in
            for detection in detections {
                let box = detection.box
                Self.write(
                    frame + [
                        detection.className ?? "", detection.classID.map { "\($0)" } ?? "", Self.text(detection.confidence), Self.text(box?.x),
                        Self.text(box?.y), Self.text(box?.width), Self.text(box?.height), "",
                    ], into: &buffer)
            }
            if !result.errors.isEmpty {
                Self.write(frame + Array(repeating: "", count: 7) + [result.errors.joined(separator: "; ")], into: &buffer)
            } else if detections.isEmpty, emptyFrames == .row {
                Self.write(frame + Array(repeating: "", count: 8), into: &buffer)
            }
        }
    }

    public func finish() throws(OutputError) { try file.close() }

    private static func text(_ number: Double?) -> String {
        guard let number, number.isFinite else { return "" }
        return number.description
    }

    private static func write(_ fields: [String], into buffer: inout ByteBuffer) {
        for (index, field) in fields.enumerated() {
            if index > 0 { buffer.writeInteger(UInt8(ascii: ",")) }
            // RFC 4180 §2.6: commas, quotes and line breaks must be quoted; §2.7: a quote is written twice
            let needsQuotes = field.utf8.contains { [UInt8(ascii: ","), UInt8(ascii: "\""), 0x0A, 0x0D].contains($0) }
            guard needsQuotes else {
                buffer.writeString(field)
                continue
            }
            buffer.writeInteger(UInt8(ascii: "\""))
            for byte in field.utf8 {
                if byte == UInt8(ascii: "\"") { buffer.writeInteger(byte) }
                buffer.writeInteger(byte)
            }
            buffer.writeInteger(UInt8(ascii: "\""))
        }
        buffer.writeStaticString("\r\n")
    }
}
