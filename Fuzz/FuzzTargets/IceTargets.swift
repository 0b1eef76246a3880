import ICE
import NIOCore
import Wire

extension FuzzTarget {
    /// A candidate line from signalling. What was read is written and read again the same.
    static let candidate = FuzzTarget(name: "candidate") { input in
        guard let candidate = try? IceCandidate(sdp: String(buffer: input)) else { return }
        let again = try? IceCandidate(sdp: candidate.sdp)
        require(again?.sdp == candidate.sdp, "a candidate changes when it is written and read")
    }

    /// One datagram as a STUN message, and as a question to the STUN server. What was read is written and read again the same.
    static let stun = FuzzTarget(name: "stun") { input in
        _ = StunServer.response(to: input, from: TransportAddress(ip: .v4(0xC000_0202), port: 5000))
        guard let message = try? StunMessage(parsing: input) else { return }
        let key = Array("password".utf8)
        _ = message.integrity(key: key)
        let written = message.encoded(.sha1(key: key))
        let again = try? StunMessage(parsing: written)
        require(again?.attributes == message.attributes, "a STUN message changes when it is written and read")
        require(again?.integrity(key: key) == .right, "our own MESSAGE-INTEGRITY is wrong")
    }

    /// Two agents and a network that loses, repeats, swaps and damages datagrams as the bytes say; strangers send what they like.
    static let iceAgents = FuzzTarget(name: "ice-agents") { input in
        var commands = Commands(input)
        var world = AgentWorld(first: commands.byte())
        while !commands.isAtEnd { world.perform(&commands) }
    }
}

private struct AgentWorld: ~Copyable {
    private var left: IceAgent
    private var right: IceAgent
    private var now = Instant.zero
    private var toRight: [(ByteBuffer, NetworkPath)] = []
    private var toLeft: [(ByteBuffer, NetworkPath)] = []
    private static let leftAddress = TransportAddress(ip: .v4(0x0A00_0001), port: 1000)
    private static let rightAddress = TransportAddress(ip: .v4(0x0A00_0002), port: 2000)

    init(first: UInt8) {
        func agent(_ bit: UInt8, controlling: Bool) -> IceAgent {
            var generator = SplitMix64(seed: UInt64(bit) + 1)
            var configuration = IceAgent.Configuration(isControlling: controlling, localCredentials: .random(using: &generator))
            configuration.isLite = first & (bit << 2) != 0
            return IceAgent(configuration: configuration, generator: generator)
        }
        // Both controlling or both controlled: a conflict to be resolved.
        left = agent(1, controlling: first & 1 != 0)
        right = agent(2, controlling: first & 2 != 0)
    }

    mutating func perform(_ commands: inout Commands) {
        switch commands.number(below: 16) {
        case 0: left.addLocalAddress(Self.leftAddress, at: now)
        case 1: right.addLocalAddress(Self.rightAddress, at: now)
        case 2: left.setRemoteCredentials(right.localCredentials, at: now)
        case 3: right.setRemoteCredentials(left.localCredentials, at: now)
        case 4: for candidate in right.localCandidates { left.addRemoteCandidate(candidate, at: now) }
        case 5: for candidate in left.localCandidates { right.addRemoteCandidate(candidate, at: now) }
        case 6: advance(.milliseconds(Int(commands.byte()) * 4))
        case 7: advance(.seconds(Int(commands.byte())))
        case 8, 9: Self.deliver(&toRight, position: commands.number(below: 4), to: &right, at: now)
        case 10, 11: Self.deliver(&toLeft, position: commands.number(below: 4), to: &left, at: now)
        case 12: if !toRight.isEmpty { toRight[0].0 = toRight[0].0.damaged(at: Int(commands.byte())) }
        case 13: if let first = toLeft.first { toLeft.append(first) }
        case 14:
            let datagram = commands.take(commands.number(below: 256))
            left.handle(datagram, path: NetworkPath(local: Self.leftAddress, remote: TransportAddress(ip: .v4(7), port: UInt16(commands.byte()))), at: now)
        default: endOrRestart(commands.byte())
        }
        settle()
    }

    private mutating func endOrRestart(_ choice: UInt8) {
        switch choice % 4 {
        case 0: left.endOfLocalAddresses(at: now)
        case 1: right.endOfLocalAddresses(at: now)
        case 2:
            var generator = SplitMix64(seed: UInt64(choice))
            left.restart(localCredentials: .random(using: &generator), at: now)
        default: left.close(at: now)
        }
    }

    /// Stops at each deadline on the way.
    private mutating func advance(_ duration: Duration) {
        let end = now + duration
        for _ in 0..<64 {
            guard let next = earliest(left.deadline, right.deadline), next <= end else { break }
            now = max(now, next)
            doWhatIsDue()
            settle()
        }
        now = max(now, end)
        doWhatIsDue()
    }

    private mutating func doWhatIsDue() {
        left.handleTimeout(at: now)
        right.handleTimeout(at: now)
        let next = earliest(left.deadline, right.deadline)
        require(next.map { $0 > now } ?? true, "a deadline stays at \(now); left \(left.state), right \(right.state)")
    }

    private static func deliver(_ queue: inout [(ByteBuffer, NetworkPath)], position: Int, to agent: inout IceAgent, at now: Instant) {
        guard position < queue.count else { return }
        let (datagram, path) = queue.remove(at: position)
        agent.handle(datagram, path: NetworkPath(local: path.remote, remote: path.local), at: now)
    }

    private mutating func settle() {
        Self.drain(&left, into: &toRight, at: now)
        Self.drain(&right, into: &toLeft, at: now)
    }

    private static func drain(_ agent: inout IceAgent, into queue: inout [(ByteBuffer, NetworkPath)], at now: Instant) {
        var batch = DatagramBatch()
        var events = 0
        while agent.poll(at: now, into: &batch) != nil {
            events += 1
            require(events < 10_000, "events without end")
        }
        for (index, path) in batch.paths.enumerated() { if let packet = batch.packets.packet(index) { queue.append((packet, path)) } }
        // A network holds so much and no more.
        if queue.count > 32 { queue.removeFirst(queue.count - 32) }
    }
}
