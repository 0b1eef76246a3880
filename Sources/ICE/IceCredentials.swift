/// A user name fragment and password (RFC 8445 §5.3): the short-term credential that each side's checks are authenticated with.
package struct IceCredentials: Hashable, Sendable {
    package var ufrag: String
    package var password: String

    package init(ufrag: String, password: String) {
        self.ufrag = ufrag
        self.password = password
    }

    /// Fresh ones: 48 bits of user name fragment (24 are asked for) and 144 bits of password (128 are asked for).
    package static func random(using generator: inout some RandomNumberGenerator) -> IceCredentials {
        IceCredentials(ufrag: text(8, using: &generator), password: text(24, using: &generator))
    }

    /// The ice-chars of RFC 8839 §5.4, six bits each.
    private static let characters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    private static func text(_ count: Int, using generator: inout some RandomNumberGenerator) -> String {
        String(decoding: (0..<count).map { _ in characters[Int(generator.next() >> 58)] }, as: UTF8.self)
    }
}

extension IceCredentials: CustomStringConvertible {
    /// Without the password, so that it never reaches a log.
    package var description: String { "IceCredentials(ufrag: \(ufrag))" }
}
