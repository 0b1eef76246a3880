package import Wire

extension IceAgent {
    /// Everything that can be set. The defaults suit data channels on the Internet.
    package struct Configuration: Sendable {
        package var isControlling: Bool
        package var localCredentials: IceCredentials
        /// A lite agent answers checks and makes none (RFC 8445 §2.5).
        package var isLite = false
        package var stunServers: [TransportAddress] = []

        /// Ta: the spacing of new checks (RFC 8445 §14.2).
        package var pacing: Duration = .milliseconds(50)
        /// New checks that may go out back to back before `pacing` spaces them: the best pairs are tried at once, and the rate stays bounded.
        package var burst = 10
        /// RTO of the first retransmission of a check (RFC 8445 §14.3); it doubles up to `maximumRetransmissionTimeout`.
        package var retransmissionTimeout: Duration = .milliseconds(500)
        package var maximumRetransmissionTimeout: Duration = .seconds(2)
        /// Rc: how often a check is sent before its pair fails.
        package var transmissions = 7
        /// How often a STUN server is asked, with the same timeouts; bounds gathering.
        package var gatheringTransmissions = 3
        /// A server-reflexive mapping is refreshed this often until a path is selected (RFC 8445 §11).
        package var mappingRefresh: Duration = .seconds(15)
        /// The agent does not fail earlier, for the peer may still reach us (RFC 8863).
        package var failureTimeout: Duration = .seconds(15)
        /// How long a valid pair waits for a better one that is still being checked, at most; the wait follows the pair's round trip.
        package var nominationPatience: Duration = .milliseconds(200)

        /// RFC 7675 §5.1: every 5 s, times 0.8 to 1.2.
        package var consentInterval: Duration = .seconds(5)
        /// Consent ends this long after the last answer. RFC 7675 §5.1 allows 30 s at most; half of it still holds some forty requests,
        /// so that a path which loses half of all datagrams keeps its consent.
        package var consentTimeout: Duration = .seconds(15)
        /// While a request is unanswered the pair is checked again this soon, so that one lost datagram tells nothing.
        package var consentRetryInterval: Duration = .milliseconds(250)
        /// A pair that leaves requests unanswered for so long (or four of its round trips, if that is longer) gives its place to one that was
        /// checked later, and others are tried.
        package var suspicionTimeout: Duration = .milliseconds(750)
        /// `disconnected` after this long without an answer to a request.
        package var disconnectedTimeout: Duration = .seconds(3)
        /// A pair is not asked out of turn more often than this.
        package var inquiryInterval: Duration = .seconds(1)

        package var maximumRemoteCandidates = 100
        /// RFC 8445 §6.1.2.5.
        package var maximumPairs = 100
        package var maximumPeerReflexive = 32
        /// Checks that came before the remote credentials.
        package var maximumEarlyChecks = 16
        package var maximumTransactions = 512
        /// Datagrams that wait for `poll`.
        package var maximumOutbox = 256
        package var maximumLocalAddresses = 32

        package init(isControlling: Bool, localCredentials: IceCredentials) {
            self.isControlling = isControlling
            self.localCredentials = localCredentials
        }
    }

    /// What was thrown away, by reason, and what was done.
    package struct Counters: Sendable, Equatable {
        // datagrams without effect
        package var malformed = 0
        package var missingFingerprint = 0
        package var badFingerprint = 0
        /// Answered with 400.
        package var missingIntegrity = 0
        /// Answered with 401.
        package var wrongUsername = 0
        /// Requests answered with 401, responses ignored.
        package var badIntegrity = 0
        /// Answered with 420.
        package var unknownAttributes = 0
        package var unknownMethod = 0
        package var indications = 0
        package var unmatchedResponses = 0
        package var unauthenticatedErrors = 0
        package var asymmetricResponses = 0
        package var unknownLocalAddress = 0
        // bounds that were met
        package var candidatesIgnored = 0
        package var pairsRefused = 0
        package var earlyChecksDropped = 0
        package var transactionsDropped = 0
        package var datagramsDropped = 0
        // what happened
        package var checksSent = 0
        package var retransmissions = 0
        package var consentRequestsSent = 0
        package var requestsAnswered = 0
        package var roleConflicts = 0
    }
}
