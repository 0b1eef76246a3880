import NIOCore
import Wire

/// A whole message of the peer.
struct ReceivedMessage {
    var stream: UInt16
    var ppid: UInt32
    var isUnordered: Bool
    var payload: ByteBuffer
}

/// Puts fragments together, and messages in order, per stream.
///
/// A fragment has a position: its TSN with DATA, message identifier and fragment number with I-DATA. In both, neighbours within a message differ
/// by one. Neighbours that arrived one after the other share one growing buffer, a `Run`; in the usual case a stream has one run, the message
/// that is just being received, and each fragment costs one append.
struct Reassembly {
    enum Failure: Error { case violation, messageTooLarge }

    /// What a run or message costs beyond its bytes.
    static let overhead = 128
    /// Unfinished messages for which memory is reserved ahead, in the hope that they are as long as the last of their stream.
    private static let reservations = 64

    private var streams: [InboundStream] = []
    private var indexes: [UInt16: Int] = [:]
    private var lastStream: UInt16 = 0
    private var lastIndex = -1
    private let interleaved: Bool
    private let maximumMessageSize: Int

    /// Bytes of runs that begin a message. They are the application's next message, so they are free up to `maximumMessageSize`.
    private var headBytes = 0
    /// Bytes of other runs and of whole messages that wait for their turn.
    private var strayBytes = 0
    private var pieces = 0
    /// Streams with unfinished unordered messages in DATA.
    private var unorderedPending: Set<Int> = []

    init(interleaved: Bool, maximumMessageSize: Int) {
        self.interleaved = interleaved
        self.maximumMessageSize = maximumMessageSize
    }

    /// What counts against the receive window.
    var windowUse: Int { strayBytes + max(0, headBytes - maximumMessageSize) + pieces * Self.overhead }
    var bytesHeld: Int { headBytes + strayBytes }

    /// Takes one fragment; messages that are now due go to `ready` in their order.
    mutating func add(_ arrival: DataChunk, tsn: UInt64, payload: RawSpan, ready: inout Queue<ReceivedMessage>) throws(Failure) {
        var chunk = arrival
        // RFC 9260 §3.3.1: the number in unordered DATA means nothing
        if chunk.isUnordered && !interleaved { chunk.message = 0 }
        let index = chunk.stream == lastStream && lastIndex >= 0 ? lastIndex : findStream(chunk.stream)
        let position = interleaved ? UInt64(chunk.message) << 32 | UInt64(chunk.fragment) : tsn
        // the usual case: the next fragment of the only message that is being received
        if let last = chunk.isUnordered ? streams[index].unordered.tail : streams[index].ordered.tail,
            last &+ 1 == position, !chunk.isBegin, !chunk.isEnd
        {
            if try appendToTail(chunk, index: index, position: position, payload: payload) { return }
        }
        try place(chunk, index: index, position: position, payload: payload, ready: &ready)
    }

    /// True when the fragment was appended to the last run; false when that run does not fit it.
    @inline(__always)
    private mutating func appendToTail(_ chunk: DataChunk, index: Int, position: UInt64, payload: RawSpan) throws(Failure) -> Bool {
        let (fits, size, isHead) =
            chunk.isUnordered
            ? streams[index].unordered.appendToTail(chunk, position: position, payload: payload)
            : streams[index].ordered.appendToTail(chunk, position: position, payload: payload)
        guard fits else { return false }
        if isHead { headBytes += payload.byteCount } else { strayBytes += payload.byteCount }
        if size > maximumMessageSize { throw .messageTooLarge }
        return true
    }

