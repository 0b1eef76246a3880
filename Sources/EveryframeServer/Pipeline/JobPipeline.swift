import FrameTransport
import Inference
import Media
import NIOCore
import Synchronization
import WebRTCNIO
import Wire

/// What all jobs of a server share: the threads, the model, and what one job may hold.
struct PipelineResources: Sendable {
    let pool: WorkPool
    let predictor: Predictor
    /// Decoded pictures of one job between decoder and answer.
    let frames: Int
    /// The same in bytes; one picture always has a place.
    let bytes: Int
    let pixelLimit: Int
    /// Threads of one stream's decoder, where its codec can use several.
    let threadsPerDecoder: Int
}

/// One job's way from payload to answer:
///
///     submit ─► waiting ─► decode (ordered for access units, in parallel for pictures) ─► batcher ─► draw, encode ─► answered
///
/// Nothing is decoded while `frames` pictures or `bytes` are on their way, so what waits stays compressed, and the job's credit bounds that.
/// Entered from the event loop without blocking; `emit` is called on any thread.
final class JobPipeline: Sendable {
    enum Event: Sendable {
        /// The unit's picture is the next in presentation order.
        case ordered(Int)
        /// The payload is not needed any more.
        case released(Int)
        /// Units below have no picture unless they were ordered.
        case settled(below: Int)
        case answered(Int, Answer)
        /// Its bytes are what was sent, and no picture.
        case undecodable(Int, reason: String)
    }

    private struct Unit: Sendable {
        var frame: ReceivedFrame
        /// `State.blocked` when it came.
        var blockedBefore: Duration
    }

    private struct State {
        /// In order of arrival; where a decoder depends on the order, in order of ids.
        var waiting: [Unit] = []
        var lost: Set<Int> = []
        var nextID = 1
        /// Access units of a codec without references between pictures, so far: they are decoded side by side, in order of ids.
        var isParallel = true
        var decoding = 0
        /// Pictures decoded and not answered.
        var pictures = 0
        var pictureBytes = 0
        var last: Int?
        var isFlushed = false
        var isCancelled = false
        /// When the units that are on their way arrived; pictures come later, and in another order.
        var arrivals: [Int: Int64] = [:]
        var idleSince: Instant?
        var idle: Duration = .zero
        /// No picture has a place, whatever the decoder could do.
        var blockedSince: Instant?
        var blocked: Duration = .zero
        /// The same for all units together.
        var unitsBlocked: Duration = .zero

        var isIdle: Bool { waiting.isEmpty && decoding == 0 && pictures == 0 }

        func blocked(at now: Instant) -> Duration { blocked + (blockedSince.map { max(.zero, now - $0) } ?? .zero) }

        mutating func note(isBlocked: Bool, at now: Instant) {
            guard isBlocked != (blockedSince != nil) else { return }
            blocked = blocked(at: now)
            blockedSince = isBlocked ? now : nil
        }

        /// Counts time without work.
        mutating func note(at now: Instant, isIdle: Bool) {
            if let since = idleSince, !isIdle {
                idle += max(.zero, now - since)
                idleSince = nil
            } else if idleSince == nil, isIdle {
                idleSince = now
            }
        }
    }

    let parameters: JobParameters
    private let format: Answer.Format
    private let isOrdered: Bool
    private let resources: PipelineResources
    private let line: WorkPool.Line
    private let stream: Batcher.Stream
    private let decoders: PayloadDecoders
    private let images: ImageStage?
    private let emit: @Sendable (Event) -> Void
    private let state: Mutex<State>

    init(
        request: JobRequest, parameters: JobParameters, resources: PipelineResources, at now: Instant, emit: @escaping @Sendable (Event) -> Void
    ) {
        self.parameters = parameters
        self.resources = resources
        self.emit = emit
        format = request.resultFormat
        isOrdered = request.encoding == .source
        line = resources.pool.makeLine(isSerial: false)
        stream = resources.predictor.makeStream()
        decoders = PayloadDecoders(pixelLimit: resources.pixelLimit, threads: parameters.isLive ? 1 : resources.threadsPerDecoder, isLive: parameters.isLive)
        images = parameters.image.map { ImageStage($0, pool: resources.pool) }
        state = Mutex(State(idleSince: now))
    }

