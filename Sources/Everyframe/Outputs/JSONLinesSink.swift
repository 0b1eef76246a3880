public import FrameTransport
import NIOCore

/// Results as lines of JSON, one for each frame (`StreamResult.json`). Pictures are not in them.
public actor JSONLinesSink: ResultSink {
    private let file: OutputFile

    /// - Parameter path: `-` is standard output, where each line is shown at once.
    public init(path: String) throws(OutputError) { file = try OutputFile(path: path) }

    public func write(_ result: StreamResult) throws(OutputError) { try write(result.json) }

    /// Any other line, for instance a summary.
    public func write(_ line: JSON) throws(OutputError) {
        try file.write { buffer in
            line.write(into: &buffer)
            buffer.writeInteger(UInt8(ascii: "\n"))
        }
    }

    public func finish() throws(OutputError) { try file.close() }
}
