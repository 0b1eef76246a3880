import Glibc
import NIOCore
import NIOPosix
import Synchronization
import Wire

/// Tells when addresses or interfaces of this machine come or go: one netlink socket (rtnetlink(7)) for the whole process, open while somebody listens.
///
/// What it says is only that something changed; who listens looks again. Where the socket is not to be had, nothing is ever told.
final class AddressMonitor: Sendable {
    static let shared = AddressMonitor()

    private struct State {
        var listeners: [Int: @Sendable () -> Void] = [:]
        var next = 0
        var channel: (any Channel)?
        var isOpening = false
    }

    private let state = Mutex(State())

    /// Calls `action` after each change, on some event loop. Answers with the number to `remove` it by.
    func add(_ action: @escaping @Sendable () -> Void) -> Int {
        let (number, opens) = state.withLock { state in
            state.next += 1
            state.listeners[state.next] = action
            let opens = state.channel == nil && !state.isOpening
            if opens { state.isOpening = true }
            return (state.next, opens)
        }
        if opens { open() }
        return number
    }

    func remove(_ number: Int) {
        let channel = state.withLock { state -> (any Channel)? in
            state.listeners[number] = nil
            guard state.listeners.isEmpty else { return nil }
            return state.channel.take()
        }
        channel?.close(promise: nil)
    }

    private func open() {
        guard let descriptor = Self.socket() else { return state.withLock { $0.isOpening = false } }
        NIOPipeBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 8192))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Handler(monitor: self)) }
            }
            .takingOwnershipOfDescriptor(input: descriptor)
            .whenComplete { result in
                switch result {
                case .failure:
                    _ = Glibc.close(descriptor)
                    self.state.withLock { $0.isOpening = false }
                case .success(let channel):
                    let isWanted = self.state.withLock { state in
                        state.isOpening = false
                        if !state.listeners.isEmpty { state.channel = channel }
                        return state.channel != nil
                    }
                    // something may have changed before it listened
                    if isWanted { self.tell() } else { channel.close(promise: nil) }
                }
            }
    }

    private func tell() {
        let actions = state.withLock { Array($0.listeners.values) }
        for action in actions { action() }
    }

    /// More was told than the kernel kept for us, mostly: open another one, which begins with a look.
    private func closed(_ channel: any Channel) {
        let opens = state.withLock { state in
            guard state.channel === channel else { return false }
            state.channel = nil
            state.isOpening = !state.listeners.isEmpty
            return state.isOpening
        }
        if opens { open() }
    }

    private static func socket() -> CInt? {
        // AF_NETLINK, NETLINK_ROUTE
        let descriptor = Glibc.socket(16, CInt(SOCK_RAW.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        // sockaddr_nl: | family 16 | padding 16 | port 32 | groups 32 |, groups RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR
        var address = (UInt16(16), UInt16(0), UInt32(0), UInt32(0x001 | 0x010 | 0x100))
        let size = socklen_t(MemoryLayout.size(ofValue: address))
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(descriptor, $0, size) }
        }
        guard result == 0 else {
            _ = Glibc.close(descriptor)
            return nil
        }
        return descriptor
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let monitor: AddressMonitor

        init(monitor: AddressMonitor) { self.monitor = monitor }

        func channelReadComplete(context: ChannelHandlerContext) { monitor.tell() }

        func channelInactive(context: ChannelHandlerContext) { monitor.closed(context.channel) }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

/// The addresses of this machine's interfaces that are up, in the system's order.
enum InterfaceAddresses {
    /// - Throws: `IOError`, as where the process has no descriptor left.
    static func current() throws -> [TransportAddress.IP] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { throw IOError(errnoCode: errno, reason: "getifaddrs") }
        defer { freeifaddrs(list) }
        var result: [TransportAddress.IP] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard entry.ifa_flags & UInt32(IFF_UP) != 0, let address = entry.ifa_addr else { continue }
            let ip: TransportAddress.IP
            switch Int32(address.pointee.sa_family) {
            case AF_INET: ip = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { TransportAddress($0.pointee).ip }
            case AF_INET6: ip = address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { TransportAddress($0.pointee).ip }
            default: continue
            }
            if !result.contains(ip) { result.append(ip) }
        }
        return result
    }
}
