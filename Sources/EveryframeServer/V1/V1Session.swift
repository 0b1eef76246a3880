import FrameTransport
import Logging
import NIOCore
import WebRTCNIO
import Wire

/// A connection of `everyframe.v1` from its offer to its end. Its jobs are the hub's, and may outlive it.
actor V1Session: ServedSession {
    nonisolated let id: Int
    nonisolated let connection: PeerConnection
    private let hub: FrameHub
    private let limits: ServerConfiguration.Limits
    private let log: Logger
    private var channels: [Lane: DataChannel] = [:]
    private var ending: String?
    private var probe: Task<Void, Never>?

    init(id: Int, connection: PeerConnection, hub: FrameHub, limits: ServerConfiguration.Limits, logger: Logger) {
        self.id = id
        self.connection = connection
        self.hub = hub
        self.limits = limits
        log = logger
    }

    func run() async -> String {
        let bound = limits.connectTime
        let watch = Task {
            guard (try? await Task.sleep(for: bound)) != nil else { return }
            await self.giveUpConnecting()
        }
        defer { watch.cancel() }
        events: for await event in connection.events {
            switch event {
            case .dataChannel(let channel): await adopt(channel)
            case .connectionStateChanged(.failed), .connectionStateChanged(.closed): break events
            default: break
            }
        }
        probe?.cancel()
        let reason = await connection.closeReason?.description ?? "closed"
        let known = await hub.drop(id, reason)
        await connection.close()
        return "Session \(id) ended: \(ending ?? known ?? reason); everyframe.v1"
    }

    func end(_ reason: SessionEnding) async {
        ending = ending ?? reason.terminationReason
        if reason == .shutdown, channels.count == Lane.allCases.count { return await hub.drain(id) }
        await connection.close()
    }

    func abort() async { await end(.aborted) }

    private func adopt(_ channel: DataChannel) async {
        if channel.protocol == ProbeMessage.subprotocol, probe == nil {
            probe = Task { await ProbeResponder(channel: channel).run() }
            return
        }
        guard channel.protocol == Lane.subprotocol, let lane = Lane.allCases.first(where: { $0.label == channel.label }), channels[lane] == nil else {
            log.warning("Session \(id): a channel '\(channel.label.prefix(64))' is ignored")
            return
        }
        channels[lane] = channel
        if let control = channels[.control], let bulk = channels[.bulk] { await hub.attach(id, peer: connection, control: control, bulk: bulk) }
    }

    private func giveUpConnecting() async {
        guard channels.count < Lane.allCases.count else { return }
        await end(.neverConnected)
    }
}
