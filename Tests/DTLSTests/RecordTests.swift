import Ciphers
import DTLS
import NIOCore
import NetworkSimulator
import Testing
import Wire

@Suite("DTLS records")
struct RecordTests {
    @Test("one record per packet, both ways, of every size")
    func sizes() throws {
        var pair = try Pair()
        pair.connect()
        let sent = [1, 2, 100, 1159, 1160, 1400, 9000, 16_384].map { count in (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) } }
        try pair.sendToServer(batch(sent))
        pair.run()
        #expect(packets(pair.server.received) == sent)
        var records = PacketBatch()
        try pair.server.engine.seal(batch(sent), into: &records)
        #expect(records.count == sent.count)
        // header 13, explicit nonce 8, tag 16
        for (index, packet) in sent.enumerated() { #expect(records.range(index).count == packet.count + 37) }
        for index in 0..<records.count {
            let record = try #require(records.packet(index))
            pair.client.engine.handle(record, at: pair.now, into: &pair.client.received)
        }
        #expect(packets(pair.client.received) == sent)
    }

    @Test("records are appended to what the batch holds already, and a packet that is too large throws")
    func appending() throws {
        var pair = try Pair()
        pair.connect()
        var records = batch([[9, 9]])
        try pair.client.engine.seal(batch([[1]]), into: &records)
        #expect(records.count == 2 && records.range(0).count == 2 && records.range(1).count == 38)
        var error: DTLSError?
        do throws(DTLSError) {
            try pair.client.engine.seal(batch([[UInt8](repeating: 0, count: 16_385)]), into: &records)
        } catch let refusal { error = refusal }
        #expect(records.count == 2)
        #expect(error == .packetTooLarge)
    }

    @Test("several records in one datagram are opened in order")
    func coalesced() throws {
        var pair = try Pair()
        pair.connect()
        var records = PacketBatch()
        try pair.client.engine.seal(batch([[1], [2, 2], [3, 3, 3]]), into: &records)
        pair.server.engine.handle(records.bytes, at: pair.now, into: &pair.server.received)
        #expect(packets(pair.server.received) == [[1], [2, 2], [3, 3, 3]])
    }

    @Test("application data that overtakes the end of the handshake is kept, not lost")
    func overtaking() throws {
        var pair = try Pair()
        pair.start()
        // the server is connected when it has sent its Finished: hold that back and let its data go first
        while !pair.server.engine.isConnected, pair.server.events.isEmpty {
            pair.now += .milliseconds(1)
            while let datagram = pair.toClient.receive(at: pair.now) { pair.client.engine.handle(datagram, at: pair.now, into: &pair.client.received) }
            var batch = PacketBatch()
            while let event = pair.client.engine.poll(into: &batch) { pair.client.events.append(event) }
            Pair.send(batch, over: &pair.toServer, at: pair.now)
            while let datagram = pair.toServer.receive(at: pair.now) { pair.server.engine.handle(datagram, at: pair.now, into: &pair.server.received) }
            if pair.server.engine.isConnected { break }
            batch.removeAll()
            while let event = pair.server.engine.poll(into: &batch) { pair.server.events.append(event) }
            Pair.send(batch, over: &pair.toClient, at: pair.now)
        }
        var records = PacketBatch()
        let sent = [[42], [UInt8](repeating: 9, count: 9000)]
        try pair.server.engine.seal(batch(sent), into: &records)
        for index in 0..<records.count {
            let early = try #require(records.packet(index))
            pair.client.engine.handle(early, at: pair.now, into: &pair.client.received)
        }
        #expect(pair.client.received.isEmpty)
        pair.flush()
        pair.run()
        #expect(pair.client.engine.isConnected == true)
        #expect(packets(pair.client.received) == sent)
    }

    @Test("RFC 6347 §4.1.2.6: a record that comes twice is opened once; late ones inside the window are opened")
    func replay() throws {
        var pair = try Pair()
        pair.connect()
        var records = PacketBatch()
        try pair.client.engine.seal(batch((0..<20).map { [UInt8($0)] }), into: &records)
        for index in [3, 1, 1, 0, 19, 2, 3, 19] {
            let record = try #require(records.packet(index))
            pair.server.engine.handle(record, at: pair.now, into: &pair.server.received)
        }
        #expect(packets(pair.server.received) == [[3], [1], [0], [19], [2]])
        let dropped = pair.server.engine.counters.recordsDropped
        #expect(dropped == 3)
    }

