import Foundation
import Media
import Testing

/// A picture as the ffmpeg program writes it down: when it is shown, how many bytes it has, and their checksum.
struct Shown: Equatable, CustomStringConvertible {
    var pts: Int64
    var size: Int
    var checksum: UInt32
    var description: String { "\(pts):\(size):\(String(checksum, radix: 16))" }

    init(pts: Int64, size: Int, checksum: UInt32) {
        self.pts = pts
        self.size = size
        self.checksum = checksum
    }

    init(_ frame: VideoFrame) {
        self.init(pts: frame.pts, size: frame.byteCount, checksum: frame.withUnsafeBytes { adler($0) })
    }
}

/// Adler-32 from 0, as FFmpeg's framecrc has it.
private func adler(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var (a, b): (UInt32, UInt32) = (0, 0)
    var place = 0
    while place < bytes.count {
        let end = min(place + 3800, bytes.count)
        while place < end {
            a &+= UInt32(bytes[place])
            b &+= a
            place += 1
        }
        a %= 65_521
        b %= 65_521
    }
    return b << 16 | a
}

/// The first place where two sequences differ, in words; nil where they are the same. Shorter to read than both of them.
func firstDifference(_ mine: [Shown], _ judges: [Shown]) -> String? {
    for (index, (one, other)) in zip(mine, judges).enumerated() where one != other { return "picture \(index): \(one) instead of \(other)" }
    return mine.count == judges.count ? nil : "\(mine.count) pictures instead of \(judges.count)"
}

extension Workshop {
    /// What the ffmpeg program shows of a file: the judge.
    func judge(_ path: String, format: String? = nil, after: [String] = []) throws -> [Shown] {
        let conversion = format.map { ["-sws_flags", "bilinear+accurate_rnd+full_chroma_int+full_chroma_inp", "-pix_fmt", $0] } ?? []
        let text = try output(
            ["-copyts", "-i", path, "-map", "0:v:0", "-vsync", "passthrough", "-enc_time_base", "-1"] + after + conversion + ["-f", "framecrc", "-"])
        return String(decoding: text, as: UTF8.self).split(separator: "\n").compactMap { line in
            let fields = line.split(separator: ",").map { $0.drop { $0 == " " } }
            guard fields.count >= 6, let pts = Int64(fields[2]), let size = Int(fields[4]), let sum = UInt32(fields[5].dropFirst(2), radix: 16) else {
                return nil
            }
            return Shown(pts: pts, size: size, checksum: sum)
        }
    }

    func output(_ arguments: [String]) throws -> Data {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ffmpeg", "-nostdin", "-v", "error", "-y"] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "ffmpeg \(arguments.joined(separator: " ")) failed")
        return data
    }

    /// 160x120, 25 pictures a second.
    func make(_ name: String, seconds: Double = 1.6, size: String = "160x120", _ arguments: [String]) throws -> String {
        let path = path(name)
        try run(["-f", "lavfi", "-i", "testsrc2=size=\(size):rate=25:duration=\(seconds)"] + arguments + [path])
        return path
    }
}

func allUnits(_ path: String, start: Double? = nil, end: Double? = nil) throws -> (reader: PacketReader, units: [AccessUnit]) {
    let reader = try PacketReader(.file(path), options: .init(start: start, end: end))
    var units: [AccessUnit] = []
    while let unit = try reader.next() { units.append(unit) }
    return (reader, units)
}

/// Sends units from a reader to a decoder with nothing but what a wire carries between the two.
struct Crossing {
    var pictures: [AccessUnitDecoder.Picture] = []
    var refused: [(id: Int, reason: String)] = []
    var units: [AccessUnit] = []
    /// After which unit (numbered from 1) a unit's picture came; the number of units for those at the end.
    var cameAfter: [Int: Int] = [:]
    var maximumDelay = 0
    var strays = 0

    var shown: [Shown] { pictures.map { Shown($0.frame) } }

    init(_ location: MediaLocation, options: PacketReader.Options = .init(), _ configuration: AccessUnitDecoder.Configuration = .init()) throws {
        let reader = try PacketReader(location, options: options)
        var decoder: AccessUnitDecoder?
        var number = 0
        var id = 0
        while let unit = try reader.next() {
            id += 1
            units.append(unit)
            let parameters = Self.carried(unit.parameters)
            if decoder == nil { decoder = try AccessUnitDecoder(parameters, facts: reader.facts, configuration: configuration) }
            let isNew = unit.configuration != number
            number = unit.configuration
            guard let decoder else { continue }
            let output = try unit.bytes.withUnsafeBytes { try decoder.decode($0, unit.facts, id: id, parameters: isNew ? parameters : nil) }
            take(output, after: id)
            maximumDelay = max(maximumDelay, decoder.maximumDelay)
        }
        if let decoder { take(decoder.flush(), after: id) }
        strays = decoder?.strayPictures ?? 0
    }

    private mutating func take(_ output: AccessUnitDecoder.Output, after id: Int) {
        for picture in output.pictures { cameAfter[picture.id] = id }
        pictures += output.pictures
        refused += output.refused
    }

    /// Through the fields of the protocol's message and back.
    private static func carried(_ parameters: CodecParameters) -> CodecParameters {
        var copy = CodecParameters(
            codec: parameters.codec, width: parameters.width, height: parameters.height, tag: parameters.tag, profile: parameters.profile,
            level: parameters.level, extradata: parameters.extradata, palette: parameters.palette)
        copy.packedDetails = parameters.packedDetails
        return copy
    }
}
