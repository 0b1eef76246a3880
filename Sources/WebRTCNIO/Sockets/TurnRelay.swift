import NIOCore
import NIOPosix
import WebRTC
import Wire

/// Who sends and receives through a TURN allocation: a session.
protocol RelayUser: AnyObject, Sendable {
    /// Called on the event loop, never from within a call of the user's own.
    func relayChanged(_ key: TurnRelay.Key, _ change: TurnRelay.Change)
}

/// One allocation on one TURN server, with what reaches that server: a socket of the endpoint, or a stream of its own. Lives on the event loop.
///
/// It belongs to the endpoint's router, for a server knows a client by its address and port: sessions that share a socket share its allocation.
/// The first user makes it, the last one that leaves gives it back.
final class TurnRelay {
    struct Key: Hashable, Sendable {
        let url: IceServerURL
        /// As it was resolved.
        let server: TransportAddress
        /// The socket that reaches the server; nil where that is a stream's.
        let base: TransportAddress?
        let username: String
        let password: String
        /// A PEM file of certificates to be trusted beside the system's, for TLS.
        let trustRoots: String?
    }

    enum Change: Sendable {
        case allocated([IceAgent.RelayedAddress])
        /// There was no allocation, or it is lost.
        case failed(TurnError)
    }

    let key: Key
    private let transport: TurnClient.Transport
    private let eventLoop: any EventLoop
    private weak var router: EndpointRouter?
    private var client: TurnClient
    /// Another than the key's after a redirection.
    private var server: TransportAddress
    private var stream: (any Channel)?
    /// TCP or TLS is being set up: by a number, so that an attempt which was given up is told from the next.
    private var attempt = 0
    private var users: [any RelayUser] = []
    private(set) var relayed: [IceAgent.RelayedAddress] = []
    private var failure: TurnError?
    private var wrapped = DatagramBatch()
    private var timer: (task: Scheduled<Void>, due: Instant)?
    private var whenEnded: [() -> Void] = []
    private(set) var isEnded = false

    /// Bytes that wait for a stream before datagrams are dropped, as a full queue on the way would: SCTP's congestion control notices.
    private static let streamBuffer = NIOCore.ChannelOptions.Types.WriteBufferWaterMark(low: 128 << 10, high: 256 << 10)

    /// Bytes of a datagram. Beyond the server lies a path of 1,500 bytes at most, nearly always, on which it may fragment (RFC 8656 §15), and servers have
    /// small buffers: so a relay refuses what is larger as an interface does, and path MTU discovery stops there. IPv6's headers and ChannelData's are off.
    static let maximumDatagram = 1500 - 48 - TurnClient.channelOverhead

    init(_ key: Key, transport: TurnClient.Transport, router: EndpointRouter, on eventLoop: any EventLoop) {
        self.key = key
        self.transport = transport
        self.router = router
        self.eventLoop = eventLoop
        server = key.server
        client = TurnClient(
            configuration: .init(transport: transport, username: key.username, password: key.password), generator: systemRandomness())
        reach()
    }

    // MARK: Users

    func join(_ user: any RelayUser) {
        users.append(user)
        if let failure { tell(user, .failed(failure)) } else if !relayed.isEmpty { tell(user, .allocated(relayed)) }
    }

    func has(_ user: any RelayUser) -> Bool { users.contains { $0 === user } }

    /// With the last user the allocation goes, and `whenEnded` is called when the server said so or does not answer.
    func leave(_ user: any RelayUser, whenEnded action: @escaping () -> Void) {
        users.removeAll { $0 === user }
        guard users.isEmpty, !isEnded else { return action() }
        whenEnded.append(action)
        let now = Instant.now
        client.close(at: now)
        drain(at: now)
        // the goodbye is a courtesy: the allocation ends by itself where it is lost
        eventLoop.assumeIsolated().scheduleTask(in: .seconds(1)) { if self.users.isEmpty { self.end() } }
    }

    private func tell(_ user: any RelayUser, _ change: Change) {
        let key = key
        eventLoop.execute { user.relayChanged(key, change) }
    }

    // MARK: Datagrams

    /// Answers with the size of the smallest datagram that was too large for the way to the server.
    func send(_ batch: borrowing DatagramBatch, _ indices: Range<Int>) -> Int? {
        if transport != .udp, !(stream?.isWritable ?? false) { return nil }
        let now = Instant.now
        var refused: Int?
        for index in indices {
            guard let packet = batch.packets.packet(index) else { continue }
            if packet.readableBytes > Self.maximumDatagram {
                refused = min(refused ?? .max, packet.readableBytes)
            } else {
                client.send(packet, to: batch.paths[index].remote, at: now, into: &wrapped.packets)
            }
        }
        if let size = drain(at: now) { refused = min(refused ?? .max, size - TurnClient.channelOverhead) }
        return refused
    }

