import NIOCore
import Wire

/// What the association tells, turned into what the application is told.
extension DataChannelEngine {
    mutating func digest(_ event: AssociationEvent, at now: Instant) {
        switch event {
        case .message(let message): receive(message, at: now)
        case .connected:
            isConnected = true
            events.append(.connected)
            for index in channels.indices {
                guard let channel = channels[index] else { continue }
                if let id = channel.id, Int(id) >= maximumStreams { finish(index) } else if channel.id != nil { becomeOpen(index) }
            }
        case .bufferedAmountLow(let stream):
            if let index = byStream[stream], let channel = channels[index] { events.append(.bufferedAmountLow(channel.handle)) }
        case .drained(let stream):
            guard let index = byStream[stream], let channel = channels[index], channel.wantsAcknowledgement else { return }
            channels[index]?.wantsAcknowledgement = false
            events.append(.allAcknowledged(channel.handle))
        case .incomingReset(let streams):
            if streams.isEmpty {
                for index in channels.indices where channels[index]?.incomingIsReset == false { incomingReset(index, at: now) }
            } else {
                for stream in streams { if let index = byStream[stream] { incomingReset(index, at: now) } }
            }
        case .outgoingReset(let streams, let performed):
            for stream in streams {
                guard let index = byStream[stream] else { continue }
                channels[index]?.outgoingIsReset = true
                // a peer that knows no resets will not reset its side either
                if !performed { channels[index]?.incomingIsReset = true }
                finishIfReset(index)
            }
        case .restarted:
            // the peer knows nothing of our channels any more
            finishAll()
        case .failed(let error):
            isConnected = false
            finishAll()
            events.append(.failed(error))
        case .disconnected:
            isConnected = false
            finishAll()
            events.append(.disconnected)
        }
    }

    private mutating func finishAll() {
        for index in channels.indices { finish(index) }
    }

    // MARK: Reset (RFC 8831 §6.7)

    private mutating func incomingReset(_ index: Int, at now: Instant) {
        guard let channel = channels[index], let id = channel.id else { return }
        channels[index]?.incomingIsReset = true
        if !channel.isClosing {
            channels[index]?.isClosing = true
            association.resetOutgoing(id, at: now)
        }
        finishIfReset(index)
    }

    private mutating func finishIfReset(_ index: Int) {
        if let channel = channels[index], channel.incomingIsReset, channel.outgoingIsReset { finish(index) }
    }

    // MARK: Messages

    private mutating func receive(_ message: ReceivedMessage, at now: Instant) {
        let charge = message.payload.readableBytes + Reassembly.overhead
        switch message.ppid {
        case PayloadProtocol.establishment:
            association.release(charge, at: now)
            receiveEstablishment(message, at: now)
        case PayloadProtocol.text: deliver(message.payload, isText: true, message.stream, charge: charge, at: now)
        case PayloadProtocol.binary: deliver(message.payload, isText: false, message.stream, charge: charge, at: now)
        case PayloadProtocol.emptyText: deliver(ByteBuffer(), isText: true, message.stream, charge: charge, at: now)
        case PayloadProtocol.emptyBinary: deliver(ByteBuffer(), isText: false, message.stream, charge: charge, at: now)
        default:
            // 52 and 54 are deprecated partial messages; the rest is not for us
            association.counters.drops.malformedMessage += 1
            association.release(charge, at: now)
        }
    }

    private mutating func deliver(_ payload: ByteBuffer, isText: Bool, _ stream: UInt16, charge: Int, at now: Instant) {
        guard let index = byStream[stream], let channel = channels[index] else {
            association.counters.drops.invalidStream += 1
            return association.release(charge, at: now)
        }
        channels[index]?.hand(out: payload.readableBytes, charge: charge)
        // RFC 8832 §6: a message on the channel shows that the peer has the OPEN, too
        if channel.awaitsAck { channels[index]?.awaitsAck = false }
        events.append(.message(channel.handle, payload, isText: isText))
    }

    private mutating func receiveEstablishment(_ message: ReceivedMessage, at now: Instant) {
        guard let dcep = try? DCEPMessage(parsing: message.payload.readableBytesSpan) else {
            association.counters.drops.malformedMessage += 1
            return refuse(message.stream, at: now)
        }
        switch dcep {
        case .acknowledgement:
            guard let index = byStream[message.stream], channels[index]?.awaitsAck == true else {
                association.counters.drops.unexpectedAcknowledgement += 1
                return
            }
            channels[index]?.awaitsAck = false
        case .open(let parameters):
            receiveOpen(parameters, stream: message.stream, at: now)
        }
    }

    /// RFC 8832 §6: the id must be unused and of the peer's parity.
    private mutating func receiveOpen(_ parameters: ChannelParameters, stream: UInt16, at now: Instant) {
        let isPeersParity = isDTLSClient.map { stream % 2 == ($0 ? 1 : 0) } ?? true
        guard isPeersParity, byStream[stream] == nil, Int(stream) < maximumStreams else {
            association.counters.drops.illegalOpen += 1
            return refuse(stream, at: now)
        }
        guard byStream.count < association.configuration.maximumChannels, nameBytes + parameters.nameBytes <= association.configuration.maximumNameBytes else {
            association.counters.drops.tooManyChannels += 1
            return refuse(stream, at: now)
        }
        nameBytes += parameters.nameBytes
        var channel = Channel(handle: takeHandle(), parameters: parameters, id: stream, isOurs: false)
        channel.isOpen = true
        openedCount += 1
        let handle = channel.handle
        _ = insert(channel)
        association.sendQueue.setWeight(parameters.priority, of: stream)
        association.sendQueue.setLowThreshold(0, of: stream)
        var answer = ByteBuffer()
        DCEPMessage.acknowledgement.write(into: &answer)
        sendDCEP(answer, stream: stream, at: now)
        events.append(.channel(handle))
    }

    /// Closes the channel that a peer opened against the rules, or whatever it hit.
    private mutating func refuse(_ stream: UInt16, at now: Instant) {
        guard let index = byStream[stream], let channel = channels[index] else {
            if Int(stream) < maximumStreams { association.resetOutgoing(stream, at: now) }
            return
        }
        close(channel.handle, at: now)
    }
}
