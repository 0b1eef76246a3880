import NIOCore
import Wire

extension Association {
    /// One SCTP packet. Nothing of it is kept.
    mutating func receive(_ packet: RawSpan, at now: Instant) {
        wakeAt = now
        counters.packetsReceived += 1
        counters.bytesReceived += packet.byteCount
        guard packet.byteCount >= CommonHeader.size + 4, let header = try? CommonHeader(parsing: packet) else {
            counters.drops.malformedPacket += 1
            return
        }
        guard header.destinationPort == configuration.localPort, header.sourcePort == configuration.remotePort else {
            counters.drops.wrongPort += 1
            return
        }
        let chunks = packet.extracting(droppingFirst: CommonHeader.size)
        // in bounds: there are at least 4 bytes
        let firstType = unsafe chunks.unsafeLoad(fromUncheckedByteOffset: 0, as: UInt8.self)
        let firstFlags = unsafe chunks.unsafeLoad(fromUncheckedByteOffset: 1, as: UInt8.self)
        // RFC 9653 §5.3; §5.2: never zero with INIT
        let mayBeZero = configuration.offerZeroChecksum && firstType != ChunkType.initiation
        if header.checksum != 0 || !mayBeZero {
            guard CRC32C.checksum(packet: packet) == header.checksum else {
                counters.drops.badChecksum += 1
                return
            }
        }
        guard isTagRight(header.verificationTag, firstType: firstType, flags: firstFlags) else {
            counters.drops.badVerificationTag += 1
            if state == .ended { answerOutOfTheBlue(firstType, tag: header.verificationTag) }
            return
        }
        walk(chunks, tag: header.verificationTag, at: now)
    }

    private mutating func walk(_ chunks: RawSpan, tag: UInt32, at now: Instant) {
        var reader = TaggedReader(chunks)
        var word: UInt16 = 0
        var hadData = false
        var isFirst = true
        walk: while !reader.isAtEnd {
            do throws(ParseError) {
                let body = try reader.next(tag: &word)
                let flags = UInt8(truncatingIfNeeded: word)
                switch UInt8(word >> 8) {
                case ChunkType.data:
                    hadData = true
                    try receiveData(body, flags: flags, interleaved: false)
                case ChunkType.interleavedData:
                    hadData = true
                    try receiveData(body, flags: flags, interleaved: true)
                case ChunkType.sack: receiveSack(try SackChunk(parsing: body), at: now)
                case ChunkType.initiation:
                    // RFC 9260 §8.5.1 A: alone in its packet
                    guard isFirst, reader.isAtEnd, tag == 0 else { throw .badValue }
                    receiveInit(try InitChunk(parsing: body), at: now)
                case ChunkType.initiationAck:
                    guard isFirst, reader.isAtEnd else { throw .badValue }
                    receiveInitAck(try InitChunk(parsing: body), at: now)
                case ChunkType.cookieEcho:
                    guard isFirst, receiveCookieEcho(body, tag: tag, at: now) else { break walk }
                case ChunkType.cookieAck: receiveCookieAck(at: now)
                case ChunkType.heartbeat: answerHeartbeat(body)
                case ChunkType.heartbeatAck: receiveHeartbeatAck(body, at: now)
                case ChunkType.abort:
                    let causes = (try? ErrorCause.parse(body)) ?? []
                    receiveAbort(cause: causes.first?.code ?? 0)
                    break walk
                case ChunkType.error: receiveError(try ErrorCause.parse(body), at: now)
                case ChunkType.shutdown:
                    var value = ByteReader(body)
                    receiveShutdown(cumulative: TSN(rawValue: try value.take()), at: now)
                case ChunkType.shutdownAck: receiveShutdownAck()
                case ChunkType.shutdownComplete: receiveShutdownComplete()
                case ChunkType.forwardTSN: receiveForwardTSN(try ForwardTSNChunk(parsing: body, interleaved: false), interleaved: false, at: now)
                case ChunkType.interleavedForwardTSN:
                    receiveForwardTSN(try ForwardTSNChunk(parsing: body, interleaved: true), interleaved: true, at: now)
                case ChunkType.reconfiguration: receiveReconfiguration(try ReconfigurationChunk(parsing: body), at: now)
                case ChunkType.padding, ChunkType.ecnEcho, ChunkType.windowReduced: break
                default: if !skipUnknown(word, body) { break walk }
                }
            } catch {
                counters.drops.malformedChunk += 1
                if error != .badValue { break walk }
            }
            isFirst = false
            if state == .ended { break }
        }
        if let number = skippedTo {
            // once a packet, however many such chunks it has
            skippedTo = nil
            reassembly.dropUnordered(upTo: number)
        }
        if hadData { sackSchedule.packetReceived(at: now, delay: configuration.sackDelay) }
        armSack()
    }

    /// RFC 9260 §8.5 and §8.5.1.
    private func isTagRight(_ tag: UInt32, firstType: UInt8, flags: UInt8) -> Bool {
        switch firstType {
        case ChunkType.initiation: return tag == 0
        // the cookie tells which tag is right (§5.1.5 and the collisions of §5.2.4)
        case ChunkType.cookieEcho: return tag != 0
        case ChunkType.abort, ChunkType.shutdownComplete: return tag != 0 && tag == (flags & 1 == 0 ? localTag : peerTag)
        default: return tag != 0 && tag == localTag && state != .ended
        }
    }

    /// RFC 9260 §8.4: packets for an association that is over.
    private mutating func answerOutOfTheBlue(_ firstType: UInt8, tag: UInt32) {
        guard tag != 0, control.isEmpty, firstType != ChunkType.abort, firstType != ChunkType.shutdownComplete else { return }
        var chunk = ByteBuffer()
        chunk.writeChunk(firstType == ChunkType.shutdownAck ? ChunkType.shutdownComplete : ChunkType.abort, flags: 1)
        enqueueControl(ControlChunk(chunk, .alone(tag: tag)))
    }

