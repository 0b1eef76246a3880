/// What travels as `application/trickle-ice-sdpfrag` (RFC 8840 §9): candidates of one ICE session, for a peer that has the description already.
///
///     a=group:BUNDLE 0
///     m=application 9 UDP/DTLS/SCTP webrtc-datachannel
///     a=mid:0
///     a=ice-ufrag:…
///     a=ice-pwd:…
///     a=candidate:…
///     a=end-of-candidates
package struct TrickleFragment: Hashable, Sendable {
    package static let contentType = "application/trickle-ice-sdpfrag"

    package var mid: String?
    /// Tells the ICE session, and so a restart (RFC 8838 §10).
    package var ufrag: String
    /// nil where the sender leaves it out, which it may while nothing is restarted.
    package var password: String?
    /// `candidate:…` texts, not looked at yet.
    package var candidates: [String]
    package var hasEndOfCandidates: Bool

    package init(mid: String?, ufrag: String, password: String?, candidates: [String], hasEndOfCandidates: Bool) {
        self.mid = mid
        self.ufrag = ufrag
        self.password = password
        self.candidates = candidates
        self.hasEndOfCandidates = hasEndOfCandidates
    }

    /// Reads tolerantly, within the bounds of a session description: one of these without its first lines.
    package init(parsing text: String) throws(SDPError) {
        try self.init(SDP(parsing: "v=0\r\n" + text))
    }

    /// All that a description says of candidates. The sections of a bundle share them.
    package init(_ sdp: SDP) throws(SDPError) {
        let sources = sdp.media.map(\.attributes) + [sdp.attributes]
        guard let ufrag = sources.lazy.compactMap({ $0.first("ice-ufrag") }).first else { throw SDPError(.missingIceUfrag) }
        self.init(
            mid: sdp.media.lazy.compactMap(\.mid).first, ufrag: ufrag, password: sources.lazy.compactMap { $0.first("ice-pwd") }.first,
            candidates: sdp.media.flatMap(\.candidates), hasEndOfCandidates: sources.contains { $0.contains("end-of-candidates") })
    }

    package var text: String {
        var attributes: SDP.Attributes = []
        if let mid { attributes.append("mid", mid) }
        attributes.append("ice-ufrag", ufrag)
        if let password { attributes.append("ice-pwd", password) }
        for candidate in candidates { attributes.append("candidate", candidate.hasPrefix("candidate:") ? String(candidate.dropFirst(10)) : candidate) }
        if hasEndOfCandidates { attributes.append("end-of-candidates") }
        var sdp = SDP(origin: .init(sessionID: 0, version: 0))
        if let mid { sdp.attributes.append("group", "BUNDLE \(mid)") }
        sdp.media = [
            .init(kind: "application", port: 9, transport: "UDP/DTLS/SCTP", formats: ["webrtc-datachannel"], connection: nil, attributes: attributes)
        ]
        // a fragment has no lines of the session but attributes
        return sdp.text.split(separator: "\r\n").filter { $0.hasPrefix("a=") || $0.hasPrefix("m=") }.map { $0 + "\r\n" }.joined()
    }
}

extension SDP {
    /// The same description in another ICE session (RFC 8445 §9): other credentials, and the fragment's candidates in place of its own.
    /// - Returns: nil where the fragment has no password.
    package func restarted(by fragment: TrickleFragment) -> SDP? {
        guard let password = fragment.password, let index = try? dataSectionIndex() else { return nil }
        var sdp = self
        func replace(in attributes: inout Attributes) {
            for name in ["candidate", "end-of-candidates"] { attributes.removeAll(name) }
            for (name, value) in [("ice-ufrag", fragment.ufrag), ("ice-pwd", password)] where attributes.contains(name) {
                attributes.removeAll(name)
                attributes.append(name, value)
            }
        }
        replace(in: &sdp.attributes)
        for section in sdp.media.indices { replace(in: &sdp.media[section].attributes) }
        for candidate in fragment.candidates { sdp.media[index].attributes.append("candidate", String(candidate.dropFirst(10))) }
        if fragment.hasEndOfCandidates { sdp.media[index].attributes.append("end-of-candidates") }
        return sdp
    }
}
