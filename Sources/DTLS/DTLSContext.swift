import COpenSSL
import Ciphers

/// OpenSSL's `SSL_CTX`: what all sessions of one certificate share. Serves both roles.
final class DTLSContext: @unchecked Sendable {
    // an SSL_CTX may be used by several threads once its settings stand
    let context: OpaquePointer

    static func shared(by certificate: Certificate) throws(DTLSError) -> DTLSContext {
        try certificate.attached { () throws(DTLSError) in try DTLSContext(certificate) }
    }

    private init(_ certificate: Certificate) throws(DTLSError) {
        ERR_clear_error()
        guard let context = SSL_CTX_new(DTLS_method()) else { throw .setup(code: ERR_peek_error()) }
        self.context = context
        let version = Int(DTLS1_2_VERSION)
        let isReady =
            certificate.withPair { SSL_CTX_use_certificate(context, $0) == 1 && SSL_CTX_use_PrivateKey(context, $1) == 1 }
            && SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, version, nil) == 1
            && SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, version, nil) == 1
            && SSL_CTX_set_cipher_list(context, Self.cipherSuites) == 1
            && withGroups { SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0, $0) == 1 }
            // zero is success here
            && SSL_CTX_set_tlsext_use_srtp(context, Self.srtpProfiles) == 0
        guard isReady else {
            let code = ERR_peek_error()
            SSL_CTX_free(context)
            throw .setup(code: code)
        }
        SSL_CTX_set_options(context, everyframe_dtls_options())
        _ = SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        // no chain, no name, no date: the fingerprint in the description is the whole trust (RFC 8122 §6.2, RFC 8827 §6.5)
        SSL_CTX_set_cert_verify_callback(context, verifyPeer, nil)
    }

    deinit { SSL_CTX_free(context) }

    /// AEAD with forward secrecy only. AES-128 comes first; a server yields to a client that puts ChaCha20 first, as those without AES instructions do.
    private static let cipherSuites = [
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
    ].joined(separator: ":")
    private static let srtpProfiles = "SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80"
}

private func withGroups(_ body: (UnsafeMutableRawPointer?) -> Bool) -> Bool {
    var names = Array("X25519:P-256".utf8CString)
    return names.withUnsafeMutableBytes { body($0.baseAddress) }
}

/// Takes the place of OpenSSL's chain verification: 1 when the peer's certificate is one that its description promised.
private let verifyPeer: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> Int32 = { store, _ in
    guard let store, let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
        let state = EndpointState.of(OpaquePointer(ssl)), let x509 = X509_STORE_CTX_get0_cert(store)
    else { return 0 }
    state.pointee.peerIsVerified = state.pointee.remoteFingerprints.match(x509)
    if !state.pointee.peerIsVerified { X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED) }
    return state.pointee.peerIsVerified ? 1 : 0
}
