import COpenSSL
import Ciphers

/// Owns OpenSSL's connection and the state that its callbacks reach. One engine holds it, nobody else.
final class Endpoint {
    let ssl: OpaquePointer
    let state: UnsafeMutablePointer<EndpointState>

    init(role: DTLSRole, context: DTLSContext, remoteFingerprints: [Fingerprint], configuration: DTLSConfiguration) throws(DTLSError) {
        ERR_clear_error()
        guard let ssl = SSL_new(context.context) else { throw .setup(code: ERR_peek_error()) }
        self.ssl = ssl
        state = .allocate(capacity: 1)
        state.initialize(to: EndpointState(remoteFingerprints: remoteFingerprints, timer: HandshakeTimer(configuration)))
        // from here on deinit cleans up
        guard let bio = DatagramBIO.make(state) else { throw .setup(code: ERR_peek_error()) }
        // one BIO both ways: SSL_set_bio takes the single reference
        SSL_set_bio(ssl, bio, bio)
        guard SSL_set_ex_data(ssl, 0, state) == 1 else { throw .setup(code: ERR_peek_error()) }
        if let suites = configuration.cipherSuites, SSL_set_cipher_list(ssl, suites) != 1 { throw .setup(code: ERR_peek_error()) }
        _ = SSL_ctrl(ssl, DTLS_CTRL_SET_LINK_MTU, configuration.mtu, nil)
        if !state.pointee.timer.isVirtual {
            DTLS_set_timer_cb(ssl) { ssl, last in
                guard let ssl, let state = EndpointState.of(ssl) else { return 1_000_000 }
                return state.pointee.timer.nextWait(after: last)
            }
        }
        switch role {
        case .client: SSL_set_connect_state(ssl)
        case .server: SSL_set_accept_state(ssl)
        }
    }

    deinit {
        SSL_free(ssl)
        state.deinitialize(count: 1)
        state.deallocate()
    }
}
