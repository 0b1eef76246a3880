import Everyframe
import Foundation
import FrameTransport

/// Where the user wants results. With several videos these are folders.
struct OutputFiles: Sendable {
    var results: String?
    var csv: String?
    var coco: String?
    var annotated: String?
    var summary: String?

    func makeFolders() throws {
        for folder in [results, csv, coco, annotated].compactMap(\.self) {
            guard folder != "-" else { throw OutputError(path: "-", reason: "several videos cannot share standard output; name a folder") }
            do {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            } catch {
                throw OutputError(path: folder, reason: "with several videos it must be a folder")
            }
        }
    }

    func checkSummary() throws(OutputError) {
        guard let summary else { return }
        let descriptor = open(summary, O_WRONLY | O_CREAT, 0o644)
        guard descriptor >= 0 else { throw OutputError(path: summary, reason: String(cString: strerror(errno))) }
        close(descriptor)
    }

    func writeSummary(_ json: JSON?) throws {
        guard let summary, let json else { return }
        try Data((json.description + "\n").utf8).write(to: URL(fileURLWithPath: summary))
    }

    /// A file name for each video, without what is in front of the last slash and behind the last dot; different ones for different videos.
    static func names(of videos: [String]) -> [String] {
        var seen: [String: Int] = [:]
        return videos.map { video in
            var name = (video as NSString).lastPathComponent
            if name.contains(".") { name = (name as NSString).deletingPathExtension }
            if name.isEmpty || name == "-" { name = "video" }
            seen[name, default: 0] += 1
            return seen[name] == 1 ? name : "\(name)-\(seen[name] ?? 0)"
        }
    }
}

/// The open outputs of one video.
struct Sinks: Sendable {
    private var all: [any ResultSink] = []
    /// Draws by itself, where the server sends no pictures.
    private(set) var drawnHere: AnnotatedVideoSink?

    /// - Parameters:
    ///   - name: of the files in the folders that `files` then names; nil: they are files.
    ///   - isContinued: results are added to those of an earlier process.
    init(_ files: OutputFiles, name: String?, isContinued: Bool, frameRate: Double?, isLive: Bool) async throws {
        func path(_ given: String?, _ ending: String) -> String? { given.map { given in name.map { "\(given)/\($0).\(ending)" } ?? given } }
        if let path = path(files.results, "jsonl") { all.append(try JSONLinesSink(path: path, continuing: isContinued)) }
        if let path = path(files.csv, "csv") { all.append(try CSVSink(path: path)) }
        if let path = path(files.coco, "json") { all.append(try COCOSink(path: path)) }
        if let path = path(files.annotated, "mp4") {
            let sink = try AnnotatedVideoSink(path: path, frameRate: frameRate, startsAtZero: isLive)
            all.append(sink)
            drawnHere = sink
        }
    }

    func write(_ result: StreamResult) async throws {
        for sink in all { try await sink.write(result) }
    }

    func flush() async throws {
        for sink in all { try await sink.flush() }
    }

    /// All are completed, also where one of them fails.
    func finish() async throws {
        var failure: (any Error)?
        for sink in all {
            do { try await sink.finish() } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
    }
}
