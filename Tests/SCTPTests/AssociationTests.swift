import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// Packets by hand.
struct Forge {
    var tag: UInt32
    var source: UInt16 = 5000
    var destination: UInt16 = 5000

    func packet(checksum: Bool = true, _ chunks: (inout ByteBuffer) -> Void) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeMultipleIntegers(source, destination, tag, UInt32(0))
        chunks(&buffer)
        if checksum { buffer.setInteger(CRC32C.checksum(packet: buffer.readableBytesSpan), at: 8, endianness: .little) }
        return buffer
    }
}

/// The chunks of a packet.
func chunks(_ packet: ByteBuffer) -> [(type: UInt8, body: [UInt8])] {
    var result: [(UInt8, [UInt8])] = []
    var reader = TaggedReader(packet.readableBytesSpan.extracting(droppingFirst: 12))
    var word: UInt16 = 0
    while !reader.isAtEnd {
        guard let span = try? reader.next(tag: &word) else { break }
        var body = ByteReader(span)
        result.append((UInt8(word >> 8), Array(body.takeRest().readableBytesView)))
    }
    return result
}

/// One association driven packet by packet.
final class Solo {
    var association: Association
    var now = Instant(nanoseconds: 1_000_000_000)
    var events: [AssociationEvent] = []

    init(seed: UInt64, _ configuration: Configuration = .init()) {
        association = Association(configuration: configuration, generator: SplitMix64(seed: seed), cookieAuthenticator: cookieCode(seed))
    }

    /// What it sends; events are collected.
    func poll() -> [ByteBuffer] {
        var batch = PacketBatch()
        association.writePackets(at: now, into: &batch)
        while let event = association.pollEvent() { events.append(event) }
        return (0..<batch.count).compactMap { batch.packet($0) }
    }

    @discardableResult
    func give(_ packets: ByteBuffer...) -> [ByteBuffer] { give(packets) }

    @discardableResult
    func give(_ packets: [ByteBuffer]) -> [ByteBuffer] {
        for packet in packets { association.receive(packet.readableBytesSpan, at: now) }
        return poll()
    }

    var forge: Forge { Forge(tag: association.localTag) }
    var types: [UInt8] { poll().flatMap { chunks($0).map(\.type) } }
    var failure: AssociationError? {
        for case .failed(let error) in events { return error }
        return nil
    }
    var connections: Int { events.count { if case .connected = $0 { true } else { false } } }
}

@Suite("Association: states and hostile packets")
struct AssociationTests {
    /// A connected to Z by A's INIT alone.
    func connected(_ configuration: Configuration = .init()) -> (a: Solo, z: Solo) {
        let a = Solo(seed: 1, configuration)
        let z = Solo(seed: 2, configuration)
        a.association.connect(at: a.now)
        var toZ = a.poll()
        while !toZ.isEmpty { toZ = a.give(z.give(toZ)) }
        #expect(a.association.state == .established)
        #expect(z.association.state == .established)
        return (a, z)
    }

    @Test("RFC 9260 §5.1: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK; nothing is kept before the cookie comes back")
    func handshake() {
        let a = Solo(seed: 1)
        let z = Solo(seed: 2)
        a.association.connect(at: a.now)
        let initiation = a.poll()
        #expect(initiation.flatMap { chunks($0).map(\.type) } == [1])
        let answer = z.give(initiation)
        #expect(answer.flatMap { chunks($0).map(\.type) } == [2])
        #expect(z.association.state == .closed)
        #expect(z.association.localTag == 0)
        let echo = a.give(answer)
        #expect(echo.flatMap { chunks($0).map(\.type) } == [10])
        let acknowledgement = z.give(echo)
        #expect(acknowledgement.first.map { chunks($0).map(\.type) }?.first == 11)
        #expect(z.association.state == .established)
        a.give(acknowledgement)
        #expect(a.association.state == .established)
        #expect(a.connections == 1)
        #expect(z.connections == 1)
        #expect(a.association.capabilities == z.association.capabilities)
        #expect(a.association.capabilities.interleaving)
    }

