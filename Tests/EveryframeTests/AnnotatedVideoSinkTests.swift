import Everyframe
import Foundation
import FrameTransport
import Media
import NIOCore
import Testing

@Suite struct AnnotatedVideoSinkTests {
    let workshop: Workshop
    init() throws { workshop = try Workshop() }

    /// Grey, a little lighter each time.
    private func frame(_ index: Int, width: Int = 64, height: Int = 48, pts: Int64? = nil) -> VideoFrame {
        VideoFrame(.bgr24, width: width, height: height, pts: pts ?? Int64(index) * 40, timeBase: Media.TimeBase(1, 1000)) { pixels in
            pixels.initializeMemory(as: UInt8.self, repeating: UInt8(40 + index * 8))
        }
    }

    private func image(_ frame: VideoFrame, _ encoding: Answer.Image.Encoding, _ bytes: [UInt8]) -> Answer.Image {
        Answer.Image(encoding: encoding, width: UInt16(frame.width), height: UInt16(frame.height), bytes: ByteBuffer(bytes: bytes))
    }

    private func read(_ name: String = "out.mp4") throws -> [VideoFrame] {
        let reader = try VideoFileReader(path: workshop.path(name))
        var frames: [VideoFrame] = []
        while let frame = try reader.next() { frames.append(frame) }
        return frames
    }

    private func milliseconds(_ frames: [VideoFrame]) -> [Int] { frames.map { Int(($0.seconds * 1000).rounded()) } }

    /// The middle pixel's luma as the frames above have it.
    private func middle(_ frame: VideoFrame) throws -> Int {
        let bgr = try PixelConverter().convert(frame, to: .bgr24)
        return bgr.withUnsafeBytes { Int($0[3 * (frame.height / 2 * frame.width + frame.width / 2)]) }
    }

    private let times: [Int64] = [0, 40, 80, 200, 240, 1000, 1040, 1080]

