/// Why a session description cannot be used.
public struct SDPError: Error, Hashable, Sendable {
    public var code: Code
    /// The line at fault, counted from 1, where there is one.
    public var line: Int?

    public init(_ code: Code, line: Int? = nil) {
        self.code = code
        self.line = line
    }

    public struct Code: Hashable, Sendable {
        private enum Reason: String {
            case notSDP = "this is not a session description: it does not begin with v=0"
            case tooLarge = "the description is larger, or has more lines or media sections, than any we accept"
            case malformedMediaLine = "an m= line is not of the form that RFC 8866 §5.14 gives"
            case duplicateMid = "two media sections have the same a=mid"
            case missingApplicationSection = "there is no m=application section for data channels"
            case dataChannelRejected = "the data-channel section is rejected: its port is 0"
            case missingIceUfrag = "a=ice-ufrag is missing"
            case missingIcePassword = "a=ice-pwd is missing"
            case invalidIceCredentials = "a=ice-ufrag or a=ice-pwd breaks the grammar of RFC 8839 §5.4"
            case missingFingerprint = "a=fingerprint is missing"
            case unsupportedFingerprint = "no a=fingerprint uses a hash function that we support (sha-1 and the sha-2 family)"
            case invalidSetup = "a=setup has no value that fits here (RFC 8842 §5)"
            case invalidSctpPort = "a=sctp-port or a=sctpmap has no valid port"
            case invalidMaximumMessageSize = "a=max-message-size is not a number"
            case answerDoesNotMatchOffer = "the answer's media sections are not those of the offer (RFC 8829 §5.10)"
            case wrongKind = "the description's kind does not fit the state of the negotiation"
        }
        private let reason: Reason
        private init(_ reason: Reason) { self.reason = reason }

        public static let notSDP = Code(.notSDP)
        public static let tooLarge = Code(.tooLarge)
        public static let malformedMediaLine = Code(.malformedMediaLine)
        public static let duplicateMid = Code(.duplicateMid)
        public static let missingApplicationSection = Code(.missingApplicationSection)
        public static let dataChannelRejected = Code(.dataChannelRejected)
        public static let missingIceUfrag = Code(.missingIceUfrag)
        public static let missingIcePassword = Code(.missingIcePassword)
        public static let invalidIceCredentials = Code(.invalidIceCredentials)
        public static let missingFingerprint = Code(.missingFingerprint)
        public static let unsupportedFingerprint = Code(.unsupportedFingerprint)
        public static let invalidSetup = Code(.invalidSetup)
        public static let invalidSctpPort = Code(.invalidSctpPort)
        public static let invalidMaximumMessageSize = Code(.invalidMaximumMessageSize)
        public static let answerDoesNotMatchOffer = Code(.answerDoesNotMatchOffer)
        public static let wrongKind = Code(.wrongKind)
    }
}

extension SDPError.Code: CustomStringConvertible {
    public var description: String { reason.rawValue }
}

extension SDPError: CustomStringConvertible {
    public var description: String { line.map { "\(code) (line \($0))" } ?? "\(code)" }
}
