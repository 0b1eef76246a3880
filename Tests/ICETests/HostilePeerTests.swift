import ICE
import NIOCore
import NetworkSimulator
import Testing
import Wire

/// A peer made by hand: what it sends and what it gets.
private final class Hand {
    let agent: Peer
    let net: IceWorld
    let path: NetworkPath
    let own = IceWorld.credentials(555)
    var number: UInt64 = 0

    init(controlling: Bool, seed: UInt64 = 31, credentials: Bool = true, configure: (inout IceAgent.Configuration) -> Void = { _ in }) {
        net = IceWorld(seed: seed)
        agent = net.addPeer("10.0.0.1", controlling: controlling, configure: configure)
        path = NetworkPath(local: agent.bases[0], remote: address("10.0.0.2", 7000))
        agent.records = true
        agent.agent.addLocalAddress(agent.bases[0], at: net.now)
        agent.agent.endOfLocalAddresses(at: net.now)
        if credentials { agent.agent.setRemoteCredentials(own, at: net.now) }
        net.drain(agent)
        agent.sent = []
    }

    var username: String { "\(agent.agent.localCredentials.ufrag):\(own.ufrag)" }
    var password: [UInt8] { Array(agent.agent.localCredentials.password.utf8) }

    func request(_ attributes: [StunAttribute], username: String? = nil, password: [UInt8]? = nil, path other: NetworkPath? = nil) -> [StunMessage] {
        number += 1
        let all = [.username(username ?? self.username), .priority(5)] + attributes
        let message = StunMessage(.request, transactionID: StunTransactionID(high: 1, low: number), attributes: all)
        return give(message.encoded(.sha1(key: password ?? self.password)), path: other)
    }

    /// What the agent sends at once.
    func give(_ datagram: ByteBuffer, path other: NetworkPath? = nil) -> [StunMessage] {
        agent.agent.handle(datagram, path: other ?? path, at: net.now)
        return taken()
    }

    func taken() -> [StunMessage] {
        net.drain(agent)
        defer { agent.sent = [] }
        return agent.sent.compactMap { try? StunMessage(parsing: $0.datagram) }
    }

    func answer(_ request: StunMessage, _ kind: StunMessage.Class = .success, _ attributes: [StunAttribute] = [], password: [UInt8]? = nil) -> [StunMessage] {
        let all = kind == .success ? [.xorMappedAddress(path.local)] + attributes : attributes
        let message = StunMessage(kind, transactionID: request.transactionID, attributes: all)
        return give(message.encoded(.sha1(key: password ?? Array(own.password.utf8))))
    }
}

extension [StunMessage] {
    fileprivate var requests: [StunMessage] { filter { $0.messageClass == .request } }
    fileprivate var errorCodes: [Int] {
        filter { $0.messageClass == .error }.flatMap(\.attributes).compactMap { if case .errorCode(let code, _) = $0 { code } else { nil } }
    }
}

@Suite("Peers that err, forge, or do it their own way")
struct HostilePeerTests {
    @Test("RFC 8489 §9.1.3: bad credentials are answered and have no effect")
    func badCredentials() throws {
        let hand = Hand(controlling: true)
        #expect(hand.request([], password: [1, 2, 3]).errorCodes == [401])
        #expect(hand.request([], username: "someone:else").errorCodes == [401])
        #expect(hand.request([], username: "nocolon").errorCodes == [401])
        let unprotected = StunMessage(.request, transactionID: StunTransactionID(high: 9, low: 9), attributes: [.username(hand.username)])
        #expect(hand.give(unprotected.encoded()).errorCodes == [400])
        let nameless = StunMessage(.request, transactionID: StunTransactionID(high: 9, low: 9))
        #expect(hand.give(nameless.encoded(.sha1(key: hand.password))).errorCodes == [400])
        let counters = hand.agent.agent.counters
        #expect(counters.badIntegrity == 1 && counters.wrongUsername == 2 && counters.missingIntegrity == 2)
        #expect(counters.checksSent == 0 && counters.requestsAnswered == 0)
        #expect(hand.agent.agent.state == .new)
    }

    @Test("Without or with a wrong FINGERPRINT nothing happens at all")
    func fingerprint() {
        let hand = Hand(controlling: true)
        let message = StunMessage(.request, transactionID: StunTransactionID(high: 1, low: 1), attributes: [.username(hand.username)])
        #expect(hand.give(message.encoded(.sha1(key: hand.password), fingerprint: false)).isEmpty)
        var broken = message.encoded(.sha1(key: hand.password))
        broken.setInteger(0 as UInt8, at: broken.writerIndex - 1)
        broken.setInteger(0 as UInt8, at: broken.writerIndex - 2)
        #expect(hand.give(broken).isEmpty)
        #expect(hand.agent.agent.counters.missingFingerprint == 1 && hand.agent.agent.counters.badFingerprint == 1)
        #expect(hand.agent.agent.counters.checksSent == 0)
    }