    private mutating func place(
        _ chunk: DataChunk, index: Int, position: UInt64, payload: RawSpan, ready: inout Queue<ReceivedMessage>
    ) throws(Failure) {
        guard payload.byteCount <= maximumMessageSize else { throw .messageTooLarge }
        if chunk.isBegin && chunk.isEnd {
            var buffer = ByteBuffer()
            buffer.writeBytes(payload)
            try complete(chunk.message, ppid: chunk.ppid, buffer, isUnordered: chunk.isUnordered, index: index, ready: &ready)
            return
        }
        if isGivenUp(chunk, index: index) { return }
        var whole: Run?
        var change = Change()
        let mayReserve = pieces < Self.reservations
        if chunk.isUnordered {
            whole = try streams[index].unordered.place(
                chunk, position, payload, interleaved: interleaved, mayReserve: mayReserve, change: &change, limit: maximumMessageSize)
            if !interleaved { noteUnordered(index) }
        } else {
            whole = try streams[index].ordered.place(
                chunk, position, payload, interleaved: interleaved, mayReserve: mayReserve, change: &change, limit: maximumMessageSize)
        }
        headBytes += change.head
        strayBytes += change.stray
        pieces += change.pieces
        guard let whole else { return }
        try complete(whole.message, ppid: whole.ppid, whole.buffer, isUnordered: chunk.isUnordered, index: index, ready: &ready)
    }

    private mutating func complete(
        _ message: UInt32, ppid: UInt32, _ payload: ByteBuffer, isUnordered: Bool, index: Int, ready: inout Queue<ReceivedMessage>
    ) throws(Failure) {
        let stream = streams[index].id
        let received = ReceivedMessage(stream: stream, ppid: ppid, isUnordered: isUnordered, payload: payload)
        if isUnordered {
            ready.append(received)
            return
        }
        let turn = streams[index].ordered.turn
        let ahead = distance(message, from: turn)
        if ahead == 0 {
            ready.append(received)
            streams[index].ordered.turn = turn + 1
            if !streams[index].ordered.waiting.isEmpty, !drain(index, ready: &ready) { throw .violation }
            return
        }
        guard isDue(ahead) else { throw .violation }
        // its turn has not come
        streams[index].ordered.waiting.insert(Waiting(turn: turn + UInt64(ahead), ppid: ppid, payload: payload))
        strayBytes += payload.readableBytes
        pieces += 1
    }

    /// Delivers those whose turn has come; false when one of them came twice.
    private mutating func drain(_ index: Int, ready: inout Queue<ReceivedMessage>) -> Bool {
        var isSound = true
        while let first = streams[index].ordered.waiting.first, first.turn <= streams[index].ordered.turn {
            if first.turn == streams[index].ordered.turn {
                deliverFirst(index, ready: &ready)
                streams[index].ordered.turn += 1
            } else {
                isSound = false
                dropFirst(index)
            }
        }
        return isSound
    }

    private mutating func deliverFirst(_ index: Int, ready: inout Queue<ReceivedMessage>) {
        guard let waiting = dropFirst(index) else { return }
        ready.append(ReceivedMessage(stream: streams[index].id, ppid: waiting.ppid, isUnordered: false, payload: waiting.payload))
    }

    @discardableResult
    private mutating func dropFirst(_ index: Int) -> Waiting? {
        guard let waiting = streams[index].ordered.waiting.removeFirst() else { return nil }
        strayBytes -= waiting.payload.readableBytes
        pieces -= 1
        return waiting
    }

    // MARK: Giving up (RFC 3758 §3.6) and reset (RFC 6525 §5.2.2)

    /// The peer gave up all messages of a stream up to and including this one.
    mutating func skip(_ skip: ForwardTSNChunk.Skip, ready: inout Queue<ReceivedMessage>) {
        // a stream never heard of needs its place too: its next message has the number behind the skip
        let index = findStream(skip.stream)
        if skip.isUnordered {
            streams[index].unordered.lastGivenUp = skip.message
            drop(index, unordered: true) { skip.message &- $0.message < 1 << 31 }
            return
        }
        let base = streams[index].ordered.turn
        let last = distance(skip.message, from: base)
        guard isDue(last) else { return }
        drop(index, unordered: false) { [mask] in ($0.message &- UInt32(truncatingIfNeeded: base)) & mask <= last }
        // whole messages among those given up did arrive: they are delivered
        while let first = streams[index].ordered.waiting.first, first.turn <= base + UInt64(last) { deliverFirst(index, ready: &ready) }
        streams[index].ordered.turn = base + UInt64(last) + 1
        _ = drain(index, ready: &ready)
    }

