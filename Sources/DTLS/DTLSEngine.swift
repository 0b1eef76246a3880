import COpenSSL
package import Ciphers
package import NIOCore
package import Wire

/// DTLS 1.2 (RFC 6347) for one peer connection: mutual certificates, trusted by fingerprint alone (RFC 8122).
///
/// Handshake and alerts are OpenSSL's, the records of application data ours (`RecordLayer`). No plaintext goes in or out before the peer's certificate
/// matched.
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
    private var hasFailed = false
    /// Made when the handshake is done.
    private var layer: RecordLayer?
    /// What came before the peer's fingerprint was known.
    private var early: [ByteBuffer] = []
    /// Application records that overtook the end of the handshake.
    private var overtaking: [ByteBuffer] = []

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

    /// Until the handshake is done the larger one: it costs a ChaCha20 peer at most its tiniest early records.
    private var recordOverhead: Int {
        switch layer {
        case .some(let layer): layer.overhead
        case .none: RecordHeader.gcmOverhead
        }
    }

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
            datagram.withUnsafeReadableBytes { hand($0, at: now) }
        }
    }

    /// Takes one datagram from the peer and appends the application data in it, one packet per record. May be a slice; it is not kept.
    package mutating func handle(_ datagram: ByteBuffer, at now: Instant, into plaintext: inout PacketBatch) {
        counters.datagramsReceived += 1
        guard phase != .ended else { counters.lateDatagrams += 1; return }
        guard datagram.withUnsafeReadableBytes({ RecordHeader.isRow($0, overhead: recordOverhead) }) else { counters.malformedDatagrams += 1; return }
        start(at: now)
        if state.pointee.remoteFingerprints.isEmpty {
            keepEarly(datagram)
            return
        }
        datagram.withUnsafeReadableBytes { bytes in
            var offset = 0
            while phase != .ended, let size = RecordHeader.size(bytes, at: offset) {
                let record = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + size])
                if RecordHeader.type(record) == RecordHeader.applicationData {
                    take(record, into: &plaintext)
                } else {
                    hand(record, at: now)
                    if phase == .connected, !overtaking.isEmpty { openOvertaking(into: &plaintext) }
                }
                offset += size
            }
        }
    }

    package mutating func handleTimeout(at now: Instant) {
        if let handshakeDeadline, handshakeDeadline <= now {
            fail(.timeout)
            return
        }
        guard phase == .handshaking, state.pointee.timer.willExpire(at: now) else { return }
        ERR_clear_error()
        let result = SSL_ctrl(ssl, DTLS_CTRL_HANDLE_TIMEOUT, 0, nil)
        state.pointee.timer.update(ssl, at: now)
        if result > 0 { counters.retransmissions += 1 }
        if result < 0 { fail(.timeout) }
    }

    /// Encrypts: one record per packet, appended to `records`.
    package mutating func seal(_ packets: borrowing PacketBatch, into records: inout PacketBatch) throws(DTLSError) {
        guard phase == .connected else { throw phase == .ended ? .closed : .notConnected }
        records.bytes.reserveCapacity(minimumWritableBytes: packets.bytes.readableBytes + packets.count * overhead)
        let failure = packets.bytes.withUnsafeReadableBytes { bytes -> DTLSError? in
            for index in 0..<packets.count {
                let range = packets.range(index)
                guard range.count <= RecordLayer.longestPlaintext else { return .packetTooLarge }
                guard layer?.seal(UnsafeRawBufferPointer(rebasing: bytes[range]), into: &records) == true else {
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
        case .connected: sayClosed()
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

    /// Application data: opened, or kept until the handshake is done.
    @inline(__always)
    private mutating func take(_ record: UnsafeRawBufferPointer, into plaintext: inout PacketBatch) {
        if layer?.open(record, into: &plaintext) == true {
            counters.recordsOpened += 1
        } else if phase == .handshaking, RecordHeader.number(record) >> 48 == 1, overtaking.count < configuration.maximumEarlyDatagrams {
            overtaking.append(ByteBuffer(bytes: record))
        } else {
            counters.recordsDropped += 1
        }
    }

    private mutating func openOvertaking(into plaintext: inout PacketBatch) {
        let records = overtaking
        overtaking = []
        for record in records { record.withUnsafeReadableBytes { take($0, into: &plaintext) } }
    }

    /// A record that is not application data is OpenSSL's.
    private mutating func hand(_ record: UnsafeRawBufferPointer, at now: Instant) {
        // its buffers were let go when the handshake was done
        let wasConnected = phase == .connected
        if wasConnected, SSL_alloc_buffers(ssl) != 1 { return }
        state.pointee.input = record
        if phase == .handshaking { handshake(at: now) }
        if phase == .connected { listen(at: now) }
        state.pointee.input = nil
        // 34 KB that an idle session would hold for nothing
        if phase == .connected { _ = SSL_free_buffers(ssl) }
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
            guard let last = state.pointee.lastProtected, let layer = RecordLayer(ssl, role: role, last: last) else { fail(failure()); return }
            state.pointee.firstReserved = layer.first
            self.layer = consume layer
            phase = .connected
            handshakeDeadline = nil
            let profile = SSL_get_selected_srtp_profile(ssl).flatMap { $0.pointee.name }.map { String(cString: $0) }
            events.append(.connected(srtpProfile: profile))
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
        default: fail(failure())
        }
    }

    /// What OpenSSL makes of a record after the handshake: an alert, or the peer's last flight again, which it answers.
    private mutating func listen(at now: Instant) {
        ERR_clear_error()
        var nothing: UInt8 = 0
        let result = SSL_read(ssl, &nothing, 1)
        let error = SSL_get_error(ssl, result)
        state.pointee.timer.update(ssl, at: now)
        switch error {
        // it is handed no application data
        case SSL_ERROR_NONE, SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return
        case SSL_ERROR_ZERO_RETURN:
            sayClosed()
            end(.closed)
        default: fail(failure())
        }
    }

    /// close_notify (RFC 5246 §7.2.1), numbered as our other records are: a peer would take OpenSSL's for an old one.
    private mutating func sayClosed() {
        let output = state
        withUnsafeBytes(of: (UInt8(1), UInt8(0))) { _ = layer?.seal($0, type: RecordHeader.alert, into: &output.pointee.output) }
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
