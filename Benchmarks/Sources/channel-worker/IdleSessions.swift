import Glibc
import NIOCore
import NIOPosix
import WebRTC
import WebRTCNIO

/// What connected sessions cost that do nothing: `channel-worker idle=1000` connects so many pairs of peer connections within this process, each
/// with one open channel that carried a message, and prints the resident size before and after as one JSON line.
enum IdleSessions {
    static func run(_ count: Int) async throws {
        let group = MultiThreadedEventLoopGroup.singleton
        await PeerConnection.prepare()
        let endpoint = try await UDPEndpoint.bind(on: group)
        var kept: [(PeerConnection, PeerConnection, DataChannel, DataChannel)] = []
        kept.reserveCapacity(count)
        // the first pairs pay for what a process has once
        for _ in 0..<2 { kept.append(try await connect(endpoint, group)) }
        try await Task.sleep(for: .seconds(1))
        let before = Lines.residentKB
        let begin = Lines.now
        while kept.count < count { kept.append(try await connect(endpoint, group)) }
        let seconds = Double(Lines.now - begin) / 1e9
        // past the handshakes' timers and the first checks of an idle connection
        try await Task.sleep(for: .seconds(5))
        let after = Lines.residentKB
        let each = Double(after - before) / Double(count - 2)
        print(
            "{\"sessions\":\(count),\"rss_mb\":\(Double(after) * 1024 / 1e6),\"rss_mb_before\":\(Double(before) * 1024 / 1e6),\"kib_per_pair\":\(each),"
                + "\"connect_ms\":\(seconds * 1000 / Double(count - 2))}")
        for (client, server, _, _) in kept {
            await client.close()
            await server.close()
        }
        await endpoint.close()
    }

    /// A server's connection on the shared sockets and a client's on its own.
    private static func connect(
        _ endpoint: UDPEndpoint, _ group: any EventLoopGroup
    ) async throws -> (PeerConnection, PeerConnection, DataChannel, DataChannel) {
        let client = try await PeerConnection(group: group)
        let server = try await PeerConnection(endpoint: endpoint)
        let channel = try await client.createDataChannel("idle")
        try await client.setLocalDescription()
        try await server.setRemoteDescription(await client.gatheringComplete())
        try await server.setLocalDescription()
        try await client.setRemoteDescription(await server.gatheringComplete())
        try await channel.waitUntilOpen()
        var accepted: DataChannel?
        for await event in server.events {
            if case .dataChannel(let channel) = event {
                accepted = channel
                break
            }
        }
        guard let accepted else { Lines.fail("no channel came") }
        try await channel.send("x")
        for try await _ in accepted.messages { break }
        return (client, server, channel, accepted)
    }
}
