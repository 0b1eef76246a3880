package import NIOCore
import WebRTC
import Wire

/// What an owner that lives on the connection's own event loop hears of a channel, without a task or a hop. None of them may block.
///
/// The window opens when `onMessage` returns: whoever uses this has flow control of its own.
package struct ChannelHooks: Sendable {
    package var onMessage: @Sendable (_ bytes: ByteBuffer, _ isText: Bool) -> Void
    /// The network took bytes: so many are left.
    package var onBufferedAmount: @Sendable (Int) -> Void
    package var onEnd: @Sendable (DataChannelError) -> Void

    package init(
        onMessage: @escaping @Sendable (ByteBuffer, Bool) -> Void, onBufferedAmount: @escaping @Sendable (Int) -> Void,
        onEnd: @escaping @Sendable (DataChannelError) -> Void
    ) {
        self.onMessage = onMessage
        self.onBufferedAmount = onBufferedAmount
        self.onEnd = onEnd
    }
}

extension DataChannel {
    /// Hands the channel to an owner on the connection's event loop, what has arrived first. On that loop only.
    package func attach(_ hooks: ChannelHooks) {
        let waiting = takeFetched()
        connection.session.assumeIsolated { $0.attach(hooks, to: handle, first: waiting) }
    }

    /// Queues a message whatever waits already, and answers how much then does. On the connection's event loop only.
    package func sendNow(_ bytes: ByteBuffer, isText: Bool) throws(DataChannelError) -> Int {
        let result = connection.session.assumeIsolated { session in
            Result { () throws(DataChannelError) in try session.sendNow(bytes, isText: isText, on: handle) }
        }
        return try result.get()
    }

    /// What the peer takes in one message. On the connection's event loop only.
    package var peerMaximumMessageSize: Int? { connection.session.assumeIsolated { $0.engine.remoteMaximumMessageSize } }
}

extension Session {
    fileprivate func attach(_ hooks: ChannelHooks, to handle: ChannelHandle, first: CircularBuffer<DataChannel.Message>) {
        guard let record = channels[handle] else { return hooks.onEnd(DataChannelError(.closed)) }
        if let end = record.end { return hooks.onEnd(end) }
        record.hooks = hooks
        hooked.insert(handle)
        var bytes = 0
        let queued = record.queue
        record.queue.removeAll()
        for message in first { hooks.pass(message) }
        for (message, size) in queued {
            bytes += size
            hooks.pass(message)
        }
        guard bytes > 0, !isEnded else { return }
        engine.consume(bytes, on: handle, at: .now)
        setNeedsFlush()
    }

    fileprivate func sendNow(_ bytes: ByteBuffer, isText: Bool, on handle: ChannelHandle) throws(DataChannelError) -> Int {
        guard let record = channels[handle] else { throw DataChannelError(.closed) }
        if let end = record.end { throw end }
        do throws(ChannelSendError) {
            try engine.send(bytes, isText: isText, on: handle, at: .now)
        } catch {
            switch error {
            case .messageTooLarge(let limit): throw DataChannelError(.messageTooLarge, "\(bytes.readableBytes) bytes, the peer takes \(limit)")
            case .closed: throw DataChannelError(.closed)
            }
        }
        setNeedsFlush()
        record.reportedAmount = engine.bufferedAmount(of: handle)
        return record.reportedAmount
    }

    func reportBuffers() {
        for handle in hooked {
            let amount = engine.bufferedAmount(of: handle)
            guard let record = channels[handle], record.reportedAmount != amount else { continue }
            record.reportedAmount = amount
            record.hooks?.onBufferedAmount(amount)
        }
    }
}

extension ChannelHooks {
    fileprivate func pass(_ message: DataChannel.Message) {
        switch message {
        case .text(let text): onMessage(ByteBuffer(string: text), true)
        case .binary(let bytes): onMessage(bytes, false)
        }
    }
}
