import Foundation
import Media
import Testing

@Suite struct VideoStreamEncoderTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    @Test("Every frame gives one access unit at once, with threads and without", arguments: [1, 2, 0], [PixelFormat.bgr24, .i420, .nv12])
    func oneInOneOut(threads: Int, format: PixelFormat) throws {
        let encoder = try VideoStreamEncoder(configuration: .init(keyFrameInterval: 8, threads: threads))
        var stream: [UInt8] = []
        var keys: [Int] = []
        for index in 0..<20 {
            let unit = try encoder.encode(moving(index, format, width: 96, height: 64))
            if unit.isKeyFrame { keys.append(index) }
            // in-band parameter sets exactly on key frames
            #expect(unitTypes(unit.bytes).contains(7) == unit.isKeyFrame)
            #expect(unitTypes(unit.bytes).contains(8) == unit.isKeyFrame)
            stream += unit.bytes
        }
        #expect(keys == [0, 8, 16])
        let frames = try allFrames(try workshop.write(stream, as: "stream.h264"))
        #expect(frames.count == 20)
        for (index, frame) in frames.enumerated() {
            let sent = try PixelConverter().convert(moving(index, format, width: 96, height: 64), to: .bgr24)
            #expect(meanDifference(try PixelConverter().convert(frame, to: .bgr24), sent) < 6)
        }
    }

    @Test("Another size begins with a key frame, and decoders follow")
    func sizeChange() throws {
        let encoder = try VideoStreamEncoder()
        var stream: [UInt8] = []
        var keys: [Int] = []
        let sizes = [(64, 48), (64, 48), (33, 17), (33, 17), (128, 96), (64, 48), (64, 48)]
        for (index, (width, height)) in sizes.enumerated() {
            let unit = try encoder.encode(moving(index, width: width, height: height))
            if unit.isKeyFrame { keys.append(index) }
            #expect((unit.width, unit.height) == ((width + 1) / 2 * 2, (height + 1) / 2 * 2))
            stream += unit.bytes
        }
        #expect(keys == [0, 2, 4, 5])
        let frames = try allFrames(try workshop.write(stream, as: "sizes.h264"))
        #expect(frames.map(\.width) == sizes.map { ($0.0 + 1) / 2 * 2 })
    }

    @Test("A key frame can be asked for")
    func forced() throws {
        let encoder = try VideoStreamEncoder()
        let keys = try (0..<10).map { try encoder.encode(moving($0, width: 64, height: 48), asKeyFrame: $0 == 5).isKeyFrame }
        #expect(keys == (0..<10).map { $0 == 0 || $0 == 5 })
    }

    @Test("Quality decides how many bytes there are")
    func quality() throws {
        let sizes = try [15, 30, 45].map { quality in
            let encoder = try VideoStreamEncoder(configuration: .init(quality: quality))
            return try (0..<5).reduce(0) { try $0 + encoder.encode(moving($1, width: 320, height: 240)).bytes.count }
        }
        #expect(sizes[0] > sizes[1] && sizes[1] > sizes[2], "\(sizes)")
    }

    @Test("What cannot be is an error with a sentence")
    func misuse() {
        for configuration in [
            VideoStreamEncoder.Configuration(quality: 0), .init(quality: 52), .init(keyFrameInterval: 0), .init(frameRate: 0), .init(frameRate: .nan),
        ] {
            #expect(throws: MediaError.self) { try VideoStreamEncoder(configuration: configuration) }
        }
        #expect(MediaError.missingEncoder(name: "libx264").description == "FFmpeg has no encoder libx264 here")
    }
}

