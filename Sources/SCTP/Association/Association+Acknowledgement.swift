import Wire

/// What SACKs and the absence of SACKs say (RFC 9260 §6.2.1, §6.3, §7.2).
extension Association {
    mutating func receiveSack(_ sack: SackChunk, at now: Instant) {
        guard state.hasPeer else {
            counters.drops.unexpectedChunk += 1
            return
        }
        let cumulative = sack.cumulative.unwrapped(near: inFlight.cumulative)
        // §6.2.1 D i: an old SACK that was overtaken
        guard cumulative >= inFlight.cumulative else {
            counters.drops.staleSack += 1
            return
        }
        // acknowledges what was never sent
        guard cumulative < inFlight.next else { return violate() }
        counters.sacksReceived += 1
        heardSinceTimeout = true
        let prior = inFlight.bytes
        let advanced = cumulative > inFlight.cumulative
        detector.sackBegins(at: now, minimum: roundTrip.minimum)
        if advanced { acknowledge(upTo: cumulative) }
        // §6.2.1 on reneging: a chunk that was reported is missing again
        if !inFlight.isEmpty, inFlight[inFlight.base].state == .acknowledged { inFlight.forgetReports() }
        for gap in sack.gaps {
            guard gap.start > 0, gap.start <= gap.end, cumulative + UInt64(gap.end) < inFlight.next else {
                counters.drops.malformedChunk += 1
                continue
            }
            inFlight.reportBlock(first: cumulative + UInt64(gap.start), last: cumulative + UInt64(gap.end), to: &detector)
        }
        if !sack.duplicates.isEmpty {
            detector.duplicateReported()
            for tsn in sack.duplicates { detector.found(tsn.unwrapped(near: inFlight.cumulative)) }
        }
        // the chunk that probed a closed window was dropped there; no congestion
        if peerWindow == 0, sack.receiverWindow > 0, inFlight.sent.head == inFlight.sent.tail { inFlight.lose(inFlight.sent.head) }
        peerWindow = Int(sack.receiverWindow)
        let newBytes = detector.newBytes
        var sample: Duration?
        if let sentAt = detector.sampleSentAt {
            let time = now - sentAt
            sample = time
            roundTrip.sample(time, at: now)
        }
        if newBytes > 0 || advanced {
            errorCount = 0
            isProbing = false
            roundTrip.restoreTimeout()
        }
        // a peer whose window is closed is alive (§6.1 A)
        if peerWindow == 0 { errorCount = 0 }
        if let point = recoveryPoint, cumulative >= point {
            recoveryPoint = nil
            detector.recoveryEnded()
            congestion.recovered(at: now)
        }
        undoWhatWasNone(at: now)
        detectLoss(at: now)
        let lost = inFlight.delivery.lost
        congestion.acknowledged(
            AcknowledgementSample(
                at: now, newlyAcknowledged: newBytes, newlyLost: Int(clamping: lost - min(lost, lostBefore)), priorInFlight: prior,
                inFlight: inFlight.bytes, cumulativeAdvanced: advanced, isInRecovery: recoveryPoint != nil,
                wasWindowLimited: isWindowLimited || isPaced || prior + search.base > congestion.window, roundTripTime: sample,
                smoothedRoundTripTime: roundTrip.smoothed, minimumRoundTripTime: roundTrip.minimum,
                delivery: inFlight.delivery.takeSample(minimum: roundTrip.minimum, at: now)))
        lostBefore = lost
        advanceAckPoint()
        if advancedPoint > inFlight.cumulative { needsForwardTSN = true }
        rearmAfterSack(advanced: advanced, at: now)
        progressShutdown(at: now)
    }

    private mutating func acknowledge(upTo cumulative: UInt64) {
        // neighbours mostly belong to one message: count them together
        var slot: Int32 = -1
        var count: Int32 = 0
        while inFlight.cumulative < cumulative {
            let tsn = inFlight.base
            let chunk = inFlight.popFront()
            if chunk.state == .sent || chunk.state == .lost {
                let size = inFlight.size(chunk.length)
                inFlight.delivery.arrived(chunk, size: size)
                detector.acknowledged(chunk, tsn: tsn, size: size)
            }
            if chunk.slot != slot {
                if count > 0 { sendQueue.fragmentsLeft(slot, count: count) }
                slot = chunk.slot
                count = 0
            }
            count += 1
        }
        if count > 0 { sendQueue.fragmentsLeft(slot, count: count) }
        inFlight.trimRanges()
    }

    /// §6.3.2 R2, R3.
    private mutating func rearmAfterSack(advanced: Bool, at now: Instant) {
        if inFlight.sent.isEmpty && inFlight.lost.isEmpty && !needsForwardTSN {
            timers.stop(.retransmission)
            timers.stop(.tailProbe)
        } else if advanced {
            timers[.retransmission] = now + roundTrip.timeout
        }
        armTailProbe(at: now)
    }

