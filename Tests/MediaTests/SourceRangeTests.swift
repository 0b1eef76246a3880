import Foundation
import Media
import Testing

/// A part of a source is exactly those pictures of the whole that are shown then.
@Suite struct SourceRangeTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    static let codings: [(String, [String])] = [
        ("h264.mp4", Coding.x264 + ["-bf", "3", "-g", "12"]), ("open.mp4", Coding.openGOP), ("open.mkv", Coding.openGOP), ("open.ts", Coding.openGOP),
        ("open.flv", Coding.openGOP), ("raw.h264", Coding.x264 + ["-bf", "0", "-g", "12"]),
        ("refresh.mp4", Coding.x264 + ["-x264-params", "intra-refresh=1:keyint=12"]),
        ("refresh.ts", Coding.x264 + ["-x264-params", "intra-refresh=1:keyint=12"]), ("hevc.mp4", Coding.x265OpenGOP), ("hevc.ts", Coding.x265OpenGOP),
        ("hevc.mkv", Coding.x265OpenGOP), ("mpeg2.ts", ["-c:v", "mpeg2video", "-bf", "2", "-g", "10"]),
        ("mpeg2.mkv", ["-c:v", "mpeg2video", "-bf", "2", "-g", "10"]),
        ("mpeg4.avi", ["-c:v", "mpeg4", "-g", "10"]), ("mpeg4.mp4", ["-c:v", "mpeg4", "-bf", "2", "-g", "10"]), ("vp8.webm", Coding.vp8 + ["-g", "15"]),
        ("motion.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]), ("ffv1.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv420p"]),
    ]

    @Test("A part has the whole's pictures from `start` on and before `end`", arguments: codings.map(\.0))
    func parts(_ name: String) throws {
        let path = try workshop.make(name, seconds: 2.4, try #require(Self.codings.first { $0.0 == name }).1)
        let whole = try allFrames(path)
        let info = try PacketReader(.file(path)).info
        let ranges: [(Double?, Double?)] = [
            (0.04, nil), (0.36, 0.6), (0.4, nil), (0.44, nil), (0.81, 0.85), (1.0, 1.6), (1.21, 1.21), (1.56, nil), (2.3, nil), (nil, 0.5), (nil, 0), (0, 1),
            (9, nil), (-3, 0.1),
        ]
        for (start, end) in ranges {
            let (from, to): (Double, Double) = ((start ?? -1e9) + info.startSeconds - 1e-6, (end ?? 1e9) + info.startSeconds - 1e-6)
            let expected = whole.filter { from <= $0.seconds && $0.seconds < to }.map { Shown($0) }
            let note: Comment = "\(name) \(start ?? -1) to \(end ?? -1)"
            #expect(firstDifference(try allFrames(path, .init(threads: 2, start: start, end: end)).map { Shown($0) }, expected) == nil, note)
            #expect(firstDifference(try Crossing(.file(path), options: .init(start: start, end: end), .init(threads: 1)).shown, expected) == nil, note)
        }
    }

    @Test("Reading begins near the start and stops behind the end")
    func economy() throws {
        let path = try workshop.make("long.mp4", seconds: 20, size: "32x32", Coding.x264 + ["-bf", "3", "-g", "25"])
        let units = try allUnits(path, start: 10.1, end: 10.5).units
        #expect(units.count < 60)
        #expect(units.first?.facts.isKeyframe == true)
        #expect(units.first?.configuration == 1)
        #expect(try allUnits(path, end: 0.2).units.count < 12)
    }

    @Test("A part of a part: what an edit list cut stays cut")
    func editList() throws {
        let whole = try workshop.make("whole.mp4", Coding.openGOP)
        let path = workshop.path("cut.mp4")
        try workshop.run(["-ss", "0.52", "-i", whole, "-c", "copy", path])
        let all = try allFrames(path)
        for start in [0.04, 0.2, 0.3, 0.5] {
            let expected = all.filter { $0.seconds >= start - 1e-6 }.map { Shown($0) }
            #expect(firstDifference(try allFrames(path, .init(start: start)).map { Shown($0) }, expected) == nil, "\(start)")
        }
    }
}
