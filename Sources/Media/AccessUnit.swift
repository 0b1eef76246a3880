/// What a decoder eats at once, as the container had it.
package struct AccessUnit: Sendable {
    package var facts: UnitFacts
    package var bytes: [UInt8]
    /// How to decode it; shares memory with the units before.
    package var parameters: CodecParameters
    /// 1 for the first parameters of a stream, one more for each change: units with the same number need no new parameters.
    package var configuration: Int
}

/// An access unit's times and marks.
package struct UnitFacts: Hashable, Sendable {
    /// When the picture is shown and when the unit is decoded, in the stream's time base; nil where the source does not say.
    package var pts, dts: Int64?
    /// In the stream's time base; 0: not known.
    package var duration: Int64
    /// Decoding may begin here.
    package var isKeyframe: Bool
    /// To be decoded, since others refer to it, but not shown: cut by an edit list or by `start` and `end`.
    package var isDiscard: Bool
    /// The source itself says that it is damaged.
    package var isCorrupt: Bool

    package init(pts: Int64?, dts: Int64?, duration: Int64 = 0, isKeyframe: Bool = false, isDiscard: Bool = false, isCorrupt: Bool = false) {
        self.pts = pts
        self.dts = dts
        self.duration = duration
        self.isKeyframe = isKeyframe
        self.isDiscard = isDiscard
        self.isCorrupt = isCorrupt
    }
}

/// All that a decoder must know before the first unit, and nothing that it can do without.
package struct CodecParameters: Hashable, Sendable {
    /// FFmpeg's name: h264, hevc, vp8, vp9, av1, mjpeg, msmpeg4v3, …
    package var codec: String
    /// Of the coded picture, in pixels; 0: only the decoder knows.
    package var width, height: Int
    /// The container's four-character code, first character lowest; 0: none. Some decoders need it (`rawvideo`: the pixel format).
    package var tag: UInt32
    /// The codec's own numbers; -99: not known.
    package var profile, level: Int32
    package var bitsPerCodedSample: UInt8
    /// How many pictures are held back to bring them in order, where the container or a look at the stream told; many cameras' H.264 does not
    /// say it itself, and a decoder that had to find out would show the first pictures out of order.
    package var reorderDepth: UInt8
    /// FFmpeg's number of the order of fields; 0: not known. Interlaced Motion JPEG needs it.
    package var fieldOrder: UInt8
    /// avcC, hvcC, av1C, …, or parameter sets.
    package var extradata: [UInt8]
    /// 256 colours of 4 bytes for old palette codecs; else empty.
    package var palette: [UInt8]

    package init(
        codec: String, width: Int = 0, height: Int = 0, tag: UInt32 = 0, profile: Int32 = -99, level: Int32 = -99, bitsPerCodedSample: UInt8 = 0,
        reorderDepth: UInt8 = 0, fieldOrder: UInt8 = 0, extradata: [UInt8] = [], palette: [UInt8] = []
    ) {
        self.codec = codec
        self.width = width
        self.height = height
        self.tag = tag
        self.profile = profile
        self.level = level
        self.bitsPerCodedSample = bitsPerCodedSample
        self.reorderDepth = reorderDepth
        self.fieldOrder = fieldOrder
        self.extradata = extradata
        self.palette = palette
    }

    /// `bitsPerCodedSample` (low 8 bits), `reorderDepth` (5 bits) and `fieldOrder` (3 bits) in one number, for a wire.
    package var packedDetails: UInt16 {
        get { UInt16(bitsPerCodedSample) | UInt16(min(reorderDepth, 31)) << 8 | UInt16(min(fieldOrder, 7)) << 13 }
        set {
            bitsPerCodedSample = UInt8(truncatingIfNeeded: newValue)
            reorderDepth = UInt8(truncatingIfNeeded: newValue >> 8 & 31)
            fieldOrder = UInt8(truncatingIfNeeded: newValue >> 13)
        }
    }
}

/// What holds for all units of a stream, beside the decoder's parameters.
package struct StreamFacts: Hashable, Sendable {
    package var timeBase: TimeBase
    /// How pictures must be turned; nil: the container says nothing, the pictures may.
    package var orientation: Orientation?
    /// What the container says; pictures may know better.
    package var colour: CodedColour
    package var sampleAspectRatio: SampleAspectRatio

    package init(
        timeBase: TimeBase, orientation: Orientation? = nil, colour: CodedColour = CodedColour(),
        sampleAspectRatio: SampleAspectRatio = SampleAspectRatio()
    ) {
        self.timeBase = timeBase
        self.orientation = orientation
        self.colour = colour
        self.sampleAspectRatio = sampleAspectRatio
    }
}

/// Colour as ITU-T H.273 numbers it; 2: unspecified. `range`: 0 unspecified, 1 limited, 2 full.
package struct CodedColour: Hashable, Sendable {
    package var range, matrix, primaries, transfer: UInt8

    package init(range: UInt8 = 0, matrix: UInt8 = 2, primaries: UInt8 = 2, transfer: UInt8 = 2) {
        self.range = range
        self.matrix = matrix
        self.primaries = primaries
        self.transfer = transfer
    }
}

/// A pixel's width over its height; 1/1 where nothing is said.
package struct SampleAspectRatio: Hashable, Sendable {
    package var numerator, denominator: UInt16

    package init(_ numerator: UInt16 = 1, _ denominator: UInt16 = 1) {
        self.numerator = numerator
        self.denominator = denominator
    }
}

/// What a source says about itself, before a frame is decoded. Estimates are for progress bars.
package struct VideoInfo: Sendable {
    /// Upright; 0 where only the decoder knows.
    package var width, height: Int
    package var codec: String
    package var container: String
    package var orientation: Orientation
    package var timeBase: TimeBase
    package var averageFrameRate: Double?
    package var seconds: Double?
    package var estimatedFrameCount: Int?
    /// Where the source's clock begins, in seconds; `start` and `end` count from here.
    package var startSeconds: Double = 0
}
