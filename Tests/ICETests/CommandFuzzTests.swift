import ICE
import NIOCore
import NetworkSimulator
import Testing
import Wire

@Suite("Any order of calls is legal")
struct CommandFuzzTests {
    /// Two agents whose verbs are called in random order, at random times, drained or not; datagrams are lost, held back, repeated and broken.
    @Test("No sequence of verbs traps, leaves a deadline in the past, grows without bound, or spins", arguments: 1...60 as ClosedRange<UInt64>)
    func verbs(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var now = Instant.zero
        let locals = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "fe80::1"].map { address($0, 5000) }
        let remotes = ["10.0.1.1", "10.0.1.2", "2001:db8::2", "0.0.0.0"].map { address($0, 6000) }
        let servers = [address("198.51.100.1", 3478)]
        var generation: UInt64 = 1
        func configuration(_ controlling: Bool, lite: Bool = false) -> IceAgent.Configuration {
            var configuration = IceAgent.Configuration(isControlling: controlling, localCredentials: IceWorld.credentials(seed * 2 + (controlling ? 0 : 1)))
            configuration.isLite = lite
            return configuration
        }
        var left = IceAgent(configuration: configuration(seed % 2 == 0), generator: SplitMix64(seed: seed))
        var right = IceAgent(configuration: configuration(seed % 3 == 0, lite: seed % 7 == 0), generator: SplitMix64(seed: seed + 1))
        var mail: [(toLeft: Bool, path: NetworkPath, datagram: ByteBuffer)] = []

        func pick<T>(_ choices: [T]) -> T { choices[Int(random.next() % UInt64(choices.count))] }
        func act(on agent: inout IceAgent, other: borrowing IceAgent, mine: [TransportAddress], theirs: [TransportAddress], isLeft: Bool) {
            switch random.next() % 16 {
            case 0, 1: agent.addLocalAddress(pick(mine), at: now)
            case 2: agent.endOfLocalAddresses(at: now)
            case 3 where random.next() % 4 == 0: agent.removeLocalAddress(pick(mine), at: now)
            case 4, 5: agent.setRemoteCredentials(other.localCredentials, isLite: other.configuration.isLite, at: now)
            case 6, 7:
                let priority = UInt32(truncatingIfNeeded: random.next())
                let fragment = random.next() % 2 == 0 ? nil : other.localCredentials.ufrag
                let kind = pick(IceCandidate.Kind.allCases)
                let candidate = IceCandidate(foundation: "1", priority: priority, address: .ip(pick(theirs)), kind: kind, usernameFragment: fragment)
                agent.addRemoteCandidate(candidate, at: now)
            case 8: agent.endOfRemoteCandidates(at: now)
            case 9 where random.next() % 8 == 0:
                generation += 1
                agent.restart(localCredentials: IceWorld.credentials(seed * 1000 + generation), at: now)
            case 10: agent.addStunServer(pick(servers), at: now)
            case 11: agent.noteReceived(path: NetworkPath(local: pick(mine), remote: pick(theirs)), at: now)
            case 12: agent.handleTimeout(at: now)
            default:
                var batch = DatagramBatch()
                while agent.poll(at: now, into: &batch) != nil {}
                for (index, path) in batch.paths.enumerated() {
                    let mirrored = NetworkPath(local: path.remote, remote: path.local)
                    if let datagram = batch.packets.packet(index), random.next() % 5 > 0 { mail.append((!isLeft, mirrored, datagram)) }
                }
            }
        }
        for _ in 0..<600 {
            if random.next() % 2 == 0 {
                act(on: &left, other: right, mine: locals, theirs: remotes, isLeft: true)
            } else {
                act(on: &right, other: left, mine: remotes, theirs: locals, isLeft: false)
            }
            if !mail.isEmpty, random.next() % 4 > 0 {
                let index = Int(random.next() % UInt64(mail.count))
                var letter = random.next() % 8 == 0 ? mail[index] : mail.remove(at: index)
                if random.next() % 16 == 0 { letter.datagram.setInteger(UInt8(truncatingIfNeeded: random.next()), at: Int(random.next() % 60)) }
                if letter.toLeft {
                    left.handle(letter.datagram, path: letter.path, at: now)
                } else {
                    right.handle(letter.datagram, path: letter.path, at: now)
                }
            }
            // time goes on, seldom far, and deadlines are met
            now += .microseconds(Int64(random.next() % (random.next() % 20 == 0 ? 8_000_000 : 5_000)))
            for _ in 0..<200 where left.deadline.map({ $0 <= now }) ?? false { left.handleTimeout(at: now) }
            for _ in 0..<200 where right.deadline.map({ $0 <= now }) ?? false { right.handleTimeout(at: now) }
            #expect(left.deadline.map { $0 >= now } ?? true, "deadline in the past, seed \(seed)")
            #expect(right.deadline.map { $0 >= now } ?? true, "deadline in the past, seed \(seed)")
            if left.state == .connected || left.state == .completed { #expect(left.selectedPath != nil) }
            #expect(left.localCandidates.count <= 64)
            if mail.count > 200 { mail.removeFirst(100) }
        }
        // without input both come to rest
        for _ in 0..<20_000 {
            guard let next = earliest(left.deadline, right.deadline) else { break }
            now = max(now, next)
            left.handleTimeout(at: now)
            right.handleTimeout(at: now)
            if now > .zero + .seconds(7200) { break }
        }
        #expect(![.connected, .completed].contains(left.state) && ![.connected, .completed].contains(right.state), "consent cannot outlive the peer")
    }
}
