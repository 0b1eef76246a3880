import Ciphers
import DTLS
package import ICE
import SCTP
package import Wire

/// Where offer and answer stand (RFC 8829 §3.2), without pranswer.
///
///     stable ──local offer──► haveLocalOffer ──remote answer──► stable
///     stable ──remote offer─► haveRemoteOffer ──local answer──► stable
struct Signalling {
    var state = PeerSignallingState.stable
    let credentials: IceCredentials
    let sessionID: UInt64
    var version: UInt64 = 0
    /// The m-section's name; the offerer's choice.
    var mid = "0"
    /// Kinds of what is set or pending; the local text is written afresh with the candidates of the moment.
    var localKind: SessionDescription.Kind?
    var localSetup = DTLSSetup.actpass
    var remote: RemoteMedia?
    var remoteDescription: SessionDescription?
    var hasRemoteEnd = false

    init(using generator: inout any RandomNumberGenerator & Sendable) {
        credentials = .random(using: &generator)
        sessionID = generator.next() >> 1
    }
}

extension PeerEngine {
    package var signallingState: PeerSignallingState { signalling.state }
    package var localUfrag: String { signalling.credentials.ufrag }
    package var remoteDescription: SessionDescription? { signalling.remoteDescription }
    /// nil until the peer's description said it.
    package var remoteMaximumMessageSize: Int? { signalling.remote.map(\.maximumMessageSize) }

    /// With the candidates found so far.
    package var localDescription: SessionDescription? {
        signalling.localKind.map { describe($0, setup: signalling.localSetup) }
    }

    package mutating func createOffer() throws(SignallingError) -> SessionDescription {
        guard signalling.state == .stable || signalling.state == .haveLocalOffer else { throw wrongState("createOffer") }
        return describe(.offer, setup: signalling.localKind == nil ? .actpass : .actpass)
    }

    package mutating func createAnswer() throws(SignallingError) -> SessionDescription {
        guard signalling.state == .haveRemoteOffer else { throw wrongState("createAnswer") }
        return describe(.answer, setup: answerSetup)
    }

    /// nil applies the offer or answer that fits the state. The text given is not parsed: what it says is what the engine does, whatever was edited.
    package mutating func setLocalDescription(_ description: SessionDescription?, at now: Instant) throws(SignallingError) {
        let kind = description?.kind ?? (signalling.state == .haveRemoteOffer ? .answer : .offer)
        switch (kind, signalling.state) {
        case (.offer, .stable), (.offer, .haveLocalOffer):
            signalling.state = .haveLocalOffer
            signalling.localKind = .offer
            signalling.localSetup = .actpass
            startIce(isControlling: true, at: now)
        case (.answer, .haveRemoteOffer):
            signalling.state = .stable
            signalling.localKind = .answer
            signalling.localSetup = answerSetup
            // an answerer that controls: the offerer is lite (RFC 8445 §6.1.1)
            startIce(isControlling: signalling.remote?.isLite ?? false, at: now)
            try connect(at: now)
        case (.rollback, .haveLocalOffer):
            signalling.state = .stable
            signalling.localKind = nil
        default: throw wrongState("setLocalDescription(\(kind))")
        }
    }

    package mutating func setRemoteDescription(_ description: SessionDescription, at now: Instant) throws(SignallingError) {
        switch (description.kind, signalling.state) {
        case (.offer, .stable):
            let remote = try accept(description)
            signalling.remote = remote
            signalling.mid = remote.mid
            signalling.state = .haveRemoteOffer
        case (.answer, .haveLocalOffer):
            let remote = try accept(description)
            guard remote.setup != .actpass else { throw .unusable("an answer must choose its DTLS role (RFC 8842 §5.2)") }
            signalling.remote = remote
            signalling.state = .stable
            try connect(at: now)
        case (.rollback, .haveRemoteOffer):
            signalling.state = .stable
            signalling.remoteDescription = nil
            if dtls == nil { signalling.remote = nil }
            return
        default: throw wrongState("setRemoteDescription(\(description.kind))")
        }
        signalling.remoteDescription = description
    }

