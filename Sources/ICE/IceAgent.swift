import NIOCore
package import Wire

/// An ICE agent for one component (RFC 8445), with trickle (RFC 8838) and consent freshness (RFC 7675), told the time and given its datagrams.
///
/// Call `poll` after every other call until it answers nil, write the batch out, and call `handleTimeout` when `deadline` has come.
/// Every verb ends in `update`, which does whatever is due: so no order of calls is wrong, and asking changes nothing.
///
///     new ─► checking ─► connected ─► completed          closed from anywhere
///               │            │  ▲         │
///               ▼            ▼  └──────── ▼
///            failed ◄──── disconnected ◄──┘
package struct IceAgent: ~Copyable, Sendable {
    /// RTCIceTransportState of W3C.
    package enum State: Hashable, Sendable {
        /// No remote credentials yet, or nothing to check.
        case new
        case checking
        /// There is a valid pair; data may flow (RFC 8445 §12.1 allows it before nomination).
        case connected
        /// As connected, a pair is nominated, and neither side will bring more candidates.
        case completed
        /// The selected pair's consent requests go unanswered, or its address is gone; it may come back, or another path may.
        case disconnected
        /// Every pair failed, or consent expired. From the latter only `restart` leads out (RFC 7675 §5.1).
        case failed
        case closed
    }

    package enum Event: Hashable, Sendable {
        case localCandidate(IceCandidate)
        case gatheringComplete
        case stateChanged(State)
        /// Application data goes along this path from now on.
        case selectedPath(NetworkPath)
    }

    package let configuration: Configuration
    package internal(set) var isControlling: Bool
    package internal(set) var state = State.new
    package internal(set) var isGatheringComplete = false
    /// The best valid pair: nominated if one is, else the one with the highest priority. Nil before the first and after failure.
    package internal(set) var selectedPath: NetworkPath?
    /// When `handleTimeout` wants to be called; after a call with the present time it is never in the past.
    package internal(set) var deadline: Instant?
    package internal(set) var counters = Counters()

    /// One pair of credentials; a restart begins a new one (RFC 8445 §9).
    struct Session: Sendable {
        let number: Int
        let local: IceCredentials
        var remote: IceCredentials?
    }

    var session: Session
    /// The one before a restart, until the new one has a valid pair.
    var previousSession: Session?
    var previousRemoteCandidates: [RemoteCandidate] = []
    var tieBreaker: UInt64
    var generator: any RandomNumberGenerator & Sendable

    var bases: [LocalBase] = []
    var nextBaseRank = 0
    var hasAllBases = false
    package internal(set) var localCandidates: [IceCandidate] = []
    var stunServers: [TransportAddress]
    var gatherings: [Gathering] = []

    var remoteCandidates: [RemoteCandidate] = []
    var hasAllRemoteCandidates = false
    var remoteIsLite = false
    var earlyChecks: [EarlyCheck] = []

    var pairs: [CandidatePair] = []
    var nextPairID = 0
    /// Pairs to be checked before all others, in order (RFC 8445 §7.3.1.4).
    var triggered: [Int] = []
    var transactions: [StunTransactionID: Transaction] = [:]
    /// When the pacer's bucket will be full again.
    var paceFullAt: Instant?
    var selectedID: Int?
    var failAt: Instant?
    /// RFC 7675 §5.1: no more datagrams until a restart.
    var hasLostConsent = false
    /// There was a selected path since the agent last failed.
    var wasConnected = false

    var outbox = DatagramBatch()
    var events: [Event] = []

    package init(configuration: Configuration, generator: consuming some RandomNumberGenerator & Sendable) {
        self.configuration = configuration
        var generator = generator
        isControlling = configuration.isControlling && !configuration.isLite
        session = Session(number: 0, local: configuration.localCredentials, remote: nil)
        stunServers = configuration.stunServers
        tieBreaker = generator.next()
        self.generator = generator
    }

    package var localCredentials: IceCredentials { session.local }
    package var remoteCredentials: IceCredentials? { session.remote }
    /// The round trip of the last check that the selected path answered.
    package var selectedRoundTrip: Duration? { selectedIndex.flatMap { pairs[$0].roundTrip } }

    /// Does what is due, or follows from a change.
    package mutating func handleTimeout(at now: Instant) { update(at: now) }

    /// Appends what is to be sent; answers with one event, nil when drained.
    package mutating func poll(at now: Instant, into batch: inout DatagramBatch) -> Event? {
        if !outbox.isEmpty {
            for (index, path) in outbox.paths.enumerated() {
                if let packet = outbox.packets.packet(index) { batch.append(packet, along: path) }
            }
            outbox.removeAll()
        }
        return events.isEmpty ? nil : events.removeFirst()
    }

    /// Application traffic came along `path`: a sign of life, but not consent (RFC 7675 §5.1).
    package mutating func noteReceived(path: NetworkPath, at now: Instant) {
        // on the fast path of all received data: one comparison, mostly
        guard path == selectedPath, let index = selectedIndex else { return }
        pairs[index].lastReceived = now
        if state == .disconnected { update(at: now) }
    }

    /// Whether the peer has shown that it is at the other end of `path`: an authenticated check of its came along it, or it answered one of ours there.
    package func hasHeardPeer(along path: NetworkPath) -> Bool {
        path == selectedPath || pairs.contains { $0.path == path && $0.lastReceived != nil } || earlyChecks.contains { $0.path == path }
    }

    /// Forgets everything and sends nothing any more.
    package mutating func close(at now: Instant) {
        guard state != .closed else { return }
        stopChecking()
        pairs = []
        gatherings = []
        earlyChecks = []
        outbox.removeAll()
        deadline = nil
        setState(.closed)
    }

    /// New credentials for the same agent (RFC 8445 §9). The selected path stays in use until a pair with the new credentials is valid;
    /// local candidates are announced again, and the peer's must come again.
    package mutating func restart(localCredentials: IceCredentials, at now: Instant) {
        guard state != .closed else { return }
        let keeps = selectedID
        pairs.removeAll { $0.id != keeps }
        triggered = []
        transactions = transactions.filter { entry in entry.value.pairID.map { $0 == keeps } ?? true }
        let old = session.remote?.ufrag
        // one that was never answered leaves nothing to go back to
        if session.remote != nil {
            previousSession = session
            previousRemoteCandidates = remoteCandidates
        }
        session = Session(number: session.number + 1, local: localCredentials, remote: nil)
        // one that names other credentials may have run ahead of the description
        remoteCandidates.removeAll { $0.isPeerReflexive || $0.candidate.usernameFragment == nil || $0.candidate.usernameFragment == old }
        hasAllRemoteCandidates = false
        earlyChecks = []
        hasLostConsent = false
        failAt = nil
        if state == .failed { setState(.new) }
        regather(at: now)
        update(at: now)
    }

    /// Takes the last `restart` back, as where its offer is (RFC 8829 §4.1.10.2): the credentials before it count again.
    package mutating func undoRestart(at now: Instant) {
        guard state != .closed, session.remote == nil, let previous = previousSession else { return }
        session = previous
        previousSession = nil
        remoteCandidates = previousRemoteCandidates
        earlyChecks = []
        pairs.removeAll { $0.session != previous.number }
        regather(at: now)
        for remote in remoteCandidates { for base in bases { pair(base, with: remote, at: now) } }
        update(at: now)
    }

    // MARK: The turn of the crank

    /// One thing done may make another due that comes before it; not for ever, whatever strangers do.
    mutating func update(at now: Instant) {
        for _ in 0..<8 {
            guard state != .closed else { return }
            turn(at: now)
            deadline = nextDeadline(at: now)
            guard let deadline, deadline <= now else { return }
        }
    }

    private mutating func turn(at now: Instant) {
        expireTransactions(at: now)
        if state != .failed {
            retransmit(at: now)
            runConsent(at: now)
            select(at: now)
            nominate(at: now)
        }
        // after selection, for without a path the mappings are refreshed
        runGathering(at: now)
        if state != .failed {
            updateState(at: now)
            startChecks(at: now)
        }
    }

    private func nextDeadline(at now: Instant) -> Instant? {
        var next = gatheringDeadline
        if state != .failed {
            next = earliest(next, checkDeadline(at: now))
            next = earliest(next, consentDeadline(at: now))
            next = earliest(next, nominationDeadline(at: now))
            next = earliest(next, selectedPath == nil ? failAt.flatMap { $0 > now ? $0 : nil } : nil)
        }
        return next
    }

    mutating func setState(_ new: State) {
        guard state != new else { return }
        state = new
        events.append(.stateChanged(new))
    }

    /// Ends all checks and consent; what is left is gathering and answering.
    mutating func stopChecking() {
        for index in pairs.indices { pairs[index].fail() }
        triggered = []
        transactions = transactions.filter { $0.value.pairID == nil }
        selectedID = nil
        selectedPath = nil
        previousSession = nil
        failAt = nil
        wasConnected = false
    }

    mutating func send(_ datagram: ByteBuffer, along path: NetworkPath) {
        guard outbox.count < configuration.maximumOutbox else { counters.datagramsDropped += 1; return }
        outbox.append(datagram, along: path)
    }
}
