import Ciphers
import DTLS
import NIOCore
import WebRTC
import Wire

extension FuzzTarget {
    /// Datagrams of a stranger, each behind two bytes of length whose top bit says to which end: before, and while, a handshake goes on. No byte of them
    /// becomes data, neither end takes itself for connected, and what they send stays within what they got.
    static let dtls = FuzzTarget(name: "dtls") { input in
        guard let certificate = try? strangersCertificate.get(),
            var server = try? DTLSEngine(role: .server, certificate: certificate, remoteFingerprints: [certificate.fingerprint]),
            var client = try? DTLSEngine(role: .client, certificate: certificate, remoteFingerprints: [certificate.fingerprint])
        else { return }
        var commands = Commands(input)
        var plaintext = PacketBatch()
        var output = PacketBatch()
        var now = Instant.zero
        client.start(at: now)
        var given = 0
        while !commands.isAtEnd {
            let word = Int(commands.byte()) << 8 | Int(commands.byte())
            let datagram = commands.take(word & 0x7FFF)
            _ = DatagramKind(of: datagram)
            given += 1
            if word & 0x8000 == 0 { server.handle(datagram, at: now, into: &plaintext) } else { client.handle(datagram, at: now, into: &plaintext) }
            now += .milliseconds(20)
            server.handleTimeout(at: now)
            client.handleTimeout(at: now)
            while server.poll(into: &output) != nil {}
            while client.poll(into: &output) != nil {}
            require(plaintext.isEmpty, "data out of nothing")
            require(!server.isConnected && !client.isConnected, "connected to a stranger")
            require(output.bytes.readableBytes <= 16_384 * (given + 1), "\(output.bytes.readableBytes) bytes for \(given) datagrams")
        }
    }
}

/// Made once: it costs more than everything else here.
private let strangersCertificate = Result<Certificate, Certificate.CreationError> { () throws(Certificate.CreationError) in try Certificate.selfSigned() }
