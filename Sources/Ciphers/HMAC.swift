import COpenSSL
package import NIOCore

/// Keyed hashes (RFC 2104), by OpenSSL.
package enum HMAC {
    package enum Hash: Sendable {
        /// STUN's MESSAGE-INTEGRITY, 20 bytes.
        case sha1
        /// 32 bytes.
        case sha256
    }

    /// The authentication code of `bytes`; 20 or 32 bytes long.
    package static func authenticationCode(_ hash: Hash, of bytes: UnsafeRawBufferPointer, key: [UInt8]) -> [UInt8] {
        let digest = hash == .sha1 ? EVP_sha1() : EVP_sha256()
        var code = [UInt8](repeating: 0, count: hash == .sha1 ? 20 : 32)
        var length: UInt32 = 0
        // OpenSSL reads a nil key as "the key of last time"
        let keyBytes = key.isEmpty ? [0] : key
        let result = COpenSSL.HMAC(
            digest, keyBytes, Int32(key.count), bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, &code, &length)
        precondition(result != nil && Int(length) == code.count, "HMAC is not available in this OpenSSL")
        return code
    }

    package static func authenticationCode(_ hash: Hash, of bytes: ByteBuffer, key: [UInt8]) -> [UInt8] {
        bytes.withUnsafeReadableBytes { authenticationCode(hash, of: $0, key: key) }
    }
}

/// Compares secrets in time that depends on their lengths only.
package func equalInConstantTime(_ left: some Collection<UInt8>, _ right: some Collection<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    var difference: UInt8 = 0
    for (a, b) in zip(left, right) { difference |= a ^ b }
    return difference == 0
}
