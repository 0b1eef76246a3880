import Ciphers
import NIOCore
import NetworkSimulator
import Testing
import WebRTC
import Wire

/// ICE restart by signalling, and paths that change, under DTLS and SCTP that go on.
@Suite struct RestartTests {
    private func connected(seed: UInt64, conditions: LinkConditions = .init()) throws -> (PeerPair, ChannelHandle) {
        let pair = try PeerPair(seed: seed, conditions: conditions)
        let channel = try pair.left.engine.createDataChannel(ChannelOptions(label: "test"), at: pair.now)
        try pair.negotiate()
        let isUp = pair.run(for: .seconds(30)) { $0.left.opened.count == 1 && $0.right.channels.count == 1 && $0.left.engine.state == .connected }
        try #require(isUp)
        _ = pair.run(for: .seconds(3))
        return (pair, channel)
    }

    private func line(_ name: String, of description: SessionDescription?) -> String? {
        description?.sdp.split(whereSeparator: \.isNewline).first { $0.hasPrefix(name) }.map(String.init)
    }

    private func move(_ side: inout PeerPair.Side, to address: TransportAddress, at now: Instant) {
        side.engine.removeLocalAddress(side.address, at: now)
        side.address = address
        side.engine.addLocalAddress(address, at: now)
    }

    private func restart(_ pair: PeerPair, byOption: Bool) throws {
        if byOption {
            try pair.left.engine.setLocalDescription(pair.left.engine.createOffer(iceRestart: true), at: pair.now)
        } else {
            let asked = pair.left.engine.restartIce()
            #expect(asked)
            try pair.left.engine.setLocalDescription(nil, at: pair.now)
        }
        pair.pump()
        try pair.right.engine.setRemoteDescription(pair.left.engine.localDescription.orThrow(), at: pair.now)
        try pair.right.engine.setLocalDescription(pair.right.engine.createAnswer(), at: pair.now)
        pair.pump()
        try pair.left.engine.setRemoteDescription(pair.right.engine.localDescription.orThrow(), at: pair.now)
        pair.pump()
    }

    @Test(
        "RFC 8445 §9: both sides' addresses change in the middle of messages; a restart brings all of them through, once",
        arguments: [(1, true), (2, false), (3, true)])
    func bothMove(seed: UInt64, byOption: Bool) throws {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(20)
        conditions.rate = 20e6
        let (pair, channel) = try connected(seed: seed, conditions: conditions)
        let sizes = (0..<40).map { 100_000 + $0 }
        for size in sizes { try pair.left.engine.send(ByteBuffer(repeating: UInt8(size & 0xFF), count: size), isText: false, on: channel, at: pair.now) }
        _ = pair.run(for: .milliseconds(400))
        let before = pair.right.messages.count
        #expect((1..<sizes.count).contains(before))
        move(&pair.left, to: TransportAddress(ip: .v4(0x0A01_0001), port: 1001), at: pair.now)
        move(&pair.right, to: TransportAddress(ip: .v4(0x0A01_0002), port: 2002), at: pair.now)
        _ = pair.run(for: .seconds(1))
        #expect(pair.left.engine.state == .disconnected && pair.right.engine.state == .disconnected)
        #expect(pair.right.messages.count == before)
        let restartedAt = pair.now
        try restart(pair, byOption: byOption)
        let flows = pair.run(for: .seconds(3)) { $0.right.messages.count > before }
        #expect(flows)
        // with the second before it less than the three that are allowed
        #expect(pair.now - restartedAt < .seconds(2), "\(pair.now - restartedAt)")
        let isThere = pair.run(for: .seconds(30)) { $0.right.messages.count == sizes.count }
        #expect(isThere)
        #expect(pair.right.messages.map(\.bytes.readableBytes) == sizes)
        #expect(pair.left.engine.state == .connected && pair.right.engine.state == .connected)
    }

