package import Ciphers
package import ICE

/// What a description says of its data-channel transport: all that ICE, DTLS and SCTP need to know of the other side.
package struct DataSession: Hashable, Sendable {
    /// Which media section it is: candidates name it by this and by `mid`.
    package var mediaIndex: Int
    package var mid: String?
    package var credentials: IceCredentials
    package var isIceLite: Bool
    /// RFC 8838: more candidates may follow.
    package var trickles: Bool
    /// As written; see `Fingerprint.strongest` for those that count.
    package var fingerprints: [Fingerprint]
    package var setup: SDP.Setup
    package var sctpPort: UInt16
    /// The largest message the other side takes; nil for no limit (RFC 8841 §6.1: 0). 64 KiB when nothing is said.
    package var maximumMessageSize: Int?
    /// `candidate:…` texts, not looked at yet.
    package var candidates: [String]
    package var hasEndOfCandidates: Bool

    package static let defaultMaximumMessageSize = 65_536
    package static let defaultSctpPort: UInt16 = 5000
}

extension SDP {
    /// The first data-channel section that is not rejected, with everything it inherits from the session level and from its BUNDLE group.
    package func dataSession(of kind: SessionDescription.Kind) throws(SDPError) -> DataSession {
        let index = try dataSectionIndex()
        let section = media[index]
        // bundled sections share the transport of the group's first; stacks differ in where they write it (RFC 9143 §7.3)
        let sources = [section.attributes, attributes] + bundleSiblings(of: section).map(\.attributes)
        func first(_ name: String) -> String? { sources.lazy.compactMap { $0.first(name) }.first }

        guard let ufrag = first("ice-ufrag") else { throw SDPError(.missingIceUfrag) }
        guard let password = first("ice-pwd") else { throw SDPError(.missingIcePassword) }
        guard Self.isIceText(ufrag, 4), Self.isIceText(password, 22) else { throw SDPError(.invalidIceCredentials) }

        let written = sources.lazy.map { $0.values("fingerprint") }.first { !$0.isEmpty } ?? []
        let fingerprints = written.prefix(16).compactMap { Fingerprint(sdp: $0) }
        guard !written.isEmpty else { throw SDPError(.missingFingerprint) }
        guard !fingerprints.strongest.isEmpty else { throw SDPError(.unsupportedFingerprint) }

        let candidates = ([section] + bundleSiblings(of: section)).lazy.map(\.candidates).first { !$0.isEmpty } ?? []
        let options = sources.flatMap { $0.values("ice-options") }
        return DataSession(
            mediaIndex: index,
            mid: section.mid,
            credentials: IceCredentials(ufrag: ufrag, password: password),
            isIceLite: isIceLite || section.attributes.contains("ice-lite"),
            // blanks part them; libdatachannel writes a comma
            trickles: options.contains { $0.split(whereSeparator: { $0 == " " || $0 == "," }).contains("trickle") },
            fingerprints: Array(fingerprints),
            setup: try Self.setup(first("setup"), in: kind),
            sctpPort: try section.sctpPort(),
            maximumMessageSize: try section.maximumMessageSize(),
            candidates: candidates,
            hasEndOfCandidates: section.hasEndOfCandidates || attributes.contains("end-of-candidates"))
    }

    /// RFC 8829 §5.10: an answer has the offer's sections, in order, under the same mids.
    package func checkAnswer(to offer: SDP) throws(SDPError) {
        guard media.count == offer.media.count else { throw SDPError(.answerDoesNotMatchOffer) }
        for (answered, offered) in zip(media, offer.media) {
            guard answered.kind == offered.kind else { throw SDPError(.answerDoesNotMatchOffer) }
            // a stack without mids leaves them out; one that writes them must not change them
            if let mid = answered.mid, let expected = offered.mid, mid != expected { throw SDPError(.answerDoesNotMatchOffer) }
        }
    }

    package func dataSectionIndex() throws(SDPError) -> Int {
        if let index = media.firstIndex(where: { $0.isDataChannel && !$0.isRejected }) { return index }
        throw SDPError(media.contains { $0.isDataChannel } ? .dataChannelRejected : .missingApplicationSection)
    }

    /// The other sections of its BUNDLE group, the group's first section first.
    private func bundleSiblings(of section: MediaSection) -> [MediaSection] {
        guard let mid = section.mid, let mids = bundle(of: mid) else { return [] }
        return mids.filter { $0 != mid }.compactMap { other in media.first { $0.mid == other } }
    }

    /// `ice-char`s: letters, digits, + and /. Some stacks use - and _ as well, harmlessly.
    private static func isIceText(_ text: String, _ least: Int) -> Bool {
        (least...256).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
                default: "+/-_=".utf8.contains(byte)
                }
            }
    }

    private static func setup(_ text: String?, in kind: SessionDescription.Kind) throws(SDPError) -> Setup {
        // left out: an offer leaves the choice to us, and an answer takes the role that RFC 8842 §5.3 recommends
        guard let text else { return kind == .offer ? .actpass : .active }
        guard let setup = Setup(rawValue: text), setup != .holdconn, kind == .offer || setup != .actpass else { throw SDPError(.invalidSetup) }
        return setup
    }
}

extension SDP.MediaSection {
    /// RFC 8841 §5: a=sctp-port. Its drafts: the format is the port, and a=sctpmap repeats it.
    fileprivate func sctpPort() throws(SDPError) -> UInt16 {
        let text: String? =
            isLegacyDataChannel ? formats.first : attributes.first("sctp-port") ?? attributes.first("sctpmap")?.split(separator: " ").first.map(String.init)
        guard let text else { return DataSession.defaultSctpPort }
        guard let port = UInt16(text), port != 0 else { throw SDPError(.invalidSctpPort) }
        return port
    }

    fileprivate func maximumMessageSize() throws(SDPError) -> Int? {
        guard let text = attributes.first("max-message-size") else { return DataSession.defaultMaximumMessageSize }
        guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { throw SDPError(.invalidMaximumMessageSize) }
        // more digits than an Int holds is as good as no limit
        guard let size = Int(text), size != 0 else { return nil }
        return size
    }
}
