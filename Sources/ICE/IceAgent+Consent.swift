package import Wire

/// Consent freshness (RFC 7675): the selected pair is asked again and again whether it still wants our datagrams. The requests keep NAT mappings open, too.
extension IceAgent {
    /// What goes along the selected path is not acknowledged: it is asked at once, not at its next turn.
    package mutating func noteTrouble(at now: Instant) {
        inquire(at: now)
        update(at: now)
    }

    /// Checks the selected pair out of turn (an ordinary connectivity check, RFC 8445 §7.2): its answer renews consent, its silence tells.
    mutating func inquire(at now: Instant) {
        guard let index = selectedIndex, pairs[index].nextConsent != nil, pairs[index].unansweredSince == nil,
            pairs[index].inquiredAt.map({ $0 + configuration.inquiryInterval <= now }) ?? true
        else { return }
        pairs[index].inquiredAt = now
        pairs[index].nextConsent = now
    }

    mutating func startConsent(_ index: Int, at now: Instant) {
        pairs[index].unansweredSince = nil
        guard !configuration.isLite else { return }
        pairs[index].nextConsent = max((pairs[index].lastResponse ?? now) + consentInterval(), now)
    }

    mutating func runConsent(at now: Instant) {
        guard let index = selectedIndex, pairs[index].state == .succeeded else { return }
        if let expiry = consentExpiry(pairs[index]), expiry <= now {
            // RFC 7675 §5.1: no more datagrams along this path
            hasLostConsent = true
            pairs[index].fail()
            return
        }
        guard let due = pairs[index].nextConsent, due <= now else { return }
        let id = pairs[index].id
        // USE-CANDIDATE again, should the peer have gone another way meanwhile
        let nominates = isControlling && pairs[index].isNominated
        pairs[index].nextConsent = now + (pairs[index].unansweredSince == nil ? firstRetry(pairs[index]) : jittered(configuration.consentRetryInterval))
        guard let (_, datagram) = bindingRequest(.consent(pairID: id), for: index, nominates: nominates, at: now) else { return }
        pairs[index].unansweredSince = pairs[index].unansweredSince ?? now
        counters.consentRequestsSent += 1
        pairs[index].consentRequestsSent += 1
        send(datagram, along: pairs[index].path)
    }

    /// Any authenticated answer will do (RFC 7675 §5.1); the next request follows an interval later.
    mutating func consentAnswered(_ index: Int, at now: Instant) {
        pairs[index].unansweredSince = nil
        guard pairs[index].nextConsent != nil else { return }
        pairs[index].nextConsent = now + consentInterval()
    }

    func consentDeadline(at now: Instant) -> Instant? {
        guard let index = selectedIndex, pairs[index].state == .succeeded else { return nil }
        var next = earliest(pairs[index].nextConsent, consentExpiry(pairs[index]))
        if let doubt = suspicionBegins(pairs[index]), doubt > now { next = earliest(next, doubt) }
        return state == .disconnected ? next : earliest(next, silenceBegins(pairs[index]))
    }

    /// Requests went unanswered for longer than loss explains: others are worth a try, and one that answers is better.
    func isSuspect(_ pair: CandidatePair, at now: Instant) -> Bool {
        suspicionBegins(pair).map { $0 <= now } ?? false
    }

    /// Requests go unanswered for so long that the path counts as disconnected.
    func isSilent(_ pair: CandidatePair, at now: Instant) -> Bool {
        silenceBegins(pair).map { $0 <= now } ?? false
    }

    /// Validated so long ago, without consent since, that it must be checked anew before data goes along it.
    func isStale(_ pair: CandidatePair, at now: Instant) -> Bool {
        let limit = configuration.isLite ? configuration.consentTimeout : configuration.consentInterval * 2
        return pair.lastResponse.map { $0 + limit <= now } ?? true
    }

    private func silenceBegins(_ pair: CandidatePair) -> Instant? {
        if configuration.isLite {
            // a lite agent sends no requests; a full peer's come every 5 to 6 s
            return pair.lastReceived.map { $0 + configuration.consentInterval * 2 + configuration.disconnectedTimeout }
        }
        guard let unanswered = pair.unansweredSince else { return nil }
        return max(unanswered, pair.lastReceived ?? unanswered) + max(configuration.disconnectedTimeout, (pair.roundTrip ?? .zero) * 2)
    }

    private func suspicionBegins(_ pair: CandidatePair) -> Instant? {
        guard !configuration.isLite, let unanswered = pair.unansweredSince else { return nil }
        return max(unanswered, pair.lastReceived ?? unanswered) + max(configuration.suspicionTimeout, (pair.roundTrip ?? .zero) * 4)
    }

    private func consentExpiry(_ pair: CandidatePair) -> Instant? {
        // a lite agent, which asks nothing, counts the peer's checks
        pair.lastResponse.map { $0 + configuration.consentTimeout }
    }

    /// Long enough for an answer on a slow path.
    private mutating func firstRetry(_ pair: CandidatePair) -> Duration {
        min(max(jittered(configuration.consentRetryInterval), (pair.roundTrip ?? .zero) * 2), configuration.consentInterval)
    }

    private mutating func consentInterval() -> Duration { jittered(configuration.consentInterval) }

    /// RFC 7675 §5.1: times 0.8 to 1.2, so that agents do not fall into step.
    private mutating func jittered(_ duration: Duration) -> Duration {
        let nanoseconds = duration.inNanoseconds
        let draw = Int64(generator.next() >> 44)  // 20 bits
        return .nanoseconds(nanoseconds * 4 / 5 + nanoseconds / 5 * 2 / (1 << 20) * draw)
    }
}
