import Ciphers
import FrameTransport
import Glibc
import ICE
import NIOCore
import Testing
import WebRTC
import WebRTCNIO
import Wire

@testable import EveryframeServer

/// Strangers with UDP sockets against a running server, and what they cost it.
@Suite(.serialized, .timeLimit(.minutes(5))) struct FloodTests {
    @Test("Floods of every kind from strangers get no answer, or one no larger than the question; a client is served meanwhile")
    func strangers() async throws {
        try await withServer { server in
            let client = try await server.connect()
            let answer = try #require(await client.peer.remoteDescription).sdp
            let ufrag = try #require(Self.value("a=ice-ufrag:", in: answer))
            let before = await server.server.udpStatistics

            let attackers = try (0..<32).map { _ in try RawSocket(port: server.udpPort) }
            defer { for attacker in attackers { attacker.close() } }
            let client2 = Task {
                for id in 1...20 { try await client.send(id) }
                return try await client.answers(20)
            }
            var sent: [Kind: (datagrams: Int, bytes: Int)] = [:]
            for round in 0..<200 {
                for (index, attacker) in attackers.enumerated() {
                    for kind in Kind.allCases {
                        let datagram = kind.datagram(ufrag: ufrag, number: UInt64(round * 100 + index))
                        attacker.send(datagram)
                        sent[kind, default: (0, 0)].datagrams += 1
                        sent[kind, default: (0, 0)].bytes += datagram.readableBytes
                    }
                }
                // what does not fit the socket's buffer would never reach the server
                if round % 4 == 3 { try await Task.sleep(for: .milliseconds(1)) }
            }
            let answers = try await client2.value
            #expect(answers.count == 20 && answers.allSatisfy { $0.errors.isEmpty })

            var received: [ByteBuffer] = []
            try await Task.sleep(for: .milliseconds(200))
            for attacker in attackers { received += attacker.receive() }
            // the right name with a wrong password gets 401 (RFC 8489 §9.1.3), without any 400; nothing else says a word
            let refusable = [Kind.wrongPassword, .noIntegrity].reduce(0) { $0 + (sent[$1]?.datagrams ?? 0) }
            let refusableBytes = [Kind.wrongPassword, .noIntegrity].reduce(0) { $0 + (sent[$1]?.bytes ?? 0) }
            #expect(received.count > 1000 && received.count <= refusable)
            #expect(received.allSatisfy { (try? StunMessage(parsing: $0))?.messageClass == .error })
            #expect(received.reduce(0) { $0 + $1.readableBytes } <= refusableBytes)

            let after = await server.server.udpStatistics
            #expect(after.readsUnknownUfrag - before.readsUnknownUfrag > 500)
            #expect(after.readsUnknown - before.readsUnknown > 1500)
            #expect(await server.server.sessionCount == 1)
            await client.peer.close()
            await server.waitUntilEmpty()
        }
    }

    @Test("Offers that never connect are bounded in number, go by themselves, and leave the server as it was")
    func offers() async throws {
        try await withServer({
            $0.limits.sessions = 16
            $0.limits.connectTime = .seconds(8)
        }) { server in
            let offer = try await Self.offer()
            let body = JSON.object([
                "webrtc_offer": ["type": "offer", "sdp": .string(offer)], "frame_transport": "data_channel", "output_mode": "data_only",
            ]).description
            for _ in 0..<2 {
                // how many are taken depends on how many went meanwhile; there are never more than the limit at once
                var refused = 0
                for _ in 0..<40 {
                    switch try await server.post(body).status {
                    case 200: #expect(await server.server.sessionCount <= 16)
                    case 503: refused += 1
                    default: Issue.record("neither accepted nor refused for want of room")
                    }
                }
                #expect(refused > 0)
                await server.waitUntilEmpty()
            }
            #expect(await server.server.sessionCount == 0)
            let client = try await server.connect()
            try await client.send(1)
            #expect(try await client.answers(1).count == 1)
            await client.peer.close()
        }
    }

    @Test("ClientHellos to sessions that wait for their peer, from whatever address, begin no handshake, and the peer gets through")
    func hellos() async throws {
        try await withServer { server in
            let attackers = try (0..<8).map { _ in try RawSocket(port: server.udpPort) }
            defer { for attacker in attackers { attacker.close() } }
            let flood = Task {
                var number: UInt64 = 0
                while !Task.isCancelled {
                    for attacker in attackers {
                        attacker.send(Kind.clientHello.datagram(ufrag: "", number: number))
                        number += 1
                    }
                    try? await Task.sleep(for: .milliseconds(1))
                }
                return number
            }
            defer { flood.cancel() }
            for _ in 0..<5 {
                let client = try await server.connect()
                try await client.send(1)
                #expect(try await client.answers(1).count == 1)
                await client.peer.close()
            }
            flood.cancel()
            #expect(await flood.value > 0)
            #expect(attackers.allSatisfy { $0.receive().isEmpty })
            await server.waitUntilEmpty()
        }
    }

    // MARK: Material

    enum Kind: CaseIterable {
        case anonymous, wrongUfrag, wrongPassword, noIntegrity, noFingerprint, response, clientHello, record, media, garbage, empty

        func datagram(ufrag: String, number: UInt64) -> ByteBuffer {
            let id = StunTransactionID(high: UInt32(truncatingIfNeeded: number), low: number)
            let key = Array("not the password, but as long".utf8)
            func request(_ username: String?) -> StunMessage {
                StunMessage(.request, transactionID: id, attributes: (username.map { [.username($0)] } ?? []) + [.priority(1), .iceControlling(number)])
            }
            switch self {
            case .anonymous: return request(nil).encoded()
            case .wrongUfrag: return request("nobody:\(number)").encoded(.sha1(key: key))
            case .wrongPassword: return request("\(ufrag):\(number)").encoded(.sha1(key: key))
            case .noIntegrity: return request("\(ufrag):\(number)").encoded()
            case .noFingerprint: return request("\(ufrag):\(number)").encoded(.sha1(key: key), fingerprint: false)
            case .response: return StunMessage(.success, transactionID: id, attributes: []).encoded(.sha1(key: key))
            case .clientHello:
                // handshake, DTLS 1.0 in the record, epoch 0; ClientHello of 40 bytes
                var buffer = ByteBuffer(bytes: [22, 0xFE, 0xFF, 0, 0, 0, 0])
                buffer.writeInteger(UInt32(truncatingIfNeeded: number))
                buffer.writeBytes([0, 52, 1, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 40, 0xFE, 0xFD])
                buffer.writeRepeatingByte(UInt8(truncatingIfNeeded: number), count: 32)
                buffer.writeBytes([0, 0, 0, 2, 0xC0, 0x2B])
                return buffer
            case .record: return ByteBuffer(bytes: [23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 9, 0, 40] + [UInt8](repeating: 3, count: 40))
            case .media: return ByteBuffer(bytes: [0x80, 96] + [UInt8](repeating: 1, count: 200))
            case .garbage: return ByteBuffer(bytes: [UInt8(truncatingIfNeeded: number)] + [UInt8](repeating: 0xAA, count: Int(number % 1400)))
            case .empty: return ByteBuffer()
            }
        }
    }

    private static func value(_ name: String, in sdp: String) -> String? {
        sdp.split(whereSeparator: \.isNewline).first { $0.hasPrefix(name) }.map { String($0.dropFirst(name.count)) }
    }

    /// Of a peer that is gone.
    private static func offer() async throws -> String {
        var configuration = PeerConnection.Configuration()
        configuration.host = "127.0.0.1"
        let peer = try await PeerConnection(configuration: configuration)
        _ = try await peer.createDataChannel("inference")
        try await peer.setLocalDescription(peer.createOffer())
        let offer = try await peer.gatheringComplete()
        await peer.close()
        return offer.sdp
    }
}

/// A UDP socket without manners.
private struct RawSocket: Sendable {
    private let descriptor: CInt

    struct Failure: Error {}

    /// Sends to a port of this machine, from one of its own.
    init(port: Int) throws {
        descriptor = socket(AF_INET, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw Failure() }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port).bigEndian)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else {
            Glibc.close(descriptor)
            throw Failure()
        }
    }

    func send(_ datagram: ByteBuffer) { _ = datagram.withUnsafeReadableBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, 0) } }

    /// What has arrived so far.
    func receive() -> [ByteBuffer] {
        var result: [ByteBuffer] = []
        while true {
            var buffer = ByteBuffer()
            let count = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 65_536) { max(0, Glibc.recv(descriptor, $0.baseAddress, $0.count, 0)) }
            guard count > 0 else { return result }
            result.append(buffer)
        }
    }

    func close() { Glibc.close(descriptor) }
}
