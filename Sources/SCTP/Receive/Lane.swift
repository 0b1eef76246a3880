import NIOCore
import Wire

struct InboundStream {
    let id: UInt16
    var ordered = Lane()
    var unordered = Lane()

    init(id: UInt16) { self.id = id }
}

/// Neighbouring fragments of one message.
struct Run {
    var first: UInt64
    var last: UInt64
    var message: UInt32
    var ppid: UInt32
    var hasBegin: Bool
    var hasEnd: Bool
    var buffer: ByteBuffer
}

/// How an arrival changed what is held.
struct Change {
    var head = 0
    var stray = 0
    var pieces = 0
}

/// The ordered or the unordered messages of a stream.
struct Lane {
    /// Twice the gaps that are remembered of the peer's TSNs, and one: between two gaps lie the end of one message of a lane, whole ones, and the
    /// beginning of another. Where there are more they were made to cost time.
    static let maximumRuns = 8194

    /// Ascending by position, disjoint.
    var runs: [Run] = []
    var waiting = WaitingMessages()
    /// The place of the message that is delivered next; its low bits are its number.
    var turn: UInt64 = 0
    /// The last unordered message that the peer gave up.
    var lastGivenUp: UInt32?
    /// The last position of the last run.
    private(set) var tail: UInt64?
    /// The size of the last whole message: the next one's buffer starts with it.
    private var sizeHint = 0

    init() {}

    var edges: (first: Run, last: Run)? {
        guard let first = runs.first, let last = runs.last else { return nil }
        return (first, last)
    }

    mutating func noteTail() { tail = runs.last?.last }

    @inline(__always)
    mutating func appendToTail(_ chunk: DataChunk, position: UInt64, payload: RawSpan) -> (fits: Bool, size: Int, isHead: Bool) {
        let index = runs.count - 1
        guard index >= 0, !runs[index].hasEnd, runs[index].message == chunk.message else { return (false, 0, false) }
        runs[index].buffer.writeBytes(payload)
        runs[index].last = position
        tail = position
        return (true, runs[index].buffer.readableBytes, runs[index].hasBegin)
    }

    /// Places a fragment of several; returns the message when that was the last one missing.
    mutating func place(
        _ chunk: DataChunk, _ position: UInt64, _ payload: RawSpan, interleaved: Bool, mayReserve: Bool, change: inout Change, limit: Int
    ) throws(Reassembly.Failure) -> Run? {
        var index = lastIndex(startingAtOrBefore: position)
        var joins = false
        if index >= 0 {
            // the same position twice under two TSNs
            guard runs[index].last < position else { throw .violation }
            if runs[index].last &+ 1 == position, !interleaved || runs[index].message == chunk.message {
                // RFC 9260 §6.9: fragments of a message have consecutive TSNs, so its end comes before the next one's begin
                guard runs[index].hasEnd == chunk.isBegin else { throw .violation }
                joins = !chunk.isBegin
            }
        }
        if joins {
            guard runs[index].message == chunk.message else { throw .violation }
            runs[index].buffer.writeBytes(payload)
            runs[index].last = position
            runs[index].hasEnd = chunk.isEnd
            if runs[index].hasBegin { change.head += payload.byteCount } else { change.stray += payload.byteCount }
        } else {
            index += 1
            guard runs.count < Self.maximumRuns else { throw .violation }
            var buffer = ByteBuffer()
            // bounded, because a peer that never finishes could make us reserve it again and again
            if mayReserve, chunk.isBegin, runs.isEmpty { buffer.reserveCapacity(min(max(sizeHint, payload.byteCount), 1 << 18)) }
            buffer.writeBytes(payload)
            let run = Run(
                first: position, last: position, message: chunk.message, ppid: chunk.ppid, hasBegin: chunk.isBegin, hasEnd: chunk.isEnd, buffer: buffer)
            runs.insert(run, at: index)
            change.pieces += 1
            if chunk.isBegin { change.head += payload.byteCount } else { change.stray += payload.byteCount }
        }
        // a run that begins a message swallows what follows it; others wait, so that each byte is moved at most once more
        if runs[index].hasBegin { try swallowFollowing(index, change: &change) }
        defer { noteTail() }
        guard runs[index].buffer.readableBytes <= limit else { throw .messageTooLarge }
        guard runs[index].hasBegin, runs[index].hasEnd else { return nil }
        return finish(index, change: &change)
    }

    private mutating func finish(_ index: Int, change: inout Change) -> Run {
        let run = runs.remove(at: index)
        change.head -= run.buffer.readableBytes
        change.pieces -= 1
        sizeHint = run.buffer.readableBytes
        return run
    }

    private mutating func swallowFollowing(_ index: Int, change: inout Change) throws(Reassembly.Failure) {
        var end = index + 1
        while !runs[index].hasEnd, end < runs.count, runs[end].first == runs[index].last &+ 1 {
            guard !runs[end].hasBegin, runs[end].message == runs[index].message else { throw .violation }
            var following = runs[end].buffer
            change.head += following.readableBytes
            change.stray -= following.readableBytes
            change.pieces -= 1
            runs[index].buffer.writeBuffer(&following)
            runs[index].last = runs[end].last
            runs[index].hasEnd = runs[end].hasEnd
            end += 1
        }
        if end > index + 1 { runs.removeSubrange((index + 1)..<end) }
    }

    private func lastIndex(startingAtOrBefore position: UInt64) -> Int {
        guard let last = runs.last, last.first > position else { return runs.count - 1 }
        var low = 0
        var high = runs.count - 1
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].first <= position { low = middle + 1 } else { high = middle }
        }
        return low - 1
    }
}
