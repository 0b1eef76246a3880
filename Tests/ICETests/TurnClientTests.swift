import ICE
import NIOCore
import Testing
import Wire

@Suite("TURN client")
struct TurnClientTests {
    private static let allocation = TurnClient.Allocation(relayed: [TurnWorld.relayed], mapped: TurnWorld.mapped)

    @Test("RFC 8656 §7: an allocation after the challenge, in two round trips", arguments: [TurnClient.Transport.udp, .tcp, .tls])
    func allocates(transport: TurnClient.Transport) {
        let world = TurnWorld(transport: transport)
        world.allocate()
        #expect(world.client.allocation == Self.allocation)
        #expect(world.now == Instant.zero + world.delay * 4)
        #expect(world.requests.map(\.method) == [3, 3])
    }

    @Test("RFC 8489 §6.2.1: every second datagram is lost, either way; it takes longer and works", arguments: [0, 1])
    func losses(phase: Int) {
        let world = TurnWorld()
        world.losesRequest = { $0 % 2 == phase }
        world.losesAnswer = { $0 % 2 == phase }
        world.client.start(at: .zero)
        #expect(world.run(.seconds(20)) { world.client.allocation != nil })
        #expect(world.client.counters.retransmissions > 0)
        // data is sent once, and what of it is lost is SCTP's business
        for _ in 0..<20 where world.relayedToPeers.isEmpty {
            world.send("\u{80}data")
            world.run(.milliseconds(1300))
        }
        #expect(!world.relayedToPeers.isEmpty)
    }

    @Test("No answer at all: failed after the last retransmission, not before, and nothing is due any more", arguments: [TurnClient.Transport.udp, .tcp])
    func silence(transport: TurnClient.Transport) {
        let world = TurnWorld(transport: transport)
        world.losesRequest = { _ in true }
        world.client.start(at: .zero)
        world.run(.seconds(60))
        #expect(world.errors == [.timedOut])
        let limit: Duration = transport == .udp ? .milliseconds(500 + 1000 + 2000 * 5) : .seconds(10)
        #expect(world.events.last?.at == Instant.zero + limit)
        #expect(world.client.deadline == nil)
    }

    @Test("RFC 8489 §9.2.5: a stale nonce is renewed without anybody noticing")
    func staleNonce() {
        let world = TurnWorld()
        world.nonceLifetime = .seconds(30)
        world.allocate()
        world.run(.seconds(3600))
        #expect(world.client.allocation == Self.allocation && world.errors.isEmpty)
        #expect(world.client.counters.staleNonces >= 6)
    }

    @Test("A server that calls every nonce stale is not argued with for ever")
    func alwaysStale() {
        let world = TurnWorld()
        world.nonceLifetime = .zero
        world.client.start(at: .zero)
        world.run(.seconds(60))
        #expect(world.errors == [.refused(code: 438, reason: "")])
        #expect(world.requests.count <= 5)
    }

    @Test("RFC 8489 §9.2.4: SHA-256 where the server offers it, and the list goes back as it came")
    func sha256() {
        let world = TurnWorld()
        world.algorithms = [0, 2, 0, 0, 0, 1, 0, 0]
        world.allocate()
        #expect(world.client.allocation == Self.allocation)
        world.send("\u{80}x")
        #expect(world.run(.seconds(1)) { world.relayedToPeers.count == 1 })
    }

    @Test("A wrong password is told as such, at once")
    func wrongPassword() {
        let world = TurnWorld(password: "other")
        world.client.start(at: .zero)
        world.run(.seconds(1))
        #expect(world.errors == [.unauthorized("")])
        #expect(world.requests.count == 2)
    }

    @Test(
        "Error codes become reasons (RFC 8656 §19)",
        arguments: [
            (486, TurnError.quotaReached), (508, .insufficientCapacity), (403, .forbidden("no")), (442, .refused(code: 442, reason: "no")),
            (500, .refused(code: 500, reason: "no")),
        ])
    func refused(code: Int, error: TurnError) {
        let world = TurnWorld()
        world.refusal = { $0 == StunMessage.allocate && $1 == 1 ? (code, "no") : nil }
        world.client.start(at: .zero)
        world.run(.seconds(1))
        #expect(world.errors == [error])
    }

