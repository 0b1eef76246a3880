import Foundation
import NIOCore
import Testing
import WebRTCNIO
import Wire

/// W3C's webrtc-stats, over real sockets on loopback.
@Suite(.serialized) struct StatsTests {
    /// Values of the moment go on changing: a report of each end once nothing is on its way.
    private func reports(of pair: ConnectedPair) async throws -> (left: StatsReport, right: StatsReport) {
        try await pair.left.drained()
        return (await pair.offerer.getStats(), await pair.answerer.getStats())
    }

    @Test("webrtc-stats §7: every object is there, under W3C's names, and names the others by id")
    func objects() async throws {
        let before = Date().timeIntervalSince1970 * 1e3
        let pair = try await ConnectedPair.make(label: "channel", options: .init(protocol: "proto"))
        try await pair.left.send(payload(100_000, seed: 1))
        let (stats, other) = try await reports(of: pair)
        let after = Date().timeIntervalSince1970 * 1e3
        #expect(Set(stats.all.map(\.type)) == Set(StatsType.allCases))
        #expect(stats.all.allSatisfy { (before...after).contains($0.timestamp) }, "milliseconds since 1970")
        #expect(Set(stats.all.map(\.id)).count == stats.all.count)

        #expect(stats.peerConnection.dataChannelsOpened == 1 && stats.peerConnection.dataChannelsClosed == 0)
        #expect(stats.transport.dtlsState == "connected" && ["connected", "completed"].contains(stats.transport.iceState))
        #expect(Set([stats.transport.dtlsRole, other.transport.dtlsRole]) == ["client", "server"])
        #expect(Set([stats.transport.iceRole, other.transport.iceRole]) == ["controlling", "controlled"])
        #expect(stats.transport.tlsVersion == "FEFD" && stats.transport.dtlsCipher != nil)

        let selected = try #require(stats.selectedCandidatePair)
        #expect(selected.state == "succeeded" && selected.transportId == stats.transport.id)
        #expect(selected.bytesSent > 100_000 && selected.bytesSent == stats.transport.bytesSent)
        #expect(selected.packetsSent == stats.transport.packetsSent && selected.packetsReceived > 0)
        #expect(selected.requestsSent > 0 && selected.responsesReceived > 0 && selected.requestsReceived > 0)
        #expect((selected.currentRoundTripTime ?? 0) > 0 && selected.totalRoundTripTime >= selected.currentRoundTripTime ?? 0)
        #expect((selected.lastPacketSentTimestamp ?? 0) >= before && (selected.lastPacketReceivedTimestamp ?? .infinity) <= after)
        #expect((selected.availableOutgoingBitrate ?? 0) > 0)
        let local = try #require(stats.selectedLocalCandidate)
        let remote = try #require(other.selectedRemoteCandidate)
        #expect(local.address == "127.0.0.1" && local.address == remote.address && local.port == remote.port)
        #expect(local.candidateType == "host" && local.protocol == "udp")

        // each end knows the other's certificate as its own
        let certificates = Dictionary(uniqueKeysWithValues: stats.certificates.map { ($0.id, $0) })
        let others = Dictionary(uniqueKeysWithValues: other.certificates.map { ($0.id, $0) })
        let mine = try #require(stats.transport.localCertificateId.flatMap { certificates[$0] })
        let seen = try #require(other.transport.remoteCertificateId.flatMap { others[$0] })
        #expect(mine.fingerprint == seen.fingerprint && mine.base64Certificate == seen.base64Certificate && mine.fingerprintAlgorithm == "sha-256")
        #expect(Data(base64Encoded: mine.base64Certificate)?.first == 0x30, "DER begins with a sequence")
        let sdp = try #require(await pair.offerer.localDescription?.sdp)
        #expect(sdp.contains("a=fingerprint:sha-256 \(mine.fingerprint)"))
        await pair.close()
    }