    /// nil: the peer has no more.
    package mutating func addIceCandidate(_ candidate: IceCandidate?, at now: Instant) throws(SignallingError) {
        guard signalling.remoteDescription != nil else { throw wrongState("addIceCandidate") }
        guard let candidate else {
            signalling.hasRemoteEnd = true
            ice?.endOfRemoteCandidates(at: now)
            return
        }
        // of another generation (RFC 8838 §11): it cannot be checked
        if let ufrag = candidate.usernameFragment, let remote = signalling.remote, ufrag != remote.credentials.ufrag { return }
        if ice != nil, dtls != nil {
            ice?.addRemoteCandidate(candidate, at: now)
        } else {
            guard signalling.remote.map({ $0.candidates.count < RemoteMedia.maximumCandidates }) ?? false else { return }
            signalling.remote?.candidates.append(candidate)
        }
    }

    // MARK: Steps

    private func wrongState(_ verb: String) -> SignallingError { .wrongState("\(verb) while \(signalling.state)") }

    /// An answerer is the client where it may choose: it then speaks first, half a round trip earlier (RFC 8842 §5.3).
    private var answerSetup: DTLSSetup {
        if dtls != nil { return isDTLSClient ? .active : .passive }
        return signalling.remote?.setup == .active ? .passive : .active
    }

    private func accept(_ description: SessionDescription) throws(SignallingError) -> RemoteMedia {
        let remote = try RemoteMedia(parsing: description)
        if let known = signalling.remote, dtls != nil, known.credentials != remote.credentials {
            throw .unusable("this connection does not restart ICE")
        }
        return remote
    }

    private mutating func startIce(isControlling: Bool, at now: Instant) {
        guard ice == nil else { return }
        var settings = IceAgent.Configuration(isControlling: isControlling, localCredentials: signalling.credentials)
        settings.isLite = configuration.isLite
        settings.stunServers = stunServers
        ice = IceAgent(configuration: settings, generator: generator)
        gatheringState = .gathering
        for address in localAddresses { ice?.addLocalAddress(address, at: now) }
        if localAddressesEnded { ice?.endOfLocalAddresses(at: now) }
    }

    /// Both descriptions are there: checks begin, and DTLS when a pair is found.
    private mutating func connect(at now: Instant) throws(SignallingError) {
        guard dtls == nil, let remote = signalling.remote else { return }
        isDTLSClient = signalling.localKind == .answer ? signalling.localSetup == .active : remote.setup == .passive
        do {
            dtls = try DTLSEngine(
                role: isDTLSClient ? .client : .server, certificate: configuration.certificate, remoteFingerprints: remote.fingerprints,
                configuration: configuration.dtls)
        } catch {
            throw .unusable("DTLS: \(error)")
        }
        channels.setRole(isDTLSClient: isDTLSClient)
        channels.setRemote(port: remote.sctpPort, maximumMessageSize: remote.maximumMessageSize)
        ice?.setRemoteCredentials(remote.credentials, isLite: remote.isLite, at: now)
        for candidate in remote.candidates { ice?.addRemoteCandidate(candidate, at: now) }
        if remote.hasEndOfCandidates || signalling.hasRemoteEnd { ice?.endOfRemoteCandidates(at: now) }
        let waiting = early
        early = []
        for (datagram, path) in waiting { handle(datagram, path: path, at: now) }
    }

    private func describe(_ kind: SessionDescription.Kind, setup: DTLSSetup) -> SessionDescription {
        LocalMedia(
            sessionID: signalling.sessionID, version: signalling.version, mid: signalling.mid, credentials: signalling.credentials,
            isLite: configuration.isLite, fingerprint: configuration.certificate.fingerprint, setup: setup, sctpPort: 5000,
            maximumMessageSize: configuration.maximumMessageSize, candidates: localCandidates, hasEndOfCandidates: gatheringState == .complete
        ).description(kind, answering: kind == .answer ? signalling.remoteDescription : nil)
    }
}
