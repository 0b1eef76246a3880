import Ciphers
import DTLS
import NIOCore
import NetworkSimulator
import Testing
import Wire

@Suite("DTLS handshake")
struct HandshakeTests {
    @Test("RFC 6347 §4.2: two peers with each other's fingerprint connect, agree on a SRTP profile and leave no timer behind")
    func connect() throws {
        var pair = try Pair()
        pair.connect()
        #expect(pair.client.events == [.connected(srtpProfile: "SRTP_AEAD_AES_128_GCM")])
        #expect(pair.server.events == [.connected(srtpProfile: "SRTP_AEAD_AES_128_GCM")])
        let deadlines = (pair.client.engine.deadline, pair.server.engine.deadline)
        #expect(deadlines.0 == nil && deadlines.1 == nil)
        let suite = pair.client.engine.cipherSuite
        #expect(suite == "ECDHE-ECDSA-AES128-GCM-SHA256")
        let retransmissions = pair.client.engine.counters.retransmissions + pair.server.engine.counters.retransmissions
        #expect(retransmissions == 0)
        #expect(pair.client.sizes.allSatisfy { $0 <= 1200 } && pair.server.sizes.allSatisfy { $0 <= 1200 })
        // four flights of one round trip each way, and nothing said twice
        #expect(pair.now == .zero + .milliseconds(4))
    }

    @Test("RFC 5705: both ends export the same key, other labels other keys, and nothing before the handshake")
    func exportedKeys() throws {
        var pair = try Pair()
        let early = pair.client.engine.exportKeyingMaterial(label: "EXTRACTOR-dtls_srtp", length: 60)
        #expect(early == nil)
        pair.connect()
        let one = pair.client.engine.exportKeyingMaterial(label: "EXTRACTOR-dtls_srtp", length: 60)
        let two = pair.server.engine.exportKeyingMaterial(label: "EXTRACTOR-dtls_srtp", length: 60)
        let other = pair.server.engine.exportKeyingMaterial(label: "EXTRACTOR-other", length: 60)
        #expect(one == two && one != other && one?.count == 60)
        let tooLong = pair.client.engine.exportKeyingMaterial(label: "x", length: 1 << 20)
        #expect(tooLong == nil)
    }

    @Test("peers with RSA certificates connect in both roles", arguments: [true, false])
    func rsa(atClient: Bool) throws {
        let rsa = try Certificates.rsa.get()
        var pair = try atClient ? Pair(clientCertificate: rsa) : Pair(serverCertificate: rsa)
        pair.connect()
        #expect(pair.client.engine.isConnected == true)
        #expect(pair.server.engine.isConnected == true)
    }

    @Test("RFC 8122 §6.2: a certificate that the description did not promise fails both ends", arguments: [true, false])
    func wrongFingerprint(clientIsDeceived: Bool) throws {
        let wrong = try [Certificates.other.get().fingerprint]
        var pair = try clientIsDeceived ? Pair(clientTrusts: wrong) : Pair(serverTrusts: wrong)
        pair.connect()
        #expect((clientIsDeceived ? pair.client.events : pair.server.events) == [.failed(.fingerprintMismatch)])
        // bad_certificate or its kin
        let peer = clientIsDeceived ? pair.server.events : pair.client.events
        guard case .failed(.alert)? = peer.first(where: { if case .failed = $0 { true } else { false } }) else {
            Issue.record("the peer was told nothing: \(peer)")
            return
        }
        #expect(pair.client.received.isEmpty && pair.server.received.isEmpty)
        var refused = false
        var records = PacketBatch()
        do { try pair.client.engine.seal(batch([[1, 2, 3]]), into: &records) } catch { refused = true }
        #expect(refused && records.isEmpty)
    }

    @Test("any of several fingerprints will do, and those of weaker hashes do not count")
    func severalFingerprints() throws {
        let server = try Certificates.server.get()
        let other = try Certificates.other.get()
        let sha512 = try #require(server.fingerprint(by: .sha512))
        let otherSha512 = try #require(other.fingerprint(by: .sha512))
        var good = try Pair(clientTrusts: [other.fingerprint, otherSha512, sha512])
        good.connect()
        #expect(good.client.engine.isConnected == true)
        var bad = try Pair(clientTrusts: [server.fingerprint, otherSha512])
        bad.connect()
        #expect(bad.client.events == [.failed(.fingerprintMismatch)])
    }

    @Test("what comes before the fingerprint is known waits for it, in both roles", arguments: [true, false])
    func earlyDatagrams(clientWaits: Bool) throws {
        var pair = try clientWaits ? Pair(clientTrusts: []) : Pair(serverTrusts: [])
        pair.start()
        pair.run(for: .milliseconds(50))
        #expect(!pair.client.engine.isConnected && !pair.server.engine.isConnected)
        if clientWaits {
            pair.client.engine.setRemoteFingerprints([try Certificates.server.get().fingerprint], at: pair.now)
        } else {
            pair.server.engine.setRemoteFingerprints([try Certificates.client.get().fingerprint], at: pair.now)
        }
        pair.flush()
        pair.run()
        #expect(pair.client.engine.isConnected && pair.server.engine.isConnected)
    }

