import ICE
import NIOCore
import Wire

extension FuzzTarget {
    /// A candidate line from signalling. What was read is written and read again the same.
    static let candidate = FuzzTarget(name: "candidate") { input in
        guard let candidate = try? IceCandidate(sdp: String(buffer: input)) else { return }
        let again = try? IceCandidate(sdp: candidate.sdp)
        precondition(again?.sdp == candidate.sdp, "a candidate changes when it is written and read")
    }
}
