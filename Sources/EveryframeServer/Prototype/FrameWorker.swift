import FrameTransport
import Inference
import Media
import NIOCore
import WebRTCNIO
import Wire

/// What became of one frame.
struct FrameAnswer: Sendable {
    enum Outcome: Sendable {
        case success(JSONObject)
        case failure(String)
    }
    var id: Int
    var outcome: Outcome
    var receivedAt: String? = WallClock.timestamp()
    var times = FrameTimes()
    /// It failed for a reason that is not in the frame.
    var isServerFault = false
}

/// Decodes the frames of one session of the prototype wire and has them inferred, on the threads and by the batches that all share.
struct FrameWorker: Sendable {
    private let line: WorkPool.Line
    private let stream: Batcher.Stream
    private let pixelLimit: Int

    init(resources: PipelineResources) {
        line = resources.pool.makeLine(isSerial: false)
        stream = resources.predictor.makeStream()
        pixelLimit = resources.pixelLimit
    }

    /// The session is over: what waits is dropped.
    func close() {
        line.cancel()
        stream.cancel()
    }

    func answer(_ frame: AssembledFrame) async -> FrameAnswer {
        let receivedAt = WallClock.timestamp()
        var times = FrameTimes()
        do {
            let (picture, start, end) = try await decode(frame)
            times.wait = start - frame.completedAt
            times.decode = end - start
            let batched = try await infer(picture)
            times.wait = times.wait + batched.queued + batched.result.waited
            times.inference = batched.inferred
            return FrameAnswer(id: frame.id, outcome: .success(Predictor.json(batched.result)), receivedAt: receivedAt, times: times)
        } catch let error as Base64.DecodingError {
            return FrameAnswer(id: frame.id, outcome: .failure("the frame's base64 is not valid: \(error)"), receivedAt: receivedAt)
        } catch let error as MediaError {
            return FrameAnswer(id: frame.id, outcome: .failure("\(error)"), receivedAt: receivedAt)
        } catch {
            return FrameAnswer(id: frame.id, outcome: .failure("\(error)"), receivedAt: receivedAt, isServerFault: true)
        }
    }

    private func decode(_ frame: AssembledFrame) async throws -> (picture: VideoFrame, start: Instant, end: Instant) {
        try await withCheckedThrowingContinuation { continuation in
            let isTaken = line.submit { [pixelLimit] in
                let start = Instant.now
                continuation.resume(with: Result { (try Self.decode(frame, pixelLimit: pixelLimit), start, .now) })
            }
            if !isTaken { continuation.resume(throwing: CancellationError()) }
        }
    }

    private func infer(_ picture: VideoFrame) async throws -> Batcher.Batched {
        try await withCheckedThrowingContinuation { continuation in stream.submit(picture) { continuation.resume(with: $0) } }
    }

    private static func decode(_ frame: AssembledFrame, pixelLimit: Int) throws -> VideoFrame {
        let payload = try frame.payload()
        return try payload.withUnsafeReadableBytes { bytes in
            switch frame.encoding {
            case .jpeg: try PayloadDecoders.codecs.withCodec { try $0.decode(bytes, to: .i420, pixelLimit: pixelLimit) }
            case .png: try PNGCodec.decode(bytes, pixelLimit: pixelLimit)
            }
        }
    }
}
