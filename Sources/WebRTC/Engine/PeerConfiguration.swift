package import Ciphers
package import DTLS
package import ICE
package import NIOCore
import SCTP
package import Wire

/// What a peer connection is made of and how it behaves.
package struct PeerConfiguration: Sendable {
    package var certificate: Certificate
    /// Announced as `max-message-size` (RFC 8841 §6).
    package var maximumMessageSize = 64 << 20
    package var receiveWindow = 8 << 20
    /// Bytes of UDP payload that path MTU discovery looks for at most; 1200 switches it off. Four of 16,373 fill one segmented send.
    package var maximumDatagramSize = 16_373
    package var sctp = SctpSettings()
    /// Changes ICE's timers before the agent is made.
    package var tuneIce: @Sendable (inout IceAgent.Configuration) -> Void = { _ in }
    package var stunServers: [TransportAddress] = []
    package var isLite = false
    package var dtls = DTLSConfiguration()
    /// Keys the state cookies of this association (RFC 9260 §5.1.3); a secret of the driver.
    package var cookieAuthenticator: @Sendable (ByteBuffer) -> [UInt8]

    package init(certificate: Certificate, cookieKey: [UInt8]) {
        self.certificate = certificate
        cookieAuthenticator = { HMAC.authenticationCode(.sha256, of: $0, key: cookieKey) }
    }
}

/// What drivers may change of SCTP; the defaults are SCTP's.
package struct SctpSettings: Sendable {
    /// By name.
    package var congestionControl: String
    package var initialRetransmissionTimeout: Duration
    package var minimumRetransmissionTimeout: Duration
    package var maximumRetransmissionTimeout: Duration
    package var sackDelay: Duration
    /// Packets of the base size that one `poll` writes.
    package var packetsPerBurst: Int

    package init() {
        let standard = SCTP.Configuration()
        congestionControl = standard.congestionControl.rawValue
        initialRetransmissionTimeout = standard.initialRetransmissionTimeout
        minimumRetransmissionTimeout = standard.minimumRetransmissionTimeout
        maximumRetransmissionTimeout = standard.maximumRetransmissionTimeout
        sackDelay = standard.sackDelay
        packetsPerBurst = standard.maximumBytesPerPoll / standard.basePacketSize
    }

    func apply(to configuration: inout SCTP.Configuration) {
        configuration.congestionControl = CongestionControl(rawValue: congestionControl) ?? configuration.congestionControl
        configuration.initialRetransmissionTimeout = initialRetransmissionTimeout
        configuration.minimumRetransmissionTimeout = minimumRetransmissionTimeout
        configuration.maximumRetransmissionTimeout = maximumRetransmissionTimeout
        configuration.sackDelay = sackDelay
        configuration.maximumBytesPerPoll = packetsPerBurst * configuration.basePacketSize
    }
}

extension PeerConfiguration {
    /// With the process's own certificate and a fresh key.
    package static func standard() throws(Certificate.CreationError) -> PeerConfiguration {
        var generator = SecureRandom()
        return PeerConfiguration(certificate: try processCertificate.get(), cookieKey: (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }

    /// One key pair for the life of the process: making one costs more than a whole set-up over loopback.
    private static let processCertificate = Result<Certificate, Certificate.CreationError> {
        () throws(Certificate.CreationError) in try Certificate.selfSigned()
    }
}

/// Secure randomness for engines that a driver makes.
package func systemRandomness() -> any RandomNumberGenerator & Sendable { SecureRandom() }
