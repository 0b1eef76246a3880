import ICE
import NIOCore
import NetworkSimulator
import Testing
import Wire

private func fast() -> LinkConditions {
    var conditions = LinkConditions()
    conditions.delay = .microseconds(50)
    return conditions
}

@Suite("Agents connect")
struct ConnectivityTests {
    @Test("On a fast path a pair is valid within 2 ms of knowing each other", arguments: 1...5 as ClosedRange<UInt64>)
    func fastStart(seed: UInt64) {
        let net = IceWorld(seed: seed, fast())
        let left = net.addPeer("10.0.0.1", controlling: true)
        let right = net.addPeer("10.0.0.2", controlling: false)
        net.start(left, right)
        #expect(net.run(.seconds(1)) { left.isConnected && right.isConnected })
        #expect(net.now <= .zero + .milliseconds(32))
        #expect(net.run(.milliseconds(2)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(left.agent.selectedPath == NetworkPath(local: left.bases[0], remote: right.bases[0]))
        #expect(right.agent.selectedPath == NetworkPath(local: right.bases[0], remote: left.bases[0]))
        #expect(net.complaints == [])
    }

    @Test("The best of several pairs is selected, IPv6 and IPv4, and both ends agree")
    func severalAddresses() {
        let net = IceWorld(seed: 3)
        let left = net.addPeer("2001:db8::1", "10.0.0.1", "172.16.0.1", controlling: true)
        let right = net.addPeer("10.0.0.2", "2001:db8::2", controlling: false)
        net.start(left, right)
        #expect(net.run(.seconds(3)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(left.agent.selectedPath?.local == left.bases[0])
        #expect(left.agent.selectedPath?.local == right.agent.selectedPath?.remote)
        #expect(net.complaints == [])
    }

    @Test("RFC 8445 §7.3.1.1: a role conflict is settled by the tie-breaker", arguments: 1...10 as ClosedRange<UInt64>, [true, false])
    func roleConflict(seed: UInt64, controlling: Bool) {
        let net = IceWorld(seed: seed)
        let left = net.addPeer("10.0.0.1", controlling: controlling)
        let right = net.addPeer("10.0.0.2", controlling: controlling)
        net.start(left, right)
        #expect(net.run(.seconds(5)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(left.agent.isControlling != right.agent.isControlling)
        #expect(left.agent.counters.roleConflicts + right.agent.counters.roleConflicts > 0)
    }

    @Test("RFC 8445 §5.1.1.2: behind NATs agents meet by server-reflexive and peer-reflexive candidates", arguments: NATKind.allCases, NATKind.allCases)
    func nats(leftKind: NATKind, rightKind: NATKind) {
        let net = IceWorld(seed: 11)
        let server = net.addStunServer("198.51.100.1")
        let leftNAT = net.world.addNAT(leftKind, publicIP: ip("203.0.113.1"))
        let rightNAT = net.world.addNAT(rightKind, publicIP: ip("203.0.113.2"))
        let left = net.addPeer("192.168.0.2", controlling: true, behind: leftNAT) { $0.stunServers = [server] }
        let right = net.addPeer("192.168.1.2", controlling: false, behind: rightNAT) { $0.stunServers = [server] }
        net.start(left, right)
        let met = net.run(.seconds(20)) { left.agent.state == .completed && right.agent.state == .completed }
        // two NATs of which one maps by destination and the other filters by port cannot meet without a relay
        let hard: [NATKind] = [.portRestricted, .symmetric]
        let impossible = leftKind == .symmetric && hard.contains(rightKind) || rightKind == .symmetric && hard.contains(leftKind)
        #expect(met == !impossible)
        if impossible {
            net.run(.seconds(10))
            #expect(left.agent.state == .failed && right.agent.state == .failed)
        }
        #expect(net.complaints == [])
    }

