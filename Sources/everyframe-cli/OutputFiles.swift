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
            do {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            } catch {
                throw OutputError(path: folder, reason: "with several videos it must be a folder")
            }
        }
    }

    /// Looks whether the summary can be written, and that no output is one of the videos.
    func check(videos: [String]) throws {
        if let summary, summary != "-" {
            let descriptor = open(summary, O_WRONLY | O_CREAT, 0o644)
            guard descriptor >= 0 else { throw OutputError(path: summary, reason: String(cString: strerror(errno))) }
            close(descriptor)
        }
        let sources = Set(videos.compactMap { FileIdentity($0) })
        var outputs = [summary]
        let names: [String?] = videos.count > 1 ? Self.names(of: videos) : [nil]
        for name in names {
            outputs += [results, csv, coco, annotated].indices.map { path($0, of: name) }
        }
        for case let output? in outputs {
            if let identity = FileIdentity(output), sources.contains(identity) { throw OutputError(path: output, reason: "it is a video that is to be sent") }
        }
    }

    func writeSummary(_ json: JSON?) async throws {
        guard let summary, let json else { return }
        let sink = try JSONLinesSink(path: summary)
        try await sink.write(json)
        try await sink.finish()
    }

    /// Of the results, the CSV, the COCO and the annotated file, for the video of that name where there are several.
    func path(_ kind: Int, of name: String?) -> String? {
        let (given, ending) = [(results, "jsonl"), (csv, "csv"), (coco, "json"), (annotated, "mp4")][kind]
        return given.map { given in name.map { "\(given)/\($0).\(ending)" } ?? given }
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

/// Tells files from each other, whatever they are called.
private struct FileIdentity: Hashable {
    let device: UInt64
    let number: UInt64

    init?(_ path: String) {
        var status = stat()
        // devices may well be both
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        (device, number) = (UInt64(status.st_dev), UInt64(status.st_ino))
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
        if let path = files.path(0, of: name) { all.append(try JSONLinesSink(path: path, continuing: isContinued)) }
        if let path = files.path(1, of: name) { all.append(try CSVSink(path: path)) }
        if let path = files.path(2, of: name) { all.append(try COCOSink(path: path)) }
        if let path = files.path(3, of: name) {
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
