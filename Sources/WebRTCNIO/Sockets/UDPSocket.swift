import Glibc
import NIOCore
import NIOPosix
import Wire

/// One bound UDP socket: its channel's only handler. Lives on the event loop.
final class UDPSocket: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    /// Bytes the kernel may hold in each direction: a bandwidth-delay product of 400 Mbit/s and 160 ms.
    static let kernelBuffer: CInt = 8 << 20
    /// With receive offload one read returns up to 64 KiB. Four reads make a burst: large enough to amortise one SACK, small enough to keep it in the cache.
    static let readsPerBurst: UInt = 4
    /// Without receive offload, datagrams come one by one, many to a system call.
    static let vectorReads = 32

    let router: EndpointRouter
    private(set) var local: TransportAddress?
    private var descriptor: CInt = -1
    private var sender: DatagramSender
    private var context: ChannelHandlerContext?

    var counters: DatagramSender.Counters { sender.counters }

    init(router: EndpointRouter, segmentsRuns: Bool) {
        self.router = router
        sender = DatagramSender(segmentsRuns: segmentsRuns)
    }

    /// Sends `batch[indices]`; what the socket cannot take now waits in the channel, up to a bound, and is dropped beyond it.
    /// Answers with the size of the smallest datagram that was larger than its interface allows.
    func send(_ batch: borrowing DatagramBatch, _ indices: Range<Int>) -> Int? {
        guard let context, descriptor >= 0 else { return nil }
        guard context.channel.isWritable else {
            enqueue(batch, indices, context: context)
            return nil
        }
        if let rest = sender.send(batch, indices, descriptor: descriptor) { enqueue(batch, rest..<indices.upperBound, context: context) }
        return sender.sizeRefused
    }

    private func enqueue(_ batch: borrowing DatagramBatch, _ indices: Range<Int>, context: ChannelHandlerContext) {
        let waiting = (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
        guard waiting < Int(Self.kernelBuffer) else {
            sender.noteCongestion(indices.count)
            return
        }
        for index in indices {
            guard let packet = batch.packets.packet(index), let remote = try? batch.paths[index].remote.socketAddress else { continue }
            context.write(wrapOutboundOut(AddressedEnvelope(remoteAddress: remote, data: packet)), promise: nil)
        }
        context.flush()
    }

    // MARK: ChannelInboundHandler

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        local = context.localAddress.flatMap { TransportAddress($0) }
        descriptor = (try? context.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }) ?? -1
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard let local, let remote = TransportAddress(envelope.remoteAddress) else { return }
        let size = envelope.data.readableBytes
        let segmentSize = envelope.metadata?.segmentSize ?? size
        router.route(
            envelope.data, segmentSize: segmentSize > 0 ? segmentSize : size, path: NetworkPath(local: local, remote: remote))
    }

    func channelReadComplete(context: ChannelHandlerContext) { router.endBurst() }

    func channelInactive(context: ChannelHandlerContext) {
        descriptor = -1
        self.context = nil
        router.socketClosed(self)
    }

    /// ICMP errors and the like: ICE's business, by silence.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}

extension UDPSocket {
    /// Binds one socket on `loop` and hands it over, on that loop, before the first datagram can arrive.
    static func bind(to address: SocketAddress, router: NIOLoopBound<EndpointRouter>, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
        DatagramBootstrap(group: loop)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 1 << 16))
            .channelOption(.maxMessagesPerRead, value: readsPerBurst)
            .channelOption(.writeBufferWaterMark, value: .init(low: 1, high: 1))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let socket = UDPSocket(router: router.value, segmentsRuns: System.supportsUDPSegmentationOffload)
                    try channel.pipeline.syncOperations.addHandler(socket)
                    guard let options = channel.syncOptions else { return }
                    enlargeBuffers(channel)
                    forbidFragments(channel)
                    do {
                        try options.setOption(.datagramReceiveOffload, value: true)
                        try options.setOption(.datagramReceiveSegmentSize, value: true)
                    } catch {
                        // an old kernel: many datagrams in one system call instead
                        try options.setOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: vectorReads * 2048))
                        try options.setOption(.datagramVectorReadMessageCount, value: vectorReads)
                    }
                    router.value.add(socket)
                }
            }
            .bind(to: address)
    }

    /// Sets DF and asks the kernel to ignore what it believes of the path (RFC 8899 §4.5): a probe that was fragmented would prove nothing.
    private static func forbidFragments(_ channel: any Channel) {
        _ = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { descriptor in
            // IP_MTU_DISCOVER and IPV6_MTU_DISCOVER; a socket is of one kind and refuses the other
            for (level, option) in [(CInt(IPPROTO_IP), CInt(10)), (CInt(IPPROTO_IPV6), CInt(23))] {
                // IP_PMTUDISC_PROBE
                var mode: CInt = 3
                _ = setsockopt(descriptor, level, option, &mode, socklen_t(MemoryLayout<CInt>.size))
            }
        }
    }

    /// A process with CAP_NET_ADMIN may go over the system's limit; any other gets what the limit allows.
    private static func enlargeBuffers(_ channel: any Channel) {
        _ = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { descriptor in
            for (forced, plain) in [(SO_RCVBUFFORCE, SO_RCVBUF), (SO_SNDBUFFORCE, SO_SNDBUF)] {
                var bytes = kernelBuffer
                let length = socklen_t(MemoryLayout<CInt>.size)
                if setsockopt(descriptor, SOL_SOCKET, forced, &bytes, length) != 0 {
                    _ = setsockopt(descriptor, SOL_SOCKET, plain, &bytes, length)
                }
            }
        }
    }
}
