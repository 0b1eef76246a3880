import NIOCore
import Wire

/// RFC 9260 §5.
extension Association {
    /// RFC 9260 §7.2.1: the threshold may begin arbitrarily high. The peer's window, which may still grow, bounds what is in flight by itself.
    private static let unlimited = 1 << 40

    /// Sends INIT. Where the peer does the same, §5.2.1 and §5.2.4 sort it out.
    mutating func connect(at now: Instant) {
        guard state == .closed else { return }
        localTag = randomTag()
        localInitialTSN = TSN(rawValue: randomWord())
        state = .cookieWait
        handshakeAttempts = 0
        sendInit(at: now)
    }

    private mutating func sendInit(at now: Instant) {
        var buffer = ByteBuffer()
        var announcement = announcement(tag: localTag, initialTSN: localInitialTSN)
        // whoever leaves two unanswered may not be able to read it (see `receiveInit`)
        if handshakeAttempts >= 2 { announcement.zeroChecksumMethod = nil }
        announcement.write(as: ChunkType.initiation, into: &buffer)
        enqueueControl(ControlChunk(buffer, .alone(tag: 0)))
        handshakeSentAt = now
        timers[.handshake] = now + roundTrip.timeout
        wakeAt = now
    }

    private func announcement(tag: UInt32, initialTSN: TSN) -> InitChunk {
        var chunk = InitChunk(
            initiateTag: tag, receiverWindow: UInt32(clamping: receiveWindow), outboundStreams: configuration.outboundStreams,
            inboundStreams: configuration.inboundStreams, initialTSN: initialTSN)
        chunk.supportedExtensions = [ChunkType.reconfiguration]
        if configuration.offerPadding { chunk.supportedExtensions.append(ChunkType.padding) }
        if configuration.offerPartialReliability {
            chunk.supportsForwardTSN = true
            chunk.supportedExtensions.append(ChunkType.forwardTSN)
        }
        if configuration.offerInterleaving {
            chunk.supportedExtensions.append(ChunkType.interleavedData)
            if configuration.offerPartialReliability { chunk.supportedExtensions.append(ChunkType.interleavedForwardTSN) }
        }
        if configuration.offerZeroChecksum { chunk.zeroChecksumMethod = 1 }
        return chunk
    }

    mutating func handshakeTimedOut(at now: Instant) {
        handshakeAttempts += 1
        guard handshakeAttempts <= configuration.maximumInitRetransmissions else { return fail(.handshakeTimedOut) }
        roundTrip.backOff()
        switch state {
        case .cookieWait: sendInit(at: now)
        case .cookieEchoed: sendCookieEcho(at: now)
        default: break
        }
    }

    /// §5.1 B, §5.2.1, §5.2.2. Nothing is kept: the cookie holds it all.
    mutating func receiveInit(_ chunk: InitChunk, at now: Instant) {
        guard chunk.initiateTag != 0, chunk.outboundStreams > 0, chunk.inboundStreams > 0, chunk.receiverWindow >= 1500 else {
            counters.drops.malformedChunk += 1
            // §3.3.2: ABORT for a tag or stream count of 0; without a tag there is nobody to address
            if chunk.initiateTag != 0 {
                var buffer = ByteBuffer()
                buffer.writeChunk(ChunkType.abort) { ErrorCause(code: ErrorCause.invalidParameter).write(into: &$0) }
                enqueueControl(ControlChunk(buffer, .alone(tag: chunk.initiateTag)))
            }
            return
        }
        let tag: UInt32
        let initialTSN: TSN
        var tieLocal: UInt32 = 0
        var tiePeer: UInt32 = 0
        switch state {
        case .cookieWait, .cookieEchoed:
            // §5.2.1: the tag and TSN of our own INIT
            tag = localTag
            initialTSN = localInitialTSN
            if state == .cookieEchoed { (tieLocal, tiePeer) = (localTag, peerTag) }
        case .ended:
            return
        case .shutdownAckSent:
            // §9.2: the peer did not get our SHUTDOWN ACK
            sendShutdownAck(at: now)
            return
        case .closed:
            tag = randomTag()
            initialTSN = TSN(rawValue: randomWord())
        default:
            // §5.2.2: perhaps a restart; the tie-tags will tell
            tag = randomTag()
            initialTSN = TSN(rawValue: randomWord())
            (tieLocal, tiePeer) = (localTag, peerTag)
        }
        let cookie = StateCookie(
            createdAt: now, localTag: tag, localInitialTSN: initialTSN, peer: chunk, tieLocal: tieLocal, tiePeer: tiePeer,
            capabilities: Capabilities(peer: chunk, configuration: configuration))
        var sealed = cookie.encoded
        sealed.writeBytes(cookieAuthenticator(cookie.encoded))
        var answer = announcement(tag: tag, initialTSN: initialTSN)
        // pion before 2024 cannot read an INIT, or its ACK, that has this parameter, though RFC 9260 §3.2.1 says to skip it; it is of no use to such a peer
        if chunk.zeroChecksumMethod == nil { answer.zeroChecksumMethod = nil }
        answer.stateCookie = sealed
        answer.unrecognized = chunk.unrecognized
        var buffer = ByteBuffer()
        answer.write(as: ChunkType.initiationAck, into: &buffer)
        enqueueControl(ControlChunk(buffer, .alone(tag: chunk.initiateTag)))
    }

