import CFFmpeg

/// What is known of codecs without looking at a stream.
package enum CodecRules {
    /// Whether each access unit decodes without any other, so that several may be decoded at once.
    package static func isIntraOnly(_ codec: String) -> Bool {
        // FFmpeg says it of PNG only in later versions
        codec == "png" || avcodec_descriptor_get_by_name(codec).map { $0.pointee.props & Int32(AV_CODEC_PROP_INTRA_ONLY) != 0 } ?? false
    }

    /// Whether a stranger's units of this codec are decoded here: FFmpeg's own decoders of real video, and dav1d.
    package static func isDecodable(_ codec: String) -> Bool { decoder(codec) != nil }

    /// Whether pictures may come in another order than units.
    static func reorders(_ id: AVCodecID) -> Bool {
        avcodec_descriptor_get(id).map { $0.pointee.props & Int32(AV_CODEC_PROP_REORDER) != 0 } ?? true
    }

    /// By the codec's name, never by a decoder's: a name cannot choose hardware, a wrapper or a script.
    static func decoder(_ name: String, anyCodec: Bool = false) -> UnsafePointer<AVCodec>? {
        guard anyCodec || known.contains(name), let descriptor = avcodec_descriptor_get_by_name(name), descriptor.pointee.type == AVMEDIA_TYPE_VIDEO,
            // its units are addresses in memory
            descriptor.pointee.id != AV_CODEC_ID_WRAPPED_AVFRAME
        else { return nil }
        return avcodec_find_decoder(descriptor.pointee.id)
    }

    /// Further units after which one without a picture will never get any, by the codec alone: pictures held back to be put in order. A unit
    /// may be one field of two.
    static func reorderBound(_ id: AVCodecID) -> Int {
        switch id {
        // the largest picture buffer of both standards is 16
        case AV_CODEC_ID_H264, AV_CODEC_ID_HEVC: 2 * 17
        case AV_CODEC_ID_MPEG1VIDEO, AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MPEG4, AV_CODEC_ID_VC1, AV_CODEC_ID_WMV3, AV_CODEC_ID_RV30, AV_CODEC_ID_RV40: 4
        default: reorders(id) ? 2 * 8 : 0
        }
    }

    /// Cameras, recorders, editors and the web of the last thirty years.
    private static let known: Set<String> = [
        "h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h261", "h263", "h263i",
        "h263p", "flv1", "wmv1", "wmv2", "wmv3", "vc1", "theora", "vp3", "vp5", "vp6", "vp6f", "vp7", "rv10", "rv20", "rv30", "rv40", "svq1", "svq3", "cavs",
        "mjpegb", "ljpeg", "jpegls", "jpeg2000", "png", "apng", "gif", "bmp", "tiff", "webp", "prores", "dnxhd", "cfhd", "dvvideo", "dirac", "snow", "hap",
        "ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "lagarith", "rawvideo", "v210", "v308", "v408", "v410", "r210", "r10k", "y41p", "yuv4", "ayuv",
        "qtrle", "rpza", "smc", "cinepak", "msvideo1", "msrle", "indeo2", "indeo3", "indeo4", "indeo5", "zmbv", "tscc", "flashsv", "flashsv2", "asv1", "asv2",
    ]
}
