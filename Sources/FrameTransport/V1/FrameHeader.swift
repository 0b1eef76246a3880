package import NIOCore

/// The first message of a frame: all that is known about it, then its first bytes (docs/protocol.md, "Frame").
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |  kind = 0x10  | words (= 22)  |              job              |   0
///     +---------------+---------------+-------------------------------+
///     |                 length: bytes of the payload                  |   4
///     +---------------------------------------------------------------+
///     |                              id                               |   8
///     |                                                               |
///     +---------------------------------------------------------------+
///     |               pts (-2^63: none), in the time base             |  16
///     |                                                               |
///     +---------------------------------------------------------------+
///     |               dts (-2^63: none), in the time base             |  24
///     |                                                               |
///     +---------------------------------------------------------------+
///     |     capture time (-2^63: none), microseconds since 1970       |  32
///     |                                                               |
///     +---------------------------------------------------------------+
///     |                     time base, numerator                      |  40
///     +---------------------------------------------------------------+
///     |                    time base, denominator                     |  44
///     +---------------------------------------------------------------+
///     |               duration (0: none), in the time base            |  48
///     +-------------------------------+-------------------------------+
///     |             width             |            height             |  52
///     +---------------+---------------+---------------+---------------+
///     |   encoding    | pixel format  |  compression  |     flags     |  56
///     +---------------+---------------+---------------+---------------+
///     |  orientation  |     range     |    matrix     |   primaries   |  60
///     +---------------+---------------+---------------+---------------+
///     |   transfer    |    attempt    |         configuration         |  64
///     +---------------+---------------+-------------------------------+
///     |            length before compression (0: the same)            |  68
///     +---------------------------------------------------------------+
///     |                digest: XXH64 of the payload                   |  72
///     |                                                               |
///     +-------------------------------+-------------------------------+
///     | sample aspect ratio, numerator|          denominator          |  80
///     +-------------------------------+-------------------------------+
///     |          check: low half of XXH64 of all words above          |  84
///     +---------------------------------------------------------------+
///     |                    the payload's first bytes                  |
///
/// `words` counts four bytes each; the check is always the last word, so that later versions may add fields before it.
package struct FrameHeader: Hashable, Sendable {
    package var job: JobNumber = 0
    /// From 1 without gaps.
    package var id = 0
    /// Bytes of the payload, as sent.
    package var length = 0
    package var digest: UInt64 = 0
    /// How often it was sent before.
    package var attempt = 0
    package var info: FrameInfo

    package init(job: JobNumber = 0, id: Int = 0, length: Int = 0, digest: UInt64 = 0, attempt: Int = 0, info: FrameInfo) {
        self.job = job
        self.id = id
        self.length = length
        self.digest = digest
        self.attempt = attempt
        self.info = info
    }

    static let kind: UInt8 = 0x10
    static let byteCount = 88

    package func write(into bytes: inout ByteBuffer) {
        let start = bytes.writerIndex
        bytes.writeMultipleIntegers(Self.kind, UInt8(Self.byteCount / 4), job, UInt32(truncatingIfNeeded: length), UInt64(truncatingIfNeeded: id))
        bytes.writeMultipleIntegers(info.pts ?? .min, info.dts ?? .min, info.captureTime ?? .min)
        bytes.writeMultipleIntegers(info.timeBase.numerator, info.timeBase.denominator, info.duration)
        bytes.writeMultipleIntegers(info.width, info.height)
        bytes.writeMultipleIntegers(info.encoding.rawValue, info.pixelFormat?.rawValue ?? 0, info.compression?.rawValue ?? 0, info.flags.rawValue)
        bytes.writeMultipleIntegers(info.orientation.rawValue, info.color.range.rawValue, info.color.matrix, info.color.primaries)
        bytes.writeMultipleIntegers(info.color.transfer, UInt8(clamping: attempt), info.configuration)
        bytes.writeMultipleIntegers(info.uncompressedLength, digest, info.sampleAspectRatio.numerator, info.sampleAspectRatio.denominator)
        BinaryMessage.appendCheck(from: start, to: &bytes)
    }

    /// Reads the header; what is left in `message` afterwards is the payload's beginning.
    package init(readingFrom message: inout ByteBuffer) throws(BinaryMessageError) {
        var header = try BinaryMessage.header(Self.kind, minimum: Self.byteCount, of: &message)
        guard let (_, _, job, length, id) = header.readMultipleIntegers(as: (UInt8, UInt8, UInt16, UInt32, UInt64).self),
            let (pts, dts, capture) = header.readMultipleIntegers(as: (Int64, Int64, Int64).self),
            let (numerator, denominator, duration, width, height) = header.readMultipleIntegers(as: (UInt32, UInt32, UInt32, UInt16, UInt16).self),
            let (encoding, pixelFormat, compression, flags) = header.readMultipleIntegers(as: (UInt8, UInt8, UInt8, UInt8).self),
            let (orientation, range, matrix, primaries) = header.readMultipleIntegers(as: (UInt8, UInt8, UInt8, UInt8).self),
            let (transfer, attempt, configuration) = header.readMultipleIntegers(as: (UInt8, UInt8, UInt16).self),
            let (uncompressed, digest, aspect, aspectDenominator) = header.readMultipleIntegers(as: (UInt32, UInt64, UInt16, UInt16).self)
        else { throw .truncated }
        guard (1...UInt64(JobLimits.maximumID)).contains(id) else { throw .badField(.id) }
        guard let encoding = PayloadEncoding(rawValue: encoding) else { throw .badField(.encoding) }
        guard numerator > 0, denominator > 0 else { throw .badField(.timeBase) }
        info = FrameInfo(encoding: encoding, width: width, height: height)
        info.pixelFormat = PixelFormat(rawValue: pixelFormat)
        guard pixelFormat == 0 || info.pixelFormat != nil else { throw .badField(.pixelFormat) }
        info.compression = Compression(rawValue: compression)
        guard compression == 0 || info.compression != nil else { throw .badField(.compression) }
        info.pts = pts == .min ? nil : pts
        info.dts = dts == .min ? nil : dts
        info.captureTime = capture == .min ? nil : capture
        info.timeBase = TimeBase(numerator: numerator, denominator: denominator)
        info.duration = duration
        info.flags = FrameFlags(rawValue: flags)
        // 0 and what is not known read as upright, as EXIF readers do
        info.orientation = Orientation(rawValue: orientation) ?? .up
        info.color = ColorInfo(range: ColorInfo.Range(rawValue: range) ?? .unspecified, matrix: matrix, primaries: primaries, transfer: transfer)
        info.configuration = configuration
        info.uncompressedLength = uncompressed
        info.sampleAspectRatio = SampleAspectRatio(numerator: aspect, denominator: aspectDenominator)
        self.job = job
        self.id = Int(id)
        self.length = Int(length)
        self.digest = digest
        self.attempt = Int(attempt)
    }
}

