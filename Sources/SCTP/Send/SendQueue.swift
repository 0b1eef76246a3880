import NIOCore
import Wire

/// A message on its way: queued, partly or wholly in flight. Its bytes are kept beside it, so that reading its numbers counts no reference.
struct OutboundMessage: BitwiseCopyable {
    var size: Int
    /// Bytes that were given TSNs.
    var sent = 0
    /// Index of its stream in `SendQueue`.
    var stream: Int32
    var ppid: UInt32
    /// Stream sequence number or message identifier, given with the first fragment.
    var number: UInt32 = 0
    var fragments: UInt32 = 0
    var isUnordered: Bool
    var isAbandoned = false
    /// TSNs of its first and last fragment.
    var firstTSN: UInt64 = 0
    var lastTSN: UInt64 = 0
    /// Fragments that are not acknowledged cumulatively.
    var inFlight: Int32 = 0
    /// RFC 3758 §3.5 and RFC 7496 §3.1.
    var expiry: Instant?
    var maximumTransmissions: UInt32

    var isStarted: Bool { fragments > 0 }
    var isWhollySent: Bool { sent == size && isStarted }
}

/// A stream of ours.
struct OutboundStream {
    let id: UInt16
    var weight: UInt64 = 256
    /// Slots of messages that are not wholly sent.
    var queue = Queue<Int32>()
    var nextSequence: UInt32 = 0
    var nextUnorderedSequence: UInt32 = 0
    var unsentBytes = 0
    var unacknowledgedBytes = 0
    var unacknowledgedMessages = 0
    var lowThreshold = 0
    /// Bytes sent over weight: the stream with the least is next (weighted fair queueing).
    var virtualTime: UInt64 = 0
    var isActive = false
    /// No new message of it starts before others are wholly sent.
    var isHeldBack = false

    init(id: UInt16) { self.id = id }
}

/// Messages that wait for TSNs, and the scheduler that picks the stream whose fragment is next.
///
/// With I-DATA it picks for every fragment (RFC 8260 §3.6), else for every message, whose fragments must then follow one another.
struct SendQueue {
    private(set) var messages: [OutboundMessage] = []
    /// The bytes of `messages`.
    private(set) var payloads: [ByteBuffer] = []
    private var free: [Int32] = []
    private(set) var streams: [OutboundStream] = []
    private var indexes: [UInt16: Int] = [:]
    private var lastID: UInt16 = 0
    private var lastIndex = -1
    private var heap: [Entry] = []
    private var virtualNow: UInt64 = 0
    /// DATA: the message whose fragments are being sent.
    private var current: Int32 = -1
    private(set) var unsentMessages = 0
    private(set) var unacknowledgedMessages = 0
    /// Sizes of the messages that are partly sent. The peer reserves that much at most.
    private var partialBytes = 0
    private var heldBack: [Int32] = []
    /// Streams whose `unsentBytes` fell to their threshold.
    var lowStreams: [UInt16] = []
    /// Streams of which nothing is unacknowledged any more.
    var drainedStreams: [UInt16] = []
    private(set) var abandoned = 0

    var interleaved = false
    var partialLimit = Int.max

    private struct Entry: BitwiseCopyable {
        var virtualTime: UInt64
        var stream: Int32
        func precedes(_ other: Entry) -> Bool { (virtualTime, stream) < (other.virtualTime, other.stream) }
    }

    var hasUnsent: Bool { unsentMessages > 0 }
    var isEmpty: Bool { unacknowledgedMessages == 0 }

    mutating func streamIndex(_ id: UInt16) -> Int {
        if id == lastID, lastIndex >= 0 { return lastIndex }
        let index: Int
        if let known = indexes[id] {
            index = known
        } else {
            index = streams.count
            streams.append(OutboundStream(id: id))
            indexes[id] = index
        }
        lastID = id
        lastIndex = index
        return index
    }

    func stream(_ id: UInt16) -> OutboundStream? { indexes[id].map { streams[$0] } }

    mutating func setWeight(_ weight: UInt16, of id: UInt16) { streams[streamIndex(id)].weight = UInt64(max(1, weight)) }
    mutating func setLowThreshold(_ bytes: Int, of id: UInt16) { streams[streamIndex(id)].lowThreshold = bytes }

