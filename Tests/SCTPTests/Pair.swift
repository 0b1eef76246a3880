import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

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
    let name: String
    var engine: DataChannelEngine
    var batch = PacketBatch()
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
    private var untaken: [(ChannelHandle, Int)] = []
    var mostHeld = 0
    /// Called for each channel that the peer opened.
    var onChannel: ((ChannelHandle, Instant) -> Void)?

    init(_ name: String, _ configuration: Configuration, seed: UInt64) {
        self.name = name
        engine = DataChannelEngine(configuration: configuration, generator: SplitMix64(seed: seed), cookieAuthenticator: cookieCode(seed))
    }

    var isOver: Bool { isDisconnected || failure != nil }

    /// Nothing is to be sent and nothing waits for its acknowledgement.
    var isIdle: Bool { engine.association.sendQueue.isEmpty && engine.association.inFlight.isEmpty }

    func drain(at now: Instant) {
        while let event = engine.poll(at: now, into: &batch) {
            switch event {
            case .connected: isConnected = true
            case .channel(let handle):
                incoming.append(handle)
                onChannel?(handle, now)
            case .opened(let handle): opened.append(handle)
            case .message(let handle, let bytes, let isText):
                messages[handle, default: []].append((bytes, isText))
                if consumes { engine.consume(bytes.readableBytes, on: handle, at: now) } else { untaken.append((handle, bytes.readableBytes)) }
            case .bufferedAmountLow(let handle): low.append(handle)
            case .allAcknowledged(let handle): acknowledged.append(handle)
            case .closed(let handle): closed.append(handle)
            case .failed(let error): failure = error
            case .disconnected: isDisconnected = true
            }
        }
        mostHeld = max(mostHeld, held)
    }

    func consumeAll(at now: Instant) {
        for (handle, count) in untaken { engine.consume(count, on: handle, at: now) }
        untaken = []
    }

    /// Messages received on all channels.
    var messageCount: Int { messages.values.reduce(0) { $0 + $1.count } }

    /// Bytes in reassembly and in the application's hands.
    var held: Int { engine.association.reassembly.bytesHeld + engine.association.deliveredCharge }

    /// Changes whenever bytes of this end are acknowledged or bytes for it arrive.
    var progress: UInt64 { engine.association.inFlight.cumulative &+ UInt64(engine.association.counters.payloadBytesReceived) }
}

/// Two engines and the links between them, in virtual time. After every step it checks what must hold at all times.
final class Pair {
    let seed: UInt64
    var a: End
    var z: End
    var toZ: Link
    var toA: Link
    var now = Instant.zero
    var steps = 0
    /// Sees every packet to Z.
    var tap: ((ByteBuffer) -> Void)?
    /// Packets for which it is true vanish before the link.
    var losesToZ: ((ByteBuffer) -> Bool)?
    var losesToA: ((ByteBuffer) -> Bool)?
    /// The longest time for which data waited and not a byte of it arrived or was acknowledged, either way.
    private(set) var longestStall: Duration = .zero
    private var progress: UInt64 = 0
    private var progressedAt = Instant.zero
    /// Each kind of trouble is told once.
    private var told: Set<String> = []

    init(
        seed: UInt64, conditions: LinkConditions = .init(), a configurationA: Configuration = .init(), z configurationZ: Configuration = .init(),
        connect: Bool = true
    ) {
        self.seed = seed
        a = End("A", configurationA, seed: seed)
        z = End("Z", configurationZ, seed: seed &+ 1)
        toZ = Link(conditions, seed: seed &+ 2)
        toA = Link(conditions, seed: seed &+ 3)
        a.engine.setRole(isDTLSClient: true)
        z.engine.setRole(isDTLSClient: false)
        if connect {
            a.engine.connect(at: now)
            z.engine.connect(at: now)
        }
    }

    /// Both ways.
    func setConditions(_ change: (inout LinkConditions) -> Void) {
        change(&toZ.conditions)
        change(&toA.conditions)
    }

    /// Everything due now, then on to the next thing that happens. False when nothing will ever happen by itself.
    func step(until limit: Instant) -> Bool {
        steps += 1
        var rounds = 0
        var hadPackets = true
        while hadPackets {
            hadPackets = false
            rounds += 1
            if rounds > 10_000 {
                tell("the engines are never done at \(now)")
                return false
            }
            a.drain(at: now)
            z.drain(at: now)
            flush()
            while let packet = toZ.receive(at: now) {
                hadPackets = true
                z.engine.handle(packet, at: now)
            }
            while let packet = toA.receive(at: now) {
                hadPackets = true
                a.engine.handle(packet, at: now)
            }
            for end in [a, z] {
                guard let deadline = end.engine.deadline, deadline <= now else { continue }
                end.engine.handleTimeout(at: now)
                hadPackets = true
                end.drain(at: now)
            }
            flush()
        }
        check(a)
        check(z)
        watchProgress()
        let next = earliest(earliest(a.engine.deadline, z.engine.deadline), earliest(toZ.deadline, toA.deadline))
        guard let next else { return false }
        now = min(max(next, now), limit)
        return true
    }