    @Test("RFC 8656 §7.4: 437, so what a process before us left on the port is given back, and asked for again")
    func clearsPort() {
        let world = TurnWorld()
        world.allocationEnds = .zero + .seconds(600)
        world.refusal = { $0 == StunMessage.allocate && $1 == 1 ? (437, "") : nil }
        world.allocate()
        #expect(world.client.allocation == Self.allocation)
        #expect(world.requests.map(\.method) == [3, 3, 4, 3])
    }

    @Test("440: no IPv4 there, so IPv6 is asked for")
    func otherFamily() {
        let world = TurnWorld()
        world.refusal = { $0 == StunMessage.allocate && $1 == 1 ? (440, "") : nil }
        world.allocate()
        #expect(world.client.allocation == Self.allocation)
    }

    @Test("RFC 8489 §10: 300 leads to another server, with a new challenge; and not in circles")
    func redirected() {
        let world = TurnWorld()
        world.refusal = { $0 == StunMessage.allocate && $1 == 0 ? (300, "") : nil }
        world.client.start(at: .zero)
        world.run(.seconds(1))
        #expect(world.events.map(\.event) == [.redirected(address("203.0.113.10", 3478), domain: nil)])
        world.allocate()
        #expect(world.client.allocation == Self.allocation)

        let circle = TurnWorld()
        circle.refusal = { method, _ in method == StunMessage.allocate ? (300, "") : nil }
        for _ in 0..<10 {
            circle.client.start(at: circle.now)
            circle.run(.seconds(1))
        }
        #expect(circle.errors == [.redirectedTooOften])
        #expect(circle.requests.count == 6)
    }

    // MARK: Forged answers

    @Test("RFC 8489 §9.2.5: an unsigned success, an unsigned error and one for another transaction change nothing", arguments: [0, 1, 2, 3])
    func forged(kind: Int) {
        let world = TurnWorld()
        world.tampers = { answer in
            guard answer.messageClass == .success else { return nil }
            var forged = answer
            switch kind {
            case 0: forged.attributes = [.xorRelayedAddress(address("6.6.6.6", 6)), .xorMappedAddress(address("6.6.6.6", 6)), .lifetime(600)]
            case 1: (forged.messageClass, forged.attributes) = (.error, [.errorCode(486, "forged")])
            case 2: (forged.messageClass, forged.attributes) = (.error, [.errorCode(437, "forged")])
            default: forged.transactionID = StunTransactionID(high: 9, low: 9)
            }
            return forged
        }
        world.allocate()
        #expect(world.client.allocation == Self.allocation)
        world.send("\u{80}x")
        world.run(.seconds(1200))
        #expect(world.client.allocation == Self.allocation && world.errors.isEmpty)
        #expect(world.client.counters.unauthenticated + world.client.counters.unmatchedResponses > 2)
    }

    @Test("A server that does not sign its errors is told from one that is silent")
    func unsigned() {
        let world = TurnWorld()
        world.signs = false
        world.refusal = { $0 == StunMessage.allocate && $1 > 0 ? (486, "") : nil }
        world.client.start(at: .zero)
        world.run(.seconds(60))
        #expect(world.errors == [.unsignedError(code: 486)])
    }

    @Test("Data from addresses and channels that nobody asked for is counted and dropped")
    func unexpectedData() {
        let world = TurnWorld()
        world.allocate()
        world.inject(
            StunMessage(
                .indication, method: StunMessage.dataIndication, transactionID: StunTransactionID(high: 1, low: 1),
                attributes: [.xorPeerAddress(address("6.6.6.6", 6)), .data([1])]
            ).encoded())
        world.inject(bytes("40 00 00 01 ff"))
        world.inject(bytes("40 00 00 09 ff"))
        world.inject(bytes("00 17 00"))
        #expect(world.received.isEmpty)
        #expect(world.client.counters.unexpectedData == 2 && world.client.counters.malformed == 2)
    }

