import NIOCore
import WebRTC
import Wire

/// What the session knows of one data channel beside the engine. Belongs to the session.
final class ChannelRecord {
    /// Messages and bytes that one visit of a reader takes at most; the first message goes whatever its size.
    static let messagesPerVisit = 64
    static let bytesPerVisit = 256 << 10

    var isOpen: Bool
    /// Set when the channel is over; `closed` where it ended in order.
    var end: DataChannelError?
    var highWaterMark: Int
    var handler: (@Sendable (DataChannel.Message) -> Void)?
    /// Messages that nobody took yet: bounded by the receive window, since only taking them is reported to SCTP.
    var queue = CircularBuffer<(message: DataChannel.Message, bytes: Int)>()
    var readers: [Waiters.Key] = []
    var openers: [Waiters.Key] = []
    var drainers: [Waiters.Key] = []
    var closers: [Waiters.Key] = []
    /// Tasks that wait for the buffered amount to fall to their limit.
    var senders: [(key: Waiters.Key, limit: Int)] = []
    var isDrained = false
    /// An owner on this loop takes messages and hears of the rest in place of readers.
    var hooks: ChannelHooks?
    var reportedAmount = 0

    init(isOpen: Bool, highWaterMark: Int) {
        self.isOpen = isOpen
        self.highWaterMark = highWaterMark
    }
}

extension Session {
    func createDataChannel(_ label: String, _ options: DataChannel.Options) throws -> ChannelHandle {
        if let closeReason { throw closeReason }
        if options.negotiated != (options.id != nil) {
            throw DataChannelError(.invalidOptions, "an id is needed where, and only where, the channel is negotiated by the application")
        }
        var engineOptions = ChannelOptions(label: label)
        engineOptions.subprotocol = options.protocol
        engineOptions.ordered = options.ordered
        engineOptions.maxPacketLifeTime = options.maxPacketLifeTime
        engineOptions.maxRetransmits = options.maxRetransmits
        engineOptions.priority = options.priority
        engineOptions.negotiatedID = options.id
        let handle: ChannelHandle
        do throws(ChannelOpenError) {
            handle = try engine.createDataChannel(engineOptions, at: .now)
        } catch {
            throw error == .closed ? DataChannelError(.closed) : DataChannelError(.invalidOptions, "\(error)")
        }
        channels[handle] = ChannelRecord(isOpen: engine.state(of: handle) == .open, highWaterMark: configuration.sendBuffer)
        setNeedsFlush()
        return handle
    }

    func streamID(of handle: ChannelHandle) -> UInt16? { engine.streamID(of: handle) }

    func readyState(of handle: ChannelHandle) -> DataChannel.ReadyState {
        guard let record = channels[handle], record.end == nil else { return .closed }
        switch engine.state(of: handle) {
        case .connecting: return .connecting
        case .open: return .open
        case .closing: return .closing
        case .closed: return .closed
        }
    }

    func waitUntilOpen(_ handle: ChannelHandle) async throws {
        while true {
            let record = try live(handle)
            if record.isOpen { return }
            let key = waiters.newKey()
            record.openers.append(key)
            try await waitFor(key)
        }
    }

    // MARK: Sending

    func send(_ message: ByteBuffer, isText: Bool, on handle: ChannelHandle) async throws {
        try Task.checkCancellation()
        if channels[handle]?.isOpen == false { try await waitUntilOpen(handle) }
        if let limit = engine.remoteMaximumMessageSize, message.readableBytes > limit { throw tooLarge(message, limit) }
        while true {
            let record = try live(handle)
            if engine.bufferedAmount(of: handle) <= record.highWaterMark { break }
            // woken at half of the mark, so that a waiting sender is not woken for every packet
            try await waitUntilBuffered(atMost: record.highWaterMark / 2, on: handle)
        }
        do throws(ChannelSendError) {
            try engine.send(message, isText: isText, on: handle, at: .now)
        } catch {
            switch error {
            case .messageTooLarge(let limit): throw tooLarge(message, limit)
            case .closed: throw DataChannelError(.closed)
            }
        }
        setNeedsFlush()
    }

    private func tooLarge(_ message: ByteBuffer, _ limit: Int) -> DataChannelError {
        DataChannelError(.messageTooLarge, "\(message.readableBytes) bytes, the peer takes \(limit)")
    }

    func bufferedAmount(of handle: ChannelHandle) -> Int { engine.bufferedAmount(of: handle) }

    func setHighWaterMark(_ bytes: Int, of handle: ChannelHandle) { channels[handle]?.highWaterMark = max(0, bytes) }

    func waitUntilBuffered(atMost limit: Int, on handle: ChannelHandle) async throws {
        while engine.bufferedAmount(of: handle) > limit {
            let record = try live(handle)
            let key = waiters.newKey()
            record.senders.append((key, limit))
            crowded.insert(handle)
            try await waitFor(key)
        }
        _ = try live(handle)
    }

    /// Wakes the senders whose channel has room again.
    func relieveCrowded() {
        guard !crowded.isEmpty else { return }
        for handle in crowded {
            let amount = engine.bufferedAmount(of: handle)
            guard let record = channels[handle], record.senders.contains(where: { amount <= $0.limit }) else { continue }
            let ready = record.senders.filter { amount <= $0.limit }
            record.senders.removeAll { amount <= $0.limit }
            if record.senders.isEmpty { crowded.remove(handle) }
            for waiter in ready { waiters.wake(waiter.key) }
        }
    }