    @Test("RFC 6347 §4.1.2.7: a record with any byte changed is dropped and counted, and the next one is opened")
    func tampered() throws {
        var pair = try Pair()
        pair.connect()
        var records = PacketBatch()
        try pair.client.engine.seal(batch([[UInt8](repeating: 5, count: 40)]), into: &records)
        let record = try #require(records.packet(0))
        for index in 0..<record.readableBytes {
            for bit in 0..<8 {
                var copy = record
                let at = copy.readerIndex + index
                let byte = try #require(copy.getInteger(at: at, as: UInt8.self))
                copy.setInteger(byte ^ (1 << UInt8(bit)), at: at)
                pair.server.engine.handle(copy, at: pair.now, into: &pair.server.received)
            }
        }
        // the version's last byte is not authenticated by itself in OpenSSL's lookup, so at most the original may come of this
        #expect(packets(pair.server.received).allSatisfy { $0 == [UInt8](repeating: 5, count: 40) })
        #expect(pair.server.received.isEmpty)
        let counters = pair.server.engine.counters
        #expect(counters.recordsDropped + counters.malformedDatagrams >= 8 * (record.readableBytes - 13))
        pair.server.engine.handle(record, at: pair.now, into: &pair.server.received)
        #expect(pair.server.received.count == 1)
        #expect(pair.server.engine.isConnected == true)
    }

    @Test("encrypted records too short to be genuine do not end a session, before or after the handshake")
    func short() throws {
        var pair = try Pair()
        pair.start()
        for length in 1...64 {
            for type: UInt8 in 20...23 {
                let datagram = ByteBuffer(
                    bytes: [type, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 1, UInt8(length), 0, UInt8(length)] + [UInt8](repeating: type, count: length))
                pair.server.engine.handle(datagram, at: pair.now, into: &pair.server.received)
                pair.client.engine.handle(datagram, at: pair.now, into: &pair.client.received)
            }
        }
        pair.run()
        #expect(pair.client.engine.isConnected == true, "\(pair.client.events)")
        #expect(pair.server.engine.isConnected == true, "\(pair.server.events)")
        for length in 1...64 {
            for type: UInt8 in 20...23 {
                let datagram = ByteBuffer(
                    bytes: [type, 0xFE, 0xFD, 0, 1, 0, 0, 0, 1, 1, UInt8(length), 0, UInt8(length)] + [UInt8](repeating: type, count: length))
                pair.server.engine.handle(datagram, at: pair.now, into: &pair.server.received)
            }
        }
        try pair.sendToServer(batch([[1]]))
        pair.run()
        #expect(packets(pair.server.received) == [[1]])
    }

    @Test("every prefix of a handshake datagram and of a record is dropped without harm")
    func prefixes() throws {
        var pair = try Pair()
        var hello = PacketBatch()
        pair.client.engine.start(at: .zero)
        _ = pair.client.engine.poll(into: &hello)
        let first = try #require(hello.packet(0))
        for length in 0..<first.readableBytes {
            let prefix = try #require(first.getSlice(at: first.readerIndex, length: length))
            pair.server.engine.handle(prefix, at: .zero, into: &pair.server.received)
        }
        let malformed = pair.server.engine.counters.malformedDatagrams
        #expect(malformed == first.readableBytes)
        pair.server.engine.handle(first, at: .zero, into: &pair.server.received)
        pair.flush()
        pair.run()
        #expect(pair.client.engine.isConnected && pair.server.engine.isConnected)

        var records = PacketBatch()
        try pair.client.engine.seal(batch([[UInt8](repeating: 1, count: 50)]), into: &records)
        let record = try #require(records.packet(0))
        for length in 0..<record.readableBytes {
            let prefix = try #require(record.getSlice(at: record.readerIndex, length: length))
            pair.server.engine.handle(prefix, at: pair.now, into: &pair.server.received)
        }
        #expect(pair.server.received.isEmpty && pair.server.engine.isConnected)
    }

