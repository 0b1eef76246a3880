import NIOCore
package import Wire

extension IceAgent {
    struct RemoteCandidate: Sendable {
        var candidate: IceCandidate
        var isPeerReflexive: Bool { candidate.kind == .peerReflexive }
    }

    /// A valid check from a peer whose credentials we do not know yet; answered, and acted upon once we do (RFC 8445 §7.3).
    struct EarlyCheck: Sendable {
        let path: NetworkPath
        let remoteUfrag: String
        var priority: UInt32
        var nominates: Bool
    }

    /// The peer's credentials, and whether it is a lite agent (`a=ice-lite`). Checks begin.
    package mutating func setRemoteCredentials(_ credentials: IceCredentials, isLite: Bool = false, at now: Instant) {
        guard state != .closed, session.remote != credentials else { return }
        let isFirst = session.remote == nil
        session.remote = credentials
        remoteIsLite = isLite
        // RFC 8445 §6.1.1: with a lite peer the full agent controls
        if isLite, !configuration.isLite, !isControlling { setControlling(true) }
        if !isFirst {
            // the peer restarted and we did not: only what belongs to the new credentials stays
            let number = session.number
            pairs.removeAll { $0.session == number }
            triggered = []
            remoteCandidates.removeAll { $0.isPeerReflexive }
        }
        hasLostConsent = false
        failAt = now + configuration.failureTimeout
        if state == .failed { setState(.checking) }
        for remote in remoteCandidates { for base in bases { pair(base, with: remote, at: now) } }
        let early = earlyChecks.filter { $0.remoteUfrag == credentials.ufrag }
        earlyChecks = []
        for check in early { learn(check.path, priority: check.priority, nominates: check.nominates, at: now) }
        update(at: now)
    }

    /// A candidate of the peer, before or after its credentials. Those that make no sense are counted and dropped; names and TCP are kept, but not paired.
    package mutating func addRemoteCandidate(_ candidate: IceCandidate, at now: Instant) {
        guard state != .closed else { return }
        guard candidate.component == 1, candidate.transportAddress.map(isUsable) ?? true else { counters.candidatesIgnored += 1; return }
        if let index = remoteCandidates.firstIndex(where: { isSame($0.candidate, candidate) }) {
            // RFC 8838 §11.3: a signalled candidate takes the place of the peer-reflexive one with its address
            guard remoteCandidates[index].isPeerReflexive, candidate.kind != .peerReflexive else { return }
            remoteCandidates[index].candidate = candidate
            for pairIndex in pairs.indices where pairs[pairIndex].path.remote == candidate.transportAddress && pairs[pairIndex].session == session.number {
                pairs[pairIndex].remotePriority = candidate.priority
                pairs[pairIndex].setPriority(isControlling: isControlling)
            }
        } else {
            let known = remoteCandidates.lazy.filter { !$0.isPeerReflexive }.count
            guard known < configuration.maximumRemoteCandidates else { counters.candidatesIgnored += 1; return }
            let remote = RemoteCandidate(candidate: candidate)
            remoteCandidates.append(remote)
            if state == .failed, !hasLostConsent, session.remote != nil {
                failAt = now + configuration.failureTimeout
                setState(.checking)
            }
            for base in bases { pair(base, with: remote, at: now) }
        }
        update(at: now)
    }

    /// The peer has no more candidates (RFC 8838 §14).
    package mutating func endOfRemoteCandidates(at now: Instant) {
        hasAllRemoteCandidates = true
        update(at: now)
    }

    /// Names of remote candidates that wait for the driver to resolve them.
    package var unresolvedHostnames: [String] {
        remoteCandidates.compactMap { if case .hostname(let name, _) = $0.candidate.address { name } else { nil } }
    }

    /// The driver's resolver (mDNS for `.local`) answered.
    package mutating func resolveHostname(_ hostname: String, to ip: TransportAddress.IP, at now: Instant) {
        let name = hostname.lowercased()
        var resolved: [IceCandidate] = []
        remoteCandidates.removeAll { remote in
            guard case .hostname(name, _) = remote.candidate.address else { return false }
            resolved.append(remote.candidate.resolved(to: ip))
            return true
        }
        for candidate in resolved { addRemoteCandidate(candidate, at: now) }
    }

    private func isSame(_ left: IceCandidate, _ right: IceCandidate) -> Bool {
        left.address == right.address && left.transport == right.transport && left.tcpType == right.tcpType
            && (left.usernameFragment == nil || right.usernameFragment == nil || left.usernameFragment == right.usernameFragment)
    }

