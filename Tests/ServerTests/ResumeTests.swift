import Everyframe
import FrameTransport
import NIOCore
import Synchronization
import Testing
import Wire

@testable import EveryframeServer

/// The network goes away in the middle, for real: through a relay that swallows everything.
@Suite(.timeLimit(.minutes(4)), .serialized) struct ResumeTests {
    @Test("A network that swallows everything for a while: each frame is answered once, in order, and proved", arguments: [UInt64(1), 2, 3])
    func blackout(seed: UInt64) async throws {
        var random = SplitMix64(seed: seed)
        let cuts = (0..<2).map { _ in Int.random(in: 5...120, using: &random) }
        try await withServer({
            $0.model = "synthetic:5"
            $0.udpPorts = 0...0
        }) { server in
            let relay = try await Relay(httpPort: server.port, udpPort: server.udpPort)
            let (results, arrived) = AsyncStream<Int>.makeStream()
            let ids = Mutex<[Int]>([])
            let task = Task {
                try await EveryframeClient(configuration: StreamConfiguration(server: relay.url)).run(GeneratedSource(300)) { result in
                    ids.withLock { $0.append(result.frameID) }
                    arrived.yield(result.frameID)
                }
            }
            let cutter = Task {
                for await id in results where cuts.contains(id) {
                    relay.cut()
                    // longer than the watchdogs need to notice: silence after 1.5 s, given up after 3 s more
                    try await Task.sleep(for: .seconds(id % 2 == 0 ? 1 : 6))
                    relay.mend()
                }
            }
            let summary = try await task.value
            arrived.finish()
            _ = try? await cutter.value
            #expect(summary.ok, "seed \(seed), cuts at \(cuts): \(summary.verdict) \(summary.failure.map { "\($0)" } ?? "")")
            #expect(ids.withLock { $0 } == Array(1...300))
            #expect(summary.verification == .proved)
            await relay.close()
        }
    }

    @Test("Another process goes on with the token: together the two have each result once, in order", arguments: [7, 60])
    func anotherProcess(stopAfter: Int) async throws {
        try await withServer({ $0.model = "synthetic:2" }) { server in
            let ids = Mutex<[Int]>([])
            let ticket = Mutex<ResumeTicket?>(nil)
            struct Killed: Error {}
            // The first is killed as a process would be: no goodbye. Its connection is simply not heard of any more.
            let relay = try await Relay(httpPort: server.port, udpPort: server.udpPort)
            var handlers = EveryframeClient.Handlers()
            handlers.onTicket = { given in ticket.withLock { $0 = given } }
            let (reached, arrived) = AsyncStream<Void>.makeStream()
            handlers.onResult = { result in
                // what comes after the kill is nobody's
                let count = ids.withLock { ids in
                    if ids.count < stopAfter { ids.append(result.frameID) }
                    return ids.count
                }
                if count == stopAfter {
                    relay.cut()
                    arrived.yield()
                    // never delivered, never acknowledged
                    throw Killed()
                }
            }
            let first = Task { [handlers] in
                try await EveryframeClient(configuration: StreamConfiguration(server: relay.url)).run(GeneratedSource(150), handlers: handlers)
            }
            for await _ in reached { break }
            var configuration = StreamConfiguration(server: server.url)
            configuration.resume = ticket.withLock { $0 }
            #expect(configuration.resume != nil)
            let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(150)) { result in
                // as `everyframe stream --resume` does with the lines that are in its file
                ids.withLock { if result.frameID > ($0.last ?? 0) { $0.append(result.frameID) } }
            }
            #expect(summary.failure == nil, "\(summary.failure.map { "\($0)" } ?? "")")
            #expect(ids.withLock { $0 } == Array(1...150))
            if case .provedAfter = summary.verification {} else { Issue.record("\(summary.verdict)") }
            _ = try? await first.value
            await relay.close()
        }
    }

    @Test("A client that never comes back is forgotten after its time, and its frames with it")
    func forgotten() async throws {
        try await withServer({ $0.limits.job.resumeLifetime = .milliseconds(300) }) { server in
            let relay = try await Relay(httpPort: server.port, udpPort: server.udpPort)
            var configuration = StreamConfiguration(server: relay.url)
            configuration.timeouts.resume = .seconds(1)
            let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(100_000)) { result in
                if result.frameID == 5 { relay.cut() }
            }
            #expect(summary.failure?.code == .connectionLost)
            while await server.server.state.parked > 0, !Task.isCancelled { await Task.yield() }
            await relay.close()
        }
    }
}
