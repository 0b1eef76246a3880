package import Ciphers
package import ICE
package import Wire

/// What we say of ourselves in an offer or an answer.
package struct LocalDataSession: Hashable, Sendable {
    /// The session's number and version in `o=`; the version grows with each description that differs.
    package var sessionID: UInt64
    package var version: UInt64 = 1
    /// In an offer; an answer takes over the offer's.
    package var mid = "0"
    package var credentials: IceCredentials
    package var isIceLite = false
    /// RFC 8838: candidates may follow by signalling.
    package var trickles = true
    package var fingerprints: [Fingerprint]
    /// nil: actpass in an offer; in an answer what fits the offer, active where there is a choice.
    package var setup: SDP.Setup?
    package var sctpPort: UInt16 = DataSession.defaultSctpPort
    /// What we take; nil for no limit.
    package var maximumMessageSize: Int?
    /// `candidate:…` texts.
    package var candidates: [String] = []
    package var hasEndOfCandidates = false
    /// The address of the candidate most likely to work, for agents without ICE (RFC 8839 §4.2.1); nil while there is none.
    package var defaultAddress: TransportAddress?

    package init(sessionID: UInt64, credentials: IceCredentials, fingerprints: [Fingerprint], maximumMessageSize: Int?) {
        self.sessionID = sessionID
        self.credentials = credentials
        self.fingerprints = fingerprints
        self.maximumMessageSize = maximumMessageSize
    }
}

extension SDP {
    /// An offer of one data-channel section (RFC 8829 §5.2.1, RFC 8841 §9).
    package static func offer(_ local: LocalDataSession) -> SDP {
        var sdp = SDP(origin: Origin(sessionID: local.sessionID, version: local.version))
        sdp.attributes.append("group", "BUNDLE \(local.mid)")
        sdp.appendSessionAttributes(of: local)
        let section = MediaSection(kind: "application", port: 9, transport: "UDP/DTLS/SCTP", formats: ["webrtc-datachannel"])
        sdp.media = [section.describing(local, mid: local.mid, setup: local.setup ?? .actpass)]
        return sdp
    }

    /// The answer to `self`: its sections in its order under its mids; data channels accepted, everything else refused with port 0 and out of the BUNDLE.
    package func answer(_ local: LocalDataSession) throws(SDPError) -> SDP {
        let remote = try dataSession(of: .offer)
        guard let setup = local.setup ?? remote.setup.answer else { throw SDPError(.invalidSetup) }
        var sdp = SDP(origin: Origin(sessionID: local.sessionID, version: local.version))
        if let mid = remote.mid, bundle(of: mid) != nil { sdp.attributes.append("group", "BUNDLE \(mid)") }
        sdp.appendSessionAttributes(of: local)
        sdp.media = media.enumerated().map { index, offered in
            guard index == remote.mediaIndex else { return offered.refusal }
            var section = MediaSection(kind: offered.kind, port: 9, transport: offered.transport, formats: ["webrtc-datachannel"])
            if offered.isLegacyDataChannel { section.formats = ["\(local.sctpPort)"] }
            return section.describing(local, mid: remote.mid, setup: setup)
        }
        return sdp
    }

    private mutating func appendSessionAttributes(of local: LocalDataSession) {
        if local.isIceLite { attributes.append("ice-lite") }
        // ice2: we follow RFC 8445 (§10)
        attributes.append("ice-options", local.trickles ? "trickle ice2" : "ice2")
        attributes.append("msid-semantic", "WMS *")
    }
}

extension SDP.MediaSection {
    /// RFC 3264 §6: refused. The formats stay, since the grammar wants one.
    fileprivate var refusal: SDP.MediaSection {
        var section = SDP.MediaSection(kind: kind, port: 0, transport: transport, formats: formats)
        if let mid { section.attributes.append("mid", mid) }
        if !isDataChannel { section.attributes.append("inactive") }
        return section
    }

    fileprivate func describing(_ local: LocalDataSession, mid: String?, setup: SDP.Setup) -> SDP.MediaSection {
        var section = self
        // RFC 8839 §4.2.1.2, RFC 8840 §4.1.1: the default candidate, or port 9 with 0.0.0.0
        if let address = local.defaultAddress {
            section.port = address.port == 0 ? 9 : address.port
            section.connection = "IN \(address.ip.isIPv6 ? "IP6" : "IP4") \(address.ip)"
        }
        if let mid { section.attributes.append("mid", mid) }
        section.attributes.append("ice-ufrag", local.credentials.ufrag)
        section.attributes.append("ice-pwd", local.credentials.password)
        for fingerprint in local.fingerprints { section.attributes.append("fingerprint", fingerprint.description) }
        section.attributes.append("setup", setup.rawValue)
        if isLegacyDataChannel {
            section.attributes.append("sctpmap", "\(local.sctpPort) webrtc-datachannel 65535")
        } else {
            section.attributes.append("sctp-port", "\(local.sctpPort)")
        }
        section.attributes.append("max-message-size", "\(local.maximumMessageSize ?? 0)")
        for candidate in local.candidates { section.attributes.appendCandidate(candidate) }
        if local.hasEndOfCandidates { section.attributes.append("end-of-candidates") }
        return section
    }
}

extension SDP.Attributes {
    /// Takes `candidate:…` with or without that name in front.
    fileprivate mutating func appendCandidate(_ text: String) {
        append("candidate", text.hasPrefix("candidate:") ? String(text.dropFirst("candidate:".count)) : text)
    }
}
