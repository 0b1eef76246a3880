import NIOCore
import Wire

/// RFC 9260 §9.
extension Association {
    /// Everything queued is delivered first.
    mutating func shutdown(at now: Instant) {
        wakeAt = now
        switch state {
        case .established:
            state = .shutdownPending
            progressShutdown(at: now)
        case .closed, .cookieWait, .cookieEchoed:
            // nobody to say goodbye to
            end()
            events.append(.disconnected)
        default: break
        }
    }

    /// §9.1: at once, with an ABORT for the peer.
    mutating func abort(at now: Instant) {
        wakeAt = now
        abort(ErrorCause(code: ErrorCause.userInitiated), reporting: .aborted)
    }

    mutating func abort(_ cause: ErrorCause, reporting error: AssociationError) {
        guard state != .ended else { return }
        control.removeAll()
        if peerTag != 0 {
            var buffer = ByteBuffer()
            buffer.writeChunk(ChunkType.abort) { cause.write(into: &$0) }
            enqueueControl(ControlChunk(buffer, .alone(tag: peerTag)))
        }
        fail(error)
    }

    mutating func receiveAbort(cause: UInt16) {
        guard state != .closed else { return }
        control.removeAll()
        // everything is acknowledged both ways: the peer is gone, its SHUTDOWN COMPLETE was lost, and §8.4 made it answer like that to something late
        guard state != .shutdownAckSent else {
            end()
            return events.append(.disconnected)
        }
        fail(.abortedByPeer(cause: cause))
    }

    /// §9.2: goes on once nothing is outstanding.
    mutating func progressShutdown(at now: Instant) {
        guard sendQueue.isEmpty, inFlight.isEmpty else { return }
        switch state {
        case .shutdownPending:
            state = .shutdownSent
            shutdownAttempts = 0
            // T5: a peer that keeps us waiting for ever
            timers[.shutdownGuard] = now + configuration.maximumRetransmissionTimeout * 5
            sendShutdown(at: now)
        case .shutdownReceived:
            state = .shutdownAckSent
            shutdownAttempts = 0
            sendShutdownAck(at: now)
        default: break
        }
    }

    private mutating func sendShutdown(at now: Instant) {
        var buffer = ByteBuffer()
        buffer.writeChunk(ChunkType.shutdown) { $0.writeInteger(TSN(tracker.cumulative).rawValue) }
        enqueueControl(ControlChunk(buffer, .bundled))
        timers[.shutdown] = now + roundTrip.timeout
        wakeAt = now
    }

    mutating func sendShutdownAck(at now: Instant) {
        var buffer = ByteBuffer()
        buffer.writeChunk(ChunkType.shutdownAck)
        enqueueControl(ControlChunk(buffer, .bundled))
        timers[.shutdown] = now + roundTrip.timeout
        wakeAt = now
    }

    mutating func shutdownTimedOut(at now: Instant) {
        shutdownAttempts += 1
        guard shutdownAttempts <= configuration.maximumRetransmissions else { return fail(.peerUnreachable) }
        roundTrip.backOff()
        if state == .shutdownSent { sendShutdown(at: now) } else if state == .shutdownAckSent { sendShutdownAck(at: now) }
    }

    mutating func receiveShutdown(cumulative: TSN, at now: Instant) {
        switch state {
        case .established, .shutdownPending, .shutdownReceived:
            state = .shutdownReceived
            // it acknowledges like a SACK without gap blocks
            receiveSack(SackChunk(cumulative: cumulative, receiverWindow: UInt32(clamping: peerWindow)), at: now)
            progressShutdown(at: now)
        case .shutdownSent:
            // §9.2: both at once
            state = .shutdownAckSent
            sendShutdownAck(at: now)
        case .shutdownAckSent: sendShutdownAck(at: now)
        default: counters.drops.unexpectedChunk += 1
        }
    }

    mutating func receiveShutdownAck() {
        guard state == .shutdownSent || state == .shutdownAckSent else {
            counters.drops.unexpectedChunk += 1
            return
        }
        var buffer = ByteBuffer()
        buffer.writeChunk(ChunkType.shutdownComplete)
        enqueueControl(ControlChunk(buffer, .alone(tag: peerTag)))
        end()
        events.append(.disconnected)
    }

    mutating func receiveShutdownComplete() {
        guard state == .shutdownAckSent else {
            counters.drops.unexpectedChunk += 1
            return
        }
        end()
        events.append(.disconnected)
    }
}
