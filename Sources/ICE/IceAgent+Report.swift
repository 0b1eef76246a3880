package import Wire

extension IceAgent {
    /// A candidate pair as a report shows it.
    package struct PairReport: Sendable {
        /// Stable as long as the pair lives.
        package var id: Int
        package var path: NetworkPath
        /// RTCStatsIceCandidatePairState.
        package var state: String
        package var isNominated: Bool
        package var isSelected: Bool
        package var roundTrip: Duration?
        package var totalRoundTrip: Duration
        package var requestsSent: Int
        /// Authenticated checks of the peer; each is answered.
        package var requestsReceived: Int
        package var responsesReceived: Int
        package var consentRequestsSent: Int
        package var local: IceCandidate?
        package var remote: IceCandidate?
    }

    package var pairReports: [PairReport] {
        pairs.map { pair in
            let state =
                switch pair.state {
                case .waiting: "waiting"
                case .inProgress: "in-progress"
                case .succeeded: "succeeded"
                case .failed: "failed"
                }
            return PairReport(
                id: pair.id, path: pair.path, state: state, isNominated: pair.isNominated, isSelected: pair.id == selectedID, roundTrip: pair.roundTrip,
                totalRoundTrip: pair.totalRoundTrip, requestsSent: pair.requestsSent, requestsReceived: pair.requestsReceived,
                responsesReceived: pair.responsesReceived, consentRequestsSent: pair.consentRequestsSent,
                local: localCandidates.first { $0.transportAddress == pair.path.local },
                remote: remoteCandidates.first { $0.candidate.transportAddress == pair.path.remote }?.candidate)
        }
    }

    /// The peer's candidates, those that its checks told among them.
    package var knownRemoteCandidates: [IceCandidate] { remoteCandidates.map(\.candidate) }
}
