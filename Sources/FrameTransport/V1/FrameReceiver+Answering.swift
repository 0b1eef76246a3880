import NIOCore
package import Wire

extension FrameReceiver {
    /// The connection on which the job was opened: the client is told that it is accepted.
    package mutating func attach(as job: JobNumber, at now: Instant) {
        self.job = job
        isGreetingDue = true
        startConnection(at: now)
    }

    /// Another connection, on which the client asked to resume. False where what it says cannot be: then the job stays parked.
    package mutating func resume(as job: JobNumber, _ request: ResumeRequest, at now: Instant) -> Bool {
        detach(at: now)
        guard phase != .done else { return false }
        if phase == .running {
            guard request.have <= sequence, request.taken <= request.have else { return false }
            take(through: request.taken, at: now, isResuming: true)
        }
        self.job = job
        let have = max(request.have, taken)
        if phase == .running {
            resumeHave = have
            unacknowledgedBytes = 0
            for offset in 0..<min(have - taken, outbox.count) { unacknowledgedBytes += outbox[offset: offset].length }
            sentThrough = have
            retryDue = awaited
            for id in awaited {
                guard let index = index(of: id) else { continue }
                slots[offset: index].askedAt = now
            }
        } else {
            isEndDue = true
        }
        startConnection(at: now)
        checkFinished(at: now)
        return true
    }

    private mutating func startConnection(at now: Instant) {
        timers[.parked] = nil
        receivedBytes = 0
        announced = Credit(id: 0, bytes: 0)
        lastBulk = now
        isBegun = false
        currentOffset = 0
        changed(at: now)
    }

    /// The connection is lost. The job waits for another as long as the limits say.
    package mutating func detach(at now: Instant) {
        guard job != nil else { return }
        job = nil
        isGreetingDue = false
        resumeHave = nil
        isProgressDue = false
        timers[.progress] = nil
        if phase != .done { timers[.parked] = now + limits.resumeLifetime }
        guard let begun = partial else { return }
        partial = nil
        guard !begun.isIgnored else { return }
        heldBytes -= begun.payload.readableBytes
        // what was never here whole comes again by itself
        if begun.header.id == received, !awaited.contains(begun.header.id) {
            _ = slots.popLast()
            if order.last == begun.header.id { _ = order.popLast() }
        }
    }

    /// A control message for this job.
    package mutating func handle(_ message: ControlMessage, at now: Instant) {
        switch message {
        case .taken(_, let sequence): take(through: sequence, at: now, isResuming: false)
        case .cancel: end(JobEnd(status: .cancelled), at: now)
        case .finish(_, let finish): handle(finish, at: now)
        case .bye:
            guard phase != .running else { return }
            phase = .done
            timers.stopAll()
        case .hello, .goodbye, .ping, .pong, .open, .resume, .accepted, .rejected, .resumed, .acknowledgement, .retry, .progress, .end: break
        }
    }

    package mutating func pollControl(at now: Instant) -> ControlMessage? {
        guard let job, phase != .done else { return nil }
        if case .ended(let end) = phase {
            guard isEndDue else { return nil }
            if isProgressDue {
                isProgressDue = false
                return .progress(job: job, progress(at: now))
            }
            isEndDue = false
            return .end(job: job, end)
        }
        if isGreetingDue {
            isGreetingDue = false
            announce()
            return .accepted(job: job, JobAcceptance(token: token, lifetime: limits.resumeLifetime, credit: announced))
        }
        // until the client knows where the job stands, nothing else makes sense
        guard resumeHave == nil else { return nil }
        if !retryDue.isEmpty {
            let ids = Array(retryDue.prefix(Self.retriesPerMessage))
            retryDue.removeFirst(ids.count)
            return .retry(job: job, ids: ids)
        }
        if isAcknowledgementDue {
            announce()
            return .acknowledgement(job: job, Acknowledgement(received: received, acknowledged: acknowledged, credit: announced))
        }
        if isProgressDue {
            isProgressDue = false
            progressTold = counts
            changed(at: now)
            return .progress(job: job, progress(at: now))
        }
        return nil
    }

    /// The next piece of an answer; first of all the word that the job goes on, here because answers must not overtake it.
    package mutating func pollBulk(_ budget: BulkBudget, at now: Instant) -> BulkMessage? {
        guard let job, phase == .running, !isGreetingDue, budget.room > 0 else { return nil }
        if let have = resumeHave {
            resumeHave = nil
            announce()
            let digest = have > taken && have - taken <= outbox.count ? outbox[offset: have - taken - 1].rolling : takenRolling
            let resumption = JobResumption(
                lifetime: limits.resumeLifetime, received: received, acknowledged: acknowledged, taken: taken, digest: digest.value, credit: announced)
            return .control(.resumed(job: job, resumption))
        }
        let offset = sentThrough - taken
        guard offset >= 0, offset < outbox.count else { return nil }
        let length = outbox[offset: offset].length
        if !isBegun {
            guard unacknowledgedBytes == 0 || unacknowledgedBytes + length <= request.resultWindow else { return nil }
            if !outbox[offset: offset].isTimed {
                outbox[offset: offset].isTimed = true
                let waited = (now - outbox[offset: offset].answeredAt).inNanoseconds / 1000
                outbox[offset: offset].header.result.answer.times.send = UInt32(clamping: waited)
                stages.add(outbox[offset: offset].header.result.answer.times)
            }
        }
        let headerBytes = isBegun ? ChunkHeader.byteCount : ResultHeader.byteCount
        guard let size = budget.piece(of: length - currentOffset, behind: headerBytes) else { return nil }
        var bytes = ByteBuffer()
        bytes.reserveCapacity(headerBytes + size)
        if isBegun {
            ChunkHeader(kind: .result, job: job, offset: currentOffset, id: sentThrough + 1).write(into: &bytes)
        } else {
            var header = outbox[offset: offset].header
            header.job = job
            header.write(into: &bytes)
        }
        outbox[offset: offset].append(currentOffset..<currentOffset + size, to: &bytes)
        currentOffset += size
        isBegun = true
        if currentOffset == length {
            isBegun = false
            currentOffset = 0
            sentThrough += 1
            unacknowledgedBytes += length
        }
        return .bytes(bytes)
    }

