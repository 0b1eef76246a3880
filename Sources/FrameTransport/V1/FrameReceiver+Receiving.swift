package import NIOCore
package import Wire

extension FrameReceiver {
    /// A frame's first message.
    package mutating func handle(_ header: FrameHeader, _ bytes: ByteBuffer, at now: Instant) {
        guard phase == .running, job != nil else { return count(.stale) }
        lastBulk = now
        if partial != nil { drop(.interrupted, at: now) }
        guard header.id <= announced.id else { return fail("unit \(header.id) beyond the credit of \(announced.id)", at: now) }
        guard header.id <= received + 1 else { return fail("unit \(header.id) after \(received)", at: now) }
        guard header.length <= limits.frameBytes, Int(header.info.uncompressedLength) <= limits.frameBytes else {
            return fail("a unit of \(header.length) bytes", at: now)
        }
        guard Int(header.info.width) * Int(header.info.height) <= limits.framePixels else {
            return fail("a picture of \(header.info.width)x\(header.info.height)", at: now)
        }
        guard header.info.encoding == request.encoding else { return fail("a unit of another encoding than the job's", at: now) }
        guard count(bytes.readableBytes, at: now) else { return }
        var isIgnored = false
        if header.id == received + 1 {
            guard finish == nil else { return fail("a unit behind the last", at: now) }
            slots.append(Slot())
            if request.encoding != .source {
                order.append(header.id)
                slots[offset: slots.count - 1].isOrdered = true
            }
        } else {
            isIgnored = index(of: header.id).map { !slots[offset: $0].isMissing } ?? true
            if isIgnored { count(.duplicate) }
        }
        var begun = PartialFrame(header: header, isIgnored: isIgnored)
        begun.append(bytes)
        partial = begun
        if isIgnored { heldBytes -= bytes.readableBytes }
        check(bytes.readableBytes, of: header.length, at: now)
    }

    /// A frame's later pieces.
    package mutating func handle(_ chunk: ChunkHeader, _ bytes: ByteBuffer, at now: Instant) {
        guard phase == .running, job != nil else { return count(.stale) }
        lastBulk = now
        guard count(bytes.readableBytes, at: now) else { return }
        guard let id = partial?.header.id, let count = partial?.count, let length = partial?.header.length else {
            // the rest of a frame that was dropped
            heldBytes -= bytes.readableBytes
            return self.count(.stray)
        }
        guard chunk.id == id, chunk.offset == count else {
            heldBytes -= bytes.readableBytes
            return drop(.badPiece, at: now)
        }
        if partial?.isIgnored ?? true { heldBytes -= bytes.readableBytes }
        partial?.append(bytes)
        check(bytes.readableBytes, of: length - count, at: now)
    }

    package mutating func handle(_ configuration: CodecConfiguration, at now: Instant) {
        guard phase == .running, job != nil else { return count(.stale) }
        lastBulk = now
        guard configuration.extradata.readableBytes <= limits.configurationBytes else { return count(.configurationTooLarge) }
        // a copy: the message's storage may be many times as big
        var configuration = configuration
        configuration.extradata = ByteBuffer(configuration.extradata.readableBytesView)
        configurations.removeAll { $0.number == configuration.number }
        configurations.append(configuration)
        if configurations.count > limits.configurations { configurations.removeFirst() }
    }

    package mutating func handle(_ finish: JobFinish, at now: Instant) {
        guard phase == .running, job != nil else { return count(.stale) }
        if partial != nil { drop(.interrupted, at: now) }
        guard phase == .running else { return }
        guard finish.last == received, self.finish.map({ $0.last == finish.last }) ?? true else {
            return fail("a source that ends at \(finish.last) after \(received)", at: now)
        }
        self.finish = finish
        counts.sent = finish.last
        counts.dropped = finish.dropped
        checkFinished(at: now)
    }

    /// Counts payload bytes against the credit.
    private mutating func count(_ bytes: Int, at now: Instant) -> Bool {
        guard receivedBytes + bytes <= announced.bytes else {
            fail("\(receivedBytes + bytes) bytes beyond the credit of \(announced.bytes)", at: now)
            return false
        }
        receivedBytes += bytes
        heldBytes += bytes
        return true
    }

