import COpenSSL
import Synchronization

/// A self-signed certificate with its private key: what a DTLS endpoint proves itself with (RFC 8827 §6.5). One serves any number of sessions.
package final class Certificate: Sendable {
    package enum Key: Sendable {
        /// Small and quick: the default of all browsers.
        case ecdsaP256
        case rsa2048
    }

    package struct CreationError: Error, Hashable, Sendable {
        /// OpenSSL's packed error code.
        package var code: UInt
    }

    /// sha-256.
    package let fingerprint: Fingerprint
    private let pair: KeyPair
    private let attachment = Mutex<(any AnyObject & Sendable)?>(nil)

    /// A certificate valid from yesterday (clocks differ) for `days`, with a random serial number.
    package static func selfSigned(key: Key = .ecdsaP256, commonName: String = "everyframe", days: Int = 365) throws(CreationError) -> Certificate {
        ERR_clear_error()
        guard let certificate = make(key: key, commonName: commonName, days: days) else {
            throw CreationError(code: ERR_peek_error())
        }
        return certificate
    }

    private init(pair: KeyPair, fingerprint: Fingerprint) {
        self.pair = pair
        self.fingerprint = fingerprint
    }

    /// Lends OpenSSL's `X509` and `EVP_PKEY`.
    package func withPair<Result>(_ body: (_ x509: OpaquePointer, _ key: OpaquePointer) -> Result) -> Result { body(pair.x509, pair.key) }

    package var base64: String { CertificateHash.base64(of: pair.x509) }

    /// The fingerprint by another hash.
    package func fingerprint(by hash: CertificateHash) -> Fingerprint? { hash.fingerprint(of: pair.x509) }

    /// What another room derives from this certificate once, such as DTLS's context: made at the first call, kept as long as the certificate.
    ///
    /// The one lock of this room; it is taken when a session is set up, never per packet.
    package func attached<Value: AnyObject & Sendable, Failure: Error>(_ make: () throws(Failure) -> Value) throws(Failure) -> Value {
        try attachment.withLock { slot throws(Failure) in
            if let value = slot as? Value { return value }
            let value = try make()
            slot = value
            return value
        }
    }
}

/// Owns one reference to each.
private final class KeyPair: @unchecked Sendable {
    // OpenSSL counts references atomically, and nothing changes either object after it is made
    let x509: OpaquePointer
    let key: OpaquePointer

    init(x509: OpaquePointer, key: OpaquePointer) {
        self.x509 = x509
        self.key = key
    }

    deinit {
        X509_free(x509)
        EVP_PKEY_free(key)
    }
}

extension Certificate {
    private static func make(key kind: Key, commonName: String, days: Int) -> Certificate? {
        guard let key = makeKey(kind) else { return nil }
        guard let x509 = X509_new() else {
            EVP_PKEY_free(key)
            return nil
        }
        let pair = KeyPair(x509: x509, key: key)
        let day = 86_400
        guard X509_set_version(x509, 2) == 1, setSerialNumber(x509),
            X509_gmtime_adj(X509_getm_notBefore(x509), -day) != nil,
            X509_gmtime_adj(X509_getm_notAfter(x509), days * day) != nil,
            setName(x509, commonName),
            X509_set_pubkey(x509, key) == 1,
            X509_sign(x509, key, EVP_sha256()) > 0,
            let fingerprint = CertificateHash.sha256.fingerprint(of: x509)
        else { return nil }
        return Certificate(pair: pair, fingerprint: fingerprint)
    }

    private static func makeKey(_ kind: Key) -> OpaquePointer? {
        guard let context = EVP_PKEY_CTX_new_id(kind == .ecdsaP256 ? EVP_PKEY_EC : EVP_PKEY_RSA, nil) else { return nil }
        defer { EVP_PKEY_CTX_free(context) }
        guard EVP_PKEY_keygen_init(context) == 1 else { return nil }
        switch kind {
        case .ecdsaP256: guard EVP_PKEY_CTX_set_group_name(context, "P-256") == 1 else { return nil }
        case .rsa2048: guard EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048) == 1 else { return nil }
        }
        var key: OpaquePointer?
        guard EVP_PKEY_keygen(context, &key) == 1 else { return nil }
        return key
    }

    /// 127 random bits: never zero in practice, never negative.
    private static func setSerialNumber(_ x509: OpaquePointer) -> Bool {
        guard let number = BN_new() else { return false }
        defer { BN_free(number) }
        return BN_rand(number, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != nil
    }

    private static func setName(_ x509: OpaquePointer, _ commonName: String) -> Bool {
        guard let name = X509_get_subject_name(x509) else { return false }
        let added = X509_NAME_add_entry_by_txt(name, "CN", 0x1000 /* MBSTRING_UTF8 */, Array(commonName.utf8), Int32(commonName.utf8.count), -1, 0)
        return added == 1 && X509_set_issuer_name(x509, name) == 1
    }
}
