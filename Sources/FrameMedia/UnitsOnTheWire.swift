package import FrameTransport
package import Media
import NIOCore

// What Media calls a thing and what the wire calls it: the one place where the two meet, for both ends.

extension CodecConfiguration {
    package init(_ parameters: CodecParameters) {
        self.init(
            codec: parameters.codec, width: UInt16(clamping: parameters.width), height: UInt16(clamping: parameters.height),
            extradata: ByteBuffer(bytes: parameters.extradata))
        tag = parameters.tag
        profile = parameters.profile
        level = parameters.level
        details = parameters.packedDetails
    }
}

extension CodecParameters {
    package init(_ configuration: CodecConfiguration) {
        self.init(
            codec: configuration.codec, width: Int(configuration.width), height: Int(configuration.height), tag: configuration.tag,
            profile: configuration.profile, level: configuration.level, extradata: Array(configuration.extradata.readableBytesView))
        packedDetails = configuration.details
    }
}

extension FrameInfo {
    /// An access unit's times, marks and stream facts.
    package mutating func take(_ unit: UnitFacts, _ stream: StreamFacts) {
        pts = unit.pts
        dts = unit.dts
        duration = UInt32(clamping: unit.duration)
        timeBase = FrameTransport.TimeBase(stream.timeBase)
        if unit.isKeyframe { flags.insert(.keyframe) }
        if unit.isDiscard { flags.insert(.discard) }
        if unit.isCorrupt { flags.insert(.corrupt) }
        // upright where the container says nothing: then the pictures may say something, and the decoder listens
        if let turned = stream.orientation {
            orientation = FrameTransport.Orientation(turned)
        }
        color = ColorInfo(
            range: ColorInfo.Range(rawValue: stream.colour.range) ?? .unspecified, matrix: stream.colour.matrix, primaries: stream.colour.primaries,
            transfer: stream.colour.transfer)
        sampleAspectRatio = FrameTransport.SampleAspectRatio(
            numerator: stream.sampleAspectRatio.numerator, denominator: stream.sampleAspectRatio.denominator)
    }

    package var unitFacts: UnitFacts {
        UnitFacts(
            pts: pts, dts: dts, duration: Int64(duration), isKeyframe: flags.contains(.keyframe), isDiscard: flags.contains(.discard),
            isCorrupt: flags.contains(.corrupt))
    }

    package var streamFacts: StreamFacts {
        StreamFacts(
            timeBase: Media.TimeBase(timeBase), orientation: orientation == .up ? nil : Media.Orientation(orientation),
            colour: CodedColour(range: color.range.rawValue, matrix: color.matrix, primaries: color.primaries, transfer: color.transfer),
            sampleAspectRatio: Media.SampleAspectRatio(sampleAspectRatio.numerator, sampleAspectRatio.denominator))
    }
}

extension FrameTransport.TimeBase {
    package init(_ base: Media.TimeBase) {
        self.init(numerator: UInt32(clamping: max(1, base.numerator)), denominator: UInt32(clamping: max(1, base.denominator)))
    }
}

extension Media.TimeBase {
    package init(_ base: FrameTransport.TimeBase) { self.init(Int32(clamping: base.numerator), Int32(clamping: base.denominator)) }
}

extension FrameTransport.Orientation {
    package init(_ orientation: Media.Orientation) { self = Self(rawValue: UInt8(clamping: orientation.exif)) ?? .up }
}

extension Media.Orientation {
    package init(_ orientation: FrameTransport.Orientation) { self = Self(exif: Int(orientation.rawValue)) ?? .upright }
}