    // MARK: Data

    @Test("RFC 8656 §11, §12: the first datagrams wait for the permission and go as indications, later ones by a channel; both ways")
    func data() {
        let world = TurnWorld()
        world.allocate()
        world.send("\u{1}check")
        world.send("\u{1}check 2")
        world.run(.seconds(1))
        #expect(world.relayedToPeers.map { String(buffer: $0.datagram) } == ["\u{1}check", "\u{1}check 2"])
        #expect(world.requests.map(\.method) == [3, 3, 8], "checks cost no channel")
        world.peerSends("from an indication")
        world.run(.seconds(1))
        world.send("\u{80}data")
        world.run(.seconds(1))
        world.send("\u{80}data 2")
        world.peerSends("from a channel")
        world.run(.seconds(1))
        #expect(world.relayedToPeers.suffix(2).map(\.isChannel) == [false, true])
        #expect(world.received.map { String(buffer: $0.datagram) } == ["from an indication", "from a channel"])
        #expect(world.received.allSatisfy { $0.path == NetworkPath(local: TurnWorld.relayed, remote: TurnWorld.peer) })
        #expect(world.dropped == 0)
    }

    @Test("RFC 8656 §9, §12: an hour of traffic; permissions each 4 minutes, channels each 9, the allocation each 9, and not one datagram dropped")
    func refreshes() {
        let world = TurnWorld()
        world.allocate()
        for _ in 0..<3600 {
            world.send("\u{80}x")
            world.run(.seconds(1))
        }
        #expect(world.dropped == 0 && world.client.counters.datagramsDropped == 0)
        #expect(world.relayedToPeers.count == 3600)
        func times(_ method: UInt16) -> [Int] { world.requests.filter { $0.method == method }.map { Int(($0.at - .zero).components.seconds) } }
        #expect(times(StunMessage.createPermission).count == 15 && times(StunMessage.createPermission)[1] == 240)
        #expect(times(StunMessage.channelBind).count == 7 && times(StunMessage.channelBind)[1] == 540)
        #expect(times(StunMessage.refresh).count == 6 && times(StunMessage.refresh)[0] == 540)
    }

    @Test("A peer that is silent for long costs nothing; the next datagram renews what has ended", arguments: [250, 299, 310, 620, 2000])
    func silentPeer(seconds: Int) {
        let world = TurnWorld()
        world.allocate()
        world.send("\u{80}x")
        world.run(.seconds(seconds))
        let before = world.relayedToPeers.count
        #expect(world.requests.filter { $0.method == StunMessage.createPermission }.count == 1)
        for _ in 0..<3 {
            world.send("\u{80}again")
            world.run(.seconds(1))
        }
        #expect(world.relayedToPeers.count - before >= 2)
        #expect(world.requests.filter { $0.method == StunMessage.createPermission }.count == 2)
    }

    @Test("403 for a peer: it is told, what waited is dropped, others go on, and the peer is asked for again later")
    func permissionRefused() {
        let world = TurnWorld()
        world.refusal = { $0 == StunMessage.createPermission && $1 == 0 ? (403, "private") : nil }
        world.allocate()
        world.send("\u{80}x")
        world.run(.seconds(1))
        #expect(world.events.last?.event == .peerRefused(TurnWorld.peer.ip, .forbidden("private")))
        world.send("\u{80}x", to: address("192.0.2.34", 1))
        world.run(.seconds(1))
        #expect(world.relayedToPeers.map(\.peer.ip) == [ip("192.0.2.34")])
        world.run(.seconds(31))
        world.send("\u{80}x")
        world.run(.seconds(1))
        #expect(world.relayedToPeers.last?.peer == TurnWorld.peer)
    }

    @Test("A channel that is refused: indications go on")
    func channelRefused() {
        let world = TurnWorld()
        world.refusal = { method, _ in method == StunMessage.channelBind ? (508, "") : nil }
        world.allocate()
        for _ in 0..<100 {
            world.send("\u{80}x")
            world.run(.seconds(1))
        }
        #expect(world.relayedToPeers.count == 100 && world.relayedToPeers.allSatisfy { !$0.isChannel })
        #expect(world.client.counters.channelsRefused == 4, "asked for again each half minute")
    }

