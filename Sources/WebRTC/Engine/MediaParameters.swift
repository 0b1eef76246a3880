import Ciphers
import ICE
import Wire

enum DTLSSetup: String, Hashable, Sendable { case actpass, active, passive }

/// What the engine takes from the peer's description.
struct RemoteMedia: Sendable {
    static let maximumCandidates = 128

    var mid = "0"
    var credentials: IceCredentials
    var isLite = false
    var fingerprints: [Fingerprint] = []
    var setup = DTLSSetup.actpass
    var sctpPort: UInt16 = 5000
    /// RFC 8841 §6.1: 64 KiB where nothing is said.
    var maximumMessageSize = 65_536
    var candidates: [IceCandidate] = []
    var hasEndOfCandidates = false
}

/// What the engine puts into its own description.
struct LocalMedia: Sendable {
    var sessionID: UInt64
    var version: UInt64
    var mid: String
    var credentials: IceCredentials
    var isLite: Bool
    var fingerprint: Fingerprint
    var setup: DTLSSetup
    var sctpPort: UInt16
    var maximumMessageSize: Int
    var candidates: [IceCandidate]
    var hasEndOfCandidates: Bool
}

// Stand-in until the SDP model is here.
extension RemoteMedia {
    init(parsing description: SessionDescription) throws(SignallingError) {
        var ufrag: String?
        var password: String?
        self.init(credentials: IceCredentials(ufrag: "", password: ""))
        for line in description.sdp.split(whereSeparator: \.isNewline) {
            func value(_ name: String) -> String? { line.hasPrefix(name) ? String(line.dropFirst(name.count)) : nil }
            if let v = value("a=mid:") { mid = v }
            if let v = value("a=ice-ufrag:") { ufrag = v }
            if let v = value("a=ice-pwd:") { password = v }
            if line == "a=ice-lite" { isLite = true }
            if let v = value("a=fingerprint:"), let f = Fingerprint(sdp: v) { fingerprints.append(f) }
            if let v = value("a=setup:"), let s = DTLSSetup(rawValue: v) { setup = s }
            if let v = value("a=sctp-port:"), let p = UInt16(v) { sctpPort = p }
            if let v = value("a=max-message-size:"), let p = Int(v) { maximumMessageSize = p }
            if line.hasPrefix("a=candidate:"), let c = try? IceCandidate(sdp: String(line)) { candidates.append(c) }
            if line == "a=end-of-candidates" { hasEndOfCandidates = true }
        }
        guard let ufrag, let password else { throw .unusable("no ICE credentials") }
        guard !fingerprints.isEmpty else { throw .unusable("no fingerprint") }
        credentials = IceCredentials(ufrag: ufrag, password: password)
    }
}

extension LocalMedia {
    func description(_ kind: SessionDescription.Kind, answering offer: SessionDescription?) -> SessionDescription {
        var lines = [
            "v=0", "o=- \(sessionID) \(version) IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE \(mid)", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0", "a=mid:\(mid)", "a=ice-ufrag:\(credentials.ufrag)", "a=ice-pwd:\(credentials.password)", "a=ice-options:trickle",
            "a=fingerprint:\(fingerprint)", "a=setup:\(setup.rawValue)", "a=sctp-port:\(sctpPort)", "a=max-message-size:\(maximumMessageSize)",
        ]
        if isLite { lines.insert("a=ice-lite", at: 4) }
        lines += candidates.map { "a=\($0.sdp)" }
        if hasEndOfCandidates { lines.append("a=end-of-candidates") }
        return SessionDescription(kind: kind, sdp: lines.map { $0 + "\r\n" }.joined())
    }
}
