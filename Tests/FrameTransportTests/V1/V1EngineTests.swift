import NIOCore
import Testing
import Wire

@testable import FrameTransport

/// Both ends through the protocol that a driver sees.
@Suite struct V1EngineTests {
    /// All that an engine wants to send now, and what it says.
    private func drain<Engine: ConnectionEngine & ~Copyable>(
        _ engine: inout Engine, at now: Instant
    ) -> (sent: [(Lane, ByteBuffer, Bool)], events: [Engine.Event]) {
        var sent: [(Lane, ByteBuffer, Bool)] = []
        var events: [Engine.Event] = []
        while let output = engine.poll(at: now) {
            switch output {
            case .send(let lane, let bytes, let isText):
                sent.append((lane, bytes, isText))
                engine.setBuffered(0, on: lane, at: now)
            case .event(let event): events.append(event)
            }
        }
        return (sent, events)
    }

    /// Passes messages on until both are silent.
    private func settle<Left: ConnectionEngine & ~Copyable, Right: ConnectionEngine & ~Copyable>(
        _ left: inout Left, _ right: inout Right, at now: Instant
    ) -> (left: [Left.Event], right: [Right.Event]) {
        var events: (left: [Left.Event], right: [Right.Event]) = ([], [])
        while true {
            let (fromLeft, fromRight) = (drain(&left, at: now), drain(&right, at: now))
            events.left += fromLeft.events
            events.right += fromRight.events
            if fromLeft.sent.isEmpty, fromRight.sent.isEmpty { return events }
            for (lane, bytes, isText) in fromLeft.sent { right.handle(lane, bytes, isText: isText, at: now) }
            for (lane, bytes, isText) in fromRight.sent { left.handle(lane, bytes, isText: isText, at: now) }
        }
    }

    @Test("One driver runs both ends")
    func generic() {
        var client = ClientConnection(agent: "client")
        var server = ServerConnection(agent: "server", generator: SplitMix64(seed: 1))
        client.connected(channelMessageBytes: nil, at: .zero)
        server.connected(channelMessageBytes: nil, at: .zero)
        _ = client.open(JobRequest(encoding: .jpeg), at: .zero)
        let events = settle(&client, &server, at: .zero)
        #expect(client.isReady && server.isReady)
        #expect(events.right.contains(.opened(1, JobRequest(encoding: .jpeg))))
    }

    @Test("A server's jobs go on without their connection, and can be taken from it later")
    func disconnected() {
        var client = ClientConnection(agent: "client")
        var server = ServerConnection(agent: "server", generator: SplitMix64(seed: 1))
        client.connected(at: .zero)
        server.connected(at: .zero)
        _ = client.open(JobRequest(encoding: .jpeg), at: .zero)
        _ = client.open(JobRequest(encoding: .png), at: .zero)
        _ = settle(&client, &server, at: .zero)
        server.accept(1, at: .zero)
        server.disconnected(at: .zero)
        #expect(drain(&server, at: .zero).sent.isEmpty, "nothing is sent any more")
        #expect(server.accept(2, at: .zero) == nil, "what was not accepted is gone with the connection")
        #expect(server.withJob(1) { $0.isAttached } == false)
        #expect(server.deadline == Instant.zero + server.limits.resumeLifetime)
        var taken: [String] = []
        server.takeJobs(at: .zero) { taken.append($0.token) }
        #expect(taken.count == 1 && server.jobNumbers.isEmpty)
    }

    @Test("A server that goes answers the access units that its decoder keeps back, and no others", arguments: [0, 5])
    func drained(late: Int) throws {
        var client = ClientConnection(agent: "client")
        var server = ServerConnection(agent: "server", generator: SplitMix64(seed: 1))
        client.connected(at: .zero)
        server.connected(at: .zero)
        let key = client.open(JobRequest(encoding: .source), at: .zero)
        _ = settle(&client, &server, at: .zero)
        server.accept(1, at: .zero)
        _ = settle(&client, &server, at: .zero)
        var told: [ServerConnection.Event] = []
        func submit(_ count: Int) throws {
            for _ in 0..<count {
                told += settle(&client, &server, at: .zero).right
                try client.withJob(key) { sender throws(SubmitError) in
                    var info = FrameInfo(encoding: .source, width: 64, height: 48)
                    info.configuration = try sender.declare(CodecConfiguration(codec: "h264", width: 64, height: 48))
                    try sender.submit(OutgoingFrame(info: info, payload: ByteBuffer(string: "unit")))
                }
            }
        }
        try submit(10)
        _ = settle(&client, &server, at: .zero)
        // the decoder has given seven pictures
        for id in 1...7 { server.withJob(1) { $0.complete(id, Answer(), at: .zero) } }
        _ = settle(&client, &server, at: .zero)
        server.withJob(1) { $0.drain(message: "the server goes", at: .zero) }
        told = []
        try submit(late)
        told += settle(&client, &server, at: .zero).right
        #expect(told.contains(.job(1, .finished(last: 10))))
        #expect(!told.contains { if case .job(_, .frame) = $0 { true } else { false } })
        for id in 8...10 { server.withJob(1) { $0.complete(id, Answer(), at: .zero) } }
        let results = settle(&client, &server, at: .zero).left
        #expect(results.count { if case .job(_, .result) = $0 { true } else { false } } == 3)
        client.withJob(key) { $0.take(through: 10) }
        let ends = settle(&client, &server, at: .zero).left.compactMap { event -> JobEnd? in
            if case .job(_, .ended(let end)) = event { end } else { nil }
        }
        #expect(ends.map(\.status) == [.failed] && ends.map(\.message) == ["the server goes"] && ends.map(\.counts.taken) == [10])
    }
}
