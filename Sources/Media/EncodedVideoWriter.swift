import CFFmpeg

/// Puts H.264 access units, as `VideoStreamEncoder` makes them, into a file (MP4, Matroska, …) with their own times: nothing is decoded or
/// encoded. One thread at a time. Nothing is complete before `finish()`.
///
/// The file begins with the first key frame that has its parameter sets with it. Sets in later units stay there, so pictures of another size
/// are carried: FFmpeg follows them; some players may expect one size in an MP4.
package final class EncodedVideoWriter {
    package var path: String { muxer.path }
    package private(set) var unitsWritten = 0
    /// Left out because they came before the first key frame.
    package private(set) var unitsSkipped = 0

    private let muxer: FileMuxer
    private let parser: AccessUnitParser
    private let frameRate: Double
    private var timeBase: AVRational?
    /// The last unit, whose duration the next one tells.
    private let pending: PictureBox
    private var hasPending = false
    private var lastDuration: Int64?
    /// What the last unit's sender said.
    private var saidDuration: Int64?

    /// Creates the file, or empties the one that is there.
    /// - Parameter frameRate: for players, and for the duration of a file with a single unit.
    package init(path: String, frameRate: Double = 25) throws(MediaError) {
        self.frameRate = frameRate.isFinite && frameRate > 0.001 ? frameRate : 25
        pending = try PictureBox()
        parser = try AccessUnitParser()
        muxer = try FileMuxer(path: path)
        try muxer.open()
    }

    /// - Parameters:
    ///   - unit: one access unit in byte-stream format, of a stream without B-frames.
    ///   - pts: in `timeBase`; later than the one before.
    ///   - duration: in `timeBase`, where it is known; needed of the last unit only, which else lasts as long as the one before.
    /// - Returns: false where the unit was left out, because the first key frame is still to come.
    @discardableResult
    package func write(_ unit: UnsafeRawBufferPointer, pts: Int64, timeBase: TimeBase, duration: Int64? = nil) throws(MediaError) -> Bool {
        guard !muxer.isFinished else { throw .cannotWrite(path: path, reason: "it is finished") }
        guard timeBase.numerator > 0, timeBase.denominator > 0 else { throw .cannotEncode(reason: "a time base of \(timeBase) is none") }
        let box = try PictureBox()
        let packet = box.packet
        guard let source = unit.baseAddress, unit.count <= Int(Int32.max) / 2, av_new_packet(packet, Int32(unit.count)) == 0,
            let data = packet.pointee.data
        else { throw .cannotEncode(reason: "there is no access unit of \(unit.count) bytes") }
        data.update(from: source.assumingMemoryBound(to: UInt8.self), count: unit.count)
        guard let parsed = parser.parse(packet) else { throw .cannotEncode(reason: "there is no H.264 picture in the \(unit.count) bytes") }

        let tick: AVRational
        if let chosen = self.timeBase {
            tick = chosen
        } else if parsed.isKeyFrame, !parsed.parameterSets.isEmpty {
            tick = try begin(parsed, timeBase)
        } else {
            unitsSkipped += 1
            return false
        }
        let time = av_rescale_q(pts, timeBase.rational, tick)
        if hasPending {
            let (length, overflow) = time.subtractingReportingOverflow(pending.packet.pointee.pts)
            guard length > 0, !overflow else { throw .cannotEncode(reason: "the time \(pts) is not after the one before") }
            try writePending(duration: length)
        }
        (packet.pointee.pts, packet.pointee.dts) = (time, time)
        if parsed.isKeyFrame { packet.pointee.flags |= AV_PKT_FLAG_KEY }
        av_packet_move_ref(pending.packet, packet)
        hasPending = true
        saidDuration = duration.map { av_rescale_q($0, timeBase.rational, tick) }
        unitsWritten += 1
        return true
    }

    /// Writes the last unit and the file's index. A file without a key frame stays empty.
    package func finish() throws(MediaError) {
        guard !muxer.isFinished else { return }
        if hasPending {
            let one = timeBase.map { av_rescale_q(1, av_inv_q(av_d2q(frameRate, 1_000_000)), $0) } ?? 1
            try writePending(duration: max(1, saidDuration ?? lastDuration ?? one))
        }
        try muxer.finish()
    }

    private func begin(_ unit: AccessUnitParser.Unit, _ timeBase: TimeBase) throws(MediaError) -> AVRational {
        try checkSize(unit.width, unit.height, limit: VideoFrame.defaultPixelLimit)
        // durations in MP4 are 32-bit: with ticks of a nanosecond no frame could last five seconds
        let tick = timeBase.denominator > 1_000_000 ? TimeBase.microseconds.rational : timeBase.rational
        let parser = parser
        try muxer.begin(timeBase: tick, frameRate: av_d2q(frameRate, 1_000_000)) { parameters in
            parameters.pointee.codec_type = AVMEDIA_TYPE_VIDEO
            parameters.pointee.codec_id = AV_CODEC_ID_H264
            (parameters.pointee.width, parameters.pointee.height) = (Int32(unit.width), Int32(unit.height))
            parser.describe(parameters)
            // freed with the parameters
            let count = unit.parameterSets.count
            guard let extradata = av_mallocz(count + Int(AV_INPUT_BUFFER_PADDING_SIZE))?.assumingMemoryBound(to: UInt8.self) else { return -1 }
            for (index, byte) in unit.parameterSets.enumerated() { extradata[index] = byte }
            parameters.pointee.extradata = extradata
            parameters.pointee.extradata_size = Int32(count)
            return 0
        }
        self.timeBase = tick
        return tick
    }

    private func writePending(duration: Int64) throws(MediaError) {
        guard let timeBase else { return }
        pending.packet.pointee.duration = duration
        lastDuration = duration
        hasPending = false
        try muxer.write(pending.packet, timeBase: timeBase)
    }
}
