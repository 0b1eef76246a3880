import NIOCore
import Wire

/// What an association tells its owner.
enum AssociationEvent {
    case connected
    case message(ReceivedMessage)
    /// The peer reset its streams: nothing more comes on them (RFC 6525).
    case incomingReset([UInt16])
    /// Our streams are reset; false when the peer refused.
    case outgoingReset([UInt16], performed: Bool)
    case bufferedAmountLow(UInt16)
    /// Everything sent on the stream is acknowledged.
    case drained(UInt16)
    /// The peer began anew (RFC 9260 §5.2.4.1); everything in flight is lost.
    case restarted
    case failed(AssociationError)
    case disconnected
}

/// An SCTP association (RFC 9260) over a path without addresses (RFC 8261). A value without IO, told the time.
///
/// Chart of states (RFC 9260 §4):
///
///     closed ──connect──► cookieWait ──INIT ACK──► cookieEchoed ──COOKIE ACK──► established
///        └──────────────────────── COOKIE ECHO (also from cookieWait, cookieEchoed) ──────┘
///     established ──shutdown──► shutdownPending ──all acknowledged──► shutdownSent ──SHUTDOWN ACK──► ended
///     established ──SHUTDOWN──► shutdownReceived ──all acknowledged──► shutdownAckSent ──SHUTDOWN COMPLETE──► ended
///     any ──ABORT, failure──► ended
struct Association: ~Copyable {
    enum State: Hashable {
        case closed, cookieWait, cookieEchoed, established
        case shutdownPending, shutdownSent, shutdownReceived, shutdownAckSent
        case ended

        /// RFC 9260 §6: DATA is sent in these.
        var maySendData: Bool { self == .established || self == .shutdownPending || self == .shutdownReceived }
        var mayReceiveData: Bool { self == .established || self == .shutdownPending || self == .shutdownSent }
        /// There is a peer whose SACKs count.
        var hasPeer: Bool { maySendData || self == .shutdownSent || self == .shutdownAckSent }
    }

    enum Timer: Int, CaseIterable, Sendable {
        /// T1-init and T1-cookie.
        case handshake
        /// T2-shutdown.
        case shutdown
        /// T5-shutdown-guard.
        case shutdownGuard
        /// T3-rtx.
        case retransmission
        /// The pace lets the next packets go.
        case pacing
        /// A chunk that is lost unless it was only late.
        case reordering
        /// Nothing was heard for two round trips: probe the tail (RFC 8985 §7).
        case tailProbe
        case sack
        case heartbeat
        case reconfiguration
        /// PROBE_TIMER, and PMTU_RAISE_TIMER when nothing is probed.
        case pathProbe
    }

    var configuration: Configuration
    var generator: any RandomNumberGenerator & Sendable
    let cookieAuthenticator: @Sendable (ByteBuffer) -> [UInt8]

    var state = State.closed
    var timers = TimerTable<Timer>()
    /// When `poll` has something to do, whatever the timers say.
    var wakeAt: Instant?
    var events = Queue<AssociationEvent>()
    var control = Queue<ControlChunk>()

    var localTag: UInt32 = 0
    var peerTag: UInt32 = 0
    var localInitialTSN = TSN(rawValue: 0)
    var capabilities = Capabilities()
    /// The COOKIE of INIT ACK, until it is acknowledged.
    var peerCookie: ByteBuffer?
    var handshakeAttempts = 0
    /// When INIT or COOKIE ECHO went out.
    var handshakeSentAt: Instant?
    /// Streams that the peer takes.
    var outboundLimit: UInt16 = .max

    // sending
    var sendQueue = SendQueue()
    var inFlight: InFlight
    var congestion: any CongestionController
    var roundTrip: RoundTripEstimator
    var detector = LossDetector()
    /// a_rwnd of the last SACK.
    var peerWindow = 0
    /// The window, not the application, stopped the last `poll`.
    var isWindowLimited = false
    /// The pace did.
    var isPaced = false
    var pacer = Pacer()
    /// Bytes lost that `congestion` has heard of.
    var lostBefore: UInt64 = 0
    /// The last TSN sent when loss was found; nil outside of a recovery.
    var recoveryPoint: UInt64?
    /// Chunks that may be sent beyond the window: the first retransmission of a recovery, a tail probe.
    var allowance = 0
    var isProbing = false
    /// Advanced.Peer.Ack.Point (RFC 3758 §3.5).
    var advancedPoint: UInt64 = 0
    var needsForwardTSN = false
    var errorCount = 0
    var lastDataSentAt: Instant?
    var search: PathSearch
    /// `search.probe` is to be sent.
    var needsProbe = false
    var heardSinceTimeout = false

    // receiving
    var tracker: TSNTracker
    var reassembly: Reassembly
    var sackSchedule = SackSchedule()
    var windowTuner: WindowTuner
    var ready = Queue<ReceivedMessage>()
    /// What the packet being read gave up.
    var skippedTo: UInt64?
    /// Messages handed out and not yet consumed, with their overhead.
    var deliveredCharge = 0

    var reset = StreamResetState()
    var shutdownAttempts = 0
    var heartbeatNonce: UInt64?
    var counters = Statistics()