    /// §5.1 C.
    mutating func receiveInitAck(_ chunk: InitChunk, at now: Instant) {
        guard state == .cookieWait else {
            counters.drops.unexpectedChunk += 1
            return
        }
        peerTag = chunk.initiateTag
        guard chunk.initiateTag != 0, chunk.outboundStreams > 0, chunk.inboundStreams > 0 else {
            return chunk.initiateTag == 0 ? fail(.invalidParameters) : abort(ErrorCause(code: ErrorCause.invalidParameter), reporting: .invalidParameters)
        }
        guard let cookie = chunk.stateCookie else {
            return abort(ErrorCause(code: ErrorCause.missingParameter), reporting: .invalidParameters)
        }
        // it goes back in one packet that every path carries
        guard cookie.readableBytes <= configuration.basePacketSize - CommonHeader.size - 4 else {
            return abort(ErrorCause(code: ErrorCause.invalidParameter), reporting: .invalidParameters)
        }
        capabilities = Capabilities(peer: chunk, configuration: configuration)
        prepare(
            peerInitialTSN: chunk.initialTSN, peerWindow: chunk.receiverWindow, peerInboundStreams: chunk.inboundStreams)
        peerCookie = cookie
        sampleHandshake(at: now)
        state = .cookieEchoed
        handshakeAttempts = 0
        sendCookieEcho(at: now)
        if !chunk.unrecognized.isEmpty {
            var all = ByteBuffer()
            for parameter in chunk.unrecognized { all.writeImmutableBuffer(parameter) }
            sendError(ErrorCause(code: ErrorCause.unrecognizedParameters, information: all))
        }
    }

    private mutating func sendCookieEcho(at now: Instant) {
        guard let peerCookie else { return }
        var buffer = ByteBuffer()
        buffer.writeChunk(ChunkType.cookieEcho) { $0.writeImmutableBuffer(peerCookie) }
        enqueueControl(ControlChunk(buffer, .first))
        handshakeSentAt = now
        timers[.handshake] = now + roundTrip.timeout
        wakeAt = now
    }

    /// §5.1.5, §5.2.4. False when the rest of the packet is to be dropped.
    mutating func receiveCookieEcho(_ body: RawSpan, tag: UInt32, at now: Instant) -> Bool {
        guard let cookie = authenticated(body), cookie.localTag == tag else {
            counters.drops.forgedCookie += 1
            return false
        }
        guard now >= cookie.createdAt, now - cookie.createdAt <= configuration.cookieLifetime else {
            counters.drops.staleCookie += 1
            // §5.2.6: no Stale Cookie for an association that is up with these tags
            if state == .closed { sendStaleCookie(cookie, at: now) }
            return false
        }
        if state == .closed {
            localTag = cookie.localTag
            adopt(cookie)
            establish(by: cookie, at: now)
            return true
        }
        let isLocal = cookie.localTag == localTag
        let isPeer = cookie.peerTag == peerTag
        if !isLocal, !isPeer, cookie.tieLocal == localTag, cookie.tiePeer == peerTag { return restart(cookie, at: now) }
        if isLocal, state == .cookieWait || state == .cookieEchoed {
            // B, and D before the handshake is over
            if !isPeer || state == .cookieWait { adopt(cookie) }
            establish(by: cookie, at: now)
            return true
        }
        if isLocal && isPeer {
            // D: our COOKIE ACK was lost
            sendCookieAck()
            return true
        }
        // C and everything else: an old cookie
        counters.drops.unexpectedChunk += 1
        return false
    }

    /// §5.2.4.1 A: the peer lost its state and began anew.
    private mutating func restart(_ cookie: StateCookie, at now: Instant) -> Bool {
        guard state != .ended else { return false }
        if state == .shutdownAckSent {
            sendShutdownAck(at: now)
            sendError(ErrorCause(code: ErrorCause.cookieWhileShuttingDown))
            return false
        }
        timers.stopAll()
        control.removeAll()
        sendQueue.removeAll()
        reset = StreamResetState()
        deliveredCharge = 0
        localTag = cookie.localTag
        adopt(cookie)
        events.append(.restarted)
        state = .established
        makeCongestionController()
        sendCookieAck()
        startHeartbeat(at: now)
        startPathSearch(at: now)
        return true
    }

    private func authenticated(_ body: RawSpan) -> StateCookie? {
        guard body.byteCount > StateCookie.size else { return nil }
        var plain = ByteBuffer()
        plain.writeBytes(body.extracting(first: StateCookie.size))
        let code = cookieAuthenticator(plain)
        var given = ByteReader(body.extracting(droppingFirst: StateCookie.size))
        guard given.remaining == code.count, !code.isEmpty else { return nil }
        var difference: UInt8 = 0
        // every byte is compared, so that the time tells nothing
        for byte in code { difference |= byte ^ ((try? given.read(UInt8.self)) ?? ~byte) }
        guard difference == 0 else { return nil }
        return try? StateCookie(parsing: body.extracting(first: StateCookie.size))
    }

