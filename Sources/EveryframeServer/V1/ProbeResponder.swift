import FrameTransport
import NIOCore
import WebRTCNIO

/// Answers on the probe channel of one connection, until it ends. It reads one message after the other, so that who asks without reading waits.
struct ProbeResponder: Sendable {
    let channel: DataChannel

    func run() async {
        var received = 0
        var left = ProbeMessage.maximumBytes
        do {
            for try await message in channel.messages {
                switch message {
                case .binary(let bytes): received += bytes.readableBytes
                case .text(let text):
                    switch ProbeMessage(text) {
                    case .ping(let number): try await channel.send(ProbeMessage.pong(number).text)
                    case .count: try await channel.send(ProbeMessage.received(received).text)
                    case .send(let wanted):
                        let bytes = min(wanted, left)
                        left -= bytes
                        try await send(bytes)
                    // nothing that a client says
                    case .pong, .received, .sent, nil: break
                    }
                }
            }
        } catch {
            // the connection is over, and its session knows why
        }
    }

    private func send(_ bytes: Int) async throws {
        var rest = bytes
        while rest > 0 {
            let size = min(rest, ProbeMessage.messageBytes)
            try await channel.send(ByteBuffer(repeating: 0, count: size))
            rest -= size
        }
        try await channel.send(ProbeMessage.sent(bytes).text)
    }
}
