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

    /// Whether a file of that name can be such a one; nothing is touched.
    package static func check(path: String) throws(MediaError) { _ = try FileMuxer(path: path) }

    package var path: String { muxer.path }
    /// The encoder's name, as FFmpeg knows it.
    package var codec: String { encoder.name }
    package private(set) var framesWritten = 0

    private let encoder: VideoEncoder
    private let muxer: FileMuxer
    private var lastPTS: Int64?

    /// - Parameters:
    ///   - timeBase: what the frames' times are counted in.
    ///   - colour: what is written; frames of other colours are converted.
    package init(
        path: String, width: Int, height: Int, timeBase: TimeBase, colour: Colour = .video, configuration: Configuration = Configuration()
    ) throws(MediaError) {
        muxer = try FileMuxer(path: path)
        guard let codec = avcodec_find_encoder_by_name("libx264") ?? avcodec_find_encoder(AV_CODEC_ID_MPEG4) else {
            throw .missingEncoder(name: "libx264")
        }
        let settings = VideoEncoder.Settings(
            frameRate: configuration.frameRate, quality: configuration.quality, preset: configuration.preset, threads: configuration.threads,
            keyFrameInterval: configuration.keyFrameInterval, bFrames: configuration.bFrames, hasGlobalHeader: muxer.wantsGlobalHeader)
        encoder = try VideoEncoder(codec, width: width, height: height, timeBase: timeBase, colour: colour, settings: settings)
        try muxer.open()
        try muxer.begin(
            timeBase: encoder.timeBase, frameRate: encoder.frameRate, orientation: configuration.orientation, describe: encoder.describe)
    }

    /// Frames may be of any format; sizes must be those given at the start, and times must grow.
    package func write(_ frame: VideoFrame) throws(MediaError) {
        guard !muxer.isFinished else { throw .cannotWrite(path: path, reason: "it is finished") }
        guard frame.timeBase.numerator > 0, frame.timeBase.denominator > 0 else { throw .cannotEncode(reason: "the frame has no time base") }
        let pts = av_rescale_q(frame.pts, frame.timeBase.rational, encoder.timeBase)
        if let lastPTS, pts <= lastPTS { throw .cannotEncode(reason: "the time \(frame.pts) is not after the one before") }
        try encoder.encode(frame, pts: pts) { (packet) throws(MediaError) in try muxer.write(packet, timeBase: encoder.timeBase) }
        lastPTS = pts
        framesWritten += 1
    }

    /// Writes what the encoder still holds and the file's index.
    package func finish() throws(MediaError) {
        guard !muxer.isFinished else { return }
        try encoder.finish { (packet) throws(MediaError) in try muxer.write(packet, timeBase: encoder.timeBase) }
        try muxer.finish()
    }
}
