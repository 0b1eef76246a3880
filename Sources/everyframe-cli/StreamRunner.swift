import Everyframe
import Foundation
import FrameTransport
import Logging

/// `everyframe stream`: outputs are opened first, then the source, then the connection, so that what is wrong shows before a
/// frame is sent.
struct StreamRunner: Sendable {
    let video: String
    let configuration: StreamConfiguration
    let results: String?
    let annotated: String?
    let summary: String?
    let isQuiet: Bool

    /// - Returns: nil where every frame was answered.
    func run() async -> ExitStatus? {
        let source: VideoFileSource
        do {
            source = try await VideoFileSource(path: video)
        } catch {
            return fail("\(error)", ExitStatus(error))
        }
        let resultLines: LineFile?
        let annotation: AnnotatedVideoSink?
        do {
            resultLines = try results.map { try LineFile(path: $0) }
            annotation = try annotated.map { try AnnotatedVideoSink(path: $0, frameRate: source.declaredFPS) }
            if let summary { try LineFile.check(summary) }
        } catch {
            return fail("\(error)", .cannotWrite)
        }
        let progress = ProgressDisplay(isQuiet: isQuiet)

        var handlers = EveryframeClient.Handlers()
        handlers.onResult = { result in
            if !result.errors.isEmpty {
                await progress.note("frame \(result.videoMetadata.frameID) failed: \(result.errors.joined(separator: "; "))")
            }
            try await resultLines?.write(result.json.description)
            try await annotation?.write(StreamResult(result))
        }
        handlers.onProgress = { await progress.show($0) }
        if let annotation { handlers.onFrame = { await annotation.remember($0, $1) } }

        let outcome: StreamSummary
        do {
            let client = EveryframeClient(configuration: configuration, logger: Logger(label: "everyframe.client"))
            outcome = try await client.run(source, handlers: handlers)
        } catch {
            return fail("\(error)", ExitStatus(error))
        }
        await progress.finish()
        do {
            try await resultLines?.close()
            try await annotation?.finish()
            if let summary { try Data((outcome.json.description + "\n").utf8).write(to: URL(fileURLWithPath: summary)) }
        } catch {
            return fail("\(error)", .writeFailed)
        }
        return conclude(outcome)
    }

    private func conclude(_ outcome: StreamSummary) -> ExitStatus? {
        if !isQuiet { Terminal.write(Self.table(outcome)) }
        if let damage = outcome.sourceDamage { Terminal.write("everyframe: warning: \(video): \(damage)\n") }
        if let failure = outcome.failure { return fail("\(failure); \(outcome.proof)", ExitStatus(failure)) }
        if outcome.ok { return nil }
        return fail(outcome.framesDecoded == 0 ? "\(video) has no frames" : "\(outcome.proof)", .framesFailed)
    }

    private func fail(_ message: String, _ status: ExitStatus) -> ExitStatus {
        Terminal.write("everyframe: \(message)\n")
        return status
    }

    private static func table(_ outcome: StreamSummary) -> String {
        func number(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }
        var lines = [
            "\(outcome.proof)",
            "  frames   \(outcome.framesDecoded) decoded, \(outcome.framesSent) sent, \(outcome.resultsReceived) answered, \(outcome.framesFailed) failed",
            "  speed    \(number(outcome.framesPerSecond)) frames/s, \(number(outcome.seconds, 2)) s, set up in \(number(outcome.setupMilliseconds, 0)) ms",
            "  sent     \(number(Double(outcome.bytesSent) / 1e6)) MB",
        ]
        if let stages = outcome.stages {
            let columns = stages.stages.map { "\($0.name) \(number($0.p50))/\(number($0.p99))" }
            lines.append("  server   \(columns.joined(separator: ", ")) ms (p50/p99)")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

/// A text file written line by line; `-` is standard output.
actor LineFile {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    private let path: String
    private let handle: FileHandle
    private var buffer = Data()

    init(path: String) throws {
        self.path = path
        guard path != "-" else {
            handle = .standardOutput
            return
        }
        try Self.check(path)
        guard let handle = FileHandle(forWritingAtPath: path) else { throw Failure(description: "cannot write \(path)") }
        try handle.truncate(atOffset: 0)
        self.handle = handle
    }

    /// Makes sure that a file of that name can be written.
    static func check(_ path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT, 0o644)
        guard descriptor >= 0 else { throw Failure(description: "cannot write \(path): \(String(cString: strerror(errno)))") }
        Foundation.close(descriptor)
    }

    func write(_ line: String) throws {
        buffer.append(contentsOf: line.utf8)
        buffer.append(0x0a)
        if buffer.count >= 64 << 10 || path == "-" { try flush() }
    }

    func close() throws {
        try flush()
        if path != "-" { try handle.close() }
    }

    private func flush() throws {
        do { try handle.write(contentsOf: buffer) } catch { throw Failure(description: "cannot write \(path): \(error)") }
        buffer.removeAll(keepingCapacity: true)
    }
}
