import NIOCore
package import Wire

extension IceAgent {
    /// An address that datagrams leave from: a socket's, or one that a TURN server relays for us.
    struct LocalBase: Sendable {
        let address: TransportAddress
        let localPreference: UInt16
        /// What the peer is told in place of `address`: the outer side of a NAT that maps one to one.
        var advertised: TransportAddress.IP?
        var hostAddress: TransportAddress { advertised.map { TransportAddress(ip: $0, port: address.port) } ?? address }
        var relay: RelayedAddress?
        var kind: IceCandidate.Kind { relay == nil ? .host : .relay }
        /// Of the candidate that it is itself.
        var priority: UInt32 { candidatePriority(kind, localPreference: localPreference) }
        /// What a peer-reflexive candidate learned by a check from here gets (RFC 8445 §7.1.1).
        var peerReflexivePriority: UInt32 { candidatePriority(.peerReflexive, localPreference: localPreference) }
    }

    /// An address on a TURN server that the driver has an allocation for.
    package struct RelayedAddress: Hashable, Sendable {
        package var address: TransportAddress
        /// Where the server sees us: the candidate's related address (RFC 8445 §5.1.1.2), and a server-reflexive candidate of `base`.
        package var mapped: TransportAddress?
        /// The socket that reaches the server; nil where that is a stream's.
        package var base: TransportAddress?
        package var server: TransportAddress
        package var transport: TurnClient.Transport

        package init(
            address: TransportAddress, mapped: TransportAddress?, base: TransportAddress?, server: TransportAddress, transport: TurnClient.Transport
        ) {
            self.address = address
            self.mapped = mapped
            self.base = base
            self.server = server
            self.transport = transport
        }

        /// Among relayed candidates UDP goes first: over a stream one lost packet holds up all others.
        fileprivate var preference: UInt16 {
            switch transport {
            case .udp: 3 << 14
            case .tcp: 2 << 14
            case .tls: 1 << 14
            }
        }
    }

    /// One question to one STUN server from one base.
    struct Gathering: Sendable {
        let path: NetworkPath
        var transactionID: StunTransactionID?
        var transmissions = 0
        var timeout: Duration
        var due: Instant
        var isSettled = false
        /// Once answered it is asked again only to keep the mapping.
        var isRefresh = false
    }

    /// A socket is bound to `base`: it becomes a host candidate, and STUN servers are asked through it.
    ///
    /// Earlier bases are preferred. Link-local IPv6 is skipped (RFC 8445 §5.1.1.1 asks for a zone that candidates cannot carry).
    /// The peer is told `advertised` in place of its IP address.
    package mutating func addLocalAddress(_ base: TransportAddress, advertised: TransportAddress.IP? = nil, at now: Instant) {
        guard state != .closed, isUsable(base), !bases.contains(where: { $0.address == base }), bases.count < configuration.maximumLocalAddresses else {
            return
        }
        // RFC 8421 §4: families alternate by the order that the driver gives
        var added = LocalBase(address: base, localPreference: UInt16.max - UInt16(clamping: nextBaseRank))
        if advertised?.isIPv6 == base.ip.isIPv6 { added.advertised = advertised }
        nextBaseRank += 1
        bases.append(added)
        announceBase(added)
        for server in stunServers { gather(from: added, server: server, at: now) }
        for remote in remoteCandidates { pair(added, with: remote, at: now) }
        update(at: now)
    }

    /// A TURN server gave an allocation: datagrams along paths from its address go by the driver's TURN client. It becomes a relayed candidate, and where it
    /// shows how a NAT maps `base`, a server-reflexive one too.
    package mutating func addRelayedAddress(_ relayed: RelayedAddress, at now: Instant) {
        guard state != .closed, isUsable(relayed.address), !bases.contains(where: { $0.address == relayed.address }),
            bases.count < configuration.maximumLocalAddresses
        else { return }
        let rank = UInt16(clamping: min(nextBaseRank, 0x3FFF))
        let added = LocalBase(address: relayed.address, localPreference: relayed.preference + 0x3FFF - rank, relay: relayed)
        nextBaseRank += 1
        bases.append(added)
        // after the end of gathering the peer learns of it by our checks
        if !isGatheringComplete { announceBase(added) }
        if let mapped = relayed.mapped, let base = bases.first(where: { $0.address == relayed.base && $0.kind == .host }) {
            announceReflexive(mapped, base: base, server: relayed.server)
        }
        for remote in remoteCandidates { pair(added, with: remote, at: now) }
        update(at: now)
    }

