package import NIOCore
package import Wire

/// One allocation on one TURN server (RFC 8656), told the time and given what the server sends.
///
///     idle ─► allocating ─► allocated ─► releasing ─► closed
///                 │   ▲         │
///                 │   └─ 300 ─┐ │
///                 ▼           │ ▼
///              failed ◄───────┴──
///
/// Call `poll` after every other call until it answers nil, write the batch to the server, and call `handleTimeout` when `deadline` has come.
/// Over a stream the driver cuts the bytes with `TurnStream` first. Any order of calls is legal.
package struct TurnClient: ~Copyable, Sendable {
    /// How the server is reached; what is relayed is UDP.
    package enum Transport: String, Hashable, Sendable {
        case udp, tcp, tls

        var isReliable: Bool { self != .udp }
    }

    package struct Configuration: Sendable {
        package var transport: Transport
        package var username: String
        package var password: String
        /// What is asked for; the server may give less or more (RFC 8656 §7.2).
        package var lifetime: Duration = .seconds(600)
        /// RTO of the first retransmission over UDP; it doubles up to `maximumRetransmissionTimeout` (RFC 8489 §6.2.1).
        package var retransmissionTimeout: Duration = .milliseconds(500)
        package var maximumRetransmissionTimeout: Duration = .seconds(2)
        /// Rc: how often a request is sent before it failed.
        package var transmissions = 7
        /// How long an answer may take over TCP or TLS, where nothing is sent twice.
        package var reliableTimeout: Duration = .seconds(10)
        /// RFC 8656 §9: a permission lasts 5 minutes, and is refreshed a minute before.
        package var permissionLifetime: Duration = .seconds(300)
        package var permissionRefresh: Duration = .seconds(240)
        /// RFC 8656 §12: a channel lasts 10 minutes, and is refreshed a minute before.
        package var channelLifetime: Duration = .seconds(600)
        package var channelRefresh: Duration = .seconds(540)
        /// RFC 8656 §12: how long a channel number that has expired may not mean another peer.
        package var channelRest: Duration = .seconds(300)
        /// A refused permission or channel is not asked for again before that.
        package var refusalRest: Duration = .seconds(30)
        /// Peers that are remembered; the one that was sent to least lately makes room.
        package var maximumPeers = 256
        /// Datagrams that wait for the permission to one IP address.
        package var maximumWaiting = 16
        package var maximumRedirects = 5

        package init(transport: Transport, username: String, password: String) {
            self.transport = transport
            self.username = username
            self.password = password
        }
    }

    package struct Allocation: Hashable, Sendable {
        /// One of each address family that the server gave.
        package var relayed: [TransportAddress]
        /// Where the server sees us.
        package var mapped: TransportAddress

        package init(relayed: [TransportAddress], mapped: TransportAddress) {
            self.relayed = relayed
            self.mapped = mapped
        }
    }

    package enum State: Hashable, Sendable {
        case idle
        case allocating
        case allocated(Allocation)
        /// A REFRESH with lifetime zero is on its way.
        case releasing
        case closed
        case failed(TurnError)
    }

    package enum Event: Hashable, Sendable {
        case allocated(Allocation)
        /// 300: call `start` again when that server is reached; over TLS its certificate must be for `domain` where one is named (RFC 8489 §10).
        case redirected(TransportAddress, domain: String?)
        /// The server does not relay to this address.
        case peerRefused(TransportAddress.IP, TurnError)
        /// There was no allocation, or it is lost.
        case failed(TurnError)
        /// After `close`: the server let go of the allocation, or does not answer.
        case closed
    }

    package struct Counters: Sendable, Equatable {
        package var malformed = 0
        package var unmatchedResponses = 0
        /// Answers with a wrong signature, or without the one they need.
        package var unauthenticated = 0
        /// Data of a channel, or from an address, that we did not ask for.
        package var unexpectedData = 0
        /// Not sent: no allocation, no room, no permission.
        package var datagramsDropped = 0
        package var requestsSent = 0
        package var retransmissions = 0
        package var staleNonces = 0
        package var permissionsRefused = 0
        package var channelsRefused = 0
    }

    /// What a peer sent, as it would have come to the relayed address itself.
    package struct Received: Sendable {
        package let datagram: ByteBuffer
        package let path: NetworkPath
    }

    package let configuration: Configuration
    package internal(set) var state = State.idle
    package internal(set) var counters = Counters()
    /// When `handleTimeout` wants to be called; after a call with the present time it is never in the past.
    package internal(set) var deadline: Instant?

    var credential: LongTermCredential
    var generator: any RandomNumberGenerator & Sendable
    var transactions: [Transaction] = []
    var outbox = PacketBatch()
    var events: [Event] = []
    var redirects = 0
    /// RFC 8656 §7.2: none asks for IPv4, and for IPv6 beside it.
    var family: UInt8?
    /// 437 was answered by giving back what a process before us may have left on this port.
    var hasClearedPort = false
    var refreshAt: Instant?
    var expiresAt: Instant?

    var permissions: [Permission] = []
    var peers: [Peer] = []
    var lastSent = 0
    var lastReceived = 0
    var nextChannel = TurnClient.channels.lowerBound
    /// Numbers that meant a peer, and when they may mean another one.
    var resting: [(number: UInt16, until: Instant)] = []

    /// RFC 8656 §12.
    static let channels: ClosedRange<UInt16> = 0x4000...0x4FFF

    package init(configuration: Configuration, generator: any RandomNumberGenerator & Sendable) {
        self.configuration = configuration
        self.generator = generator
        credential = LongTermCredential(username: configuration.username, password: configuration.password)
    }

    package var allocation: Allocation? { if case .allocated(let allocation) = state { allocation } else { nil } }

    // MARK: Verbs

    /// The server can be reached: asks for an allocation (RFC 8656 §7.1).
    package mutating func start(at now: Instant) {
        guard state == .idle || state == .allocating && transactions.isEmpty else { return }
        state = .allocating
        requestAllocation(at: now)
        update(at: now)
    }

    /// The stream to the server is gone.
    package mutating func connectionLost(_ error: TurnError, at now: Instant) {
        switch state {
        case .idle, .allocating, .allocated: fail(error)
        case .releasing: finishClosing()
        case .closed, .failed: break
        }
        update(at: now)
    }

    /// Gives the allocation back; `.closed` follows when the server said so, or does not answer (RFC 8656 §8).
    package mutating func close(at now: Instant) {
        switch state {
        case .allocated:
            forget()
            state = .releasing
            request(.release(thenAllocate: false), at: now)
        case .idle, .allocating: finishClosing()
        case .releasing, .closed, .failed: break
        }
        update(at: now)
    }

    package mutating func handleTimeout(at now: Instant) { update(at: now) }

    /// Appends what is to be sent to the server; answers with one event, nil when drained.
    package mutating func poll(into batch: inout PacketBatch) -> Event? {
        if !outbox.isEmpty {
            for index in 0..<outbox.count { if let message = outbox.packet(index) { batch.append(message) } }
            outbox.removeAll()
        }
        return events.isEmpty ? nil : events.removeFirst()
    }

    /// One message of the server's: a datagram, or what `TurnStream` cut out. Answers with what a peer sent, if it was that.
    package mutating func handle(_ message: ByteBuffer, at now: Instant) -> Received? {
        guard let first = message.getInteger(at: message.readerIndex, as: UInt8.self) else { return nil }
        if first >> 6 == 1 { return channelData(message) }
        guard let parsed = try? StunMessage(parsing: message) else { counters.malformed += 1; return nil }
        switch parsed.messageClass {
        case .indication: return dataIndication(parsed)
        case .success, .error:
            handleResponse(parsed, at: now)
            update(at: now)
        case .request: counters.malformed += 1
        }
        return nil
    }

    /// Whether a message from the server's address is of TURN, and not the answer to a Binding request or something else that came the same way.
    package static func isTurn(_ message: ByteBuffer) -> Bool {
        guard let type = message.getInteger(at: message.readerIndex, as: UInt16.self) else { return false }
        if type >> 14 == 1 { return true }
        // the class bits masked out; Binding is method 1
        let method = type & 0x3EEF
        return type >> 14 == 0 && method != StunMessage.binding && method <= StunMessage.channelBind
    }

    // MARK: The turn of the crank

    mutating func update(at now: Instant) {
        for _ in 0..<8 {
            turn(at: now)
            deadline = nextDeadline
            guard let deadline, deadline <= now else { return }
        }
    }

    private mutating func turn(at now: Instant) {
        runTransactions(at: now)
        guard case .allocated = state else { return }
        if let expiresAt, expiresAt <= now { return fail(.allocationLost("it could not be refreshed in time")) }
        if let due = refreshAt, due <= now {
            refreshAt = nil
            request(.refresh, at: now)
        }
        runPermissions(at: now)
        runChannels(at: now)
    }

    private var nextDeadline: Instant? {
        var next: Instant?
        for transaction in transactions { next = earliest(next, transaction.due) }
        guard case .allocated = state else { return next }
        next = earliest(next, earliest(refreshAt, expiresAt))
        for permission in permissions { next = earliest(next, permission.deadline) }
        for peer in peers { next = earliest(next, peer.channelDeadline) }
        return next
    }

    mutating func fail(_ error: TurnError) {
        guard state != .closed else { return }
        forget()
        state = .failed(error)
        events.append(.failed(error))
    }

    mutating func finishClosing() {
        forget()
        state = .closed
        events.append(.closed)
    }

    /// What belongs to an allocation.
    mutating func forget() {
        transactions = []
        permissions = []
        peers = []
        resting = []
        refreshAt = nil
        expiresAt = nil
        outbox.removeAll()
    }
}