    init(
        configuration: Configuration, generator: any RandomNumberGenerator & Sendable, cookieAuthenticator: @escaping @Sendable (ByteBuffer) -> [UInt8]
    ) {
        self.configuration = configuration
        self.generator = generator
        self.cookieAuthenticator = cookieAuthenticator
        // the three below are made anew when the peer is known
        let nothing = TSN(rawValue: 0)
        inFlight = InFlight(initialTSN: nothing, headerSize: 16)
        tracker = TSNTracker(initialTSN: nothing, maximumRanges: 0)
        reassembly = Reassembly(interleaved: false, maximumMessageSize: 0)
        windowTuner = WindowTuner(bound: configuration.receiveWindow)
        search = PathSearch(base: configuration.basePacketSize, maximum: configuration.basePacketSize)
        congestion = NewReno(CongestionParameters(maximumPacketSize: 0, initialWindow: 0, initialThreshold: 0))
        roundTrip = RoundTripEstimator(configuration)
    }

    // MARK: The driver's side

    /// When there is something to do next.
    var deadline: Instant? { earliest(timers.next, wakeAt) }

    mutating func handleTimeout(at now: Instant) {
        while let timer = timers.popDue(at: now) {
            wakeAt = now
            switch timer {
            case .handshake: handshakeTimedOut(at: now)
            case .shutdown: shutdownTimedOut(at: now)
            case .shutdownGuard: fail(.peerUnreachable)
            case .retransmission: retransmissionTimedOut(at: now)
            case .pacing: break
            case .reordering: detectLoss(at: now)
            case .tailProbe: tailProbeTimedOut(at: now)
            case .sack: sackSchedule.delayExpired()
            case .heartbeat: heartbeatTimedOut(at: now)
            case .reconfiguration: reconfigurationTimedOut(at: now)
            case .pathProbe: pathProbeTimedOut(at: now)
            }
        }
    }

    mutating func pollEvent() -> AssociationEvent? {
        if let event = events.popFirst() { return event }
        if let stream = sendQueue.lowStreams.popLast() { return .bufferedAmountLow(stream) }
        if let stream = sendQueue.drainedStreams.popLast() { return .drained(stream) }
        return nil
    }

    // MARK: The application's side

    /// Queues a message of at least one byte. The caller has checked its size.
    mutating func send(
        _ payload: ByteBuffer, stream: UInt16, ppid: UInt32, isUnordered: Bool, lifetime: Duration?, maximumRetransmits: UInt32?, at now: Instant
    ) throws(SendError) {
        let limit = configuration.remoteMaximumMessageSize
        if limit > 0, payload.readableBytes > limit { throw .messageTooLarge(limit: limit) }
        switch state {
        case .closed, .cookieWait, .cookieEchoed, .established: break
        default: throw .closed
        }
        guard payload.readableBytes > 0, payload.readableBytes <= UInt32.max else { throw .messageTooLarge(limit: Int(UInt32.max)) }
        sendQueue.enqueue(
            payload, stream: stream, ppid: ppid, isUnordered: isUnordered, expiry: lifetime.map { now + $0 },
            maximumTransmissions: maximumRetransmits.map { $0 == .max ? .max : $0 + 1 } ?? .max)
        counters.messagesSent += 1
        counters.payloadBytesSent += payload.readableBytes
        wakeAt = now
    }

    /// The application took messages that cost this much.
    mutating func release(_ charge: Int, at now: Instant) {
        deliveredCharge = max(0, deliveredCharge - charge)
        guard state.mayReceiveData else { return }
        // RFC 9260 §6.2: tell of a window that opened by a fair part; smaller steps ride on other SACKs
        let window = receiveWindow
        if sackSchedule.advertisedWindow < windowTuner.limit / 2, window - sackSchedule.advertisedWindow >= windowTuner.limit / 4 {
            sackSchedule.requestImmediately()
            wakeAt = now
        }
    }

    /// What the peer may still send.
    var receiveWindow: Int { max(0, windowTuner.limit - reassembly.windowUse - deliveredCharge) }

    var statistics: Statistics {
        var result = counters
        result.messagesAbandoned = sendQueue.abandoned
        result.packetSize = search.current
        result.congestionWindow = congestion.window
        result.slowStartThreshold = congestion.slowStartThreshold
        result.bytesInFlight = inFlight.bytes
        result.chunksInFlight = inFlight.count
        result.peerReceiveWindow = peerWindow
        result.receiveWindow = receiveWindow
        result.bytesHeld = reassembly.bytesHeld + deliveredCharge
        result.smoothedRoundTripTime = roundTrip.smoothed
        result.minimumRoundTripTime = roundTrip.minimum
        result.retransmissionTimeout = roundTrip.timeout
        result.usesInterleaving = capabilities.interleaving
        result.usesZeroChecksum = capabilities.zeroChecksum
        return result
    }

    // MARK: Shared by the parts

    mutating func randomWord() -> UInt32 { UInt32(truncatingIfNeeded: generator.next()) }

    mutating func randomTag() -> UInt32 {
        // RFC 9260 §5.3.1: any value but 0
        while true {
            let tag = randomWord()
            if tag != 0 { return tag }
        }
    }

    mutating func enqueueControl(_ chunk: ControlChunk) {
        // replies to a flood are not owed
        guard control.count < 64 else {
            counters.drops.suppressedAnswer += 1
            return
        }
        control.append(chunk)
    }

    /// The association is over without goodbye from us.
    mutating func fail(_ error: AssociationError) {
        guard state != .ended else { return }
        end()
        events.append(.failed(error))
    }

    mutating func end() {
        state = .ended
        timers.stopAll()
        peerCookie = nil
        sendQueue.removeAll()
        inFlight = InFlight(initialTSN: TSN(inFlight.next), headerSize: 16)
        reassembly = Reassembly(interleaved: false, maximumMessageSize: 0)
        ready.removeAll()
    }
}
