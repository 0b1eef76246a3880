import NIOCore
import NetworkSimulator
import Testing
import WebRTC
import WebRTCNIO

/// One connection between our stack and another, with one open channel.
struct Conversation: Sendable {
    enum Side: Sendable { case us, them }

    let peer: PeerProcess
    let connection: PeerConnection
    let channel: DataChannel
    let label: String
    let inbox: Inbox
    /// The largest message they accept and the largest they send.
    let theirLimit: Int
    let theirSendLimit: Int
    private let channels: AsyncStream<DataChannel>
    let relay: ImpairedRelay?

    /// Connects, runs `body`, and ends both sides whatever happened.
    static func with(
        _ stack: PeerProcess.Stack, _ options: String..., offering: Side, maxMessageSize: Int? = nil, path: LinkConditions? = nil,
        _ body: @Sendable (Conversation) async throws -> Void
    ) async throws {
        let peer = options.isEmpty ? try await PeerProcess(stack) : try await PeerProcess(stack, options[0])
        do {
            let relay = try await path.mapAsync { try await ImpairedRelay($0) }
            var configuration = PeerConnection.Configuration()
            if let maxMessageSize { configuration.maxMessageSize = maxMessageSize }
            let connection = try await PeerConnection(configuration: configuration)
            do {
                try await body(Conversation(peer, connection, relay, offering: offering, maxMessageSize: configuration.maxMessageSize))
            } catch {
                await connection.close()
                await relay?.close()
                throw error
            }
            try await bounded(20, "our connection's close") { await connection.close() }
            await relay?.close()
        } catch {
            await peer.end()
            throw error
        }
        await peer.end()
    }

    private init(_ peer: PeerProcess, _ connection: PeerConnection, _ relay: ImpairedRelay?, offering: Side, maxMessageSize: Int) async throws {
        @Sendable func ours(_ sdp: String) throws -> String { try relay?.rewrite(sdp, of: .one) ?? sdp }
        @Sendable func theirs(_ sdp: String) throws -> String { try relay?.rewrite(sdp, of: .other) ?? sdp }
        let label = "interop"
        let (channels, found) = AsyncStream<DataChannel>.makeStream()
        Task {
            for await event in connection.events { if case .dataChannel(let channel) = event { found.yield(channel) } }
            found.finish()
        }
        let answer: String
        let channel: DataChannel
        switch offering {
        case .us:
            channel = try await connection.createDataChannel(label)
            try await connection.setLocalDescription(connection.createOffer())
            let offer = try await bounded(20, "our candidates") { try await connection.gatheringComplete() }
            try await peer.setDescription(type: "offer", sdp: ours(offer.sdp))
            answer = try await theirs(peer.waitForDescription().sdp)
            try await connection.setRemoteDescription(SessionDescription(kind: .answer, sdp: answer))
            try await Self.open(peer, connection, theirs)
        case .them:
            try await peer.createChannel(label)
            try await peer.makeOffer()
            answer = try await theirs(peer.waitForDescription().sdp)
            try await connection.setRemoteDescription(SessionDescription(kind: .offer, sdp: answer))
            try await connection.setLocalDescription(connection.createAnswer())
            let ourAnswer = try await bounded(20, "our candidates") { try await connection.gatheringComplete() }
            try await peer.setDescription(type: "answer", sdp: ours(ourAnswer.sdp))
            try await Self.open(peer, connection, theirs)
            channel = try await bounded(30, "their channel") { try await Self.first(of: channels) }
            #expect(channel.label == label)
        }
        try await bounded(30, "our channel to open") { try await channel.waitUntilOpen() }
        let limit = try await peer.waitForOpen(label)
        self.peer = peer
        self.connection = connection
        self.channel = channel
        self.label = label
        self.channels = channels
        self.relay = relay
        inbox = Inbox(channel)
        // RFC 8841 §6: without the attribute the limit is 64 KiB; zero means none.
        let announced = answer.split(whereSeparator: \.isNewline).first { $0.hasPrefix("a=max-message-size:") }.flatMap { Int($0.dropFirst(19)) } ?? 65_536
        theirLimit = announced == 0 ? 1 << 20 : announced
        theirSendLimit = min(limit ?? maxMessageSize, maxMessageSize)
    }

