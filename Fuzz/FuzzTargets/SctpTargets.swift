import NIOCore
import SCTP
import Wire

extension FuzzTarget {
    /// One packet after the other, each behind two bytes of length, to an engine that waits for a peer (checksums are put right): INIT, COOKIE ECHO and whatever else.
    static let sctpPackets = FuzzTarget(name: "sctp-packets") { input in
        var commands = Commands(input)
        var pair = EnginePair(checksums: false)
        var now = Instant.zero
        while !commands.isAtEnd {
            let length = Int(commands.byte()) << 8 | Int(commands.byte())
            pair.right.handle(withChecksum(commands.take(length)), at: now)
            now += .milliseconds(1)
            pair.settle(at: now)
            pair.toLeft.removeAll()
        }
    }

    /// Two engines, their channels, and a network that loses, repeats, swaps and damages packets as the bytes say. Strangers' chunks come with the right
    /// tag. As long as nothing was damaged or forged, each channel's messages arrive as they were sent.
    static let sctpEngines = FuzzTarget(name: "sctp-engines") { input in
        var commands = Commands(input)
        var pair = EnginePair(checksums: commands.byte() & 1 == 0)
        while !commands.isAtEnd { pair.perform(&commands) }
    }

    /// The same without strangers, damage and a sudden end. Then the network is mended, and within two minutes every reliable message has arrived, once.
    static let sctpDelivery = FuzzTarget(name: "sctp-delivery") { input in
        var commands = Commands(input)
        var pair = EnginePair(checksums: commands.byte() & 1 == 0)
        pair.isFair = true
        while !commands.isAtEnd { pair.perform(&commands) }
        pair.finish()
    }
}

/// The packet with the checksum that it should have (RFC 9260 appendix A): else nothing would get past it.
private func withChecksum(_ packet: ByteBuffer) -> ByteBuffer {
    guard packet.readableBytes >= 12 else { return packet }
    var packet = packet
    packet.setInteger(UInt32(0), at: packet.readerIndex + 8)
    var value = UInt32.max
    for byte in packet.readableBytesView {
        value ^= UInt32(byte)
        for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
    }
    packet.setInteger(~value, at: packet.readerIndex + 8, endianness: .little)
    return packet
}

private struct EnginePair: ~Copyable {
    var left: DataChannelEngine
    var right: DataChannelEngine
    var toRight: [ByteBuffer] = []
    var toLeft: [ByteBuffer] = []
    private var now = Instant.zero
    /// False once a packet was damaged or forged: SCTP under DTLS may take checksum zero, so it cannot tell.
    private var isHonest = true
    /// Nobody forges, damages or ends.
    var isFair = false
    private var leftSide = Side()
    private var rightSide = Side()
    private var lastHeaderToRight = ByteBuffer()

    /// What one application did and saw.
    struct Side {
        var channels: [ChannelHandle] = []
        /// Numbers of the messages sent and received, by label; each message carries its number.
        var sent: [String: UInt32] = [:]
        var received: [String: UInt32] = [:]
        /// Of unordered channels, one by one.
        var seen: [String: Set<UInt32>] = [:]
        var hasEnded = false
    }

    init(checksums: Bool) {
        func engine(_ seed: UInt64) -> DataChannelEngine {
            var configuration = Configuration()
            configuration.offerZeroChecksum = !checksums
            configuration.receiveWindow = 64 << 10
            configuration.maximumMessageSize = 32 << 10
            configuration.remoteMaximumMessageSize = 32 << 10
            configuration.maximumChannels = 16
            return DataChannelEngine(
                configuration: configuration, generator: SplitMix64(seed: seed), cookieAuthenticator: { _ in [UInt8](repeating: UInt8(seed), count: 32) })
        }
        left = engine(1)
        right = engine(2)
        left.setRole(isDTLSClient: true)
        right.setRole(isDTLSClient: false)
    }

    mutating func perform(_ commands: inout Commands) {
        switch commands.number(below: 18) {
        case 0: left.connect(at: now)
        case 1: right.connect(at: now)
        case 2, 3, 4: deliverToRight(commands.number(below: 8))
        case 5, 6, 7: deliverToLeft(commands.number(below: 8))
        case 8: advance(.milliseconds(Int(commands.byte()) * 2))
        case 9: advance(.seconds(Int(commands.byte())))
        case 10: open(ordered: commands.byte() & 1 == 0, limit: commands.byte())
        case 11: send(fromLeft: true, channel: commands.number(below: 4), size: Int(commands.byte()) * 160)
        case 12: send(fromLeft: false, channel: commands.number(below: 4), size: Int(commands.byte()) * 160)
        case 13: lose(commands.byte())
        case 14 where !isFair: damage(at: Int(commands.byte()))
        case 15 where !isFair: forge(commands.take(commands.number(below: 200)))
        case 14, 15: lose(commands.byte())
        case 16: closeChannel(commands.byte())
        default: if !isFair { end(commands.byte()) }
        }
        settle(at: now)
        checkBounds(left)
        checkBounds(right)
    }

