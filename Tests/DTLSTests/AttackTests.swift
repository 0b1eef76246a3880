import Ciphers
import DTLS
import NIOCore
import NetworkSimulator
import Testing
import Wire

/// Somebody who can send along the peers' path, but does not hold their keys.
@Suite("DTLS attacks")
struct AttackTests {
    /// A handshake in which, before the datagram `flight` arrives, a copy of it does, changed by `forge`; nil when there is no such datagram.
    private func handshake(flight: Int, _ forge: (inout ByteBuffer) -> Bool) throws -> (pair: [Bool], events: [DTLSEvent], isSilent: Bool, isDone: Bool) {
        var pair = try Pair()
        var number = 0
        var isDone = false
        pair.start()
        func forged(_ datagram: ByteBuffer) -> ByteBuffer? {
            defer { number += 1 }
            guard number == flight else { return nil }
            var copy = ByteBuffer(bytes: datagram.readableBytesView)
            guard forge(&copy) else { return nil }
            isDone = true
            return copy
        }
        for _ in 0..<1000 {
            let links = earliest(pair.toServer.deadline, pair.toClient.deadline)
            guard let next = earliest(links, earliest(pair.client.engine.deadline, pair.server.engine.deadline)) else { break }
            pair.now = max(pair.now, next)
            while let datagram = pair.toServer.receive(at: pair.now) {
                if let copy = forged(datagram) { pair.server.engine.handle(copy, at: pair.now, into: &pair.server.received) }
                pair.server.engine.handle(datagram, at: pair.now, into: &pair.server.received)
            }
            while let datagram = pair.toClient.receive(at: pair.now) {
                if let copy = forged(datagram) { pair.client.engine.handle(copy, at: pair.now, into: &pair.client.received) }
                pair.client.engine.handle(datagram, at: pair.now, into: &pair.client.received)
            }
            if let deadline = pair.client.engine.deadline, deadline <= pair.now { pair.client.engine.handleTimeout(at: pair.now) }
            if let deadline = pair.server.engine.deadline, deadline <= pair.now { pair.server.engine.handleTimeout(at: pair.now) }
            pair.flush()
        }
        return (
            [pair.client.engine.isConnected, pair.server.engine.isConnected], pair.client.events + pair.server.events,
            pair.client.received.isEmpty && pair.server.received.isEmpty, isDone
        )
    }

    @Test(
        "RFC 6347 §4.1.2.7: a damaged copy before each handshake datagram: both ends connect, or both say that they did not; none takes anything for data",
        arguments: 0..<4)
    func flippedHandshake(flight: Int) throws {
        var index = 0
        var connected = 0
        var total = 0
        while true {
            let at = index
            let result = try handshake(flight: flight) { copy in
                guard at < copy.readableBytes, let byte = copy.getInteger(at: at, as: UInt8.self) else { return false }
                copy.setInteger(byte ^ 0x51, at: at)
                return true
            }
            guard result.isDone else { break }
            total += 1
            let isConnected = result.pair == [true, true]
            connected += isConnected ? 1 : 0
            #expect(result.isSilent)
            let failures = result.events.count { if case .failed = $0 { true } else { false } }
            // one end may have finished when the other's last flight was spoilt; then it is for SCTP and ICE to notice
            #expect(isConnected ? failures == 0 : failures >= 1, "byte \(index): \(result.events)")
            // the record's and the message's header show by themselves that they are damaged, as does everything once it is encrypted
            let isHeader = [0, 1, 5, 6, 7].contains(index) || flight < 3 && [13, 17, 19, 20, 22, 23].contains(index)
            if flight == 3 || isHeader { #expect(isConnected, "flight \(flight), byte \(index): \(result.events)") }
            index += index < 32 || flight == 3 ? 1 : 5
        }
        #expect(total > 30 && connected > 0)
    }

    @Test("handshake messages of absurd length, fragments beyond their message, unknown messages and alerts, in the clear: none disturbs a handshake")
    func absurd() throws {
        func record(_ type: UInt8, _ body: [UInt8]) -> [UInt8] {
            [type, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, UInt8(body.count >> 8), UInt8(body.count & 255)] + body
        }
        func message(_ type: UInt8, length: Int, sequence: Int, start: Int, count: Int, bytes: Int) -> [UInt8] {
            func three(_ value: Int) -> [UInt8] { [UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)] }
            return [type] + three(length) + [UInt8(sequence >> 8), UInt8(sequence & 255)] + three(start) + three(count) + [UInt8](repeating: 1, count: bytes)
        }
        let junk = [
            record(22, message(1, length: 0xFF_FFFF, sequence: 0, start: 0, count: 100, bytes: 100)),
            record(22, message(11, length: 100, sequence: 1, start: 90, count: 20, bytes: 20)),
            record(22, message(11, length: 1000, sequence: 1, start: 0, count: 900, bytes: 20)),
            record(22, message(1, length: 40, sequence: 999, start: 0, count: 40, bytes: 40)),
            record(22, message(99, length: 40, sequence: 0, start: 0, count: 40, bytes: 40)),
            record(22, [1, 0, 0]), record(20, [2]), record(20, [1, 1]), record(21, [9, 9]), record(21, [2]), record(23, [1, 2, 3]),
        ]
        var pair = try Pair()
        for bytes in junk {
            pair.server.engine.handle(ByteBuffer(bytes: bytes), at: pair.now, into: &pair.server.received)
            pair.client.engine.handle(ByteBuffer(bytes: bytes), at: pair.now, into: &pair.client.received)
        }
        let malformed = [pair.server.engine.counters.malformedDatagrams, pair.client.engine.counters.malformedDatagrams]
        #expect(malformed == [junk.count, junk.count])
        pair.connect()
        #expect(pair.client.engine.isConnected && pair.server.engine.isConnected, "\(pair.client.events) \(pair.server.events)")
    }

