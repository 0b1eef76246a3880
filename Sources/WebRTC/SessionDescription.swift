/// What one side says of its session, to be carried to the other by any signalling: W3C's `RTCSessionDescription`.
///
/// Codes as JSON the way browsers do: `{"type": "offer", "sdp": "v=0…"}`.
public struct SessionDescription: Hashable, Sendable, Codable {
    public enum Kind: String, Hashable, Sendable, Codable {
        case offer, answer
        /// A provisional answer.
        case pranswer
        /// Takes the last offer back.
        case rollback
    }

    public var kind: Kind
    /// The text of RFC 8866.
    public var sdp: String

    public init(kind: Kind, sdp: String) {
        self.kind = kind
        self.sdp = sdp
    }

    private enum CodingKeys: String, CodingKey {
        case kind = "type"
        case sdp
    }
}
