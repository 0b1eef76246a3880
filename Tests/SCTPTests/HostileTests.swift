import NIOCore
import NetworkSimulator
import Testing
import Wire

@testable import SCTP

/// Whatever comes from the network: counted and dropped, or the association's end; never a crash, never unbounded memory.
@Suite("Hostile bytes")
struct HostileTests {
    /// Packets of a real exchange with most chunk types, and the receiving end.
    func material(_ configuration: Configuration) throws -> (pair: Pair, packets: [ByteBuffer]) {
        let pair = Pair(seed: 21, a: configuration, z: configuration)
        var packets: [ByteBuffer] = []
        let channel = try pair.a.engine.open(ChannelParameters(label: "x", ordered: false, maxRetransmits: 0), at: pair.now)
        let closing = try pair.a.engine.open(ChannelParameters(label: "y"), at: pair.now)
        try pair.a.engine.send(pattern(5000, 1), isText: false, on: channel, at: pair.now)
        try pair.a.engine.send(pattern(50, 1), isText: true, on: closing, at: pair.now)
        pair.tap = { packets.append($0) }
        pair.toZ.conditions.loss = 0.2
        pair.run(for: .seconds(1))
        for index in 0..<10 { try pair.a.engine.send(pattern(3000, index), isText: false, on: channel, at: pair.now) }
        pair.a.engine.close(closing, at: pair.now)
        pair.run(for: .seconds(40))
        pair.tap = nil
        return (pair, packets)
    }

    @Test("every prefix and every flipped byte of every packet, under a checksum: the association does not notice")
    func checked() throws {
        var configuration = Configuration()
        configuration.offerZeroChecksum = false
        let (pair, packets) = try material(configuration)
        var kinds: Set<UInt8> = []
        for packet in packets {
            let types = chunks(packet).map(\.type)
            if types.allSatisfy(kinds.contains) { continue }
            kinds.formUnion(types)
            for length in 0..<packet.readableBytes { pair.z.engine.handle(packet.getSlice(at: 0, length: length) ?? ByteBuffer(), at: pair.now) }
            for index in 0..<packet.readableBytes {
                var flipped = packet
                flipped.setInteger((flipped.getInteger(at: index, as: UInt8.self) ?? 0) ^ 0x41, at: index)
                pair.z.engine.handle(flipped, at: pair.now)
            }
            pair.z.drain(at: pair.now)
        }
        #expect(kinds.isSuperset(of: [ChunkType.initiation, ChunkType.cookieEcho, ChunkType.interleavedData, ChunkType.sack, ChunkType.reconfiguration]))
        #expect(pair.z.failure == nil)
        // life goes on
        let channel = try pair.a.engine.open(ChannelParameters(label: "after"), at: pair.now)
        pair.toZ.conditions.loss = 0
        try pair.a.engine.send(pattern(20_000, 5), isText: false, on: channel, at: pair.now)
        let before = pair.z.incoming.count
        pair.run(for: .seconds(20)) { $0.z.incoming.count > before && $0.z.messages[$0.z.incoming[before]] != nil }
        #expect(pair.z.messages[pair.z.incoming[before]]?.first?.0 == pattern(20_000, 5))
    }

    @Test("mutated packets without a checksum: no crash, memory bounded, no deadline in the past", arguments: 0..<12)
    func mutated(seed: Int) throws {
        var generator = SplitMix64(seed: UInt64(seed))
        var configuration = Configuration()
        configuration.receiveWindow = 100_000
        configuration.maximumMessageSize = 100_000
        let (pair, packets) = try material(configuration)
        let tag = pair.z.engine.association.localTag
        for _ in 0..<2000 {
            var packet = packets[Int(generator.next() % UInt64(packets.count))]
            packet.setInteger(tag, at: 4)
            packet.setInteger(UInt32(0), at: 8)
            for _ in 0..<1 + generator.next() % 4 {
                let index = 12 + Int(generator.next() % UInt64(packet.readableBytes - 12))
                packet.setInteger(UInt8(truncatingIfNeeded: generator.next()), at: index)
            }
            pair.now += .microseconds(Int64(generator.next() % 10_000))
            pair.z.engine.handle(packet, at: pair.now)
            if pair.z.engine.deadline.map({ $0 <= pair.now }) ?? false { pair.z.engine.handleTimeout(at: pair.now) }
            pair.z.drain(at: pair.now)
            pair.z.batch.removeAll()
            #expect(pair.z.engine.statistics.bytesHeld <= 600_000)
            #expect(pair.z.engine.deadline.map { $0 >= pair.now } ?? true)
            if pair.z.failure != nil { break }
        }
    }

    @Test("tiny fragments of messages that never end are bounded by the window", arguments: [true, false])
    func hoarding(interleaved: Bool) {
        var configuration = Configuration()
        configuration.receiveWindow = 100_000
        configuration.maximumMessageSize = 100_000
        configuration.offerInterleaving = interleaved
        let (_, z) = AssociationTests().connected(configuration)
        let base = z.association.tracker.cumulative
        for burst: UInt64 in 0..<100 {
            // every second TSN, each the middle of a message of its own
            let packets = (burst * 60..<burst * 60 + 60).map { index in
                let header = DataChunk(
                    tsn: TSN(base + 2 + 2 * index), stream: UInt16(index * 7), message: UInt32(index), ppid: 53, fragment: 3, flags: 0)
                return z.forge.packet { buffer in [UInt8(1)].withUnsafeBytes { header.write(payload: $0, interleaved: interleaved, into: &buffer) } }
            }
            z.give(packets)
        }
        #expect(z.association.reassembly.windowUse <= 110_000)
        #expect(z.association.tracker.ranges.count <= 4096)
        #expect(z.association.state == .established)
    }

    @Test("RFC 6525: reset requests out of order, repeated, for streams never used and of absurd size", arguments: 0..<4)
    func resets(seed: Int) {
        var generator = SplitMix64(seed: UInt64(seed))
        let (_, z) = AssociationTests().connected()
        for _ in 0..<500 {
            let request = z.association.reset.expectedRequest &+ UInt32(generator.next() % 3) &- 1
            let streams = (0..<generator.next() % 500).map { _ in UInt16(truncatingIfNeeded: generator.next()) }
            let last = TSN(z.association.tracker.cumulative + generator.next() % 3)
            let packet = z.forge.packet {
                ReconfigurationChunk([
                    generator.next() % 2 == 0
                        ? .outgoingReset(request: request, response: 0, lastTSN: last, streams: streams) : .incomingReset(request: request, streams: streams)
                ]).write(into: &$0)
            }
            z.give(packet)
            #expect(z.association.control.count <= 64)
        }
        #expect(z.association.state == .established)
    }
}
