import SCTP
import Wire

/// Names one data channel of one peer engine, for as long as the engine lives.
package struct ChannelHandle: Hashable, Sendable, BitwiseCopyable {
    let inner: SCTP.ChannelHandle
}

/// How a data channel treats its messages (RFC 8832 §5.1).
package struct ChannelOptions: Hashable, Sendable {
    package var label: String
    package var subprotocol = ""
    package var ordered = true
    package var maxPacketLifeTime: Duration?
    package var maxRetransmits: Int?
    package var priority: UInt16 = 256
    /// Both sides open the channel on this stream without DCEP.
    package var negotiatedID: UInt16?

    package init(label: String) { self.label = label }
}

package enum ChannelState: Hashable, Sendable { case connecting, open, closing, closed }

/// Why a channel could not be opened.
package enum ChannelOpenError: Error, Hashable, Sendable {
    case noStreamAvailable, invalidStream, labelTooLong, conflictingReliability, closed
}

/// Why a message was not taken; nothing of it was sent.
package enum ChannelSendError: Error, Hashable, Sendable {
    case messageTooLarge(limit: Int)
    case closed
}

/// Why a connection ended.
package enum PeerFailure: Error, Hashable, Sendable {
    /// Every pair failed, or the peer's consent expired.
    case ice
    /// The peer's certificate is none of those promised.
    case fingerprintMismatch
    case dtls(String)
    case sctp(String)
    /// close_notify, SHUTDOWN or a user's ABORT.
    case closedByPeer
}

/// Why a verb of signalling was refused.
package enum SignallingError: Error, Hashable, Sendable {
    case wrongState(String)
    case unusable(String)
}

/// RTCPeerConnectionState.
package enum PeerState: String, Hashable, Sendable { case new, connecting, connected, disconnected, failed, closed }

/// RTCSignalingState, without pranswer's two.
package enum PeerSignallingState: String, Hashable, Sendable { case stable, haveLocalOffer, haveRemoteOffer, closed }

/// What the demultiplexer saw (RFC 7983).
package struct DatagramCounters: Hashable, Sendable {
    package var received = 0, bytesReceived = 0
    package var stun = 0, dtls = 0
    /// RTP and RTCP; nobody takes them yet.
    package var media = 0
    /// First bytes that RFC 7983 gives to nobody we know, and empty datagrams.
    package var unknown = 0
    /// DTLS that came before a description told whom to expect, beyond the few that are kept.
    package var early = 0
    /// DTLS along a path on which the peer has not been heard by ICE.
    package var unproved = 0

    package init() {}
}