/// What a frame is, beside its bytes.
public struct FrameInfo: Hashable, Sendable {
    /// Presentation time in `timeBase`; nil where the source has none.
    public var pts: Int64?
    /// Decoding time, for access units.
    public var dts: Int64?
    public var timeBase = TimeBase(numerator: 1, denominator: 1_000_000)
    /// In `timeBase`; 0 where it is not known.
    public var duration: UInt32 = 0
    /// Wall clock of the capture, microseconds since 1970; nil for files.
    public var captureTime: Int64?
    public var encoding: PayloadEncoding
    /// Of `raw` payloads.
    public var pixelFormat: PixelFormat?
    /// Of `raw` payloads; done outside of this room.
    public var compression: Compression?
    /// Length of a compressed payload before compression; else 0.
    public var uncompressedLength: UInt32 = 0
    public var flags: FrameFlags = []
    /// Of the coded picture, before `orientation` is applied; 0 where only the decoder knows.
    public var width: UInt16
    public var height: UInt16
    public var orientation: Orientation = .up
    public var color = ColorInfo()
    public var sampleAspectRatio = SampleAspectRatio(numerator: 1, denominator: 1)
    /// Which codec configuration the payload needs; 0 for none.
    public var configuration: UInt16 = 0

    public init(encoding: PayloadEncoding, width: UInt16, height: UInt16) {
        self.encoding = encoding
        self.width = width
        self.height = height
    }