    /// RFC 9260 §3.2: the two highest bits say whether to go on (10, 11) and whether to report (01, 11).
    private mutating func skipUnknown(_ word: UInt16, _ body: RawSpan) -> Bool {
        counters.drops.unknownChunk += 1
        if word & 0x4000 != 0, body.byteCount <= 256, state.hasPeer {
            var chunk = ByteBuffer()
            chunk.writeTagged(word) { $0.writeBytes(body) }
            sendError(ErrorCause(code: ErrorCause.unrecognizedChunk, information: chunk))
        }
        return word & 0x8000 != 0
    }

    mutating func sendError(_ cause: ErrorCause) {
        var chunk = ByteBuffer()
        chunk.writeChunk(ChunkType.error) { cause.write(into: &$0) }
        enqueueControl(ControlChunk(chunk, .bundled))
    }

    // MARK: Data

    @inline(__always)
    private mutating func receiveData(_ body: RawSpan, flags: UInt8, interleaved: Bool) throws(ParseError) {
        var reader = ByteReader(body)
        let chunk = try DataChunk(parsing: &reader, flags: flags, interleaved: interleaved)
        guard state.mayReceiveData else {
            counters.drops.unexpectedChunk += 1
            return
        }
        let length = reader.remaining
        guard interleaved == capabilities.interleaving else { return violate() }
        guard length > 0 else {
            // RFC 9260 §6.2: "No User Data" ends the association
            counters.drops.emptyData += 1
            abort(ErrorCause(code: ErrorCause.noUserData), reporting: .protocolViolation)
            return
        }
        let number = tracker.unwrap(chunk.tsn)
        let arrival = tracker.classify(number)
        guard mayTake(arrival, chunk, length) else { return }
        if arrival != .next || !tracker.ranges.isEmpty || chunk.isImmediate { sackSchedule.requestImmediately() }
        tracker.insert(number)
        sackSchedule.dataTaken(length)
        counters.payloadBytesReceived += length
        guard chunk.stream < configuration.inboundStreams else {
            counters.drops.invalidStream += 1
            var information = ByteBuffer()
            information.writeInteger(chunk.stream)
            information.writeInteger(UInt16(0))
            return sendError(ErrorCause(code: ErrorCause.invalidStream, information: information))
        }
        do throws(Reassembly.Failure) {
            try reassembly.add(chunk, tsn: number, payload: reader.rest, ready: &ready)
        } catch {
            return error == .violation ? violate() : abort(ErrorCause(code: ErrorCause.outOfResource), reporting: .messageTooLarge)
        }
        if !ready.isEmpty { handOut() }
        if reset.isWaiting, arrival == .next { performDeferredReset() }
    }

    /// Duplicates, and data for which there is no room.
    @inline(__always)
    private mutating func mayTake(_ arrival: TSNTracker.Arrival, _ chunk: DataChunk, _ length: Int) -> Bool {
        switch arrival {
        case .duplicate:
            counters.duplicatesReceived += 1
            sackSchedule.duplicateReceived(chunk.tsn)
            return false
        case .tooManyGaps:
            counters.drops.tooManyGaps += 1
            sackSchedule.requestImmediately()
            return false
        case .next, .outOfOrder:
            let use = reassembly.windowUse + deliveredCharge
            if use + length <= configuration.receiveWindow { return true }
            return mayExceedWindow(arrival, use, length)
        }
    }

    /// RFC 9260 §6.2: data beyond the window is dropped, unless only it brings back the room that unfinished messages take.
    private mutating func mayExceedWindow(_ arrival: TSNTracker.Arrival, _ use: Int, _ length: Int) -> Bool {
        let limit = 2 * configuration.receiveWindow
        if arrival == .next, deliveredCharge == 0 {
            if use <= limit { return true }
            abort(ErrorCause(code: ErrorCause.outOfResource), reporting: .outOfMemory)
            return false
        }
        // what the last SACK granted is taken, even though a message became whole since, and counts only now
        if sackSchedule.grant >= length, use <= limit + configuration.maximumMessageSize { return true }
        counters.drops.windowExceeded += 1
        sackSchedule.requestImmediately()
        return false
    }

    mutating func handOut() {
        while let message = ready.popFirst() {
            counters.messagesReceived += 1
            deliveredCharge += message.payload.readableBytes + Reassembly.overhead
            events.append(.message(message))
        }
    }

    /// RFC 3758 §3.6, RFC 8260 §2.3.1.
    private mutating func receiveForwardTSN(_ chunk: ForwardTSNChunk, interleaved: Bool, at now: Instant) {
        guard state.mayReceiveData, interleaved == capabilities.interleaving else {
            counters.drops.unexpectedChunk += 1
            return
        }
        let number = tracker.unwrap(chunk.cumulative)
        sackSchedule.requestImmediately()
        guard number > tracker.cumulative else {
            counters.drops.staleForwardTSN += 1
            return
        }
        // no honest sender is that far ahead of what we acknowledged
        guard number - tracker.cumulative < 1 << 30 else { return violate() }
        tracker.advance(to: number)
        for skip in chunk.skips where skip.stream < configuration.inboundStreams { reassembly.skip(skip, ready: &ready) }
        if !interleaved { skippedTo = number }
        handOut()
        performDeferredReset()
    }

    mutating func violate() {
        counters.drops.violation += 1
        abort(ErrorCause(code: ErrorCause.protocolViolation), reporting: .protocolViolation)
    }

    mutating func armSack() { timers[.sack] = sackSchedule.isDue ? nil : sackSchedule.deadline }
}