    private func flush() {
        Self.flush(&a.batch, into: &toZ, at: now, losing: losesToZ, tap)
        Self.flush(&z.batch, into: &toA, at: now, losing: losesToA)
    }

    static func flush(
        _ batch: inout PacketBatch, into link: inout Link, at now: Instant, losing: ((ByteBuffer) -> Bool)? = nil, _ tap: ((ByteBuffer) -> Void)? = nil
    ) {
        for index in 0..<batch.count {
            guard let packet = batch.packet(index) else { continue }
            tap?(packet)
            if losing?(packet) ?? false { continue }
            link.send(packet, at: now)
        }
        batch.removeAll()
    }

    /// Steps until the condition holds, or until the time is over.
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

    // MARK: What must hold at all times

    private func check(_ end: End) {
        // no deadline stands in the past once everything due was done
        if let deadline = end.engine.deadline, deadline < now { tell("\(end.name)'s deadline stands in the past", "at \(now)") }
        if let what = end.engine.association.unattended(at: now) {
            tell("\(end.name) has \(what), and no timer runs for it", "at \(now): \(end.engine.association.whatRuns)")
        }
        let configuration = end.engine.association.configuration
        let most = 2 * configuration.receiveWindow + min(configuration.maximumMessageSize, 4 << 20) + 1 << 17
        if end.held > most { tell("\(end.name) holds more than its window lets it", "\(end.held) bytes at \(now)") }
        if end.engine.association.tracker.ranges.count > configuration.maximumGaps { tell("\(end.name) remembers too many gaps", "at \(now)") }
    }

    private func tell(_ trouble: String, _ detail: String = "") {
        if told.insert(trouble).inserted { Issue.record("seed \(seed): \(trouble) \(detail)") }
    }

    private func watchProgress() {
        let new = a.progress &+ z.progress
        let waits = !a.engine.association.sendQueue.isEmpty || !z.engine.association.sendQueue.isEmpty
        if new != progress || !waits || !a.isConnected || !z.isConnected {
            progressedAt = now
        } else {
            longestStall = max(longestStall, now - progressedAt)
        }
        progress = new
    }
}

extension Association {
    /// What is left to do although nothing will ever remind us of it; nil when all is well. Heartbeats and probes of the path do not count: they come
    /// by seconds and minutes, and do nothing for data.
    func unattended(at now: Instant) -> String? {
        guard wakeAt == nil else { return nil }
        switch state {
        case .closed, .ended: return nil
        case .cookieWait, .cookieEchoed: return timers.isArmed(.handshake) ? nil : "a handshake under way"
        case .shutdownSent, .shutdownAckSent: if !timers.isArmed(.shutdown) { return "a shutdown under way" }
        case .shutdownPending, .shutdownReceived: if sendQueue.isEmpty && inFlight.isEmpty { return "a shutdown to go on with" }
        case .established: break
        }
        if !inFlight.sent.isEmpty || !inFlight.lost.isEmpty, !isRemindedOfData(at: now) { return "data in flight" }
        if advancedPoint > inFlight.cumulative, !timers.isArmed(.retransmission) { return "abandoned data in flight" }
        if state.maySendData, sendQueue.hasUnsent, !isRemindedOfData(at: now) { return "data to send" }
        if reset.open != nil, !timers.isArmed(.reconfiguration) { return "a stream reset under way" }
        if mayAskForReset { return "streams to reset" }
        if state.mayReceiveData, sackSchedule.isPending, !timers.isArmed(.sack) { return "data to acknowledge" }
        return nil
    }

    /// For whoever looks into it.
    var whatRuns: String {
        let running = Timer.allCases.compactMap { timer in timers[timer].map { "\(timer) \($0.nanoseconds)" } }.joined(separator: ", ")
        return "\(running); window \(congestion.window), in flight \(inFlight.bytes), peer's window \(peerWindow), rate \(congestion.pacingRate ?? 0)"
    }

    private func isRemindedOfData(at now: Instant) -> Bool {
        Timer.allCases.contains { timer in
            guard timer != .heartbeat, timer != .pathProbe, timer != .sack, let due = timers[timer] else { return false }
            return due <= now + configuration.maximumRetransmissionTimeout
        }
    }
}

/// Bytes that show where they came from.
func pattern(_ count: Int, _ seed: Int) -> ByteBuffer {
    let start = Int(UInt64(truncatingIfNeeded: seed) &* 7919 % UInt64(noiseLength))
    if count <= noiseLength { return noise.getSlice(at: start, length: count) ?? ByteBuffer() }
    var buffer = ByteBuffer()
    buffer.reserveCapacity(count)
    var part = start
    while buffer.readableBytes < count {
        buffer.writeImmutableBuffer(noise.getSlice(at: part % noiseLength, length: min(noiseLength, count - buffer.readableBytes)) ?? ByteBuffer())
        part += 104_729
    }
    return buffer
}

private let noiseLength = 1 << 19
private let noise: ByteBuffer = {
    var generator = SplitMix64(seed: 5)
    var buffer = ByteBuffer()
    for _ in 0..<2 * noiseLength / 8 { buffer.writeInteger(generator.next()) }
    return buffer
}()
