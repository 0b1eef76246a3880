import Ciphers

/// A user name and a password, and how the server wants them proved (RFC 8489 §9.2).
struct LongTermCredential: Sendable {
    /// What a 401 or 438 brought.
    struct Challenge: Sendable {
        let realm: String
        let nonce: String
        let key: [UInt8]
        /// Not empty where the server offers a choice of hashes and SHA-256 is among them; the list is sent back as it came.
        let algorithms: [UInt8]
    }

    /// RFC 8489 §18.5.1.2.
    private static let sha256: UInt16 = 2

    let username: String
    let password: String
    private(set) var challenge: Challenge?

    init(username: String, password: String) {
        self.username = username
        self.password = password
    }

    mutating func forgetChallenge() { challenge = nil }

    /// Takes what a 401 or 438 asks for; false where it lacks a nonce or a realm.
    mutating func take(_ error: StunMessage) -> Bool {
        var realm = challenge?.realm
        var nonce: String?
        var algorithms: [UInt8] = []
        for attribute in error.attributes {
            switch attribute {
            case .realm(let text): realm = text
            case .nonce(let text): nonce = text
            case .passwordAlgorithms(let list): algorithms = list
            default: continue
            }
        }
        guard let realm, let nonce else { return false }
        if !Self.hasSHA256(algorithms) { algorithms = [] }
        // RFC 8489 §9.2.2: the key is the hash of "user:realm:password"
        guard let key = MessageDigest.digest(algorithms.isEmpty ? .md5 : .sha256, of: Array("\(username):\(realm):\(password)".utf8)) else { return false }
        challenge = Challenge(realm: realm, nonce: nonce, key: key, algorithms: algorithms)
        return true
    }

    /// A request with what proves it; as it is before the first challenge.
    func protect(_ attributes: [StunAttribute]) -> (attributes: [StunAttribute], protection: StunMessage.Protection) {
        guard let challenge else { return (attributes, .none) }
        let proof: [StunAttribute] = [.username(username), .realm(challenge.realm), .nonce(challenge.nonce)]
        guard !challenge.algorithms.isEmpty else { return (attributes + proof, .sha1(key: challenge.key)) }
        return (attributes + proof + [.passwordAlgorithms(challenge.algorithms), .passwordAlgorithm(Self.sha256)], .sha256(key: challenge.key))
    }

    ///     | algorithm (16) | length of parameters (16) | parameters, padded to 4 | …
    private static func hasSHA256(_ list: [UInt8]) -> Bool {
        var index = 0
        while index + 4 <= list.count {
            if UInt16(list[index]) << 8 | UInt16(list[index + 1]) == sha256 { return true }
            let length = Int(list[index + 2]) << 8 | Int(list[index + 3])
            index += 4 + length + (-length & 3)
        }
        return false
    }
}
