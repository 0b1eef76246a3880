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
    var credentials: IceCredentials
    /// What the next local description of an ICE restart says (RFC 8445 §9); they count once it is set.
    var nextCredentials: IceCredentials?
    /// Before the offer that restarts, for its rollback.
    var credentialsBefore: IceCredentials?
    /// `restartIce` was called: the next offer restarts.
    var wantsRestart = false
    /// The peer's offer restarts: so must our answer (RFC 8839 §4.4.1.1.1).
    var remoteRestarts = false
    let sessionID: UInt64
    /// Versions that descriptions of earlier credentials had.
    var versionsBefore: UInt64 = 0
    /// The local description's kind and DTLS role; its text is written afresh with the candidates of the moment.
    var localKind: SessionDescription.Kind?
    var localSetup = SDP.Setup.actpass
    /// The candidates' section; the offerer's choice.
    var mid = "0"
    var mediaIndex = 0
    /// What the peer's description says, and its candidates as far as ICE does not have them yet.
    var remote: DataSession?
    var remoteCandidates: [IceCandidate] = []
    var remoteSDP: SDP?
    var remoteDescription: SessionDescription?
    var hasRemoteEnd = false
    /// The three above before the offer that is not answered yet, for its rollback.
    var remoteBefore: (DataSession?, SDP?, SessionDescription?)

    init(using generator: inout some RandomNumberGenerator & Sendable) {
        credentials = .random(using: &generator)
        // RFC 8829 §5.2.1: the top bit is zero
        sessionID = generator.next() >> 1
    }
}

extension PeerEngine {
    /// Candidates of the peer that are kept for ICE.
    static let maximumRemoteCandidates = 128

    package var signallingState: PeerSignallingState { signalling.state }
    package var localUfrag: String { signalling.credentials.ufrag }
    package var remoteDescription: SessionDescription? { signalling.remoteDescription }
    /// The largest message the peer takes; nil for no limit, and until its description said it.
    package var remoteMaximumMessageSize: Int? { signalling.remote?.maximumMessageSize }

    /// With the candidates found so far.
    package var localDescription: SessionDescription? {
        guard let kind = signalling.localKind else { return nil }
        return try? describe(kind, setup: signalling.localSetup, credentials: signalling.credentials)
    }

    /// With `iceRestart`, or after `restartIce`, one with other credentials (RFC 8829 §5.2.3.1, §4.1.8).
    package mutating func createOffer(iceRestart: Bool = false) throws(SignallingError) -> SessionDescription {
        guard signalling.state == .stable || signalling.state == .haveLocalOffer else { throw wrongState("createOffer") }
        if iceRestart || signalling.wantsRestart { prepareRestart() }
        return try describe(.offer, setup: .actpass, credentials: signalling.nextCredentials ?? signalling.credentials)
    }

    /// The next offer restarts ICE. True where there is something to be restarted.
    package mutating func restartIce() -> Bool {
        guard ice != nil, !isClosed, failure == nil else { return false }
        signalling.wantsRestart = true
        return true
    }

    package mutating func createAnswer() throws(SignallingError) -> SessionDescription {
        guard signalling.state == .haveRemoteOffer else { throw wrongState("createAnswer") }
        if signalling.remoteRestarts { prepareRestart() }
        return try describe(.answer, setup: try answerSetup, credentials: signalling.nextCredentials ?? signalling.credentials)
    }

    /// nil applies the offer or answer that fits the state. The text given is not read: what counts is what the engine would write now.
    package mutating func setLocalDescription(_ description: SessionDescription?, at now: Instant) throws(SignallingError) {
        let kind = description?.kind ?? (signalling.state == .haveRemoteOffer ? .answer : .offer)
        switch (kind, signalling.state) {
        case (.offer, .stable), (.offer, .haveLocalOffer):
            signalling.state = .haveLocalOffer
            signalling.localKind = .offer
            signalling.localSetup = .actpass
            startIce(isControlling: true, at: now)
            if signalling.wantsRestart { prepareRestart() }
            restart(at: now)
        case (.answer, .haveRemoteOffer):
            signalling.localSetup = try answerSetup
            signalling.localKind = .answer
            signalling.state = .stable
            // an answerer controls where the offerer is lite (RFC 8445 §6.1.1)
            startIce(isControlling: signalling.remote?.isIceLite ?? false, at: now)
            if signalling.remoteRestarts { prepareRestart() }
            restart(at: now)
            signalling.remoteRestarts = false
            try connect(at: now)
        case (.rollback, .haveLocalOffer):
            signalling.state = .stable
            signalling.nextCredentials = nil
            if dtls == nil { signalling.localKind = nil }
            if let before = signalling.credentialsBefore.take() {
                signalling.credentials = before
                forgetLocalCandidates()
                ice?.undoRestart(at: now)
            }
        default: throw wrongState("setLocalDescription(\(kind))")
        }
    }

