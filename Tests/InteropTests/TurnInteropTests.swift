import Foundation
import NIOCore
import Testing
import WebRTC
import WebRTCNIO
import Wire

/// Debian's coturn on loopback, over UDP, TCP and TLS. Tests without any other path between the peers are in scripts/test-reach.
@Suite(.serialized, .enabled(if: PeerProcess.isWanted, "EVERYFRAME_INTEROP=1 runs these (make test does)"), .timeLimit(.minutes(3)))
struct TurnInteropTests {
    static let transports = ["udp", "tcp", "tls"]

    @Test("RFC 8656 §7: an allocation by itself", arguments: transports)
    func trial(transport: String) async throws {
        let server = try await TurnServerProcess()
        let report = try await bounded(20, "an allocation") {
            try await TurnTrial.allocate(
                url: server.url(transport), username: TurnServerProcess.username, credential: TurnServerProcess.password,
                trustedCertificates: server.authority)
        }
        #expect(report.relayed.first?.ip == TransportAddress.IP("127.0.0.1"))
        #expect(report.mapped?.ip == TransportAddress.IP("127.0.0.1"))
        // RFC 8656 §8: given back at the end, not left to expire
        try await server.waitForLog("lifetime=0")
    }

    @Test("What a server refuses is told by its reason", arguments: transports)
    func refusals(transport: String) async throws {
        let server = try await TurnServerProcess(["user-quota=1"])
        @Sendable func code(_ password: String, _ url: String? = nil) async -> TurnError? {
            do {
                _ = try await TurnTrial.allocate(
                    url: url ?? server.url(transport), username: TurnServerProcess.username, credential: password, trustedCertificates: server.authority,
                    timeout: .seconds(8))
                return nil
            } catch { return error }
        }
        guard case .unauthorized = await code("wrong") else {
            Issue.record("a wrong password is not told")
            return
        }
        // the first allocation is held by a connection, the second is one too many
        var configuration = PeerConnection.Configuration()
        configuration.iceServers = [server.server(transport)]
        configuration.includeLoopback = true
        configuration.iceTransportPolicy = .relay
        let holder = try await PeerConnection(configuration: configuration)
        _ = try await holder.createDataChannel("x")
        try await holder.setLocalDescription()
        let offer = try await bounded(20, "gathering") { try await holder.gatheringComplete() }
        #expect(offer.sdp.contains("typ relay raddr 0.0.0.0 rport 0"), "\(offer.sdp)")
        #expect(offer.sdp.components(separatedBy: "a=candidate").count == 2, "nothing but the relayed candidate")
        #expect(await code(TurnServerProcess.password) == .quotaReached)
        try await bounded(10, "close") { await holder.close() }
        try await server.waitForLog("lifetime=0")
        // coturn counts a session for a few seconds more
        try await bounded(20, "an allocation in the place of the one given back") {
            while await code(TurnServerProcess.password) == .quotaReached { try await Task.sleep(for: .milliseconds(500)) }
        }
        server.end()
        switch (transport, await code(TurnServerProcess.password)) {
        case ("udp", .timedOut), ("tcp", .cannotConnect), ("tls", .cannotConnect): break
        case (_, let other): Issue.record("a server that is gone: \(String(describing: other))")
        }
    }

    @Test("A certificate that nobody vouches for is not accepted (RFC 8656 §21.1.6)")
    func untrusted() async throws {
        let server = try await TurnServerProcess()
        do {
            _ = try await TurnTrial.allocate(url: server.url("tls"), username: "a", credential: "b")
            Issue.record("accepted")
        } catch {
            #expect(error == .cannotConnect("its certificate cannot be verified"))
        }
    }

    @Test("Data channels both ways by relays only, one on either side", arguments: transports)
    func relayOnly(transport: String) async throws {
        let server = try await TurnServerProcess()
        try await withPair(server, transport) { offerer, answerer in
            try await exchange(offerer, answerer, size: 400_000)
            let stats = await offerer.getStats()
            #expect(stats.selectedLocalCandidate?.candidateType == "relay" && stats.selectedRemoteCandidate?.candidateType == "relay")
            // a relay is taken for a path of 1,500 bytes, though loopback carries more
            #expect((1200...1500).contains(stats.sctpTransport.everyframe.datagramSize))
        }
        // two allocations, each given back
        try await server.waitForLog("lifetime=0", count: 2)
    }

    @Test("RFC 8489 §9.2.5: nonces grow old within a connection's life, and it goes on")
    func staleNonce() async throws {
        let server = try await TurnServerProcess(["stale-nonce=1", "max-allocate-lifetime=8"])
        try await withPair(server, "udp") { offerer, answerer in
            try await exchange(offerer, answerer, size: 100_000)
            // longer than the allocation lasts without its refresh
            try await Task.sleep(for: .seconds(10))
            try await exchange(offerer, answerer, size: 100_000)
        }
    }

