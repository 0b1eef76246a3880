package import NIOCore

/// A message of a job for the bulk lane.
package enum BulkMessage: Sendable {
    case bytes(ByteBuffer)
    case control(ControlMessage)
}

extension FrameSender {
    /// A connection is there whose hellos were exchanged.
    package mutating func attach(as job: JobNumber, limits: JobLimits) {
        self.job = job
        self.limits = limits.consistent
        switch phase {
        case .opening: phase = .opening(sent: false)
        case .resuming, .running: phase = .resuming(sent: false)
        case .ended: break
        }
    }

    /// The connection is lost. What was not acknowledged is kept for the next.
    package mutating func detach() {
        guard job != nil else { return }
        job = nil
        switch phase {
        case .opening: phase = .opening(sent: false)
        case .resuming, .running: phase = .resuming(sent: false)
        case .ended: break
        }
        current = nil
        retryQueue.removeAll()
        for index in 0..<retained.count { retained[offset: index].isRetryQueued = false }
        sentBytes = 0
        credit.bytes = 0
        announcedConfigurations.removeAll()
        isFinishSent = false
        isCancelSent = false
        partial = nil
        takenSent = taken
        earlyAcknowledgement = nil
        earlyRetries = []
    }

    /// True where nothing is left to do for this job on this connection.
    package var isDone: Bool { phase == .ended && !isByeDue && (!isCancelled || isCancelSent || token == nil) && events.isEmpty }

    package mutating func pollControl() -> ControlMessage? {
        guard let job else { return nil }
        switch phase {
        case .opening(sent: false):
            phase = .opening(sent: true)
            return .open(job: job, request)
        case .resuming(sent: false):
            guard let token else { return nil }
            phase = .resuming(sent: true)
            takenSent = taken
            return .resume(job: job, ResumeRequest(token: token, taken: taken, have: arrived))
        case .opening, .resuming: return nil
        case .running:
            if isCancelled, !isCancelSent {
                isCancelSent = true
                return .cancel(job: job)
            }
            guard taken > takenSent else { return nil }
            takenSent = taken
            return .taken(job: job, sequence: taken)
        case .ended:
            if isByeDue {
                isByeDue = false
                isCancelSent = true
                return .bye(job: job)
            }
            guard isCancelled, !isCancelSent, token != nil else { return nil }
            isCancelSent = true
            return .cancel(job: job)
        }
    }

    /// The next piece of a frame, a configuration that it needs, or the word that the source has ended.
    package mutating func pollBulk(_ budget: BulkBudget) -> BulkMessage? {
        guard let job, phase == .running, !isCancelled, budget.room > 0 else { return nil }
        if current == nil, !beginNext() {
            guard let finish, !isFinishSent, sentThrough >= finish.last, nextID > finish.last else { return nil }
            isFinishSent = true
            return .control(.finish(job: job, finish))
        }
        guard let current, let index = index(of: current.id) else { return nil }
        var header = retained[offset: index].header
        let payload = retained[offset: index].payload
        let number = header.info.configuration
        if current.offset == 0, number != 0, !announcedConfigurations.contains(number) {
            guard let configuration = configurations.first(where: { $0.number == number }) else { return nil }
            announcedConfigurations.insert(number)
            var bytes = ByteBuffer()
            bytes.reserveCapacity(CodecConfiguration.byteCount + configuration.extradata.readableBytes)
            configuration.write(job: job, into: &bytes)
            return .bytes(bytes)
        }
        let isFirst = current.offset == 0
        let headerBytes = isFirst ? FrameHeader.byteCount : ChunkHeader.byteCount
        let remaining = header.length - current.offset
        guard current.id <= credit.id, let size = budget.piece(of: remaining, behind: headerBytes, credit: credit.bytes - sentBytes),
            let piece = payload.getSlice(at: payload.readerIndex + current.offset, length: size)
        else { return nil }
        var bytes = ByteBuffer()
        bytes.reserveCapacity(headerBytes + size)
        if isFirst {
            header.job = job
            header.write(into: &bytes)
        } else {
            ChunkHeader(kind: .frame, job: job, offset: current.offset, id: current.id).write(into: &bytes)
        }
        bytes.writeImmutableBuffer(piece)
        sentBytes += size
        if size == remaining {
            self.current = nil
            if current.id > sentThrough { sentThrough = current.id }
            note { $0.sent = max($0.sent, current.id) }
        } else {
            self.current = (current.id, current.offset + size)
        }
        return .bytes(bytes)
    }

    /// Chooses what is sent next: first what was asked for again.
    private mutating func beginNext() -> Bool {
        while let id = retryQueue.popFirst() {
            guard let index = index(of: id) else { continue }
            retained[offset: index].isRetryQueued = false
            retained[offset: index].header.attempt += 1
            // perhaps it was the configuration that did not arrive
            announcedConfigurations.remove(retained[offset: index].header.info.configuration)
            current = (id, 0)
            return true
        }
        let next = sentThrough + 1
        guard next < nextID, next <= credit.id, index(of: next) != nil else { return false }
        current = (next, 0)
        return true
    }

    /// Where a frame stands in `retained`, from its beginning.
    func index(of id: Int) -> Int? {
        let offset = id - acknowledged - 1
        guard offset >= 0, offset < retained.count else { return nil }
        return offset
    }
}
