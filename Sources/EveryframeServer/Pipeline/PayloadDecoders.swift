import FrameMedia
import FrameTransport
import Media
import NIOCore
import Synchronization

struct DecodedPicture: Sendable {
    /// Of the unit that it came from.
    var id: Int
    /// In presentation order, from 1; where units are decoded side by side the id.
    var number: Int
    var frame: VideoFrame
}

/// Turns the payloads of one job into pictures: JPEG, PNG and raw pictures on any thread, access units with decoders of their own.
final class PayloadDecoders: Sendable {
    struct Output: Sendable {
        var pictures: [DecodedPicture] = []
        var refused: [(id: Int, reason: String)] = []
    }

    /// Whoever took the decoder out has it alone until it comes back: the state holds what nobody uses.
    private struct Idle: @unchecked Sendable {
        let decoder: AccessUnitDecoder
    }

    private struct State {
        /// The one whose pictures refer to each other.
        var ordered: Idle?
        var parallel: [Idle] = []
        var number = 0
        /// Until a decoder says better.
        var delay = JobLimits.maximumID
    }

    private let pixelLimit: Int
    private let threads: Int
    private let isLive: Bool
    private let state = Mutex(State())

    init(pixelLimit: Int, threads: Int, isLive: Bool) {
        self.pixelLimit = pixelLimit
        self.threads = threads
        self.isLive = isLive
    }

    /// Its codec knows no references between pictures.
    static func isIndependent(_ frame: ReceivedFrame) -> Bool { frame.configuration.map { CodecRules.isIntraOnly($0.codec) } ?? false }

    /// After so many further units a unit without a picture has none.
    var maximumDelay: Int { state.withLock { $0.delay } }

    /// - Parameter isParallel: other units may be decoded at the same time; else units come one after the other, in order of ids.
    func decode(_ frame: ReceivedFrame, isParallel: Bool) -> Output {
        do {
            if frame.info.encoding == .source { return try decodeUnit(frame, isParallel: isParallel) }
            let picture = try decodePicture(frame)
            return Output(pictures: [DecodedPicture(id: frame.id, number: frame.id, frame: picture)])
        } catch {
            return Output(refused: [(frame.id, "\(error)")])
        }
    }

    /// What the ordered decoder kept back.
    func flush() -> [DecodedPicture] {
        guard let idle = state.withLock({ $0.ordered.take() }) else { return [] }
        return number(idle.decoder.flush().pictures)
    }

    // MARK: Access units

    private func decodeUnit(_ frame: ReceivedFrame, isParallel: Bool) throws -> Output {
        guard let configuration = frame.configuration else { throw MediaError.conversionFailed(reason: "the unit has no codec configuration") }
        let parameters = CodecParameters(configuration)
        let facts = frame.info.streamFacts
        let taken = state.withLock { isParallel ? $0.parallel.popLast() : $0.ordered.take() }
        let decoder = try taken?.decoder ?? makeDecoder(parameters, facts, isParallel: isParallel)
        defer {
            let idle = Idle(decoder: decoder)
            state.withLock { state in
                if isParallel {
                    state.parallel.append(idle)
                } else {
                    state.ordered = idle
                    state.delay = decoder.maximumDelay
                }
            }
        }
        decoder.facts = facts
        let unit = frame.info.unitFacts
        let output = try frame.payload.contiguous.withUnsafeReadableBytes { bytes in try decoder.decode(bytes, unit, id: frame.id, parameters: parameters) }
        var result = Output(refused: output.refused.map { ($0.id, $0.reason) })
        result.pictures = isParallel ? output.pictures.map { DecodedPicture(id: $0.id, number: $0.id, frame: $0.frame) } : number(output.pictures)
        return result
    }

    private func makeDecoder(_ parameters: CodecParameters, _ facts: StreamFacts, isParallel: Bool) throws -> AccessUnitDecoder {
        var configuration = AccessUnitDecoder.Configuration()
        configuration.threads = isParallel ? 1 : threads
        configuration.pixelLimit = pixelLimit
        configuration.lowDelay = isLive
        return try AccessUnitDecoder(parameters, facts: facts, configuration: configuration)
    }

    private func number(_ pictures: [AccessUnitDecoder.Picture]) -> [DecodedPicture] {
        state.withLock { state in
            pictures.map { picture in
                state.number += 1
                return DecodedPicture(id: picture.id, number: state.number, frame: picture.frame)
            }
        }
    }

    // MARK: Pictures

    static let codecs = JPEGCodecPool()

    private func decodePicture(_ frame: ReceivedFrame) throws -> VideoFrame {
        let picture: VideoFrame
        switch frame.info.encoding {
        // planes, as the picture was encoded: the model samples what it needs of them
        case .jpeg:
            picture = try frame.payload.contiguous.withUnsafeReadableBytes { bytes in
                try Self.codecs.withCodec { try $0.decode(bytes, to: .i420, pixelLimit: pixelLimit) }
            }
        case .png: picture = try frame.payload.contiguous.withUnsafeReadableBytes { try PNGCodec.decode($0, pixelLimit: pixelLimit) }
        case .raw: picture = try RawPicture.frame(frame.info, frame.payload, pixelLimit: pixelLimit)
        case .source: throw MediaError.conversionFailed(reason: "an access unit is no picture")
        }
        var upright = picture.turned(Media.Orientation(frame.info.orientation))
        upright.pts = frame.info.pts ?? 0
        upright.timeBase = Media.TimeBase(frame.info.timeBase)
        return upright
    }
}
