import CFFmpeg

/// One of FFmpeg's video encoders, for frames of one size: what files and streams share.
final class VideoEncoder {
    struct Settings {
        var frameRate: Double
        /// x264's constant rate factor.
        var quality: Int
        var preset: String
        var threads: Int
        /// 0: the encoder's choice.
        var keyFrameInterval: Int
        var bFrames: Int
        /// Each frame's packet comes at once: no lookahead, no frames side by side.
        var isImmediate = false
        /// Parameter sets once, beside the stream, instead of in front of each key frame.
        var hasGlobalHeader = false
    }

    /// The encoder's name, as FFmpeg knows it.
    let name: String
    let width, height: Int
    let colour: Colour
    private let box: CodecBox
    private let picture: PictureBox
    private let converter = PixelConverter()

    /// What packets are timed in.
    var timeBase: AVRational { box.context.pointee.time_base }
    var frameRate: AVRational { box.context.pointee.framerate }

    static func h264() throws(MediaError) -> UnsafePointer<AVCodec> { try find("libx264") }

    static func find(_ name: String) throws(MediaError) -> UnsafePointer<AVCodec> {
        guard let codec = avcodec_find_encoder_by_name(name) else { throw .missingEncoder(name: name) }
        return codec
    }

    /// - Parameters:
    ///   - codec: x264 or MPEG-4 part 2.
    ///   - timeBase: of the times given to `encode`; `self.timeBase` says what became of it.
    ///   - colour: what is written; frames of other colours are converted.
    init(
        _ codec: UnsafePointer<AVCodec>, width: Int, height: Int, timeBase: TimeBase, colour: Colour, settings: Settings
    ) throws(MediaError) {
        FFmpeg.quiet
        guard timeBase.numerator > 0, timeBase.denominator > 0 else { throw .cannotEncode(reason: "a time base of \(timeBase) is none") }
        guard (0...51).contains(settings.quality) else { throw .cannotEncode(reason: "a quality of \(settings.quality) is not from 0 to 51") }
        try checkSize(width, height, limit: VideoFrame.defaultPixelLimit)
        name = String(cString: codec.pointee.name)
        (self.width, self.height) = (width, height)
        self.colour = colour
        picture = try PictureBox()
        let isX264 = codec.pointee.id == AV_CODEC_ID_H264
        var options: [(String, String)] = []
        if isX264 {
            // a frame that is asked to be a key frame is one that decoding can begin with
            options = [("preset", settings.preset), ("crf", String(settings.quality)), ("forced-idr", "1")]
            if settings.isImmediate { options.append(("tune", "zerolatency")) }
        }
        box = try CodecBox(codec, failure: { .cannotEncode(reason: $0) }, options: options) { context in
            // 4:2:0 has no odd sides; the last column and row are then repeated
            context.pointee.width = Int32((width + 1) / 2 * 2)
            context.pointee.height = Int32((height + 1) / 2 * 2)
            context.pointee.pix_fmt = AV_PIX_FMT_YUV420P
            context.pointee.colorspace = colour.ffmpegMatrix
            context.pointee.color_range = colour.ffmpegRange
            // MPEG-4 counts in 16 bits
            context.pointee.time_base = !isX264 && timeBase.denominator > 65_535 ? AVRational(num: 1, den: 60_000) : timeBase.rational
            context.pointee.framerate = av_d2q(settings.frameRate, 1_000_000)
            context.pointee.thread_count = Int32(clamping: settings.threads)
            context.pointee.max_b_frames = settings.isImmediate ? 0 : Int32(clamping: settings.bFrames)
            if settings.keyFrameInterval > 0 { context.pointee.gop_size = Int32(clamping: settings.keyFrameInterval) }
            if !isX264 {
                context.pointee.global_quality = 4 * FF_QP2LAMBDA
                context.pointee.flags |= AV_CODEC_FLAG_QSCALE
            }
            if settings.hasGlobalHeader { context.pointee.flags |= AV_CODEC_FLAG_GLOBAL_HEADER }
        }
    }

