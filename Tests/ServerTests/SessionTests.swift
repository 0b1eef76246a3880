import Everyframe
import FrameTransport
import NIOCore
import ServiceLifecycle
import Testing
import WebRTCNIO

@testable import EveryframeServer

@Suite(.timeLimit(.minutes(2)), .serialized) struct SessionTests {
    @Test("Every frame is answered once, in order, and the server tells its stage times", arguments: StreamConfiguration.Wire.allCases)
    func everyFrame(wire: StreamConfiguration.Wire) async throws {
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.wire = wire
            let client = EveryframeClient(configuration: configuration)
            let run = client.start(GeneratedSource(200))
            var ids: [Int] = []
            for try await result in run.results {
                ids.append(result.frameID)
                #expect(result.errors.isEmpty)
                #expect(result.outputs?["synthetic"]?.bool == true)
                #expect(result.outputs?["predictions"]?["image"]?["width"]?.integer == Pictures.width)
            }
            #expect(ids == Array(1...200))
            let summary = try await run.summary
            #expect(summary.ok && summary.framesDecoded == 200 && summary.resultsReceived == 200)
            let names = summary.stages?.stages.map(\.name) ?? []
            #expect(wire == .prototype ? names == ["wait", "decode", "inference", "serialise", "send"] : names.contains("decode"))
            #expect(summary.verification == (wire == .everyframe ? .proved : nil))
            await server.waitUntilEmpty()
        }
    }

    @Test(
        "Pixels are encoded on the way; PNG and JPEG both arrive", arguments: StreamConfiguration.Wire.allCases,
        [StreamConfiguration.Encoding.png, .jpeg(quality: 70)])
    func encodings(wire: StreamConfiguration.Wire, encoding: StreamConfiguration.Encoding) async throws {
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.wire = wire
            configuration.encoding = encoding
            let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(20, frame: SourceFrame(Pictures.frame)))
            #expect(summary.ok && summary.framesSent == 20)
        }
    }

    @Test("data_output chooses what a result carries", arguments: StreamConfiguration.Wire.allCases)
    func outputs(wire: StreamConfiguration.Wire) async throws {
        try await withServer { server in
            for (output, expected) in [
                (StreamConfiguration.DataOutput.none, nil), (.named(["count"]), ["count", "synthetic"]), (.all, ["predictions", "count", "synthetic"]),
            ] as [(StreamConfiguration.DataOutput, [String]?)] {
                var configuration = StreamConfiguration(server: server.url)
                configuration.wire = wire
                configuration.dataOutput = output
                let run = EveryframeClient(configuration: configuration).start(GeneratedSource(2))
                for try await result in run.results { #expect(result.outputs?.object?.members.map(\.name) == expected) }
            }
        }
    }

    @Test("A session's stats are there while it runs, for those who have the key, and in the client's summary", arguments: StreamConfiguration.Wire.allCases)
    func stats(wire: StreamConfiguration.Wire) async throws {
        try await withServer({ $0.apiKey = "sesame" }) { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.wire = wire
            configuration.apiKey = "sesame"
            let key = ["Authorization": "Bearer sesame"]
            let run = EveryframeClient(configuration: configuration).start(GeneratedSource(20))
            var seen = 0
            for try await result in run.results where result.frameID == 10 {
                #expect(try await server.get("/sessions").status == 401)
                let list = try await server.get("/sessions", headers: key)
                let id = try #require(list.json["sessions"]?.array?.first?["id"]?.integer)
                #expect(list.status == 200 && list.json["sessions"]?.array?.count == 1)
                #expect(try await server.get("/sessions/\(id)/stats").status == 401)
                let stats = try await server.get("/sessions/\(id)/stats", headers: key)
                #expect(stats.status == 200)
                let members = try #require(stats.json.object?.members)
                let types = Set(members.compactMap { $0.value["type"]?.string })
                #expect(
                    types.isSuperset(of: ["peer-connection", "transport", "candidate-pair", "local-candidate", "certificate", "data-channel", "sctp-transport"])
                )
                #expect(members.allSatisfy { $0.value["id"]?.string == $0.name && ($0.value["timestamp"]?.double ?? 0) > 1e12 })
                let channels = members.filter { $0.value["type"]?.string == "data-channel" }
                #expect(channels.count == 2 && channels.contains { ($0.value["messagesReceived"]?.integer ?? 0) > 0 })
                #expect(try await server.get("/sessions/\(id + 1)/stats", headers: key).status == 404)
                seen += 1
            }
            #expect(seen == 1)
            let summary = try await run.summary
            #expect((summary.webrtcStats?.transport.bytesSent ?? 0) > 0)
            #expect(summary.json["webrtc_stats"]?["T"]?["type"]?.string == "transport")
            await server.waitUntilEmpty()
            #expect(try await server.get("/sessions", headers: key).json["sessions"]?.array?.isEmpty == true)
        }
    }

    @Test("Two sessions at once are served side by side", arguments: StreamConfiguration.Wire.allCases)
    func twoSessions(wire: StreamConfiguration.Wire) async throws {
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.wire = wire
            let client = EveryframeClient(configuration: configuration)
            async let first = client.run(GeneratedSource(100))
            async let second = client.run(GeneratedSource(100))
            let summaries = try await [first, second]
            #expect(summaries[0].ok && summaries[1].ok)
        }
    }

    @Test(
        "A source that breaks in the middle: what it gave is answered, and both ends know why it ended", arguments: StreamConfiguration.Wire.allCases)
    func brokenSource(wire: StreamConfiguration.Wire) async throws {
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.wire = wire
            let client = EveryframeClient(configuration: configuration)
            let summary = try await client.run(GeneratedSource(10, failAtEnd: true))
            #expect(summary.failure?.code == .sourceFailed)
            #expect(summary.resultsReceived == 10 && !summary.ok)
        }
    }

    @Test("Bad base64, a bad JPEG, chunks out of range and JSON that is none: each frame has its answer and the rest go on")
    func badFrames() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send(1)
            try await client.upstream.send(#"{"type":"frame_chunk","frame_id":2,"chunk_id":0,"chunks":1,"encoding":"jpg","width":1,"height":1,"data":"!!!!"}"#)
            try await client.upstream.send(#"{"type":"frame_chunk","frame_id":3,"chunk_id":0,"chunks":1,"encoding":"jpg","width":1,"height":1,"data":"AAAA"}"#)
            try await client.upstream.send(#"{"type":"frame_chunk","frame_id":4,"chunk_id":7,"chunks":2,"data":"AAAA"}"#)
            for text in ["not json", "3", "[1,2]", "{}", #"{"type":"hello"}"#, #"{"type":"frame_chunk","frame_id":5,"data":3}"#] {
                try await client.upstream.send(text)
            }
            try await client.inference.send("[1,2]")
            try await client.send(6, chunkSize: 300)
            try await client.send(7, ByteBuffer(bytes: Pictures.jpeg.readableBytesView.dropLast(40)))
            try await client.send(8)
            try await client.endOfFrames()
            let answers = try await client.answers()
            #expect(answers.map(\.videoMetadata.frameID) == [1, 2, 3, 4, 5, 6, 7, 8, 8])
            #expect(answers.dropLast().map(\.errors.isEmpty) == [true, false, false, false, false, true, false, true])
            #expect(answers.last?.completion?.terminationReason == nil && answers.last?.completion != nil)
            await client.peer.close()
            await server.waitUntilEmpty()
        }
    }

    @Test("A frame that is never completed is answered with an error after its age")
    func neverCompleted() async throws {
        try await withServer({ $0.limits.reassemblyAge = .milliseconds(300) }) { server in
            let client = try await server.connect()
            try await client.upstream.send(#"{"type":"frame_chunk","frame_id":1,"chunk_id":0,"chunks":2,"data":"AAAA"}"#)
            try await client.send(2)
            let answers = try await client.answers(2)
            #expect(answers.map(\.videoMetadata.frameID) == [1, 2])
            #expect(answers.map(\.errors.isEmpty) == [false, true])
            await client.peer.close()
        }
    }

    @Test("A client that vanishes frees its session")
    func vanishes() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send(1)
            #expect(try await client.answers(1).count == 1)
            await client.peer.close()
            await server.waitUntilEmpty()
        }
    }

    @Test("A client that never connects, and one that never sends, are let go")
    func silent() async throws {
        try await withServer({
            $0.limits.connectTime = .milliseconds(300)
            $0.limits.idleTime = .milliseconds(600)
        }) { server in
            let client = try await server.connect()
            let answers = try await client.answers()
            #expect(answers.last?.completion?.terminationReason == "idle_timeout")
            // an offer that nobody stands behind
            let peer = try await PeerConnection()
            _ = try await peer.createDataChannel("inference")
            try await peer.setLocalDescription(peer.createOffer())
            let offer = try await peer.gatheringComplete()
            let body: JSON = ["webrtc_offer": ["type": "offer", "sdp": .string(offer.sdp)], "frame_transport": "data_channel"]
            await peer.close()
            #expect(try await server.post(body.description).status == 200)
            await server.waitUntilEmpty()
        }
    }

    @Test("PROTOCOLS.md section 3: the time limit ends a session with timeout_reached")
    func timeLimit() async throws {
        try await withServer { server in
            let client = try await server.connect(["processing_timeout": 1])
            try await client.send(1)
            let answers = try await client.answers()
            #expect(answers.first?.videoMetadata.frameID == 1)
            #expect(answers.last?.completion?.terminationReason == "timeout_reached")
            await client.peer.close()
        }
    }

    @Test("frame_error ends the session with its word")
    func frameError() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.upstream.send(#"{"type":"frame_error","error":"failed_to_open"}"#)
            let answers = try await client.answers()
            #expect(answers.last?.completion?.terminationReason == "frame_error")
            #expect(answers.last?.errors == ["failed_to_open"])
        }
    }

    @Test("More sessions than allowed are 503, and the place is free again afterwards")
    func full() async throws {
        try await withServer({ $0.limits.sessions = 1 }) { server in
            let client = try await server.connect()
            await #expect(throws: Refusal.self) { try await server.connect() }
            await client.peer.close()
            await server.waitUntilEmpty()
            try await server.connect().peer.close()
        }
    }

    @Test("A shutdown answers what is queued and says so")
    func shutdown() async throws {
        try await withServer({ $0.model = "synthetic:20" }) { server in
            let client = try await server.connect()
            for id in 1...10 { try await client.send(id) }
            var answers = try await client.answers(1)
            await server.group.triggerGracefulShutdown()
            answers += try await client.answers()
            let last = answers.removeLast()
            #expect(last.completion?.terminationReason == "server_shutdown")
            #expect(answers.map(\.videoMetadata.frameID) == Array(1...answers.count))
            #expect(last.videoMetadata.frameID == answers.count)
        }
    }

    @Test("A port that is taken ends the second server at once and leaves the first alone", .timeLimit(.minutes(1)))
    func portTaken() async throws {
        try await withServer { first in
            var configuration = ServerConfiguration()
            configuration.port = first.port
            configuration.udpHost = "127.0.0.1"
            configuration.model = "synthetic:0"
            let second = try await EveryframeServer(configuration: configuration)
            let error = await #expect(throws: ServerError.self) { try await second.run() }
            #expect(error?.code == .cannotBind && error?.detail.contains("address already in use") == true)
            try await first.connect().peer.close()
        }
    }

    @Test("A client that does not take its answers stops being read, and loses nothing")
    func backpressure() async throws {
        try await withServer({ $0.limits.framesInPipeline = 4 }) { server in
            let client = try await server.connect()
            for id in 1...300 { try await client.send(id) }
            try await client.endOfFrames()
            let answers = try await client.answers()
            #expect(answers.map(\.videoMetadata.frameID) == Array(1...300) + [300])
        }
    }

    @Test("What keeps a stream from beginning has its own error")
    func clientErrors() async throws {
        @Sendable func code(_ url: String) async -> StreamError? {
            do throws(StreamError) {
                _ = try await EveryframeClient(configuration: StreamConfiguration(server: url)).run(GeneratedSource(1))
                return nil
            } catch { return error }
        }
        #expect(await code("nonsense")?.code == .invalidConfiguration)
        #expect(await code("http://127.0.0.1:1")?.code == .serverUnreachable)
        try await withServer({ $0.apiKey = "k" }) { server in
            let error = await code(server.url)
            #expect(error?.code == .refused && error?.status == 401)
        }
    }
}
