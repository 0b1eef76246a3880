import Ciphers
import NIOCore
import NetworkSimulator
import WebRTC
import Wire

/// Two peer engines on a simulated network, stepped from deadline to deadline in virtual time.
final class PeerPair {
    struct Side: ~Copyable {
        var engine: PeerEngine
        var address: TransportAddress
        var events: [PeerEngine.Event] = []
        var messages: [(channel: ChannelHandle, bytes: ByteBuffer, isText: Bool)] = []
        var channels: [ChannelHandle] = []
        var opened: Set<ChannelHandle> = []
        var closed: Set<ChannelHandle> = []
        var acknowledged: Set<ChannelHandle> = []
        /// Reports messages as taken at once.
        var reads = true

        init(seed: UInt64, address: TransportAddress, configure: (inout PeerConfiguration) -> Void) throws {
            let key = [UInt8](repeating: UInt8(truncatingIfNeeded: seed), count: 32)
            var configuration = PeerConfiguration(certificate: try Certificate.selfSigned(), cookieKey: key)
            configure(&configuration)
            engine = PeerEngine(configuration: configuration, generator: SplitMix64(seed: seed))
            self.address = address
        }
    }

    var now = Instant.zero
    var left: Side
    var right: Side
    var toRight: Link
    var toLeft: Link
    /// Deadlines that a call with the current time left in the past.
    var staleDeadlines = 0
    private var batch = DatagramBatch()

    init(seed: UInt64, conditions: LinkConditions = .init(), configure: (inout PeerConfiguration) -> Void = { _ in }) throws {
        left = try Side(seed: seed &* 2 &+ 1, address: TransportAddress(ip: .v4(0x0A00_0001), port: 1000), configure: configure)
        right = try Side(seed: seed &* 2 &+ 2, address: TransportAddress(ip: .v4(0x0A00_0002), port: 2000), configure: configure)
        toRight = Link(conditions, seed: seed)
        toLeft = Link(conditions, seed: seed &+ 1_000_003)
    }

    /// Offer from the left, answer from the right; signalling itself takes no time and loses nothing.
    func negotiate() throws {
        left.engine.addLocalAddress(left.address, at: now)
        left.engine.endOfLocalAddresses(at: now)
        right.engine.addLocalAddress(right.address, at: now)
        right.engine.endOfLocalAddresses(at: now)
        try left.engine.setLocalDescription(nil, at: now)
        pump()
        let offer = try left.engine.localDescription.orThrow()
        try right.engine.setRemoteDescription(offer, at: now)
        try right.engine.setLocalDescription(nil, at: now)
        pump()
        let answer = try right.engine.localDescription.orThrow()
        try left.engine.setRemoteDescription(answer, at: now)
        pump()
    }

    /// Steps until `done` or until the virtual time is over; says whether it was done.
    func run(for limit: Duration, until done: (PeerPair) -> Bool = { _ in false }) -> Bool {
        let end = now + limit
        pump()
        var steps = 0
        while !done(self) {
            guard let next = earliest(earliest(toRight.deadline, toLeft.deadline), earliest(left.engine.deadline, right.engine.deadline)), next <= end else {
                now = end
                return done(self)
            }
            steps += 1
            if steps > 2_000_000 { return false }
            now = max(now, next)
            while let datagram = toRight.receive(at: now) {
                right.engine.handle(datagram, path: NetworkPath(local: right.address, remote: left.address), at: now)
            }
            while let datagram = toLeft.receive(at: now) {
                left.engine.handle(datagram, path: NetworkPath(local: left.address, remote: right.address), at: now)
            }
            if let deadline = left.engine.deadline, deadline <= now { left.engine.handleTimeout(at: now) }
            if let deadline = right.engine.deadline, deadline <= now { right.engine.handleTimeout(at: now) }
            pump()
        }
        return true
    }

    /// Drains both engines onto the links.
    func pump() {
        Self.drain(&left, &batch, onto: &toRight, to: right.address, now: now)
        Self.drain(&right, &batch, onto: &toLeft, to: left.address, now: now)
    }

    private static func drain(_ side: inout Side, _ batch: inout DatagramBatch, onto link: inout Link, to remote: TransportAddress, now: Instant) {
        while true {
            while let event = side.engine.poll(at: now, into: &batch) {
                side.events.append(event)
                switch event {
                case .message(let channel, let bytes, let isText):
                    side.messages.append((channel, ByteBuffer(bytes: bytes.readableBytesView), isText))
                    if side.reads { side.engine.consume(bytes.readableBytes, on: channel, at: now) }
                case .channel(let channel): side.channels.append(channel)
                case .channelOpened(let channel): side.opened.insert(channel)
                case .channelClosed(let channel): side.closed.insert(channel)
                case .allAcknowledged(let channel): side.acknowledged.insert(channel)
                default: break
                }
            }
            if batch.isEmpty { return }
            // what leaves from or goes to an address that is no more is lost
            for index in 0..<batch.count where batch.paths[index] == NetworkPath(local: side.address, remote: remote) {
                if let packet = batch.packets.packet(index) { link.send(ByteBuffer(bytes: packet.readableBytesView), at: now) }
            }
            batch.removeAll()
        }
    }
}

struct Missing: Error {}
extension Optional {
    func orThrow() throws -> Wrapped {
        guard let self else { throw Missing() }
        return self
    }
}