    mutating func detectLoss(at now: Instant) {
        timers[.reordering] = detector.detect(
            &inFlight, at: now, minimum: roundTrip.minimum, smoothed: roundTrip.smoothed, isInRecovery: recoveryPoint != nil,
            chunksPerPacket: chunksPerPacket)
        if detector.largePacketsLost >= PathSearch.maximumProbes { fallBackFromBlackHole(at: now) }
        guard detector.hasLost, recoveryPoint == nil else { return }
        // §7.2.4: one recovery, and one reduction, per window; its first retransmission does not wait for room
        recoveryPoint = inFlight.next - 1
        counters.recoveries += 1
        congestion.lossDetected(inFlight: inFlight.bytes, at: now)
        allowance = max(allowance, 1)
    }

    /// What was taken for lost had only been late (RFC 3708 and RFC 5682, adapted): windows are as if nothing had been.
    private mutating func undoWhatWasNone(at now: Instant) {
        if detector.isTimeoutSpurious {
            detector.timeoutWasNone()
            counters.spuriousTimeouts += 1
            inFlight.findAll()
            congestion.undo(at: now)
        } else if detector.isRecoverySpurious {
            detector.suspicionIsOver()
            counters.spuriousRecoveries += 1
            congestion.undo(at: now)
        }
    }

    /// §6.3.3.
    mutating func retransmissionTimedOut(at now: Instant) {
        let hasData = !inFlight.sent.isEmpty || !inFlight.lost.isEmpty
        guard state.hasPeer, hasData || advancedPoint > inFlight.cumulative else { return }
        counters.timeouts += 1
        // §6.1 A: probes of a window that is closed, or too small for them, do not count as long as the peer answers
        let isWindowProbe = heardSinceTimeout && peerWindow < longestFragment
        heardSinceTimeout = false
        if !isWindowProbe {
            errorCount += 1
            guard errorCount <= configuration.maximumRetransmissions else { return fail(.peerUnreachable) }
            if detector.timeoutsOfLargePackets(inFlight) >= 2 { fallBackFromBlackHole(at: now) }
            congestion.timedOut(inFlight: inFlight.bytes, at: now)
        }
        roundTrip.backOff()
        detector.timedOut(at: now)
        inFlight.loseAll()
        recoveryPoint = nil
        timers.stop(.reordering)
        timers.stop(.tailProbe)
        isProbing = false
        if advancedPoint > inFlight.cumulative { needsForwardTSN = true }
        timers[.retransmission] = now + roundTrip.timeout
    }

    // MARK: Tail loss (RFC 8985 §7)

    mutating func armTailProbe(at now: Instant) {
        guard !isProbing, recoveryPoint == nil, !inFlight.sent.isEmpty, inFlight.lost.isEmpty, peerWindow > 0, let smoothed = roundTrip.smoothed else {
            timers.stop(.tailProbe)
            return
        }
        var patience = max(smoothed * 2, .milliseconds(5))
        // a single packet may wait for the peer's delayed acknowledgement
        if inFlight.bytes <= search.current { patience += configuration.sackDelay }
        let due = now + patience
        timers[.tailProbe] = timers[.retransmission].map { $0 <= due } ?? true ? nil : due
    }

    mutating func tailProbeTimedOut(at now: Instant) {
        guard !inFlight.sent.isEmpty else { return }
        counters.tailProbes += 1
        isProbing = true
        // new data serves as well as old; else the last chunk goes again
        if !sendQueue.hasUnsent || peerWindow <= inFlight.payloadBytes { inFlight.lose(inFlight.sent.tail) }
        allowance = max(allowance, 1)
    }

    // MARK: Partial reliability (RFC 3758 §3.5)

    mutating func abandon(_ slot: Int32) {
        guard let range = sendQueue.abandon(slot) else { return }
        if range.needsPlaceholder { inFlight.appendAbandoned(SentChunk(slot: slot)) }
        inFlight.abandon(slot: slot, from: range.first, through: range.last)
        advanceAckPoint()
        if advancedPoint > inFlight.cumulative { needsForwardTSN = true }
    }

    private mutating func advanceAckPoint() {
        advancedPoint = max(advancedPoint, inFlight.cumulative)
        while advancedPoint + 1 < inFlight.next, inFlight[advancedPoint + 1].state == .abandoned { advancedPoint += 1 }
    }

    /// The chunk that tells of it; as many streams as fit in a packet.
    mutating func makeForwardTSN(room: Int) -> ForwardTSNChunk {
        var result = ForwardTSNChunk(cumulative: TSN(advancedPoint))
        let most = max(1, (room - 8) / (capabilities.interleaving ? 8 : 4))
        var tsn = inFlight.base
        while tsn <= advancedPoint, tsn < inFlight.next {
            let message = sendQueue.messages[Int(inFlight[tsn].slot)]
            if capabilities.interleaving || !message.isUnordered {
                let stream = sendQueue.streams[Int(message.stream)].id
                let skip = ForwardTSNChunk.Skip(stream: stream, isUnordered: message.isUnordered, message: message.number)
                if let known = result.skips.lastIndex(where: { $0.stream == stream && $0.isUnordered == message.isUnordered }) {
                    result.skips[known].message = message.number
                } else if result.skips.count < most {
                    result.skips.append(skip)
                } else {
                    result.cumulative = TSN(tsn - 1)
                    break
                }
            }
            tsn += 1
        }
        return result
    }
}
