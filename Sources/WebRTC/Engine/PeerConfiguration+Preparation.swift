import Ciphers
package import DTLS
import NIOCore
import Wire

extension PeerConfiguration {
    /// Makes the process's certificate, and one handshake between two ends in memory: the TLS library finds and starts its algorithms at
    /// their first use, which costs the first connection of a process several times what a whole set-up costs later.
    package static func prepareProcess() throws(DTLSError) {
        guard let certificate = try? standard().certificate else { return }
        var client = try DTLSEngine(role: .client, certificate: certificate, remoteFingerprints: [certificate.fingerprint])
        var server = try DTLSEngine(role: .server, certificate: certificate, remoteFingerprints: [certificate.fingerprint])
        client.start(at: .zero)
        server.start(at: .zero)
        var plaintext = PacketBatch()
        var flight = PacketBatch()
        // RFC 6347 §4.2.4: six flights at most
        for _ in 0..<6 where !(client.isConnected && server.isConnected) {
            flight.removeAll()
            while client.poll(into: &flight) != nil {}
            for index in 0..<flight.count { if let datagram = flight.packet(index) { server.handle(datagram, at: .zero, into: &plaintext) } }
            flight.removeAll()
            while server.poll(into: &flight) != nil {}
            for index in 0..<flight.count { if let datagram = flight.packet(index) { client.handle(datagram, at: .zero, into: &plaintext) } }
        }
    }
}