    @Test("RFC 8656 §12.5: over a stream ChannelData is padded to four bytes, and cut out again; over UDP it is not", arguments: [0, 1, 2, 3, 4, 5, 1439])
    func padding(size: Int) throws {
        for transport in [TurnClient.Transport.udp, .tcp] {
            let world = TurnWorld(transport: transport)
            world.allocate()
            world.send("\u{80}x")
            world.run(.seconds(1))
            var batch = PacketBatch()
            let datagram = ByteBuffer(repeating: 0xAB, count: size)
            world.client.send(datagram, to: TurnWorld.peer, at: world.now, into: &batch)
            #expect(batch.bytes.readableBytes == 4 + size + (transport == .tcp ? -size & 3 : 0))
            guard transport == .tcp else { continue }
            // any cut of two messages gives the same two
            var whole = batch.bytes
            whole.writeImmutableBuffer(StunMessage(.indication, method: 7, transactionID: StunTransactionID(high: 1, low: 1)).encoded())
            for cut in 0...min(whole.readableBytes, 64) {
                var stream = TurnStream()
                var found: [Int] = []
                for piece in [whole.getSlice(at: 0, length: cut), whole.getSlice(at: cut, length: whole.readableBytes - cut)] {
                    stream.append(try #require(piece))
                    while let message = try stream.next() { found.append(message.readableBytes) }
                }
                #expect(found == [4 + size, 28])
            }
        }
    }

    @Test("What is neither STUN nor ChannelData ends a stream", arguments: ["80 00 00 00", "c0 00 00 00"])
    func brokenStream(hex: String) {
        var stream = TurnStream()
        stream.append(bytes(hex))
        #expect(throws: TurnStream.BrokenError.self) { try stream.next() }
    }

    @Test("Peers beyond the bound push out the one that was sent to least lately")
    func manyPeers() {
        let world = TurnWorld { $0.maximumPeers = 8 }
        world.allocate()
        for number in 0..<100 {
            world.send("\u{1}check", to: address("192.0.2.\(number + 1)", 9))
            world.run(.milliseconds(100))
        }
        #expect(world.relayedToPeers.count == 100)
        #expect(world.client.counters.datagramsDropped == 0)
    }

    // MARK: The end

    @Test("RFC 8656 §8: close gives the allocation back, whatever gets lost", arguments: [false, true])
    func close(isLossy: Bool) {
        let world = TurnWorld()
        world.allocate()
        world.nonceLifetime = .zero + .milliseconds(1)
        world.client.close(at: world.now)
        world.nonceLifetime = .seconds(1000)
        if isLossy { world.losesAnswer = { $0 % 2 == 1 } }
        world.run(.seconds(10))
        #expect(world.allocationEnds == nil)
        #expect(world.client.state == .closed && world.events.last?.event == .closed)
        world.send("\u{80}x")
        world.client.start(at: world.now)
        #expect(world.client.deadline == nil && world.relayedToPeers.isEmpty)
    }

    @Test("The server forgot the allocation: it is lost, and told once")
    func forgotten() {
        let world = TurnWorld()
        world.allocate()
        world.run(.seconds(100))
        world.allocationEnds = nil
        world.run(.seconds(600))
        #expect(world.errors.count == 1)
        guard case .allocationLost? = world.errors.first else {
            Issue.record("\(world.errors)")
            return
        }
    }

    @Test("The server is gone: the allocation is lost when its time is over, and not before")
    func serverGone() {
        let world = TurnWorld()
        world.allocate()
        let granted = world.now
        world.losesRequest = { _ in true }
        world.run(.seconds(1000))
        #expect(world.errors == [.allocationLost("it could not be refreshed in time")])
        #expect(world.events.last.map { $0.at - granted } == .seconds(600))
    }

    @Test("A short lifetime is refreshed at half of it")
    func shortLifetime() {
        let world = TurnWorld()
        world.lifetime = 8
        world.allocate()
        world.run(.seconds(60))
        #expect(world.errors.isEmpty && world.client.allocation != nil)
        #expect(world.requests.filter { $0.method == StunMessage.refresh }.count == 14)
    }

    @Test("What is TURN's is told from a Binding response that came the same way")
    func demultiplexing() {
        let id = StunTransactionID(high: 1, low: 1)
        #expect(!TurnClient.isTurn(StunMessage(.success, transactionID: id).encoded()))
        #expect(!TurnClient.isTurn(StunMessage(.error, transactionID: id).encoded()))
        for method in [StunMessage.allocate, 4, 8, 9] { #expect(TurnClient.isTurn(StunMessage(.error, method: method, transactionID: id).encoded())) }
        #expect(TurnClient.isTurn(StunMessage(.indication, method: 7, transactionID: id).encoded()))
        #expect(TurnClient.isTurn(bytes("40 00 00 00")) && !TurnClient.isTurn(bytes("16 fe fd")) && !TurnClient.isTurn(bytes("01")))
    }
}

@Suite("Relayed candidates")
struct RelayedCandidateTests {
    private func relayed(_ transport: TurnClient.Transport, _ port: UInt16) -> IceAgent.RelayedAddress {
        .init(
            address: address("203.0.113.9", port), mapped: address("198.51.100.7", 4000), base: transport == .udp ? address("10.0.0.2", 5000) : nil,
            server: address("203.0.113.1", 3478), transport: transport)
    }

    @Test("RFC 8445 §5.1.1.2: type relay, the mapped address related, the lowest priority; UDP before TCP before TLS; and srflx from the same answer")
    func candidates() throws {
        let world = IceWorld(seed: 1)
        let peer = world.addPeer("10.0.0.2", controlling: true)
        peer.agent.addLocalAddress(peer.bases[0], at: .zero)
        for (transport, port) in [(TurnClient.Transport.tls, 1 as UInt16), (.udp, 2), (.tcp, 3)] {
            peer.agent.addRelayedAddress(relayed(transport, port), at: .zero)
        }
        peer.agent.addRelayedAddress(relayed(.udp, 2), at: .zero)
        peer.agent.endOfLocalAddresses(at: .zero)
        world.drain(peer)
        #expect(peer.announced.map(\.kind) == [.host, .relay, .relay, .serverReflexive, .relay])
        let byPriority = peer.announced.sorted { $0.priority > $1.priority }
        #expect(byPriority.map { $0.transportAddress?.port } == [5000, 4000, 2, 3, 1])
        let relay = try #require(peer.announced.first { $0.kind == .relay })
        #expect(relay.relatedAddress == address("198.51.100.7", 4000))
        #expect(relay.sdp.contains("typ relay raddr 198.51.100.7 rport 4000"))
        #expect(relay.priority >> 24 == 0)
    }

    @Test("Checks go along the relayed path; an allocation that is lost fails its pairs, and the direct path stays")
    func lost() {
        let world = IceWorld(seed: 2)
        let peer = world.addPeer("10.0.0.2", controlling: true)
        peer.agent.addRelayedAddress(relayed(.udp, 2), at: .zero)
        peer.agent.endOfLocalAddresses(at: .zero)
        peer.agent.setRemoteCredentials(IceWorld.credentials(9), at: .zero)
        peer.agent.addRemoteCandidate(
            IceCandidate(foundation: "1", priority: 100, address: .ip(address("192.0.2.1", 9)), kind: .host), at: .zero)
        var batch = DatagramBatch()
        while peer.agent.poll(at: .zero, into: &batch) != nil {}
        #expect(batch.paths == [NetworkPath(local: address("203.0.113.9", 2), remote: address("192.0.2.1", 9))])
        peer.agent.removeLocalAddress(address("203.0.113.9", 2), at: .zero)
        #expect(peer.agent.localCandidates.isEmpty)
        batch.removeAll()
        peer.agent.handleTimeout(at: .zero + .seconds(1))
        while peer.agent.poll(at: .zero + .seconds(1), into: &batch) != nil {}
        #expect(batch.isEmpty)
    }
}
