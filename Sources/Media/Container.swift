import CFFmpeg
import Glibc

/// An open container, stream or device and its video stream.
final class Container {
    let context: UnsafeMutablePointer<AVFormatContext>
    let stream: UnsafeMutablePointer<AVStream>
    /// From the container; nil where it says nothing.
    let orientation: Orientation?
    private let interruption: Interruption
    private let bytes: DescriptorInput?

    init(_ location: MediaLocation, _ interruption: Interruption) throws(MediaError) {
        let source = try Source(location)
        self.interruption = interruption
        interruption.begin()
        guard var opened = avformat_alloc_context() else { throw .conversionFailed(reason: "out of memory") }
        opened.pointee.interrupt_callback.opaque = Unmanaged.passUnretained(interruption).toOpaque()
        opened.pointee.interrupt_callback.callback = { context in
            context.map { Unmanaged<Interruption>.fromOpaque($0).takeUnretainedValue().isDue } == true ? 1 : 0
        }
        opened.pointee.flags |= source.flags
        bytes = source.descriptor.flatMap { DescriptorInput($0, owned: source.ownsDescriptor, interruption) }
        if let bytes {
            opened.pointee.pb = bytes.context
        } else if source.descriptor != nil {
            avformat_free_context(opened)
            throw .conversionFailed(reason: "out of memory")
        }

        var options: OpaquePointer?
        defer { av_dict_free(&options) }
        for (key, value) in source.options { av_dict_set(&options, key, value, 0) }
        var handle: UnsafeMutablePointer<AVFormatContext>? = opened
        // on failure this frees the context
        let code = avformat_open_input(&handle, source.url, source.format, &options)
        guard code == 0, let ready = handle else { throw Self.failure(code, location, interruption) }
        opened = ready
        var taken = false
        defer { if !taken { avformat_close_input(&handle) } }

        if source.isProbed {
            interruption.begin()
            let found = avformat_find_stream_info(opened, nil)
            if let error = interruption.error(at: location) { throw error }
            guard found >= 0 else { throw Self.failure(found, location, interruption) }
        }
        guard let stream = Self.videoStream(of: opened) else { throw .noVideoStream(path: location.description) }
        for other in 0..<Int(opened.pointee.nb_streams) where other != Int(stream.pointee.index) {
            opened.pointee.streams[other]?.pointee.discard = AVDISCARD_ALL
        }
        var size = 0
        orientation = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size).flatMap { data in
            size >= 36 ? data.withMemoryRebound(to: Int32.self, capacity: 9) { Orientation(displayMatrix: $0) } : nil
        }
        (self.context, self.stream) = (opened, stream)
        taken = true
    }

    deinit {
        var handle: UnsafeMutablePointer<AVFormatContext>? = context
        avformat_close_input(&handle)
    }

    /// The next packet of the video stream: 0, or an error as FFmpeg numbers them.
    func readPacket(into packet: UnsafeMutablePointer<AVPacket>) -> Int32 {
        interruption.begin()
        while true {
            // FFmpeg asks only where it would wait, and a demuxer may make of it what it likes
            if interruption.isDue { return everyframe_averror_exit() }
            let code = av_read_frame(context, packet)
            if code == FFmpeg.again {
                // a device that has nothing yet
                interruption.cancellation.wait(seconds: min(0.002, interruption.left))
                continue
            }
            guard code == 0 else {
                // a file cut off in the middle of a packet also ends like this; the stream knows better
                if code == FFmpeg.endOfFile, let io = context.pointee.pb, io.pointee.error < 0, io.pointee.error != FFmpeg.endOfFile {
                    return io.pointee.error
                }
                return code
            }
            if packet.pointee.stream_index == stream.pointee.index { return 0 }
            av_packet_unref(packet)
        }
    }

    /// Whether one may ask for another place than the next.
    var isSeekable: Bool { (context.pointee.pb.map { $0.pointee.seekable & Int32(AVIO_SEEKABLE_NORMAL) } ?? 0) != 0 }

    func seek(to time: Int64) -> Int32 { av_seek_frame(context, stream.pointee.index, time, AVSEEK_FLAG_BACKWARD) }

    /// Prefers what can be decoded here; a server may know more codecs.
    private static func videoStream(of context: UnsafeMutablePointer<AVFormatContext>) -> UnsafeMutablePointer<AVStream>? {
        var codec: UnsafePointer<AVCodec>?
        var index = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0)
        if index == everyframe_averror_decoder_not_found() { index = av_find_best_stream(context, AVMEDIA_TYPE_VIDEO, -1, -1, nil, 0) }
        return index >= 0 ? context.pointee.streams[Int(index)] : nil
    }

    private static func failure(_ code: Int32, _ location: MediaLocation, _ interruption: Interruption) -> MediaError {
        if let error = interruption.error(at: location) { return error }
        let reason = FFmpeg.message(code)
        return switch location {
        case .file, .descriptor: .notAVideo(path: location.description, reason: reason)
        case .url, .device: .cannotOpen(location: location.description, reason: reason)
        }
    }

    func describe() -> VideoInfo {
        let parameters = stream.pointee.codecpar.pointee
        let (width, height) = (Int(parameters.width), Int(parameters.height))
        let timeBase = TimeBase(stream.pointee.time_base)
        let orientation = orientation ?? .upright
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
        var info = VideoInfo(
            width: orientation.swapsSides ? height : width, height: orientation.swapsSides ? width : height,
            codec: String(cString: avcodec_get_name(parameters.codec_id)), container: String(cString: context.pointee.iformat.pointee.name),
            orientation: orientation, timeBase: timeBase, averageFrameRate: frameRate, seconds: seconds, estimatedFrameCount: count)
        if context.pointee.start_time != FFmpeg.noPTS { info.startSeconds = Double(context.pointee.start_time) / Double(AV_TIME_BASE) }
        return info
    }
}