    /// What a container has to know.
    func describe(_ parameters: UnsafeMutablePointer<AVCodecParameters>) -> Int32 { avcodec_parameters_from_context(parameters, box.context) }

    /// Encodes a frame of any format and of the size given at the start; `body` sees the packets that come out, whichever frames they are of.
    /// - Parameter pts: in `timeBase`; later than the one before.
    func encode(
        _ frame: VideoFrame, pts: Int64, asKeyFrame: Bool = false, _ body: (UnsafeMutablePointer<AVPacket>) throws(MediaError) -> Void
    ) throws(MediaError) {
        guard frame.width == width, frame.height == height else {
            throw .cannotEncode(reason: "a frame of \(frame.width)x\(frame.height) does not fit a video of \(width)x\(height)")
        }
        let planes = try converter.convert(frame, to: .i420, colour: frame.format == .bgr24 ? colour : frame.colour).withColour(colour)
        try fill(planes)
        picture.frame.pointee.pts = pts
        picture.frame.pointee.pict_type = asKeyFrame ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE
        let code = avcodec_send_frame(box.context, picture.frame)
        guard code == 0 else { throw .cannotEncode(reason: FFmpeg.message(code)) }
        try drain(body)
    }

    /// What the encoder still holds; nothing can be encoded afterwards.
    func finish(_ body: (UnsafeMutablePointer<AVPacket>) throws(MediaError) -> Void) throws(MediaError) {
        avcodec_send_frame(box.context, nil)
        try drain(body)
    }

    private func drain(_ body: (UnsafeMutablePointer<AVPacket>) throws(MediaError) -> Void) throws(MediaError) {
        while true {
            let code = avcodec_receive_packet(box.context, picture.packet)
            if code == FFmpeg.again || code == FFmpeg.endOfFile { return }
            guard code == 0 else { throw .cannotEncode(reason: FFmpeg.message(code)) }
            try body(picture.packet)
        }
    }

    private func fill(_ planes: VideoFrame) throws(MediaError) {
        let frame = picture.frame
        if frame.pointee.data.0 == nil {
            frame.pointee.format = AV_PIX_FMT_YUV420P.rawValue
            frame.pointee.width = box.context.pointee.width
            frame.pointee.height = box.context.pointee.height
            frame.pointee.colorspace = colour.ffmpegMatrix
            frame.pointee.color_range = colour.ffmpegRange
            guard av_frame_get_buffer(frame, 0) == 0 else { throw .cannotEncode(reason: "out of memory") }
        }
        // the encoder may still look at the picture before
        guard av_frame_make_writable(frame) == 0 else { throw .cannotEncode(reason: "out of memory") }
        let (data, lines) = (frame.pointee.data, frame.pointee.linesize)
        let targets = [(data.0, Int(lines.0)), (data.1, Int(lines.1)), (data.2, Int(lines.2))]
        let (fullWidth, fullHeight) = (Int(frame.pointee.width), Int(frame.pointee.height))
        planes.withUnsafeBytes { bytes in
            for (index, plane) in planes.planes.enumerated() {
                guard let target = targets[index].0, let source = bytes.baseAddress?.advanced(by: plane.offset) else { continue }
                let line = targets[index].1
                let rows = index == 0 ? fullHeight : fullHeight / 2
                let columns = index == 0 ? fullWidth : fullWidth / 2
                for row in 0..<rows {
                    let from = source.assumingMemoryBound(to: UInt8.self) + min(row, plane.rows - 1) * plane.bytesPerRow
                    let to = target + row * line
                    to.update(from: from, count: plane.bytesPerRow)
                    if columns > plane.bytesPerRow { to[plane.bytesPerRow] = from[plane.bytesPerRow - 1] }
                }
            }
        }
    }
}
