import NIOCore
import Wire

/// Both directions of stream reset (RFC 6525).
struct StreamResetState {
    /// Asked for, not yet in a request: data is still unacknowledged, or another request is open.
    var wanted: Set<UInt16> = []
    /// The open request; one at a time (§5.1.1).
    var open: (number: UInt32, streams: [UInt16], lastTSN: UInt64)?
    var nextRequest: UInt32 = 0
    var attempts = 0
    /// The peer's next request number.
    var expectedRequest: UInt32 = 0
    /// Our answer to its last one, in case it asks again.
    var lastResult: UInt32 = ReconfigurationChunk.Result.nothingToDo
    /// The peer's request whose data has not all arrived (§5.2.2).
    var deferred: (number: UInt32, streams: [UInt16], lastTSN: UInt64)?
    /// The peer's requests since our last packet.
    var admitted = 0

    var isWaiting: Bool { deferred != nil }
    var isWaitingForData: Bool { !wanted.isEmpty }

    mutating func begin(localInitialTSN: TSN, peerInitialTSN: TSN) {
        // §4.1: numbers start with the initial TSNs
        nextRequest = localInitialTSN.rawValue
        expectedRequest = peerInitialTSN.rawValue
        open = nil
        deferred = nil
        lastResult = ReconfigurationChunk.Result.nothingToDo
    }
}

extension Association {
    /// Resets a stream of ours once everything sent on it is acknowledged.
    mutating func resetOutgoing(_ stream: UInt16, at now: Instant) {
        reset.wanted.insert(stream)
        wakeAt = now
    }

    /// Whether a request may be sent now.
    var mayAskForReset: Bool { state == .established && reset.open == nil && reset.wanted.contains { isDrained($0) } }

    private func isDrained(_ stream: UInt16) -> Bool { (sendQueue.stream(stream)?.unacknowledgedMessages ?? 0) == 0 }

    /// Called whenever packets are written: sends a request as soon as one may be sent.
    mutating func progressReset(at now: Instant) {
        reset.admitted = 0
        guard !reset.wanted.isEmpty, reset.open == nil, state == .established else { return }
        var streams: [UInt16] = []
        // as many as fit in one packet
        let most = (configuration.basePacketSize - 64) / 2
        for stream in reset.wanted where streams.count < most && isDrained(stream) { streams.append(stream) }
        guard !streams.isEmpty else { return }
        streams.sort()
        reset.wanted.subtract(streams)
        guard capabilities.reconfiguration else {
            // the peer knows no resets: ours is done as far as it can be
            for stream in streams { sendQueue.resetNumbers(of: stream) }
            events.append(.outgoingReset(streams, performed: false))
            return
        }
        reset.open = (reset.nextRequest, streams, inFlight.next - 1)
        reset.nextRequest &+= 1
        reset.attempts = 0
        sendResetRequest(at: now)
    }

    private mutating func sendResetRequest(at now: Instant) {
        guard let request = reset.open else { return }
        sendReconfiguration(
            .outgoingReset(
                request: request.number, response: reset.expectedRequest &- 1, lastTSN: TSN(request.lastTSN), streams: request.streams))
        timers[.reconfiguration] = now + roundTrip.timeout
        wakeAt = now
    }

    mutating func reconfigurationTimedOut(at now: Instant) {
        guard reset.open != nil, state.hasPeer else { return }
        reset.attempts += 1
        // §5.1.1: like a DATA chunk that is never acknowledged
        guard reset.attempts <= 2 * configuration.maximumRetransmissions else { return fail(.peerUnreachable) }
        roundTrip.backOff()
        sendResetRequest(at: now)
    }

    mutating func receiveReconfiguration(_ chunk: ReconfigurationChunk, at now: Instant) {
        guard state.hasPeer else {
            counters.drops.unexpectedChunk += 1
            return
        }
        for parameter in chunk.parameters {
            switch parameter {
            case .response(let request, let result): receiveResponse(request, result, at: now)
            case .outgoingReset(let request, _, let lastTSN, let streams):
                guard admit(request) else { continue }
                receiveOutgoingReset(request, streams: streams, lastTSN: tracker.unwrap(lastTSN))
            case .incomingReset(let request, let streams):
                guard admit(request) else { continue }
                // §5.2.3: the peer wants us to reset ours; the data channel layer does so for its own reasons
                for stream in streams { resetOutgoing(stream, at: now) }
                respond(request, ReconfigurationChunk.Result.performed)
            case .unsupported(let request):
                guard admit(request) else { continue }
                respond(request, ReconfigurationChunk.Result.denied)
            }
        }
    }

    /// §5.2.1: the next number is new, the last one is asked again.
    private mutating func admit(_ request: UInt32) -> Bool {
        if request == reset.expectedRequest {
            // §5.1.1: a peer waits for the answer before it asks for more, and asks for two things at most (§3.1)
            guard reset.admitted < 2 else {
                counters.drops.floodedRequest += 1
                return false
            }
            reset.admitted += 1
            return true
        }
        counters.drops.staleRequest += 1
        if request == reset.expectedRequest &- 1 {
            sendReconfiguration(.response(request: request, result: reset.lastResult))
        } else {
            sendReconfiguration(.response(request: request, result: ReconfigurationChunk.Result.badSequenceNumber))
        }
        return false
    }

    private mutating func respond(_ request: UInt32, _ result: UInt32) {
        if request == reset.expectedRequest { reset.expectedRequest &+= 1 }
        reset.lastResult = result
        sendReconfiguration(.response(request: request, result: result))
    }

    private mutating func receiveOutgoingReset(_ request: UInt32, streams: [UInt16], lastTSN: UInt64) {
        guard lastTSN > tracker.cumulative else { return performIncomingReset(request, streams) }
        // §5.2.2 E4: not before all data of those streams has arrived; the answer follows then
        reset.deferred = (request, streams, lastTSN)
        respond(request, ReconfigurationChunk.Result.inProgress)
    }

    mutating func performDeferredReset() {
        guard let deferred = reset.deferred, deferred.lastTSN <= tracker.cumulative else { return }
        reset.deferred = nil
        performIncomingReset(deferred.number, deferred.streams)
    }

    private mutating func performIncomingReset(_ request: UInt32, _ streams: [UInt16]) {
        if streams.isEmpty { reassembly.resetAll() } else { for stream in streams { reassembly.reset(stream) } }
        events.append(.incomingReset(streams))
        respond(request, ReconfigurationChunk.Result.performed)
    }

    private mutating func receiveResponse(_ request: UInt32, _ result: UInt32, at now: Instant) {
        guard let open = reset.open, open.number == request else { return }
        errorCount = 0
        if result == ReconfigurationChunk.Result.inProgress {
            // §5.2.7: ask again later; the peer answers by itself, too
            reset.attempts = 0
            timers[.reconfiguration] = now + roundTrip.timeout
            return
        }
        timers.stop(.reconfiguration)
        reset.open = nil
        let performed = result == ReconfigurationChunk.Result.performed || result == ReconfigurationChunk.Result.nothingToDo
        if performed { for stream in open.streams { sendQueue.resetNumbers(of: stream) } }
        events.append(.outgoingReset(open.streams, performed: performed))
        wakeAt = now
    }

    private mutating func sendReconfiguration(_ parameter: ReconfigurationChunk.Parameter) {
        var buffer = ByteBuffer()
        ReconfigurationChunk([parameter]).write(into: &buffer)
        enqueueControl(ControlChunk(buffer, .bundled))
    }
}
