/// An offer or answer: JSEP's envelope round SDP (RFC 8829 §4.1.9).
public struct SessionDescription: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable { case offer, answer, pranswer, rollback }

    public var kind: Kind
    public var sdp: String

    public init(kind: Kind, sdp: String) {
        self.kind = kind
        self.sdp = sdp
    }
}
