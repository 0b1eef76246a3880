import Foundation
import Media
import Testing

/// A codec and its options, and the containers that may hold it.
struct Coding: CustomTestStringConvertible, Sendable {
    var name: String
    var arguments: [String]
    var containers: [String]
    /// What the judge must convert to, where the codec has other pixels than ours.
    var format: String?
    var testDescription: String { name }

    init(_ name: String, _ arguments: [String], _ containers: [String], format: String? = nil) {
        self.name = name
        self.arguments = arguments
        self.containers = containers
        self.format = format
    }

    static let x264 = ["-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-pix_fmt", "yuv420p"]
    static let openGOP = x264 + ["-x264-params", "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-pyramid=normal:scenecut=0"]
    static let x265OpenGOP = [
        "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:open-gop=1:keyint=10:min-keyint=10:bframes=4:b-pyramid=1",
    ]
    static let vp8 = ["-c:v", "libvpx", "-deadline", "good", "-cpu-used", "8", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "150k"]

    static let all: [Coding] = [
        Coding("H.264", x264 + ["-bf", "3"], ["mp4", "mov", "mkv", "avi", "ts", "flv", "nut", "h264"]),
        Coding("H.264, open GOPs", openGOP, ["mp4", "mkv", "ts"]),
        Coding("H.264, intra refresh", x264 + ["-x264-params", "intra-refresh=1:keyint=12"], ["mp4", "ts"]),
        Coding("H.264, interlaced", x264 + ["-flags", "+ildct+ilme", "-x264-params", "tff=1:bframes=2"], ["mp4", "ts", "mkv"]),
        Coding("HEVC, open GOPs", x265OpenGOP, ["mp4", "mkv", "ts", "hevc"]),
        Coding("VP8", vp8, ["webm", "mkv", "avi", "ivf"]),
        Coding(
            "VP9", ["-c:v", "libvpx-vp9", "-deadline", "good", "-cpu-used", "8", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "100k"],
            ["webm", "mp4", "ivf"]),
        Coding("AV1 of libaom", ["-c:v", "libaom-av1", "-cpu-used", "8", "-lag-in-frames", "12", "-b:v", "100k"], ["mp4", "mkv"]),
        Coding("AV1 of SVT", ["-c:v", "libsvtav1", "-preset", "12", "-g", "16"], ["mp4", "webm"]),
        Coding("Motion JPEG", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"], ["avi", "mov", "mkv", "mjpeg"]),
        Coding("MPEG-4", ["-c:v", "mpeg4", "-bf", "2", "-g", "10"], ["avi", "mp4", "mkv", "nut"]),
        Coding("MPEG-4 of Xvid, packed", ["-c:v", "libxvid", "-bf", "2"], ["avi"]),
        Coding("MPEG-2", ["-c:v", "mpeg2video", "-bf", "2", "-g", "10"], ["ts", "mkv", "mpg", "avi", "m2v"]),
        Coding("MPEG-2, interlaced", ["-c:v", "mpeg2video", "-bf", "2", "-flags", "+ildct+ilme"], ["ts"]),
        Coding("MPEG-1", ["-c:v", "mpeg1video", "-bf", "2"], ["mpg", "mkv"]),
        Coding("Microsoft's MPEG-4", ["-c:v", "msmpeg4"], ["avi", "mkv"]),
        Coding("Windows Media 8", ["-c:v", "wmv2"], ["asf", "avi"]),
        Coding("Sorenson Spark", ["-c:v", "flv"], ["flv"]),
        Coding("H.263", ["-c:v", "h263", "-s", "176x144"], ["3gp", "avi"]),
        Coding("Theora", ["-c:v", "libtheora"], ["ogv", "mkv"]),
        Coding("Snow", ["-c:v", "snow", "-strict", "experimental"], ["avi"]),
        Coding("Dirac", ["-c:v", "vc2"], ["mov"], format: "yuv420p"),
        Coding("FFV1", ["-c:v", "ffv1", "-pix_fmt", "yuv420p"], ["mkv", "avi", "nut"]),
        Coding("FFVHuff", ["-c:v", "ffvhuff", "-pix_fmt", "yuv420p"], ["avi", "mkv"]),
        Coding("HuffYUV", ["-c:v", "huffyuv", "-pix_fmt", "yuv422p"], ["avi", "mkv"], format: "yuv420p"),
        Coding("HuffYUV, RGB", ["-c:v", "huffyuv", "-pix_fmt", "rgb24"], ["avi"], format: "bgr24"),
        Coding("Ut Video", ["-c:v", "utvideo", "-pix_fmt", "yuv420p"], ["avi", "mkv"]),
        Coding("PNG", ["-c:v", "png", "-pix_fmt", "rgb24"], ["mov", "mkv", "avi"], format: "bgr24"),
        Coding("ProRes", ["-c:v", "prores_ks", "-profile:v", "0"], ["mov", "mkv"], format: "yuv420p"),
        Coding("DNxHR", ["-c:v", "dnxhd", "-profile:v", "dnxhr_lb", "-s", "256x128", "-pix_fmt", "yuv422p"], ["mov", "mxf"], format: "yuv420p"),
        Coding("Raw", ["-c:v", "rawvideo", "-pix_fmt", "yuv420p"], ["avi", "nut", "mkv"]),
        Coding("Raw, packed", ["-c:v", "rawvideo", "-pix_fmt", "uyvy422"], ["mov", "nut"], format: "yuv420p"),
        Coding("Raw, BGR", ["-c:v", "rawvideo", "-pix_fmt", "bgr24"], ["avi", "nut"]),
        Coding("QuickTime animation", ["-c:v", "qtrle", "-pix_fmt", "rgb24"], ["mov"], format: "bgr24"),
        Coding("QuickTime graphics, palette", ["-c:v", "smc", "-pix_fmt", "pal8", "-vf", "format=pal8"], ["mov"], format: "bgr24"),
        Coding("Raw, palette", ["-c:v", "rawvideo", "-vf", "format=pal8"], ["avi", "nut"], format: "bgr24"),
        Coding("GIF", ["-c:v", "gif"], ["gif"], format: "bgr24"),
        Coding("YUV4MPEG", ["-pix_fmt", "yuv420p"], ["y4m"]),
    ]
}

@Suite struct SourceEncodingTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    @Test("Units that crossed a wire decode to what the ffmpeg program shows of the file, picture by picture", arguments: Coding.all)
    func matrix(_ coding: Coding) throws {
        for container in coding.containers {
            let path = try workshop.make("video.\(container)", seconds: 1.2, size: "128x96", coding.arguments)
            let expected = try workshop.judge(path, format: coding.format)
            #expect(!expected.isEmpty)
            for (threads, lowDelay) in [(1, false), (3, false), (2, true)] {
                let crossing = try Crossing(.file(path), .init(threads: threads, lowDelay: lowDelay))
                let comment: Comment = "\(coding.name) in \(container), \(threads) threads"
                #expect(firstDifference(crossing.shown, expected) == nil, comment)
                #expect(crossing.refused.isEmpty && crossing.strays == 0, comment)
                #expect(crossing.cameAfter.allSatisfy { $0.value - $0.key <= crossing.maximumDelay }, comment)
                #expect(crossing.pictures.allSatisfy { !$0.isConcealed }, comment)
                // one picture a unit
                #expect(Set(crossing.pictures.map(\.id)).count == crossing.pictures.count, comment)
            }
            let frames = try allFrames(path, .init(threads: 2))
            #expect(firstDifference(frames.map(Shown.init), expected) == nil, "\(coding.name) in \(container), the file's reader")
        }
    }
}
