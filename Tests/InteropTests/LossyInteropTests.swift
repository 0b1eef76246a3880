import NIOCore
import NetworkSimulator
import Testing
import WebRTC
import WebRTCNIO

/// A bad path, with a name that shows in the report.
struct BadPath: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var conditions = LinkConditions()

    init(_ name: String, _ change: (inout LinkConditions) -> Void) {
        testDescription = name
        change(&conditions)
    }

    static let all: [BadPath] = [
        BadPath("30 ms, 2 % loss, reordering, duplicates") {
            $0.delay = .milliseconds(15)
            $0.loss = 0.02
            $0.reordering = 0.05
            $0.reorderingDelay = .milliseconds(8)
            $0.duplication = 0.02
        },
        BadPath("60 ms, bursts") {
            $0.delay = .milliseconds(30)
            $0.bursts = LossBursts(length: .milliseconds(20), spacing: .milliseconds(600))
        },
        BadPath("1280-byte path, 1 % loss") {
            $0.delay = .milliseconds(5)
            $0.loss = 0.01
            $0.maximumDatagram = 1280 - 48
        },
    ]
}

@Suite(.serialized, .enabled(if: PeerProcess.isWanted, "EVERYFRAME_INTEROP=1 runs these (make test does)"), .timeLimit(.minutes(10)))
struct LossyInteropTests {
    /// `make test` takes the quickest stack over the first path.
    private static let cases: [(PeerProcess.Stack, BadPath)] =
        PeerProcess.Stack.wantsAll
        ? PeerProcess.Stack.allCases.flatMap { stack in BadPath.all.map { (stack, $0) } } : [(.libdatachannel, BadPath.all[0])]

    @Test("Over a bad path, we offer: messages of every kind and size, both ways", arguments: cases)
    func weOffer(stack: PeerProcess.Stack, path: BadPath) async throws {
        try await Conversation.with(stack, offering: .us, maxMessageSize: 70_000, path: path.conditions) { conversation in
            try await conversation.exchangeLadders(upTo: 70_000)
        }
    }

    @Test("Over a bad path, they offer: messages of every kind and size, both ways", arguments: cases)
    func theyOffer(stack: PeerProcess.Stack, path: BadPath) async throws {
        try await Conversation.with(stack, offering: .them, maxMessageSize: 70_000, path: path.conditions) { conversation in
            try await conversation.exchangeLadders(upTo: 70_000)
        }
    }

    @Test("Over a bad path, RFC 8831 §6.7: what was sent before we close the channel arrives", arguments: cases)
    func weClose(stack: PeerProcess.Stack, path: BadPath) async throws {
        try await Conversation.with(stack, offering: .us, path: path.conditions) { conversation in
            let messages = (0..<10).map { TestMessage(isText: false, size: 20_000, seed: $0) }
            for message in messages { try await conversation.channel.send(message.content) }
            try await bounded(60, "our close") { await conversation.channel.close() }
            for message in messages { #expect(try await conversation.peer.waitForMessage(on: conversation.label) == message.digest) }
        }
    }

    @Test("Over a bad path: drained, then the connection is closed: everything arrives", arguments: cases)
    func drainedClose(stack: PeerProcess.Stack, path: BadPath) async throws {
        try await Conversation.with(stack, offering: .us, path: path.conditions) { conversation in
            let messages = (0..<10).map { TestMessage(isText: false, size: 20_000, seed: $0) }
            for message in messages { try await conversation.channel.send(message.content) }
            try await bounded(60, "the acknowledgement of it all") { try await conversation.channel.drained() }
            await conversation.connection.close()
            for message in messages { #expect(try await conversation.peer.waitForMessage(on: conversation.label) == message.digest) }
        }
    }
}

@Suite("Two of ours over a bad path, in real time", .timeLimit(.minutes(3)))
struct OwnStackTests {
    /// Two connected ends, 100 ms apart, with loss.
    private func withTwo(seed: UInt64, _ body: @Sendable (PeerConnection, PeerConnection, DataChannel, DataChannel) async throws -> Void) async throws {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(50)
        conditions.loss = 0.03
        let relay = try await ImpairedRelay(conditions, seed: seed)
        let one = try await PeerConnection()
        let other = try await PeerConnection()
        do {
            let channel = try await one.createDataChannel("tail", .init(negotiated: true, id: 7))
            let back = try await other.createDataChannel("tail", .init(negotiated: true, id: 7))
            try await one.setLocalDescription()
            let offer = try await bounded(20, "the offer") { try await one.gatheringComplete() }
            try await other.setRemoteDescription(SessionDescription(kind: .offer, sdp: relay.rewrite(offer.sdp, of: .one)))
            try await other.setLocalDescription()
            let answer = try await bounded(20, "the answer") { try await other.gatheringComplete() }
            try await one.setRemoteDescription(SessionDescription(kind: .answer, sdp: relay.rewrite(answer.sdp, of: .other)))
            try await bounded(60, "both channels") {
                try await channel.waitUntilOpen()
                try await back.waitUntilOpen()
            }
            try await body(one, other, channel, back)
        } catch {
            await one.close()
            await other.close()
            await relay.close()
            throw error
        }
        await one.close()
        await other.close()
        await relay.close()
    }

    @Test("what was sent before a graceful end arrives wholly", arguments: 0..<10)
    func tail(seed: Int) async throws {
        try await withTwo(seed: UInt64(seed)) { one, other, channel, back in
            let isByChannel = seed % 2 == 0
            let received = Task {
                var digests: [TestMessage.Digest] = []
                // the end in order, or the connection's: what came before it counts
                do { for try await message in back.messages { digests.append(TestMessage.digest(of: message)) } } catch is DataChannelError {}
                return digests
            }
            let messages = (0..<8).map { TestMessage(isText: $0 % 2 == 0, size: [1, 700, 3000, 20_000][$0 % 4], seed: seed + $0) }
            for message in messages { try await channel.send(message.message) }
            try await bounded(40, "the end") {
                if isByChannel { await channel.close() } else { try await channel.drained() }
                await one.close()
            }
            let digests = try await bounded(40, "the end at the other side") { try await received.value }
            #expect(digests == messages.map(\.digest))
        }
    }
}
