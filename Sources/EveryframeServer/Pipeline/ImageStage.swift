import FrameTransport
import Inference
import Media
import NIOCore
import Synchronization

/// Draws what was found and encodes the picture: JPEG side by side, H.264 one after the other in presentation order.
final class ImageStage: Sendable {
    typealias Completion = @Sendable (Result<Answer.Image, any Error>) -> Void

    private struct Request: Sendable {
        var frame: VideoFrame
        var result: Inference.FrameResult
        var completion: Completion
    }

    private struct State {
        /// The place whose picture is encoded next.
        var next = 1
        /// nil: there will be no picture at this place.
        var waiting: [Int: Request?] = [:]
    }

    /// Belongs to `line`, which is serial.
    private struct Encoder: @unchecked Sendable {
        let encoder: VideoStreamEncoder
    }

    private let format: JobParameters.ImageFormat
    private let line: WorkPool.Line
    private let state = Mutex(State())
    private let encoder = Mutex<Encoder?>(nil)

    init(_ format: JobParameters.ImageFormat, pool: WorkPool) {
        self.format = format
        if case .h264 = format { line = pool.makeLine(isSerial: true) } else { line = pool.makeLine(isSerial: false) }
    }

    /// `place`: the picture's place in presentation order, from 1. Each place is submitted or skipped, once.
    func submit(_ place: Int, _ frame: VideoFrame, _ result: Inference.FrameResult, completion: @escaping Completion) {
        enter(place, Request(frame: frame, result: result, completion: completion))
    }

    func skip(_ place: Int) { enter(place, nil) }

    func cancel() { line.cancel() }

    private func enter(_ place: Int, _ request: Request?) {
        guard case .h264 = format else {
            if let request { start(request) }
            return
        }
        // started under the lock, so that the line has them in order
        state.withLock { state in
            state.waiting[place] = .some(request)
            while let ready = state.waiting.removeValue(forKey: state.next) {
                state.next += 1
                if let ready { start(ready) }
            }
        }
    }

    private func start(_ request: Request) {
        let isTaken = line.submit { request.completion(Result { try self.encode(request) }) }
        // the job is over, and with it whoever would want to know
        if !isTaken { request.completion(.failure(CancellationError())) }
    }

    private func encode(_ request: Request) throws -> Answer.Image {
        var annotator = Annotator()
        if request.result.isSynthetic { annotator.caption = "synthetic" }
        let picture = try annotator.draw(request.result, on: request.frame)
        let (width, height) = (UInt16(clamping: picture.width), UInt16(clamping: picture.height))
        switch format {
        case .jpeg(let quality):
            let bytes = try Self.codecs.withCodec { try $0.encode(picture, quality: quality) { ByteBuffer(bytes: $0) } }
            return Answer.Image(encoding: .jpeg, width: width, height: height, bytes: bytes)
        case .h264(let quality):
            let taken = encoder.withLock { $0.take() }
            let encoder = try taken?.encoder ?? VideoStreamEncoder(configuration: .init(quality: quality))
            defer { self.encoder.withLock { $0 = Encoder(encoder: encoder) } }
            let unit = try encoder.encode(picture)
            return Answer.Image(encoding: .h264, width: width, height: height, bytes: ByteBuffer(bytes: unit.bytes))
        }
    }

    private static let codecs = JPEGCodecPool()
}