    /// With I-DATA the TSNs of a message are scattered among those of others, so its last fragments may come behind the word that it was given up. Nothing
    /// would ever take them away again.
    private func isGivenUp(_ chunk: DataChunk, index: Int) -> Bool {
        guard interleaved else { return false }
        guard chunk.isUnordered else { return !isDue(distance(chunk.message, from: streams[index].ordered.turn)) }
        return streams[index].unordered.lastGivenUp.map { $0 &- chunk.message < 1 << 31 } ?? false
    }

    /// RFC 3758 §3.6: unfinished unordered messages whose TSNs were given up. FORWARD-TSN does not name their streams.
    mutating func dropUnordered(upTo tsn: UInt64) {
        for index in unorderedPending { drop(index, unordered: true) { $0.first <= tsn } }
    }

    mutating func reset(_ stream: UInt16) {
        guard let index = indexes[stream] else { return }
        drop(index, unordered: false) { _ in true }
        drop(index, unordered: true) { _ in true }
        for waiting in streams[index].ordered.waiting.all {
            strayBytes -= waiting.payload.readableBytes
            pieces -= 1
        }
        streams[index].ordered.waiting = WaitingMessages()
        streams[index].ordered.turn = 0
        streams[index].unordered.lastGivenUp = nil
    }

    /// Nothing is left of any stream, so that asking again costs nothing.
    mutating func resetAll() { self = Reassembly(interleaved: interleaved, maximumMessageSize: maximumMessageSize) }

    /// Those given up are the first ones, or, where message identifiers wrapped, the last ones: else nothing is looked through in vain.
    private mutating func drop(_ index: Int, unordered: Bool, where isDropped: (Run) -> Bool) {
        guard let (first, last) = unordered ? streams[index].unordered.edges : streams[index].ordered.edges, isDropped(first) || isDropped(last) else { return }
        var head = 0
        var stray = 0
        var count = 0
        func matches(_ run: Run) -> Bool {
            guard isDropped(run) else { return false }
            if run.hasBegin { head += run.buffer.readableBytes } else { stray += run.buffer.readableBytes }
            count += 1
            return true
        }
        if unordered { streams[index].unordered.runs.removeAll(where: matches) } else { streams[index].ordered.runs.removeAll(where: matches) }
        streams[index].unordered.noteTail()
        streams[index].ordered.noteTail()
        headBytes -= head
        strayBytes -= stray
        pieces -= count
        if unordered, !interleaved { noteUnordered(index) }
    }

    private mutating func noteUnordered(_ index: Int) {
        if streams[index].unordered.runs.isEmpty { unorderedPending.remove(index) } else { unorderedPending.insert(index) }
    }

    // MARK: Numbers and places

    /// Stream sequence numbers have 16 bits, message identifiers 32.
    private var mask: UInt32 { interleaved ? .max : 0xFFFF }

    private func distance(_ message: UInt32, from turn: UInt64) -> UInt32 { (message &- UInt32(truncatingIfNeeded: turn)) & mask }
    /// RFC 1982: not behind.
    private func isDue(_ distance: UInt32) -> Bool { distance <= mask / 2 }

    private mutating func findStream(_ id: UInt16) -> Int {
        lastStream = id
        if let index = indexes[id] {
            lastIndex = index
            return index
        }
        lastIndex = streams.count
        indexes[id] = lastIndex
        streams.append(InboundStream(id: id))
        return lastIndex
    }
}
