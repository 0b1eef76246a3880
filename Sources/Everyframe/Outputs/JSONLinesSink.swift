public import FrameTransport
import NIOCore

/// Results as lines of JSON, one for each frame (`StreamResult.json`). Pictures are not in them.
public actor JSONLinesSink: ResultSink {
    private let file: OutputFile
    /// Frames up to this one are in the file already.
    private let last: Int

    /// - Parameters:
    ///   - path: `-` is standard output, where each line is shown at once.
    ///   - continuing: results are added to the whole lines that are there; those of frames that are in the file are left out, for the server
    ///     sends again what it does not know to be safe.
    public init(path: String, continuing: Bool = false) throws(OutputError) {
        guard continuing, path != "-" else {
            file = try OutputFile(path: path)
            last = 0
            return
        }
        let (file, line) = try OutputFile.continuing(path)
        self.file = file
        last = line.flatMap { try? JSON(parsing: $0) }?["video_metadata"]?["frame_id"]?.integer ?? 0
    }

    public func write(_ result: StreamResult) throws(OutputError) {
        guard result.frameID > last else { return }
        try write(result.json)
    }

    /// Any other line, for instance a summary.
    public func write(_ line: JSON) throws(OutputError) {
        try file.write { buffer in
            line.write(into: &buffer)
            buffer.writeInteger(UInt8(ascii: "\n"))
        }
    }

    public func flush() throws(OutputError) { try file.flush() }

    public func finish() throws(OutputError) { try file.close() }
}
