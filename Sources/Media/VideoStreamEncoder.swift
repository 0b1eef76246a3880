import CFFmpeg

/// Encodes frames as an H.264 stream: exactly one access unit for each frame, at once. One thread at a time.
///
/// Access units are in byte-stream format (Annex B), each key frame begins with its parameter sets, and there are no B-frames: units are in
/// the order of presentation, and each goes with its frame's time. The first frame, and the first of another size, is a key frame.
package final class VideoStreamEncoder {
    package struct Configuration: Sendable {
        /// x264's constant rate factor: 1 … 51, smaller is better.
        package var quality: Int
        package var preset: String
        /// Frames from one key frame to the next at most.
        package var keyFrameInterval: Int
        /// For rate control only; frames are taken to come at this rate.
        package var frameRate: Double
        /// Encoder threads, which share each picture; 0: as many as there are cores.
        package var threads: Int

        package init(quality: Int = 23, preset: String = "veryfast", keyFrameInterval: Int = 50, frameRate: Double = 25, threads: Int = 1) {
            self.quality = quality
            self.preset = preset
            self.keyFrameInterval = keyFrameInterval
            self.frameRate = frameRate
            self.threads = threads
        }
    }

    package struct AccessUnit: Sendable {
        package var bytes: [UInt8]
        /// Decoding can begin here.
        package var isKeyFrame: Bool
        /// Of the coded picture: the frame's, made even.
        package var width, height: Int
    }

    private let configuration: Configuration
    private let codec: UnsafePointer<AVCodec>
    private var encoder: VideoEncoder?
    private var frameCount: Int64 = 0

    /// - Throws: `missingEncoder` where FFmpeg was built without x264.
    package init(configuration: Configuration = Configuration()) throws(MediaError) {
        guard (1...51).contains(configuration.quality) else { throw .cannotEncode(reason: "a quality of \(configuration.quality) is not from 1 to 51") }
        guard configuration.keyFrameInterval > 0, configuration.frameRate.isFinite, configuration.frameRate > 0.001 else {
            throw .cannotEncode(reason: "a stream needs a frame rate and an interval between key frames")
        }
        codec = try VideoEncoder.h264()
        self.configuration = configuration
    }

    /// - Parameter asKeyFrame: begin anew with this frame, as after an interruption.
    package func encode(_ frame: VideoFrame, asKeyFrame: Bool = false) throws(MediaError) -> AccessUnit {
        try encode(frame, asKeyFrame: asKeyFrame) { bytes, isKeyFrame in
            AccessUnit(bytes: Array(bytes), isKeyFrame: isKeyFrame, width: (frame.width + 1) / 2 * 2, height: (frame.height + 1) / 2 * 2)
        }
    }

    /// The same without a copy: `body` sees the encoder's own bytes, and whether it is a key frame.
    package func encode<Result>(
        _ frame: VideoFrame, asKeyFrame: Bool = false, _ body: (UnsafeRawBufferPointer, Bool) -> Result
    ) throws(MediaError) -> Result {
        let colour = frame.format == .bgr24 ? Colour.video : frame.colour
        let encoder: VideoEncoder
        if let open = self.encoder, open.width == frame.width, open.height == frame.height, open.colour == colour {
            encoder = open
        } else {
            encoder = try open(width: frame.width, height: frame.height, colour: colour)
            self.encoder = encoder
        }
        var result: Result?
        do throws(MediaError) {
            try encoder.encode(frame, pts: frameCount, asKeyFrame: asKeyFrame) { packet in
                guard result == nil else { return }
                let bytes = UnsafeRawBufferPointer(start: packet.pointee.data, count: Int(packet.pointee.size))
                result = body(bytes, packet.pointee.flags & AV_PKT_FLAG_KEY != 0)
            }
        } catch {
            // whatever it holds, the next frame begins anew
            self.encoder = nil
            throw error
        }
        frameCount += 1
        guard let result else {
            self.encoder = nil
            throw .cannotEncode(reason: "the encoder held the picture back")
        }
        return result
    }

    private func open(width: Int, height: Int, colour: Colour) throws(MediaError) -> VideoEncoder {
        let settings = VideoEncoder.Settings(
            frameRate: configuration.frameRate, quality: configuration.quality, preset: configuration.preset, threads: configuration.threads,
            keyFrameInterval: configuration.keyFrameInterval, bFrames: 0, isImmediate: true)
        let tick = av_inv_q(av_d2q(configuration.frameRate, 1_000_000))
        return try VideoEncoder(codec, width: width, height: height, timeBase: TimeBase(tick), colour: colour, settings: settings)
    }
}