    mutating func enqueue(_ payload: ByteBuffer, stream id: UInt16, ppid: UInt32, isUnordered: Bool, expiry: Instant?, maximumTransmissions: UInt32) {
        let index = streamIndex(id)
        let size = payload.readableBytes
        let message = OutboundMessage(
            size: size, stream: Int32(index), ppid: ppid, isUnordered: isUnordered, expiry: expiry, maximumTransmissions: maximumTransmissions)
        let slot: Int32
        if let reused = free.popLast() {
            slot = reused
            messages[Int(slot)] = message
            payloads[Int(slot)] = payload
        } else {
            slot = Int32(messages.count)
            messages.append(message)
            payloads.append(payload)
        }
        streams[index].queue.append(slot)
        streams[index].unsentBytes += size
        streams[index].unacknowledgedBytes += size
        streams[index].unacknowledgedMessages += 1
        unsentMessages += 1
        unacknowledgedMessages += 1
        activate(index)
    }

    /// The message whose fragment is to be sent next, or -1. Messages that expired before their first fragment vanish here.
    mutating func selectNext(at now: Instant) -> Int32 {
        if current >= 0 { return current }
        while let top = heap.first {
            let index = Int(top.stream)
            guard let slot = streams[index].queue.first else {
                deactivateTop()
                continue
            }
            if top.virtualTime != streams[index].virtualTime {
                // it was charged while another stream stood on top
                heap[0].virtualTime = streams[index].virtualTime
                siftDown()
                continue
            }
            let message = messages[Int(slot)]
            if !message.isStarted, let expiry = message.expiry, expiry <= now {
                dropUnsent(slot, index: index)
                continue
            }
            if interleaved, !message.isStarted, partialBytes > 0, message.size > 4096, partialBytes + message.size > partialLimit {
                streams[index].isHeldBack = true
                heldBack.append(top.stream)
                deactivateTop()
                continue
            }
            return slot
        }
        return -1
    }

    /// Gives the next `length` bytes of a message a TSN. Returns the chunk to put in flight.
    @inline(__always)
    mutating func takeFragment(_ slot: Int32, length: Int, tsn: UInt64) -> (chunk: SentChunk, header: DataChunk) {
        var message = messages[Int(slot)]
        let index = Int(message.stream)
        var flags: UInt8 = message.isUnordered ? DataChunk.unordered : 0
        let isFirst = !message.isStarted
        if isFirst {
            flags |= DataChunk.begin
            message.number = takeNumber(index, isUnordered: message.isUnordered)
            message.firstTSN = tsn
            if length < message.size { partialBytes += message.size }
        }
        let chunk = SentChunk(
            slot: slot, offset: UInt32(truncatingIfNeeded: message.sent), length: UInt16(truncatingIfNeeded: length), fragment: message.fragments)
        message.sent += length
        message.fragments += 1
        message.inFlight += 1
        message.lastTSN = tsn
        messages[Int(slot)] = message
        noteSent(length, index: index)
        if message.sent == message.size {
            flags |= DataChunk.end
            _ = streams[index].queue.popFirst()
            unsentMessages -= 1
            if !isFirst { releasePartial(message.size) }
            current = -1
        } else if !interleaved {
            current = slot
        }
        charge(index, length)
        let header = DataChunk(
            tsn: TSN(tsn), stream: streams[index].id, message: message.number, ppid: message.ppid, fragment: chunk.fragment, flags: flags)
        return (chunk.with(flags: flags), header)
    }

    /// The header of a chunk that is sent again.
    func header(of chunk: SentChunk, tsn: UInt64) -> DataChunk {
        let message = messages[Int(chunk.slot)]
        return DataChunk(
            tsn: TSN(tsn), stream: streams[Int(message.stream)].id, message: message.number, ppid: message.ppid, fragment: chunk.fragment, flags: chunk.flags)
    }

    /// `count` fragments of a message left the ring. The message is done when none is left of it.
    @inline(__always)
    mutating func fragmentsLeft(_ slot: Int32, count: Int32) {
        messages[Int(slot)].inFlight -= count
        let message = messages[Int(slot)]
        guard message.inFlight == 0, message.isWhollySent || message.isAbandoned else { return }
        if !message.isAbandoned { settle(message) }
        release(slot)
    }

    private mutating func release(_ slot: Int32) {
        payloads[Int(slot)] = ByteBuffer()
        free.append(slot)
    }

    // MARK: Giving up

    /// Whether a lost chunk of this message may not be sent again (RFC 3758 §3.5 A1).
    func isGivenUp(_ chunk: SentChunk, at now: Instant) -> Bool {
        let message = messages[Int(chunk.slot)]
        if let expiry = message.expiry, expiry <= now { return true }
        return chunk.transmissions >= message.maximumTransmissions
    }

