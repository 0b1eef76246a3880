import Wire

extension IceAgent {
    // MARK: Selection

    /// Data goes along the best nominated pair that answers; before nomination, or where it went silent, along the best valid one (RFC 8445 §12.1).
    mutating func select(at now: Instant) {
        let valid = pairs.indices.filter { pairs[$0].state == .succeeded && (pairs[$0].id == selectedID || !isStale(pairs[$0], at: now)) }
        var best = valid.max { rank($0, at: now) < rank($1, at: now) }
        if let doubtful = best, doubtful == selectedIndex, let unanswered = pairs[doubtful].unansweredSince, isSuspect(pairs[doubtful], at: now) {
            // another that answered since knows better
            let answered = valid.filter { $0 != doubtful && pairs[$0].lastResponse.map { $0 >= unanswered } ?? false }
            best = answered.max { pairs[$0].lastResponse ?? .zero < pairs[$1].lastResponse ?? .zero } ?? doubtful
        }
        guard let best else {
            if selectedID != nil {
                selectedID = nil
                selectedPath = nil
                lookForOthers()
            }
            return
        }
        guard pairs[best].id != selectedID else { return }
        var isFlight = false
        if let index = selectedIndex {
            isFlight = isSilent(pairs[index], at: now) || isSuspect(pairs[index], at: now)
            // one that went silent has to prove itself again
            if isFlight { pairs[index].reset() }
            pairs[index].nextConsent = nil
            pairs[index].unansweredSince = nil
        }
        hasLostConsent = false
        wasConnected = true
        selectedID = pairs[best].id
        startConsent(best, at: now)
        // whether it answers still is not sure either
        if isFlight { inquire(at: now) }
        if let previous = previousSession, pairs[best].session != previous.number {
            previousSession = nil
            previousRemoteCandidates = []
            pairs.removeAll { $0.session == previous.number }
        }
        let path = pairs.first { $0.id == selectedID }?.path
        if let path, path != selectedPath {
            selectedPath = path
            events.append(.selectedPath(path))
        }
    }

    private struct Rank: Comparable {
        var answers: Bool
        var session: Int
        var isNominated: Bool
        var priority: UInt64

        static func < (left: Rank, right: Rank) -> Bool {
            if left.answers != right.answers { return right.answers }
            if left.session != right.session { return left.session < right.session }
            if left.isNominated != right.isNominated { return right.isNominated }
            return left.priority < right.priority
        }
    }

    private func rank(_ index: Int, at now: Instant) -> Rank {
        let pair = pairs[index]
        return Rank(answers: !isSilent(pair, at: now), session: pair.session, isNominated: pair.isNominated, priority: pair.priority)
    }

    // MARK: Nomination

    /// RFC 8445 §8.1.1, regular: the controlling agent picks a valid pair and checks it once more with USE-CANDIDATE.
    mutating func nominate(at now: Instant) {
        guard isControlling, !configuration.isLite, let best = nominee(at: now) else { return }
        guard hopefuls(above: best).isEmpty || patienceEnd(for: best) <= now else { return }
        pairs[best].wantsNomination = true
        let id = pairs[best].id
        triggered.removeAll { $0 == id }
        triggered.insert(id, at: 0)
    }

    /// Of several nominated pairs the one of the highest priority counts (RFC 8445 §8.1.1), for aggressive peers nominate all within a moment.
    /// A nomination that comes long after the last one, or from a peer that checks without nominating first, is a change of mind instead: the
    /// peer lost its path, and says so before we notice.
    mutating func becomeNominated(_ index: Int, at now: Instant) {
        pairs[index].wantsNomination = false
        guard !pairs[index].isNominated else { return }
        pairs[index].isNominated = true
        pairs[index].nominatedAt = now
        guard !isControlling, let current = selectedIndex, current != index, let since = pairs[current].nominatedAt, pairs[current].isNominated,
            since + .seconds(2) <= now || pairs[index].hadPlainCheck, !pairs[index].wasSuperseded
        else { return }
        pairs[current].isNominated = false
        pairs[current].wasSuperseded = true
    }

    func nominationDeadline(at now: Instant) -> Instant? {
        guard isControlling, !configuration.isLite, let best = nominee(at: now), !hopefuls(above: best).isEmpty else { return nil }
        return max(patienceEnd(for: best), now)
    }

    /// The pair to nominate; nil while one is nominated and answers, or is about to be.
    private func nominee(at now: Instant) -> Int? {
        guard let best = selectedIndex, pairs[best].session == session.number, !pairs[best].isNominated, !pairs[best].wantsNomination,
            !isSilent(pairs[best], at: now)
        else { return nil }
        return best
    }

    private func hopefuls(above best: Int) -> [Int] {
        pairs.indices.filter { index in
            guard pairs[index].priority > pairs[best].priority else { return false }
            return pairs[index].state == .waiting || pairs[index].state == .inProgress
        }
    }

    /// A better pair gets a few round trips of the valid one to answer.
    private func patienceEnd(for best: Int) -> Instant {
        let pair = pairs[best]
        let wait = min(max((pair.roundTrip ?? .zero) * 3, .milliseconds(20)), configuration.nominationPatience)
        return (pair.validSince ?? .zero) + wait
    }

    // MARK: State

    mutating func updateState(at now: Instant) {
        guard state != .failed, state != .closed else { return }
        if let index = selectedIndex {
            if isSilent(pairs[index], at: now) {
                let isSearching = pairs.contains { $0.state == .waiting || $0.state == .inProgress }
                if state != .disconnected || !isSearching { lookForOthers() }
                setState(.disconnected)
            } else {
                let isFinal = pairs[index].isNominated && isGatheringComplete && hasAllRemoteCandidates
                if !isSuspect(pairs[index], at: now) {
                    settleChecks(selected: index)
                } else if !pairs.contains(where: { $0.state == .waiting || $0.state == .inProgress }) {
                    lookForOthers()
                }
                setState(isFinal ? .completed : .connected)
            }
            failAt = nil
            return
        }
        if hasLostConsent { return fail() }
        guard session.remote != nil else { return setState(.new) }
        let patience = failAt ?? now + configuration.failureTimeout
        failAt = patience
        let isAlive = pairs.contains { $0.state == .waiting || $0.state == .inProgress }
        if patience <= now, !isAlive { return fail() }
        // there was a path, and there may be one again: an address may come, here or there
        setState(wasConnected ? .disconnected : pairs.isEmpty ? .new : .checking)
    }

    private mutating func fail() {
        stopChecking()
        setState(.failed)
    }

    /// RFC 8445 §8.1.2: with a nominated pair the other checks end. They may be taken up again if it goes silent.
    private mutating func settleChecks(selected: Int) {
        guard pairs[selected].isNominated else { return }
        for index in pairs.indices where index != selected && pairs[index].state == .inProgress && !pairs[index].wantsNomination {
            // a pair that the peer may still prefer goes on
            if !isControlling, pairs[index].priority > pairs[selected].priority { continue }
            pairs[index].check = nil
            pairs[index].state = .waiting
        }
    }

    /// The selected path went silent or away: every other one is tried anew.
    private mutating func lookForOthers() {
        pairs.removeAll { pair in pair.id != selectedID && !bases.contains { $0.address == pair.path.local } }
        for index in pairs.indices where pairs[index].id != selectedID && pairs[index].session == session.number { pairs[index].reset() }
    }
}
