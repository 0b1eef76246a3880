import NIOCore
import NIOPosix
import NetworkSimulator
import Synchronization
import Wire

/// A bad network between two ends on this machine: each is told that the other is where one of the relay's sockets is. What happens to the datagrams is the
/// simulator's seeded `Link`, run by the clock.
final class ImpairedRelay: Sendable {
    enum Side: Int, Sendable, CaseIterable {
        case one, other
        var opposite: Side { self == .one ? .other : .one }
    }

    struct NoCandidate: Error {}

    private struct State {
        /// What is on its way to each side.
        var links: [Link]
        /// The socket that stands for each side.
        var sockets: [any Channel] = []
        /// Where each side really is.
        var addresses: [SocketAddress?] = [nil, nil]
        var timer: Scheduled<Void>?
    }

    private let state: Mutex<State>
    private let loop: any EventLoop

    init(_ conditions: LinkConditions, seed: UInt64 = 1) async throws {
        state = Mutex(State(links: [Link(conditions, seed: seed), Link(conditions, seed: seed &+ 1)]))
        loop = MultiThreadedEventLoopGroup.singleton.next()
        for side in Side.allCases {
            let socket = try await DatagramBootstrap(group: loop).channelOption(.socketOption(.so_rcvbuf), value: 4 << 20)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Inlet(relay: self, side: side)) }
                }
                .bind(host: "0.0.0.0", port: 0).get()
            state.withLock { $0.sockets.append(socket) }
        }
    }

    func close() async {
        let (sockets, timer) = state.withLock { ($0.sockets, $0.timer) }
        timer?.cancel()
        for socket in sockets { try? await socket.close() }
    }

    /// Datagrams that were lost, both ways.
    var lost: Int { state.withLock { $0.links.reduce(0) { $0 + $1.counters.lost } } }

    /// The description, or the candidate, of one side as the opposite side must see it: one UDP candidate of IPv4, with the relay's port. All others vanish.
    func rewrite(_ text: String, of side: Side) throws -> String {
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        let rewritten = try lines.compactMap { line in line.contains("candidate:") ? try rewrite(candidate: line, of: side) : String(line) }
        return rewritten.joined(separator: "\r\n")
    }

    /// nil for a candidate that is not to be used.
    private func rewrite(candidate line: Substring, of side: Side) throws -> String? {
        var words = line.split(separator: " ").map(String.init)
        guard words.count >= 8, words[2].lowercased() == "udp", words[7] == "host", words[4].contains("."), !words[4].hasPrefix("127."),
            let port = Int(words[5])
        else { return nil }
        let address = try SocketAddress(ipAddress: words[4], port: port)
        let stand = state.withLock { state -> Int? in
            if let known = state.addresses[side.rawValue], known != address { return nil }
            state.addresses[side.rawValue] = address
            return state.sockets[side.rawValue].localAddress?.port
        }
        guard let stand else { return nil }
        words[5] = String(stand)
        return words.joined(separator: " ")
    }

    fileprivate func received(_ datagram: ByteBuffer, for side: Side) {
        state.withLock { $0.links[side.rawValue].send(datagram, at: Self.now) }
        pump()
    }

    /// Hands over what has arrived, and comes back for the next.
    private func pump() {
        state.withLock { state in
            let now = Self.now
            var next: Instant?
            for side in Side.allCases {
                while let datagram = state.links[side.rawValue].receive(at: now) {
                    guard let address = state.addresses[side.rawValue] else { continue }
                    state.sockets[side.opposite.rawValue].writeAndFlush(AddressedEnvelope(remoteAddress: address, data: datagram), promise: nil)
                }
                next = earliest(next, state.links[side.rawValue].deadline)
            }
            state.timer?.cancel()
            state.timer = next.map { due in loop.scheduleTask(in: .nanoseconds(max(0, (due - now).inNanoseconds))) { self.pump() } }
        }
    }

    private static var now: Instant { Instant(nanoseconds: Int64(NIODeadline.now().uptimeNanoseconds)) }
}

private final class Inlet: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private let relay: ImpairedRelay
    private let side: ImpairedRelay.Side

    init(relay: ImpairedRelay, side: ImpairedRelay.Side) {
        self.relay = relay
        self.side = side
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { relay.received(unwrapInboundIn(data).data, for: side) }
}