    @Test("RFC 8489 §6.3.1: an unknown comprehension-required attribute gets 420 and names it; optional ones pass")
    func unknownAttribute() {
        let hand = Hand(controlling: true)
        let refused = hand.request([.other(0x7ABC, [1, 2, 3, 4])])
        #expect(refused.errorCodes == [420])
        #expect(refused.first?.attributes.contains(.unknownAttributes([0x7ABC])) == true)
        #expect(refused.first?.integrity(key: hand.password) == .right)
        #expect(hand.agent.agent.counters.checksSent == 0)
        // GOOG-NETWORK-INFO and its like
        let answered = hand.request([.other(0xC057, [0, 1, 0, 2])])
        #expect(answered.contains { $0.messageClass == .success })
    }

    @Test("RFC 8489 §14.6: a request with MESSAGE-INTEGRITY-SHA256 is answered with it")
    func sha256() {
        let hand = Hand(controlling: true)
        let message = StunMessage(.request, transactionID: StunTransactionID(high: 1, low: 1), attributes: [.username(hand.username), .priority(1)])
        let answers = hand.give(message.encoded(.sha256(key: hand.password))).filter { $0.messageClass == .success }
        #expect(answers.count == 1 && answers.allSatisfy { $0.usesSHA256 && $0.integrity(key: hand.password) == .right })
    }

    @Test("Forged answers have no effect: wrong password, no integrity, wrong transaction, other address")
    func forgedAnswers() throws {
        let hand = Hand(controlling: true)
        let check = try #require(hand.request([.iceControlled(1)]).requests.first)
        _ = hand.answer(check, password: [6, 6, 6])
        _ = hand.give(StunMessage(.success, transactionID: check.transactionID, attributes: [.xorMappedAddress(hand.path.local)]).encoded())
        _ = hand.give(StunMessage(.error, transactionID: check.transactionID, attributes: [.errorCode(487, "Role Conflict")]).encoded())
        _ = hand.give(StunMessage(.error, transactionID: check.transactionID, attributes: [.errorCode(400, "Bad Request")]).encoded())
        _ = hand.answer(StunMessage(.request, transactionID: StunTransactionID(high: 0, low: 0)))
        #expect(hand.agent.agent.state == .checking && hand.agent.agent.isControlling)
        #expect(hand.agent.agent.counters.badIntegrity == 1 && hand.agent.agent.counters.unauthenticatedErrors == 3)
        #expect(hand.agent.agent.counters.unmatchedResponses == 1)
        // and the true one still counts
        _ = hand.answer(check)
        #expect(hand.agent.agent.selectedPath == hand.path)
    }

    @Test("RFC 8445 §7.2.5.2.1: an authenticated answer from elsewhere fails the pair")
    func asymmetric() throws {
        let hand = Hand(controlling: true)
        let check = try #require(hand.request([.iceControlled(1)]).requests.first)
        let elsewhere = NetworkPath(local: hand.path.local, remote: address("10.0.0.3", 7000))
        let answer = StunMessage(.success, transactionID: check.transactionID, attributes: [.xorMappedAddress(hand.path.local)])
        _ = hand.give(answer.encoded(.sha1(key: Array(hand.own.password.utf8))), path: elsewhere)
        #expect(hand.agent.agent.selectedPath == nil && hand.agent.agent.counters.asymmetricResponses == 1)
    }

