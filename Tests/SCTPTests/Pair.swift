import NIOCore
import NetworkSimulator
import SCTP
import Testing
import Wire

/// A not at all secret hash for cookies.
func cookieCode(_ key: UInt64) -> @Sendable (ByteBuffer) -> [UInt8] {
    { buffer in
        var state = key
        for byte in buffer.readableBytesView { state = (state ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 &+ 0x9E37 }
        return (0..<8).map { UInt8(truncatingIfNeeded: state >> ($0 * 8)) }
    }
}

/// One engine with what it told.
final class End {
    var engine: DataChannelEngine
    var batch = PacketBatch()
    var events: [DataChannelEngine.Event] = []
    var messages: [ChannelHandle: [(ByteBuffer, Bool)]] = [:]
    var opened: [ChannelHandle] = []
    var incoming: [ChannelHandle] = []
    var closed: [ChannelHandle] = []
    var low: [ChannelHandle] = []
    var acknowledged: [ChannelHandle] = []
    var failure: AssociationError?
    var isConnected = false
    var isDisconnected = false
    /// Whether messages are consumed as they arrive.
    var consumes = true
    var mostHeld = 0

    init(_ configuration: Configuration, seed: UInt64) {
        engine = DataChannelEngine(configuration: configuration, generator: SplitMix64(seed: seed), cookieAuthenticator: cookieCode(seed))
    }

    func drain(at now: Instant) {
        while let event = engine.poll(at: now, into: &batch) {
            switch event {
            case .connected: isConnected = true
            case .channel(let handle): incoming.append(handle)
            case .opened(let handle): opened.append(handle)
            case .message(let handle, let bytes, let isText):
                messages[handle, default: []].append((bytes, isText))
                if consumes { engine.consume(bytes.readableBytes, on: handle, at: now) }
            case .bufferedAmountLow(let handle): low.append(handle)
            case .allAcknowledged(let handle): acknowledged.append(handle)
            case .closed(let handle): closed.append(handle)
            case .failed(let error): failure = error
            case .disconnected: isDisconnected = true
            }
        }
        mostHeld = max(mostHeld, engine.statistics.bytesHeld)
    }

    func consumeAll(at now: Instant) {
        for (handle, list) in messages { for (bytes, _) in list { engine.consume(bytes.readableBytes, on: handle, at: now) } }
    }
}

/// Two engines and the links between them, in virtual time.
final class Pair {
    var a: End
    var z: End
    var toZ: Link
    var toA: Link
    var now = Instant.zero
    var steps = 0
    /// Sees every packet to Z.
    var tap: ((ByteBuffer) -> Void)?

    init(
        seed: UInt64, conditions: LinkConditions = .init(), a configurationA: Configuration = .init(), z configurationZ: Configuration = .init(),
        connect: Bool = true
    ) {
        a = End(configurationA, seed: seed)
        z = End(configurationZ, seed: seed &+ 1)
        toZ = Link(conditions, seed: seed &+ 2)
        toA = Link(conditions, seed: seed &+ 3)
        a.engine.setRole(isDTLSClient: true)
        z.engine.setRole(isDTLSClient: false)
        if connect {
            a.engine.connect(at: now)
            z.engine.connect(at: now)
        }
    }

    /// Everything due now, then on to the next thing that happens. False when nothing will ever happen by itself.
    func step(until limit: Instant) -> Bool {
        steps += 1
        var hadPackets = true
        while hadPackets {
            hadPackets = false
            a.drain(at: now)
            z.drain(at: now)
            Self.flush(&a.batch, into: &toZ, at: now, tap)
            Self.flush(&z.batch, into: &toA, at: now)
            while let packet = toZ.receive(at: now) {
                hadPackets = true
                z.engine.handle(packet, at: now)
            }
            while let packet = toA.receive(at: now) {
                hadPackets = true
                a.engine.handle(packet, at: now)
            }
            if let deadline = a.engine.deadline, deadline <= now {
                a.engine.handleTimeout(at: now)
                hadPackets = true
                a.drain(at: now)
                Self.flush(&a.batch, into: &toZ, at: now, tap)
            }
            if let deadline = z.engine.deadline, deadline <= now {
                z.engine.handleTimeout(at: now)
                hadPackets = true
                z.drain(at: now)
                Self.flush(&z.batch, into: &toA, at: now)
            }
        }
        // no deadline stands in the past once everything due was done
        #expect(a.engine.deadline.map { $0 >= now } ?? true)
        #expect(z.engine.deadline.map { $0 >= now } ?? true)
        let next = earliest(earliest(a.engine.deadline, z.engine.deadline), earliest(toZ.deadline, toA.deadline))
        guard let next else { return false }
        now = min(max(next, now), limit)
        return true
    }

    static func flush(_ batch: inout PacketBatch, into link: inout Link, at now: Instant, _ tap: ((ByteBuffer) -> Void)? = nil) {
        for index in 0..<batch.count {
            guard let packet = batch.packet(index) else { continue }
            tap?(packet)
            link.send(packet, at: now)
        }
        batch.removeAll()
    }

    /// Steps until the condition holds; fails the test when it never does.
    func run(for time: Duration = .seconds(60), until isDone: (Pair) -> Bool = { _ in false }) {
        let limit = now + time
        while now < limit {
            if isDone(self) { return }
            guard step(until: limit) else { break }
        }
        _ = step(until: limit)
    }

    func connect() {
        run { $0.a.isConnected && $0.z.isConnected }
        #expect(a.isConnected)
        #expect(z.isConnected)
    }
}

/// Bytes that show where they came from.
func pattern(_ count: Int, _ seed: Int) -> ByteBuffer {
    var generator = SplitMix64(seed: UInt64(truncatingIfNeeded: seed) &* 77 &+ 5)
    var buffer = ByteBuffer()
    buffer.reserveCapacity(count + 8)
    while buffer.readableBytes < count { buffer.writeInteger(generator.next()) }
    return buffer.getSlice(at: 0, length: count) ?? ByteBuffer()
}
