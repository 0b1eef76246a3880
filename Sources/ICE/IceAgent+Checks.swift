import NIOCore
import Wire

extension IceAgent {
    /// A request of ours that may be answered.
    struct Transaction: Sendable {
        enum Purpose: Sendable {
            case gathering(NetworkPath)
            case check(pairID: Int, nominates: Bool)
            case consent(pairID: Int)
        }

        let purpose: Purpose
        let path: NetworkPath
        /// What the answer must be protected with; nil for a STUN server.
        let key: [UInt8]?
        let wasControlling: Bool
        let sentAt: Instant
        let expiresAt: Instant

        var pairID: Int? {
            switch purpose {
            case .gathering: nil
            case .check(let id, _), .consent(let id): id
            }
        }
    }

    // MARK: The schedule

    /// Triggered checks first, then the waiting pairs by priority (RFC 8445 §6.1.4.2).
    mutating func startChecks(at now: Instant) {
        guard !configuration.isLite, state != .failed else { return }
        while !triggered.isEmpty, mayPace(at: now) {
            if let index = pairIndex(id: triggered.removeFirst()) { startCheck(index, at: now) }
        }
        guard mayStartOrdinaryChecks(at: now) else { return }
        while mayPace(at: now), let index = nextWaiting { startCheck(index, at: now) }
    }

    func checkDeadline(at now: Instant) -> Instant? {
        guard !configuration.isLite else { return nil }
        var next: Instant?
        for pair in pairs { next = earliest(next, pair.check?.due) }
        if !triggered.isEmpty || mayStartOrdinaryChecks(at: now) && nextWaiting != nil { next = earliest(next, max(nextPace, now)) }
        return next
    }

    /// RFC 8445 §8.1.2: once a pair is nominated no others are tried, unless it went silent.
    private func mayStartOrdinaryChecks(at now: Instant) -> Bool {
        guard session.remote != nil else { return false }
        guard let index = selectedIndex, pairs[index].isNominated, pairs[index].session == session.number else { return true }
        return state == .disconnected || isSuspect(pairs[index], at: now)
    }

    private var nextWaiting: Int? {
        pairs.indices.filter { pairs[$0].state == .waiting && pairs[$0].session == session.number }.max { pairs[$0].priority < pairs[$1].priority }
    }

    /// A leaky bucket of `burst` checks that refills one each `pacing`.
    private func mayPace(at now: Instant) -> Bool { nextPace <= now }
    private var nextPace: Instant {
        guard let paceFullAt else { return Instant(nanoseconds: .min) }
        return paceFullAt - configuration.pacing * (max(configuration.burst, 1) - 1)
    }

    // MARK: Sending

    private mutating func startCheck(_ index: Int, at now: Instant) {
        let nominates = isControlling && pairs[index].wantsNomination
        let id = pairs[index].id
        guard let (transactionID, datagram) = bindingRequest(.check(pairID: id, nominates: nominates), for: index, nominates: nominates, at: now) else {
            pairs[index].fail()
            return
        }
        // RFC 8445 §7.3.1.4: an older transaction is not retransmitted, but its answer still counts
        pairs[index].check = CandidatePair.Check(
            transactionID: transactionID, datagram: datagram, nominates: nominates, transmissions: 1, timeout: configuration.retransmissionTimeout,
            due: now + configuration.retransmissionTimeout)
        if pairs[index].state != .succeeded { pairs[index].state = .inProgress }
        paceFullAt = max(paceFullAt ?? now, now) + configuration.pacing
        counters.checksSent += 1
        pairs[index].requestsSent += 1
        send(datagram, along: pairs[index].path)
    }

    mutating func retransmit(at now: Instant) {
        for index in pairs.indices {
            guard var check = pairs[index].check, check.due <= now else { continue }
            guard check.transmissions < configuration.transmissions else {
                pairs[index].fail()
                continue
            }
            check.transmissions += 1
            check.timeout = min(check.timeout * 2, configuration.maximumRetransmissionTimeout)
            check.due = now + check.timeout
            pairs[index].check = check
            counters.retransmissions += 1
            send(check.datagram, along: pairs[index].path)
        }
    }

    /// RFC 8445 §7.1 and §7.2.2.
    mutating func bindingRequest(
        _ purpose: Transaction.Purpose, for index: Int, nominates: Bool, at now: Instant
    ) -> (StunTransactionID, ByteBuffer)? {
        let pair = pairs[index]
        guard let (local, remote) = credentials(of: pair) else { return nil }
        let lifetime = max(configuration.consentTimeout, .seconds(30))
        let key = Array(remote.password.utf8)
        guard let id = newTransaction(purpose, path: pair.path, key: key, at: now, lifetime: lifetime) else { return nil }
        let priority = bases.first { $0.address == pair.path.local }?.peerReflexivePriority ?? candidatePriority(.peerReflexive, localPreference: 0)
        var attributes: [StunAttribute] = [
            .username("\(remote.ufrag):\(local.ufrag)"), .priority(priority), isControlling ? .iceControlling(tieBreaker) : .iceControlled(tieBreaker),
        ]
        if nominates { attributes.append(.useCandidate) }
        return (id, StunMessage(.request, transactionID: id, attributes: attributes).encoded(.sha1(key: key)))
    }