    @Test("A host without STUN server behind any NAT reaches a host on the Internet", arguments: NATKind.allCases, [true, false])
    func natToHost(kind: NATKind, controlling: Bool) {
        let net = IceWorld(seed: 12)
        let nat = net.world.addNAT(kind, publicIP: ip("203.0.113.1"))
        let left = net.addPeer("192.168.0.2", controlling: controlling, behind: nat)
        let right = net.addPeer("198.51.100.7", controlling: !controlling)
        net.start(left, right)
        #expect(net.run(.seconds(5)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(right.agent.selectedPath?.remote.ip == ip("203.0.113.1"))
        #expect(net.complaints == [])
    }

    @Test("Two hosts behind one NAT meet on the inside")
    func sameNAT() {
        let net = IceWorld(seed: 13)
        let server = net.addStunServer("198.51.100.1")
        let nat = net.world.addNAT(.symmetric, publicIP: ip("203.0.113.1"))
        let left = net.addPeer("192.168.0.2", controlling: true, behind: nat) { $0.stunServers = [server] }
        let right = net.addPeer("192.168.0.3", controlling: false, behind: nat) { $0.stunServers = [server] }
        net.start(left, right)
        #expect(net.run(.seconds(5)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(left.agent.selectedPath?.remote == right.bases[0])
    }

    @Test("Loss, duplication and reordering only cost time", arguments: [0, 0.05, 0.1, 0.2], 1...25 as ClosedRange<UInt64>)
    func loss(rate: Double, seed: UInt64) {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(40)
        conditions.loss = rate
        conditions.duplication = 0.1
        conditions.jitter = .milliseconds(30)
        conditions.reordering = 0.1
        let net = IceWorld(seed: seed, conditions)
        let server = net.addStunServer("198.51.100.1")
        let nat = net.world.addNAT(.portRestricted, publicIP: ip("203.0.113.1"))
        let left = net.addPeer("192.168.0.2", controlling: true, behind: nat) { $0.stunServers = [server] }
        let right = net.addPeer("198.51.100.7", "198.51.100.8", controlling: false) { $0.stunServers = [server] }
        net.start(left, right)
        #expect(net.run(.seconds(15)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(left.agent.selectedPath?.remote == right.agent.selectedPath?.local)
        // five minutes later it still stands
        #expect(!net.run(.seconds(300)) { left.agent.state == .failed || right.agent.state == .failed })
        #expect(net.complaints == [])
    }

    @Test("Corrupted datagrams have no effect but loss", arguments: 1...10 as ClosedRange<UInt64>)
    func corruption(seed: UInt64) {
        var conditions = LinkConditions()
        conditions.corruption = 0.3
        let net = IceWorld(seed: seed, conditions)
        let left = net.addPeer("10.0.0.1", controlling: true)
        let right = net.addPeer("10.0.0.2", controlling: false)
        net.start(left, right)
        #expect(net.run(.seconds(15)) { left.agent.state == .completed && right.agent.state == .completed })
        #expect(left.paths.count == 1 && right.paths.count == 1)
    }

    enum Order: String, CaseIterable { case candidatesFirst, credentialsFirst, oneSideLate, withoutTrickle, reversed }

