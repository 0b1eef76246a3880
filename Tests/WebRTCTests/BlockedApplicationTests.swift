import NIOCore
import NetworkSimulator
import Testing
import WebRTC
import Wire

@Suite struct BlockedApplicationTests {
    @Test("RFC 7675: consent does not depend on the application: two minutes without a message taken cost nothing", arguments: [1, 2, 3] as [UInt64])
    func blocked(seed: UInt64) throws {
        let pair = try PeerPair(seed: seed)
        let channel = try pair.left.engine.createDataChannel(ChannelOptions(label: "test"), at: pair.now)
        try pair.negotiate()
        let isUp = pair.run(for: .seconds(30)) { $0.left.opened.count == 1 && $0.right.channels.count == 1 && $0.left.engine.state == .connected }
        try #require(isUp)
        pair.right.reads = false
        let count = 200
        for _ in 0..<count { try pair.left.engine.send(ByteBuffer(repeating: 7, count: 100_000), isText: false, on: channel, at: pair.now) }
        (pair.left.events, pair.right.events) = ([], [])
        _ = pair.run(for: .seconds(120))
        let taken = pair.right.messages.count
        #expect((1..<count).contains(taken), "the window is closed")
        for events in [pair.left.events, pair.right.events] {
            let changes = events.filter { if case .stateChanged = $0 { true } else { false } }
            #expect(changes.isEmpty, "\(changes)")
        }
        pair.right.reads = true
        for message in pair.right.messages { pair.right.engine.consume(message.bytes.readableBytes, on: message.channel, at: pair.now) }
        let isThere = pair.run(for: .seconds(60)) { $0.right.messages.count == count }
        #expect(isThere)
    }
}
