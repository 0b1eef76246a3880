import Foundation
import Media
import Testing

/// A folder that goes away with its test.
final class Workshop {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("everyframe-media-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    func write(_ bytes: [UInt8], as name: String) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }

    /// Runs the `ffmpeg` program; it is the judge of what we decode.
    @discardableResult
    func ffmpeg(_ arguments: String...) throws -> Data {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ffmpeg", "-nostdin", "-v", "error", "-y"] + arguments
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "ffmpeg \(arguments.joined(separator: " ")) failed; `scripts/setup peers` installs it")
        return data
    }
}

func bytes(of frame: VideoFrame) -> [UInt8] { frame.withUnsafeBytes { Array($0) } }

func allFrames(_ path: String, _ configuration: VideoFileReader.Configuration = .init()) throws -> [VideoFrame] {
    let reader = try VideoFileReader(path: path, configuration: configuration)
    var frames: [VideoFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return frames
}

/// Red, green, blue and white quarters (from the top left, row by row): tells every orientation from every other.
func quarters(width: Int, height: Int, pts: Int64 = 0, timeBase: TimeBase = .microseconds) -> VideoFrame {
    VideoFrame(.bgr24, width: width, height: height, pts: pts, timeBase: timeBase) { pixels in
        for row in 0..<height {
            for column in 0..<width {
                let colour = quarterColours[(row < height / 2 ? 0 : 2) + (column < width / 2 ? 0 : 1)]
                for channel in 0..<3 { pixels[3 * (row * width + column) + channel] = colour[channel] }
            }
        }
    }
}

/// Blue, green, red.
let quarterColours: [[UInt8]] = [[0, 0, 230], [0, 200, 0], [220, 0, 0], [255, 255, 255]]

/// Which of `quarterColours` the middle of each quarter comes nearest to.
func quarterOrder(_ frame: VideoFrame) throws -> [Int] {
    let bgr = try PixelConverter().convert(frame, to: .bgr24)
    return [(1, 1), (3, 1), (1, 3), (3, 3)].map { x, y in
        let pixel = pixel(bgr, x * frame.width / 4, y * frame.height / 4)
        let distances = quarterColours.map { colour in zip(colour, pixel).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) } }
        return distances.indices.min { distances[$0] < distances[$1] } ?? -1
    }
}

func pixel(_ bgr: VideoFrame, _ x: Int, _ y: Int) -> [UInt8] {
    bgr.withUnsafeBytes { bytes in (0..<3).map { bytes[3 * (y * bgr.width + x) + $0] } }
}

func largestDifference(_ a: VideoFrame, _ b: VideoFrame) -> Int {
    zip(bytes(of: a), bytes(of: b)).reduce(0) { max($0, abs(Int($1.0) - Int($1.1))) }
}

func meanDifference(_ a: VideoFrame, _ b: VideoFrame) -> Double {
    let sum = zip(bytes(of: a), bytes(of: b)).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
    return Double(sum) / Double(max(1, a.byteCount))
}

/// A smooth picture, as cameras make them.
func gradient(_ format: PixelFormat = .bgr24, width: Int, height: Int, colour: Colour = .jpeg) -> VideoFrame {
    VideoFrame(format, width: width, height: height, colour: colour) { pixels in
        var offset = 0
        for (index, plane) in format.planes(width: width, height: height).enumerated() {
            for row in 0..<plane.rows {
                for column in 0..<plane.bytesPerRow {
                    pixels[offset] = UInt8(40 + (150 * row / max(1, plane.rows) + 50 * column / max(1, plane.bytesPerRow) + 17 * index) % 180)
                    offset += 1
                }
            }
        }
    }
}

/// Numbers that are the same in every run.
struct Dice {
    var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func roll(_ below: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(max(1, below)))
    }
}