@Suite struct EncodedVideoWriterTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    private func units(_ count: Int, keyFrameInterval: Int = 10, size: (Int) -> (Int, Int) = { _ in (64, 48) }) throws -> [VideoStreamEncoder.AccessUnit] {
        let encoder = try VideoStreamEncoder(configuration: .init(keyFrameInterval: keyFrameInterval))
        return try (0..<count).map { try encoder.encode(moving($0, width: size($0).0, height: size($0).1)) }
    }

    private func write(
        _ units: [VideoStreamEncoder.AccessUnit], as name: String, times: [Int64], timeBase: TimeBase, lastDuration: Int64? = nil
    ) throws -> String {
        let path = workshop.path(name)
        let writer = try EncodedVideoWriter(path: path)
        for (unit, time) in zip(units, times) {
            _ = try unit.bytes.withUnsafeBytes { try writer.write($0, pts: time, timeBase: timeBase, duration: lastDuration) }
        }
        try writer.finish()
        #expect(writer.unitsWritten + writer.unitsSkipped == units.count)
        return path
    }

    @Test(
        "Every unit is in the file with its time, whatever the time base", arguments: ["out.mp4", "out.mkv", "out.mov"],
        [TimeBase(1, 1000), TimeBase(1, 25), TimeBase(1001, 30_000), TimeBase(1, 90_000), .microseconds, TimeBase(1, 1_000_000_000)])
    func times(_ name: String, _ timeBase: TimeBase) throws {
        // 40 ms apart, with gaps, from 1 s on
        let steps: [Int64] = [25, 26, 27, 30, 31, 32, 60, 61, 62, 63, 200, 201, 202]
        let perStep = Int64((0.04 / timeBase.seconds).rounded())
        let times = steps.map { $0 * max(1, perStep) }
        let path = try write(try units(times.count), as: name, times: times, timeBase: timeBase)
        let packets = try workshop.probe(path, "packet=pts_time,duration_time,flags", "packets")
        #expect(packets.count == times.count)
        for (packet, time) in zip(packets, times) {
            let seconds = Double(packet["pts_time"] ?? "") ?? -1
            #expect(abs(seconds - Double(time) * timeBase.seconds) < 0.0011, "\(packet)")
        }
        #expect(packets.map { $0["flags"]?.hasPrefix("K") == true } == times.indices.map { $0 % 10 == 0 })
        // decoded by the program, and by us
        let frames = try allFrames(path)
        #expect(frames.count == times.count)
        #expect(zip(frames, times).allSatisfy { abs($0.seconds - Double($1) * timeBase.seconds) < 0.0011 })
        let length = try #require(Double(try workshop.probe(path, "format=duration", "format").first?["duration"] ?? ""))
        let expected = Double(times[times.count - 1] + max(1, perStep)) * timeBase.seconds
        #expect(abs(length - expected) < 0.05 || abs(length - (expected - Double(times[0]) * timeBase.seconds)) < 0.05, "\(length) \(expected)")
    }

    @Test("The pictures are those of the stream, to the byte")
    func pictures() throws {
        let units = try units(30)
        let raw = try allFrames(try workshop.write(units.flatMap(\.bytes), as: "raw.h264"))
        for name in ["same.mp4", "same.mkv"] {
            let path = try write(units, as: name, times: units.indices.map { Int64($0) * 40 }, timeBase: TimeBase(1, 1000))
            let frames = try allFrames(path)
            #expect(frames.map { bytes(of: $0) } == raw.map { bytes(of: $0) })
            try workshop.ffmpeg("-xerror", "-i", path, "-f", "null", "-")
        }
    }

    @Test("The last unit lasts as long as it says, or as long as the one before")
    func lastDuration() throws {
        for (said, expected) in [(nil, 0.12), (200, 0.28)] as [(Int64?, Double)] {
            let path = try write(try units(3), as: "last.mp4", times: [0, 40, 80], timeBase: TimeBase(1, 1000), lastDuration: said)
            let length = try #require(Double(try workshop.probe(path, "format=duration", "format").first?["duration"] ?? ""))
            #expect(abs(length - expected) < 0.002)
        }
        let single = try write(try units(1), as: "one.mp4", times: [0], timeBase: TimeBase(1, 1000))
        #expect(try workshop.probe(single, "format=duration", "format").first?["duration"] == "0.040000")
    }

    @Test("The file begins with the first key frame")
    func beginning() throws {
        let units = try units(30)
        let path = try write(Array(units.dropFirst(4)), as: "late.mp4", times: (4..<30).map { $0 * 40 }, timeBase: TimeBase(1, 1000))
        let frames = try allFrames(path)
        #expect(frames.count == 20)
        #expect(frames.first.map { Int(($0.seconds * 1000).rounded()) } == 400)
    }

    @Test("Pictures of another size are carried", arguments: ["sizes.mp4", "sizes.mkv"])
    func sizes(_ name: String) throws {
        let units = try units(12) { $0 < 4 ? (64, 48) : $0 < 8 ? (128, 96) : (32, 32) }
        let path = try write(units, as: name, times: units.indices.map { Int64($0) * 40 }, timeBase: TimeBase(1, 1000))
        let widths = [Int](repeating: 64, count: 4) + [Int](repeating: 128, count: 4) + [Int](repeating: 32, count: 4)
        #expect(try allFrames(path).map(\.width) == widths)
        #expect(try workshop.probe(path, "frame=width", "frames").map { $0["width"] } == widths.map { String($0) })
    }

    @Test("Nothing is complete before the end, and a file without a key frame stays empty")
    func incomplete() throws {
        let units = try units(5)
        let path = workshop.path("half.mp4")
        var writer: EncodedVideoWriter? = try EncodedVideoWriter(path: path)
        for (index, unit) in units.enumerated() {
            _ = try unit.bytes.withUnsafeBytes { try writer?.write($0, pts: Int64(index), timeBase: TimeBase(1, 25)) }
        }
        writer = nil
        #expect(throws: MediaError.self) { try VideoFileReader(path: path) }

        let empty = try EncodedVideoWriter(path: path)
        #expect(try units[1].bytes.withUnsafeBytes { try empty.write($0, pts: 0, timeBase: TimeBase(1, 25)) } == false)
        try empty.finish()
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)).isEmpty)
        #expect(throws: MediaError.self) { try units[0].bytes.withUnsafeBytes { try empty.write($0, pts: 0, timeBase: TimeBase(1, 25)) } }
    }

    @Test("Times that do not grow, bytes that are no picture and paths that cannot be written are errors")
    func misuse() throws {
        let units = try units(3)
        let writer = try EncodedVideoWriter(path: workshop.path("errors.mp4"))
        func write(_ bytes: [UInt8], _ pts: Int64, _ timeBase: TimeBase = TimeBase(1, 25)) throws {
            try bytes.withUnsafeBytes { _ = try writer.write($0, pts: pts, timeBase: timeBase) }
        }
        let zeros = [UInt8](repeating: 0, count: 1000)
        let broken: [UInt8] = [0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 4, 5]
        for bytes in [[], [1], [0, 0, 1], [0, 0, 0, 1, 9], zeros, broken] as [[UInt8]] {
            #expect(throws: MediaError.self) { try write(bytes, 0) }
        }
        try write(units[0].bytes, 5)
        #expect(throws: MediaError.self) { try write(units[1].bytes, 5) }
        #expect(throws: MediaError.self) { try write(units[1].bytes, 4) }
        #expect(throws: MediaError.self) { try write(units[1].bytes, 6, TimeBase(0, 1)) }
        #expect(throws: MediaError.self) { try write(units[1].bytes, .min) }
        try write(units[1].bytes, 6)
        try writer.finish()
        try writer.finish()
        #expect(throws: MediaError.self) { try EncodedVideoWriter(path: "/nowhere/at/all.mp4") }
        #expect(throws: MediaError.self) { try EncodedVideoWriter(path: workshop.folder.path) }
        #expect(try allFrames(workshop.path("errors.mp4")).count == 2)
    }

    @Test("Damaged units end in an error or a file, never otherwise", arguments: 0..<8 as Range<UInt64>)
    func damaged(seed: UInt64) throws {
        var dice = Dice(seed: seed)
        let writer = try EncodedVideoWriter(path: workshop.path("damaged.mp4"))
        for (index, unit) in try units(30, keyFrameInterval: 3).enumerated() {
            var bytes = unit.bytes
            for _ in 0..<dice.roll(4) { bytes[dice.roll(min(bytes.count, 60))] = UInt8(truncatingIfNeeded: dice.roll(256)) }
            if dice.roll(5) == 0 { bytes = Array(bytes.prefix(dice.roll(bytes.count))) }
            do {
                _ = try bytes.withUnsafeBytes { try writer.write($0, pts: Int64(index), timeBase: TimeBase(1, 25)) }
            } catch {
                #expect(error is MediaError)
            }
        }
        do { try writer.finish() } catch { #expect(error as MediaError? != nil) }
    }
}