    /// Hands over candidates until both ends are connected.
    private static func open(
        _ peer: PeerProcess, _ connection: PeerConnection, _ rewrite: @escaping @Sendable (String) throws -> String
    ) async throws {
        try await bounded(40, "the connection") {
            let relay = Task {
                while !Task.isCancelled {
                    for (candidate, mid) in await peer.takeCandidates() {
                        let rewritten = try rewrite(candidate)
                        if rewritten.isEmpty { continue }
                        var candidate = try IceCandidate(sdp: rewritten)
                        candidate.sdpMid = mid
                        try await connection.addIceCandidate(candidate)
                    }
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            defer { relay.cancel() }
            try await connection.waitUntilConnected(timeout: .seconds(35))
        }
    }

    private static func first(of channels: AsyncStream<DataChannel>) async throws -> DataChannel {
        for await channel in channels { return channel }
        throw TimedOut(description: "the connection ended before they opened a channel")
    }

    func nextDigest() async throws -> TestMessage.Digest? {
        try await bounded(60, "a message from \(peer.stack)") { try await inbox.next() }.map(TestMessage.digest)
    }

    func nextChannel() async throws -> DataChannel {
        try await bounded(30, "a channel from \(peer.stack)") { try await Self.first(of: channels) }
    }

    /// One message to them.
    func check(_ message: TestMessage) async throws {
        try await bounded(60, "sending \(message.testDescription)") { try await channel.send(message.message) }
        #expect(try await peer.waitForMessage(on: label) == message.digest, "\(message.testDescription)")
    }

    /// Both directions at once, each up to what the receiving side accepts and the sending side can.
    func exchangeLadders(upTo bound: Int = .max) async throws {
        let down = TestMessage.ladder(upTo: min(theirLimit, bound))
        let up = TestMessage.ladder(upTo: min(theirSendLimit, bound))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { for message in down { try await channel.send(message.message) } }
            group.addTask {
                for message in down {
                    let digest = try await peer.waitForMessage(on: label)
                    #expect(digest == message.digest, "to \(peer.stack): \(message.testDescription)")
                }
            }
            group.addTask { for message in up { try await peer.send(message, on: label) } }
            group.addTask {
                for message in up {
                    let digest = try await nextDigest()
                    #expect(digest == message.digest, "from \(peer.stack): \(message.testDescription)")
                }
            }
            try await group.waitForAll()
        }
    }
}

/// One iterator over a channel's messages, for tests that take them one by one.
actor Inbox {
    private let stream: AsyncThrowingStream<DataChannel.Message, any Error>
    private var iterator: AsyncThrowingStream<DataChannel.Message, any Error>.Iterator

    init(_ channel: DataChannel) {
        let (stream, continuation) = AsyncThrowingStream<DataChannel.Message, any Error>.makeStream()
        Task {
            do {
                for try await message in channel.messages { continuation.yield(message) }
                continuation.finish()
            } catch { continuation.finish(throwing: error) }
        }
        self.stream = stream
        iterator = stream.makeAsyncIterator()
    }

    func next() async throws -> DataChannel.Message? {
        var iterator = iterator
        defer { self.iterator = iterator }
        return try await iterator.next(isolation: self)
    }
}

extension Optional {
    func mapAsync<Value>(_ change: (Wrapped) async throws -> Value) async throws -> Value? {
        guard let self else { return nil }
        return try await change(self)
    }
}

struct TimedOut: Error, CustomStringConvertible {
    var description: String
}

/// Runs `body`, for at most so many seconds.
func bounded<Value: Sendable>(_ seconds: Double, _ what: String, _ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
    try await withThrowingTaskGroup(of: Value.self) { group in
        group.addTask(operation: body)
        group.addTask {
            try await Task.sleep(for: .seconds(seconds))
            throw TimedOut(description: "\(what): not within \(seconds) s")
        }
        defer { group.cancelAll() }
        guard let value = try await group.next() else { throw TimedOut(description: what) }
        return value
    }
}