    @Test("RFC 8838: candidates and credentials may come in any order", arguments: Order.allCases)
    func trickleOrders(order: Order) {
        let net = IceWorld(seed: 21)
        let server = net.addStunServer("198.51.100.1")
        let left = net.addPeer("10.0.0.1", "10.0.0.3", controlling: true) { $0.stunServers = [server] }
        let right = net.addPeer("10.0.0.2", controlling: false)
        switch order {
        case .candidatesFirst:
            net.start(left, right, credentials: false)
            net.introduce(left, to: right, after: .milliseconds(500))
            net.introduce(right, to: left, after: .milliseconds(900))
        case .credentialsFirst:
            net.signallingDelay = .milliseconds(300)
            net.start(left, right, credentials: false)
            net.introduce(left, to: right, after: .milliseconds(1))
            net.introduce(right, to: left, after: .milliseconds(1))
        case .oneSideLate:
            net.start(left, right, credentials: false)
            net.introduce(left, to: right, after: .milliseconds(5))
            net.introduce(right, to: left, after: .seconds(3))
        case .withoutTrickle:
            left.isTrickling = false
            right.isTrickling = false
            net.start(left, right, credentials: false)
            net.run(.seconds(5)) { left.announcedEnd && right.announcedEnd }
            left.isTrickling = true
            right.isTrickling = true
            net.introduce(left, to: right, after: .milliseconds(10))
            net.introduce(right, to: left, after: .milliseconds(10))
        case .reversed:
            // the peer's candidates never come; its checks make them peer-reflexive
            right.isTrickling = false
            net.start(left, right)
        }
        #expect(net.run(.seconds(10)) { left.isConnected && right.isConnected && left.agent.selectedPath?.remote == right.agent.selectedPath?.local })
        #expect(net.complaints == [])
    }

    @Test("RFC 8445 §7.3: checks that come before the remote description are answered, and acted upon when it comes")
    func earlyChecks() {
        let net = IceWorld(seed: 22, fast())
        let offerer = net.addPeer("10.0.0.1", controlling: true)
        let answerer = net.addPeer("10.0.0.2", controlling: false)
        answerer.isTrickling = false
        net.start(offerer, answerer, credentials: false)
        net.introduce(offerer, to: answerer, after: .milliseconds(5))
        net.run(.milliseconds(300))
        #expect(answerer.isConnected, "the offerer's answers make the answerer's pair valid")
        #expect(offerer.agent.state == .new)
        net.introduce(answerer, to: offerer, after: .zero)
        let before = net.now
        #expect(net.run(.seconds(1)) { offerer.isConnected && answerer.agent.state == .completed || offerer.isConnected })
        #expect(net.now - before < .milliseconds(2))
    }

    @Test("RFC 8445 §2.5: a full agent meets a lite one, whatever roles were asked for", arguments: [true, false])
    func lite(controlling: Bool) {
        let net = IceWorld(seed: 23)
        let nat = net.world.addNAT(.symmetric, publicIP: ip("203.0.113.1"))
        let full = net.addPeer("192.168.0.2", controlling: controlling, behind: nat)
        let lite = net.addPeer("198.51.100.7", controlling: !controlling) { $0.isLite = true }
        net.start(full, lite)
        #expect(net.run(.seconds(5)) { full.agent.state == .completed && lite.isConnected })
        #expect(full.agent.isControlling && !lite.agent.isControlling)
        #expect(lite.agent.counters.checksSent == 0)
        #expect(!net.run(.seconds(120)) { !full.isConnected || !lite.isConnected })
        // and it notices that the peer is gone
        net.world.setConditions(down(), of: full.host)
        #expect(net.run(.seconds(40)) { lite.agent.state == .failed })
        #expect(lite.states.contains(.disconnected))
    }

    @Test("mDNS names are kept, skipped, and used once resolved; TCP candidates are skipped")
    func hostnames() throws {
        let net = IceWorld(seed: 24)
        let left = net.addPeer("10.0.0.1", controlling: true)
        let right = net.addPeer("10.0.0.2", controlling: false)
        left.isTrickling = false
        right.isTrickling = false
        net.start(left, right)
        let name = "4B6f8d0e-9e1a-4f7c-a1b2-0123456789ab.local"
        let ufrag = right.agent.localCredentials.ufrag
        let named = try IceCandidate(sdp: "candidate:1 1 udp 2113937151 \(name) 5000 typ host generation 0 ufrag \(ufrag)")
        left.agent.addRemoteCandidate(named, at: net.now)
        left.agent.addRemoteCandidate(try IceCandidate(sdp: "candidate:2 1 tcp 1518280447 10.0.0.2 9 typ host tcptype active"), at: net.now)
        net.run(.seconds(2))
        #expect(left.agent.counters.checksSent == 0)
        #expect(left.agent.unresolvedHostnames == [name.lowercased()])
        left.agent.resolveHostname(name, to: ip("10.0.0.2"), at: net.now)
        #expect(left.agent.unresolvedHostnames == [])
        #expect(net.run(.seconds(1)) { left.isConnected && right.isConnected })
    }

