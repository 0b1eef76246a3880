import CFFmpeg

/// What every use of FFmpeg here shares.
enum FFmpeg {
    /// FFmpeg writes to stderr unless told not to; its errors reach people as `MediaError`.
    static let quiet: Void = av_log_set_level(AV_LOG_QUIET)

    static let again = everyframe_averror(EAGAIN)
    static let endOfFile = everyframe_averror_eof()
    static let noPTS = everyframe_av_no_pts()

    static func message(_ code: Int32) -> String {
        if code == everyframe_averror_invalid_data() { return "the data is damaged or of another kind" }
        var text = [CChar](repeating: 0, count: Int(AV_ERROR_MAX_STRING_SIZE))
        guard av_strerror(code, &text, text.count) == 0 else { return "error \(code)" }
        let message = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return message.prefix(1).lowercased() + message.dropFirst()
    }
}

extension TimeBase {
    init(_ rational: AVRational) { self.init(rational.num, rational.den) }
    var rational: AVRational { AVRational(num: numerator, den: denominator) }
}

extension PixelFormat {
    var ffmpeg: AVPixelFormat {
        switch self {
        case .bgr24: AV_PIX_FMT_BGR24
        case .i420: AV_PIX_FMT_YUV420P
        case .nv12: AV_PIX_FMT_NV12
        }
    }
}

extension Colour {
    /// What a decoded frame says; silence means BT.601 and, but for the old "J" formats, limited range, as in FFmpeg itself.
    init(of frame: AVFrame) {
        let matrix: Matrix =
            switch frame.colorspace {
            case AVCOL_SPC_BT709: .bt709
            case AVCOL_SPC_BT2020_NCL, AVCOL_SPC_BT2020_CL: .bt2020
            default: .bt601
            }
        let format = AVPixelFormat(rawValue: frame.format)
        let oldFull = [AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUVJ411P].contains(format)
        self.init(matrix, oldFull || frame.color_range == AVCOL_RANGE_JPEG ? .full : .limited)
    }

    var ffmpegMatrix: AVColorSpace {
        switch matrix {
        case .bt601: AVCOL_SPC_SMPTE170M
        case .bt709: AVCOL_SPC_BT709
        case .bt2020: AVCOL_SPC_BT2020_NCL
        }
    }

    var ffmpegRange: AVColorRange { range == .full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG }

    var swscaleMatrix: Int32 {
        switch matrix {
        case .bt601: SWS_CS_ITU601
        case .bt709: SWS_CS_ITU709
        case .bt2020: SWS_CS_BT2020
        }
    }
}
