import NIOCore
import WebRTC
import Wire

/// Which session a datagram of a shared endpoint belongs to. Lives on the event loop.
///
/// A binding request goes by the ufrag in its USERNAME (RFC 8445 §7.2.2), everything else by the sender's address. An address is learnt when a session
/// sends to it, and taken over from another session only when ICE has proved it, so that nobody steals a peer by naming its address as a candidate.
final class EndpointRouter {
    struct Counters: Sendable, Equatable {
        var datagrams = 0
        /// Binding requests whose user name names no session: neither answered nor handed on.
        var unknownUfrag = 0
        /// What came from an address that belongs to no session.
        var unknownAddress = 0
        var unknown: Int { unknownUfrag + unknownAddress }
    }

    /// Addresses that one session may claim: candidates of its peer, and what NATs make of them.
    static let addressesPerSession = 64

    private(set) var sockets: [UDPSocket] = []
    /// Sockets come and go with this machine's addresses.
    var isFollowing = false
    private(set) var counters = Counters()
    private var sessions: [ObjectIdentifier: Entry] = [:]
    private var byUfrag: [String: ObjectIdentifier] = [:]
    private var byAddress: [TransportAddress: ObjectIdentifier] = [:]
    /// The session of a private endpoint takes everything.
    private var owner: (any DatagramReceiver)?
    /// Those that got something in this burst; nearly always one.
    private var burst: [any DatagramReceiver] = []
    private var burstTime: Instant?
    private var last: (remote: TransportAddress, receiver: any DatagramReceiver)?

    private struct Entry {
        var receiver: any DatagramReceiver
        /// The present one, and the one before an ICE restart.
        var ufrags: [String]
        var addresses: [TransportAddress] = []
    }

    // MARK: Sessions

    /// Gives everything that arrives to one session.
    func setOwner(_ receiver: (any DatagramReceiver)?) { owner = receiver }

    /// A session, or another ufrag of one.
    func add(_ receiver: any DatagramReceiver, ufrag: String) {
        let key = ObjectIdentifier(receiver)
        var entry = sessions[key] ?? Entry(receiver: receiver, ufrags: [])
        guard !entry.ufrags.contains(ufrag) else { return }
        entry.ufrags.append(ufrag)
        byUfrag[ufrag] = key
        if entry.ufrags.count > 2 { byUfrag[entry.ufrags.removeFirst()] = nil }
        sessions[key] = entry
    }

    func remove(_ receiver: any DatagramReceiver) {
        let key = ObjectIdentifier(receiver)
        last = nil
        if owner === receiver { owner = nil }
        guard let entry = sessions.removeValue(forKey: key) else { return }
        for ufrag in entry.ufrags where byUfrag[ufrag] == key { byUfrag[ufrag] = nil }
        for address in entry.addresses where byAddress[address] == key { byAddress[address] = nil }
    }

    /// `proved`: ICE has a valid pair with this address, so it leaves whoever had it.
    func claim(_ address: TransportAddress, for receiver: any DatagramReceiver, proved: Bool) {
        let key = ObjectIdentifier(receiver)
        guard owner == nil, var entry = sessions[key] else { return }
        if let holder = byAddress[address], holder == key || !proved { return }
        if entry.addresses.count >= Self.addressesPerSession {
            let oldest = entry.addresses.removeFirst()
            if byAddress[oldest] == key { byAddress[oldest] = nil }
        }
        entry.addresses.append(address)
        sessions[key] = entry
        byAddress[address] = key
        last = nil
    }

    // MARK: Datagrams

    func route(_ bytes: ByteBuffer, segmentSize: Int, path: NetworkPath) {
        counters.datagrams += 1
        let now = burstTime ?? .now
        if let relay = relays.first(where: { $0.takes(bytes, path: path) }) {
            burstTime = now
            return relay.receive(bytes, segmentSize: segmentSize, at: now)
        }
        deliver(bytes, segmentSize: segmentSize, path: path, at: now)
    }

    /// From a socket, or by a relay: then `path` begins at the relayed address.
    func deliver(_ bytes: ByteBuffer, segmentSize: Int, path: NetworkPath, at now: Instant) {
        burstTime = now
        guard let receiver = owner ?? receiver(of: bytes, segmentSize: segmentSize, from: path.remote) else { return }
        if !burst.contains(where: { $0 === receiver }) { burst.append(receiver) }
        receiver.receive(bytes, segmentSize: segmentSize, path: path, at: now)
    }

