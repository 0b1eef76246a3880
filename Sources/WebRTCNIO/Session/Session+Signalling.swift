import Logging
import NIOCore
import WebRTC
import Wire

extension Session {
    var localDescription: SessionDescription? { engine.localDescription }
    var remoteDescription: SessionDescription? { engine.remoteDescription }
    var signalingState: PeerConnection.SignalingState {
        switch engine.signallingState {
        case .stable: .stable
        case .haveLocalOffer: .haveLocalOffer
        case .haveRemoteOffer: .haveRemoteOffer
        case .closed: .closed
        }
    }

    func createOffer(iceRestart: Bool) throws -> SessionDescription {
        try checkOpen()
        return try translating { () throws(SignallingError) in try engine.createOffer(iceRestart: iceRestart) }
    }

    func restartIce() {
        if engine.restartIce() { emit(.plain(.negotiationNeeded)) }
    }

    func createAnswer() throws -> SessionDescription {
        try checkOpen()
        return try translating { () throws(SignallingError) in try engine.createAnswer() }
    }

    func setLocalDescription(_ description: SessionDescription?) throws {
        try checkOpen()
        let now = Instant.now
        if startTime == nil { startTime = now }
        try translating { () throws(SignallingError) in try engine.setLocalDescription(description, at: now) }
        gather(at: now)
        // a restart gathers anew, under another ufrag
        if engine.gatheringState == .gathering { setGathering(.gathering) }
        if !ownsEndpoint { endpoint.router.value.add(self, ufrag: engine.localUfrag) }
        flush(at: now)
    }

    func setRemoteDescription(_ description: SessionDescription) throws {
        try checkOpen()
        let now = Instant.now
        if startTime == nil { startTime = now }
        try translating { () throws(SignallingError) in try engine.setRemoteDescription(description, at: now) }
        lookUpNames()
        flush(at: now)
    }

    func addIceCandidate(_ candidate: IceCandidate?) throws {
        try checkOpen()
        let now = Instant.now
        try translating { () throws(SignallingError) in try engine.addIceCandidate(candidate, at: now) }
        lookUpNames()
        flush(at: now)
    }

    func gatheringComplete() async throws -> SessionDescription {
        try checkOpen()
        while iceGatheringState != .complete {
            if engine.localDescription == nil { throw PeerConnectionError(.invalidState, "no local description is set") }
            let key = waiters.newKey()
            gatheringWaiters.append(key)
            try await resolve(park(key))
        }
        guard let description = engine.localDescription else { throw PeerConnectionError(.invalidState, "no local description is set") }
        return description
    }

    func checkOpen() throws {
        if let closeReason { throw closeReason }
    }

    private func translating<Result>(_ body: () throws(SignallingError) -> Result) throws -> Result {
        do {
            return try body()
        } catch {
            switch error {
            case .wrongState(let detail): throw PeerConnectionError(.invalidState, detail)
            case .unusable(let detail): throw PeerConnectionError(.invalidDescription, detail)
            }
        }
    }

    // MARK: Gathering

    private func gather(at now: Instant) {
        guard !isGathering, engine.localDescription != nil else { return }
        isGathering = true
        setGathering(.gathering)
        // RFC 8828 §5.2, mode 4: with `relay` there are no candidates but those on TURN servers
        if configuration.iceTransportPolicy == .all {
            for address in endpoint.localAddresses { engine.addLocalAddress(address, advertised: endpoint.advertisedAddress(for: address), at: now) }
        }
        for server in configuration.iceServers {
            for url in server.urls {
                guard let parsed = IceServerURL(url) else { continue }
                switch parsed.service {
                case .stun: if configuration.iceTransportPolicy == .all { lookUpServer(parsed) }
                case .turn(let transport): askTurnServer(parsed, url, transport, server)
                }
            }
        }
        boundGathering()
        if lookups == 0 { engine.endOfLocalAddresses(at: now) }
    }

    /// The name is looked up on another thread; host candidates and the first checks do not wait for it.
    private func lookUpServer(_ server: IceServerURL) {
        lookups += 1
        server.resolve(on: eventLoop).whenComplete { result in
            self.assumeIsolated { session in
                session.lookups -= 1
                guard !session.isEnded else { return }
                let now = Instant.now
                if case .success(let addresses) = result {
                    for address in addresses { session.engine.addStunServer(address, at: now) }
                }
                if session.lookups == 0 { session.engine.endOfLocalAddresses(at: now) }
                session.flush(at: now)
            }
        }
    }

    /// `.local` names of the peer's candidates; each is asked for once, and silence is an answer.
    private func lookUpNames() {
        for name in engine.unresolvedHostnames where asked.count < 32 && asked.insert(name).inserted {
            MulticastDNS.resolve(name, on: eventLoop).whenSuccess { ip in
                self.assumeIsolated { session in
                    guard let ip, !session.isEnded else { return }
                    let now = Instant.now
                    session.engine.resolveHostname(name, to: ip, at: now)
                    session.flush(at: now)
                }
            }
        }
    }

    func setGathering(_ state: PeerConnection.IceGatheringState) {
        guard iceGatheringState != state else { return }
        iceGatheringState = state
        emit(.plain(.iceGatheringStateChanged(state)))
        if state == .complete { waiters.wake(&gatheringWaiters) }
    }
}
