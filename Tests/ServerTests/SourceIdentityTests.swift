import Everyframe
import Foundation
import FrameTransport
import Inference
import Media
import NIOCore
import Synchronization
import Testing

@testable import EveryframeServer

/// What the server's model is given is, to the pixel and to the tick, what this machine's reader decodes of the file.
@Suite(.timeLimit(.minutes(3)), .serialized) struct SourceIdentityTests {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("everyframe-identity-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    static let x264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    static let openGOP = x264 + ["-x264-params", "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-pyramid=normal:scenecut=0"]
    static let x265OpenGOP = [
        "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:open-gop=1:keyint=10:min-keyint=10:bframes=4:b-pyramid=1",
    ]
    static let vpx = ["-deadline", "good", "-cpu-used", "8", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "120k"]

    /// A file, and how it comes to be.
    struct Video: CustomTestStringConvertible, Sendable {
        var name: String
        var arguments: [String] = []
        /// Made of what `arguments` made by these arguments, with nothing encoded anew.
        var remuxed: [String] = []
        var testDescription: String { name }
    }

    static let videos = [
        Video(name: "h264-with-b-frames.mp4", arguments: x264 + ["-bf", "3"]),
        Video(name: "h264-open-gop.mkv", arguments: openGOP),
        Video(name: "hevc-open-gop.mkv", arguments: x265OpenGOP),
        Video(name: "vp8-with-altref.webm", arguments: ["-c:v", "libvpx"] + vpx),
        Video(name: "vp9.webm", arguments: ["-c:v", "libvpx-vp9"] + vpx),
        Video(name: "motion.avi", arguments: ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]),
        Video(name: "edit-list.mp4", arguments: openGOP, remuxed: ["-ss", "0.52", "-t", "0.9"]),
        Video(name: "rotated.mp4", arguments: x264, remuxed: ["-metadata:s:v:0", "rotate=90"]),
        Video(name: "variable-rate.mp4", arguments: x264 + ["-bf", "2", "-vf", "select=not(mod(n\\,3))+eq(mod(n\\,7)\\,1)", "-vsync", "vfr"]),
        Video(name: "two-fields.ts", arguments: ["-c:v", "mpeg2video", "-bf", "2", "-flags", "+ildct+ilme"]),
        Video(name: "rgb.avi", arguments: ["-c:v", "huffyuv", "-pix_fmt", "rgb24"]),
    ]

    @Test("Access units: the server decodes what a reader here decodes, with any number of threads", arguments: videos)
    func source(_ video: Video) async throws {
        defer { clear() }
        try await expectSame(try make(video), encoding: .source, threads: [1, 3])
    }

    @Test("Access units whose picture's size changes in the middle")
    func changingSize() async throws {
        defer { clear() }
        var joined = Data()
        for (index, size) in ["96x64", "160x120", "64x64"].enumerated() {
            let part = try make(
                Video(name: "\(index).ts", arguments: Self.x264 + ["-bf", "2", "-output_ts_offset", "\(Double(index) * 0.8)", "-muxdelay", "0"]), size: size,
                seconds: 0.6)
            joined += try Data(contentsOf: URL(fileURLWithPath: part))
        }
        let path = folder.appendingPathComponent("joined.ts").path
        try joined.write(to: URL(fileURLWithPath: path))
        let seen = try await expectSame(path, encoding: .source, threads: [1, 3])
        #expect(Set(seen.map(\.size)) == ["96x64", "160x120", "64x64"])
    }

    @Test("Access units of a part of a file", arguments: [(0.52, nil), (0.36, 1.0), (nil, 0.5), (1.2, 1.24)] as [(Double?, Double?)])
    func part(start: Double?, end: Double?) async throws {
        defer { clear() }
        for video in Self.videos.prefix(3) {
            let seen = try await expectSame(try make(video), encoding: .source, threads: [3], start: start, end: end)
            #expect(!seen.isEmpty && seen.count < 40)
        }
    }

    @Test("Access units of two readers of different speed do not mix: many jobs of one connection")
    func sideBySide() async throws {
        defer { clear() }
        let paths = try Self.videos.prefix(4).map { try make($0) }
        try await withServer(model: Witness(), { $0.decodeThreads = 3 }) { server in
            let pool = try EveryframeClient(configuration: StreamConfiguration(server: server.url)).pool(size: 1)
            await withTaskGroup(of: Void.self) { group in
                for path in paths + paths {
                    group.addTask {
                        await #expect(throws: Never.self) {
                            let seen = try await Self.seen(path) { source, handlers throws(StreamError) in try await pool.run(source, handlers: handlers) }
                            #expect(Self.difference(seen, try Self.expected(path, .source)) == nil, "\(path)")
                        }
                    }
                }
            }
            await pool.close()
        }
    }

    @Test(
        "Raw pictures: in each format, with and without compression, what is sent is what is seen",
        arguments: [FrameTransport.PixelFormat.i420, .nv12, .bgr24], [nil, .lz4, .zstd] as [Compression?])
    func raw(format: FrameTransport.PixelFormat, compression: Compression?) async throws {
        defer { clear() }
        // sides that are odd, and a turn
        let path = try make(Self.videos[7], size: "158x90")
        try await expectSame(path, encoding: .raw(format, compression), threads: compression == .lz4 ? [1] : [3])
    }

    @Test("PNG loses nothing")
    func png() async throws {
        defer { clear() }
        try await expectSame(try make(Self.videos[0]), encoding: .png, threads: [3])
    }

    // MARK: Both ends

    @discardableResult
    private func expectSame(
        _ path: String, encoding: StreamConfiguration.Encoding, threads: [Int], start: Double? = nil, end: Double? = nil
    ) async throws -> [Sight] {
        let expected = try Self.expected(path, encoding, start: start, end: end)
        for threads in threads {
            try await withServer(model: Witness(), { $0.decodeThreads = threads }) { server in
                var configuration = StreamConfiguration(server: server.url)
                configuration.encoding = encoding
                let client = EveryframeClient(configuration: configuration)
                let seen = try await Self.seen(path, start: start, end: end) { source, handlers throws(StreamError) in
                    try await client.run(source, handlers: handlers)
                }
                #expect(Self.difference(seen, expected) == nil, "\(path), \(threads) threads")
            }
        }
        return expected
    }

    private static func seen(
        _ path: String, start: Double? = nil, end: Double? = nil,
        _ run: @Sendable (VideoSource, EveryframeClient.Handlers) async throws(StreamError) -> StreamSummary
    ) async throws -> [Sight] {
        let seen = Mutex<[Sight]>([])
        var handlers = EveryframeClient.Handlers()
        handlers.onResult = { result in
            let words = result.detections().first?.className
            #expect(result.errors.isEmpty && words?.hasPrefix("\(result.pts ?? -1) ") == true, "frame \(result.frameID): \(words ?? "-")")
            seen.withLock { $0.append(Sight(words: words ?? "")) }
        }
        let summary = try await run(try await VideoSource.file(path, range: .init(start: start, end: end)), handlers)
        #expect(summary.ok && summary.verification == .proved, "\(path): \(summary.verdict) \(summary.failure.map { "\($0)" } ?? "")")
        return seen.withLock { $0 }
    }

    private static func expected(
        _ path: String, _ encoding: StreamConfiguration.Encoding, start: Double? = nil, end: Double? = nil
    ) throws -> [Sight] {
        let reader = try VideoFileReader(path: path, configuration: .init(threads: 1, start: start, end: end))
        var sights: [Sight] = []
        while let frame = try reader.next() {
            var sent = frame
            switch encoding {
            case .raw(.i420, _): sent = try PixelConverter().convert(frame, to: .i420)
            case .raw(.nv12, _): sent = try PixelConverter().convert(frame, to: .nv12)
            case .raw(.bgr24, _), .png: sent = try PixelConverter().convert(frame, to: .bgr24)
            case .source, .jpeg: break
            }
            sights.append(Sight(sent))
        }
        return sights
    }

    private static func difference(_ seen: [Sight], _ expected: [Sight]) -> String? {
        for (index, (one, other)) in zip(seen, expected).enumerated() where one != other { return "picture \(index): \(one.words) instead of \(other.words)" }
        return seen.count == expected.count ? nil : "\(seen.count) pictures instead of \(expected.count)"
    }

    // MARK: Files

    private func make(_ video: Video, size: String = "160x120", seconds: Double = 1.6) throws -> String {
        let path = folder.appendingPathComponent(video.name).path
        let made = video.remuxed.isEmpty ? path : folder.appendingPathComponent("whole-\(video.name)").path
        try ffmpeg(["-f", "lavfi", "-i", "testsrc2=size=\(size):rate=25:duration=\(seconds)"] + video.arguments + [made])
        if !video.remuxed.isEmpty {
            // a cut belongs in front of the input
            let cut = video.remuxed.first == "-ss"
            try ffmpeg((cut ? video.remuxed : []) + ["-i", made, "-c", "copy"] + (cut ? [] : video.remuxed) + [path])
        }
        return path
    }

    private func ffmpeg(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ffmpeg", "-nostdin", "-v", "error", "-y"] + arguments
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "ffmpeg \(arguments.joined(separator: " ")) failed; `scripts/setup peers` installs it")
    }

    private func clear() { try? FileManager.default.removeItem(at: folder) }
}