    @Test("Without any answer the agent fails, and not before the peer had its time (RFC 8863)")
    func failure() {
        let net = IceWorld(seed: 25)
        let left = net.addPeer("10.0.0.1", controlling: true)
        let right = net.addPeer("10.0.0.2", controlling: false)
        net.world.setConditions(down())
        net.start(left, right)
        #expect(!net.run(.seconds(14)) { left.agent.state == .failed })
        #expect(net.run(.seconds(10)) { left.agent.state == .failed && right.agent.state == .failed })
        #expect(left.agent.deadline == nil)
        // a late candidate starts over
        net.world.setConditions(LinkConditions())
        left.agent.addRemoteCandidate(IceCandidate(foundation: "9", priority: 77, address: .ip(address("10.0.0.9", 5000)), kind: .host), at: net.now)
        #expect(left.agent.state == .checking)
        #expect(net.complaints == [])
    }

    @Test("Link-local IPv6, multicast, port 0 and mixed families are not paired, and the numbers are bounded")
    func bounds() {
        let net = IceWorld(seed: 26)
        let left = net.addPeer("10.0.0.1", controlling: true)
        left.agent.addLocalAddress(address("fe80::1", 5000), at: net.now)
        left.agent.addLocalAddress(left.bases[0], at: net.now)
        #expect(left.agent.localCandidates.count == 1)
        left.agent.setRemoteCredentials(IceWorld.credentials(1), at: net.now)
        for text in ["fe80::2", "224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1"] {
            left.agent.addRemoteCandidate(IceCandidate(foundation: "1", priority: 1, address: .ip(address(text, 5000)), kind: .host), at: net.now)
        }
        left.agent.addRemoteCandidate(IceCandidate(foundation: "1", priority: 1, address: .ip(address("10.0.0.2", 0)), kind: .host), at: net.now)
        #expect(left.agent.counters.candidatesIgnored == 6)
        left.agent.addRemoteCandidate(IceCandidate(foundation: "1", priority: 1, address: .ip(address("2001:db8::2", 5000)), kind: .host), at: net.now)
        net.run(.seconds(1))
        #expect(left.agent.counters.checksSent == 0)
        for number in 0..<1000 as Range<UInt32> {
            let remote = TransportAddress(ip: .v4(0x0A01_0000 + number), port: 5000)
            left.agent.addRemoteCandidate(IceCandidate(foundation: "1", priority: 1000 + number, address: .ip(remote), kind: .host), at: net.now)
        }
        #expect(left.agent.counters.candidatesIgnored == 6 + 901)
        net.run(.seconds(60))
        #expect(left.agent.state == .failed)
        #expect(left.agent.counters.checksSent <= 100)
        #expect(net.complaints == [])
    }

    @Test("New checks are paced after the first burst (RFC 8445 §14.2)")
    func pacing() {
        let net = IceWorld(seed: 27)
        let left = net.addPeer("10.0.0.1", controlling: true)
        left.agent.addLocalAddress(left.bases[0], at: net.now)
        left.agent.setRemoteCredentials(IceWorld.credentials(1), at: net.now)
        for number in 0..<50 as Range<UInt32> {
            let remote = TransportAddress(ip: .v4(0x0A01_0000 + number), port: 5000)
            left.agent.addRemoteCandidate(IceCandidate(foundation: "1", priority: 1000 + number, address: .ip(remote), kind: .host), at: net.now)
        }
        #expect(left.agent.counters.checksSent == 10)
        net.run(.milliseconds(499))
        #expect(left.agent.counters.checksSent == 19)
    }
}

func down() -> LinkConditions {
    var conditions = LinkConditions()
    conditions.isDown = true
    return conditions
}
