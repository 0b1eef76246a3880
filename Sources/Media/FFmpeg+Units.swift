import CFFmpeg

extension UnitFacts {
    init(_ packet: AVPacket) {
        self.init(
            pts: packet.pts == FFmpeg.noPTS ? nil : packet.pts, dts: packet.dts == FFmpeg.noPTS ? nil : packet.dts, duration: max(0, packet.duration),
            isKeyframe: packet.flags & AV_PKT_FLAG_KEY != 0, isDiscard: packet.flags & AV_PKT_FLAG_DISCARD != 0,
            isCorrupt: packet.flags & AV_PKT_FLAG_CORRUPT != 0)
    }
}

extension CodecParameters {
    init(_ parameters: AVCodecParameters) {
        var tag = parameters.codec_tag
        // raw pictures of Y4M and of RTP have no code of their own
        if parameters.codec_id == AV_CODEC_ID_RAWVIDEO, tag == 0 { tag = avcodec_pix_fmt_to_codec_tag(AVPixelFormat(rawValue: parameters.format)) }
        self.init(
            codec: String(cString: avcodec_get_name(parameters.codec_id)), width: Int(max(0, parameters.width)), height: Int(max(0, parameters.height)),
            tag: tag, profile: parameters.profile, level: parameters.level, bitsPerCodedSample: UInt8(clamping: parameters.bits_per_coded_sample),
            reorderDepth: UInt8(clamping: parameters.video_delay), fieldOrder: UInt8(clamping: parameters.field_order.rawValue),
            extradata: Array(UnsafeBufferPointer(start: parameters.extradata, count: Int(max(0, parameters.extradata_size)))))
    }

    /// Everything but the extradata.
    func apply(to context: UnsafeMutablePointer<AVCodecContext>) {
        context.pointee.width = Int32(clamping: width)
        context.pointee.height = Int32(clamping: height)
        context.pointee.codec_tag = tag
        context.pointee.profile = profile
        context.pointee.level = level
        context.pointee.bits_per_coded_sample = Int32(bitsPerCodedSample)
        context.pointee.has_b_frames = Int32(min(reorderDepth, 16))
        context.pointee.field_order = AVFieldOrder(rawValue: fieldOrder <= 5 ? UInt32(fieldOrder) : 0)
    }
}

extension StreamFacts {
    init(_ container: Container) {
        let parameters = container.stream.pointee.codecpar.pointee
        var aspect = SampleAspectRatio()
        let ratio = av_guess_sample_aspect_ratio(container.context, container.stream, nil)
        if ratio.num > 0, ratio.den > 0 {
            var (numerator, denominator): (Int32, Int32) = (1, 1)
            av_reduce(&numerator, &denominator, Int64(ratio.num), Int64(ratio.den), Int64(UInt16.max))
            aspect = SampleAspectRatio(UInt16(clamping: numerator), UInt16(clamping: denominator))
        }
        self.init(
            timeBase: TimeBase(container.stream.pointee.time_base), orientation: container.orientation, colour: CodedColour(parameters),
            sampleAspectRatio: aspect)
    }
}

extension CodedColour {
    init(_ parameters: AVCodecParameters) {
        self.init(
            range: UInt8(clamping: parameters.color_range.rawValue), matrix: UInt8(clamping: parameters.color_space.rawValue),
            primaries: UInt8(clamping: parameters.color_primaries.rawValue), transfer: UInt8(clamping: parameters.color_trc.rawValue))
    }

    func apply(to context: UnsafeMutablePointer<AVCodecContext>) {
        // numbers that FFmpeg does not know are "unspecified" to it
        context.pointee.color_range = AVColorRange(rawValue: range <= 2 ? UInt32(range) : 0)
        context.pointee.colorspace = AVColorSpace(rawValue: matrix < AVCOL_SPC_NB.rawValue ? UInt32(matrix) : 2)
        let isNamed = av_color_primaries_name(AVColorPrimaries(rawValue: UInt32(primaries))) != nil
        context.pointee.color_primaries = AVColorPrimaries(rawValue: isNamed ? UInt32(primaries) : 2)
        context.pointee.color_trc = AVColorTransferCharacteristic(rawValue: transfer < AVCOL_TRC_NB.rawValue ? UInt32(transfer) : 2)
    }
}

/// An AVPacket with a scope.
final class PacketBox {
    let packet: UnsafeMutablePointer<AVPacket>

    init() throws(MediaError) {
        guard let packet = av_packet_alloc() else { throw .conversionFailed(reason: "out of memory") }
        self.packet = packet
    }

    deinit {
        var packet: UnsafeMutablePointer<AVPacket>? = packet
        av_packet_free(&packet)
    }

    func sideData(_ kind: AVPacketSideDataType) -> [UInt8]? {
        var size = 0
        return av_packet_get_side_data(packet, kind, &size).map { Array(UnsafeBufferPointer(start: $0, count: size)) }
    }

    func addSideData(_ kind: AVPacketSideDataType, _ bytes: [UInt8]) -> Bool {
        guard let target = av_packet_new_side_data(packet, kind, bytes.count) else { return false }
        target.update(from: bytes, count: bytes.count)
        return true
    }
}