    func drained(_ handle: ChannelHandle) async throws {
        let record = try live(handle)
        record.isDrained = false
        engine.notifyWhenAcknowledged(handle, at: .now)
        setNeedsFlush()
        while !record.isDrained {
            _ = try live(handle)
            let key = waiters.newKey()
            record.drainers.append(key)
            try await waitFor(key)
        }
    }

    // MARK: Receiving

    func deliver(_ bytes: ByteBuffer, isText: Bool, on handle: ChannelHandle, at now: Instant) {
        let size = bytes.readableBytes
        if let hooks = channels[handle]?.hooks {
            hooks.onMessage(bytes, isText)
            engine.consume(size, on: handle, at: now)
            return
        }
        let message = isText ? DataChannel.Message.text(String(buffer: bytes)) : .binary(bytes)
        guard let record = channels[handle] else {
            engine.consume(size, on: handle, at: now)
            return
        }
        if let handler = record.handler {
            handler(message)
            engine.consume(size, on: handle, at: now)
            return
        }
        record.queue.append((message, size))
        waiters.wake(&record.readers)
    }

    /// What waits, up to a bound; empty when the channel has ended in order.
    func nextMessages(of handle: ChannelHandle) async throws(DataChannelError) -> CircularBuffer<DataChannel.Message> {
        while true {
            guard let record = channels[handle] else { return [] }
            if !record.queue.isEmpty { return take(from: record, handle) }
            if let end = record.end {
                if end.code == .closed { return [] }
                throw end
            }
            let key = waiters.newKey()
            record.readers.append(key)
            guard await park(key) == .ready else { throw DataChannelError(.cancelled) }
        }
    }

    private func take(from record: ChannelRecord, _ handle: ChannelHandle) -> CircularBuffer<DataChannel.Message> {
        var batch = CircularBuffer<DataChannel.Message>()
        var bytes = 0
        while batch.count < ChannelRecord.messagesPerVisit, let next = record.queue.first {
            guard batch.isEmpty || bytes + next.bytes <= ChannelRecord.bytesPerVisit else { break }
            bytes += next.bytes
            batch.append(next.message)
            record.queue.removeFirst()
        }
        if closeReason == nil {
            engine.consume(bytes, on: handle, at: .now)
            setNeedsFlush()
        }
        return batch
    }

    /// - Parameter first: what a reader had fetched and not taken.
    func setHandler(_ handler: (@Sendable (DataChannel.Message) -> Void)?, of handle: ChannelHandle, first: CircularBuffer<DataChannel.Message>) {
        if let handler { for message in first { handler(message) } }
        guard let record = channels[handle] else { return }
        record.handler = handler
        guard let handler else { return }
        while !record.queue.isEmpty {
            for message in take(from: record, handle) { handler(message) }
        }
    }

    // MARK: The channel's life

    func channelOpened(_ handle: ChannelHandle) {
        guard let record = channels[handle] else { return }
        record.isOpen = true
        waiters.wake(&record.openers)
    }

    func channelDrained(_ handle: ChannelHandle) {
        guard let record = channels[handle] else { return }
        record.isDrained = true
        waiters.wake(&record.drainers)
    }

    func channelClosed(_ handle: ChannelHandle) { end(handle, DataChannelError(.closed)) }

    /// Everybody who waits looks again and finds the end.
    func end(_ handle: ChannelHandle, _ error: DataChannelError) {
        guard let record = channels[handle], record.end == nil else { return }
        record.end = error
        crowded.remove(handle)
        hooked.remove(handle)
        record.hooks?.onEnd(error)
        record.hooks = nil
        for key in record.readers + record.openers + record.drainers + record.closers + record.senders.map(\.key) { waiters.wake(key) }
    }

    func closeChannel(_ handle: ChannelHandle) async {
        guard let record = channels[handle], record.end == nil else { return }
        engine.closeChannel(handle, at: .now)
        setNeedsFlush()
        while let record = channels[handle], record.end == nil {
            let key = waiters.newKey()
            record.closers.append(key)
            guard await park(key) == .ready else { return }
        }
    }

    /// The public object is gone: nobody can send or read any more, so what waits is let go and the channel closes behind what was sent.
    func release(_ handle: ChannelHandle) {
        guard let record = channels.removeValue(forKey: handle) else { return }
        guard closeReason == nil else { return }
        let waiting = record.queue.reduce(0) { $0 + $1.bytes }
        if waiting > 0 { engine.consume(waiting, on: handle, at: .now) }
        if record.end == nil { engine.closeChannel(handle, at: .now) }
        setNeedsFlush()
    }

    private func live(_ handle: ChannelHandle) throws -> ChannelRecord {
        guard let record = channels[handle] else { throw DataChannelError(.closed) }
        if let end = record.end { throw end }
        return record
    }

    private func waitFor(_ key: Waiters.Key) async throws {
        if await park(key) == .cancelled { throw CancellationError() }
    }
}
