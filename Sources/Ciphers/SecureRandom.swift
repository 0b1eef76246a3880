import COpenSSL

/// OpenSSL's generator: for credentials, tags, tie-breakers and cookies.
package struct SecureRandom: RandomNumberGenerator, Sendable {
    package init() {}

    package mutating func next() -> UInt64 {
        var value: UInt64 = 0
        let result = withUnsafeMutableBytes(of: &value) {
            RAND_bytes($0.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32($0.count))
        }
        precondition(result == 1, "the system has no entropy")
        return value
    }
}
