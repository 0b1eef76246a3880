import NIOCore
import Wire

/// Who gets the datagrams of a socket: a session. Called on the endpoint's event loop only.
protocol DatagramReceiver: AnyObject, Sendable {
    /// One datagram, or a train of `segmentSize` ones that the kernel joined (the last may be shorter). Not to be kept.
    func receive(_ bytes: ByteBuffer, segmentSize: Int, path: NetworkPath, at now: Instant)
    /// All datagrams that were waiting at the socket have been handed in.
    func endOfBurst(at now: Instant)
    /// The socket that this receiver sends from is gone.
    func endpointClosed()
}
