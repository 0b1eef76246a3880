import CFFmpeg

/// Writes frames, each with its own time, as H.264 into a file (MPEG-4 part 2 where FFmpeg has no x264). One thread at a time.
/// Nothing is complete before `finish()`.
package final class VideoFileWriter {
    package struct Configuration: Sendable {
        /// For players and rate control; each frame's own time is what counts.
        package var frameRate: Double
        /// x264's constant rate factor: 0 … 51, smaller is better.
        package var quality: Int
        package var preset: String
        /// Encoder threads; 0: as many as there are cores.
        package var threads: Int
        /// Declares that players must turn the picture; the pixels stay as they are.
        package var orientation: Orientation
        /// Frames between key frames; 0: the encoder's choice.
        package var keyFrameInterval: Int
        package var bFrames: Int

        package init(
            frameRate: Double = 25, quality: Int = 23, preset: String = "veryfast", threads: Int = 0, orientation: Orientation = .upright,
            keyFrameInterval: Int = 0, bFrames: Int = 2
        ) {
            self.frameRate = frameRate
            self.quality = quality
            self.preset = preset
            self.threads = threads
            self.orientation = orientation
            self.keyFrameInterval = keyFrameInterval
            self.bFrames = bFrames
        }
    }

    package let path: String
    /// The encoder's name, as FFmpeg knows it.
    package let codec: String
    package private(set) var framesWritten = 0

    private let width, height: Int
    private let timeBase: TimeBase
    private let colour: Colour
    private let encoder: CodecBox
    private let box: PictureBox
    private let converter = PixelConverter()
    private var output: UnsafeMutablePointer<AVFormatContext>?
    private var stream: UnsafeMutablePointer<AVStream>?
    private var lastPTS: Int64?

    /// - Parameters:
    ///   - timeBase: what the frames' times are counted in.
    ///   - colour: what is written; frames of other colours are converted.
    package init(
        path: String, width: Int, height: Int, timeBase: TimeBase, colour: Colour = .video, configuration: Configuration = Configuration()
    ) throws(MediaError) {
        FFmpeg.quiet
        guard timeBase.numerator > 0, timeBase.denominator > 0 else { throw .cannotEncode(reason: "a time base of \(timeBase) is none") }
        try checkSize(width, height, limit: VideoFrame.defaultPixelLimit)
        self.path = path
        (self.width, self.height) = (width, height)
        self.timeBase = timeBase
        self.colour = colour
        box = try PictureBox()

        let x264 = avcodec_find_encoder_by_name("libx264")
        guard let chosen = x264 ?? avcodec_find_encoder(AV_CODEC_ID_MPEG4) else { throw .cannotEncode(reason: "FFmpeg has no video encoder here") }
        codec = String(cString: chosen.pointee.name)

        var opened: UnsafeMutablePointer<AVFormatContext>?
        avformat_alloc_output_context2(&opened, nil, nil, path)
        if opened == nil { avformat_alloc_output_context2(&opened, nil, "mp4", path) }
        guard let output = opened else { throw .cannotWrite(path: path, reason: "out of memory") }
        let needsHeader = output.pointee.oformat.pointee.flags & AVFMT_GLOBALHEADER != 0
        do throws(MediaError) {
            encoder = try CodecBox(
                chosen, failure: { .cannotEncode(reason: $0) },
                options: x264 == nil ? [] : [("preset", configuration.preset), ("crf", String(configuration.quality))]
            ) { context in
                // 4:2:0 has no odd sides; the last column and row are then repeated
                context.pointee.width = Int32((width + 1) / 2 * 2)
                context.pointee.height = Int32((height + 1) / 2 * 2)
                context.pointee.pix_fmt = AV_PIX_FMT_YUV420P
                context.pointee.colorspace = colour.ffmpegMatrix
                context.pointee.color_range = colour.ffmpegRange
                // MPEG-4 counts in 16 bits
                let tick = x264 == nil && timeBase.denominator > 65_535 ? AVRational(num: 1, den: 60_000) : timeBase.rational
                context.pointee.time_base = tick
                context.pointee.framerate = av_d2q(configuration.frameRate, 1_000_000)
                context.pointee.thread_count = Int32(clamping: configuration.threads)
                context.pointee.max_b_frames = Int32(clamping: configuration.bFrames)
                if configuration.keyFrameInterval > 0 { context.pointee.gop_size = Int32(clamping: configuration.keyFrameInterval) }
                if x264 == nil { context.pointee.global_quality = 4 * FF_QP2LAMBDA; context.pointee.flags |= AV_CODEC_FLAG_QSCALE }
                if needsHeader { context.pointee.flags |= AV_CODEC_FLAG_GLOBAL_HEADER }
            }
        } catch {
            avformat_free_context(output)
            throw error
        }
        self.output = output
        try open(output, orientation: configuration.orientation)
    }

    deinit { close() }

    /// Frames may be of any format; sizes must be those given at the start, and times must grow.
    package func write(_ frame: VideoFrame) throws(MediaError) {
        guard output != nil else { throw .cannotWrite(path: path, reason: "it is finished") }
        guard frame.width == width, frame.height == height else {
            throw .cannotEncode(reason: "a frame of \(frame.width)x\(frame.height) does not fit a video of \(width)x\(height)")
        }
        guard frame.timeBase.numerator > 0, frame.timeBase.denominator > 0 else { throw .cannotEncode(reason: "the frame has no time base") }
        let pts = av_rescale_q(frame.pts, frame.timeBase.rational, encoder.context.pointee.time_base)
        if let lastPTS, pts <= lastPTS { throw .cannotEncode(reason: "the time \(frame.pts) is not after the one before") }
        lastPTS = pts

        let picture = try converter.convert(frame, to: .i420, colour: frame.format == .bgr24 ? colour : frame.colour).withColour(colour)
        try fill(picture)
        box.frame.pointee.pts = pts
        box.frame.pointee.pict_type = AV_PICTURE_TYPE_NONE
        let code = avcodec_send_frame(encoder.context, box.frame)
        guard code == 0 else { throw .cannotEncode(reason: FFmpeg.message(code)) }
        try drain()
        framesWritten += 1
    }

    /// Writes what the encoder still holds and the file's index.
    package func finish() throws(MediaError) {
        guard let output else { return }
        avcodec_send_frame(encoder.context, nil)
        try drain()
        let code = av_write_trailer(output)
        let flushed = output.pointee.pb.map { $0.pointee.error } ?? 0
        close()
        guard code == 0, flushed == 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code != 0 ? code : flushed)) }
    }

    private func open(_ output: UnsafeMutablePointer<AVFormatContext>, orientation: Orientation) throws(MediaError) {
        guard let stream = avformat_new_stream(output, nil), avcodec_parameters_from_context(stream.pointee.codecpar, encoder.context) >= 0 else {
            throw .cannotWrite(path: path, reason: "out of memory")
        }
        self.stream = stream
        stream.pointee.time_base = encoder.context.pointee.time_base
        stream.pointee.avg_frame_rate = encoder.context.pointee.framerate
        if orientation != .upright, let data = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 36) {
            data.withMemoryRebound(to: Int32.self, capacity: 9) { matrix in
                // the flip comes last there and first here, which turns the other way round
                let angle = Double(orientation.turn.rawValue)
                av_display_rotation_set(matrix, orientation.mirrored ? -angle : angle)
                if orientation.mirrored { av_display_matrix_flip(matrix, 1, 0) }
            }
        }
        var code = avio_open(&output.pointee.pb, "file:" + path, AVIO_FLAG_WRITE)
        guard code >= 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code)) }
        var options: OpaquePointer?
        av_dict_set(&options, "movflags", "+faststart", 0)
        defer { av_dict_free(&options) }
        code = avformat_write_header(output, &options)
        guard code >= 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code)) }
    }

    private func fill(_ picture: VideoFrame) throws(MediaError) {
        let frame = box.frame
        if frame.pointee.data.0 == nil {
            frame.pointee.format = AV_PIX_FMT_YUV420P.rawValue
            frame.pointee.width = encoder.context.pointee.width
            frame.pointee.height = encoder.context.pointee.height
            frame.pointee.colorspace = colour.ffmpegMatrix
            frame.pointee.color_range = colour.ffmpegRange
            guard av_frame_get_buffer(frame, 0) == 0 else { throw .cannotEncode(reason: "out of memory") }
        }
        // the encoder may still look at the picture before
        guard av_frame_make_writable(frame) == 0 else { throw .cannotEncode(reason: "out of memory") }
        let (data, lines) = (frame.pointee.data, frame.pointee.linesize)
        let targets = [(data.0, Int(lines.0)), (data.1, Int(lines.1)), (data.2, Int(lines.2))]
        let (fullWidth, fullHeight) = (Int(frame.pointee.width), Int(frame.pointee.height))
        picture.withUnsafeBytes { bytes in
            for (index, plane) in picture.planes.enumerated() {
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

    private func drain() throws(MediaError) {
        guard let output, let stream else { return }
        while avcodec_receive_packet(encoder.context, box.packet) == 0 {
            av_packet_rescale_ts(box.packet, encoder.context.pointee.time_base, stream.pointee.time_base)
            box.packet.pointee.stream_index = stream.pointee.index
            let code = av_interleaved_write_frame(output, box.packet)
            guard code == 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code)) }
        }
    }

    private func close() {
        guard let output else { return }
        avio_closep(&output.pointee.pb)
        avformat_free_context(output)
        self.output = nil
    }
}
