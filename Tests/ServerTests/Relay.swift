import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// A hole in the network between a client and a server, on loopback: UDP and TCP go through it until it is told to swallow everything.
///
/// The client is given the relay's HTTP address; in the answers that pass, the server's UDP port is replaced by the relay's. The server is not told
/// the client's addresses, to which it would find its way round the relay.
final class Relay: Sendable {
    private let group: MultiThreadedEventLoopGroup
    private let listener: any Channel
    private let datagrams: DatagramRelay
    let port: Int

    /// - Parameter udpPort: the server's only UDP port.
    init(httpPort: Int, udpPort: Int) async throws {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        let relay = try await DatagramRelay(to: udpPort, on: loop)
        datagrams = relay
        let gate = Gate()
        self.gate = gate
        relay.gate = gate
        listener = try await ServerBootstrap(group: loop)
            .childChannelInitializer { channel in
                channel.setOption(.allowRemoteHalfClosure, value: true).flatMap {
                    guard gate.isOpen else { return channel.close() }
                    return ClientBootstrap(group: channel.eventLoop).connect(host: "127.0.0.1", port: httpPort).flatMap { upstream in
                        channel.eventLoop.makeCompletedFuture {
                            try channel.pipeline.syncOperations.addHandler(
                                Splice(to: upstream, gate: gate, rewrite: (from: "a=candidate:", to: "a=unheardof:")))
                            try upstream.pipeline.syncOperations.addHandler(
                                Splice(to: channel, gate: gate, rewrite: (from: " \(udpPort) typ", to: " \(relay.port) typ")))
                        }
                    }
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = listener.localAddress?.port ?? 0
    }

    private let gate: Gate

    var url: String { "http://127.0.0.1:\(port)" }

    /// Swallows every packet and refuses every connection from now on.
    func cut() { gate.set(false) }

    func mend() { gate.set(true) }

    /// Datagrams that went through or vanished.
    var datagramCount: Int { datagrams.count }

    func close() async {
        try? await listener.close()
        datagrams.close()
        try? await group.shutdownGracefully()
    }

    final class Gate: Sendable {
        private let state = Mutex(true)
        var isOpen: Bool { state.withLock { $0 } }
        func set(_ open: Bool) { state.withLock { $0 = open } }
    }
}

/// TCP one way; what comes while the gate is closed ends the connection.
private final class Splice: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let other: any Channel
    private let gate: Relay.Gate
    /// What is replaced in the text that passes; both are of one length, so that no other changes (ports have five digits).
    private let rewrite: (from: String, to: String)

    init(to other: any Channel, gate: Relay.Gate, rewrite: (from: String, to: String)) {
        self.other = other
        self.gate = gate
        self.rewrite = rewrite
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        guard gate.isOpen else {
            other.close(promise: nil)
            context.close(promise: nil)
            return
        }
        bytes = ByteBuffer(string: String(buffer: bytes).replacingOccurrences(of: rewrite.from, with: rewrite.to))
        other.writeAndFlush(bytes, promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// UDP: a socket towards the server for each client that is seen.
private final class DatagramRelay: ChannelInboundHandler, Sendable {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    private struct State {
        var front: (any Channel)?
        var backs: [SocketAddress: any Channel] = [:]
        var gate: Relay.Gate?
        var count = 0
    }

    private let state = Mutex(State())
    private let server: SocketAddress
    private let loop: any EventLoop
    let port: Int

    init(to udpPort: Int, on loop: any EventLoop) async throws {
        server = try SocketAddress(ipAddress: "127.0.0.1", port: udpPort)
        self.loop = loop
        // a port of five digits, as the server's, for the rewriting
        var bound: (any Channel)?
        while bound == nil {
            let channel = try await DatagramBootstrap(group: loop).channelOption(.socketOption(.so_rcvbuf), value: 4 << 20).bind(host: "127.0.0.1", port: 0)
                .get()
            if (channel.localAddress?.port ?? 0) >= 10_000 { bound = channel } else { try await channel.close() }
        }
        guard let front = bound else { throw ChannelError.connectTimeout(.zero) }
        port = front.localAddress?.port ?? 0
        state.withLock { $0.front = front }
        try await front.pipeline.addHandler(self).get()
    }

    var gate: Relay.Gate? {
        get { state.withLock { $0.gate } }
        set { state.withLock { $0.gate = newValue } }
    }
    var count: Int { state.withLock { $0.count } }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        let isOpen = state.withLock { state in
            state.count += 1
            return state.gate?.isOpen ?? true
        }
        guard isOpen else { return }
        let client = envelope.remoteAddress
        if let back = state.withLock({ $0.backs[client] }) {
            back.writeAndFlush(AddressedEnvelope(remoteAddress: server, data: envelope.data), promise: nil)
            return
        }
        guard let front = state.withLock({ $0.front }) else { return }
        let server = server
        _ = DatagramBootstrap(group: loop).channelOption(.socketOption(.so_rcvbuf), value: 4 << 20)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Back(front: front, client: client, relay: self))
                }
            }
            .bind(host: "127.0.0.1", port: 0)
            .map { back in
                self.state.withLock { $0.backs[client] = back }
                back.writeAndFlush(AddressedEnvelope(remoteAddress: server, data: envelope.data), promise: nil)
            }
    }

    func close() {
        let (front, backs) = state.withLock { ($0.front, $0.backs) }
        front?.close(promise: nil)
        for back in backs.values { back.close(promise: nil) }
    }

    private final class Back: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let front: any Channel
        private let client: SocketAddress
        private let relay: DatagramRelay

        init(front: any Channel, client: SocketAddress, relay: DatagramRelay) {
            self.front = front
            self.client = client
            self.relay = relay
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard relay.gate?.isOpen ?? true else { return }
            front.writeAndFlush(AddressedEnvelope(remoteAddress: client, data: unwrapInboundIn(data).data), promise: nil)
        }
    }
}