    /// The length that a raw picture of this geometry has when not compressed; nil for other encodings.
    public var rawLength: Int? {
        guard encoding == .raw, let pixelFormat else { return nil }
        let (width, height) = (Int(width), Int(height))
        let chroma = ((width + 1) / 2) * ((height + 1) / 2)
        return switch pixelFormat {
        case .i420, .nv12: width * height + 2 * chroma
        case .bgr24: width * height * 3
        }
    }
}

public enum PayloadEncoding: UInt8, Hashable, Sendable, CaseIterable {
    /// The source's own access units, with codec configurations beside them.
    case source = 0
    case jpeg = 1
    case png = 2
    case raw = 3

    /// As control messages name it.
    public var name: String {
        switch self {
        case .source: "source"
        case .jpeg: "jpeg"
        case .png: "png"
        case .raw: "raw"
        }
    }

    public init?(name: String) {
        guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = match
    }
}

/// Planes without padding between rows, top row first.
public enum PixelFormat: UInt8, Hashable, Sendable, CaseIterable {
    case i420 = 1
    case nv12 = 2
    case bgr24 = 3
}

public enum Compression: UInt8, Hashable, Sendable, CaseIterable {
    /// One LZ4 block.
    case lz4 = 1
    /// One Zstandard frame.
    case zstd = 2

    public var name: String { self == .lz4 ? "lz4" : "zstd" }

    public init?(name: String) {
        guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = match
    }
}

public struct FrameFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Decoding may begin here.
    public static let keyframe = FrameFlags(rawValue: 1)
    /// To be decoded, since others refer to it, but not shown (an edit list cut it away).
    public static let discard = FrameFlags(rawValue: 2)
    /// The source itself says that the unit is damaged.
    public static let corrupt = FrameFlags(rawValue: 4)
}

/// The eight orientations of EXIF (TIFF tag 274): what was done to the picture before it was stored.
public enum Orientation: UInt8, Hashable, Sendable, CaseIterable {
    case up = 1
    case mirrored
    case down
    case downMirrored
    case leftMirrored
    /// To be turned by 90° clockwise.
    case right
    case rightMirrored
    /// To be turned by 90° counterclockwise.
    case left
}

/// Colour as ITU-T H.273 numbers it; 2 is "unspecified".
public struct ColorInfo: Hashable, Sendable {
    public enum Range: UInt8, Hashable, Sendable {
        case unspecified
        case limited
        case full
    }

    public var range: Range
    public var matrix: UInt8
    public var primaries: UInt8
    public var transfer: UInt8

    public init(range: Range = .unspecified, matrix: UInt8 = 2, primaries: UInt8 = 2, transfer: UInt8 = 2) {
        self.range = range
        self.matrix = matrix
        self.primaries = primaries
        self.transfer = transfer
    }
}

/// Seconds per tick.
public struct TimeBase: Hashable, Sendable {
    public var numerator: UInt32
    public var denominator: UInt32

    public init(numerator: UInt32, denominator: UInt32) {
        self.numerator = numerator
        self.denominator = denominator
    }
}

public struct SampleAspectRatio: Hashable, Sendable {
    public var numerator: UInt16
    public var denominator: UInt16

    public init(numerator: UInt16, denominator: UInt16) {
        self.numerator = numerator
        self.denominator = denominator
    }
}
