package import NIOCore
package import Wire

/// A STUN server's whole behaviour: it tells senders their address (RFC 8489 §6.3.1.1). For simulations and for `doctor`.
package enum StunServer {
    /// The answer to a datagram; nil where none is due.
    package static func response(to datagram: ByteBuffer, from sender: TransportAddress) -> ByteBuffer? {
        guard let request = try? StunMessage(parsing: datagram), request.messageClass == .request, request.method == StunMessage.binding else { return nil }
        guard request.unknownRequired.isEmpty else {
            return StunMessage(
                .error, transactionID: request.transactionID,
                attributes: [.errorCode(420, "Unknown Attribute"), .unknownAttributes(request.unknownRequired)]
            ).encoded()
        }
        return StunMessage(.success, transactionID: request.transactionID, attributes: [.xorMappedAddress(sender)]).encoded()
    }
}
