package import WebRTC
import Wire

/// Candidates that travel apart from the descriptions (RFC 8840), in one turn of the loop each.
extension PeerConnection {
    /// What this side's candidates are so far, of the present ICE session; nil before a local description is set.
    package var localFragment: TrickleFragment? { get async { await session.localFragment } }

    /// Takes the peer's candidates.
    /// - Parameter allowsRestart: other credentials begin another ICE session (RFC 8445 §9); else they are an error.
    /// - Returns: this side of the new ICE session, where one began.
    /// - Throws: ``PeerConnectionError``: `invalidDescription` where the fragment does not fit, `invalidState` where no offer was taken.
    package func apply(_ fragment: TrickleFragment, allowsRestart: Bool) async throws -> TrickleFragment? {
        try await session.apply(fragment, allowsRestart: allowsRestart)
    }
}

extension Session {
    var localFragment: TrickleFragment? {
        guard let text = engine.localDescription?.sdp, let sdp = try? SDP(parsing: text) else { return nil }
        return try? TrickleFragment(sdp)
    }

    func apply(_ fragment: TrickleFragment, allowsRestart: Bool) throws -> TrickleFragment? {
        try checkOpen()
        guard let remote = engine.remoteDescription, let sdp = try? SDP(parsing: remote.sdp), let known = try? TrickleFragment(sdp) else {
            throw PeerConnectionError(.invalidState, "there is no remote description that candidates could belong to")
        }
        guard fragment.ufrag != known.ufrag else {
            // one that cannot be read is no reason to refuse the rest (RFC 8839 §5.1)
            for text in fragment.candidates { if let candidate = try? IceCandidate(sdp: text) { try addIceCandidate(candidate) } }
            if fragment.hasEndOfCandidates { try addIceCandidate(nil) }
            return nil
        }
        guard allowsRestart, let offer = sdp.restarted(by: fragment) else {
            let words = allowsRestart ? "to restart ICE it has to have an ice-pwd" : "its ice-ufrag is not that of the present ICE session"
            throw PeerConnectionError(.invalidDescription, words)
        }
        try setRemoteDescription(SessionDescription(kind: .offer, sdp: offer.text))
        do {
            try setLocalDescription(nil)
        } catch {
            try? setRemoteDescription(SessionDescription(kind: .rollback, sdp: ""))
            throw error
        }
        return localFragment
    }
}
