import NIOCore
import Wire

/// RFC 9260 §8.3: is the peer still there while nothing is sent?
extension Association {
    mutating func startHeartbeat(at now: Instant) {
        heartbeatNonce = nil
        timers[.heartbeat] = configuration.heartbeatInterval.map { now + $0 }
    }

    mutating func heartbeatTimedOut(at now: Instant) {
        guard state.maySendData, let interval = configuration.heartbeatInterval else { return }
        if heartbeatNonce != nil {
            // the last one was not answered
            errorCount += 1
            guard errorCount <= configuration.maximumRetransmissions else { return fail(.peerUnreachable) }
            roundTrip.backOff()
        }
        heartbeatNonce = nil
        // while data is in flight, T3 watches
        if inFlight.sent.isEmpty && inFlight.lost.isEmpty {
            let nonce = generator.next()
            heartbeatNonce = nonce
            var buffer = ByteBuffer()
            buffer.writeChunk(ChunkType.heartbeat) {
                $0.writeTagged(1) {
                    $0.writeInteger(nonce)
                    $0.writeInteger(now.nanoseconds)
                }
            }
            enqueueControl(ControlChunk(buffer, .bundled))
            // sooner once one went unanswered
            timers[.heartbeat] = now + (errorCount > 0 ? roundTrip.timeout : interval)
        } else {
            timers[.heartbeat] = now + interval
        }
    }

    /// The sender's information goes back as it came.
    mutating func answerHeartbeat(_ body: RawSpan) {
        guard state.hasPeer || state == .cookieEchoed, body.byteCount <= configuration.basePacketSize - CommonHeader.size - 4 else {
            counters.drops.unexpectedChunk += 1
            return
        }
        var buffer = ByteBuffer()
        buffer.writeChunk(ChunkType.heartbeatAck) { $0.writeBytes(body) }
        enqueueControl(ControlChunk(buffer, .bundled))
    }

    mutating func receiveHeartbeatAck(_ body: RawSpan, at now: Instant) {
        var reader = ByteReader(body)
        let head = try? reader.read(UInt32.self)
        // type 1 of 12 bytes: a probe's
        if head == 0x0001_000C, let nonce = try? reader.read(UInt64.self), reader.isAtEnd, receiveProbeAck(nonce, at: now) { return }
        guard let nonce = heartbeatNonce, head == 0x0001_0014, (try? reader.read(UInt64.self)) == nonce,
            let sentAt = try? reader.read(Int64.self), sentAt <= now.nanoseconds
        else {
            counters.drops.unexpectedChunk += 1
            return
        }
        heartbeatNonce = nil
        errorCount = 0
        roundTrip.sample(now - Instant(nanoseconds: sentAt), at: now)
        timers[.heartbeat] = configuration.heartbeatInterval.map { now + $0 }
    }
}