    /// Gives up a message that was started. What the caller must put in the ring: a TSN for the rest, where the rest was not sent.
    mutating func abandon(_ slot: Int32) -> (first: UInt64, last: UInt64, needsPlaceholder: Bool)? {
        let message = messages[Int(slot)]
        guard !message.isAbandoned else { return nil }
        let index = Int(message.stream)
        let needsPlaceholder = message.sent < message.size
        if needsPlaceholder {
            _ = streams[index].queue.popFirst()
            unsentMessages -= 1
            noteSent(message.size - message.sent, index: index)
            releasePartial(message.size)
            if current == slot { current = -1 }
            messages[Int(slot)].inFlight += 1
        }
        settle(message)
        messages[Int(slot)].isAbandoned = true
        payloads[Int(slot)] = ByteBuffer()
        abandoned += 1
        return (message.firstTSN, message.lastTSN, needsPlaceholder)
    }

    private mutating func dropUnsent(_ slot: Int32, index: Int) {
        let message = messages[Int(slot)]
        _ = streams[index].queue.popFirst()
        unsentMessages -= 1
        noteSent(message.size, index: index)
        settle(message)
        release(slot)
        abandoned += 1
    }

    // MARK: Reset

    /// RFC 6525 §5.2.2: numbers start at 0 again.
    mutating func resetNumbers(of id: UInt16) {
        let index = streamIndex(id)
        streams[index].nextSequence = 0
        streams[index].nextUnorderedSequence = 0
    }

    /// Before anything was sent, or after a restart: messages start from their first byte, in fresh streams.
    mutating func removeAll() {
        for index in streams.indices {
            let threshold = streams[index].lowThreshold
            let weight = streams[index].weight
            streams[index] = OutboundStream(id: streams[index].id)
            streams[index].lowThreshold = threshold
            streams[index].weight = weight
        }
        messages = []
        payloads = []
        free = []
        heap = []
        heldBack = []
        current = -1
        unsentMessages = 0
        unacknowledgedMessages = 0
        partialBytes = 0
        lowStreams = []
        drainedStreams = []
    }

    // MARK: Accounting

    private mutating func takeNumber(_ index: Int, isUnordered: Bool) -> UInt32 {
        if !isUnordered {
            let number = streams[index].nextSequence
            streams[index].nextSequence = interleaved ? number &+ 1 : (number &+ 1) & 0xFFFF
            return number
        }
        guard interleaved else { return 0 }
        let number = streams[index].nextUnorderedSequence
        streams[index].nextUnorderedSequence = number &+ 1
        return number
    }

    private mutating func noteSent(_ bytes: Int, index: Int) {
        let before = streams[index].unsentBytes
        streams[index].unsentBytes = before - bytes
        let threshold = streams[index].lowThreshold
        if before > threshold, before - bytes <= threshold { lowStreams.append(streams[index].id) }
    }

    private mutating func settle(_ message: OutboundMessage) {
        let index = Int(message.stream)
        streams[index].unacknowledgedBytes -= message.size
        streams[index].unacknowledgedMessages -= 1
        unacknowledgedMessages -= 1
        if streams[index].unacknowledgedMessages == 0 { drainedStreams.append(streams[index].id) }
    }

    private mutating func releasePartial(_ size: Int) {
        partialBytes -= size
        guard !heldBack.isEmpty else { return }
        let waiting = heldBack
        heldBack = []
        for stream in waiting {
            streams[Int(stream)].isHeldBack = false
            activate(Int(stream))
        }
    }

    // MARK: The heap of active streams

    private mutating func activate(_ index: Int) {
        guard !streams[index].isActive, !streams[index].isHeldBack else { return }
        streams[index].isActive = true
        // a stream that was idle gets no credit for it
        streams[index].virtualTime = max(streams[index].virtualTime, virtualNow)
        heap.append(Entry(virtualTime: streams[index].virtualTime, stream: Int32(index)))
        var child = heap.count - 1
        while child > 0, heap[child].precedes(heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func deactivateTop() {
        guard let top = heap.first, let last = heap.popLast() else { return }
        streams[Int(top.stream)].isActive = false
        if !heap.isEmpty {
            heap[0] = last
            siftDown()
        }
    }

    private mutating func charge(_ index: Int, _ length: Int) {
        virtualNow = max(virtualNow, streams[index].virtualTime)
        streams[index].virtualTime += UInt64(length + 64) << 16 / streams[index].weight
        guard let top = heap.first, Int(top.stream) == index else { return }
        if streams[index].queue.isEmpty {
            deactivateTop()
        } else {
            heap[0].virtualTime = streams[index].virtualTime
            siftDown()
        }
    }

    private mutating func siftDown() {
        guard heap.count > 1 else { return }
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].precedes(heap[least]) { least = child }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