    private func checkBounds(_ engine: borrowing DataChannelEngine) {
        let statistics = engine.statistics
        require(statistics.bytesInFlight >= 0 && statistics.receiveWindow >= 0 && statistics.peerReceiveWindow >= 0, "a negative window: \(statistics)")
        require(statistics.bytesHeld <= 3 * (64 << 10) + (32 << 10), "\(statistics.bytesHeld) bytes held")
    }

    /// A network that carries everything at last, until all has been said or two minutes are over.
    mutating func finish() {
        let end = now + .seconds(120)
        while now < end, !leftSide.hasEnded, !rightSide.hasEnded {
            if toRight.isEmpty, toLeft.isEmpty {
                if hasAll { return }
                guard let next = earliest(left.deadline, right.deadline), next <= end else { break }
                now = max(now + .microseconds(1), next)
            } else {
                now += .milliseconds(1)
            }
            let (right, left) = (toRight, toLeft)
            toRight = []
            toLeft = []
            for packet in right { self.right.handle(packet, at: now) }
            for packet in left { self.left.handle(packet, at: now) }
            self.left.handleTimeout(at: now)
            self.right.handleTimeout(at: now)
            settle(at: now)
        }
        guard left.isConnected, right.isConnected, !leftSide.hasEnded, !rightSide.hasEnded else { return }
        require(
            hasAll, "sent \(leftSide.sent) and \(rightSide.sent), received \(rightSide.received), \(rightSide.seen) and \(leftSide.received), \(leftSide.seen)")
    }

    private var hasAll: Bool { hasAll(of: leftSide, at: rightSide, by: left) && hasAll(of: rightSide, at: leftSide, by: right) }

    /// Whether everything reliable on channels that are still open has arrived.
    private func hasAll(of sender: Side, at receiver: Side, by engine: borrowing DataChannelEngine) -> Bool {
        for handle in sender.channels {
            guard let parameters = engine.parameters(of: handle), engine.state(of: handle) == .open, let count = sender.sent[parameters.label],
                parameters.maxRetransmits == nil, parameters.maxPacketLifeTime == nil
            else { continue }
            let arrived = parameters.ordered ? receiver.received[parameters.label, default: 0] : UInt32(receiver.seen[parameters.label, default: []].count)
            if arrived < count { return false }
        }
        return true
    }

    private mutating func open(ordered: Bool, limit: UInt8) {
        var parameters = ChannelParameters(label: "channel \(leftSide.channels.count)", ordered: ordered)
        if limit & 0xC0 == 0x40 { parameters.maxRetransmits = UInt32(limit & 7) }
        if limit & 0xC0 == 0x80 { parameters.maxPacketLifeTime = UInt32(limit & 63) * 10 }
        if let handle = try? left.open(parameters, at: now) { leftSide.channels.append(handle) }
    }

    private mutating func send(fromLeft: Bool, channel: Int, size: Int) {
        if fromLeft { Self.send(&left, &leftSide, channel, size, at: now) } else { Self.send(&right, &rightSide, channel, size, at: now) }
    }

    private static func send(_ engine: inout DataChannelEngine, _ side: inout Side, _ channel: Int, _ size: Int, at now: Instant) {
        guard channel < side.channels.count, let label = engine.parameters(of: side.channels[channel])?.label else { return }
        let number = side.sent[label, default: 0]
        var message = ByteBuffer(integer: number)
        message.writeRepeatingByte(UInt8(truncatingIfNeeded: number), count: size)
        if (try? engine.send(message, isText: false, on: side.channels[channel], at: now)) != nil { side.sent[label] = number + 1 }
    }

    private mutating func deliverToRight(_ position: Int) {
        guard position < toRight.count else { return }
        let packet = toRight.remove(at: position)
        if packet.readableBytes >= 12 { lastHeaderToRight = packet.getSlice(at: packet.readerIndex, length: 8) ?? ByteBuffer() }
        right.handle(packet, at: now)
    }

    private mutating func deliverToLeft(_ position: Int) {
        guard position < toLeft.count else { return }
        left.handle(toLeft.remove(at: position), at: now)
    }

    private mutating func lose(_ choice: UInt8) {
        if choice & 1 == 0 {
            if !toRight.isEmpty { toRight.removeFirst() }
        } else if let first = toLeft.first {
            // Twice instead of not at all.
            toLeft.append(first)
        }
    }

    private mutating func damage(at position: Int) {
        guard !toRight.isEmpty else { return }
        isHonest = false
        toRight[0] = toRight[0].damaged(at: position)
    }

