import CFFmpeg
import Glibc

/// Decodes a file's first video stream, frame by frame, in the order of presentation. One thread at a time.
///
///     let reader = try VideoFileReader(path: "cars.mp4")
///     while let frame = try reader.next() { … }
///
/// Times are the file's own, so a variable frame rate stays one. Pictures come out upright, whatever the file's rotation says.
/// What is damaged is left out and counted in `damage`; only a file without a single good frame is an error.
package final class VideoFileReader {
    package struct Configuration: Sendable {
        /// What frames are handed out as; nil: `bgr24` for sources made of RGB, `i420` or `nv12` for all others, whichever costs less.
        package var format: PixelFormat?
        /// Decoder threads; 0: as many as there are cores.
        package var threads: Int
        package var pixelLimit: Int

        package init(format: PixelFormat? = nil, threads: Int = 0, pixelLimit: Int = VideoFrame.defaultPixelLimit) {
            self.format = format
            self.threads = threads
            self.pixelLimit = pixelLimit
        }
    }

    /// What the file says about itself, before a frame is decoded. Estimates are for progress bars.
    package struct Info: Sendable {
        /// Upright.
        package var width, height: Int
        package var codec: String
        package var container: String
        package var orientation: Orientation
        package var timeBase: TimeBase
        package var averageFrameRate: Double?
        package var seconds: Double?
        package var estimatedFrameCount: Int?
    }

    package struct Damage: Sendable, Equatable {
        package var refusedPackets = 0
        /// Handed out, but the decoder had to make up parts of them.
        package var concealedFrames = 0
        /// The file stopped before its end.
        package var readError: String?
        package var isNone: Bool { self == Damage() }
    }

    package let info: Info
    package private(set) var damage = Damage()
    package private(set) var framesRead = 0

    private let path: String
    private let configuration: Configuration
    private let input: InputFile
    private let decoder: Decoder
    private let converter = PixelConverter()
    private var state = State.reading
    private var lastPTS: Int64?

    private enum State { case reading, draining, ended }

    package init(path: String, configuration: Configuration = Configuration()) throws(MediaError) {
        FFmpeg.quiet
        self.path = path
        self.configuration = configuration
        input = try InputFile(path: path)
        info = input.info
        // some files tell their size only in their frames
        if info.width > 0, info.height > 0 { try checkSize(info.width, info.height, limit: configuration.pixelLimit) }
        decoder = try Decoder(of: input, threads: configuration.threads, pixelLimit: configuration.pixelLimit)
    }

    /// The next frame; nil after the last.
    package func next() throws(MediaError) -> VideoFrame? {
        while state != .ended {
            let code = decoder.receive()
            if code == 0 { return try finish(decoder.frame.pointee) }
            if code == FFmpeg.endOfFile {
                state = .ended
            } else if code == FFmpeg.again {
                try feed()
            } else {
                damage.refusedPackets += 1
                if state == .draining { state = .ended }
            }
        }
        guard framesRead > 0 else {
            throw .undecodable(path: path, reason: damage.readError ?? (damage.isNone ? "there is none in it" : "the data is damaged"))
        }
        return nil
    }

    private func feed() throws(MediaError) {
        let code = input.readPacket(into: decoder.packet)
        guard code == 0 else {
            if code != FFmpeg.endOfFile { damage.readError = FFmpeg.message(code) }
            state = .draining
            _ = decoder.send(nil)
            return
        }
        let sent = decoder.send(decoder.packet)
        if sent < 0 && sent != FFmpeg.again { damage.refusedPackets += 1 }
        av_packet_unref(decoder.packet)
    }

    private func finish(_ picture: AVFrame) throws(MediaError) -> VideoFrame {
        try checkSize(Int(picture.width), Int(picture.height), limit: configuration.pixelLimit)
        if picture.decode_error_flags != 0 || picture.flags & AV_FRAME_FLAG_CORRUPT != 0 { damage.concealedFrames += 1 }
        var frame = try upright(picture)
        frame.timeBase = info.timeBase
        frame.pts = time(of: picture)
        framesRead += 1
        return frame
    }

    private func upright(_ picture: AVFrame) throws(MediaError) -> VideoFrame {
        let frame = try copy(picture)
        return frame.turned(input.orientation ?? Orientation(sideDataOf: picture) ?? .upright)
    }

    private func copy(_ picture: AVFrame) throws(MediaError) -> VideoFrame {
        let source = AVPixelFormat(rawValue: picture.format)
        let colour = Colour(of: picture)
        let native: PixelFormat? =
            switch source {
            case AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUVJ420P: .i420
            case AV_PIX_FMT_NV12: .nv12
            case AV_PIX_FMT_BGR24: .bgr24
            default: nil
            }
        let isRGB = av_pix_fmt_desc_get(source).map { $0.pointee.flags & everyframe_pixel_format_flag_rgb() != 0 } ?? false
        let wanted = configuration.format ?? native ?? (isRGB ? .bgr24 : .i420)
        if let native, native == wanted || native == .nv12 {
            let frame = Self.copy(picture, as: native, colour: colour)
            return native == wanted ? frame : try converter.convert(frame, to: wanted)
        }
        return try converter.convert(picture, to: wanted, colour: wanted == .bgr24 || isRGB ? .jpeg : colour)
    }

    private static func copy(_ picture: AVFrame, as format: PixelFormat, colour: Colour) -> VideoFrame {
        let (width, height) = (Int(picture.width), Int(picture.height))
        let (data, lines) = (picture.data, picture.linesize)
        let sources = [(data.0, lines.0), (data.1, lines.1), (data.2, lines.2)]
        return VideoFrame(format, width: width, height: height, colour: colour) { bytes in
            for (plane, (pointer, line)) in zip(format.planes(width: width, height: height), sources) {
                guard let pointer, let target = bytes.baseAddress?.advanced(by: plane.offset) else { continue }
                av_image_copy_plane(
                    target.assumingMemoryBound(to: UInt8.self), Int32(plane.bytesPerRow), pointer, line, Int32(plane.bytesPerRow),
                    Int32(plane.rows))
            }
        }
    }

    /// The file's time; where it has none (raw streams), one frame after the one before.
    private func time(of picture: AVFrame) -> Int64 {
        var pts = picture.best_effort_timestamp
        if pts == FFmpeg.noPTS {
            let step = max(1, Int64((1 / (info.averageFrameRate ?? 25)) / max(info.timeBase.seconds, 1e-9)))
            pts = lastPTS.map { $0 &+ step } ?? 0
        }
        lastPTS = pts
        return pts
    }
}