    @Test("RFC 9260 §5.2.1, §5.2.4: both INITs cross at any point, and one association comes of it", arguments: 0..<40)
    func collision(seed: Int) {
        var generator = SplitMix64(seed: UInt64(seed))
        let a = Solo(seed: UInt64(seed) + 100)
        let z = Solo(seed: UInt64(seed) + 200)
        a.association.connect(at: a.now)
        z.association.connect(at: z.now)
        var toZ = a.poll()
        var toA = z.poll()
        // packets arrive in any order, some twice
        for _ in 0..<200 where !(toZ.isEmpty && toA.isEmpty) {
            if !toZ.isEmpty, toA.isEmpty || generator.next() % 2 == 0 {
                let packet = toZ.remove(at: Int(generator.next() % UInt64(toZ.count)))
                if generator.next() % 8 == 0 { toZ.append(packet) }
                toA += z.give(packet)
            } else {
                let packet = toA.remove(at: Int(generator.next() % UInt64(toA.count)))
                if generator.next() % 8 == 0 { toA.append(packet) }
                toZ += a.give(packet)
            }
        }
        #expect(a.association.state == .established)
        #expect(z.association.state == .established)
        #expect(a.association.localTag == z.association.peerTag)
        #expect(z.association.localTag == a.association.peerTag)
        #expect(a.association.inFlight.base == z.association.tracker.cumulative + 1)
        #expect(z.association.inFlight.base == a.association.tracker.cumulative + 1)
        #expect(a.connections == 1)
        #expect(z.connections == 1)
    }