    // MARK: Pairs

    /// RFC 8445 §6.1.2.2: same family; a candidate of other credentials waits for them.
    mutating func pair(_ base: LocalBase, with remote: RemoteCandidate, at now: Instant) {
        guard let credentials = session.remote, let address = remote.candidate.transportAddress, remote.candidate.transport == .udp,
            address.ip.isIPv6 == base.address.ip.isIPv6, remote.candidate.usernameFragment.map({ $0 == credentials.ufrag }) ?? true
        else { return }
        let path = NetworkPath(local: base.address, remote: address)
        guard address != base.address, pairIndex(path) == nil else { return }
        insertPair(path, base: base, remotePriority: remote.candidate.priority)
    }

    @discardableResult
    private mutating func insertPair(_ path: NetworkPath, base: LocalBase, remotePriority: UInt32) -> Int? {
        var pair = CandidatePair(id: nextPairID, session: session.number, path: path, localPriority: base.priority, remotePriority: remotePriority)
        pair.setPriority(isControlling: isControlling)
        if pairs.count >= configuration.maximumPairs {
            // RFC 8445 §6.1.2.5: the pairs of the lowest priority go
            let spare = pairs.indices.filter { pairs[$0].state == .failed || pairs[$0].state == .waiting && pairs[$0].priority < pair.priority }
            guard let victim = spare.min(by: { pairs[$0].priority < pairs[$1].priority }), pairs[victim].id != selectedID else {
                counters.pairsRefused += 1
                return nil
            }
            pairs.remove(at: victim)
        }
        nextPairID += 1
        pairs.append(pair)
        return pairs.count - 1
    }

    func pairIndex(_ path: NetworkPath) -> Int? {
        pairs.firstIndex { $0.path == path && $0.session == session.number }
    }

    func pairIndex(id: Int) -> Int? { pairs.firstIndex { $0.id == id } }

    var selectedIndex: Int? { selectedID.flatMap { pairIndex(id: $0) } }

    /// What an authenticated check from the peer of this session tells: its address, its wish to nominate, and that the way may be open now
    /// (RFC 8445 §7.3.1.3 to §7.3.1.5).
    mutating func learn(_ path: NetworkPath, priority: UInt32, nominates: Bool, at now: Instant) {
        guard let base = bases.first(where: { $0.address == path.local }) else { counters.unknownLocalAddress += 1; return }
        guard state != .failed || !hasLostConsent else { return }
        if state == .failed {
            failAt = now + configuration.failureTimeout
            setState(.checking)
        }
        var index = pairIndex(path)
        if index == nil {
            if !remoteCandidates.contains(where: { $0.candidate.transportAddress == path.remote && $0.candidate.transport == .udp }) {
                guard remoteCandidates.lazy.filter(\.isPeerReflexive).count < configuration.maximumPeerReflexive else {
                    counters.candidatesIgnored += 1
                    return
                }
                remoteCandidates.append(
                    RemoteCandidate(
                        candidate: IceCandidate(
                            foundation: "prflx\(nextPairID)", priority: priority, address: .ip(path.remote), kind: .peerReflexive,
                            usernameFragment: session.remote?.ufrag)))
            }
            index = insertPair(path, base: base, remotePriority: priority)
        }
        guard let index else { return }
        pairs[index].lastReceived = now
        pairs[index].requestsReceived += 1
        if !nominates { pairs[index].hadPlainCheck = true }
        // the peer tries another pair than ours: it may have lost that one, and cannot say so where we control
        if isControlling, pairs[index].id != selectedID, let selected = selectedIndex, pairs[selected].isNominated, pairs[selected].session == session.number {
            inquire(at: now)
        }
        if configuration.isLite {
            pairs[index].state = .succeeded
            pairs[index].validSince = pairs[index].validSince ?? now
            pairs[index].lastResponse = now
            if nominates { pairs[index].isNominated = true }
            return
        }
        let isProven = pairs[index].state == .succeeded && (pairs[index].id == selectedID || !isStale(pairs[index], at: now))
        if nominates, !isControlling {
            if isProven { becomeNominated(index, at: now) } else { pairs[index].wantsNomination = true }
        }
        if pairs[index].state != .succeeded || nominates && !isProven {
            trigger(pairs[index].id)
        } else if pairs[index].unansweredSince != nil {
            // the peer is back: ask at once, not at the next turn
            pairs[index].nextConsent = now
        }
    }

    mutating func trigger(_ id: Int) {
        if !triggered.contains(id) { triggered.append(id) }
    }
}
