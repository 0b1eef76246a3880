import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// Two data channel engines joined by two simulated links, in virtual time. After every step it checks what must hold at all times.
struct ChannelWorld: ~Copyable {
    enum Side { case a, z }

    struct Delivered: Equatable {
        var channel: ChannelHandle
        var bytes: ByteBuffer
        var isText: Bool
    }

    var a: DataChannelEngine
    var z: DataChannelEngine
    var aToZ: Link
    var zToA: Link
    private(set) var now = Instant(nanoseconds: 1_000_000)
    /// Set to false to let messages lie: their bytes keep the window shut.
    var aConsumes = true
    var zConsumes = true

    private(set) var deliveredToA: [Delivered] = []
    private(set) var deliveredToZ: [Delivered] = []
    private(set) var openedAtA: Set<ChannelHandle> = []
    private(set) var openedAtZ: Set<ChannelHandle> = []
    private(set) var acceptedByA: [ChannelHandle] = []
    private(set) var acceptedByZ: [ChannelHandle] = []
    private(set) var closedAtA: Set<ChannelHandle> = []
    private(set) var closedAtZ: Set<ChannelHandle> = []
    private(set) var endsOfA: [DataChannelEngine.Event] = []
    private(set) var endsOfZ: [DataChannelEngine.Event] = []
    private(set) var lowAtA: [ChannelHandle] = []
    private var packets = PacketBatch()
    private let window: Int

    init(
        seed: UInt64, conditions: LinkConditions = .init(), adjustA: (inout Configuration) -> Void = { _ in }, adjustZ: (inout Configuration) -> Void = { _ in }
    ) {
        var configurationA = Configuration()
        var configurationZ = Configuration()
        adjustA(&configurationA)
        adjustZ(&configurationZ)
        window = max(configurationA.receiveWindow, configurationZ.receiveWindow)
        a = DataChannelEngine(configuration: configurationA, generator: SplitMix64(seed: seed &* 3 &+ 1), cookieAuthenticator: Self.authenticate)
        z = DataChannelEngine(configuration: configurationZ, generator: SplitMix64(seed: seed &* 3 &+ 2), cookieAuthenticator: Self.authenticate)
        aToZ = Link(conditions, seed: seed &* 7 &+ 1)
        zToA = Link(conditions, seed: seed &* 7 &+ 2)
        a.setRole(isDTLSClient: true)
        z.setRole(isDTLSClient: false)
    }

    /// Not a secure code: the simulation forges no cookies.
    private static let authenticate: @Sendable (ByteBuffer) -> [UInt8] = { cookie in
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in cookie.readableBytesView { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return (0..<4).flatMap { _ in withUnsafeBytes(of: hash) { Array($0) } }
    }

    mutating func connect() {
        a.connect(at: now)
        z.connect(at: now)
        settle()
    }

    /// Runs until `condition` holds; records an issue when `limit` of virtual time passes first.
    mutating func run(
        until limit: Duration, _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation,
        _ condition: (borrowing ChannelWorld) -> Bool
    ) {
        let end = now + limit
        settle()
        while !condition(self) {
            guard let next = deadline, next <= end else {
                Issue.record(
                    "\(what): not after \(limit); next deadline \(String(describing: deadline)), now \(now); A \(a.statistics); Z \(z.statistics)",
                    sourceLocation: sourceLocation)
                return
            }
            step(to: next)
        }
    }

    /// Lets virtual time pass.
    mutating func pass(_ time: Duration) {
        let end = now + time
        settle()
        while let next = deadline, next <= end { step(to: next) }
        now = max(now, end)
    }

    private var deadline: Instant? { earliest(earliest(a.deadline, z.deadline), earliest(aToZ.deadline, zToA.deadline)) }

    private mutating func step(to instant: Instant) {
        now = max(now, instant)
        while let packet = aToZ.receive(at: now) { z.handle(packet, at: now) }
        while let packet = zToA.receive(at: now) { a.handle(packet, at: now) }
        a.handleTimeout(at: now)
        z.handleTimeout(at: now)
        settle()
    }

    /// Drains both engines, then looks at the invariants.
    mutating func settle() {
        var rounds = 0
        repeat {
            drainA()
            drainZ()
            rounds += 1
            // what one poll could not write: the driver would come back at once
            if let due = a.deadline, due <= now { a.handleTimeout(at: now) }
            if let due = z.deadline, due <= now { z.handleTimeout(at: now) }
        } while rounds < 10_000 && (isDue(a.deadline) || isDue(z.deadline))
        #expect(rounds < 10_000, "an engine's deadline stands in the past")
        #expect(a.statistics.bytesHeld <= 2 * window + (1 << 17), "A holds more than its window: \(a.statistics.bytesHeld)")
        #expect(z.statistics.bytesHeld <= 2 * window + (1 << 17), "Z holds more than its window: \(z.statistics.bytesHeld)")
    }

    private func isDue(_ deadline: Instant?) -> Bool { deadline.map { $0 <= now } ?? false }

    private mutating func drainA() {
        packets.removeAll()
        while let event = a.poll(at: now, into: &packets) {
            switch event {
            case .message(let channel, let bytes, let isText):
                deliveredToA.append(.init(channel: channel, bytes: bytes, isText: isText))
                if aConsumes { a.consume(bytes.readableBytes, on: channel, at: now) }
            case .opened(let channel): openedAtA.insert(channel)
            case .channel(let channel): acceptedByA.append(channel)
            case .closed(let channel): closedAtA.insert(channel)
            case .failed, .disconnected: endsOfA.append(event)
            case .bufferedAmountLow(let channel): lowAtA.append(channel)
            case .connected, .allAcknowledged: break
            }
        }
        for index in 0..<packets.count { if let packet = packets.packet(index) { aToZ.send(packet, at: now) } }
    }

    private mutating func drainZ() {
        packets.removeAll()
        while let event = z.poll(at: now, into: &packets) {
            switch event {
            case .message(let channel, let bytes, let isText):
                deliveredToZ.append(.init(channel: channel, bytes: bytes, isText: isText))
                if zConsumes { z.consume(bytes.readableBytes, on: channel, at: now) }
            case .opened(let channel): openedAtZ.insert(channel)
            case .channel(let channel): acceptedByZ.append(channel)
            case .closed(let channel): closedAtZ.insert(channel)
            case .failed, .disconnected: endsOfZ.append(event)
            case .connected, .allAcknowledged, .bufferedAmountLow: break
            }
        }
        for index in 0..<packets.count { if let packet = packets.packet(index) { zToA.send(packet, at: now) } }
    }

    /// What Z was given lies in its hands from now on: the application takes it.
    mutating func consumeAllAtZ() {
        for message in deliveredToZ { z.consume(message.bytes.readableBytes, on: message.channel, at: now) }
        settle()
    }
}

/// A message that names itself: number, then bytes that follow from it.
func patternedMessage(_ number: Int, length: Int) -> ByteBuffer {
    var buffer = ByteBuffer()
    guard length > 0 else { return buffer }
    buffer.reserveCapacity(length + 8)
    var state = UInt64(number) &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(length)
    while buffer.readableBytes < length {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        buffer.writeInteger(state)
    }
    buffer.moveWriterIndex(to: length)
    return buffer
}
