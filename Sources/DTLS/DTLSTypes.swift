/// Why DTLS refused or ended.
package enum DTLSError: Error, Hashable, Sendable {
    /// OpenSSL could not be set up; its packed error code.
    case setup(code: UInt)
    /// The handshake has not finished.
    case notConnected
    /// Closed by either side, or failed before.
    case closed
    /// A packet longer than a record may be (RFC 5246 §6.2.1: 2^14 bytes).
    case packetTooLarge
    /// The peer's certificate is none of those its description promised.
    case fingerprintMismatch
    /// The peer sent a fatal alert; its number (RFC 5246 §7.2).
    case alert(UInt8)
    /// OpenSSL gave up on the handshake or the connection; its packed error code.
    case protocolFailure(code: UInt)
    /// The handshake did not finish in time.
    case timeout
}

package enum DTLSRole: Sendable {
    case client, server
}

package struct DTLSConfiguration: Sendable {
    /// The largest datagram that the handshake sends. Application records are as long as the packets handed in.
    package var mtu = 1200
    /// The first wait before a handshake flight is sent again (RFC 6347 §4.2.4.1); doubles each time.
    package var initialRetransmission: Duration = .milliseconds(100)
    package var maximumRetransmission: Duration = .seconds(3)
    /// The handshake fails after this long. OpenSSL itself gives up after 12 retransmissions of one flight.
    package var handshakeTimeout: Duration = .seconds(30)
    /// Datagrams kept while the peer's fingerprint is not known.
    package var maximumEarlyDatagrams = 16
    package var clock: Clock = .preferred
    /// By OpenSSL's names, the preferred first, joined by colons; nil offers all that `RecordLayer` knows, which are AEADs with forward secrecy.
    package var cipherSuites: String?

    /// Whose time the handshake's retransmissions follow.
    package enum Clock: Sendable {
        /// The engine's: reproducible. Needs OpenSSL 3.0 or 3.1, see `HandshakeTimer`.
        case engine
        /// OpenSSL's own reading of the wall clock; `deadline` is then an estimate that is corrected whenever it is found early.
        case wall
    }

    package init() {}
}

package enum DTLSEvent: Hashable, Sendable {
    /// The handshake is done and the peer's certificate matched. The profile's name is as in RFC 5764 §4.1.2 (`SRTP_AEAD_AES_128_GCM`, …).
    case connected(srtpProfile: String?)
    /// The peer said close_notify, or `close` was called.
    case closed
    case failed(DTLSError)
}

package struct DTLSCounters: Hashable, Sendable {
    package var datagramsReceived = 0
    /// Application records opened.
    package var recordsOpened = 0
    package var recordsSealed = 0
    /// Application records that were forged, damaged, replayed or too old (RFC 6347 §4.1.2.7: dropped in silence).
    package var recordsDropped = 0
    /// Datagrams that are not a row of DTLS records.
    package var malformedDatagrams = 0
    /// Datagrams that came while the peer's fingerprint was not known and did not fit the queue.
    package var earlyDatagramsDropped = 0
    /// Datagrams that came after the end.
    package var lateDatagrams = 0
    package var retransmissions = 0

    package init() {}
}
