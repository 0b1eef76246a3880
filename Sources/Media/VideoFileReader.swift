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
        /// Seconds from the file's beginning: frames at `start` or later and before `end`; nil: all.
        package var start, end: Double?

        package init(
            format: PixelFormat? = nil, threads: Int = 0, pixelLimit: Int = VideoFrame.defaultPixelLimit, start: Double? = nil, end: Double? = nil
        ) {
            self.format = format
            self.threads = threads
            self.pixelLimit = pixelLimit
            self.start = start
            self.end = end
        }
    }

    package typealias Info = VideoInfo

    package struct Damage: Sendable, Equatable {
        package var refusedPackets = 0
        /// Handed out, but the decoder had to make up parts of them.
        package var concealedFrames = 0
        /// The file stopped before its end.
        package var readError: String?
        package var isNone: Bool { self == Damage() }
    }

    package var info: Info { units.info }
    package private(set) var damage = Damage()
    package private(set) var framesRead = 0

    private let location: MediaLocation
    private let configuration: Configuration
    private let units: PacketReader
    private let decoder: AccessUnitDecoder
    private var unitsRead = 0
    /// The next frame is the last.
    private var ready: [VideoFrame] = []
    private var hasEnded = false

    package convenience init(path: String, configuration: Configuration = Configuration()) throws(MediaError) {
        try self.init(.file(path), configuration: configuration)
    }

    /// Of any source: then it is "the file" in all that is said here.
    package convenience init(
        _ location: MediaLocation, configuration: Configuration = Configuration(), cancellation: Cancellation = Cancellation()
    ) throws(MediaError) {
        try self.init(
            PacketReader(
                location,
                options: .init(start: configuration.start, end: configuration.end, pixelLimit: configuration.pixelLimit, cancellation: cancellation)),
            configuration: configuration)
    }

    /// Of a source that is open, and of which nothing was read. `start` and `end` are then the reader's.
    package init(_ units: PacketReader, configuration: Configuration = Configuration()) throws(MediaError) {
        location = units.location
        self.configuration = configuration
        self.units = units
        do throws(MediaError) {
            decoder = try AccessUnitDecoder(
                units.parameters, facts: units.facts,
                configuration: .init(format: configuration.format, threads: configuration.threads, pixelLimit: configuration.pixelLimit, anyCodec: true))
        } catch .noDecoder(let codec) {
            throw .unsupportedCodec(path: location.description, codec: codec)
        }
    }

    /// The next frame; nil after the last.
    package func next() throws(MediaError) -> VideoFrame? {
        while ready.isEmpty, !hasEnded {
            if let unit = try units.next() {
                unitsRead += 1
                take(try decoder.decode(unit, id: unitsRead))
            } else {
                damage.readError = units.damage.readError
                take(decoder.flush())
                hasEnded = true
            }
        }
        if let frame = ready.popLast() {
            framesRead += 1
            return frame
        }
        // a part of a file may well be empty
        guard framesRead > 0 || units.isPart else {
            throw .undecodable(path: location.description, reason: damage.readError ?? (damage.isNone ? "there is none in it" : "the data is damaged"))
        }
        return nil
    }

    private func take(_ output: AccessUnitDecoder.Output) {
        damage.refusedPackets += output.refused.count
        damage.concealedFrames += output.pictures.count { $0.isConcealed }
        ready = output.pictures.reversed().map(\.frame)
    }
}