    /// Chunks of the fuzzer's own behind a header with ports and tag that fit, and checksum zero.
    private mutating func forge(_ chunks: ByteBuffer) {
        guard lastHeaderToRight.readableBytes == 8 else { return }
        isHonest = false
        var packet = lastHeaderToRight
        packet.writeInteger(UInt32(0))
        packet.writeImmutableBuffer(chunks)
        right.handle(packet, at: now)
    }

    private mutating func closeChannel(_ choice: UInt8) {
        if choice & 1 == 0 {
            if let handle = leftSide.channels.first { left.close(handle, at: now) }
        } else if let handle = rightSide.channels.first {
            right.close(handle, at: now)
        }
    }

    private mutating func end(_ choice: UInt8) {
        switch choice {
        case 0...15: left.shutdown(at: now)
        case 16...31: right.shutdown(at: now)
        case 32...39: left.abort(at: now)
        default: break
        }
    }

    /// Stops at each deadline on the way.
    private mutating func advance(_ duration: Duration) {
        let end = now + duration
        for _ in 0..<64 {
            guard let next = earliest(left.deadline, right.deadline), next <= end else { break }
            now = max(now, next)
            for turn in 0... {
                left.handleTimeout(at: now)
                right.handleTimeout(at: now)
                settle(at: now)
                guard let next = earliest(left.deadline, right.deadline), next <= now else { break }
                require(turn < 128, "a deadline stays at \(next), now \(now)")
            }
        }
        now = max(now, end)
        left.handleTimeout(at: now)
        right.handleTimeout(at: now)
    }

    mutating func settle(at now: Instant) {
        drain(isLeft: true, at: now)
        drain(isLeft: false, at: now)
    }

    private mutating func drain(isLeft: Bool, at now: Instant) {
        var packets = PacketBatch()
        var events = 0
        while let event = isLeft ? left.poll(at: now, into: &packets) : right.poll(at: now, into: &packets) {
            events += 1
            require(events < 100_000, "events without end")
            see(event, isLeft: isLeft, at: now)
        }
        for index in 0..<packets.count {
            guard let packet = packets.packet(index) else { continue }
            require(packet.readableBytes <= Configuration().maximumPacketSize, "a packet of \(packet.readableBytes) bytes")
            if isLeft { toRight.append(packet) } else { toLeft.append(packet) }
        }
        // A network holds so much and no more.
        if toRight.count > 512 { toRight.removeFirst(toRight.count - 512) }
        if toLeft.count > 512 { toLeft.removeFirst(toLeft.count - 512) }
    }

    private mutating func see(_ event: DataChannelEngine.Event, isLeft: Bool, at now: Instant) {
        switch event {
        case .channel(let handle):
            if isLeft { leftSide.channels.append(handle) } else { rightSide.channels.append(handle) }
        case .message(let handle, let message, _):
            let parameters = isLeft ? left.parameters(of: handle) : right.parameters(of: handle)
            if isHonest, let parameters { check(message, parameters, isLeft: isLeft) }
            if isLeft { left.consume(message.readableBytes, on: handle, at: now) } else { right.consume(message.readableBytes, on: handle, at: now) }
        case .failed, .disconnected:
            require(!(isLeft ? leftSide.hasEnded : rightSide.hasEnded), "the end comes twice")
            if isLeft { leftSide.hasEnded = true } else { rightSide.hasEnded = true }
        default: break
        }
    }

    private mutating func check(_ message: ByteBuffer, _ parameters: ChannelParameters, isLeft: Bool) {
        guard let number = message.getInteger(at: message.readerIndex, as: UInt32.self) else { fatalError("a message without its number") }
        let content = message.getSlice(at: message.readerIndex + 4, length: message.readableBytes - 4)
        require(content == ByteBuffer(repeating: UInt8(truncatingIfNeeded: number), count: message.readableBytes - 4), "message \(number) has other bytes")
        let sent = (isLeft ? rightSide : leftSide).sent[parameters.label, default: 0]
        require(number < sent, "message \(number) was never sent")
        guard parameters.ordered else {
            let isNew =
                isLeft
                ? leftSide.seen[parameters.label, default: []].insert(number).inserted : rightSide.seen[parameters.label, default: []].insert(number).inserted
            require(isNew, "message \(number) on \(parameters.label) comes twice")
            return
        }
        let expected = (isLeft ? leftSide : rightSide).received[parameters.label, default: 0]
        let isReliable = parameters.maxRetransmits == nil && parameters.maxPacketLifeTime == nil
        require(isReliable ? number == expected : number >= expected, "message \(number) on \(parameters.label), \(expected) is next")
        if isLeft { leftSide.received[parameters.label] = number + 1 } else { rightSide.received[parameters.label] = number + 1 }
    }
}