    @Test("Access units of the server's go into the file as they are, with the source's times")
    func units() async throws {
        let encoder = try VideoStreamEncoder()
        let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"))
        for (index, time) in times.enumerated() {
            var result = result(index + 1, pts: time)
            result.image = image(frame(index), .h264, try encoder.encode(frame(index)).bytes)
            try await sink.write(result)
        }
        try await sink.finish()
        let frames = try read()
        #expect(milliseconds(frames) == times.map { Int($0) })
        for (index, frame) in frames.enumerated() { #expect(abs(try middle(frame) - (40 + index * 8)) < 8) }
        #expect(await sink.picturesWritten == times.count)
        #expect(await sink.picturesMissing == 0)
    }

    @Test("JPEG and PNG pictures are encoded, with the source's times", arguments: [Answer.Image.Encoding.jpeg, .png])
    func pictures(_ encoding: Answer.Image.Encoding) async throws {
        let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"))
        for (index, time) in times.enumerated() {
            var result = result(index + 1, pts: time)
            let bytes = encoding == .png ? try PNGCodec.encode(frame(index)) : try JPEGCodec().encode(frame(index), quality: 90)
            result.image = image(frame(index), encoding, bytes)
            try await sink.write(result)
        }
        try await sink.finish()
        let frames = try read()
        #expect(milliseconds(frames) == times.map { Int($0) })
        for (index, frame) in frames.enumerated() { #expect(abs(try middle(frame) - (40 + index * 8)) < 8) }
    }

    @Test("Remembered frames get their boxes drawn, at the source's times")
    func drawn() async throws {
        let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"))
        // as on the prototype wire, results have no times
        for (index, time) in times.enumerated() {
            await sink.remember(index + 1, SourceFrame(frame(3, width: 320, height: 240, pts: time)))
        }
        for index in times.indices {
            let box = box(x: 160, y: 120, width: 200, height: 160, confidence: index == 2 ? .infinity : 0.5)
            try await sink.write(StreamResult(frameID: index + 1, outputs: ["predictions": ["predictions": index % 2 == 0 ? [box] : []]]))
        }
        try await sink.finish()
        let frames = try read()
        #expect(milliseconds(frames) == times.map { Int($0) })
        for (index, frame) in frames.enumerated() {
            // the box's left edge at half height
            let bgr = try PixelConverter().convert(frame, to: .bgr24)
            let edge = bgr.withUnsafeBytes { bytes in (0..<3).map { Int(bytes[3 * (120 * 320 + 60) + $0]) } }
            let isGrey = (edge.max() ?? 0) - (edge.min() ?? 0) < 24
            #expect(isGrey == (index % 2 == 1), "\(index) \(edge)")
        }
    }

    @Test("Encoded source frames are drawn on, too; without any time they come at the declared rate")
    func encoded() async throws {
        let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"), frameRate: 10)
        for index in 0..<4 {
            let bytes = ByteBuffer(bytes: try JPEGCodec().encode(frame(index), quality: 90))
            await sink.remember(index + 1, SourceFrame(encoded: bytes, as: .jpeg, width: 64, height: 48))
            try await sink.write(StreamResult(frameID: index + 1))
        }
        try await sink.finish()
        #expect(try milliseconds(read()) == [0, 100, 200, 300])
    }

    @Test("Failed frames before the first picture are in the video, unless it is the server's stream")
    func failedFirst() async throws {
        let drawn = try AnnotatedVideoSink(path: workshop.path("drawn.mp4"))
        let stream = try AnnotatedVideoSink(path: workshop.path("stream.mp4"))
        let encoder = try VideoStreamEncoder()
        for index in 0..<6 {
            for sink in [drawn, stream] { await sink.remember(index + 1, SourceFrame(frame(index))) }
            var result = result(index + 1, errors: index < 2 || index == 4 ? ["broken"] : [])
            try await drawn.write(result)
            if result.errors.isEmpty { result.image = image(frame(index), .h264, try encoder.encode(frame(index)).bytes) }
            try await stream.write(result)
        }
        try await drawn.finish()
        try await stream.finish()
        #expect(try milliseconds(read("drawn.mp4")) == [0, 40, 80, 120, 160, 200])
        #expect(try milliseconds(read("stream.mp4")) == [80, 120, 200])
        #expect(await stream.picturesMissing == 3)
    }

    @Test("Where every frame failed the video has them all")
    func allFailed() async throws {
        let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"))
        for index in 0..<20 {
            await sink.remember(index + 1, SourceFrame(frame(index)))
            try await sink.write(result(index + 1, errors: ["broken"]))
        }
        try await sink.finish()
        #expect(try read().count == 20)
    }

    @Test("Without a picture no file is left, but one that was there stays")
    func nothing() async throws {
        let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"))
        try await sink.write(result(1))
        try await sink.finish()
        try await sink.finish()
        #expect(await sink.picturesMissing == 1)
        #expect(try workshop.names.isEmpty)
        try Data("old".utf8).write(to: URL(fileURLWithPath: workshop.path("out.mp4")))
        let other = try AnnotatedVideoSink(path: workshop.path("out.mp4"))
        try await other.finish()
        #expect(try workshop.text("out.mp4") == "old")
        await #expect(throws: OutputError.self) { try await other.write(result(1)) }
    }

    @Test("A live source's clock can be counted from the first picture on", arguments: [false, true])
    func live(_ startsAtZero: Bool) async throws {
        let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"), startsAtZero: startsAtZero)
        for index in 0..<3 {
            await sink.remember(index + 1, SourceFrame(frame(index, pts: 500_000 + Int64(index) * 40)))
            try await sink.write(StreamResult(frameID: index + 1))
        }
        try await sink.finish()
        #expect(try milliseconds(read()) == (0..<3).map { (startsAtZero ? 0 : 500_000) + $0 * 40 })
    }

    @Test("A picture that is none, of another size or of another kind is an error with a sentence")
    func errors() async throws {
        let unit = try VideoStreamEncoder().encode(frame(0)).bytes
        let jpeg = try JPEGCodec().encode(frame(0), quality: 80)
        let large = try JPEGCodec().encode(frame(0, width: 128, height: 96), quality: 80)
        func picture(_ id: Int, _ encoding: Answer.Image.Encoding, _ bytes: [UInt8]) -> StreamResult {
            var result = result(id)
            result.image = image(frame(0), encoding, bytes)
            return result
        }
        let cases: [(StreamResult?, StreamResult)] = [
            (nil, picture(1, .jpeg, [1, 2, 3])), (nil, picture(1, .h264, [1, 2, 3])), (nil, picture(1, .png, jpeg)),
            (picture(1, .jpeg, jpeg), picture(2, .h264, unit)), (picture(1, .h264, unit), picture(2, .jpeg, jpeg)),
            (picture(1, .jpeg, jpeg), picture(2, .jpeg, large)), (picture(2, .jpeg, jpeg), picture(2, .jpeg, jpeg)),
        ]
        for (first, second) in cases {
            let sink = try AnnotatedVideoSink(path: workshop.path("out.mp4"))
            if let first { try await sink.write(first) }
            await #expect(throws: OutputError.self) { try await sink.write(second) }
            try await sink.finish()
        }
    }
}
