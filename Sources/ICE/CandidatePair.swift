import NIOCore
import Wire

/// A base of ours and an address of theirs (RFC 8445 §6.1.2). Server-reflexive candidates pair as their base (§6.1.2.4), so bases are all there is.
struct CandidatePair: Sendable {
    enum State: Sendable {
        /// To be checked when its turn comes. There is no Frozen: one component, one stream leave nothing to thaw.
        case waiting
        case inProgress
        /// Valid: a check was answered.
        case succeeded
        case failed
    }

    /// A check under way; retransmissions are the same bytes.
    struct Check: Sendable {
        var transactionID: StunTransactionID
        var datagram: ByteBuffer
        var nominates: Bool
        var transmissions: Int
        var timeout: Duration
        var due: Instant
    }

    /// Stable while the array of pairs changes.
    let id: Int
    /// Which pair of credentials it is checked with.
    let session: Int
    let path: NetworkPath
    var localPriority: UInt32
    var remotePriority: UInt32
    /// RFC 8445 §6.1.2.3, in the present role.
    var priority: UInt64 = 0

    var state = State.waiting
    var check: Check?
    /// Controlling: its next check carries USE-CANDIDATE. Controlled: the peer's check carried it, and ours is not answered yet.
    var wantsNomination = false
    var isNominated = false
    var nominatedAt: Instant?
    /// The peer nominated it and then, much later, another one.
    var wasSuperseded = false
    /// The peer checked it without USE-CANDIDATE: it nominates by choice, not everything that it checks.
    var hadPlainCheck = false

    /// Of the last check or consent request that was answered, and of all together.
    private(set) var roundTrip: Duration?
    private(set) var totalRoundTrip: Duration = .zero
    /// For reports.
    var requestsSent = 0, requestsReceived = 0, responsesReceived = 0, consentRequestsSent = 0
    var validSince: Instant?
    /// RFC 7675: consent runs from the last authenticated answer.
    var lastResponse: Instant?
    var nextConsent: Instant?
    /// When the first consent request without answer went out.
    var unansweredSince: Instant?
    /// When it was last asked out of turn.
    var inquiredAt: Instant?
    /// Anything that arrived on it.
    var lastReceived: Instant?

    mutating func setPriority(isControlling: Bool) {
        let (controlling, controlled) =
            isControlling ? (UInt64(localPriority), UInt64(remotePriority)) : (UInt64(remotePriority), UInt64(localPriority))
        // RFC 8445 §6.1.2.3: 2^32*MIN(G,D) + 2*MAX(G,D) + (G>D?1:0)
        priority = min(controlling, controlled) << 32 &+ 2 &* max(controlling, controlled) &+ (controlling > controlled ? 1 : 0)
    }

    mutating func noteRoundTrip(_ duration: Duration) {
        roundTrip = duration
        totalRoundTrip += duration
    }

    mutating func fail() {
        state = .failed
        check = nil
        wantsNomination = false
        isNominated = false
        validSince = nil
        nextConsent = nil
        unansweredSince = nil
    }

    /// To be checked anew, whatever was known.
    mutating func reset() {
        fail()
        state = .waiting
    }
}

/// RFC 8445 §5.1.2.1: 2^24*type + 2^8*local + (256 - component).
func candidatePriority(_ kind: IceCandidate.Kind, localPreference: UInt16, component: Int = 1) -> UInt32 {
    let preference: UInt32 =
        switch kind {
        case .host: 126
        case .peerReflexive: 110
        case .serverReflexive: 100
        case .relay: 0
        }
    return preference << 24 | UInt32(localPreference) << 8 | UInt32(256 - min(max(component, 1), 256))
}