func checkSize(_ width: Int, _ height: Int, limit: Int) throws(MediaError) {
    guard width > 0, height > 0, width <= VideoFrame.maximumSide, height <= VideoFrame.maximumSide, width * height <= limit else {
        throw .tooManyPixels(width: width, height: height, limit: limit)
    }
}

extension Orientation {
    /// Some codecs carry the orientation with each picture (H.264 and HEVC messages, EXIF).
    init?(sideDataOf picture: AVFrame) {
        var picture = picture
        guard let data = av_frame_get_side_data(&picture, AV_FRAME_DATA_DISPLAYMATRIX), data.pointee.size >= 36 else { return nil }
        self = data.pointee.data.withMemoryRebound(to: Int32.self, capacity: 9) { Orientation(displayMatrix: $0) }
    }
}

/// An open container and its video stream.
final class InputFile {
    let info: VideoFileReader.Info
    /// From the container; nil where it says nothing.
    let orientation: Orientation?
    let stream: UnsafeMutablePointer<AVStream>
    let codec: UnsafePointer<AVCodec>
    private var context: UnsafeMutablePointer<AVFormatContext>?

    init(path: String) throws(MediaError) {
        var opened: UnsafeMutablePointer<AVFormatContext>?
        guard access(path, F_OK) == 0 else { throw .fileNotFound(path: path) }
        // "file:" keeps a name with a colon from being taken for a protocol; the list keeps playlists from reaching the network
        var options: OpaquePointer?
        av_dict_set(&options, "protocol_whitelist", "file", 0)
        defer { av_dict_free(&options) }
        let code = avformat_open_input(&opened, "file:" + path, nil, &options)
        guard code == 0, let context = opened else { throw .notAVideo(path: path, reason: FFmpeg.message(code)) }
        var taken = false
        defer { if !taken { avformat_close_input(&opened) } }

        let found = avformat_find_stream_info(context, nil)
        guard found >= 0 else { throw .notAVideo(path: path, reason: FFmpeg.message(found)) }
        var codec: UnsafePointer<AVCodec>?
        let index = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0)
        if index == everyframe_averror_decoder_not_found() {
            throw .unsupportedCodec(path: path, codec: Self.firstVideoCodec(of: context))
        }
        guard index >= 0, let codec, let stream = context.pointee.streams[Int(index)] else { throw .noVideoStream(path: path) }
        self.stream = stream
        self.codec = codec
        for other in 0..<Int(context.pointee.nb_streams) where other != Int(index) {
            context.pointee.streams[other]?.pointee.discard = AVDISCARD_ALL
        }
        var size = 0
        orientation = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size).flatMap { data in
            size >= 36 ? data.withMemoryRebound(to: Int32.self, capacity: 9) { Orientation(displayMatrix: $0) } : nil
        }
        info = Self.describe(context, stream, codec, orientation ?? .upright)
        self.context = context
        taken = true
    }

    deinit { avformat_close_input(&context) }

    /// The next packet of the video stream: 0, or an error as FFmpeg numbers them.
    func readPacket(into packet: UnsafeMutablePointer<AVPacket>) -> Int32 {
        while true {
            let code = av_read_frame(context, packet)
            guard code == 0 else {
                // a file cut off in the middle of a packet also ends like this; the stream knows better
                if code == FFmpeg.endOfFile, let io = context?.pointee.pb, io.pointee.error < 0, io.pointee.error != FFmpeg.endOfFile {
                    return io.pointee.error
                }
                return code
            }
            if packet.pointee.stream_index == stream.pointee.index { return 0 }
            av_packet_unref(packet)
        }
    }

    private static func firstVideoCodec(of context: UnsafeMutablePointer<AVFormatContext>) -> String {
        for index in 0..<Int(context.pointee.nb_streams) {
            guard let parameters = context.pointee.streams[index]?.pointee.codecpar, parameters.pointee.codec_type == AVMEDIA_TYPE_VIDEO
            else { continue }
            return String(cString: avcodec_get_name(parameters.pointee.codec_id))
        }
        return "something unknown"
    }

    private static func describe(
        _ context: UnsafeMutablePointer<AVFormatContext>, _ stream: UnsafeMutablePointer<AVStream>, _ codec: UnsafePointer<AVCodec>,
        _ orientation: Orientation
    ) -> VideoFileReader.Info {
        let parameters = stream.pointee.codecpar.pointee
        let (width, height) = (Int(parameters.width), Int(parameters.height))
        let timeBase = TimeBase(stream.pointee.time_base)
        let rate = [stream.pointee.avg_frame_rate, stream.pointee.r_frame_rate].first { $0.num > 0 && $0.den > 0 }
        let frameRate = rate.map { Double($0.num) / Double($0.den) }
        var seconds: Double?
        if stream.pointee.duration > 0, stream.pointee.duration != FFmpeg.noPTS {
            seconds = Double(stream.pointee.duration) * timeBase.seconds
        } else if context.pointee.duration > 0, context.pointee.duration != FFmpeg.noPTS {
            seconds = Double(context.pointee.duration) / Double(AV_TIME_BASE)
        }
        var count = stream.pointee.nb_frames > 0 ? Int(clamping: stream.pointee.nb_frames) : nil
        if count == nil, let seconds, let frameRate, seconds * frameRate < 1e12 { count = Int((seconds * frameRate).rounded()) }
        return VideoFileReader.Info(
            width: orientation.swapsSides ? height : width, height: orientation.swapsSides ? width : height,
            codec: String(cString: codec.pointee.name), container: String(cString: context.pointee.iformat.pointee.name),
            orientation: orientation, timeBase: timeBase, averageFrameRate: frameRate, seconds: seconds, estimatedFrameCount: count)
    }
}

