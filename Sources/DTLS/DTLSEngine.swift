import COpenSSL
package import Ciphers
package import NIOCore
package import Wire

/// DTLS 1.2 (RFC 6347) for one peer connection: mutual certificates, trusted by fingerprint alone (RFC 8122).
///
/// The record layer and the handshake are OpenSSL's; this is the door. No plaintext goes in or out before the peer's certificate matched.
/// Datagrams go in by `handle`, what is to be sent comes out of `poll` (handshake, alerts) and `seal` (application data).
package struct DTLSEngine: ~Copyable {
    package typealias Role = DTLSRole
    package typealias Event = DTLSEvent

    package private(set) var counters = DTLSCounters()

    private let role: Role
    private let configuration: DTLSConfiguration
    private let endpoint: Endpoint
    private var phase = Phase.idle
    private var events: [Event] = []
    private var handshakeDeadline: Instant?
    /// OpenSSL keeps records that overtake the end of the handshake.
    private var mayHoldEarlyRecords = true
    private var hasFailed = false
    private var recordOverhead = RecordHeader.gcmOverhead
    /// What came before the peer's fingerprint was known.
    private var early: [ByteBuffer] = []

    private enum Phase {
        case idle, handshaking, connected, ended
    }

    /// - Parameter remoteFingerprints: may be empty while the peer's description is on its way; then datagrams wait for `setRemoteFingerprints`.
    package init(
        role: Role, certificate: Certificate, remoteFingerprints: [Fingerprint], configuration: DTLSConfiguration = .init()
    ) throws(DTLSError) {
        endpoint = try Endpoint(role: role, context: .shared(by: certificate), remoteFingerprints: remoteFingerprints, configuration: configuration)
        self.role = role
        self.configuration = configuration
    }

    private var ssl: OpaquePointer { endpoint.ssl }
    private var state: UnsafeMutablePointer<EndpointState> { endpoint.state }

    /// When `handleTimeout` is wanted next.
    package var deadline: Instant? { earliest(state.pointee.timer.deadline, handshakeDeadline) }

    /// Bytes that a record adds to its packet.
    package var overhead: Int { RecordHeader.byteCount + recordOverhead }
    /// The same at most, of all cipher suites.
    package static var greatestOverhead: Int { RecordHeader.byteCount + RecordHeader.gcmOverhead }

    package var isConnected: Bool { phase == .connected }

    /// Begins the handshake; a client sends its ClientHello.
    package mutating func start(at now: Instant) {
        guard phase == .idle else { return }
        phase = .handshaking
        handshakeDeadline = now + configuration.handshakeTimeout
        if role == .client { handshake(at: now) }
    }

    /// The peer's description has arrived: what came early is handled now. Once set they stay.
    package mutating func setRemoteFingerprints(_ fingerprints: [Fingerprint], at now: Instant) {
        guard state.pointee.remoteFingerprints.isEmpty, !fingerprints.isEmpty else { return }
        state.pointee.remoteFingerprints = fingerprints
        let datagrams = early
        early = []
        for datagram in datagrams where phase == .handshaking {
            datagram.withUnsafeReadableBytes { bytes in
                state.pointee.input = bytes
                handshake(at: now)
                state.pointee.input = nil
            }
        }
    }

    /// Takes one datagram from the peer and appends the application data in it, one packet per record. May be a slice; it is not kept.
    package mutating func handle(_ datagram: ByteBuffer, at now: Instant, into plaintext: inout PacketBatch) {
        counters.datagramsReceived += 1
        guard phase != .ended else { counters.lateDatagrams += 1; return }
        let applicationRecords = datagram.withUnsafeReadableBytes { RecordHeader.applicationRecords($0, overhead: recordOverhead) }
        guard let applicationRecords else { counters.malformedDatagrams += 1; return }
        start(at: now)
        if state.pointee.remoteFingerprints.isEmpty {
            keepEarly(datagram)
            return
        }
        let opened = counters.recordsOpened
        datagram.withUnsafeReadableBytes { bytes in
            state.pointee.input = bytes
            if phase == .handshaking { handshake(at: now) }
            if phase == .connected { open(upTo: bytes.count, at: now, into: &plaintext) }
            state.pointee.input = nil
        }
        if phase == .connected { counters.recordsDropped += max(0, applicationRecords - (counters.recordsOpened - opened)) }
    }

    package mutating func handleTimeout(at now: Instant) {
        if let handshakeDeadline, handshakeDeadline <= now {
            fail(.timeout)
            return
        }
        guard phase != .ended, state.pointee.timer.willExpire(at: now) else { return }
        ERR_clear_error()
        let result = SSL_ctrl(ssl, DTLS_CTRL_HANDLE_TIMEOUT, 0, nil)
        state.pointee.timer.update(ssl, at: now)
        if result > 0 { counters.retransmissions += 1 }
        if result < 0 { fail(.timeout) }
    }

    /// Encrypts: one record per packet, appended to `records`.
    package mutating func seal(_ packets: borrowing PacketBatch, into records: inout PacketBatch) throws(DTLSError) {
        guard phase == .connected else { throw phase == .ended ? .closed : .notConnected }
        ERR_clear_error()
        // OpenSSL writes straight into the caller's batch
        swap(&state.pointee.output, &records)
        defer { swap(&state.pointee.output, &records) }
        let failure = packets.bytes.withUnsafeReadableBytes { bytes -> DTLSError? in
            for index in 0..<packets.count {
                let range = packets.range(index)
                guard range.count <= Self.longestPlaintext else { return .packetTooLarge }
                guard SSL_write(ssl, bytes.baseAddress.map { $0 + range.lowerBound }, Int32(range.count)) == range.count else {
                    return .protocolFailure(code: ERR_peek_error())
                }
                counters.recordsSealed += 1
            }
            return nil
        }
        if let failure { throw failure }
    }

    /// Moves handshake messages and alerts that are to be sent to `records`, one packet per datagram; returns the next event, nil when there is none.
    package mutating func poll(into records: inout PacketBatch) -> Event? {
        if !state.pointee.output.isEmpty {
            for index in 0..<state.pointee.output.count {
                let range = state.pointee.output.range(index)
                state.pointee.output.bytes.withUnsafeReadableBytes { _ = records.bytes.writeBytes($0[range]) }
                records.endPacket()
            }
            state.pointee.output.removeAll()
        }
        return events.isEmpty ? nil : events.removeFirst()
    }

    /// Says close_notify (RFC 5246 §7.2.1) and ends: nothing is opened or sealed afterwards.
    package mutating func close() {
        switch phase {
        case .ended: return
        case .connected:
            ERR_clear_error()
            _ = SSL_shutdown(ssl)
        case .idle, .handshaking: break
        }
        end(.closed)
    }

    /// RFC 5705, as RFC 5764 §4.2 uses it for SRTP keys; nil before the handshake is done.
    package func exportKeyingMaterial(label: String, length: Int) -> [UInt8]? {
        guard phase == .connected, (1...1024).contains(length) else { return nil }
        var material = [UInt8](repeating: 0, count: length)
        ERR_clear_error()
        guard SSL_export_keying_material(ssl, &material, length, label, label.utf8.count, nil, 0, 0) == 1 else { return nil }
        return material
    }

    /// The negotiated cipher suite by OpenSSL's name, for reports.
    package var cipherSuite: String? {
        guard phase == .connected, let cipher = SSL_get_current_cipher(ssl), let name = SSL_CIPHER_get_name(cipher) else { return nil }
        return String(cString: name)
    }

    package enum Progress: Hashable, Sendable { case new, connecting, connected, closed, failed }

    /// RTCDtlsTransportState.
    package var progress: Progress {
        switch phase {
        case .idle: .new
        case .handshaking: .connecting
        case .connected: .connected
        case .ended: hasFailed ? .failed : .closed
        }
    }

    /// The peer's certificate, once it proved to be the one that its description promised: its sha-256, and itself (DER) in base 64.
    package var remoteCertificate: (fingerprint: Fingerprint, base64: String)? {
        guard phase == .connected, let x509 = SSL_get1_peer_certificate(ssl) else { return nil }
        defer { X509_free(x509) }
        return CertificateHash.sha256.fingerprint(of: x509).map { ($0, CertificateHash.base64(of: x509)) }
    }

    private static let longestPlaintext = 16_384
}