    package mutating func setRemoteDescription(_ description: SessionDescription, at now: Instant) throws(SignallingError) {
        switch (description.kind, signalling.state) {
        case (.offer, .stable):
            let before = (signalling.remote, signalling.remoteSDP, signalling.remoteDescription)
            try accept(description)
            signalling.remoteBefore = before
            signalling.state = .haveRemoteOffer
        case (.answer, .haveLocalOffer):
            try accept(description)
            signalling.remoteRestarts = false
            signalling.credentialsBefore = nil
            signalling.wantsRestart = false
            signalling.state = .stable
            try connect(at: now)
        case (.rollback, .haveRemoteOffer):
            signalling.state = .stable
            signalling.remoteRestarts = false
            signalling.nextCredentials = nil
            signalling.remoteCandidates = []
            (signalling.remote, signalling.remoteSDP, signalling.remoteDescription) = signalling.remoteBefore
        default: throw wrongState("setRemoteDescription(\(description.kind))")
        }
    }

    /// nil: the peer has no more.
    package mutating func addIceCandidate(_ candidate: IceCandidate?, at now: Instant) throws(SignallingError) {
        guard let remote = signalling.remote else { throw wrongState("addIceCandidate") }
        guard let candidate else {
            signalling.hasRemoteEnd = true
            if !signalling.remoteRestarts { ice?.endOfRemoteCandidates(at: now) }
            return
        }
        // of another generation (RFC 8838 §11): it cannot be checked
        if let ufrag = candidate.usernameFragment, ufrag != remote.credentials.ufrag { return }
        if dtls != nil, !signalling.remoteRestarts {
            ice?.addRemoteCandidate(candidate, at: now)
        } else if signalling.remoteCandidates.count < Self.maximumRemoteCandidates {
            signalling.remoteCandidates.append(candidate)
        }
    }

    // MARK: Steps

    private func wrongState(_ verb: String) -> SignallingError { .wrongState("\(verb) while \(signalling.state)") }

    /// The role that was agreed on stays for the life of the connection.
    private var answerSetup: SDP.Setup {
        get throws(SignallingError) {
            if dtls != nil { return isDTLSClient ? .active : .passive }
            guard let setup = signalling.remote?.setup.answer else { throw .unusable("\(SDPError(.invalidSetup))") }
            return setup
        }
    }

    private mutating func accept(_ description: SessionDescription) throws(SignallingError) {
        let sdp: SDP
        let remote: DataSession
        do {
            sdp = try SDP(parsing: description.sdp)
            remote = try sdp.dataSession(of: description.kind)
        } catch {
            throw .unusable("\(error)")
        }
        var restarts = false
        if let known = signalling.remote, dtls != nil {
            // RFC 8842 §4: that would be another DTLS association
            guard Set(known.fingerprints.strongest) == Set(remote.fingerprints.strongest) else {
                throw .unusable("the peer has another certificate now: it is another connection")
            }
            restarts = known.credentials != remote.credentials
        }
        if description.kind == .offer {
            signalling.mid = remote.mid ?? "0"
            signalling.mediaIndex = remote.mediaIndex
        }
        signalling.remote = remote
        signalling.remoteSDP = sdp
        signalling.remoteDescription = description
        // a candidate that nobody understands is no reason to refuse the rest (RFC 8839 §5.1)
        let candidates = remote.candidates.prefix(Self.maximumRemoteCandidates).compactMap { try? IceCandidate(sdp: $0) }
        signalling.remoteCandidates = candidates
        signalling.remoteRestarts = restarts
        if restarts || remote.hasEndOfCandidates { signalling.hasRemoteEnd = remote.hasEndOfCandidates }
    }

    // MARK: ICE restart