    mutating func markReleased(_ index: Int) {
        heldBytes -= slots[offset: index].heldBytes
        slots[offset: index].heldBytes = 0
        slots[offset: index].isReleased = true
        counts.decoded += 1
        while acknowledged < received, let next = self.index(of: acknowledged + 1), slots[offset: next].isReleased { acknowledged += 1 }
    }

    mutating func enter(_ answer: Answer, _ index: Int, id: Int, at now: Instant) {
        slots[offset: index].answer = answer
        if !slots[offset: index].isReleased { markReleased(index) }
        if !slots[offset: index].isOrdered {
            slots[offset: index].isOrdered = true
            order.append(id)
        }
        sendAnswers(at: now)
    }

    /// Answers leave as soon as all before them have.
    private mutating func sendAnswers(at now: Instant) {
        while let id = order.first, let index = index(of: id), var answer = slots[offset: index].answer {
            order.removeFirst()
            if answer.byteCount > limits.resultBytes {
                answer = .failure(.tooLarge, "an answer of \(answer.byteCount) bytes", format: request.resultFormat)
            }
            answer.tries = slots[offset: index].tries
            sequence += 1
            if answer.status != .noPicture { picture += 1 }
            let digest = slots[offset: index].digest
            rolling.add(id: id, digest: digest)
            let info = slots[offset: index].info
            let result = FrameResult(
                sequence: sequence, id: id, picture: answer.status == .noPicture ? 0 : picture, pts: info?.pts,
                timeBase: info?.timeBase ?? TimeBase(numerator: 1, denominator: 1_000_000), captureTime: info?.captureTime, digest: digest,
                answer: answer)
            let header = ResultHeader(job: 0, result: result)
            outbox.append(
                RetainedResult(header: header, bytes: [answer.body, answer.image?.bytes ?? ByteBuffer()], rolling: rolling, answeredAt: now))
            resultBytes += header.length
            slots[offset: index].answer = nil
            slots[offset: index].isAnswered = true
            counts.answered += 1
            if answer.status.isFailure { counts.failed += 1 }
            if answer.status == .noPicture { counts.withoutPicture += 1 }
        }
        while let first = slots.first, first.isAnswered, first.isReleased, base < acknowledged {
            slots.removeFirst()
            base += 1
        }
        changed(at: now)
    }

    private mutating func take(through sequence: Int, at now: Instant, isResuming: Bool) {
        guard phase == .running else { return }
        guard sequence <= (isResuming ? self.sequence : sentThrough) else {
            return isResuming ? count(.badAcknowledgement) : fail("answer \(sequence) taken of \(sentThrough)", at: now)
        }
        while taken < sequence, let first = outbox.popFirst() {
            taken += 1
            takenRolling = first.rolling
            resultBytes -= first.length
            if !isResuming { unacknowledgedBytes -= first.length }
        }
        sentThrough = max(sentThrough, taken)
        counts.taken = taken
        changed(at: now)
        if !isResuming { checkFinished(at: now) }
        checkDrained(at: now)
    }

    mutating func checkDrained(at now: Instant) {
        guard phase == .running, let draining, sequence >= drainLast || partial == nil && received == sequence, taken == sequence else { return }
        end(.failed, message: draining, at: now)
    }

    /// So that the message fits the smallest channel.
    private static var retriesPerMessage: Int { 512 }

    // MARK: Credit

    /// What the limits allow now. Ids stop where answers are not taken, bytes where payloads are not released.
    private var allowance: Credit {
        guard draining == nil else { return announced }
        var credit = Credit(id: announced.id, bytes: receivedBytes - heldBytes + limits.bytesInFlight)
        // answers may be big: while many wait, no more units are let in
        if resultBytes <= max(request.resultWindow, limits.resultBytes) || announced.id == 0 { credit.id = max(credit.id, min(taken, base) + window) }
        return credit
    }

    /// An acknowledgement goes out when it lets the sender do something, or when all is quiet: not for each unit.
    private var isAcknowledgementDue: Bool {
        let allowance = allowance
        let isHolding = acknowledged < received
        let grows = allowance.id > announced.id || allowance.bytes > announced.bytes
        if acknowledged > announcedAcknowledged || grows {
            if !isHolding { return true }
            if acknowledged - announcedAcknowledged >= max(1, window / 8) { return true }
        }
        if allowance.id > announced.id, announced.id - received < window * 3 / 4 { return true }
        return allowance.bytes > announced.bytes && announced.bytes - receivedBytes < limits.bytesInFlight / 4 * 3
    }

    private mutating func announce() {
        announced = allowance
        announcedAcknowledged = acknowledged
    }
}

extension FrameReceiver.RetainedResult {
    /// Writes a range of the run of bytes that body and image make.
    func append(_ range: Range<Int>, to bytes: inout ByteBuffer) {
        var start = 0
        for part in self.bytes {
            let end = start + part.readableBytes
            let lower = max(range.lowerBound, start)
            let upper = min(range.upperBound, end)
            if lower < upper, let slice = part.getSlice(at: part.readerIndex + lower - start, length: upper - lower) {
                bytes.writeImmutableBuffer(slice)
            }
            start = end
        }
    }
}
