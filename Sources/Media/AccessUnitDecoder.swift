import CFFmpeg

/// Decodes the access units that `PacketReader` gives, here or at the other end of a network: units and parameters may come from a stranger.
/// One thread at a time.
///
/// Pictures come out in the order of presentation, each with the id of the unit that it came from, upright, in the unit's time. A unit gives
/// one picture, or none (hidden, cut, one field of two, damaged); a strange one may hold more (`isExtra`).
package final class AccessUnitDecoder {
    package struct Configuration: Sendable {
        /// What frames are handed out as; nil: `bgr24` for sources made of RGB, `i420` or `nv12` for all others, whichever costs less.
        package var format: PixelFormat?
        /// Decoder threads; 0: as many as there are cores.
        package var threads: Int
        package var pixelLimit: Int
        /// A picture is handed out as soon as the codec allows it: threads share a picture, never work on several.
        package var lowDelay: Bool
        /// Whatever FFmpeg decodes, not only what strangers may name.
        package var anyCodec: Bool

        package init(
            format: PixelFormat? = nil, threads: Int = 0, pixelLimit: Int = VideoFrame.defaultPixelLimit, lowDelay: Bool = false, anyCodec: Bool = false
        ) {
            self.format = format
            self.threads = threads
            self.pixelLimit = pixelLimit
            self.lowDelay = lowDelay
            self.anyCodec = anyCodec
        }
    }

    package struct Picture: Sendable {
        /// Of the unit.
        package var id: Int
        package var frame: VideoFrame
        /// The decoder had to make up parts of it.
        package var isConcealed: Bool
        /// Its unit has had a picture before.
        package var isExtra: Bool
    }

    package struct Output: Sendable {
        package var pictures: [Picture] = []
        /// Units that were not understood. Exact while pictures are decoded one at a time (`lowDelay`, one thread); with several threads the
        /// units of the last ones may be mistaken for one another when the stream ends.
        package var refused: [(id: Int, reason: String)] = []

        package init() {}
    }

    /// Of the units to come. Colour is looked at when a decoder starts.
    package var facts: StreamFacts
    package private(set) var parameters: CodecParameters
    /// Pictures that came later than `maximumDelay` says and were left out, so that it holds: only nonsense does that.
    package private(set) var strayPictures = 0

    private let configuration: Configuration
    private let pictures: PictureCopier
    private let packet: PacketBox
    private var decoder: RunningDecoder
    private var pending = PendingUnits()
    private var clock = PresentationClock()
    private var attached: CodecParameters?

    package init(_ parameters: CodecParameters, facts: StreamFacts, configuration: Configuration = Configuration()) throws(MediaError) {
        FFmpeg.quiet
        self.parameters = parameters
        self.facts = facts
        self.configuration = configuration
        pictures = PictureCopier(format: configuration.format)
        packet = try PacketBox()
        decoder = try RunningDecoder(parameters, facts, configuration)
        if !parameters.palette.isEmpty { attached = parameters }
    }

    /// How many further units a unit may wait for its picture: when that many came after it and it has none, it will never have one.
    package var maximumDelay: Int { decoder.maximumDelay }

    /// Hands a unit in and what is ready out. Throws only where the new parameters are of no use; the unit is then lost, and those after it
    /// need other parameters.
    /// - Parameters:
    ///   - id: comes back with the picture.
    ///   - parameters: from this unit on; nil: as before.
    package func decode(_ bytes: UnsafeRawBufferPointer, _ unit: UnitFacts, id: Int, parameters: CodecParameters? = nil) throws(MediaError) -> Output {
        var output = Output()
        if let parameters, parameters != self.parameters { try change(to: parameters, &output) }
        guard let source = bytes.baseAddress, bytes.count > 0 else { return output }
        guard bytes.count <= Int(Int32.max) - 1024, av_new_packet(packet.packet, Int32(bytes.count)) == 0, let target = packet.packet.pointee.data else {
            output.refused.append((id, "it is too long"))
            return output
        }
        defer { av_packet_unref(packet.packet) }
        UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: bytes.count)
        let tag = pending.add(PendingUnit(id: id, facts: unit, timeBase: facts.timeBase, orientation: facts.orientation), keeping: maximumDelay)
        packet.packet.pointee.pts = tag
        packet.packet.pointee.dts = unit.dts ?? FFmpeg.noPTS
        packet.packet.pointee.duration = unit.duration
        packet.packet.pointee.flags = (unit.isKeyframe ? AV_PKT_FLAG_KEY : 0) | (unit.isCorrupt ? AV_PKT_FLAG_CORRUPT : 0)
        attach()

        let code = decoder.send(packet.packet)
        // whatever was held back is older than the unit that an error is about
        if code < 0, code != FFmpeg.again { refuse(pending.id(behind: decoder.threadDelay), code, &output) }
        receive(&output)
        return output
    }

    package func decode(_ unit: AccessUnit, id: Int) throws(MediaError) -> Output {
        try unit.bytes.span.bytes.withUnsafeBytes { (bytes) throws(MediaError) in
            try decode(bytes, unit.facts, id: id, parameters: unit.parameters)
        }
    }

    /// The pictures that are still held back. Decoding may then go on at a keyframe.
    package func flush() -> Output {
        var output = Output()
        decoder.drain()
        receive(&output)
        decoder.reset()
        pending.removeAll()
        return output
    }

    private func change(to parameters: CodecParameters, _ output: inout Output) throws(MediaError) {
        let old = self.parameters
        if decoder.takesExtradata, old.codec == parameters.codec, NALUnits.lengthSize(avcC: old.extradata) == NALUnits.lengthSize(avcC: parameters.extradata) {
            attached = parameters
        } else if old.onlyPaletteDiffers(from: parameters) {
            attached = parameters
        } else {
            // the new decoder first: if there is none, the old one's pictures are not lost
            let next = try RunningDecoder(parameters, facts, configuration)
            output = flush()
            decoder = next
            attached = parameters.palette.isEmpty ? nil : parameters
        }
        self.parameters = parameters
    }

    /// Parameters that changed travel with the first packet that needs them.
    private func attach() {
        guard let parameters = attached else { return }
        attached = nil
        if decoder.takesExtradata, !parameters.extradata.isEmpty { _ = packet.addSideData(AV_PKT_DATA_NEW_EXTRADATA, parameters.extradata) }
        if !parameters.palette.isEmpty { _ = packet.addSideData(AV_PKT_DATA_PALETTE, parameters.palette) }
    }

    private func receive(_ output: inout Output) {
        // a decoder has no more pictures than this; the bound is for one that repeats an error for ever
        for _ in 0..<decoder.maximumDelay + 64 {
            let code = decoder.receive()
            if code == 0 {
                take(decoder.frame.pointee, &output)
            } else if code == FFmpeg.again || code == FFmpeg.endOfFile {
                return
            } else {
                refuse(decoder.isDraining ? pending.oldestWithoutPicture : pending.id(behind: decoder.threadDelay), code, &output)
            }
        }
    }

    private func refuse(_ id: Int?, _ code: Int32, _ output: inout Output) {
        if let id { output.refused.append((id, FFmpeg.message(code))) }
    }

    private func take(_ picture: AVFrame, _ output: inout Output) {
        guard let unit = pending.take(tag: picture.pts, within: maximumDelay) else {
            strayPictures += 1
            return
        }
        if unit.facts.isDiscard {
            // in a stream without times it takes its time nevertheless
            if unit.facts.pts == nil, picture.pkt_dts == FFmpeg.noPTS { _ = clock.time(of: unit.facts, decodedAt: nil) }
            return
        }
        do throws(MediaError) {
            try checkSize(Int(picture.width), Int(picture.height), limit: configuration.pixelLimit)
            var frame = try pictures.upright(picture, declared: unit.orientation)
            frame.timeBase = unit.timeBase
            frame.pts = clock.time(of: unit.facts, decodedAt: picture.pkt_dts == FFmpeg.noPTS ? nil : picture.pkt_dts)
            let isConcealed = picture.decode_error_flags != 0 || picture.flags & AV_FRAME_FLAG_CORRUPT != 0
            output.pictures.append(Picture(id: unit.id, frame: frame, isConcealed: isConcealed, isExtra: unit.hasPicture))
        } catch {
            output.refused.append((unit.id, error.description))
        }
    }
}

extension CodecParameters {
    fileprivate func onlyPaletteDiffers(from other: CodecParameters) -> Bool {
        var copy = other
        copy.palette = palette
        return copy == self && !other.palette.isEmpty
    }
}