    func credentials(of pair: CandidatePair) -> (local: IceCredentials, remote: IceCredentials)? {
        let session = pair.session == session.number ? session : previousSession
        guard let session, session.number == pair.session, let remote = session.remote else { return nil }
        return (session.local, remote)
    }

    // MARK: Transactions

    mutating func newTransaction(
        _ purpose: Transaction.Purpose, path: NetworkPath, key: [UInt8]? = nil, at now: Instant, lifetime: Duration
    ) -> StunTransactionID? {
        if transactions.count >= configuration.maximumTransactions {
            counters.transactionsDropped += 1
            guard let oldest = transactions.min(by: { $0.value.sentAt < $1.value.sentAt })?.key else { return nil }
            transactions[oldest] = nil
        }
        let id = StunTransactionID.random(using: &generator)
        transactions[id] = Transaction(
            purpose: purpose, path: path, key: key, wasControlling: isControlling, sentAt: now, expiresAt: now + lifetime)
        return id
    }

    mutating func forgetTransaction(_ id: StunTransactionID?) {
        if let id { transactions[id] = nil }
    }

    mutating func expireTransactions(at now: Instant) {
        // they only bound memory, so a look now and then will do
        guard transactions.count > 32 else { return }
        transactions = transactions.filter { $0.value.expiresAt > now }
    }

    // MARK: Answers

    mutating func handleResponse(_ response: StunMessage, path: NetworkPath, at now: Instant) {
        guard let transaction = transactions[response.transactionID], transaction.expiresAt > now else { counters.unmatchedResponses += 1; return }
        if case .gathering(let asked) = transaction.purpose {
            guard asked == path else { counters.asymmetricResponses += 1; return }
            handleGatheringResponse(response, id: response.transactionID, path: path, at: now)
            return
        }
        guard let key = transaction.key, let pairID = transaction.pairID else { return }
        // RFC 8489 §9.1.4: as if it never came, so that a forger cannot end a transaction
        switch response.integrity(key: key) {
        case .wrong: counters.badIntegrity += 1; return
        case .absent: counters.unauthenticatedErrors += 1; return
        case .right: break
        }
        guard response.hasFingerprint else { counters.missingFingerprint += 1; return }
        transactions[response.transactionID] = nil
        guard let index = pairIndex(id: pairID) else { return }
        pairs[index].responsesReceived += 1
        guard path == transaction.path else {
            // RFC 8445 §7.2.5.2.1
            counters.asymmetricResponses += 1
            if pairs[index].check?.transactionID == response.transactionID { pairs[index].fail() }
            return
        }
        if response.messageClass == .error {
            handleError(response, of: transaction, pair: index)
        } else {
            handleSuccess(of: transaction, id: response.transactionID, pair: index, at: now)
        }
    }

    private mutating func handleSuccess(of transaction: Transaction, id: StunTransactionID, pair index: Int, at now: Instant) {
        let isCurrent = pairs[index].check?.transactionID == id
        if isCurrent || pairs[index].check?.nominates == false {
            // after a retransmission one cannot tell which of them was answered
            if isCurrent, pairs[index].check?.transmissions == 1 { pairs[index].noteRoundTrip(now - transaction.sentAt) }
            pairs[index].check = nil
        }
        if case .consent = transaction.purpose { pairs[index].noteRoundTrip(now - transaction.sentAt) }
        pairs[index].lastReceived = now
        // a nominated pair that failed meanwhile must be checked anew before it counts
        pairs[index].state = .succeeded
        pairs[index].validSince = pairs[index].validSince ?? now
        pairs[index].lastResponse = now
        consentAnswered(index, at: now)
        if case .check(_, let nominates) = transaction.purpose {
            if nominates, isControlling, transaction.wasControlling {
                // RFC 8445 §8.1.1
                becomeNominated(index, at: now)
            } else if !isControlling, pairs[index].wantsNomination {
                // RFC 8445 §7.3.1.5: the peer nominated it before our own check was answered
                becomeNominated(index, at: now)
            }
        }
    }

    private mutating func handleError(_ response: StunMessage, of transaction: Transaction, pair index: Int) {
        let code = response.attributes.lazy.compactMap { if case .errorCode(let code, _) = $0 { code } else { nil } }.first
        if code == 487 {
            // RFC 8445 §7.2.5.1: unless an earlier answer already did it
            if isControlling == transaction.wasControlling {
                counters.roleConflicts += 1
                setControlling(!transaction.wasControlling)
            }
            trigger(pairs[index].id)
        } else if case .check = transaction.purpose, pairs[index].check?.transactionID == response.transactionID {
            pairs[index].fail()
        }
    }

    mutating func setControlling(_ controlling: Bool) {
        isControlling = controlling
        for index in pairs.indices {
            pairs[index].wantsNomination = false
            pairs[index].setPriority(isControlling: controlling)
        }
    }
}