    /// Whether what came along `path` is the server's.
    func takes(_ bytes: ByteBuffer, path: NetworkPath) -> Bool { path.remote == server && path.local == key.base && TurnClient.isTurn(bytes) }

    func receive(_ bytes: ByteBuffer, segmentSize: Int, at now: Instant) {
        var rest = bytes
        while rest.readableBytes > segmentSize, let segment = rest.readSlice(length: segmentSize) { take(segment, at: now) }
        if rest.readableBytes > 0 { take(rest, at: now) }
        drain(at: now)
    }

    private func take(_ message: ByteBuffer, at now: Instant) {
        guard let received = client.handle(message, at: now) else { return }
        router?.deliver(received.datagram, segmentSize: received.datagram.readableBytes, path: received.path, at: now)
    }

    // MARK: The client's turn

    @discardableResult
    private func drain(at now: Instant) -> Int? {
        while let event = client.poll(into: &wrapped.packets) { react(to: event) }
        let refused = transmit()
        armTimer()
        return refused
    }

    private func transmit() -> Int? {
        guard !wrapped.packets.isEmpty else { return nil }
        defer { wrapped.removeAll() }
        guard let base = key.base else {
            stream?.writeAndFlush(wrapped.packets.bytes, promise: nil)
            return nil
        }
        wrapped.assign(NetworkPath(local: base, remote: server))
        return router?.socket(at: base)?.send(wrapped, 0..<wrapped.count)
    }

    private func armTimer() {
        guard let due = client.deadline, !isEnded else { return }
        if let timer, timer.due <= due { return }
        timer?.task.cancel()
        let task = eventLoop.assumeIsolated().scheduleTask(deadline: NIODeadline(due)) {
            self.timer = nil
            guard !self.isEnded else { return }
            let now = Instant.now
            self.client.handleTimeout(at: now)
            self.drain(at: now)
        }
        timer = (task, due)
    }

    private func react(to event: TurnClient.Event) {
        switch event {
        case .allocated(let allocation):
            relayed = allocation.relayed.map {
                .init(address: $0, mapped: allocation.mapped, base: key.base, server: server, transport: transport)
            }
            for user in users { tell(user, .allocated(relayed)) }
        case .redirected(let alternate, let domain):
            server = alternate
            closeStream()
            reach(serverName: domain)
        case .peerRefused: break
        case .failed(let error):
            failure = error
            for user in users { tell(user, .failed(error)) }
            end()
        case .closed:
            if users.isEmpty { end() } else { startAgain() }
        }
    }

    /// Somebody joined while the last allocation was given back.
    private func startAgain() {
        relayed = []
        let actions = whenEnded
        whenEnded = []
        for action in actions { action() }
        closeStream()
        server = key.server
        client = TurnClient(configuration: client.configuration, generator: systemRandomness())
        reach()
    }

    private func end() {
        guard !isEnded else { return }
        isEnded = true
        timer?.task.cancel()
        timer = nil
        _ = transmit()
        closeStream()
        router?.remove(self)
        let actions = whenEnded
        whenEnded = []
        for action in actions { action() }
    }

    // MARK: The way to the server

    private func reach(serverName: String? = nil) {
        guard transport != .udp else {
            // not within the call that made this relay
            eventLoop.assumeIsolated().execute {
                let now = Instant.now
                self.client.start(at: now)
                self.drain(at: now)
            }
            return
        }
        attempt += 1
        let number = attempt
        TurnStreamConnection.open(
            to: server, isTLS: transport == .tls, serverName: serverName ?? key.url.host, trustRoots: key.trustRoots, buffer: Self.streamBuffer,
            relay: NIOLoopBound(self, eventLoop: eventLoop), on: eventLoop
        ).assumeIsolated().whenComplete { result in
            switch result {
            case .success(let channel):
                guard !self.isEnded, number == self.attempt else { return channel.close(promise: nil) }
                self.stream = channel
                let now = Instant.now
                self.client.start(at: now)
                self.drain(at: now)
            case .failure(let error):
                guard !self.isEnded, number == self.attempt else { return }
                self.streamEnded(.cannotConnect(TurnStreamConnection.words(for: error)))
            }
        }
    }

    private func closeStream() {
        let old = stream
        stream = nil
        old?.close(promise: nil)
    }

    /// The stream has nothing more to be read.
    func endOfBurst() { router?.endBurst() }

    /// Nothing of an earlier stream counts any more.
    func isCurrent(_ channel: any Channel) -> Bool { stream === channel }

    func streamEnded(_ error: TurnError) {
        guard !isEnded else { return }
        let now = Instant.now
        if case .cannotConnect(let why) = error, !relayed.isEmpty {
            client.connectionLost(.connectionLost(why), at: now)
        } else {
            client.connectionLost(error, at: now)
        }
        drain(at: now)
    }
}
