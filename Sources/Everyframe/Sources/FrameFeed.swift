import FrameTransport
import Media
import NIOCore
import WebRTCNIO
import Wire

/// Reads a source, drops what the policy says, and encodes the rest in order: a few frames ahead of the sender and several at once where
/// the source can wait, else only when the sender asks, so that what goes out is never older than it must be.
actor FrameFeed {
    private let source: any FrameSource
    private let encoder: FrameEncoder
    private let limit: Int
    private var gate: FrameGate<SourceFrame>
    /// For sources that are read all the time.
    private let isOnDemand: Bool
    private let line: Handoff<[Item], StreamError>
    /// Ends with the source, or when `stop()` cancels it.
    private var reading: Task<Void, Never>?
    private var end: Result<Void, StreamError>?

    private enum Item: Sendable {
        case ready(EncodedFrame)
        case encoding(Task<EncodedFrame, any Error>)
    }
    private var waiter: CheckedContinuation<Void, Never>?
    /// Frames that an earlier process has sent.
    private(set) var skip: Int
    private(set) var framesRead = 0
    /// The first frame is read before a job can be opened; it comes out of here with the others.
    private var first: SourceFrame?

    init(
        source: any FrameSource, first: SourceFrame, encoder: FrameEncoder, policy: DropPolicy = .all, isDependent: Bool = false, limit: Int?,
        skip: Int = 0, ahead: Int = 4
    ) throws(StreamError) {
        self.source = source
        self.first = first
        self.encoder = encoder
        self.limit = limit ?? .max
        self.skip = skip
        gate = try JobPlan.gate(policy, isDependent: isDependent)
        switch policy {
        case .latest, .maximumLag: isOnDemand = true
        case .all, .everyNth, .maximumRate: isOnDemand = false
        }
        line = Handoff(capacity: ahead)
    }

    func start() {
        reading = Task { await read() }
    }

    /// The next frames to send; empty after the last.
    func next() async throws(StreamError) -> [EncodedFrame] {
        do {
            if isOnDemand {
                guard let frame = try await wait() else { return [] }
                return [try await encoder.encode(frame)]
            }
            guard let items = try await line.next() else { return [] }
            var frames: [EncodedFrame] = []
            for item in items {
                switch item {
                case .ready(let frame): frames.append(frame)
                case .encoding(let task): frames.append(try await task.value)
                }
            }
            return frames
        } catch {
            throw error as? StreamError ?? StreamError(.sourceFailed, "\(error)")
        }
    }

    func stop() async {
        reading?.cancel()
        await source.stop()
        finish(.success(()))
        for item in await line.abandon().joined() { if case .encoding(let task) = item { task.cancel() } }
    }

    /// What was dropped so far, by reason.
    var drops: DropCounts { gate.drops }

    private func read() async {
        do {
            while framesRead < limit, !Task.isCancelled {
                let frames = try await nextOfSource()
                if frames.isEmpty { break }
                var items: [Item] = []
                for frame in frames.prefix(limit - framesRead) {
                    framesRead += 1
                    gate.offer(frame, seconds: frame.seconds, isKeyframe: frame.isKeyframe, at: .now)
                    if !isOnDemand, let passed = gate.next(at: .now), let item = try pack(passed) { items.append(item) }
                }
                if isOnDemand { wake() }
                if !items.isEmpty, await !line.put(items) { return }
            }
            finish(.success(()))
            await line.finish()
        } catch {
            let error = error as? StreamError ?? StreamError(.sourceFailed, "\(error)")
            finish(.failure(error))
            await line.finish(.failure(error))
        }
    }

    private func nextOfSource() async throws -> [SourceFrame] {
        if let first = first.take() { return [first] }
        return try await source.nextFew()
    }

    /// nil: an earlier process has sent it.
    private func pack(_ frame: SourceFrame) throws -> Item? {
        if skip > 0 {
            skip -= 1
            return nil
        }
        if let ready = try encoder.packed(frame) { return .ready(ready) }
        let encoder = encoder
        return .encoding(Task { try await encoder.encode(frame) })
    }

    private func wait() async throws(StreamError) -> SourceFrame? {
        while true {
            if let frame = gate.next(at: .now) { return frame }
            if let end {
                try end.get()
                return nil
            }
            await withCheckedContinuation { waiter = $0 }
        }
    }

    private func finish(_ result: Result<Void, StreamError>) {
        if end == nil { end = result }
        wake()
    }

    private func wake() {
        waiter?.resume()
        waiter = nil
    }
}

extension SourceFrame {
    fileprivate var seconds: Double? { pts.map { Double($0) * Double(timeBase.numerator) / Double(timeBase.denominator) } }

    fileprivate var isKeyframe: Bool {
        if case .unit(let unit, _) = content { return unit.facts.isKeyframe }
        return true
    }
}

extension CodecParameters {
    /// A server decodes it; a palette beside it is nothing that the wire carries, and uncompressed video is pixels.
    var canTravel: Bool { CodecRules.isDecodable(codec) && codec != "rawvideo" && palette.isEmpty }
}

extension SourceFrame {
    /// Its picture refers to no other.
    var isIndependent: Bool {
        if case .unit(let unit, _) = content { return CodecRules.isIntraOnly(unit.parameters.codec) }
        return true
    }
}