    @Test("garbage, with and without a record header, at any time: no plaintext, no crash, and a connected session stays", arguments: [UInt64](1...8))
    func garbage(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        func junk() -> ByteBuffer {
            let count = Int.random(in: 0...300, using: &generator)
            var bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            if count > 13, Bool.random(using: &generator) {
                bytes.replaceSubrange(0..<5, with: [UInt8.random(in: 20...23, using: &generator), 0xFE, 0xFD, 0, UInt8.random(in: 0...1, using: &generator)])
                bytes.replaceSubrange(11..<13, with: [UInt8((count - 13) >> 8), UInt8((count - 13) & 255)])
            }
            return ByteBuffer(bytes: bytes)
        }
        var pair = try Pair(seed: seed)
        pair.connect()
        for _ in 0..<2000 {
            pair.server.engine.handle(junk(), at: pair.now, into: &pair.server.received)
            pair.client.engine.handle(junk(), at: pair.now, into: &pair.client.received)
        }
        pair.flush()
        #expect(pair.server.received.isEmpty && pair.client.received.isEmpty)
        #expect(pair.server.engine.isConnected && pair.client.engine.isConnected, "\(pair.server.events) \(pair.client.events)")
        try pair.sendToServer(batch([[1]]))
        pair.flush()
        pair.run()
        #expect(packets(pair.server.received) == [[1]])

        // before the handshake it may end the session, but only by an event
        for role in [DTLSRole.client, .server] {
            var engine = try DTLSEngine(role: role, certificate: Certificates.client.get(), remoteFingerprints: [Certificates.server.get().fingerprint])
            var plaintext = PacketBatch()
            var output = PacketBatch()
            var now = Instant.zero
            engine.start(at: now)
            for _ in 0..<500 {
                engine.handle(junk(), at: now, into: &plaintext)
                now += .milliseconds(1)
                if let deadline = engine.deadline, deadline <= now { engine.handleTimeout(at: now) }
                _ = engine.poll(into: &output)
            }
            #expect(plaintext.isEmpty && output.bytes.readableBytes < 100_000)
            #expect(!engine.isConnected == true)
        }
    }

    @Test("RFC 5246 §7.2.1: close_notify ends both sides once, and what comes later is refused")
    func close() throws {
        var pair = try Pair()
        pair.connect()
        pair.client.engine.close()
        pair.client.engine.close()
        pair.flush()
        pair.run()
        #expect(pair.client.events.last == .closed && pair.client.events.count == 2)
        #expect(pair.server.events.last == .closed && pair.server.events.count == 2)
        var error: DTLSError?
        var records = PacketBatch()
        do throws(DTLSError) { try pair.server.engine.seal(batch([[1]]), into: &records) } catch let refusal { error = refusal }
        #expect(error == .closed)
        let deadline = earliest(pair.client.engine.deadline, pair.server.engine.deadline)
        #expect(deadline == nil)
    }

    @Test("sealing before the handshake is done is refused")
    func tooEarly() throws {
        var pair = try Pair()
        var error: DTLSError?
        var records = PacketBatch()
        do throws(DTLSError) { try pair.client.engine.seal(batch([[1]]), into: &records) } catch let refusal { error = refusal }
        #expect(error == .notConnected)
    }

    @Test("a batch of thousands of packets keeps its order over a lossless link")
    func largeBatch() throws {
        var conditions = LinkConditions.instant
        conditions.queueLimit = 1 << 26
        var pair = try Pair(conditions: conditions)
        pair.connect()
        let sent = (0..<4000).map { index in [UInt8(index & 255), UInt8(index >> 8)] + [UInt8](repeating: 3, count: index % 700) }
        try pair.sendToServer(batch(sent))
        pair.run()
        #expect(packets(pair.server.received) == sent)
    }