    /// The piece that was just added had `added` of `remaining` bytes. When nothing is missing, the frame is whole.
    private mutating func check(_ added: Int, of remaining: Int, at now: Instant) {
        guard added <= remaining, added == remaining || added >= TransportSettings.leastPieceBytes else { return drop(.badPiece, at: now) }
        guard added == remaining, let whole = partial else { return }
        partial = nil
        guard !whole.isIgnored, let index = index(of: whole.header.id) else { return }
        let header = whole.header
        slots[offset: index].heldBytes = whole.payload.readableBytes
        guard whole.digest.digest == header.digest else { return lose(index, id: header.id, .digest, at: now) }
        var configuration: CodecConfiguration?
        if header.info.configuration != 0 {
            configuration = configurations.first { $0.number == header.info.configuration }
            guard configuration != nil else { return lose(index, id: header.id, .noConfiguration, at: now) }
        }
        slots[offset: index].info = header.info
        slots[offset: index].digest = header.digest
        slots[offset: index].isMissing = false
        awaited.removeAll { $0 == header.id }
        counts.received += 1
        counts.payloadBytes += whole.payload.readableBytes
        changed(at: now)
        guard header.id <= drainLast else {
            heldBytes -= slots[offset: index].heldBytes
            slots[offset: index].heldBytes = 0
            return
        }
        if let expected = header.info.rawLength {
            let length = header.info.compression == nil ? header.length : Int(header.info.uncompressedLength)
            guard length == expected else {
                // sent again it would be the same
                count(.malformed)
                let answer = Answer.failure(.undecodable, "a raw picture of \(length) bytes, not \(expected)", format: request.resultFormat)
                enter(answer, index, id: header.id, at: now)
                return checkFinished(at: now)
            }
        }
        events.append(
            .frame(
                ReceivedFrame(
                    id: header.id, info: header.info, payload: whole.payload, configuration: configuration, attempt: slots[offset: index].tries - 1,
                    receivedAt: now)))
        checkFinished(at: now)
    }

    /// The frame being received is worth nothing.
    private mutating func drop(_ reason: FrameFaultReason, at now: Instant) {
        guard let begun = partial else { return }
        partial = nil
        guard !begun.isIgnored, let index = index(of: begun.header.id) else { return count(reason) }
        // a piece that was refused may have been counted already
        slots[offset: index].heldBytes = begun.payload.readableBytes
        lose(index, id: begun.header.id, reason, at: now)
    }

    /// Asks for a unit again, or gives it up.
    private mutating func lose(_ index: Int, id: Int, _ reason: FrameFaultReason, at now: Instant) { _ = askAgain(index, id: id, reason, at: now) }

    mutating func askAgain(_ index: Int, id: Int, _ reason: FrameFaultReason, at now: Instant) -> Bool {
        count(reason)
        heldBytes -= slots[offset: index].heldBytes
        slots[offset: index].heldBytes = 0
        guard slots[offset: index].tries < limits.tries else {
            let wasDecodable = reason != .undecodable
            slots[offset: index].isMissing = false
            awaited.removeAll { $0 == id }
            if wasDecodable {
                slots[offset: index].digest = 0
                events.append(.lost(id))
            }
            let answer = Answer.failure(
                wasDecodable ? .damaged : .undecodable, "given up after being sent \(slots[offset: index].tries) times: \(reason.rawValue)",
                format: request.resultFormat)
            enter(answer, index, id: id, at: now)
            checkFinished(at: now)
            return false
        }
        slots[offset: index].tries += 1
        slots[offset: index].isMissing = true
        slots[offset: index].askedAt = now
        if !awaited.contains(id) { awaited.append(id) }
        if !retryDue.contains(id) { retryDue.append(id) }
        counts.retries += 1
        changed(at: now)
        return true
    }

    /// Tells the application once that nothing more will come.
    mutating func checkFinished(at now: Instant) {
        guard phase == .running else { return }
        let last = min(finish?.last ?? .max, drainLast)
        if !isFinishedTold, received >= last, partial.map({ $0.header.id > last }) ?? true, !awaited.contains(where: { $0 <= last }) {
            isFinishedTold = true
            events.append(.finished(last: last))
        }
        guard let finish, taken == finish.last, sequence == finish.last else { return }
        if let error = finish.error {
            end(JobEnd(status: .failed, reason: .source, message: error), at: now)
        } else {
            end(JobEnd(status: .completed), at: now)
        }
    }

    /// Units that were asked for again and do not come, although time passed without anything on the bulk lane.
    var retryDeadline: Instant? {
        guard job != nil, phase == .running, !awaited.isEmpty else { return nil }
        var result: Instant?
        for id in awaited where partial?.header.id != id {
            guard let index = index(of: id) else { continue }
            result = earliest(result, retryDeadline(of: slots[offset: index]))
        }
        return result
    }

    /// While other frames keep coming this one may be waiting behind them, but not forever.
    private func retryDeadline(of slot: Slot) -> Instant {
        min(max(slot.askedAt, lastBulk) + settings.retryTimeout, slot.askedAt + settings.retryTimeout * 12)
    }

    mutating func expireRetries(at now: Instant) {
        guard job != nil, phase == .running, !awaited.isEmpty else { return }
        for id in awaited where partial?.header.id != id {
            guard let index = index(of: id), retryDeadline(of: slots[offset: index]) <= now else { continue }
            lose(index, id: id, .overdue, at: now)
        }
    }
}
