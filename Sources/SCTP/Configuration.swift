/// What an association may do and how fast it reacts. The defaults suit data channels (RFC 8831) over DTLS.
package struct Configuration: Sendable {
    /// SCTP ports; 5000 unless the SDP says otherwise (RFC 8841 §5).
    package var localPort: UInt16 = 5000
    package var remotePort: UInt16 = 5000

    /// The longest message taken from the peer: what `a=max-message-size` announces.
    package var maximumMessageSize = 64 << 20
    /// The longest message the peer takes (its `a=max-message-size`; 65536 when its SDP has none, RFC 8841 §6.1). 0 means no limit.
    package var remoteMaximumMessageSize = 64 << 20

    /// Bytes of a whole SCTP packet that every path carries (BASE_PLPMTU, RFC 8899 §5.1.2). 1160 leaves room for a DTLS 1.2 AES-GCM record
    /// (37 bytes) in 1200 bytes of UDP payload.
    package var basePacketSize = 1160
    /// The most that path MTU discovery looks for (MAX_PLPMTU); as the base, it looks for nothing. Four datagrams of 16,373 bytes fill one segmented send.
    package var maximumPacketSize = 16_336
    /// The same towards peers that do not name PAD among their extensions: what Ethernet carries.
    package var cautiousPacketSize = 1432
    /// PMTU_RAISE_TIMER (RFC 8899 §5.1.1).
    package var pathRaiseInterval: Duration = .seconds(600)
    /// The most bytes that may wait for the application before the window closes: the window grows up to it with what the application takes
    /// (`WindowTuner`). 1 Gbit/s at 300 ms take 75 MB.
    package var receiveWindow = 8 << 20
    /// Bytes of packets written by one `poll`, so that a driver can interleave its other work.
    package var maximumBytesPerPoll = 256 * 1160
    package var inboundStreams: UInt16 = .max
    package var outboundStreams: UInt16 = .max

    /// RFC 9260 §6.3.1 and §16, with limits that suit real time.
    package var initialRetransmissionTimeout: Duration = .milliseconds(500)
    package var minimumRetransmissionTimeout: Duration = .milliseconds(100)
    package var maximumRetransmissionTimeout: Duration = .seconds(5)
    /// RFC 9260 §6.2; acknowledgements are prompter than the 200 ms proposed there.
    package var sackDelay: Duration = .milliseconds(20)
    /// T3 expiries in a row without a sign of life before the association fails (Association.Max.Retrans).
    package var maximumRetransmissions = 10
    /// Max.Init.Retransmits. Higher than the RFC's 8 because our time-outs are shorter.
    package var maximumInitRetransmissions = 14
    /// HB.interval; an idle association looks this often whether the peer is there. nil sends none.
    package var heartbeatInterval: Duration? = .seconds(15)
    /// How long a state cookie is good for (RFC 9260 §5.1.3).
    package var cookieLifetime: Duration = .seconds(60)

    /// Offer I-DATA (RFC 8260) and use it when the peer offers it too.
    package var offerInterleaving = true
    /// Accept packets with checksum 0 and send them to a peer that accepts them (RFC 9653, error detection by DTLS).
    package var offerZeroChecksum = true
    /// Name PAD (RFC 4820) among our extensions: then a peer of our kind looks for packets beyond what Ethernet carries.
    package var offerPadding = true
    /// Offer FORWARD-TSN (RFC 3758).
    package var offerPartialReliability = true

    /// The congestion window at the start, in packets of the base size (RFC 6928's).
    package var initialWindowPackets = 10
    /// The same where the handshake measured the path, so that they need not go in one burst.
    package var pacedInitialWindowPackets = 32
    package var congestionControl = CongestionControl.bbr

    /// Out-of-order ranges remembered of the peer's TSNs; beyond it data is dropped and sent again.
    package var maximumGaps = 4096
    /// Channels that may be open at once when the peer opens one more; a channel that it opens beyond is closed again.
    package var maximumChannels = 4096
    /// Bytes that the labels and protocols of the peer's channels may take together; each may have 65,535 (RFC 8832 §5.1).
    package var maximumNameBytes = 1 << 20

    package init() {}
}