    @Test(
        "RFC 5288 §3, RFC 7905 §2: each suite's records are opened by our peer, and our close_notify by the peer's OpenSSL",
        arguments: [
            ("ECDHE-ECDSA-AES128-GCM-SHA256", 37), ("ECDHE-ECDSA-AES256-GCM-SHA384", 37), ("ECDHE-ECDSA-CHACHA20-POLY1305", 29),
        ])
    func suites(suite: String, overhead: Int) throws {
        var configuration = DTLSConfiguration()
        configuration.cipherSuites = suite
        var pair = try Pair(configuration: configuration)
        pair.connect()
        let agreed = pair.client.engine.cipherSuite
        #expect(agreed == suite)
        let sent = (0..<300).map { index in [UInt8](repeating: UInt8(index & 255), count: 1 + 7 * index) }
        try pair.sendToServer(batch(sent))
        pair.run()
        #expect(packets(pair.server.received) == sent)
        var records = PacketBatch()
        try pair.server.engine.seal(batch([[1]]), into: &records)
        #expect(records.range(0).count == 1 + overhead)
        // alerts are OpenSSL's to open: it derives its keys by itself, so both agree on keys, nonces and numbers
        pair.client.engine.close()
        pair.flush()
        pair.run()
        #expect(pair.server.events.last == .closed)
    }

    @Test("RFC 6347 §4.1.2.6: records up to 959 behind the newest are opened once, older ones are dropped")
    func window() throws {
        var pair = try Pair()
        pair.connect()
        var records = PacketBatch()
        try pair.client.engine.seal(batch((0..<3000).map { [UInt8($0 & 255), UInt8($0 >> 8)] }), into: &records)
        func give(_ index: Int) throws -> Bool {
            var opened = PacketBatch()
            pair.server.engine.handle(try #require(records.packet(index)), at: .zero + .seconds(1), into: &opened)
            return !opened.isEmpty
        }
        #expect(try give(999))
        #expect(try give(999 - 959))
        #expect(try !give(999 - 959))
        #expect(try !give(999 - 960))
        // the head moves by less than a word, by a word, and past everything known
        for head in [1000, 1064, 1127, 2999] {
            #expect(try give(head))
            #expect(try !give(head))
            #expect(try give(head - 30))
            #expect(try !give(head - 30))
            #expect(try !give(head - 960))
        }
        #expect(try give(2999 - 959))
    }

    @Test("RFC 5246 §6.2.3.3: no record number and no nonce is used twice, OpenSSL's repeated flight included")
    func numbers() throws {
        var pair = try Pair()
        var seen: Set<[UInt8]> = []
        var nonces: Set<[UInt8]> = []
        var repeated = 0
        func note(_ batch: borrowing PacketBatch) {
            for packet in packets(batch) {
                var rest = packet[...]
                while rest.count >= 13 {
                    let start = rest.startIndex
                    let length = Int(rest[start + 11]) << 8 | Int(rest[start + 12])
                    if rest[start + 4] == 1 {
                        if !seen.insert(Array(rest[(start + 3)..<(start + 11)])).inserted { repeated += 1 }
                        if !nonces.insert(Array(rest[(start + 13)..<(start + 21)])).inserted { repeated += 1 }
                    }
                    rest = rest.dropFirst(13 + length)
                }
            }
        }
        pair.start()
        // the server's last flight is lost again and again, so the client repeats its own and the server answers; meanwhile the server sends data
        var answers = 0
        for _ in 0..<2000 where answers < 6 {
            pair.now += .milliseconds(1)
            var batch = PacketBatch()
            while let datagram = pair.toServer.receive(at: pair.now) { pair.server.engine.handle(datagram, at: pair.now, into: &pair.server.received) }
            while pair.server.engine.poll(into: &batch) != nil {}
            note(batch)
            if pair.server.engine.isConnected == true {
                if !batch.isEmpty { answers += 1 }
                var records = PacketBatch()
                try pair.server.engine.seal(Pair.one, into: &records)
                note(records)
            } else {
                Pair.send(batch, over: &pair.toClient, at: pair.now)
                while let datagram = pair.toClient.receive(at: pair.now) { pair.client.engine.handle(datagram, at: pair.now, into: &pair.client.received) }
            }
            if let deadline = pair.client.engine.deadline, deadline <= pair.now { pair.client.engine.handleTimeout(at: pair.now) }
            batch.removeAll()
            while pair.client.engine.poll(into: &batch) != nil {}
            Pair.send(batch, over: &pair.toServer, at: pair.now)
        }
        #expect(answers >= 2 && seen.count > answers)
        #expect(repeated == 0)
    }
}
