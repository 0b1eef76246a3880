import NIOCore
import NIOPosix
import Testing
import WebRTC
import WebRTCNIO
import Wire

@Suite struct EndpointOptionsTests {
    private func options(_ host: String?, _ ports: ClosedRange<UInt16> = 0...0) -> UDPEndpoint.Options {
        var options = UDPEndpoint.Options()
        options.host = host
        options.ports = ports
        return options
    }

    @Test("Of a range a free port is taken; where none is left that is an error which says so")
    func portRange() async throws {
        // three ports that were free a moment ago, in a row
        var taken: [UDPEndpoint] = []
        var range: ClosedRange<UInt16>?
        for _ in 0..<50 where range == nil {
            let probe = try await UDPEndpoint.bind(host: "127.0.0.1")
            let first = try #require(probe.localAddresses.first?.port)
            await probe.close()
            guard first < 65_533 else { continue }
            let candidate = first...first + 2
            if let endpoint = try? await UDPEndpoint.bind(options("127.0.0.1", candidate)) {
                taken = [endpoint]
                range = candidate
            }
        }
        let ports = try #require(range)
        while taken.count < 3, let endpoint = try? await UDPEndpoint.bind(options("127.0.0.1", ports)) { taken.append(endpoint) }
        let numbers = taken.flatMap(\.localAddresses).map(\.port)
        #expect(numbers.allSatisfy(ports.contains) && Set(numbers).count == numbers.count)
        // other tests, and other programs, may have had one of them
        await #expect(throws: (any Error).self) { try await UDPEndpoint.bind(options("127.0.0.1", ports)) }
        for endpoint in taken { await endpoint.close() }
        await #expect(throws: PeerConnectionError.self) { try await UDPEndpoint.bind(options("127.0.0.1", 0...7)) }
    }

    @Test("Addresses to be advertised are numeric, and one of each family", arguments: [["host.example"], ["0.0.0.0"], ["203.0.113.1", "203.0.113.2"]])
    func refused(addresses: [String]) async throws {
        var options = options(nil)
        options.advertisedAddresses = addresses
        await #expect(throws: PeerConnectionError.self) { try await UDPEndpoint.bind(options) }
    }

    @Test("Peers are told the advertised address in place of our own of its family, with our port; loopback stays")
    func advertised() async throws {
        let endpoint = try await {
            var options = options(nil)
            options.includeLoopback = true
            options.advertisedAddresses = ["203.0.113.7", "2001:db8::7"]
            return try await UDPEndpoint.bind(options)
        }()
        let connection = try await PeerConnection(endpoint: endpoint)
        _ = try await connection.createDataChannel("test")
        try await connection.setLocalDescription()
        let text = try await within(.seconds(60)) { try await connection.gatheringComplete() }.sdp
        let lines = text.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("a=candidate:") }
        let candidates = try lines.map { try IceCandidate(sdp: String($0)) }
        let told = candidates.compactMap(\.transportAddress)
        for local in endpoint.localAddresses {
            let expected: TransportAddress.IP? =
                local.ip.isLoopback ? local.ip : TransportAddress.IP(local.ip.isIPv6 ? "2001:db8::7" : "203.0.113.7")
            #expect(told.contains { $0.ip == expected && $0.port == local.port }, "\(local)")
            if !local.ip.isLoopback { #expect(!told.contains(local), "\(local) is not for others") }
        }
        #expect(candidates.allSatisfy { $0.kind == .host })
        await connection.close()
        await endpoint.close()
    }

    @Test(
        "W3C restartIce: negotiation is asked for, the ufrag changes, channels go on, on endpoints of their own and on a shared one",
        arguments: [false, true])
    func restart(isShared: Bool) async throws {
        let shared = isShared ? try await UDPEndpoint.bind(host: "127.0.0.1") : nil
        let pair = try await ConnectedPair.make(answererEndpoint: shared)
        let before = try #require(await pair.offerer.localDescription?.sdp)
        try await pair.left.send("before")
        await pair.offerer.restartIce()
        try await within(.seconds(60)) {
            for await event in pair.offerer.events { if case .negotiationNeeded = event { return } }
            throw Ended()
        }
        try await ConnectedPair.signal(pair.offerer, pair.answerer)
        let after = try #require(await pair.offerer.localDescription?.sdp)
        func ufrag(_ text: String) -> Substring? { text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("a=ice-ufrag:") } }
        #expect(ufrag(before) != ufrag(after) && ufrag(after) != nil)
        try await pair.left.send("after")
        try await within(.seconds(60)) {
            var messages = pair.right.messages.makeAsyncIterator()
            try await expect(.text("before"), from: &messages)
            try await expect(.text("after"), from: &messages)
        }
        #expect(await pair.offerer.connectionState == .connected)
        await pair.close()
        await shared?.close()
    }
}