    @Test("RFC 6347 §4.1.2.6: a whole handshake replayed at a connected end, forwards and backwards, changes nothing and is hardly answered")
    func replayed() throws {
        var pair = try Pair()
        pair.start()
        var toServer: [ByteBuffer] = []
        var toClient: [ByteBuffer] = []
        for _ in 0..<200 {
            let links = earliest(pair.toServer.deadline, pair.toClient.deadline)
            guard let next = earliest(links, earliest(pair.client.engine.deadline, pair.server.engine.deadline)) else { break }
            pair.now = max(pair.now, next)
            while let datagram = pair.toServer.receive(at: pair.now) {
                toServer.append(datagram)
                pair.server.engine.handle(datagram, at: pair.now, into: &pair.server.received)
            }
            while let datagram = pair.toClient.receive(at: pair.now) {
                toClient.append(datagram)
                pair.client.engine.handle(datagram, at: pair.now, into: &pair.client.received)
            }
            pair.flush()
        }
        #expect(pair.client.engine.isConnected && pair.server.engine.isConnected)
        var output = PacketBatch()
        for _ in 0..<50 {
            for datagram in toServer + toServer.reversed() { pair.server.engine.handle(datagram, at: pair.now, into: &pair.server.received) }
            for datagram in toClient + toClient.reversed() { pair.client.engine.handle(datagram, at: pair.now, into: &pair.client.received) }
            while let event = pair.server.engine.poll(into: &output) { Issue.record("\(event)") }
            while let event = pair.client.engine.poll(into: &output) { Issue.record("\(event)") }
        }
        let replayed = (toServer + toClient).reduce(0) { $0 + $1.readableBytes } * 100
        #expect(output.bytes.readableBytes < replayed / 4)
        #expect(pair.client.received.isEmpty && pair.server.received.isEmpty)
        try pair.sendToServer(batch([[1, 2, 3]]))
        pair.run()
        #expect(packets(pair.server.received) == [[1, 2, 3]])
    }

    @Test("RFC 6347 §4.1.2.6: the replay window forgets nothing it has seen, and takes nothing older than itself")
    func window() throws {
        var pair = try Pair()
        pair.connect()
        var records = PacketBatch()
        try pair.client.engine.seal(batch((0..<2001).map { [UInt8($0 & 255)] }), into: &records)
        var inside = 0
        for (round, indexes) in [2000...2000, 0...1999, 0...2000].enumerated() {
            if round == 2 { inside = packets(pair.server.received).count }
            for index in indexes {
                let record = try #require(records.packet(index))
                pair.server.engine.handle(record, at: pair.now, into: &pair.server.received)
            }
        }
        // far more than the 32 that RFC 4303 §3.4.3 asks for
        #expect(inside == 960)
        #expect(packets(pair.server.received).count == inside)
    }
}