    private mutating func sendStaleCookie(_ cookie: StateCookie, at now: Instant) {
        var information = ByteBuffer()
        let late = (now - cookie.createdAt - configuration.cookieLifetime).inNanoseconds / 1000
        information.writeInteger(UInt32(clamping: late))
        var buffer = ByteBuffer()
        buffer.writeChunk(ChunkType.error) { ErrorCause(code: ErrorCause.staleCookie, information: information).write(into: &$0) }
        enqueueControl(ControlChunk(buffer, .alone(tag: cookie.peerTag)))
    }

    private mutating func adopt(_ cookie: StateCookie) {
        peerTag = cookie.peerTag
        localInitialTSN = cookie.localInitialTSN
        capabilities = Capabilities(cookie)
        prepare(peerInitialTSN: cookie.peerInitialTSN, peerWindow: cookie.peerWindow, peerInboundStreams: cookie.peerInboundStreams)
    }

    /// Sets up both directions once the peer's numbers are known.
    private mutating func prepare(peerInitialTSN: TSN, peerWindow window: UInt32, peerInboundStreams: UInt16) {
        let header = DataChunk.headerSize(interleaved: capabilities.interleaving)
        inFlight = InFlight(initialTSN: localInitialTSN, headerSize: header)
        detector = LossDetector()
        advancedPoint = inFlight.cumulative
        needsForwardTSN = false
        recoveryPoint = nil
        errorCount = 0
        tracker = TSNTracker(initialTSN: peerInitialTSN, maximumRanges: configuration.maximumGaps)
        reassembly = Reassembly(interleaved: capabilities.interleaving, maximumMessageSize: configuration.maximumMessageSize)
        windowTuner = WindowTuner(bound: configuration.receiveWindow)
        sackSchedule = SackSchedule()
        sackSchedule.sent(window: receiveWindow)
        peerWindow = Int(window)
        outboundLimit = min(configuration.outboundStreams, peerInboundStreams)
        sendQueue.interleaved = capabilities.interleaving
        let limit = configuration.remoteMaximumMessageSize
        sendQueue.partialLimit = limit == 0 ? .max : limit
        reset.begin(localInitialTSN: localInitialTSN, peerInitialTSN: peerInitialTSN)
    }

    /// At the start, and where packets take another way.
    mutating func makeCongestionController() {
        let packets = roundTrip.minimum == nil ? configuration.initialWindowPackets : configuration.pacedInitialWindowPackets
        congestion = configuration.congestionControl.make(
            CongestionParameters(
                maximumPacketSize: configuration.basePacketSize, initialWindow: packets * configuration.basePacketSize,
                initialThreshold: Self.unlimited, roundTripTime: roundTrip.minimum, seed: generator.next()))
        pacer = Pacer()
        lostBefore = inFlight.delivery.lost
    }

    private mutating func establish(by cookie: StateCookie, at now: Instant) {
        sendCookieAck()
        // a cookie is as old as the way there and back; each INIT ACK has its own
        if roundTrip.smoothed == nil { roundTrip.sample(now - cookie.createdAt, at: now) }
        enterEstablished(at: now)
    }

    private mutating func sendCookieAck() {
        var buffer = ByteBuffer()
        buffer.writeChunk(ChunkType.cookieAck)
        enqueueControl(ControlChunk(buffer, .first))
    }

    /// §5.1 E.
    mutating func receiveCookieAck(at now: Instant) {
        guard state == .cookieEchoed else { return }
        sampleHandshake(at: now)
        enterEstablished(at: now)
    }

    /// The handshake measures the path, so that the first flight of data has a tail probe. Not where anything was sent twice (§6.3.1 C5).
    private mutating func sampleHandshake(at now: Instant) {
        if handshakeAttempts == 0, let handshakeSentAt { roundTrip.sample(now - handshakeSentAt, at: now) }
        handshakeSentAt = nil
    }

    private mutating func enterEstablished(at now: Instant) {
        state = .established
        peerCookie = nil
        timers.stop(.handshake)
        if roundTrip.smoothed == nil { roundTrip = RoundTripEstimator(configuration) } else { roundTrip.restoreTimeout() }
        makeCongestionController()
        events.append(.connected)
        startHeartbeat(at: now)
        startPathSearch(at: now)
        wakeAt = now
    }

    /// §5.2.6, §3.3.10.3: our cookie came too late; begin again.
    mutating func receiveError(_ causes: [ErrorCause], at now: Instant) {
        guard state == .cookieEchoed, causes.contains(where: { $0.code == ErrorCause.staleCookie }) else { return }
        handshakeAttempts += 1
        guard handshakeAttempts <= configuration.maximumInitRetransmissions else { return fail(.handshakeTimedOut) }
        peerCookie = nil
        peerTag = 0
        state = .cookieWait
        sendInit(at: now)
    }
}
