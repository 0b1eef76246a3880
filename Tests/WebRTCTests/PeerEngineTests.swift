import Ciphers
import DTLS
import NIOCore
import NetworkSimulator
import Testing
import WebRTC
import Wire

@Suite struct PeerEngineTests {
    private func payload(_ size: Int, seed: UInt64) -> ByteBuffer {
        var generator = SplitMix64(seed: seed)
        return ByteBuffer(bytes: (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }

    private func connected(seed: UInt64, conditions: LinkConditions = .init()) throws -> (PeerPair, ChannelHandle) {
        let pair = try PeerPair(seed: seed, conditions: conditions)
        let channel = try pair.left.engine.createDataChannel(ChannelOptions(label: "test"), at: pair.now)
        try pair.negotiate()
        let isUp = pair.run(for: .seconds(30)) { $0.left.opened.count == 1 && $0.right.channels.count == 1 }
        try #require(isUp)
        return (pair, channel)
    }

    @Test("RFC 8829: an offer, an answer and a channel made before the offer: open on both sides, both connected", arguments: [1, 2, 3] as [UInt64])
    func connects(seed: UInt64) throws {
        let (pair, channel) = try connected(seed: seed)
        #expect(pair.left.engine.state == .connected)
        #expect(pair.right.engine.state == .connected)
        #expect(pair.left.engine.state(of: channel) == .open)
        #expect(pair.right.engine.options(of: try #require(pair.right.channels.first))?.label == "test")
        #expect(pair.left.engine.signallingState == .stable)
    }

    @Test("ICE and DTLS connect within a few round trips", arguments: [7, 8] as [UInt64])
    func transport(seed: UInt64) throws {
        let pair = try PeerPair(seed: seed)
        try pair.negotiate()
        let isUp = pair.run(for: .milliseconds(500)) { $0.left.engine.state == .connected && $0.right.engine.state == .connected }
        #expect(isUp, "\(pair.left.engine.state) \(pair.right.engine.state) at \(pair.now)")
    }

    @Test("Messages of every size arrive once, in order, text as text", arguments: [4, 5] as [UInt64])
    func messages(seed: UInt64) throws {
        let (pair, channel) = try connected(seed: seed)
        let sizes = [0, 1, 2, 1000, 1143, 1144, 1145, 16_384, 65_536, 300_000]
        for (index, size) in sizes.enumerated() {
            try pair.left.engine.send(payload(size, seed: UInt64(index)), isText: index % 2 == 0, on: channel, at: pair.now)
        }
        let isThere = pair.run(for: .seconds(60)) { $0.right.messages.count == sizes.count }
        try #require(isThere)
        for (index, size) in sizes.enumerated() {
            #expect(pair.right.messages[index].bytes == payload(size, seed: UInt64(index)))
            #expect(pair.right.messages[index].isText == (index % 2 == 0))
        }
    }

    @Test("RFC 8899 §6.2.3: datagrams grow through DTLS; what the host refuses is left out at once", arguments: [9, 10] as [UInt64])
    func datagramSize(seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.maximumDatagram = 1472
        let (pair, channel) = try connected(seed: seed, conditions: conditions)
        #expect(pair.left.engine.stats(wallClock: 0, at: pair.now).sctpTransport.everyframe.datagramSize == 1197)
        // the probe was not answered yet: the host says why, and so on for what follows
        for size in [16_373, 2017] {
            pair.left.engine.datagramRefused(size: size, at: pair.now)
            _ = pair.run(for: .milliseconds(100))
        }
        pair.left.engine.datagramRefused(size: 1997, at: pair.now)
        _ = pair.run(for: .milliseconds(300))
        #expect(pair.left.engine.stats(wallClock: 0, at: pair.now).sctpTransport.everyframe.datagramSize == 1469)
        // the other end finds it by itself, where there is talk
        for number in 0..<400 {
            try pair.left.engine.send(payload(2000, seed: UInt64(number)), isText: false, on: channel, at: pair.now)
            _ = pair.run(for: .milliseconds(100))
        }
        #expect(pair.right.engine.stats(wallClock: 0, at: pair.now).sctpTransport.everyframe.datagramSize == 1469)
        #expect(pair.right.messages.count == 400)
        #expect(pair.left.engine.stats(wallClock: 0, at: pair.now).sctpTransport.everyframe.chunksRetransmitted == 0)
    }

    @Test("maximumDatagramSize bounds the search, and 1200 ends it", arguments: [0, 1200, 1452, 9000, 16_373, 100_000])
    func maximumDatagramSize(limit: Int) throws {
        let pair = try PeerPair(seed: 11) { $0.maximumDatagramSize = limit }
        _ = try pair.left.engine.createDataChannel(ChannelOptions(label: "test"), at: pair.now)
        try pair.negotiate()
        _ = pair.run(for: .seconds(20))
        let size = pair.left.engine.stats(wallClock: 0, at: pair.now).sctpTransport.everyframe.datagramSize
        #expect(size == max(1197, min(limit - 37, 16_384) / 4 * 4 + 37))
    }

    struct Weather: Sendable, CustomTestStringConvertible {
        var loss = 0.0, duplication = 0.0, reordering = 0.0
        var testDescription: String { "loss \(loss) duplication \(duplication) reordering \(reordering)" }
    }

    @Test(
        "Over a bad path all messages arrive, both ways, in order",
        arguments: [
            Weather(loss: 0.05), Weather(duplication: 0.2), Weather(reordering: 0.2), Weather(loss: 0.1, duplication: 0.1, reordering: 0.1),
        ], [11, 12] as [UInt64])
    func badPath(weather: Weather, seed: UInt64) throws {
        var conditions = LinkConditions()
        conditions.loss = weather.loss
        conditions.duplication = weather.duplication
        conditions.reordering = weather.reordering
        let (pair, channel) = try connected(seed: seed, conditions: conditions)
        let back = try #require(pair.right.channels.first)
        for index in 0..<40 {
            try pair.left.engine.send(payload(index * 500, seed: UInt64(index)), isText: false, on: channel, at: pair.now)
            try pair.right.engine.send(payload(index * 300, seed: UInt64(index)), isText: false, on: back, at: pair.now)
        }
        let isThere = pair.run(for: .seconds(120)) { $0.right.messages.count == 40 && $0.left.messages.count == 40 }
        try #require(isThere)
        for index in 0..<40 {
            #expect(pair.right.messages[index].bytes == payload(index * 500, seed: UInt64(index)))
            #expect(pair.left.messages[index].bytes == payload(index * 300, seed: UInt64(index)))
        }
    }

    @Test("A channel made after negotiation opens, and closing it reaches the peer after its data")
    func laterChannel() throws {
        let (pair, _) = try connected(seed: 21)
        var options = ChannelOptions(label: "later")
        options.subprotocol = "p"
        options.ordered = false
        options.maxRetransmits = 3
        let channel = try pair.left.engine.createDataChannel(options, at: pair.now)
        try pair.left.engine.send(payload(50_000, seed: 1), isText: false, on: channel, at: pair.now)
        pair.left.engine.closeChannel(channel, at: pair.now)
        let isClosed = pair.run(for: .seconds(20)) { $0.left.closed.contains(channel) && !$0.right.closed.isEmpty }
        #expect(isClosed)
        let other = try #require(pair.right.channels.last)
        #expect(pair.right.closed.contains(other))
        #expect(pair.right.messages.last?.bytes == payload(50_000, seed: 1))
    }

    @Test("A peer that stops reading stops the sender, and memory stays bounded; reading again releases it")
    func backpressure() throws {
        let pair = try PeerPair(seed: 31) { $0.receiveWindow = 256 << 10 }
        let channel = try pair.left.engine.createDataChannel(ChannelOptions(label: "test"), at: pair.now)
        try pair.negotiate()
        let isUp = pair.run(for: .seconds(30)) { $0.left.opened.count == 1 && $0.right.channels.count == 1 }
        try #require(isUp)
        pair.right.reads = false
        for index in 0..<64 { try pair.left.engine.send(payload(16_384, seed: UInt64(index)), isText: false, on: channel, at: pair.now) }
        _ = pair.run(for: .seconds(20))
        let held = pair.right.messages.reduce(0) { $0 + $1.bytes.readableBytes }
        #expect(held <= 256 << 10)
        #expect(pair.left.engine.bufferedAmount(of: channel) > 512 << 10)
        #expect(pair.left.engine.state == .connected)
        pair.right.reads = true
        for message in pair.right.messages { pair.right.engine.consume(message.bytes.readableBytes, on: message.channel, at: pair.now) }
        let isThere = pair.run(for: .seconds(60)) { $0.right.messages.count == 64 }
        #expect(isThere)
    }

    @Test("RFC 8122 §6.2: a certificate that signalling did not promise fails the connection on both sides, and no data passes")
    func wrongFingerprint() throws {
        let pair = try PeerPair(seed: 41)
        let stranger = try PeerPair(seed: 42)
        _ = try pair.left.engine.createDataChannel(ChannelOptions(label: "test"), at: pair.now)
        let mine = pair.right.engine.configuration.certificate.fingerprint.description
        let other = stranger.right.engine.configuration.certificate.fingerprint.description
        pair.left.engine.addLocalAddress(pair.left.address, at: pair.now)
        pair.right.engine.addLocalAddress(pair.right.address, at: pair.now)
        try pair.left.engine.setLocalDescription(nil, at: pair.now)
        pair.pump()
        try pair.right.engine.setRemoteDescription(pair.left.engine.localDescription.orThrow(), at: pair.now)
        try pair.right.engine.setLocalDescription(nil, at: pair.now)
        pair.pump()
        var answer = try pair.right.engine.localDescription.orThrow()
        #expect(answer.sdp.contains(mine))
        answer.sdp = replacing(mine, by: other, in: answer.sdp)
        try pair.left.engine.setRemoteDescription(answer, at: pair.now)
        let hasFailed = pair.run(for: .seconds(60)) { $0.left.engine.failure != nil }
        #expect(hasFailed)
        #expect(pair.left.engine.failure == .fingerprintMismatch)
        #expect(pair.left.opened.isEmpty && pair.right.channels.isEmpty)
    }

    @Test("close tells the peer at once, and the peer's engine ends as closed by its peer")
    func closing() throws {
        let (pair, _) = try connected(seed: 51)
        var batch = DatagramBatch()
        pair.left.engine.close(at: pair.now, into: &batch)
        for index in 0..<batch.count {
            if let packet = batch.packets.packet(index) { pair.toRight.send(ByteBuffer(bytes: packet.readableBytesView), at: pair.now) }
        }
        let hasEnded = pair.run(for: .seconds(1)) { $0.right.engine.failure != nil }
        #expect(hasEnded)
        #expect(pair.right.engine.failure == .closedByPeer)
        #expect(pair.left.engine.deadline == nil)
    }

    @Test("a message that came in one receive burst with the peer's close_notify is delivered")
    func lastBurst() throws {
        let (pair, channel) = try connected(seed: 52)
        let isQuiet = pair.run(for: .seconds(5))
        #expect(!isQuiet)
        try pair.left.engine.send(payload(900, seed: 1), isText: false, on: channel, at: pair.now)
        pair.pump()
        var batch = DatagramBatch()
        pair.left.engine.close(at: pair.now, into: &batch)
        for index in 0..<batch.count {
            if let packet = batch.packets.packet(index) { pair.toRight.send(ByteBuffer(bytes: packet.readableBytesView), at: pair.now) }
        }
        let hasEnded = pair.run(for: .seconds(1)) { $0.right.engine.failure != nil }
        #expect(hasEnded)
        #expect(pair.right.messages.map(\.bytes) == [payload(900, seed: 1)])
    }

    @Test("RFC 7675: a peer that vanishes is noticed within 40 s")
    func vanishing() throws {
        let (pair, _) = try connected(seed: 61)
        pair.toRight.conditions.isDown = true
        pair.toLeft.conditions.isDown = true
        let isNoticed = pair.run(for: .seconds(40)) { $0.left.engine.failure != nil && $0.right.engine.failure != nil }
        #expect(isNoticed)
    }

    @Test("RFC 7983: datagrams of no layer are counted and change nothing")
    func garbage() throws {
        let (pair, channel) = try connected(seed: 71)
        var generator = SplitMix64(seed: 71)
        let path = NetworkPath(local: pair.left.address, remote: pair.right.address)
        for first in 0...255 {
            for length in [1, 12, 13, 100] {
                var bytes = ByteBuffer(bytes: [UInt8(first)])
                for _ in 1..<max(2, length) { bytes.writeInteger(UInt8.random(in: 0...255, using: &generator)) }
                pair.left.engine.handle(bytes, path: path, at: pair.now)
            }
        }
        pair.left.engine.handle(ByteBuffer(), path: path, at: pair.now)
        #expect(pair.left.engine.counters.unknown > 0)
        #expect(pair.left.engine.counters.media == 256)
        try pair.left.engine.send(payload(10, seed: 1), isText: false, on: channel, at: pair.now)
        let isThere = pair.run(for: .seconds(5)) { $0.right.messages.count == 1 }
        #expect(isThere)
    }

    @Test("DTLS along a path on which ICE has not heard the peer reaches no handshake: neither early, nor later, nor from the peer's own host")
    func strangers() throws {
        let pair = try PeerPair(seed: 91)
        // a ClientHello that a server would answer
        var hello = PacketBatch()
        var client = try DTLSEngine(role: .client, certificate: Certificate.selfSigned(), remoteFingerprints: [Certificate.selfSigned().fingerprint])
        client.start(at: pair.now)
        _ = client.poll(into: &hello)
        let datagram = try hello.packet(0).orThrow()
        let hosts = [pair.left.address.withPort(9), TransportAddress(ip: .v4(0x0A00_0063), port: 1000)]
        func flood() {
            for host in hosts {
                for _ in 0..<50 {
                    pair.right.engine.handle(datagram, path: NetworkPath(local: pair.right.address, remote: host), at: pair.now)
                    pair.left.engine.handle(datagram, path: NetworkPath(local: pair.left.address, remote: host), at: pair.now)
                }
            }
        }
        flood()
        try pair.negotiate()
        flood()
        for _ in 0..<20 {
            _ = pair.run(for: .milliseconds(2))
            flood()
        }
        let isConnected = pair.run(for: .seconds(10)) { $0.left.engine.state == .connected && $0.right.engine.state == .connected }
        #expect(isConnected)
        #expect(pair.right.engine.counters.unproved == 2200 && pair.left.engine.counters.unproved == 2200)
        #expect(pair.right.engine.counters.early == 0 && pair.left.engine.counters.early == 0)
    }

    @Test("RFC 8829 §3.2: verbs that do not fit the state are refused")
    func wrongStates() throws {
        let pair = try PeerPair(seed: 81)
        #expect(throws: SignallingError.self) { try pair.left.engine.createAnswer() }
        #expect(throws: SignallingError.self) { try pair.left.engine.setLocalDescription(SessionDescription(kind: .answer, sdp: ""), at: pair.now) }
        #expect(throws: SignallingError.self) { try pair.left.engine.setRemoteDescription(SessionDescription(kind: .offer, sdp: "not SDP"), at: pair.now) }
        #expect(throws: SignallingError.self) { try pair.left.engine.addIceCandidate(nil, at: pair.now) }
        try pair.left.engine.setLocalDescription(nil, at: pair.now)
        let offer = try pair.left.engine.localDescription.orThrow()
        #expect(throws: SignallingError.self) { try pair.left.engine.setRemoteDescription(offer, at: pair.now) }
    }

    private func replacing(_ old: String, by new: String, in text: String) -> String {
        guard let range = text.firstRange(of: old) else { return text }
        return String(text[..<range.lowerBound]) + new + String(text[range.upperBound...])
    }
}