    /// No more sockets; `.gatheringComplete` follows when the STUN servers have answered or a bounded time passed.
    package mutating func endOfLocalAddresses(at now: Instant) {
        hasAllBases = true
        update(at: now)
    }

    /// The socket is gone: its pairs fail, and the next best path is taken.
    package mutating func removeLocalAddress(_ base: TransportAddress, at now: Instant) {
        let announced = bases.first { $0.address == base }?.hostAddress
        bases.removeAll { $0.address == base }
        let isShared = bases.contains { $0.hostAddress == announced }
        localCandidates.removeAll { $0.transportAddress == announced && !isShared || $0.relatedAddress == base && $0.kind != .host }
        gatherings.removeAll { $0.path.local == base }
        for index in pairs.indices where pairs[index].path.local == base { pairs[index].fail() }
        pairs.removeAll { $0.path.local == base && $0.id != selectedID }
        update(at: now)
    }

    /// A server whose name was resolved only now.
    package mutating func addStunServer(_ server: TransportAddress, at now: Instant) {
        guard state != .closed, !stunServers.contains(server) else { return }
        stunServers.append(server)
        for base in bases { gather(from: base, server: server, at: now) }
        update(at: now)
    }

    /// After a restart: the same sockets with new credentials.
    mutating func regather(at now: Instant) {
        localCandidates = []
        gatherings = []
        isGatheringComplete = false
        for base in bases {
            announceBase(base)
            for server in stunServers { gather(from: base, server: server, at: now) }
        }
    }

    /// RFC 8445 §5.1.1.1 and §5.1.1.2: the candidate that a base is itself.
    private mutating func announceBase(_ base: LocalBase) {
        // several own addresses may be one to the outside
        guard !hasCandidate(at: base.hostAddress) else { return }
        announce(
            IceCandidate(
                foundation: foundation(base.kind, base: base.address.ip, server: base.relay?.server.ip), priority: base.priority,
                address: .ip(base.hostAddress),
                kind: base.kind, relatedAddress: base.relay?.mapped, usernameFragment: session.local.ufrag))
    }

    private mutating func announceReflexive(_ mapped: TransportAddress, base: LocalBase, server: TransportAddress) {
        // RFC 8445 §5.1.3: a candidate with the same address and base is redundant
        guard mapped.ip.isIPv6 == base.address.ip.isIPv6, !hasCandidate(at: mapped),
            localCandidates.count < 2 * configuration.maximumLocalAddresses
        else { return }
        announce(
            IceCandidate(
                foundation: foundation(.serverReflexive, base: base.address.ip, server: server.ip),
                priority: candidatePriority(.serverReflexive, localPreference: base.localPreference), address: .ip(mapped), kind: .serverReflexive,
                relatedAddress: base.address, usernameFragment: session.local.ufrag))
    }

    // not inlined: the optimizer of Swift 6.3.1 fails on it (CopyPropagation, "ownership error")
    @inline(never)
    private func hasCandidate(at address: TransportAddress) -> Bool { localCandidates.contains { $0.transportAddress == address } }

    private mutating func announce(_ candidate: IceCandidate) {
        localCandidates.append(candidate)
        events.append(.localCandidate(candidate))
    }

    private mutating func gather(from base: LocalBase, server: TransportAddress, at now: Instant) {
        guard !configuration.isLite, base.kind == .host, base.address.ip.isIPv6 == server.ip.isIPv6, base.address.ip.isLoopback == server.ip.isLoopback else {
            return
        }
        gatherings.append(Gathering(path: NetworkPath(local: base.address, remote: server), timeout: configuration.retransmissionTimeout, due: now))
    }