    @Test("RFC 8445 §7.3.1.1 and §7.2.5.1: each row of the role conflict table", arguments: [true, false], [0 as UInt64, .max])
    func roles(controlling: Bool, theirs: UInt64) throws {
        let hand = Hand(controlling: controlling)
        let attribute: StunAttribute = controlling ? .iceControlling(theirs) : .iceControlled(theirs)
        let sent = hand.request([attribute])
        // the larger tie-breaker ends up controlling
        let weControl = theirs == 0
        let keepsRole = weControl == controlling
        #expect(sent.errorCodes == (keepsRole ? [487] : []))
        #expect(hand.agent.agent.isControlling == weControl)
        if keepsRole { #expect(sent.first?.integrity(key: hand.password) == .right) }
        // a 487 to our own check turns us over, and the check goes out again in the other role
        let check = try #require((keepsRole ? hand.request([weControl ? .iceControlled(1) : .iceControlling(1)]) : sent).requests.first)
        let again = try #require(hand.answer(check, .error, [.errorCode(487, "Role Conflict")]).requests.first)
        #expect(hand.agent.agent.isControlling != weControl)
        let claims = again.attributes.contains { if case .iceControlling = $0 { !weControl } else if case .iceControlled = $0 { weControl } else { false } }
        #expect(claims)
    }

    @Test("RFC 8445 §7.3.1.5: an aggressive peer's USE-CANDIDATE counts once our own check is answered; the best such pair wins")
    func aggressive() throws {
        let hand = Hand(controlling: false)
        let low = NetworkPath(local: hand.path.local, remote: address("10.0.0.2", 7001))
        let ours = try #require(hand.request([.iceControlling(1), .useCandidate], path: low).requests.first)
        #expect(hand.agent.agent.selectedPath == nil)
        let answer = StunMessage(.success, transactionID: ours.transactionID, attributes: [.xorMappedAddress(hand.path.local)])
        _ = hand.give(answer.encoded(.sha1(key: Array(hand.own.password.utf8))), path: low)
        #expect(hand.agent.agent.selectedPath == low)
        hand.agent.agent.endOfRemoteCandidates(at: hand.net.now)
        #expect(hand.agent.agent.state == .completed)
        // a better one follows
        let message = StunMessage(
            .request, transactionID: StunTransactionID(high: 2, low: 2),
            attributes: [.username(hand.username), .priority(9000), .iceControlling(1), .useCandidate])
        let better = try #require(hand.give(message.encoded(.sha1(key: hand.password))).requests.first)
        _ = hand.answer(better)
        #expect(hand.agent.agent.selectedPath == hand.path)
    }

    @Test("A peer that nominates late or never: data flows along the best valid pair")
    func lateNomination() throws {
        let hand = Hand(controlling: false)
        let check = try #require(hand.request([.iceControlling(1)]).requests.first)
        _ = hand.answer(check)
        #expect(hand.agent.agent.selectedPath == hand.path && hand.agent.agent.state == .connected)
        hand.agent.agent.endOfRemoteCandidates(at: hand.net.now)
        _ = hand.request([.iceControlling(1), .useCandidate])
        #expect(hand.agent.agent.state == .completed)
    }

    @Test("RFC 8445 §7.3: before the remote credentials a check is answered; those of others are forgotten when they come")
    func early() throws {
        let hand = Hand(controlling: true, credentials: false)
        let stranger = NetworkPath(local: hand.path.local, remote: address("10.0.0.66", 7000))
        #expect(hand.request([.iceControlled(1)]).map(\.messageClass) == [.success])
        let strangers = "\(hand.agent.agent.localCredentials.ufrag):other"
        #expect(hand.request([.iceControlled(1)], username: strangers, path: stranger).map(\.messageClass) == [.success])
        hand.agent.agent.setRemoteCredentials(hand.own, at: hand.net.now)
        hand.net.drain(hand.agent)
        #expect(hand.agent.sent.map(\.path) == [hand.path])
        // and only so many are kept
        let crowd = Hand(controlling: true, credentials: false)
        for port in 1...1000 as ClosedRange<UInt16> {
            _ = crowd.request([.iceControlled(1)], path: NetworkPath(local: crowd.path.local, remote: address("10.0.0.5", port)))
        }
        #expect(crowd.agent.agent.counters.earlyChecksDropped == 1000 - 16)
    }

    @Test("A flood of authenticated checks from ever new addresses stays within the bounds")
    func flood() {
        let hand = Hand(controlling: true)
        for port in 1...5000 as ClosedRange<UInt16> {
            _ = hand.request([.iceControlled(1)], path: NetworkPath(local: hand.path.local, remote: address("10.0.0.5", port)))
        }
        #expect(hand.agent.agent.counters.candidatesIgnored == 5000 - 32)
        #expect(hand.agent.agent.counters.checksSent <= 10)
        hand.net.run(.seconds(60))
        #expect(hand.agent.agent.counters.checksSent <= 64)
        #expect(hand.net.complaints == [])
    }

    @Test("A driver that does not drain loses datagrams, not memory")
    func undrained() {
        let hand = Hand(controlling: true)
        let message = StunMessage(.request, transactionID: StunTransactionID(high: 1, low: 1), attributes: [.username(hand.username), .priority(1)])
        let datagram = message.encoded(.sha1(key: hand.password))
        for _ in 0..<1000 { hand.agent.agent.handle(datagram, path: hand.path, at: hand.net.now) }
        #expect(hand.taken().count == 256)
        #expect(hand.agent.agent.counters.datagramsDropped > 700)
    }

    @Test("Garbage of every length is counted and has no effect", arguments: 1...5 as ClosedRange<UInt64>)
    func garbage(seed: UInt64) {
        let hand = Hand(controlling: false, seed: seed)
        var generator = SplitMix64(seed: seed)
        for length in 0..<300 {
            var datagram = ByteBuffer()
            for _ in 0..<length { datagram.writeInteger(UInt8(truncatingIfNeeded: generator.next())) }
            if length > 8 { datagram.setInteger(0x2112_A442 as UInt32, at: 4) }
            if length > 0 { datagram.setInteger(UInt8(generator.next() % 4), at: 0) }
            #expect(hand.give(datagram).isEmpty)
        }
        #expect(hand.agent.agent.state == .new && hand.agent.agent.counters.malformed + hand.agent.agent.counters.unknownMethod == 300)
    }

    @Test("A replayed or duplicated request is answered again and changes nothing")
    func replay() throws {
        let hand = Hand(controlling: true)
        let check = try #require(hand.request([.iceControlled(1)]).requests.first)
        _ = hand.answer(check)
        let nomination = hand.taken()
        #expect(nomination.isEmpty)
        let path = hand.agent.agent.selectedPath
        for _ in 0..<10 { _ = hand.answer(check) }
        #expect(hand.agent.agent.selectedPath == path && hand.agent.paths.count == 1)
    }
}
