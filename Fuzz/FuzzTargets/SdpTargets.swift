import ICE
import NIOCore
import WebRTC

extension FuzzTarget {
    /// A session description from signalling: read, understood as an offer and as an answer, answered. What is written is read again the same.
    static let sdp = FuzzTarget(name: "sdp") { input in
        guard let sdp = try? SDP(parsing: String(buffer: input)) else { return }
        let text = sdp.text
        let again = try? SDP(parsing: text)
        require(again?.text == text, "a description changes when it is written and read")
        if let fragment = try? TrickleFragment(sdp), fragment.candidates.count <= SDP.Limits.candidatesPerSection {
            require((try? TrickleFragment(parsing: fragment.text)) == fragment, "a fragment changes when it is written and read")
            if let restarted = sdp.restarted(by: fragment) { _ = try? SDP(parsing: restarted.text).dataSession(of: .offer) }
        }
        for kind in [SessionDescription.Kind.offer, .answer] {
            guard let session = try? sdp.dataSession(of: kind) else { continue }
            for candidate in session.candidates { _ = try? IceCandidate(sdp: candidate) }
            let local = LocalDataSession(sessionID: 1, credentials: session.credentials, fingerprints: session.fingerprints, maximumMessageSize: 65_536)
            guard kind == .offer, let answer = try? sdp.answer(local) else { continue }
            let read = try? SDP(parsing: answer.text)
            require(read?.media.count == sdp.media.count, "an answer has other sections than its offer")
            require((try? read?.checkAnswer(to: sdp)) != nil, "an answer of ours does not fit its offer")
        }
    }
}