    // MARK: What the job's owner says

    /// A unit that is whole.
    func submit(_ frame: ReceivedFrame, receivedAt: Int64) {
        state.withLock { state in
            state.note(at: frame.receivedAt, isIdle: false)
            state.arrivals[frame.id] = receivedAt
            let unit = Unit(frame: frame, blockedBefore: state.blocked(at: frame.receivedAt))
            let index = isOrdered ? state.waiting.lastIndex { $0.frame.id < frame.id }.map { $0 + 1 } ?? 0 : state.waiting.count
            state.waiting.insert(unit, at: index)
        }
        advance()
    }

    /// A unit that will never come, or that was given up.
    func skip(_ id: Int) {
        let isParallel = state.withLock { state in
            if isOrdered { state.lost.insert(id) }
            state.arrivals[id] = nil
            return state.isParallel
        }
        if isParallel { images?.skip(id) }
        advance()
    }

    /// No unit follows this one: the decoder gives what it kept back.
    func finish(last: Int) {
        state.withLock { $0.last = last }
        advance()
    }

    /// Nothing is answered any more. What a thread works on right now goes on to its end.
    func cancel() {
        state.withLock { state in
            state.isCancelled = true
            state.waiting.removeAll()
        }
        line.cancel()
        stream.cancel()
        images?.cancel()
    }

    /// How long there was nothing to do, and how long all units together waited for what follows the decoder.
    func stoppages(at now: Instant) -> (idle: Duration, blocked: Duration) {
        state.withLock { ($0.idle + ($0.idleSince.map { now - $0 } ?? .zero), $0.unitsBlocked) }
    }

    /// Bytes of decoded pictures.
    var pictureBytes: Int { state.withLock { $0.pictureBytes } }

    // MARK: Decoding

    /// - Parameter isFollowing: an item of the pool calls, as the last thing that it does.
    private func advance(isFollowing: Bool = false) {
        var isFollowing = isFollowing
        while let work = state.withLock({ next(&$0) }) {
            let item: @Sendable () -> Void = {
                switch work {
                case .decode(let unit, let isParallel): self.decode(unit, isParallel: isParallel)
                case .flush(let last): self.flush(last)
                }
            }
            // the line was cancelled with the job
            guard isFollowing ? line.follow(with: item) : line.submit(item) else { return }
            isFollowing = false
        }
    }

    private enum Work: Sendable {
        case decode(Unit, isParallel: Bool)
        case flush(last: Int)
    }

    private func next(_ state: inout State) -> Work? {
        guard !state.isCancelled else { return nil }
        let places = resources.frames - state.pictures - state.decoding
        let hasPlace = places > 0 && (state.pictureBytes < resources.bytes || state.pictures == 0)
        state.note(isBlocked: !hasPlace && !state.waiting.isEmpty, at: .now)
        guard hasPlace else { return nil }
        guard isOrdered else {
            guard !state.waiting.isEmpty else { return nil }
            state.decoding += 1
            return .decode(state.waiting.removeFirst(), isParallel: true)
        }
        while state.lost.remove(state.nextID) != nil { state.nextID += 1 }
        if let first = state.waiting.first, first.frame.id <= state.nextID {
            if state.isParallel, PayloadDecoders.isIndependent(first.frame) {
                emit(.ordered(first.frame.id))
            } else {
                guard state.decoding == 0 else { return nil }
                state.isParallel = false
            }
            state.decoding += 1
            state.nextID = max(state.nextID, first.frame.id + 1)
            return .decode(state.waiting.removeFirst(), isParallel: state.isParallel)
        }
        guard let last = state.last, state.nextID > last, !state.isFlushed, state.decoding == 0 else { return nil }
        state.isFlushed = true
        state.decoding = 1
        return .flush(last: last)
    }