    @Test("RFC 8839 §4.4.1.1.1: each side's credentials change, nothing else does, and the version in o= grows")
    func descriptions() throws {
        let (pair, channel) = try connected(seed: 4)
        let (offer, answer) = (pair.left.engine.localDescription, pair.right.engine.localDescription)
        let plain = try pair.left.engine.createOffer()
        #expect(line("a=ice-ufrag", of: plain) == line("a=ice-ufrag", of: offer), "no restart unless one is asked for")
        try restart(pair, byOption: true)
        for (old, new) in [(offer, pair.left.engine.localDescription), (answer, pair.right.engine.localDescription)] {
            #expect(line("a=ice-ufrag", of: old) != line("a=ice-ufrag", of: new))
            #expect(line("a=ice-pwd", of: old) != line("a=ice-pwd", of: new))
            #expect(line("a=fingerprint", of: old) == line("a=fingerprint", of: new))
            #expect(line("a=candidate", of: new) != nil)
            let versions = [old, new].compactMap { line("o=", of: $0)?.split(separator: " ").dropFirst(2).first.flatMap { UInt64($0) } }
            #expect(versions.count == 2 && versions[0] < versions[1])
        }
        #expect(pair.left.engine.signallingState == .stable && pair.right.engine.signallingState == .stable)
        _ = pair.run(for: .seconds(60))
        #expect(pair.left.engine.state == .connected && pair.right.engine.state == .connected)
        try pair.left.engine.send(ByteBuffer(string: "after"), isText: true, on: channel, at: pair.now)
        let arrived = pair.run(for: .seconds(1)) { $0.right.messages.count == 1 }
        #expect(arrived)
    }

    @Test("RFC 8829 §4.1.10.2: an offer to restart that is taken back leaves all as it was, on both sides")
    func rollback() throws {
        let (pair, _) = try connected(seed: 5)
        let ufrag = line("a=ice-ufrag", of: pair.left.engine.localDescription)
        try pair.left.engine.setLocalDescription(pair.left.engine.createOffer(iceRestart: true), at: pair.now)
        pair.pump()
        try pair.right.engine.setRemoteDescription(pair.left.engine.localDescription.orThrow(), at: pair.now)
        _ = pair.run(for: .seconds(8))
        try pair.left.engine.setLocalDescription(SessionDescription(kind: .rollback, sdp: ""), at: pair.now)
        try pair.right.engine.setRemoteDescription(SessionDescription(kind: .rollback, sdp: ""), at: pair.now)
        #expect(line("a=ice-ufrag", of: pair.left.engine.localDescription) == ufrag)
        #expect(line("a=ice-ufrag", of: pair.right.engine.remoteDescription) == ufrag)
        _ = pair.run(for: .seconds(60))
        #expect(pair.left.engine.state == .connected && pair.right.engine.state == .connected)
        // and what comes after works as well: a move without signalling, and another restart
        move(&pair.left, to: TransportAddress(ip: .v4(0x0A01_0001), port: 1001), at: pair.now)
        let moved = pair.run(for: .seconds(2)) { pair in
            pair.right.events.contains { if case .selectedPath(let path) = $0 { path.remote == pair.left.address } else { false } }
        }
        #expect(moved)
        try restart(pair, byOption: false)
        _ = pair.run(for: .seconds(60))
        #expect(pair.left.engine.state == .connected && pair.right.engine.state == .connected)
        #expect(line("a=ice-ufrag", of: pair.left.engine.localDescription) != ufrag)
    }

    @Test("RFC 8842 §4: a description with another certificate is for another connection")
    func otherCertificate() throws {
        let (pair, _) = try connected(seed: 6)
        let other = try PeerPair(seed: 7)
        try other.left.engine.setLocalDescription(nil, at: other.now)
        let offer = try other.left.engine.localDescription.orThrow()
        #expect(throws: SignallingError.unusable("the peer has another certificate now: it is another connection")) {
            try pair.right.engine.setRemoteDescription(offer, at: pair.now)
        }
        #expect(pair.right.engine.signallingState == .stable)
    }

    @Test(
        "One side's address changes in the middle of a message, with nothing signalled: it arrives, and soon", arguments: [8, 9, 10] as [UInt64],
        [true, false])
    func oneMoves(seed: UInt64, isSender: Bool) throws {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(20)
        conditions.rate = 50e6
        let (pair, channel) = try connected(seed: seed, conditions: conditions)
        let sizes = (0..<60).map { 100_000 + $0 }
        for size in sizes { try pair.left.engine.send(ByteBuffer(repeating: UInt8(size & 0xFF), count: size), isText: false, on: channel, at: pair.now) }
        _ = pair.run(for: .milliseconds(300))
        let before = pair.right.messages.count
        #expect((1..<sizes.count).contains(before))
        let new = TransportAddress(ip: .v4(0x0A01_0009), port: 999)
        if isSender { move(&pair.left, to: new, at: pair.now) } else { move(&pair.right, to: new, at: pair.now) }
        let at = pair.now
        let goesOn = pair.run(for: .seconds(5)) { $0.right.messages.count > before }
        #expect(goesOn)
        #expect(pair.now - at < .seconds(2), "\(pair.now - at)")
        // at the speed of the path again, not as after a congestion
        let isThere = pair.run(for: .seconds(3)) { $0.right.messages.count == sizes.count }
        #expect(isThere)
        #expect(pair.right.messages.map(\.bytes.readableBytes) == sizes)
    }
}
