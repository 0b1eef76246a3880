package import NIOCore

extension FrameSender {
    /// A control message for this job.
    package mutating func handle(_ message: ControlMessage) {
        switch message {
        case .accepted(_, let acceptance): handle(acceptance)
        case .rejected(_, let reason, let message):
            switch phase {
            case .opening(sent: true), .resuming(sent: true): end(JobEnd(status: .failed, reason: reason, message: message))
            case .opening, .resuming, .running, .ended: break
            }
            token = nil
        case .resumed(_, let resumption): handle(resumption)
        case .acknowledgement(_, let ack):
            if phase == .resuming(sent: true) { earlyAcknowledgement = ack }
            guard phase == .running else { return }
            acknowledge(through: ack.acknowledged)
            raise(ack.credit)
        case .retry(_, let ids):
            if phase == .resuming(sent: true), earlyRetries.count + ids.count <= limits.window(of: request.encoding) { earlyRetries += ids }
            guard phase == .running, !isCancelled else { return }
            for id in ids { queueRetry(id) }
        case .progress(_, let progress):
            guard phase != .ended else { return }
            note { $0.server = progress }
            // only the newest matters to an application that reads slowly
            events.removeAll { if case .progress = $0 { true } else { false } }
            events.append(.progress(counters))
        case .end(_, let end): handle(end)
        case .hello, .goodbye, .ping, .pong, .open, .resume, .finish, .taken, .cancel, .bye: break
        }
    }

    /// A result's first message.
    package mutating func handle(_ header: ResultHeader, _ bytes: ByteBuffer) {
        guard phase == .running, !isCancelled else { return }
        guard partial == nil else { return fail(.protocolViolation, "a result inside a result") }
        guard header.result.sequence == arrived + 1 else {
            return fail(.protocolViolation, "result \(header.result.sequence) after \(arrived)")
        }
        guard header.length <= min(limits.resultBytes, settings.resultBytes), header.length + resultBytes <= request.resultWindow || resultBytes == 0
        else {
            return fail(.protocolViolation, "a result of \(header.length) bytes beyond the window")
        }
        guard bytes.readableBytes <= header.length else { return fail(.protocolViolation, "a result longer than it says") }
        guard bytes.readableBytes == header.length || bytes.readableBytes >= TransportSettings.leastPieceBytes else {
            return fail(.protocolViolation, "a result in tiny pieces")
        }
        partial = PartialResult(header: header, payload: FramePayload(bytes))
        completeResult()
    }

    /// A result's later pieces.
    package mutating func handle(_ chunk: ChunkHeader, _ bytes: ByteBuffer) {
        guard phase == .running, !isCancelled else { return }
        guard let sequence = partial?.header.result.sequence, let length = partial?.header.length, let count = partial?.payload.readableBytes,
            sequence == chunk.id, count == chunk.offset
        else { return fail(.protocolViolation, "a piece of no result") }
        let left = length - count
        guard bytes.readableBytes <= left, bytes.readableBytes == left || bytes.readableBytes >= TransportSettings.leastPieceBytes else {
            return fail(.protocolViolation, "a result in tiny or overlong pieces")
        }
        partial?.payload.append(bytes)
        completeResult()
    }

    private mutating func completeResult() {
        guard partial?.payload.readableBytes == partial?.header.length, let whole = partial else { return }
        partial = nil
        guard let result = whole.header.result(with: whole.payload.contiguous) else { return }
        guard request.encoding == .source || result.id == result.sequence else {
            return fail(.protocolViolation, "result \(result.sequence) is for unit \(result.id)")
        }
        if let digest = unanswered.removeValue(forKey: result.id) {
            guard result.digest == digest || (result.digest == 0 && result.answer.status == .damaged) else {
                return fail(.digestMismatch, "unit \(result.id) is not what was sent")
            }
        } else {
            guard result.id <= adoptedThrough, adoptedAnswers.count <= limits.window(of: request.encoding), adoptedAnswers.insert(result.id).inserted else {
                return fail(.protocolViolation, "unit \(result.id) was answered twice or never sent")
            }
        }
        arrived = result.sequence
        rolling.add(id: result.id, digest: result.digest)
        resultSizes.append(whole.header.length)
        resultBytes += whole.header.length
        let arrived = arrived
        note { $0.arrived = arrived }
        events.append(.result(result))
    }

