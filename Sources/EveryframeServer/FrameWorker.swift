import FrameTransport
import Inference
import Media
import NIOCore
import NIOPosix
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

/// Decodes frames on threads of its own and has them inferred; shared by all sessions.
struct FrameWorker: Sendable {
    let model: Predictor
    let decoders: NIOThreadPool
    let pixelLimit: Int

    func answer(_ frame: AssembledFrame) async -> FrameAnswer {
        let receivedAt = WallClock.timestamp()
        var times = FrameTimes()
        do {
            let decoded = try await decoders.runIfActive { [pixelLimit] in
                let start = WallClock.now()
                let picture = try Self.decode(frame, pixelLimit: pixelLimit)
                return (picture: picture, start: start, end: WallClock.now())
            }
            times.wait = decoded.start - frame.completedAt
            times.decode = decoded.end - decoded.start
            let prediction = try await model.predict(decoded.picture)
            times.wait = times.wait + prediction.wait
            times.inference = prediction.inference
            return FrameAnswer(id: frame.id, outcome: .success(prediction.outputs), receivedAt: receivedAt, times: times)
        } catch let error as Base64.DecodingError {
            return FrameAnswer(id: frame.id, outcome: .failure("the frame's base64 is not valid: \(error)"), receivedAt: receivedAt)
        } catch let error as MediaError {
            return FrameAnswer(id: frame.id, outcome: .failure("\(error)"), receivedAt: receivedAt)
        } catch {
            return FrameAnswer(id: frame.id, outcome: .failure("\(error)"), receivedAt: receivedAt, isServerFault: true)
        }
    }

    private static let codecs = JPEGCodecPool()

    private static func decode(_ frame: AssembledFrame, pixelLimit: Int) throws -> VideoFrame {
        let payload = try frame.payload()
        return try payload.withUnsafeReadableBytes { bytes in
            switch frame.encoding {
            // planes, as the picture was encoded: the model samples what it needs of them
            case .jpeg: try codecs.withCodec { try $0.decode(bytes, to: .i420, pixelLimit: pixelLimit) }
            case .png: try PNGCodec.decode(bytes, pixelLimit: pixelLimit)
            }
        }
    }
}
