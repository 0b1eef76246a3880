import CFFmpeg

/// A container file with one video stream in it, made in three steps: named, opened, begun. Nothing is complete before `finish()`.
final class FileMuxer {
    let path: String
    private var context: UnsafeMutablePointer<AVFormatContext>?
    private var stream: UnsafeMutablePointer<AVStream>?
    private var state = State.named

    private enum State { case named, opened, begun }

    /// Chooses the container by the name's ending; MP4 where that says nothing. No file is touched.
    init(path: String) throws(MediaError) {
        FFmpeg.quiet
        self.path = path
        avformat_alloc_output_context2(&context, nil, nil, path)
        if context == nil { avformat_alloc_output_context2(&context, nil, "mp4", path) }
        guard let context else { throw .cannotWrite(path: path, reason: "out of memory") }
        // below 0: the container does not say
        guard avformat_query_codec(context.pointee.oformat, AV_CODEC_ID_H264, FF_COMPLIANCE_NORMAL) != 0 else {
            close()
            throw .cannotWrite(path: path, reason: "such a file holds no H.264: choose .mp4, .mkv or .mov")
        }
    }

    deinit { close() }

    var wantsGlobalHeader: Bool { (context?.pointee.oformat.pointee.flags ?? 0) & AVFMT_GLOBALHEADER != 0 }
    var isFinished: Bool { context == nil }

    /// Creates the file, or empties the one that is there.
    func open() throws(MediaError) {
        guard let context, state == .named else { throw .cannotWrite(path: path, reason: "it is open already") }
        // without the prefix a colon in the name would make it a protocol
        let code = avio_open(&context.pointee.pb, "file:" + path, AVIO_FLAG_WRITE)
        guard code >= 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code)) }
        state = .opened
    }

    /// Writes the container's head.
    /// - Parameter describe: fills in what the stream is; below 0: it failed.
    func begin(
        timeBase: AVRational, frameRate: AVRational, orientation: Orientation = .upright,
        describe: (UnsafeMutablePointer<AVCodecParameters>) -> Int32
    ) throws(MediaError) {
        guard let context, state == .opened else { throw .cannotWrite(path: path, reason: "it is not open") }
        guard let stream = avformat_new_stream(context, nil), let parameters = stream.pointee.codecpar, describe(parameters) >= 0 else {
            throw .cannotWrite(path: path, reason: "out of memory")
        }
        self.stream = stream
        stream.pointee.time_base = timeBase
        stream.pointee.avg_frame_rate = frameRate
        if orientation != .upright, let data = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 36) {
            data.withMemoryRebound(to: Int32.self, capacity: 9) { matrix in
                // the flip comes last there and first here, which turns the other way round
                let angle = Double(orientation.turn.rawValue)
                av_display_rotation_set(matrix, orientation.mirrored ? -angle : angle)
                if orientation.mirrored { av_display_matrix_flip(matrix, 1, 0) }
            }
        }
        var options: OpaquePointer?
        av_dict_set(&options, "movflags", "+faststart", 0)
        defer { av_dict_free(&options) }
        let code = avformat_write_header(context, &options)
        guard code >= 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code)) }
        state = .begun
    }

    /// Takes the packet's bytes over and leaves it empty.
    /// - Parameter timeBase: of the packet's times.
    func write(_ packet: UnsafeMutablePointer<AVPacket>, timeBase: AVRational) throws(MediaError) {
        guard let context, let stream, state == .begun else { throw .cannotWrite(path: path, reason: "it is finished") }
        av_packet_rescale_ts(packet, timeBase, stream.pointee.time_base)
        packet.pointee.stream_index = stream.pointee.index
        let code = av_interleaved_write_frame(context, packet)
        guard code == 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code)) }
    }

    /// Writes the index and closes the file, which stays empty if nothing was begun.
    func finish() throws(MediaError) {
        guard let context else { return }
        let code = state == .begun ? av_write_trailer(context) : 0
        let flushed = context.pointee.pb.map { $0.pointee.error } ?? 0
        close()
        guard code == 0, flushed == 0 else { throw .cannotWrite(path: path, reason: FFmpeg.message(code != 0 ? code : flushed)) }
    }

    private func close() {
        guard let context else { return }
        avio_closep(&context.pointee.pb)
        avformat_free_context(context)
        self.context = nil
        stream = nil
    }
}
