package import NIOCore
package import Wire

/// A frame whose chunks are all there; still base64.
package struct AssembledFrame: Hashable, Sendable {
    package var id: Int
    package var encoding: FrameEncoding
    package var width: Int?
    package var height: Int?
    /// When its last chunk came.
    package var completedAt: Instant
    /// The base64 texts in order.
    package var pieces: [ByteBuffer]

    /// The encoded picture. To be called where there is time for it, not on an event loop.
    package func payload() throws(Base64.DecodingError) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.reserveCapacity(pieces.reduce(1) { $0 + $1.readableBytes / 4 * 3 + 3 })
        var decoder = Base64.Decoder()
        for piece in pieces { try decoder.decode(piece.readableBytesView, into: &bytes) }
        try decoder.finish()
        return bytes
    }
}

/// Why a frame will never be whole. It is answered with an error, and the job goes on.
package enum FrameFault: Error, Hashable, Sendable {
    /// Its chunk could not be read.
    case malformed(MalformedMessage.Reason)
    case chunkOutOfRange(chunk: Int, chunks: Int)
    /// Its chunks disagree on how many there are or how they are encoded.
    case inconsistent
    case tooManyChunks(Int)
    case tooLarge
    /// No chunk came for too long.
    case timedOut(received: Int, of: Int)
    /// The client ended, or the bounds of reassembly were reached, with chunks missing.
    case incomplete(received: Int, of: Int)
    /// Later frames came, this one never did.
    case neverArrived
}

