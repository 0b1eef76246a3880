import NIOCore
import Wire

/// Who gets the datagrams of a socket: a session. Called on the endpoint's event loop only.
protocol DatagramReceiver: AnyObject, Sendable {
    /// One datagram, or a train of `segmentSize` ones that the kernel joined (the last may be shorter). Not to be kept.
    func receive(_ bytes: ByteBuffer, segmentSize: Int, path: NetworkPath, at now: Instant)
    /// All datagrams that were waiting at the socket have been handed in.
    func endOfBurst(at now: Instant)
    /// A socket was bound to an address that this machine did not have before.
    func localAddressAdded(_ address: TransportAddress)
    /// An address of this machine is gone, and its socket with it.
    func localAddressRemoved(_ address: TransportAddress)
    /// The sockets that this receiver sends from are gone.
    func endpointClosed()
}