// The engine is the only owner of its SSL, and OpenSSL ties a connection to no thread.
extension DTLSEngine: @unchecked Sendable {}

extension DTLSEngine {
    private mutating func keepEarly(_ datagram: ByteBuffer) {
        guard early.count < configuration.maximumEarlyDatagrams, datagram.readableBytes <= 4096 else {
            counters.earlyDatagramsDropped += 1
            return
        }
        // a copy: the datagram may be a slice of a large receive buffer
        early.append(ByteBuffer(bytes: datagram.readableBytesView))
    }

    private mutating func handshake(at now: Instant) {
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        let error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, result)
        state.pointee.timer.update(ssl, at: now)
        switch error {
        case SSL_ERROR_NONE:
            // the callback has refused every other certificate; this is the second lock on the same door
            guard state.pointee.peerIsVerified else { fail(.fingerprintMismatch); return }
            phase = .connected
            handshakeDeadline = nil
            // until here the larger one: it costs a ChaCha20 peer at most its tiniest early records
            if cipherSuite?.contains("CHACHA20") ?? false { recordOverhead = RecordHeader.chachaOverhead }
            let profile = SSL_get_selected_srtp_profile(ssl).flatMap { $0.pointee.name }.map { String(cString: $0) }
            events.append(.connected(srtpProfile: profile))
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
        default: fail(failure())
        }
    }

    /// Reads records until the datagram, and what OpenSSL kept of earlier ones, is used up.
    private mutating func open(upTo length: Int, at now: Instant, into plaintext: inout PacketBatch) {
        // for each datagram: looking is much cheaper than clearing
        if ERR_peek_error() != 0 { ERR_clear_error() }
        // a plaintext is never longer than its record; those that overtook the handshake may be of any length
        let isFirst = mayHoldEarlyRecords
        let capacity = isFirst ? Self.longestPlaintext : length
        mayHoldEarlyRecords = false
        repeat {
            var result: Int32 = 0
            plaintext.bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: capacity) { target in
                result = SSL_read(ssl, target.baseAddress, Int32(clamping: target.count))
                return max(0, Int(result))
            }
            if result > 0 {
                counters.recordsOpened += 1
                plaintext.endPacket()
                continue
            }
            let error = SSL_get_error(ssl, result)
            state.pointee.timer.update(ssl, at: now)
            switch error {
            case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return
            case SSL_ERROR_ZERO_RETURN:
                ERR_clear_error()
                _ = SSL_shutdown(ssl)
                end(.closed)
                return
            default:
                fail(failure())
                return
            }
            // SSL_has_pending does not count records that overtook the handshake: the first time, read until there is nothing
        } while isFirst || state.pointee.input != nil || SSL_has_pending(ssl) == 1
    }

    /// What OpenSSL's error queue says; the first entry is the cause.
    private func failure() -> DTLSError {
        let code = ERR_peek_error()
        ERR_clear_error()
        let reason = ERR_GET_REASON(code)
        if ERR_GET_LIB(code) == ERR_LIB_SSL {
            if reason == SSL_R_CERTIFICATE_VERIFY_FAILED { return .fingerprintMismatch }
            // SSL_AD_REASON_OFFSET: an alert from the peer
            if (1000..<1256).contains(reason) { return .alert(UInt8(truncatingIfNeeded: reason - 1000)) }
        }
        return .protocolFailure(code: code)
    }

    private mutating func fail(_ error: DTLSError) { end(.failed(error)) }

    private mutating func end(_ event: Event) {
        guard phase != .ended else { return }
        phase = .ended
        if case .failed = event { hasFailed = true }
        handshakeDeadline = nil
        early = []
        state.pointee.timer.stop()
        events.append(event)
    }
}
