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
        var whole: Run?
        var change = Change()
        if chunk.isUnordered {
            whole = try streams[index].unordered.place(chunk, position, payload, interleaved: interleaved, change: &change, limit: maximumMessageSize)
        } else {
            whole = try streams[index].ordered.place(chunk, position, payload, interleaved: interleaved, change: &change, limit: maximumMessageSize)
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
        if message == streams[index].ordered.next {
            ready.append(received)
            streams[index].ordered.next = succeeding(message)
            if !streams[index].ordered.waiting.isEmpty { drain(index, ready: &ready) }
            return
        }
        guard isDue(message, from: streams[index].ordered.next) else { throw .violation }
        // its turn has not come: keep it, sorted by number
        let place = waitingIndex(message, index)
        if place < streams[index].ordered.waiting.count, streams[index].ordered.waiting[place].message == message { throw .violation }
        streams[index].ordered.waiting.insert(Waiting(message: message, ppid: ppid, payload: payload), at: place)
        strayBytes += payload.readableBytes
        pieces += 1
    }

    private mutating func drain(_ index: Int, ready: inout Queue<ReceivedMessage>) {
        var count = 0
        let stream = streams[index].id
        while count < streams[index].ordered.waiting.count, streams[index].ordered.waiting[count].message == streams[index].ordered.next {
            deliver(streams[index].ordered.waiting[count], stream: stream, ready: &ready)
            streams[index].ordered.next = succeeding(streams[index].ordered.next)
            count += 1
        }
        if count > 0 { streams[index].ordered.waiting.removeFirst(count) }
    }

    private mutating func deliver(_ waiting: Waiting, stream: UInt16, ready: inout Queue<ReceivedMessage>) {
        strayBytes -= waiting.payload.readableBytes
        pieces -= 1
        ready.append(ReceivedMessage(stream: stream, ppid: waiting.ppid, isUnordered: false, payload: waiting.payload))
    }

    // MARK: Giving up (RFC 3758 §3.6) and reset (RFC 6525 §5.2.2)

    /// The peer gave up all messages of a stream up to and including this one.
    mutating func skip(_ skip: ForwardTSNChunk.Skip, ready: inout Queue<ReceivedMessage>) {
        // a stream never heard of needs its place too: its next message has the number behind the skip
        let index = findStream(skip.stream)
        if skip.isUnordered {
            drop(index, unordered: true) { skip.message &- $0.message < 1 << 31 }
            return
        }
        let base = streams[index].ordered.next
        guard isDue(skip.message, from: base) else { return }
        let last = distance(skip.message, from: base)
        drop(index, unordered: false) { [mask] in ($0.message &- base) & mask <= last }
        // whole messages among those given up did arrive: they are delivered
        let stream = streams[index].id
        var count = 0
        while count < streams[index].ordered.waiting.count, distance(streams[index].ordered.waiting[count].message, from: base) <= last {
            deliver(streams[index].ordered.waiting[count], stream: stream, ready: &ready)
            count += 1
        }
        streams[index].ordered.waiting.removeFirst(count)
        streams[index].ordered.next = succeeding(skip.message)
        drain(index, ready: &ready)
    }

    /// RFC 3758 §3.6: unfinished unordered messages whose TSNs were given up. FORWARD-TSN does not name their streams.
    mutating func dropUnordered(upTo tsn: UInt64) {
        guard !interleaved, pieces > 0 else { return }
        for index in streams.indices where !streams[index].unordered.runs.isEmpty {
            drop(index, unordered: true) { $0.first <= tsn }
        }
    }

    mutating func reset(_ stream: UInt16) {
        guard let index = indexes[stream] else { return }
        drop(index, unordered: false) { _ in true }
        drop(index, unordered: true) { _ in true }
        for waiting in streams[index].ordered.waiting {
            strayBytes -= waiting.payload.readableBytes
            pieces -= 1
        }
        streams[index].ordered.waiting = []
        streams[index].ordered.next = 0
    }

    mutating func resetAll() { for stream in Array(indexes.keys) { reset(stream) } }

    private mutating func drop(_ index: Int, unordered: Bool, where isDropped: (Run) -> Bool) {
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
    }

    // MARK: Numbers and places

    /// Stream sequence numbers have 16 bits, message identifiers 32.
    private var mask: UInt32 { interleaved ? .max : 0xFFFF }

    private func succeeding(_ message: UInt32) -> UInt32 { (message &+ 1) & mask }
    private func distance(_ message: UInt32, from base: UInt32) -> UInt32 { (message &- base) & mask }
    /// RFC 1982: not behind `base`.
    private func isDue(_ message: UInt32, from base: UInt32) -> Bool { distance(message, from: base) <= mask / 2 }

    private func waitingIndex(_ message: UInt32, _ index: Int) -> Int {
        let base = streams[index].ordered.next
        let wanted = distance(message, from: base)
        var low = 0
        var high = streams[index].ordered.waiting.count
        while low < high {
            let middle = (low + high) / 2
            if distance(streams[index].ordered.waiting[middle].message, from: base) < wanted { low = middle + 1 } else { high = middle }
        }
        return low
    }

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
