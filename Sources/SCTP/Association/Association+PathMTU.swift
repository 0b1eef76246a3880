import NIOCore
import Wire

/// Path MTU discovery (RFC 8899) with HEARTBEAT and PAD as probes (§6.2.1.2, §6.2.3, RFC 4820).
///
/// DATA chunks are never longer than a packet of the base size, however large packets are: a chunk keeps its size for life (its TSN is given), and one
/// that is longer than a path has become could never arrive. So large packets are many chunks, and when a path shrinks the same chunks go in small ones.
extension Association {
    /// User data of one chunk.
    var longestFragment: Int { configuration.basePacketSize - CommonHeader.size - DataChunk.headerSize(interleaved: capabilities.interleaving) }

    /// Chunks in a full packet.
    var chunksPerPacket: Int { search.current / search.base }

    mutating func startPathSearch(at now: Instant) {
        // a stack that never heard of PAD was made for Ethernet; some of them not only drop what is longer but fall out of step (decisions.md)
        let most = capabilities.padding ? configuration.maximumPacketSize : min(configuration.maximumPacketSize, configuration.cautiousPacketSize)
        search = PathSearch(base: configuration.basePacketSize, maximum: most)
        probeNext(at: now)
    }

    private mutating func probeNext(at now: Instant) {
        guard state.maySendData else { return timers.stop(.pathProbe) }
        if search.begin(nonce: generator.next(), packetsHeard: counters.packetsReceived) {
            needsProbe = true
            wakeAt = now
        } else {
            needsProbe = false
            timers[.pathProbe] = now + configuration.pathRaiseInterval
        }
    }

    /// In a packet of its own, behind all others. No part of it counts as in flight, so its loss is none to congestion control (RFC 8899 §3).
    mutating func writeProbe(_ writer: inout PacketWriter, _ batch: inout PacketBatch, at now: Instant) {
        guard needsProbe, let probe = search.probe else { return }
        needsProbe = false
        writer.close(&batch)
        writer.open(&batch)
        // HEARTBEAT comes last, not first: a receiver that reads a part of the record only must not find it there
        let heartbeat = 4 + 4 + 8
        batch.bytes.writeChunk(ChunkType.padding) { $0.writeRepeatingByte(0, count: max(0, probe.size - CommonHeader.size - heartbeat - 4)) }
        batch.bytes.writeChunk(ChunkType.heartbeat) { $0.writeTagged(1) { $0.writeInteger(probe.nonce) } }
        writer.close(&batch)
        counters.pathProbes += 1
        // PROBE_TIMER: not below a second (RFC 8899 §5.1.1); longer where nothing at all is heard
        timers[.pathProbe] = now + max(.seconds(1), roundTrip.timeout) * (1 << probe.silences)
    }

    mutating func pathProbeTimedOut(at now: Instant) {
        guard state.maySendData else { return }
        if search.probe == nil {
            // an idle association has no use for larger packets
            guard let last = lastDataSentAt, now - last <= configuration.pathRaiseInterval else {
                timers[.pathProbe] = now + configuration.pathRaiseInterval
                return
            }
            search.raise()
            return probeNext(at: now)
        }
        switch search.expired(packetsHeard: counters.packetsReceived) {
        case .tryAgain: needsProbe = true
        case .failed: probeNext(at: now)
        }
    }

    /// True when the nonce is that of our probe.
    mutating func receiveProbeAck(_ nonce: UInt64, at now: Instant) -> Bool {
        guard search.acknowledged(nonce: nonce) else { return false }
        errorCount = 0
        congestion.packetSizeChanged(to: search.current)
        probeNext(at: now)
        return true
    }

    /// RFC 8899 §4.3: T3 expired twice, or several large packets were lost while small ones arrived, and no large one since.
    /// A false alarm costs a round trip of small packets.
    mutating func fallBackFromBlackHole(at now: Instant) {
        guard search.current > search.base else { return }
        counters.blackHoles += 1
        search.fallBack()
        usePacketsOfBaseSize(at: now)
    }

    /// The host refused to send a packet of this size.
    mutating func packetRefused(size: Int, at now: Instant) {
        guard state.hasPeer else { return }
        let hadProbe = search.probe != nil
        if search.refused(size) {
            counters.blackHoles += 1
            usePacketsOfBaseSize(at: now)
        } else if hadProbe, search.probe == nil {
            probeNext(at: now)
        }
    }

    /// Packets take another way from now on: its size, round trip and capacity are its own (RFC 9260 §7.2: windows belong to destinations).
    ///
    /// What is in flight went the old way, and where that broke it is lost. It goes again at once: to wait for a time-out that the old way's
    /// silence has backed off would cost seconds, and what did arrive costs a duplicate. It tells nothing of the new way's capacity, though.
    /// Only retransmissions would be sent first, and they measure no round trip (§6.3.1 C5): what ICE's check measured on the new way stands in for it.
    mutating func pathChanged(roundTrip measured: Duration?, at now: Instant) {
        guard state.hasPeer else { return }
        counters.pathChanges += 1
        roundTrip = RoundTripEstimator(configuration)
        if let measured { roundTrip.sample(measured, at: now) }
        detector.pathChanged()
        errorCount = 0
        heartbeatNonce = nil
        recoveryPoint = nil
        isProbing = false
        timers.stop(.reordering)
        timers.stop(.tailProbe)
        timers.stop(.retransmission)
        inFlight.loseAll()
        makeCongestionController()
        search.startAnew()
        usePacketsOfBaseSize(at: now)
        needsForwardTSN = advancedPoint > inFlight.cumulative
        if !inFlight.lost.isEmpty { timers[.retransmission] = now + roundTrip.timeout }
        // acknowledgements that were under way are lost as well
        if state.mayReceiveData { sackSchedule.requestImmediately() }
        wakeAt = now
    }

    private mutating func usePacketsOfBaseSize(at now: Instant) {
        detector.forgetLargeLosses()
        congestion.packetSizeChanged(to: search.base)
        probeNext(at: now)
    }
}