    @Test("webrtc-stats: what channels carry is counted at both ends, empty messages among it")
    func channels() async throws {
        let pair = try await ConnectedPair.make(label: "channel", options: .init(protocol: "proto"))
        for size in [0, 1, 5000] { try await pair.left.send(payload(size, seed: 2)) }
        var messages = pair.right.messages.makeAsyncIterator()
        for _ in 0..<3 { _ = try await messages.next() }
        let (stats, other) = try await reports(of: pair)
        let sent = try #require(stats.dataChannels.first)
        let received = try #require(other.dataChannels.first)
        #expect(sent.label == "channel" && sent.protocol == "proto" && sent.state == "open")
        #expect(sent.messagesSent == 3 && sent.bytesSent == 5001 && sent.messagesReceived == 0)
        #expect(received.messagesReceived == 3 && received.bytesReceived == 5001 && received.messagesSent == 0)
        let id = await pair.left.id
        #expect(sent.dataChannelIdentifier == received.dataChannelIdentifier && sent.dataChannelIdentifier == id.map(Int.init))
        #expect(stats.sctpTransport.everyframe.messagesSent >= 3)
        try await within(.seconds(60)) { await pair.left.close() }
        #expect(await pair.offerer.getStats().peerConnection.dataChannelsClosed == 1)
        #expect(await pair.offerer.getStats().dataChannels.isEmpty)
        await pair.close()
    }

    @Test("webrtc-stats: the SCTP transport tells its windows, its round trip and what it threw away")
    func sctp() async throws {
        let pair = try await ConnectedPair.make()
        try await pair.left.send(payload(1 << 20, seed: 3))
        let (stats, other) = try await reports(of: pair)
        let sctp = stats.sctpTransport
        #expect((sctp.smoothedRoundTripTime ?? 0) > 0 && sctp.congestionWindow > 0 && sctp.unackData == 0)
        #expect(sctp.mtu >= 1160 && sctp.everyframe.datagramSize > sctp.mtu)
        // the peer's window is what the peer says of itself, less what it holds for its application
        #expect(sctp.receiverWindow <= 8 << 20 && other.sctpTransport.everyframe.bytesHeld > 0)
        #expect(sctp.everyframe.retransmissionTimeout >= 0.1)
        #expect(sctp.everyframe.discarded["badChecksum"] == 0 && sctp.everyframe.discarded["illegalOpen"] == 0)
        #expect(stats.transport.everyframe.demultiplexer["stun", default: 0] > 0)
        #expect(stats.transport.everyframe.ice["badIntegrity"] == 0 && stats.transport.everyframe.dtls["recordsDropped"] == 0)
        #expect(stats.transport.everyframe.socket["datagramsSent", default: 0] >= stats.transport.packetsSent)
        #expect(stats.transport.everyframe.socket["sendDropsCongested"] != nil)
        await pair.close()
        // what was counted stays
        #expect(await pair.offerer.getStats().transport.bytesSent >= stats.transport.bytesSent)
        #expect(await pair.offerer.getStats().transport.dtlsState == "closed")
    }

    @Test("webrtc-stats §8: as JSON a report is one object by id, and reads back as it was")
    func json() async throws {
        let pair = try await ConnectedPair.make()
        let (stats, _) = try await reports(of: pair)
        let data = try JSONEncoder().encode(stats)
        let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: [String: Any]])
        #expect(object.count == stats.all.count)
        for (id, members) in object {
            #expect(members["id"] as? String == id)
            #expect(members["timestamp"] is Double && members["type"] is String)
        }
        #expect(object[stats.transport.id]?["selectedCandidatePairId"] as? String == stats.transport.selectedCandidatePairId)
        #expect(object[stats.sctpTransport.id]?["type"] as? String == "sctp-transport")
        let again = try JSONDecoder().decode(StatsReport.self, from: data)
        #expect(Set(again.candidatePairs) == Set(stats.candidatePairs) && again.transport == stats.transport)
        #expect(again.sctpTransport == stats.sctpTransport && Set(again.dataChannels) == Set(stats.dataChannels))
        #expect(throws: DecodingError.self) { try JSONDecoder().decode(StatsReport.self, from: Data("{}".utf8)) }
        await pair.close()
    }
}