/// A square that moves over a gradient.
func moving(_ index: Int, _ format: PixelFormat = .bgr24, width: Int, height: Int) -> VideoFrame {
    let base = gradient(.bgr24, width: width, height: height)
    let frame = VideoFrame(.bgr24, width: width, height: height, pts: Int64(index), timeBase: TimeBase(1, 25)) { pixels in
        base.withUnsafeBytes { pixels.copyMemory(from: $0) }
        for row in height / 4..<height / 2 {
            for column in 0..<width / 4 {
                let place = 3 * (row * width + (column + index * 2) % width)
                for channel in 0..<3 { pixels[place + channel] = UInt8(30 + 60 * channel) }
            }
        }
    }
    return (try? PixelConverter().convert(frame, to: format, colour: .video)) ?? frame
}

/// The types of the NAL units in a byte stream.
func unitTypes(_ bytes: [UInt8]) -> [UInt8] {
    var types: [UInt8] = []
    for index in 3..<max(3, bytes.count) where bytes[index - 3..<index].elementsEqual([0, 0, 1]) { types.append(bytes[index] & 0x1F) }
    return types
}

extension Workshop {
    /// What the `ffprobe` program says: one dictionary for each packet, frame or file.
    func probe(_ path: String, _ entries: String, _ section: String) throws -> [[String: String]] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", entries, "-of", "json", path]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        let object = try JSONSerialization.jsonObject(with: data) as? [String: Any]
        let items = (object?[section] as? [[String: Any]]) ?? (object?[section] as? [String: Any]).map { [$0] } ?? []
        return items.map { $0.mapValues { "\($0)" } }
    }
}
