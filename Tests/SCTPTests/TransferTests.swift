import NIOCore
import NetworkSimulator
import SCTP
import Testing
import Wire

@Suite("Transfer over simulated networks")
struct TransferTests {
    @Test("RFC 9260 §5: two ends that both send INIT connect and exchange messages of all sizes")
    func basic() throws {
        let pair = Pair(seed: 1)
        let channel = try pair.a.engine.open(ChannelParameters(label: "hello", subprotocol: "p"), at: pair.now)
        let sizes = [1, 0, 1000, 1128, 1129, 65_536, 1, 3_000_000, 0, 7]
        for (index, size) in sizes.enumerated() { try pair.a.engine.send(pattern(size, index), isText: index % 2 == 0, on: channel, at: pair.now) }
        pair.connect()
        pair.run { $0.z.messages.first?.value.count == sizes.count }
        let other = try #require(pair.z.incoming.first)
        #expect(pair.z.engine.parameters(of: other)?.label == "hello")
        #expect(pair.z.engine.parameters(of: other)?.subprotocol == "p")
        let messages = pair.z.messages[other] ?? []
        #expect(messages.map { $0.0.readableBytes } == sizes)
        for (index, message) in messages.enumerated() {
            #expect(message.0 == pattern(sizes[index], index))
            #expect(message.1 == (index % 2 == 0))
        }
        try pair.z.engine.send(pattern(100_000, 50), isText: false, on: other, at: pair.now)
        pair.run { !$0.a.messages.isEmpty }
        #expect(pair.a.messages[channel]?.first?.0 == pattern(100_000, 50))
    }
}
