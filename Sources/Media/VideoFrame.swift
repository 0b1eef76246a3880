/// One picture in memory of its own, upright, with its time. A value: the pixels never change once it is made.
package struct VideoFrame: Sendable {
    package let format: PixelFormat
    package let width: Int
    package let height: Int
    package let colour: Colour
    /// When it is shown, counted in `timeBase`.
    package var pts: Int64
    package var timeBase: TimeBase
    package let memory: PixelMemory

    /// Makes a frame whose pixels `fill` writes: all of them, as `planes(of:width:height:)` lays them out.
    package init<Failure: Error>(
        _ format: PixelFormat, width: Int, height: Int, colour: Colour = .jpeg, pts: Int64 = 0, timeBase: TimeBase = .microseconds,
        fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        precondition(width > 0 && height > 0)
        self.format = format
        self.width = width
        self.height = height
        self.colour = colour
        self.pts = pts
        self.timeBase = timeBase
        memory = try PixelMemory(byteCount: format.byteCount(width: width, height: height), fill: fill)
    }

    /// The frame with the given bytes; nil unless there are exactly as many as its geometry needs.
    package init?(
        _ format: PixelFormat, width: Int, height: Int, colour: Colour = .jpeg, pts: Int64 = 0, timeBase: TimeBase = .microseconds, bytes: [UInt8]
    ) {
        guard width > 0, height > 0, width <= Self.maximumSide, height <= Self.maximumSide,
            bytes.count == format.byteCount(width: width, height: height)
        else { return nil }
        self.init(format, width: width, height: height, colour: colour, pts: pts, timeBase: timeBase) { $0.copyBytes(from: bytes) }
    }

    package var planes: [Plane] { format.planes(width: width, height: height) }
    package var byteCount: Int { memory.byteCount }
    /// `pts` in seconds.
    package var seconds: Double { Double(pts) * timeBase.seconds }

    package func withUnsafeBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
        try memory.withUnsafeBytes(body)
    }

    package static let maximumSide = 32_768
    /// What decoders refuse to go beyond unless told otherwise: an 8K picture twice.
    package static let defaultPixelLimit = 2 * 7680 * 4320
}

/// How pixels lie in memory. Rows have no padding; planes follow one another.
package enum PixelFormat: String, Sendable, CaseIterable {
    /// Blue, green, red, 3 bytes a pixel.
    case bgr24
    /// Luma, then Cb, then Cr at half the width and height, rounded up.
    case i420
    /// Luma, then Cb and Cr alternating at half the width and height, rounded up.
    case nv12

    package func planes(width: Int, height: Int) -> [Plane] {
        let (halfWidth, halfHeight) = ((width + 1) / 2, (height + 1) / 2)
        switch self {
        case .bgr24:
            return [Plane(offset: 0, bytesPerRow: 3 * width, rows: height)]
        case .i420:
            return [
                Plane(offset: 0, bytesPerRow: width, rows: height),
                Plane(offset: width * height, bytesPerRow: halfWidth, rows: halfHeight),
                Plane(offset: width * height + halfWidth * halfHeight, bytesPerRow: halfWidth, rows: halfHeight),
            ]
        case .nv12:
            return [
                Plane(offset: 0, bytesPerRow: width, rows: height),
                Plane(offset: width * height, bytesPerRow: 2 * halfWidth, rows: halfHeight),
            ]
        }
    }

    package func byteCount(width: Int, height: Int) -> Int {
        self == .bgr24 ? 3 * width * height : width * height + 2 * ((width + 1) / 2) * ((height + 1) / 2)
    }
}

package struct Plane: Sendable, Equatable {
    package var offset: Int
    package var bytesPerRow: Int
    package var rows: Int
}

/// What luma and chroma numbers mean (ITU-T H.273); of no consequence to `bgr24`.
package struct Colour: Hashable, Sendable {
    package enum Matrix: String, Sendable { case bt601, bt709, bt2020 }
    package enum Range: String, Sendable {
        /// Luma from 16 to 235, chroma from 16 to 240.
        case limited
        case full
    }
    package var matrix: Matrix
    package var range: Range

    package init(_ matrix: Matrix, _ range: Range) {
        self.matrix = matrix
        self.range = range
    }

    /// What JFIF prescribes for every JPEG picture.
    package static let jpeg = Colour(.bt601, .full)
    /// What video means when it says nothing.
    package static let video = Colour(.bt601, .limited)
}

/// A tick in seconds, as a fraction.
package struct TimeBase: Hashable, Sendable {
    package var numerator: Int32
    package var denominator: Int32

    package init(_ numerator: Int32, _ denominator: Int32) {
        self.numerator = numerator
        self.denominator = denominator
    }

    package var seconds: Double { denominator == 0 ? 0 : Double(numerator) / Double(denominator) }
    package static let microseconds = TimeBase(1, 1_000_000)
}

/// Pixels at an address that does not move, written once at birth: an engine may read them while the frame goes on to other threads.
package final class PixelMemory: @unchecked Sendable {
    private let bytes: UnsafeMutableRawBufferPointer
    /// The vector code of the libraries may touch this much behind the last pixel.
    private static let slack = 64

    init<Failure: Error>(byteCount: Int, fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void) throws(Failure) {
        let whole = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount + Self.slack, alignment: 64)
        bytes = UnsafeMutableRawBufferPointer(rebasing: whole[..<byteCount])
        // deinit frees them when `fill` throws, since every stored property is there
        try fill(bytes)
    }

    deinit { bytes.deallocate() }

    package var byteCount: Int { bytes.count }
    /// Valid while this object lives.
    package var unsafeBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(bytes) }

    func withUnsafeBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeRawBufferPointer(bytes))
    }
}
