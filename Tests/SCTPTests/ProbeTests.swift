import NIOCore
import Testing
import Wire

@testable import SCTP

@Suite("Probes packet by packet, and what a hostile peer may answer")
struct ProbeTests {
    /// Two that are connected; A's first probe was sent and not answered.
    func probing() throws -> (a: Solo, z: Solo, probe: ByteBuffer) {
        let a = Solo(seed: 1)
        let z = Solo(seed: 2)
        a.association.connect(at: a.now)
        var probe: ByteBuffer?
        var toZ = a.poll()
        for _ in 0..<8 {
            let toA = z.give(toZ)
            toZ = a.give(toA)
            if let large = toZ.first(where: { $0.readableBytes > 1160 }) {
                probe = large
                toZ.removeAll { $0.readableBytes > 1160 }
            }
        }
        #expect(a.association.state == .established)
        return (a, z, try #require(probe))
    }

    func acknowledgement(_ body: [UInt8], to solo: Solo) -> ByteBuffer {
        solo.forge.packet { $0.writeChunk(ChunkType.heartbeatAck) { $0.writeBytes(body) } }
    }

    @Test("RFC 8899 §6.2.1.2: a probe is PAD and HEARTBEAT, exactly of its size; the answer is small")
    func shape() throws {
        let (a, z, probe) = try probing()
        #expect(probe.readableBytes == 16_336)
        #expect(chunks(probe).map(\.type) == [ChunkType.padding, ChunkType.heartbeat])
        #expect(a.association.inFlight.isEmpty)
        let answer = z.give(probe)
        let ack = try #require(answer.first { chunks($0).contains { $0.type == ChunkType.heartbeatAck } })
        #expect(ack.readableBytes < 100)
        #expect(a.association.search.current == 1160)
        a.give(ack)
        #expect(a.association.search.current == 16_336)
        #expect(a.association.statistics.packetSize == 16_336)
    }

    @Test("RFC 9260 §3.2: one who does not know PAD skips it in silence (bits 10) and answers the HEARTBEAT behind it")
    func unknownPadding() throws {
        let (a, z, probe) = try probing()
        var foreign = probe
        foreign.setInteger(UInt8(0x85), at: 12)
        if foreign.getInteger(at: 8, as: UInt32.self) != 0 {
            foreign.setInteger(UInt32(0), at: 8)
            foreign.setInteger(CRC32C.checksum(packet: foreign.readableBytesSpan), at: 8, endianness: .little)
        }
        let answer = z.give(foreign)
        #expect(answer.flatMap { chunks($0).map(\.type) } == [ChunkType.heartbeatAck])
        #expect(z.association.counters.drops.unknownChunk == 1)
        a.give(answer)
        #expect(a.association.search.current == 16_336)
    }

    @Test("a receiver that reads only the beginning of a probe finds nothing to answer", arguments: [1500, 2048, 4096, 16_332])
    func truncated(length: Int) throws {
        let (_, z, probe) = try probing()
        let part = try #require(probe.getSlice(at: 0, length: length))
        #expect(z.give(part).isEmpty)
        // nor in what is left over
        let rest = try #require(probe.getSlice(at: length, length: probe.readableBytes - length))
        #expect(z.give(rest).isEmpty)
    }

    @Test("RFC 8899 §4.2: forged HEARTBEAT ACKs raise nothing: neither another nonce, nor a size that they claim, nor the same twice")
    func forged() throws {
        let (a, z, probe) = try probing()
        let info = try #require(chunks(probe).last?.body)
        #expect(info.count == 12)
        let base = a.association.search.current
        for index in 0..<info.count {
            for bit in 0..<8 {
                var body = info
                body[index] ^= 1 << UInt8(bit)
                a.give(acknowledgement(body, to: a))
                #expect(a.association.search.current == base)
            }
        }
        // every prefix, and more than was sent
        for count in 0..<info.count { a.give(acknowledgement(Array(info[..<count]), to: a)) }
        a.give(acknowledgement(info + [0, 0, 0xFF, 0xFF], to: a))
        #expect(a.association.search.current == base)
        #expect(a.failure == nil)
        let answer = z.give(probe)
        a.give(answer)
        #expect(a.association.search.current == 16_336)
        let drops = a.association.counters.drops.unexpectedChunk
        a.give(answer)
        a.give(acknowledgement(info, to: a))
        #expect(a.association.search.current == 16_336)
        #expect(a.association.counters.drops.unexpectedChunk == drops + 2)
    }

    @Test("a peer that never answers a probe is used at the base, and nothing else comes of it")
    func noAnswer() throws {
        let (a, z, _) = try probing()
        var probes = 1
        let start = a.now
        while a.now - start < .seconds(590), let due = a.association.deadline {
            a.now = max(a.now, due)
            z.now = a.now
            a.association.handleTimeout(at: a.now)
            // small packets come through; the answers to large ones do not
            var toZ = a.poll()
            probes += toZ.count { $0.readableBytes > 1160 }
            toZ.removeAll { $0.readableBytes > 1160 }
            a.give(z.give(toZ))
            // the peer talks
            if a.association.search.probe != nil { a.give(a.forge.packet { $0.writeChunk(ChunkType.padding) }) }
        }
        #expect(a.association.state == .established)
        #expect(a.association.search.current == 1160)
        #expect(a.association.search.probe == nil)
        #expect((15...24).contains(probes), "\(probes)")
        #expect(a.association.statistics.timeouts == 0)
    }

    @Test("RFC 4820 §3: PAD of any length is ignored, alone and among others", arguments: [0, 1, 2, 3, 4, 1000])
    func padding(length: Int) throws {
        let (a, _, _) = try probing()
        let answer = a.give(
            a.forge.packet {
                $0.writeChunk(ChunkType.padding) { $0.writeRepeatingByte(0xAA, count: length) }
                $0.writeChunk(ChunkType.heartbeat) { $0.writeTagged(1) { $0.writeInteger(UInt32(7)) } }
                $0.writeChunk(ChunkType.padding) { $0.writeRepeatingByte(0xAA, count: length) }
            })
        #expect(answer.flatMap { chunks($0).map(\.type) } == [ChunkType.heartbeatAck])
        #expect(a.association.counters.drops == DropCounters())
    }
}
