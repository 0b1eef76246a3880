package import NIOCore
package import Wire

extension IceAgent {
    /// A datagram whose first byte is 0...3 (RFC 7983). `path.local` is the socket, `path.remote` the sender.
    package mutating func handle(_ datagram: ByteBuffer, path: NetworkPath, at now: Instant) {
        guard state != .closed else { return }
        let message: StunMessage
        do {
            message = try StunMessage(parsing: datagram)
        } catch {
            if case .badFingerprint = error { counters.badFingerprint += 1 } else { counters.malformed += 1 }
            return
        }
        guard message.method == StunMessage.binding else { counters.unknownMethod += 1; return }
        switch message.messageClass {
        case .request:
            handleRequest(message, path: path, at: now)
        case .success, .error:
            handleResponse(message, path: path, at: now)
        case .indication:
            // RFC 8445 §11: a keepalive, and unauthenticated
            counters.indications += 1
            return
        }
        update(at: now)
    }

    /// The receiver's user name fragment in a Binding request's USERNAME ("receiver:sender"): what a shared port is demultiplexed by. Checks nothing else.
    package static func localUfrag(ofBindingRequest datagram: ByteBuffer) -> String? {
        guard let message = try? StunMessage(parsing: datagram), message.messageClass == .request, message.method == StunMessage.binding,
            let username = message.username
        else { return nil }
        return username.firstIndex(of: ":").map { String(username[..<$0]) }
    }

    private mutating func handleRequest(_ request: StunMessage, path: NetworkPath, at now: Instant) {
        // RFC 8445 §7.1.1: a check carries it; other protocols on the port do not
        guard request.hasFingerprint else { counters.missingFingerprint += 1; return }
        // RFC 8489 §9.1.3, in its order
        guard request.hasIntegrity, let username = request.username else {
            counters.missingIntegrity += 1
            refuse(request, 400, "Bad Request", path: path)
            return
        }
        let parts = username.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let owner = session(ofLocalUfrag: parts[0]) else {
            counters.wrongUsername += 1
            refuse(request, 401, "Unauthenticated", path: path)
            return
        }
        let key = Array(owner.local.password.utf8)
        guard request.integrity(key: key) == .right else {
            counters.badIntegrity += 1
            refuse(request, 401, "Unauthenticated", path: path)
            return
        }
        guard request.unknownRequired.isEmpty else {
            counters.unknownAttributes += 1
            refuse(request, 420, "Unknown Attribute", [.unknownAttributes(request.unknownRequired)], key: key, path: path)
            return
        }
        guard settleRoles(request) else {
            refuse(request, 487, "Role Conflict", key: key, path: path)
            return
        }
        counters.requestsAnswered += 1
        answer(request, .success, [.xorMappedAddress(path.remote)], key: key, path: path)
        accept(request, owner: owner, remoteUfrag: String(parts[1]), path: path, at: now)
    }

    private mutating func accept(_ request: StunMessage, owner: Session, remoteUfrag: String, path: NetworkPath, at now: Instant) {
        var priority = candidatePriority(.peerReflexive, localPreference: 0)
        var nominates = false
        for attribute in request.attributes {
            if case .priority(let value) = attribute { priority = value }
            if case .useCandidate = attribute { nominates = true }
        }
        guard owner.number == session.number else {
            // the session before a restart: it only lives on
            if let index = selectedIndex, pairs[index].path == path { pairs[index].lastReceived = now }
            return
        }
        if let remote = session.remote, remote.ufrag == remoteUfrag {
            learn(path, priority: priority, nominates: nominates, at: now)
        } else if let index = earlyChecks.firstIndex(where: { $0.path == path && $0.remoteUfrag == remoteUfrag }) {
            earlyChecks[index].priority = priority
            if nominates { earlyChecks[index].nominates = true }
        } else if earlyChecks.count < configuration.maximumEarlyChecks, remoteUfrag.utf8.count <= 256 {
            earlyChecks.append(EarlyCheck(path: path, remoteUfrag: remoteUfrag, priority: priority, nominates: nominates))
        } else {
            counters.earlyChecksDropped += 1
        }
    }

    private func session(ofLocalUfrag ufrag: Substring) -> Session? {
        if ufrag == session.local.ufrag { return session }
        if let previousSession, ufrag == previousSession.local.ufrag { return previousSession }
        return nil
    }

    /// RFC 8445 §7.3.1.1; false asks for a 487.
    private mutating func settleRoles(_ request: StunMessage) -> Bool {
        for attribute in request.attributes {
            switch attribute {
            case .iceControlling(let theirs) where isControlling:
                counters.roleConflicts += 1
                if tieBreaker >= theirs { return false }
                setControlling(false)
                return true
            case .iceControlled(let theirs) where !isControlling:
                // a lite agent never controls; two controlled ends cannot come from a full peer that read our description
                if configuration.isLite { return false }
                counters.roleConflicts += 1
                if tieBreaker < theirs { return false }
                setControlling(true)
                return true
            default: continue
            }
        }
        return true
    }

    private mutating func refuse(
        _ request: StunMessage, _ code: Int, _ reason: String, _ more: [StunAttribute] = [], key: [UInt8]? = nil, path: NetworkPath
    ) {
        answer(request, .error, [.errorCode(code, reason)] + more, key: key, path: path)
    }

    private mutating func answer(_ request: StunMessage, _ answer: StunMessage.Class, _ attributes: [StunAttribute], key: [UInt8]?, path: NetworkPath) {
        let protection: StunMessage.Protection =
            if let key { request.usesSHA256 ? .sha256(key: key) : .sha1(key: key) } else { .none }
        send(StunMessage(answer, transactionID: request.transactionID, attributes: attributes).encoded(protection), along: path)
    }
}

extension StunMessage {
    var username: String? {
        for case .username(let text) in attributes { return text }
        return nil
    }
}
