import NIOCore
import Testing
import WebRTCNIO

/// Our stack and others, in processes of their own, over real sockets on this machine. One test at a time: browsers are heavy.
@Suite(.serialized, .enabled(if: PeerProcess.isWanted, "EVERYFRAME_INTEROP=1 runs these (make test does)"), .timeLimit(.minutes(5)))
struct DataChannelInteropTests {
    /// Small enough that every stack reaches it, so that our own limit is tested to the byte.
    private static let ourLimit = 300_000

    @Test("We offer, they answer: messages of every kind and size up to each side's limit, both ways", arguments: PeerProcess.Stack.wanted)
    func weOffer(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us, maxMessageSize: Self.ourLimit) { conversation in
            try await conversation.exchangeLadders()
        }
    }

    @Test("They offer, we answer: messages of every kind and size up to each side's limit, both ways", arguments: PeerProcess.Stack.wanted)
    func theyOffer(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .them, maxMessageSize: Self.ourLimit) { conversation in
            try await conversation.exchangeLadders()
        }
    }

    @Test("RFC 8841 §6.1: a message above their limit is refused here, and the channel goes on", arguments: PeerProcess.Stack.wanted)
    func tooLarge(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            let message = TestMessage(isText: false, size: conversation.theirLimit + 1, seed: 1)
            do {
                try await conversation.channel.send(message.content)
                Issue.record("a message of \(message.size) bytes was accepted; their limit is \(conversation.theirLimit)")
            } catch let error as DataChannelError {
                #expect(error.code == .messageTooLarge)
            }
            try await conversation.check(TestMessage(isText: false, size: conversation.theirLimit, seed: 2))
        }
    }

    @Test("RFC 8831 §6.7: we close the channel; both ends see it, everything sent before arrives", arguments: PeerProcess.Stack.wanted)
    func weClose(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            let last = TestMessage(isText: false, size: 60_000, seed: 7)
            try await conversation.channel.send(last.content)
            try await bounded(30, "our close") { await conversation.channel.close() }
            #expect(try await conversation.peer.waitForMessage(on: conversation.label) == last.digest)
            try await conversation.peer.waitForClose(of: conversation.label)
            #expect(await conversation.channel.readyState == .closed)
        }
    }

    @Test("RFC 8831 §6.7: they close the channel; both ends see it, everything sent before arrives", arguments: PeerProcess.Stack.wanted)
    func theyClose(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            let last = TestMessage(isText: true, size: 60_000, seed: 8)
            try await conversation.peer.send(last, on: conversation.label)
            // aiortc closes without waiting for what it has queued.
            if stack == .aiortc { #expect(try await conversation.nextDigest() == last.digest) }
            try await conversation.peer.closeChannel(conversation.label)
            if stack != .aiortc { #expect(try await conversation.nextDigest() == last.digest) }
            #expect(try await conversation.nextDigest() == nil, "our messages end when they close")
            try await conversation.peer.waitForClose(of: conversation.label)
        }
    }

    @Test("They end the connection; our channel ends within the bound", arguments: PeerProcess.Stack.wanted)
    func theyLeave(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            try await conversation.check(TestMessage(isText: false, size: 1000, seed: 3))
            try await conversation.peer.quit()
            // A clean end or the connection's failure: which of the two is the peer's choice.
            try await bounded(60, "the end of our messages") {
                do { while try await conversation.inbox.next() != nil {} } catch is DataChannelError {}
            }
        }
    }

    /// Kinds of channels, as `DataChannel.Options` and as the peers' command.
    private static let kinds: [(String, DataChannel.Options)] = [
        ("plain", .init()), ("unordered", .init(ordered: false)), ("named", .init(protocol: "frames.v1", priority: 1024)),
        ("retransmits", .init(maxRetransmits: 3)), ("lifetime", .init(ordered: false, maxPacketLifeTime: .milliseconds(500))),
        ("negotiated", .init(negotiated: true, id: 40)),
    ]

    @Test("RFC 8832 §5.1: every kind of channel, opened by us, is at their end what it is at ours", arguments: PeerProcess.Stack.wanted)
    func ourKinds(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            for (label, options) in Self.kinds {
                if options.negotiated {
                    // its binding makes default channels only
                    if stack == .libdatachannel { continue }
                    try await conversation.peer.createChannel(label, ["id": Int(options.id ?? 0)])
                }
                let channel = try await conversation.connection.createDataChannel(label, options)
                let facts = try await conversation.peer.waitForFacts(of: label).facts
                if let ordered = facts.ordered { #expect(ordered == options.ordered, "\(label)") }
                if stack != .libdatachannel {
                    #expect(facts.maxRetransmits == options.maxRetransmits, "\(label)")
                    #expect(facts.maxPacketLifeTime == (options.maxPacketLifeTime == nil ? nil : 500), "\(label)")
                    #expect(facts.subprotocol == options.protocol, "\(label)")
                }
                try await bounded(30, "\(label) to open") { try await channel.waitUntilOpen() }
                if options.negotiated { #expect(facts.id == 40) }
                let message = TestMessage(isText: true, size: 2000, seed: label.count)
                try await channel.send(message.message)
                #expect(try await conversation.peer.waitForMessage(on: label) == message.digest, "\(label)")
                try await conversation.peer.send(message, on: label)
                let received = try await bounded(30, "a message on \(label)") { () async throws -> DataChannel.Message? in
                    var messages = channel.messages.makeAsyncIterator()
                    return try await messages.next()
                }
                #expect(received.map(TestMessage.digest) == message.digest, "\(label)")
            }
        }
    }

    @Test(
        "RFC 8832 §5.1: every kind of channel, opened by them, is at our end what it is at theirs",
        arguments: PeerProcess.Stack.wanted.filter { $0 != .libdatachannel })
    func theirKinds(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            for (label, options) in Self.kinds where !options.negotiated {
                var command: [String: any Sendable] = ["ordered": options.ordered, "protocol": options.protocol]
                if let most = options.maxRetransmits { command["maxRetransmits"] = most }
                if options.maxPacketLifeTime != nil { command["maxPacketLifeTime"] = 500 }
                try await conversation.peer.createChannel(label, command)
                let channel = try await conversation.nextChannel()
                #expect(channel.label == label)
                #expect(channel.ordered == options.ordered, "\(label)")
                #expect(channel.maxRetransmits == options.maxRetransmits, "\(label)")
                #expect(channel.maxPacketLifeTime == options.maxPacketLifeTime, "\(label)")
                #expect(channel.protocol == options.protocol, "\(label)")
            }
        }
    }

    @Test("We end the connection with data in flight; they learn of it", arguments: PeerProcess.Stack.wanted)
    func weLeave(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            for seed in 0..<20 { try await conversation.channel.send(TestMessage(isText: false, size: 50_000, seed: seed).content) }
            try await conversation.peer.send(TestMessage(isText: false, size: 50_000, seed: 1), on: conversation.label)
            await conversation.connection.close()
            _ = try await conversation.peer.wait("the end of our connection", seconds: 60) { event in
                switch event {
                case .closed: true
                case .state(let state): ["closed", "failed", "disconnected"].contains(state)
                default: false
                }
            }
        }
    }

    @Test("A second and a third channel on a living connection, opened by either side", arguments: PeerProcess.Stack.wanted)
    func moreChannels(stack: PeerProcess.Stack) async throws {
        try await Conversation.with(stack, offering: .us) { conversation in
            let ours = try await conversation.connection.createDataChannel("ours")
            _ = try await conversation.peer.waitForOpen("ours")
            let down = TestMessage(isText: true, size: 2000, seed: 4)
            try await ours.send(down.message)
            #expect(try await conversation.peer.waitForMessage(on: "ours") == down.digest)

            try await conversation.peer.createChannel("theirs")
            let theirs = try await conversation.nextChannel()
            #expect(theirs.label == "theirs")
            _ = try await conversation.peer.waitForOpen("theirs")
            let up = TestMessage(isText: false, size: 3000, seed: 5)
            try await conversation.peer.send(up, on: "theirs")
            let received = try await bounded(30, "a message on theirs") { () async throws -> DataChannel.Message? in
                var messages = theirs.messages.makeAsyncIterator()
                return try await messages.next()
            }
            #expect(received.map(TestMessage.digest) == up.digest)
        }
    }

    @Test("Candidates that hide the address (.local) do not stop the connection")
    func hiddenAddresses() async throws {
        try await Conversation.with(.chromium, "--mdns", offering: .them) { conversation in
            try await conversation.check(TestMessage(isText: false, size: 1000, seed: 6))
        }
    }
}
