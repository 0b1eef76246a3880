import COpenSSL

/// Hashes without a key, by OpenSSL.
package enum MessageDigest {
    package enum Hash: Sendable {
        /// 16 bytes. Only to make TURN's keys (RFC 8489 §18.5.1.1): nothing rests on its strength but what an older server can do.
        case md5
        /// 32 bytes.
        case sha256
    }

    /// Nil where this OpenSSL refuses the hash, as one in FIPS mode does with MD5.
    package static func digest(_ hash: Hash, of bytes: [UInt8]) -> [UInt8]? {
        var result = [UInt8](repeating: 0, count: hash == .md5 ? 16 : 32)
        var length: UInt32 = 0
        guard EVP_Digest(bytes, bytes.count, &result, &length, hash == .md5 ? EVP_md5() : EVP_sha256(), nil) == 1, Int(length) == result.count else {
            return nil
        }
        return result
    }
}
