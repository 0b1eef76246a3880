package import NIOCore
import SCTP
package import Wire

extension PeerEngine {
    /// Creates a channel; it opens when the connection does.
    package mutating func createDataChannel(_ options: ChannelOptions, at now: Instant) throws(ChannelOpenError) -> ChannelHandle {
        guard failure == nil, !isClosed else { throw .closed }
        guard options.maxRetransmits.map({ $0 >= 0 }) ?? true, options.maxPacketLifeTime.map({ $0 >= .zero }) ?? true else { throw .conflictingReliability }
        let parameters = ChannelParameters(
            label: options.label, subprotocol: options.subprotocol, ordered: options.ordered,
            maxPacketLifeTime: options.maxPacketLifeTime.map { UInt32(clamping: $0.inNanoseconds / 1_000_000) },
            maxRetransmits: options.maxRetransmits.map { UInt32(clamping: $0) }, priority: options.priority, negotiatedID: options.negotiatedID)
        do {
            return ChannelHandle(inner: try channels.open(parameters, at: now))
        } catch {
            switch error {
            case .noStreamAvailable: throw .noStreamAvailable
            case .invalidStream: throw .invalidStream
            case .labelTooLong: throw .labelTooLong
            case .conflictingReliability: throw .conflictingReliability
            case .closed: throw .closed
            }
        }
    }

    /// Queues a message; allowed while the channel is still connecting.
    package mutating func send(_ message: ByteBuffer, isText: Bool, on channel: ChannelHandle, at now: Instant) throws(ChannelSendError) {
        do {
            try channels.send(message, isText: isText, on: channel.inner, at: now)
        } catch {
            switch error {
            case .messageTooLarge(let limit): throw .messageTooLarge(limit: limit)
            case .closed: throw .closed
            }
        }
    }

    /// The application took that many bytes of messages.
    package mutating func consume(_ bytes: Int, on channel: ChannelHandle, at now: Instant) { channels.consume(bytes, on: channel.inner, at: now) }

    package mutating func closeChannel(_ channel: ChannelHandle, at now: Instant) { channels.close(channel.inner, at: now) }

    /// One `allAcknowledged` event follows.
    package mutating func notifyWhenAcknowledged(_ channel: ChannelHandle, at now: Instant) { channels.notifyWhenAcknowledged(channel.inner, at: now) }

    /// Bytes handed to `send` and not yet put into a packet.
    package func bufferedAmount(of channel: ChannelHandle) -> Int { channels.bufferedAmount(of: channel.inner) }

    package func options(of channel: ChannelHandle) -> ChannelOptions? {
        guard let parameters = channels.parameters(of: channel.inner) else { return nil }
        var options = ChannelOptions(label: parameters.label)
        options.subprotocol = parameters.subprotocol
        options.ordered = parameters.ordered
        options.maxPacketLifeTime = parameters.maxPacketLifeTime.map { .milliseconds(Int64($0)) }
        options.maxRetransmits = parameters.maxRetransmits.map { Int($0) }
        options.priority = parameters.priority
        options.negotiatedID = parameters.negotiatedID
        return options
    }

    package func state(of channel: ChannelHandle) -> ChannelState {
        switch channels.state(of: channel.inner) {
        case .connecting: .connecting
        case .open: .open
        case .closing: .closing
        case .closed: .closed
        }
    }

    package func streamID(of channel: ChannelHandle) -> UInt16? { channels.streamID(of: channel.inner) }
}
