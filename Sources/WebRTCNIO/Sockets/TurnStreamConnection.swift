import NIOCore
import NIOPosix
import NIOSSL
import WebRTC
import Wire

/// TCP or TLS to a TURN server (RFC 8656 §3.1).
enum TurnStreamConnection {
    static let patience = TimeAmount.seconds(5)
    /// TCP_NOTSENT_LOWAT, as SwiftNIO has no name for it: what the kernel takes beyond what is on its way. More would only wait there, and delay.
    private static let unsentLowWater = NIOCore.ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: 25))

    /// Succeeds when TCP is connected; TLS follows, and what is written until then waits for it.
    static func open(
        to server: TransportAddress, isTLS: Bool, serverName: String, trustRoots: String?, buffer: NIOCore.ChannelOptions.Types.WriteBufferWaterMark,
        relay: NIOLoopBound<TurnRelay>, on eventLoop: any EventLoop
    ) -> EventLoopFuture<any Channel> {
        guard let address = try? server.socketAddress else { return eventLoop.makeFailedFuture(SocketAddressError.unsupported) }
        let context = isTLS ? makeContext(trustRoots, on: eventLoop) : eventLoop.makeSucceededFuture(nil)
        return context.flatMap { context in
            ClientBootstrap(group: eventLoop)
                .connectTimeout(patience)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelOption(unsentLowWater, value: 128 << 10)
                .channelOption(.writeBufferWaterMark, value: buffer)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        if let context {
                            // an address is looked for among the certificate's addresses instead
                            let name = TransportAddress.IP(serverName) == nil ? serverName : nil
                            try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: name))
                        }
                        try channel.pipeline.syncOperations.addHandler(TurnStreamHandler(relay: relay.value))
                    }
                }
                .connect(to: address)
        }
    }

    /// Reads the trusted certificates, so not on the loop.
    private static func makeContext(_ trustRoots: String?, on eventLoop: any EventLoop) -> EventLoopFuture<NIOSSLContext?> {
        NIOThreadPool.singleton.runIfActive(eventLoop: eventLoop) {
            var configuration = TLSConfiguration.makeClientConfiguration()
            if let trustRoots { configuration.additionalTrustRoots = [.file(trustRoots)] }
            return try NIOSSLContext(configuration: configuration)
        }
    }

    static func words(for error: any Error) -> String {
        let text = "\(error)"
        if text.contains("CERTIFICATE_VERIFY_FAILED") || text.contains("unableToValidateCertificate") { return "its certificate cannot be verified" }
        if text.contains("WRONG_VERSION_NUMBER") { return "it does not speak TLS; turn: instead of turns:?" }
        switch error {
        case let error as NIOConnectionError: return error.connectionErrors.first.map { words(for: $0.error) } ?? text
        case ChannelError.connectTimeout: return "it does not answer in time"
        case let error as IOError where error.errnoCode == ECONNREFUSED: return "connection refused"
        case let error as IOError where error.errnoCode == ENETUNREACH || error.errnoCode == EHOSTUNREACH: return "there is no way to it"
        default: return text
        }
    }
}

/// A stream's last handler: cuts what arrives into messages.
private final class TurnStreamHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let relay: TurnRelay
    private var stream = TurnStream()
    private var error: TurnError?

    init(relay: TurnRelay) { self.relay = relay }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        stream.append(unwrapInboundIn(data))
        guard relay.isCurrent(context.channel) else { return }
        let now = Instant.now
        do {
            while let message = try stream.next() { relay.receive(message, segmentSize: message.readableBytes, at: now) }
        } catch {
            self.error = .connectionLost("what it sends is neither STUN nor channel data")
            context.close(promise: nil)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) { relay.endOfBurst() }

    func channelInactive(context: ChannelHandlerContext) {
        guard relay.isCurrent(context.channel) else { return }
        relay.streamEnded(error ?? .connectionLost("the server closed it"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.error = self.error ?? .cannotConnect(TurnStreamConnection.words(for: error))
        context.close(promise: nil)
    }
}