/// Puts frames together from their chunks and hands them out by ascending id, each once, whole or failed.
///
/// Ids are expected without gaps. Where one is skipped its place is kept for a while, since chunks of several frames may
/// be mixed; then it fails. What a peer can make it hold is bounded by `Limits`.
package struct FrameAssembler {
    package struct Limits: Sendable {
        /// Frames begun and not handed out, the skipped ones among them.
        package var frames = 64
        /// Text held in all.
        package var bytes = 256 << 20
        /// Text of one frame.
        package var frameBytes = 96 << 20
        package var chunksPerFrame = 65_536
        /// How long a frame may go without a new chunk.
        package var age: Duration = .seconds(5)

        package init() {}
    }

    package enum Output: Hashable, Sendable {
        case frame(AssembledFrame)
        case failed(id: Int, FrameFault)

        package var id: Int {
            switch self {
            case .frame(let frame): frame.id
            case .failed(let id, _): id
            }
        }
    }

    /// What was received and dropped, or worth knowing at the end.
    package struct Counters: Hashable, Sendable {
        package var chunks = 0
        package var duplicateChunks = 0
        /// Chunks of frames that had been handed out before.
        package var staleChunks = 0
        package var skippedIDs = 0

        package init() {}
    }

    package private(set) var counters = Counters()
    package private(set) var heldBytes = 0
    private let limits: Limits
    /// In ascending order of id, without gaps between the first and the last.
    private var slots: [Slot] = []
    /// The id of `slots[0]`, or the next new one; nil before the first frame.
    private var base: Int?
    private var ready = CircularBuffer<(Output, bytes: Int)>()

    /// What one chunk costs beside its text.
    private static let chunkOverhead = 128

    package init(limits: Limits = Limits()) { self.limits = limits }

    /// When `expire(at:)` has something to do.
    package var deadline: Instant? {
        // Only the first slot holds others up, so only its age matters.
        guard let first = slots.first, first.output == nil else { return nil }
        return first.touched + limits.age
    }

    package var isEmpty: Bool { slots.isEmpty && ready.isEmpty }

    package mutating func handle(_ chunk: FrameChunk, at now: Instant) {
        counters.chunks += 1
        guard let index = openSlot(chunk.frameID, at: now) else { return }
        let cost = chunk.data.readableBytes + Self.chunkOverhead
        guard slots[index].output == nil else {
            counters.staleChunks += 1
            return
        }
        guard chunk.chunks > 0, chunk.chunkID >= 0, chunk.chunkID < chunk.chunks else {
            return fail(index, .chunkOutOfRange(chunk: chunk.chunkID, chunks: chunk.chunks))
        }
        guard chunk.chunks <= limits.chunksPerFrame else { return fail(index, .tooManyChunks(chunk.chunks)) }
        guard slots[index].admits(chunk) else { return fail(index, .inconsistent) }
        guard slots[index].pieces[chunk.chunkID] == nil else {
            counters.duplicateChunks += 1
            return
        }
        guard slots[index].bytes + cost <= limits.frameBytes else { return fail(index, .tooLarge) }
        heldBytes += cost
        slots[index].take(chunk, cost: cost, at: now)
        while heldBytes > limits.bytes, let oldest = slots.firstIndex(where: { $0.output == nil }) {
            fail(oldest, slots[oldest].incomplete)
        }
    }

    /// A chunk that could not be read but whose frame is known: the frame fails.
    package mutating func handle(_ malformed: MalformedMessage, at now: Instant) {
        guard let id = malformed.frameID, let index = openSlot(id, at: now), slots[index].output == nil else { return }
        fail(index, .malformed(malformed.reason))
    }

    /// Fails the frames that waited too long.
    package mutating func expire(at now: Instant) {
        for index in slots.indices where slots[index].output == nil && slots[index].touched + limits.age <= now {
            let slot = slots[index]
            fail(index, slot.chunks == 0 ? .neverArrived : .timedOut(received: slot.pieces.count, of: slot.chunks))
        }
    }

    /// No more chunks will come: what is not whole fails.
    package mutating func finish() {
        for index in slots.indices where slots[index].output == nil { fail(index, slots[index].incomplete) }
    }

    /// The next frame by id, when it is whole or has failed.
    package mutating func next() -> Output? {
        release()
        guard let (output, bytes) = ready.popFirst() else { return nil }
        heldBytes -= bytes
        return output
    }

    /// The place of frame `id`, made if it is new; nil if the frame was handed out before.
    private mutating func openSlot(_ id: Int, at now: Instant) -> Int? {
        release()
        // Jobs begin at 1. Another first id is taken as it is, unless so little is missing that it was probably sent.
        var first = base ?? (id <= limits.frames ? min(id, 1) : id)
        guard id >= first else {
            counters.staleChunks += 1
            return nil
        }
        if id - first >= 2 * limits.frames {
            // Too far away to answer all that is missing: the client counts in another way, or means harm.
            finish()
            release()
            first = max(first, base ?? first)
            counters.skippedIDs += id - first
            first = id
        }
        base = first
        while slots.count <= id - first {
            if slots.count >= limits.frames {
                finish()
                release()
                first = base ?? first
            }
            slots.append(Slot(id: first + slots.count, touched: now))
        }
        return id - first
    }

    /// Moves what is settled at the front to where `next()` takes it from.
    private mutating func release() {
        var count = 0
        for slot in slots {
            guard let output = slot.output else { break }
            ready.append((output, slot.bytes))
            count += 1
        }
        slots.removeFirst(count)
        if let base { self.base = base + count }
    }

    private mutating func fail(_ index: Int, _ fault: FrameFault) {
        heldBytes -= slots[index].bytes
        slots[index].fail(fault)
    }

    private struct Slot {
        let id: Int
        var touched: Instant
        /// Zero until the first chunk came.
        var chunks = 0
        var encoding = FrameEncoding.jpeg
        var width: Int?
        var height: Int?
        var pieces: [Int: ByteBuffer] = [:]
        var bytes = 0
        var output: Output?

        init(id: Int, touched: Instant) {
            self.id = id
            self.touched = touched
        }

        var incomplete: FrameFault { chunks == 0 ? .neverArrived : .incomplete(received: pieces.count, of: chunks) }

        func admits(_ chunk: FrameChunk) -> Bool { chunks == 0 || (chunks == chunk.chunks && encoding == chunk.encoding) }

        mutating func take(_ chunk: FrameChunk, cost: Int, at now: Instant) {
            if chunks == 0 {
                chunks = chunk.chunks
                encoding = chunk.encoding
                width = chunk.width
                height = chunk.height
            }
            bytes += cost
            touched = now
            pieces[chunk.chunkID] = chunk.data
            guard pieces.count == chunks else { return }
            let ordered = (0..<chunks).compactMap { pieces[$0] }
            pieces = [:]
            output = .frame(
                AssembledFrame(id: id, encoding: encoding, width: width, height: height, completedAt: now, pieces: ordered))
        }

        mutating func fail(_ fault: FrameFault) {
            pieces = [:]
            bytes = 0
            output = .failed(id: id, fault)
        }
    }
}

extension FrameFault: CustomStringConvertible {
    package var description: String {
        switch self {
        case .malformed(let reason): "frame_chunk could not be read: \(MalformedMessage(reason: reason))"
        case .chunkOutOfRange(let chunk, let chunks): "chunk \(chunk) is out of range of \(chunks) chunks"
        case .inconsistent: "chunks of one frame disagree about their number or encoding"
        case .tooManyChunks(let count): "\(count) chunks are too many for one frame"
        case .tooLarge: "frame is larger than allowed"
        case .timedOut(let received, let chunks): "frame was not completed in time: \(received) of \(chunks) chunks came"
        case .incomplete(let received, let chunks): "frame was never completed: \(received) of \(chunks) chunks came"
        case .neverArrived: "frame never arrived"
        }
    }
}