/// A decoder with the packet and the frame it works on.
final class Decoder {
    let packet: UnsafeMutablePointer<AVPacket>
    let frame: UnsafeMutablePointer<AVFrame>
    private var context: UnsafeMutablePointer<AVCodecContext>?

    init(of input: InputFile, threads: Int, pixelLimit: Int) throws(MediaError) {
        let name = String(cString: input.codec.pointee.name)
        guard let packet = av_packet_alloc(), let frame = av_frame_alloc(), let context = avcodec_alloc_context3(input.codec) else {
            throw .conversionFailed(reason: "out of memory")
        }
        (self.packet, self.frame, self.context) = (packet, frame, context)
        guard avcodec_parameters_to_context(context, input.stream.pointee.codecpar) >= 0 else {
            throw .conversionFailed(reason: "the stream's parameters do not fit the decoder \(name)")
        }
        context.pointee.pkt_timebase = input.stream.pointee.time_base
        context.pointee.thread_count = Int32(clamping: threads)
        context.pointee.max_pixels = Int64(pixelLimit)
        let code = avcodec_open2(context, input.codec, nil)
        guard code == 0 else { throw .conversionFailed(reason: "the decoder \(name) did not start: \(FFmpeg.message(code))") }
    }

    deinit {
        var (packet, frame): (UnsafeMutablePointer<AVPacket>?, UnsafeMutablePointer<AVFrame>?) = (packet, frame)
        av_packet_free(&packet)
        av_frame_free(&frame)
        avcodec_free_context(&context)
    }

    func send(_ packet: UnsafeMutablePointer<AVPacket>?) -> Int32 { avcodec_send_packet(context, packet) }
    func receive() -> Int32 { avcodec_receive_frame(context, frame) }
}
