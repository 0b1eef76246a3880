import CFFmpeg

/// An open decoder of FFmpeg's.
final class RunningDecoder {
    let frame: UnsafeMutablePointer<AVFrame>
    private(set) var isDraining = false
    /// Whether new parameter sets may come with a packet; other codecs need a new decoder.
    let takesExtradata: Bool
    /// Results come this many units late, since as many threads work on other pictures.
    let threadDelay: Int
    let maximumDelay: Int
    private var context: UnsafeMutablePointer<AVCodecContext>?

    init(_ parameters: CodecParameters, _ facts: StreamFacts, _ configuration: AccessUnitDecoder.Configuration) throws(MediaError) {
        guard let codec = CodecRules.decoder(parameters.codec, anyCodec: configuration.anyCodec) else { throw .noDecoder(codec: parameters.codec) }
        guard facts.timeBase.numerator > 0, facts.timeBase.denominator > 0 else {
            throw .badParameters(codec: parameters.codec, reason: "a time base of \(facts.timeBase.numerator)/\(facts.timeBase.denominator) is none")
        }
        // 0: only the pictures know
        if parameters.width != 0 || parameters.height != 0 { try checkSize(parameters.width, parameters.height, limit: configuration.pixelLimit) }
        guard let frame = av_frame_alloc(), var context = avcodec_alloc_context3(codec) else { throw .conversionFailed(reason: "out of memory") }
        (self.frame, self.context) = (frame, context)
        takesExtradata = codec.pointee.id == AV_CODEC_ID_H264 || codec.pointee.id == AV_CODEC_ID_HEVC
        parameters.apply(to: context)
        facts.colour.apply(to: context)
        context.pointee.sample_aspect_ratio = AVRational(num: Int32(facts.sampleAspectRatio.numerator), den: Int32(max(1, facts.sampleAspectRatio.denominator)))
        context.pointee.pkt_timebase = facts.timeBase.rational
        context.pointee.thread_count = Int32(clamping: configuration.threads)
        // FFmpeg counts blocks and margins around a picture, too; the picture itself is checked when it is there
        let limit = min(configuration.pixelLimit, 1 << 40)
        context.pointee.max_pixels = Int64(limit + limit / 4 + 1 << 20)
        let isDav1d = String(cString: codec.pointee.name) == "libdav1d"
        if configuration.lowDelay {
            context.pointee.thread_type = FF_THREAD_SLICE
            // other decoders would take it as a promise that there are no B-frames
            if isDav1d { context.pointee.flags |= AV_CODEC_FLAG_LOW_DELAY }
        }
        var code: Int32 = 0
        if !parameters.extradata.isEmpty {
            code = parameters.copyExtradata(to: &context)
        }
        // a stranger's nonsense must not be the end
        if code == 0 { code = avcodec_open2(context, codec, nil) }
        guard code == 0 else {
            threadDelay = 0
            maximumDelay = 0
            throw .badParameters(codec: parameters.codec, reason: FFmpeg.message(code))
        }
        let threads = Int(max(1, context.pointee.thread_count))
        threadDelay = context.pointee.active_thread_type & FF_THREAD_FRAME != 0 ? threads - 1 : 0
        // dav1d has threads of its own, of which at most the root (of 256 at most) work on different pictures
        let internalDelay = !isDav1d || configuration.lowDelay ? 1 : 1 + min(context.pointee.thread_count > 0 ? threads : 16, 16)
        maximumDelay = threadDelay + CodecRules.reorderBound(codec.pointee.id) + (codec.pointee.capabilities & AV_CODEC_CAP_DELAY != 0 ? internalDelay : 0)
    }

    deinit {
        var frame: UnsafeMutablePointer<AVFrame>? = frame
        av_frame_free(&frame)
        avcodec_free_context(&context)
    }

    func send(_ packet: UnsafeMutablePointer<AVPacket>) -> Int32 { avcodec_send_packet(context, packet) }
    func receive() -> Int32 { avcodec_receive_frame(context, frame) }

    /// No more units: what is held back comes out.
    func drain() {
        isDraining = true
        _ = avcodec_send_packet(context, nil)
    }

    func reset() {
        isDraining = false
        avcodec_flush_buffers(context)
    }
}

extension CodecParameters {
    fileprivate func copyExtradata(to context: inout UnsafeMutablePointer<AVCodecContext>) -> Int32 {
        guard extradata.count <= 1 << 28, let memory = av_mallocz(extradata.count + Int(AV_INPUT_BUFFER_PADDING_SIZE)) else {
            return everyframe_averror_invalid_data()
        }
        // the context frees it
        context.pointee.extradata = memory.assumingMemoryBound(to: UInt8.self)
        context.pointee.extradata.update(from: extradata, count: extradata.count)
        context.pointee.extradata_size = Int32(extradata.count)
        return 0
    }
}

struct PendingUnit {
    var id: Int
    var facts: UnitFacts
    var timeBase: TimeBase
    var orientation: Orientation?
    var hasPicture = false
}

/// The units whose pictures may still come. Each is known to the decoder by a tag in place of its time of presentation: decoders carry
/// that along without looking at it, and unlike other fields it names the unit that shows a picture, not the one that brought it (VP9, AV1).
struct PendingUnits {
    private var units: [PendingUnit] = []
    /// Of `units[0]`.
    private var first: Int64 = 1

    mutating func add(_ unit: PendingUnit, keeping delay: Int) -> Int64 {
        units.append(unit)
        // cleared in bulk, so that it costs nothing
        let surplus = units.count - (delay + 1)
        if surplus > delay + 64 {
            units.removeFirst(surplus)
            first += Int64(surplus)
        }
        return first + Int64(units.count) - 1
    }

    /// Nil for one that is older than `delay` units before the last.
    mutating func take(tag: Int64, within delay: Int) -> PendingUnit? {
        let (index, isBelow) = tag.subtractingReportingOverflow(first)
        guard !isBelow, index >= max(0, units.count - 1 - delay), index < units.count else { return nil }
        let unit = units[Int(index)]
        units[Int(index)].hasPicture = true
        return unit
    }

    /// The unit that was added `distance` units before the last.
    func id(behind distance: Int) -> Int? { distance < units.count ? units[units.count - 1 - distance].id : units.first?.id }

    var oldestWithoutPicture: Int? { units.first { !$0.hasPicture }?.id }

    mutating func removeAll() {
        first += Int64(units.count)
        units = []
    }
}

/// When pictures are shown: as the units say, or, where they say nonsense or nothing, as FFmpeg guesses: the time of decoding of the unit that
/// made the decoder hand out the picture, and without that one duration after the picture before.
struct PresentationClock {
    private var (faultyPTS, faultyDTS) = (0, 0)
    private var (lastPTS, lastDTS): (Int64, Int64) = (.min, .min)
    private var last: Int64?

    mutating func time(of unit: UnitFacts, decodedAt dts: Int64?) -> Int64 {
        if let dts {
            if dts <= lastDTS { faultyDTS += 1 }
            lastDTS = dts
        } else if let pts = unit.pts {
            lastDTS = pts
        }
        if let pts = unit.pts {
            if pts <= lastPTS { faultyPTS += 1 }
            lastPTS = pts
        } else if let dts {
            lastPTS = dts
        }
        let trusted = faultyPTS <= faultyDTS || dts == nil ? unit.pts : nil
        let time = trusted ?? dts ?? last.map { $0 &+ max(1, unit.duration) } ?? 0
        last = time
        return time
    }
}