    @Test("RFC 9653: a peer that does not offer zero checksums is not answered with the parameter, nor is it in the third INIT: some cannot read it")
    func zeroChecksumParameter() throws {
        func offers(_ packet: ByteBuffer?) throws -> Bool {
            let body = ByteBuffer(bytes: try #require(packet.flatMap { chunks($0).first?.body }))
            return try InitChunk(parsing: body.readableBytesSpan).zeroChecksumMethod != nil
        }
        let z = Solo(seed: 2)
        for isOffered in [true, false] {
            var configuration = Configuration()
            configuration.offerZeroChecksum = isOffered
            let a = Solo(seed: 1, configuration)
            a.association.connect(at: a.now)
            #expect(try offers(z.give(a.poll()).first) == isOffered)
        }
        let a = Solo(seed: 1)
        a.association.connect(at: a.now)
        for attempt in 0..<4 {
            #expect(try offers(a.poll().first) == (attempt < 2))
            let deadline = a.association.deadline
            a.now = try #require(deadline)
            a.association.handleTimeout(at: a.now)
        }
    }

    @Test("RFC 9260 §5.1.5, §5.2.6: forged, foreign and stale cookies open nothing")
    func cookies() {
        let a = Solo(seed: 1)
        let z = Solo(seed: 2)
        a.association.connect(at: a.now)
        let echo = a.give(z.give(a.poll()))
        let original = echo[0]
        // every flipped byte of the cookie, under a right checksum
        for index in 16..<original.readableBytes {
            var forged = original
            forged.setInteger((forged.getInteger(at: index, as: UInt8.self) ?? 0) ^ 0x10, at: index)
            forged.setInteger(UInt32(0), at: 8)
            forged.setInteger(CRC32C.checksum(packet: forged.readableBytesSpan), at: 8, endianness: .little)
            z.give(forged)
            #expect(z.association.state == .closed)
        }
        // another server's
        let other = Solo(seed: 3)
        other.give(original)
        #expect(other.association.state == .closed)
        #expect(other.association.counters.drops.forgedCookie == 1)
        // too late: the peer is told, and begins again
        z.now += .seconds(61)
        a.now = z.now
        let stale = z.give(original)
        #expect(z.association.counters.drops.staleCookie == 1)
        #expect(stale.flatMap { chunks($0).map(\.type) } == [9])
        var toZ = a.give(stale)
        #expect(toZ.flatMap { chunks($0).map(\.type) } == [1])
        while !toZ.isEmpty { toZ = a.give(z.give(toZ)) }
        #expect(a.association.state == .established)
        #expect(z.association.state == .established)
    }

    @Test("RFC 9260 §5.2.4 D: a replayed COOKIE ECHO is acknowledged and changes nothing")
    func replay() {
        let a = Solo(seed: 1)
        let z = Solo(seed: 2)
        a.association.connect(at: a.now)
        let echo = a.give(z.give(a.poll()))
        a.give(z.give(echo))
        #expect(z.give(echo).flatMap { chunks($0).map(\.type) } == [11])
        #expect(z.connections == 1)
    }

    @Test("RFC 9260 §5.2.4.1 A: a peer that lost its state may restart; the old association's data is gone")
    func restart() throws {
        let (_, z) = connected()
        try z.association.send(ByteBuffer(string: "lost"), stream: 0, ppid: 53, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: z.now)
        _ = z.poll()
        let again = Solo(seed: 77)
        again.association.connect(at: again.now)
        var toZ = again.poll()
        while !toZ.isEmpty { toZ = again.give(z.give(toZ)) }
        #expect(again.association.state == .established)
        #expect(z.association.state == .established)
        #expect(z.association.peerTag == again.association.localTag)
        #expect(z.events.contains { if case .restarted = $0 { true } else { false } })
        #expect(z.association.sendQueue.isEmpty)
        try z.association.send(ByteBuffer(string: "new"), stream: 0, ppid: 53, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: z.now)
        again.give(z.poll())
        #expect(again.events.contains { if case .message(let message) = $0 { String(buffer: message.payload) == "new" } else { false } })
    }

    @Test("RFC 9260 §5.2.2: INIT into an association that is up changes nothing by itself")
    func spoofedInit() {
        let (a, z) = connected()
        let tag = z.association.localTag
        for seed: UInt64 in 10..<200 {
            let attacker = Solo(seed: seed)
            attacker.association.connect(at: attacker.now)
            z.give(attacker.poll())
        }
        #expect(z.association.state == .established)
        #expect(z.association.localTag == tag)
        #expect(a.association.state == .established)
    }

    @Test("RFC 9260 §8.5: wrong tags, ports and checksums are counted and dropped")
    func gates() {
        let (_, z) = connected()
        let right = z.forge
        func heartbeat(_ buffer: inout ByteBuffer) { buffer.writeChunk(ChunkType.heartbeat) { $0.writeTagged(1) { $0.writeInteger(UInt64(9)) } } }
        #expect(z.give(right.packet(heartbeat)).count == 1)
        #expect(z.give(Forge(tag: right.tag ^ 1).packet(heartbeat)).isEmpty)
        #expect(z.association.counters.drops.badVerificationTag == 1)
        #expect(z.give(Forge(tag: right.tag, source: 5001).packet(heartbeat)).isEmpty)
        #expect(z.association.counters.drops.wrongPort == 1)
        var bad = right.packet(heartbeat)
        bad.setInteger(UInt32(1), at: 8)
        #expect(z.give(bad).isEmpty)
        #expect(z.association.counters.drops.badChecksum == 1)
        // RFC 9653: zero where it was offered
        #expect(z.give(right.packet(checksum: false, heartbeat)).count == 1)
        for count in 0..<16 { z.give(ByteBuffer(repeating: 0, count: count)) }
        #expect(z.association.counters.drops.malformedPacket == 16)
        // ABORT needs the right tag, too; with the T bit it is the peer's (§8.5.1 B)
        z.give(Forge(tag: right.tag ^ 1).packet { $0.writeChunk(ChunkType.abort) })
        #expect(z.association.state == .established)
        z.give(Forge(tag: z.association.peerTag).packet { $0.writeChunk(ChunkType.abort, flags: 1) })
        #expect(z.association.state == .ended)
        #expect(z.failure == .abortedByPeer(cause: 0))
    }

    @Test("RFC 9653 §5.3: a zero checksum is refused where it was not offered")
    func zeroChecksum() {
        var configuration = Configuration()
        configuration.offerZeroChecksum = false
        let (a, z) = connected(configuration)
        #expect(!a.association.capabilities.zeroChecksum)
        #expect(z.give(z.forge.packet(checksum: false) { $0.writeChunk(ChunkType.heartbeat) }).isEmpty)
        #expect(z.association.counters.drops.badChecksum == 1)
    }

    @Test("RFC 9260 §3.2: unknown chunks are skipped or end the packet, reported or not, by their two highest bits")
    func unknownChunks() {
        for (type, goesOn, reports) in [(UInt8(0x3D), false, false), (0x7D, false, true), (0xBD, true, false), (0xFD, true, true)] {
            let (_, z) = connected()
            let answer = z.give(
                z.forge.packet {
                    $0.writeChunk(type) { $0.writeInteger(UInt32(7)) }
                    $0.writeChunk(ChunkType.heartbeat) { $0.writeTagged(1) { $0.writeInteger(UInt64(9)) } }
                })
            let types = answer.flatMap { chunks($0).map(\.type) }
            #expect(types.contains(ChunkType.heartbeatAck) == goesOn)
            #expect(types.contains(ChunkType.error) == reports)
        }
    }

    @Test("what no honest peer sends ends the association with an ABORT, not with a crash", arguments: 0..<5)
    func violations(kind: Int) {
        let (_, z) = connected()
        let next = TSN(z.association.tracker.cumulative + 1)
        let header = DataChunk(tsn: next, stream: 0, message: 0, ppid: 53, fragment: 0, flags: 3)
        let packet = z.forge.packet { buffer in
            switch kind {
            case 0: [UInt8]().withUnsafeBytes { header.write(payload: $0, interleaved: true, into: &buffer) }
            case 1: [UInt8(1)].withUnsafeBytes { header.write(payload: $0, interleaved: false, into: &buffer) }
            case 2: SackChunk(cumulative: TSN(z.association.inFlight.next + 5), receiverWindow: 1000).write(into: &buffer)
            case 3:
                for offset: UInt64 in 0..<2 {
                    let twice = DataChunk(
                        tsn: TSN(z.association.tracker.cumulative + 1 + offset), stream: 0, message: 0, ppid: 53, fragment: 0, flags: 2)
                    [UInt8(1)].withUnsafeBytes { twice.write(payload: $0, interleaved: true, into: &buffer) }
                }
            default: ForwardTSNChunk(cumulative: TSN(z.association.tracker.cumulative + 1 << 30)).write(interleaved: true, into: &buffer)
            }
        }
        let answer = z.give(packet)
        #expect(answer.flatMap { chunks($0).map(\.type) } == [ChunkType.abort])
        #expect(z.failure == .protocolViolation)
        // RFC 9260 §8.4: whoever goes on is told
        let late = z.give(Forge(tag: z.association.localTag).packet { $0.writeChunk(ChunkType.heartbeat) })
        #expect(late.flatMap { chunks($0).map(\.type) } == [ChunkType.abort])
    }

    @Test("RFC 9260 §3.3.2: INIT without tag, streams or window opens nothing", arguments: 0..<4)
    func badInit(kind: Int) {
        let z = Solo(seed: 5)
        let chunk = InitChunk(
            initiateTag: kind == 0 ? 0 : 9, receiverWindow: kind == 1 ? 10 : 10_000, outboundStreams: kind == 2 ? 0 : 1, inboundStreams: kind == 3 ? 0 : 1,
            initialTSN: TSN(rawValue: 1))
        let answer = z.give(Forge(tag: 0).packet { chunk.write(as: ChunkType.initiation, into: &$0) })
        #expect(answer.flatMap { chunks($0).map(\.type) } == (kind == 0 ? [] : [ChunkType.abort]))
        #expect(z.association.counters.drops.malformedChunk == 1)
    }

    @Test("RFC 9260 §6.2: one SACK per burst, at once for two packets, a gap or the I bit, else after the delay")
    func sackTiming() throws {
        func data(_ z: Solo, _ offset: UInt64, flags: UInt8 = 3) -> ByteBuffer {
            z.forge.packet { buffer in
                let header = DataChunk(
                    tsn: TSN(z.association.tracker.cumulative + offset), stream: 0, message: UInt32(offset - 1), ppid: 53, fragment: 0, flags: flags)
                [UInt8(1)].withUnsafeBytes { header.write(payload: $0, interleaved: true, into: &buffer) }
            }
        }
        func sacks(_ packets: [ByteBuffer]) -> Int { packets.flatMap { chunks($0) }.count { $0.type == ChunkType.sack } }
        var (_, z) = connected()
        #expect(sacks(z.give((1...50).map { data(z, $0) })) == 1)
        (_, z) = connected()
        #expect(sacks(z.give(data(z, 1))) == 0)
        let due = try #require(z.association.timers[.sack])
        #expect(due == z.now + .milliseconds(20))
        z.now = due
        z.association.handleTimeout(at: z.now)
        #expect(sacks(z.poll()) == 1)
        (_, z) = connected()
        #expect(sacks(z.give(data(z, 2))) == 1)
        (_, z) = connected()
        #expect(sacks(z.give(data(z, 1, flags: 11))) == 1)
        // a duplicate is reported
        let first = z.association.tracker.cumulative
        let again = z.forge.packet { buffer in
            let header = DataChunk(tsn: TSN(first), stream: 0, message: 0, ppid: 53, fragment: 0, flags: 3)
            [UInt8(1)].withUnsafeBytes { header.write(payload: $0, interleaved: true, into: &buffer) }
        }
        let answer = z.give(again)
        let body = try #require(answer.first.map { chunks($0) }?.first { $0.type == ChunkType.sack }?.body)
        let sack = try SackChunk(parsing: body.span.bytes)
        #expect(sack.duplicates == [TSN(first)])
    }

    @Test("packets are filled to one size, and a poll writes no more than it may")
    func batching() throws {
        var configuration = Configuration()
        configuration.maximumPacketSize = configuration.basePacketSize
        let (a, _) = connected(configuration)
        a.association.congestion = NewReno(CongestionParameters(maximumPacketSize: 1160, initialWindow: 4 << 20, initialThreshold: 8 << 20))
        for _ in 0..<30 {
            try a.association.send(
                ByteBuffer(repeating: 1, count: 65_536), stream: 0, ppid: 53, isUnordered: false, lifetime: nil, maximumRetransmits: nil, at: a.now)
        }
        let packets = a.poll()
        #expect(packets.count == 256)
        #expect(a.association.deadline == a.now)
        let short = packets.count { $0.readableBytes != 1160 }
        #expect(short == 0)
    }

    @Test("RFC 9260 §9.2: shutdown from both sides at once")
    func simultaneousShutdown() {
        let (a, z) = connected()
        a.association.shutdown(at: a.now)
        z.association.shutdown(at: z.now)
        var toZ = a.poll()
        var toA = z.poll()
        while !(toZ.isEmpty && toA.isEmpty) {
            let next = a.give(toA)
            toA = z.give(toZ)
            toZ = next
        }
        #expect(a.association.state == .ended)
        #expect(z.association.state == .ended)
        #expect(a.failure == nil)
        #expect(z.failure == nil)
        #expect(a.association.deadline == nil || a.association.timers.next == nil)
    }
}