    private mutating func prepareRestart() {
        guard ice != nil, signalling.nextCredentials == nil else { return }
        signalling.nextCredentials = .random(using: &generator)
    }

    private mutating func restart(at now: Instant) {
        guard let next = signalling.nextCredentials.take() else { return }
        if signalling.state == .haveLocalOffer { signalling.credentialsBefore = signalling.credentialsBefore ?? signalling.credentials }
        signalling.wantsRestart = false
        signalling.credentials = next
        forgetLocalCandidates()
        ice?.restart(localCredentials: next, at: now)
    }

    /// They are announced again, with the credentials that count now.
    private mutating func forgetLocalCandidates() {
        signalling.versionsBefore += UInt64(localCandidates.count) + 2
        localCandidates = []
        gatheringState = .gathering
    }

    private mutating func startIce(isControlling: Bool, at now: Instant) {
        guard ice == nil else { return }
        var settings = IceAgent.Configuration(isControlling: isControlling, localCredentials: signalling.credentials)
        configuration.tuneIce(&settings)
        settings.isLite = configuration.isLite
        settings.stunServers = stunServers
        ice = IceAgent(configuration: settings, generator: generator)
        gatheringState = .gathering
        for local in localAddresses { ice?.addLocalAddress(local.address, advertised: local.advertised, at: now) }
        for relayed in relayedAddresses { ice?.addRelayedAddress(relayed, at: now) }
        if localAddressesEnded { ice?.endOfLocalAddresses(at: now) }
    }

    /// Both descriptions are there: checks begin, and DTLS when a pair is found. DTLS and SCTP outlive every restart of ICE.
    private mutating func connect(at now: Instant) throws(SignallingError) {
        guard let remote = signalling.remote else { return }
        guard dtls == nil else { return introduce(remote, at: now) }
        isDTLSClient = signalling.localKind == .answer ? signalling.localSetup == .active : remote.setup == .passive
        do {
            dtls = try DTLSEngine(
                role: isDTLSClient ? .client : .server, certificate: configuration.certificate, remoteFingerprints: remote.fingerprints,
                configuration: configuration.dtls)
        } catch {
            throw .unusable("DTLS: \(error)")
        }
        channels.setRole(isDTLSClient: isDTLSClient)
        // SCTP says 0 where there is no limit
        channels.setRemote(port: remote.sctpPort, maximumMessageSize: remote.maximumMessageSize ?? 0)
        introduce(remote, at: now)
        let waiting = early
        early = []
        for (datagram, path) in waiting { handle(datagram, path: path, at: now) }
    }

    private mutating func introduce(_ remote: DataSession, at now: Instant) {
        ice?.setRemoteCredentials(remote.credentials, isLite: remote.isIceLite, at: now)
        for candidate in signalling.remoteCandidates { ice?.addRemoteCandidate(candidate, at: now) }
        signalling.remoteCandidates = []
        if signalling.hasRemoteEnd { ice?.endOfRemoteCandidates(at: now) }
    }

    private func describe(_ kind: SessionDescription.Kind, setup: SDP.Setup, credentials: IceCredentials) throws(SignallingError) -> SessionDescription {
        var local = LocalDataSession(
            sessionID: signalling.sessionID, credentials: credentials, fingerprints: [configuration.certificate.fingerprint],
            maximumMessageSize: configuration.maximumMessageSize)
        // RFC 8829 §5.2.2: the version grows when something changed, and only candidates do
        local.version = signalling.versionsBefore + UInt64(localCandidates.count) + (gatheringState == .complete ? 2 : 1)
        local.mid = signalling.mid
        local.isIceLite = configuration.isLite
        local.setup = setup
        if credentials == signalling.credentials {
            local.candidates = localCandidates.map(\.sdp)
            local.hasEndOfCandidates = gatheringState == .complete
        } else {
            // those of the credentials to come are found once they count
            local.version += 1
        }
        local.defaultAddress = localCandidates.max { $0.priority < $1.priority }?.transportAddress
        guard kind != .offer else { return SessionDescription(kind: kind, sdp: SDP.offer(local).text) }
        guard let offer = signalling.remoteSDP else { throw wrongState("createAnswer") }
        do {
            return SessionDescription(kind: kind, sdp: try offer.answer(local).text)
        } catch {
            throw .unusable("\(error)")
        }
    }
}