    @Test("A server that is gone fails the relayed candidates; ICE goes on with the direct ones", arguments: ["udp", "tcp"])
    func lostServer(transport: String) async throws {
        let server = try await TurnServerProcess()
        try await withPair(server, transport, policy: .all) { offerer, answerer in
            try await exchange(offerer, answerer, size: 100_000)
            server.end()
            try await exchange(offerer, answerer, size: 100_000)
        }
    }

    @Test("Gathering does not wait for a server that nobody reaches")
    func unreachable() async throws {
        var configuration = PeerConnection.Configuration()
        configuration.includeLoopback = true
        // a port where nothing listens, and one that swallows everything
        let deaf = try await UDPEndpoint.bind(host: "127.0.0.1")
        let port = try #require(deaf.localAddresses.first?.port)
        configuration.iceServers = [
            .init(urls: ["turn:127.0.0.1:\(port)", "turn:127.0.0.1:1?transport=tcp", "turns:127.0.0.1:1"], username: "a", credential: "b")
        ]
        let connection = try await PeerConnection(configuration: configuration)
        _ = try await connection.createDataChannel("x")
        try await connection.setLocalDescription()
        let offer = try await bounded(15, "gathering") { try await connection.gatheringComplete() }
        #expect(offer.sdp.contains("typ host") && !offer.sdp.contains("typ relay"))
        var told: Set<String> = []
        let events = Task {
            var told: Set<String> = []
            for await event in connection.events {
                if case .iceCandidateError(let error) = event, error.errorCode == 701 { told.insert(error.url) }
                if told.count == 3 { break }
            }
            return told
        }
        told = try await bounded(30, "the three reasons") { await events.value }
        #expect(told.count == 3)
        await connection.close()
        await deaf.close()
    }

    @Test("What is no ICE server is refused before anything happens", arguments: ["turn:", "http://x", "turns:x?transport=udp"])
    func badURL(url: String) async throws {
        var configuration = PeerConnection.Configuration()
        configuration.iceServers = [.init(urls: [url], username: "a", credential: "b")]
        await #expect(throws: PeerConnectionError.self) { _ = try await PeerConnection(configuration: configuration) }
        configuration.iceServers = [.init(urls: ["turn:127.0.0.1"])]
        await #expect(throws: PeerConnectionError.self) { _ = try await PeerConnection(configuration: configuration) }
    }

    // MARK: Two peers

    private func withPair(
        _ server: TurnServerProcess, _ transport: String, policy: PeerConnection.IceTransportPolicy = .relay,
        _ body: @Sendable (PeerConnection, PeerConnection) async throws -> Void
    ) async throws {
        var configuration = PeerConnection.Configuration()
        configuration.iceServers = [server.server(transport)]
        configuration.iceTransportPolicy = policy
        configuration.includeLoopback = true
        let offerer = try await PeerConnection(configuration: configuration)
        // many sessions behind one port, as a server has them
        let endpoint = try await UDPEndpoint.bind(host: "127.0.0.1")
        let answerer = try await PeerConnection(configuration: configuration, endpoint: endpoint)
        do {
            _ = try await offerer.createDataChannel("warm up")
            try await offerer.setLocalDescription()
            try await answerer.setRemoteDescription(try await bounded(20, "the offer") { try await offerer.gatheringComplete() })
            try await answerer.setLocalDescription()
            try await offerer.setRemoteDescription(try await bounded(20, "the answer") { try await answerer.gatheringComplete() })
            try await bounded(30, "the connection") { try await offerer.waitUntilConnected(timeout: .seconds(25)) }
            try await body(offerer, answerer)
        } catch {
            await offerer.close()
            await answerer.close()
            await endpoint.close()
            throw Trouble(description: "\(error); coturn said: \(server.log.suffix(3000))")
        }
        await offerer.close()
        await answerer.close()
        try await Task.sleep(for: .milliseconds(200))
        await endpoint.close()
    }

    private struct Trouble: Error, CustomStringConvertible {
        var description: String
    }

    /// `size` bytes there, and the same back, on a channel of its own.
    private func exchange(_ offerer: PeerConnection, _ answerer: PeerConnection, size: Int) async throws {
        let message = TestMessage(isText: false, size: size, seed: size & 255)
        let echo = Task {
            for await event in answerer.events {
                guard case .dataChannel(let channel) = event, channel.label == "echo" else { continue }
                for try await message in channel.messages {
                    try await channel.send(message)
                    return
                }
            }
        }
        defer { echo.cancel() }
        let channel = try await offerer.createDataChannel("echo")
        try await bounded(60, "\(size) bytes there and back") {
            try await channel.send(message.message)
            for try await answer in channel.messages {
                #expect(TestMessage.digest(of: answer) == message.digest)
                break
            }
        }
        _ = try await bounded(10, "the echo's end") { try? await echo.value }
    }
}