    private func decode(_ unit: Unit, isParallel: Bool) {
        let start = Instant.now
        let frame = unit.frame
        state.withLock { $0.unitsBlocked += max(.zero, $0.blocked - unit.blockedBefore) }
        let result = decoders.decode(frame, isParallel: isParallel)
        var times = StageTimes()
        times.wait = (start - frame.receivedAt).inWholeMicroseconds
        times.decode = (Instant.now - start).inWholeMicroseconds
        // a picture that is none is asked for again, so its payload is not done with
        if isOrdered || result.refused.isEmpty { emit(.released(frame.id)) }
        for picture in result.pictures { show(picture, isParallel: isParallel, times) }
        for (id, reason) in result.refused {
            if isParallel { images?.skip(id) }
            // access units say nothing better when they are sent again: what arrived is what was sent
            if isOrdered { fail(id, reason) } else { emit(.undecodable(id, reason: reason)) }
        }
        if isOrdered {
            let settled = isParallel ? frame.id + 1 : frame.id - decoders.maximumDelay
            emit(.settled(below: settled))
            // those that had no picture
            state.withLock { state in
                if state.arrivals.count > 256 { state.arrivals = state.arrivals.filter { $0.key >= settled } }
            }
        }
        decoded()
    }

    private func flush(_ last: Int) {
        for picture in decoders.flush() { show(picture, isParallel: false, StageTimes()) }
        emit(.settled(below: last + 1))
        decoded()
    }

    private func fail(_ id: Int, _ reason: String) { emit(.answered(id, .failure(.undecodable, reason, format: format))) }

    private func decoded() {
        state.withLock { state in
            state.decoding -= 1
            state.note(at: .now, isIdle: state.isIdle)
        }
        advance(isFollowing: true)
    }

    // MARK: Inference and what follows

    private func show(_ picture: DecodedPicture, isParallel: Bool, _ times: StageTimes) {
        let (id, frame) = (picture.id, picture.frame)
        if !isParallel { emit(.ordered(id)) }
        let place = isParallel ? id : picture.number
        guard !isOrdered || (place - 1) % parameters.stride == 0 else {
            images?.skip(place)
            return emit(.answered(id, Answer(status: .noPicture, format: format)))
        }
        let receivedAt = state.withLock { state in
            state.pictures += 1
            state.pictureBytes += frame.byteCount
            return state.arrivals.removeValue(forKey: id)
        }
        stream.submit(frame) { result in
            var times = times
            switch result {
            case .success(let batched):
                times.batch = (batched.queued + batched.result.waited).inWholeMicroseconds
                times.infer = batched.inferred.inWholeMicroseconds
                self.answer(id, place, frame, batched.result, times, receivedAt)
            case .failure(let error):
                self.images?.skip(place)
                self.finish(id, frame, .failure(.inferenceFailed, "\(error)", format: self.format), times, receivedAt)
            }
        }
    }

    private func answer(
        _ id: Int, _ place: Int, _ frame: VideoFrame, _ result: Inference.FrameResult, _ times: StageTimes, _ receivedAt: Int64?
    ) {
        let start = Instant.now
        var answer = Answer(format: format)
        if parameters.outputMode != .video, let outputs = parameters.dataOutput.select(from: Predictor.json(result)) {
            answer.body = format.encode(outputs)
        }
        let data = answer
        guard let images else {
            var times = times
            times.serialise = (Instant.now - start).inWholeMicroseconds
            return finish(id, frame, data, times, receivedAt)
        }
        images.submit(place, frame, result) { image in
            var answer = data
            switch image {
            case .success(let image): answer.image = image
            case .failure(let error): answer = .failure(.inferenceFailed, "the annotated picture: \(error)", format: self.format)
            }
            var times = times
            times.serialise = (Instant.now - start).inWholeMicroseconds
            self.finish(id, frame, answer, times, receivedAt)
        }
    }

    private func finish(_ id: Int, _ frame: VideoFrame, _ answer: Answer, _ times: StageTimes, _ receivedAt: Int64?) {
        var answer = answer
        answer.times = times
        answer.receivedAt = receivedAt
        emit(.answered(id, answer))
        state.withLock { state in
            state.pictures -= 1
            state.pictureBytes -= frame.byteCount
            state.note(at: .now, isIdle: state.isIdle)
        }
        advance()
    }
}

extension Duration {
    /// For stage times, which have 32 bits.
    var inWholeMicroseconds: UInt32 { UInt32(clamping: inNanoseconds / 1000) }
}