/// What a picture is, in words: `pts timebase size format colour digest`.
struct Sight: Hashable, Sendable {
    var words: String

    init(words: String) { self.words = words }

    init(_ frame: VideoFrame) {
        let digest = frame.withUnsafeBytes { XXH64.digest(ByteBuffer(bytes: $0)) }
        words = "\(frame.pts) \(frame.timeBase.numerator)/\(frame.timeBase.denominator) \(frame.width)x\(frame.height) \(frame.format) "
        // of no meaning where there are no differences of colour
        if frame.format != .bgr24 { words += "\(frame.colour.matrix)/\(frame.colour.range) " }
        words += Hex64.text(digest)
    }

    var size: String { words.split(separator: " ").dropFirst(2).first.map(String.init) ?? "" }
}

/// Answers each picture with what it is.
private struct Witness: Model {
    let name = "witness"
    let classNames: [String] = []
    let engine = EngineInfo(name: "witness", version: "1", device: "none")
    let requestsInFlight = 2
    let batchSize = 1
    let isSynthetic = true

    func infer(_ frames: [VideoFrame]) async throws(InferenceError) -> [Inference.FrameResult] {
        frames.map { frame in
            let sight = Inference.Detection(classID: 0, className: Sight(frame).words, confidence: 1, x: 0, y: 0, width: 1, height: 1)
            return Inference.FrameResult(detections: [sight], width: frame.width, height: frame.height, isSynthetic: true)
        }
    }
}
