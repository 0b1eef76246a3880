import NIOCore
import NIOPosix
import WebRTC
package import Wire

/// One question to one STUN server (RFC 8489 §7), apart from any connection: what everyone outside sees as this machine's address.
package enum StunQuery {
    package struct Answer: Sendable {
        package var mapped: TransportAddress
        package var roundTrip: Duration
    }

    package enum Failure: Error, Hashable, Sendable, CustomStringConvertible {
        case notAURL(String)
        case unknownHost(String)
        case noAnswer(String)
        case refused(String)

        package var description: String {
            switch self {
            case .notAURL(let url): "'\(url)' is not of the form stun:HOST[:PORT]"
            case .unknownHost(let host): "there is no host named \(host)"
            case .noAnswer(let address): "\(address) does not answer"
            case .refused(let what): what
            }
        }
    }

    /// Asks each address of the server's name, of both families, and answers with the first that answers.
    /// - Parameter patience: for all of it; the question is sent again after 500 ms and 1.5 s.
    package static func ask(_ url: String, patience: Duration = .seconds(4)) async throws(Failure) -> Answer {
        guard let server = IceServerURL(url), server.service == .stun else { throw .notAURL(url) }
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let addresses = (try? await server.resolve(on: loop).get()) ?? []
        guard !addresses.isEmpty else { throw .unknownHost(server.host) }
        var failure = Failure.noAnswer("\(server.host)")
        for address in addresses {
            do throws(Failure) {
                return try await ask(address, on: loop, patience: patience / addresses.count)
            } catch {
                failure = error
            }
        }
        throw failure
    }

    private static func ask(_ address: TransportAddress, on loop: any EventLoop, patience: Duration) async throws(Failure) -> Answer {
        var generator = systemRandomness()
        let request = StunMessage(.request, transactionID: .random(using: &generator))
        let promise = loop.makePromise(of: Answer.self)
        let channel: any Channel
        do {
            channel = try await DatagramBootstrap(group: loop)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(Handler(request: request, server: try address.socketAddress, promise: promise))
                    }
                }
                .bind(host: address.ip.isIPv6 ? "::" : "0.0.0.0", port: 0).get()
        } catch {
            promise.fail(Failure.noAnswer("\(address)"))
            throw .noAnswer("\(address): no socket of that family can be made here")
        }
        let bound = loop.scheduleTask(in: .nanoseconds(patience.inNanoseconds)) { promise.fail(Failure.noAnswer("\(address)")) }
        let result: Result<Answer, any Error>
        do { result = .success(try await promise.futureResult.get()) } catch { result = .failure(error) }
        bound.cancel()
        try? await channel.close()
        switch result {
        case .success(let answer): return answer
        case .failure(let error): throw error as? Failure ?? .noAnswer("\(address)")
        }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        typealias OutboundOut = AddressedEnvelope<ByteBuffer>

        private let request: StunMessage
        private let server: SocketAddress
        private let promise: EventLoopPromise<Answer>
        private var asked = Instant.now

        init(request: StunMessage, server: SocketAddress, promise: EventLoopPromise<Answer>) {
            self.request = request
            self.server = server
            self.promise = promise
        }

        func channelActive(context: ChannelHandlerContext) {
            ask(context)
            let context = NIOLoopBound(context, eventLoop: context.eventLoop)
            let handler = NIOLoopBound(self, eventLoop: context.value.eventLoop)
            for delay in [500, 1500] as [Int64] {
                context.value.eventLoop.scheduleTask(in: .milliseconds(delay)) {
                    if context.value.channel.isActive { handler.value.ask(context.value) }
                }
            }
        }

        private func ask(_ context: ChannelHandlerContext) {
            asked = .now
            context.writeAndFlush(wrapOutboundOut(AddressedEnvelope(remoteAddress: server, data: request.encoded())), promise: nil)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard let answer = try? StunMessage(parsing: unwrapInboundIn(data).data), answer.transactionID == request.transactionID else { return }
            let mapped = answer.attributes.lazy.compactMap { if case .xorMappedAddress(let address) = $0 { address } else { nil } }.first
            guard answer.messageClass == .success, let mapped else {
                promise.fail(Failure.refused("\(server) refuses the question"))
                return
            }
            promise.succeed(Answer(mapped: mapped, roundTrip: .now - asked))
        }

        /// "Port unreachable": nobody listens there.
        func errorCaught(context: ChannelHandlerContext, error: any Error) { promise.fail(Failure.noAnswer("\(server): \(error)")) }
    }
}