    @Test("the queue of early datagrams is bounded")
    func earlyFlood() throws {
        var pair = try Pair(serverTrusts: [])
        var records = PacketBatch()
        pair.client.engine.start(at: .zero)
        _ = pair.client.engine.poll(into: &records)
        let hello = try #require(records.packet(0))
        for _ in 0..<100 { pair.server.engine.handle(hello, at: .zero, into: &pair.server.received) }
        let dropped = pair.server.engine.counters.earlyDatagramsDropped
        #expect(dropped == 84)
    }

    @Test("RFC 6347 §4.2.4: the handshake gets through loss, reordering and duplication", arguments: [UInt64](1...24))
    func badLink(seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.loss = 0.2
        conditions.duplication = 0.1
        conditions.reordering = 0.2
        conditions.jitter = .milliseconds(5)
        var pair = try Pair(conditions: conditions, seed: seed)
        pair.connect()
        #expect(pair.client.engine.isConnected == true, "\(pair.client.events), \(pair.client.engine.counters)")
        #expect(pair.server.engine.isConnected == true, "\(pair.server.events), \(pair.server.engine.counters)")
        // tail loss aside, data passes now
        pair.toServer.conditions = .instant
        try pair.sendToServer(batch([[1], [2], [3]]))
        pair.run()
        #expect(packets(pair.server.received) == [[1], [2], [3]])
    }

    @Test("RFC 6347 §4.2.4.1: retransmissions back off from 100 ms to 3 s, then the handshake fails once")
    func silence() throws {
        var conditions = LinkConditions()
        conditions.isDown = true
        var pair = try Pair(conditions: conditions)
        pair.start()
        var times: [Double] = []
        var sent = pair.client.sizes.count
        #expect(sent == 1)
        while pair.step() {
            if pair.client.sizes.count > sent { times.append((pair.now - .zero).inMilliseconds) }
            sent = pair.client.sizes.count
        }
        #expect(times.prefix(6) == [100, 300, 700, 1500, 3100, 6100])
        #expect(pair.client.events == [.failed(.timeout)])
        #expect(pair.server.events == [.failed(.timeout)])
        let deadline = pair.client.engine.deadline
        #expect(deadline == nil)
    }

    @Test("the wall clock's way, for OpenSSL 3.2 and later: a handshake without loss connects and leaves no timer behind")
    func wallClock() throws {
        var configuration = DTLSConfiguration()
        configuration.clock = .wall
        var pair = try Pair(configuration: configuration)
        pair.start()
        let deadline = pair.client.engine.deadline
        #expect(deadline.map { $0 > .zero && $0 <= .zero + .milliseconds(100) } == true)
        pair.run(for: .seconds(2))
        #expect(pair.client.engine.isConnected && pair.server.engine.isConnected)
        let left = pair.client.engine.deadline
        #expect(left == nil)
    }

    @Test("a client facing a client, or a server facing a server, ends by an event", arguments: [DTLSRole.client, .server])
    func sameRole(role: DTLSRole) throws {
        let one = try Certificates.client.get()
        let two = try Certificates.server.get()
        var left = try DTLSEngine(role: role, certificate: one, remoteFingerprints: [two.fingerprint])
        var right = try DTLSEngine(role: role, certificate: two, remoteFingerprints: [one.fingerprint])
        var now = Instant.zero
        var events: [DTLSEvent] = []
        var plaintext = PacketBatch()
        left.start(at: now)
        right.start(at: now)
        for _ in 0..<200 {
            var fromLeft = PacketBatch()
            var fromRight = PacketBatch()
            while let event = left.poll(into: &fromLeft) { events.append(event) }
            while let event = right.poll(into: &fromRight) { events.append(event) }
            for index in 0..<fromLeft.count { if let packet = fromLeft.packet(index) { right.handle(packet, at: now, into: &plaintext) } }
            for index in 0..<fromRight.count { if let packet = fromRight.packet(index) { left.handle(packet, at: now, into: &plaintext) } }
            guard let next = earliest(left.deadline, right.deadline) else { continue }
            now = max(now, next)
            left.handleTimeout(at: now)
            right.handleTimeout(at: now)
        }
        #expect(plaintext.isEmpty)
        #expect(left.isConnected == false)
        #expect(right.isConnected == false)
        #expect(events.allSatisfy { if case .failed = $0 { true } else { false } }, "\(events)")
        #expect(events.count == 2, "\(events)")
    }
}