    private mutating func handle(_ acceptance: JobAcceptance) {
        guard phase == .opening(sent: true) else { return }
        phase = .running
        token = acceptance.token
        raise(acceptance.credit)
        events.append(.accepted(ResumeTicket(token: acceptance.token, taken: 0)))
    }

    private mutating func handle(_ resumption: JobResumption) {
        guard phase == .resuming(sent: true) else { return }
        guard resumption.acknowledged <= resumption.received else { return fail(.protocolViolation, "more acknowledged than received") }
        if isStranger, let sequence = adoptedSequence {
            isStranger = false
            // A ticket's first connection: what the server says is where the job stands.
            adopt(nextID: resumption.acknowledged + 1)
            acknowledged = resumption.acknowledged
            adoptedThrough = resumption.received
            rolling = RollingDigest(resumption.digest)
            // what the earlier process took later than the ticket was written
            let base = max(sequence, resumption.taken)
            adoptedSequence = base
            arrived = base
            taken = base
            takenSent = base
        } else {
            guard resumption.received < nextID || resumption.received <= adoptedThrough, resumption.acknowledged >= acknowledged else {
                return fail(.protocolViolation, "the server has \(resumption.received) of \(nextID - 1) units")
            }
            guard resumption.digest == rolling.value else {
                return fail(.digestMismatch, "the proofs differ after answer \(arrived)")
            }
        }
        phase = .running
        sentThrough = resumption.received
        acknowledge(through: resumption.acknowledged)
        credit = Credit(id: max(credit.id, resumption.credit.id), bytes: resumption.credit.bytes)
        events.append(.resumed(nextID: nextID))
        // `resumed` comes on the bulk lane, ahead of answers; control messages may have overtaken it
        if let ack = earlyAcknowledgement {
            acknowledge(through: ack.acknowledged)
            raise(ack.credit)
        }
        for id in earlyRetries { queueRetry(id) }
        earlyAcknowledgement = nil
        earlyRetries = []
    }

    private mutating func handle(_ end: JobEnd) {
        isByeDue = true
        guard phase != .ended else { return }
        var end = end
        end.counts.sent = max(end.counts.sent, nextID - 1)
        end.counts.dropped = counters.dropped
        if end.status == .completed || end.reason == .source {
            if isStranger {
                // made from a ticket, and all was answered and taken before
                end.proof = .provedAfter(sequence: arrived)
            } else if end.counts.answered != arrived || end.digest != rolling.value || !unanswered.isEmpty
                || finish.map({ $0.last != end.counts.answered }) ?? false
            {
                end.proof = .differs
                end.status = .failed
                end.reason = .digestMismatch
                end.message = "the server answered \(end.counts.answered) units, \(arrived) answers arrived to \(nextID - 1) units"
            } else {
                end.proof = adoptedSequence.map { $0 == 0 ? .proved : .provedAfter(sequence: $0) } ?? .proved
            }
        }
        self.end(end)
    }

    private mutating func acknowledge(through id: Int) {
        guard id < nextID || id <= adoptedThrough else { return fail(.protocolViolation, "unit \(id) acknowledged of \(nextID - 1)") }
        guard id <= sentThrough else { return fail(.protocolViolation, "unit \(id) acknowledged before it was sent") }
        acknowledgedByServer = max(acknowledgedByServer, id)
        while acknowledged < id, let first = retained.popFirst() {
            retainedBytes -= first.payload.readableBytes
            acknowledged += 1
            // a server may be done with a unit without having read it whole
            if current?.id == acknowledged { current = nil }
        }
        let acknowledged = acknowledged
        note { $0.acknowledged = max($0.acknowledged, acknowledged) }
    }

    private mutating func raise(_ new: Credit) {
        credit.id = max(credit.id, new.id)
        credit.bytes = max(credit.bytes, new.bytes)
    }

    private mutating func queueRetry(_ id: Int) {
        guard id <= sentThrough, let index = index(of: id), !retained[offset: index].isRetryQueued else { return }
        retained[offset: index].isRetryQueued = true
        retryQueue.append(id)
        note { $0.retries += 1 }
    }
}