    func endBurst() {
        let now = burstTime ?? .now
        burstTime = nil
        guard !burst.isEmpty else { return }
        let receivers = burst
        burst.removeAll(keepingCapacity: true)
        for receiver in receivers { receiver.endOfBurst(at: now) }
    }

    private func receiver(of bytes: ByteBuffer, segmentSize: Int, from remote: TransportAddress) -> (any DatagramReceiver)? {
        // RFC 7983 §7: 0...3 is STUN. Offload joins requests of one sender; the first tells whose they are.
        if let first = bytes.getInteger(at: bytes.readerIndex, as: UInt8.self), first < 4,
            let request = bytes.getSlice(at: bytes.readerIndex, length: min(segmentSize, bytes.readableBytes)),
            let ufrag = IceAgent.localUfrag(ofBindingRequest: request)
        {
            let receiver = byUfrag[String(ufrag)].flatMap { sessions[$0] }?.receiver
            if receiver == nil { counters.unknownUfrag += 1 }
            return receiver
        }
        if let last, last.remote == remote { return last.receiver }
        guard let receiver = byAddress[remote].flatMap({ sessions[$0] })?.receiver else {
            counters.unknownAddress += 1
            return nil
        }
        last = (remote, receiver)
        return receiver
    }

    // MARK: Relays

    private var relays: [TurnRelay] = []

    /// The allocation with that key, made where there is none.
    func relay(for key: TurnRelay.Key, transport: TurnClient.Transport, on eventLoop: any EventLoop) -> TurnRelay {
        if let known = relays.first(where: { $0.key == key && !$0.isEnded }) { return known }
        let relay = TurnRelay(key, transport: transport, router: self, on: eventLoop)
        relays.append(relay)
        return relay
    }

    func remove(_ relay: TurnRelay) { relays.removeAll { $0 === relay } }

    private func relay(at local: TransportAddress) -> TurnRelay? {
        for relay in relays where relay.relayed.contains(where: { $0.address == local }) { return relay }
        return nil
    }

    /// Leaves all relays that `user` is one of; `action` follows when those that had no other user have given their allocations back.
    func leaveRelays(_ user: any RelayUser, then action: @escaping () -> Void) {
        var open = 1
        func one() {
            open -= 1
            if open == 0 { action() }
        }
        for relay in relays where relay.has(user) {
            open += 1
            relay.leave(user, whenEnded: one)
        }
        one()
    }

    // MARK: Sockets

    func add(_ socket: UDPSocket) { sockets.append(socket) }

    func socket(at local: TransportAddress) -> UDPSocket? {
        for socket in sockets where socket.local == local { return socket }
        return nil
    }

    /// What the session that has its turn is writing: one for all, since each sends before its turn ends.
    var scratch = DatagramBatch()

    /// Answers with the size of the smallest datagram that was larger than its interface allows.
    func sendScratch() -> Int? {
        defer { scratch.removeAll() }
        return send(scratch)
    }

    /// Sends the whole batch, run by run of one local address.
    @discardableResult
    func send(_ batch: borrowing DatagramBatch) -> Int? {
        var refused: Int?
        var index = 0
        while index < batch.count {
            let local = batch.paths[index].local
            var end = index + 1
            while end < batch.count, batch.paths[end].local == local { end += 1 }
            let size = relays.isEmpty ? nil : relay(at: local)?.send(batch, index..<end)
            if let size = size ?? socket(at: local)?.send(batch, index..<end) { refused = min(refused ?? .max, size) }
            index = end
        }
        return refused
    }

    func socketClosed(_ socket: UDPSocket) {
        sockets.removeAll { $0 === socket }
        // one that follows the machine's addresses may be without any for a while
        if sockets.isEmpty, !isFollowing { end() }
    }

    /// Nothing will be sent or received any more.
    func end() {
        for receiver in receivers { receiver.endpointClosed() }
    }

    func addressAdded(_ address: TransportAddress) {
        for receiver in receivers { receiver.localAddressAdded(address) }
    }

    func addressRemoved(_ address: TransportAddress) {
        sockets.removeAll { $0.local == address }
        for receiver in receivers { receiver.localAddressRemoved(address) }
    }

    private var receivers: [any DatagramReceiver] { sessions.values.map(\.receiver) + (owner.map { [$0] } ?? []) }
}