    // MARK: Asking

    mutating func runGathering(at now: Instant) {
        for index in gatherings.indices where gatherings[index].due <= now && wantsAnswer(gatherings[index]) { ask(index, at: now) }
        if hasAllBases, !isGatheringComplete, gatherings.allSatisfy(\.isSettled) {
            isGatheringComplete = true
            events.append(.gatheringComplete)
        }
    }

    var gatheringDeadline: Instant? {
        gatherings.reduce(nil) { wantsAnswer($1) ? earliest($0, $1.due) : $0 }
    }

    /// RFC 8445 §11: until a path is selected, a mapping that was told to the peer is kept.
    private func wantsAnswer(_ gathering: Gathering) -> Bool {
        !gathering.isSettled || gathering.isRefresh && selectedPath == nil && state != .failed
    }

    private mutating func ask(_ index: Int, at now: Instant) {
        guard gatherings[index].transmissions < configuration.gatheringTransmissions else {
            forgetTransaction(gatherings[index].transactionID)
            settle(index, refreshAt: gatherings[index].isRefresh ? now + configuration.mappingRefresh : nil)
            return
        }
        let path = gatherings[index].path
        let id: StunTransactionID
        if let current = gatherings[index].transactionID {
            id = current
        } else {
            guard let fresh = newTransaction(.gathering(path), path: path, at: now, lifetime: .seconds(30)) else { return }
            id = fresh
        }
        gatherings[index].transactionID = id
        gatherings[index].transmissions += 1
        gatherings[index].due = now + gatherings[index].timeout
        gatherings[index].timeout = min(gatherings[index].timeout * 2, configuration.maximumRetransmissionTimeout)
        send(StunMessage(.request, transactionID: id).encoded(), along: path)
    }

    mutating func handleGatheringResponse(_ response: StunMessage, id: StunTransactionID, path: NetworkPath, at now: Instant) {
        guard let index = gatherings.firstIndex(where: { $0.transactionID == id && $0.path == path }) else { return }
        forgetTransaction(id)
        guard response.messageClass == .success, let mapped = response.mappedAddress, isUsable(mapped) else {
            settle(index, refreshAt: nil)
            return
        }
        let isFirst = !gatherings[index].isRefresh
        settle(index, refreshAt: now + configuration.mappingRefresh)
        guard isFirst, let base = bases.first(where: { $0.address == path.local }) else { return }
        announceReflexive(mapped, base: base, server: path.remote)
    }

    private mutating func settle(_ index: Int, refreshAt: Instant?) {
        gatherings[index].isSettled = true
        gatherings[index].transactionID = nil
        gatherings[index].transmissions = 0
        gatherings[index].timeout = configuration.retransmissionTimeout
        gatherings[index].isRefresh = refreshAt != nil
        if let refreshAt { gatherings[index].due = refreshAt }
    }

    /// RFC 8445 §5.1.1.3: equal for the same type, base IP and server.
    private func foundation(_ kind: IceCandidate.Kind, base: TransportAddress.IP, server: TransportAddress.IP?) -> String {
        String(CRC32.of("\(kind.rawValue) \(base) \(server.map { "\($0)" } ?? "")".utf8))
    }
}

/// Whether a candidate with that address makes sense at all. Multicast and broadcast would make us an amplifier.
func isUsable(_ address: TransportAddress) -> Bool {
    guard address.port != 0, !address.ip.isUnspecified else { return false }
    switch address.ip {
    case .v4(let bits): return bits >> 28 != 0xE && bits != .max
    case .v6(let high, _): return !address.ip.isLinkLocal && high >> 56 != 0xFF
    }
}

extension StunMessage {
    /// XOR-MAPPED-ADDRESS; MAPPED-ADDRESS from servers of RFC 3489's time.
    var mappedAddress: TransportAddress? {
        var plain: TransportAddress?
        for attribute in attributes {
            if case .xorMappedAddress(let address) = attribute { return address }
            if case .mappedAddress(let address) = attribute { plain = address }
        }
        return plain
    }
}
