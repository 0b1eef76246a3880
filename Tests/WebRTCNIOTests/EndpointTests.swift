import NIOCore
import NIOPosix
import Testing
import Wire

@testable import WebRTCNIO

@Suite(.serialized) struct EndpointTests {
    /// Counts what it gets. Used on one event loop.
    final class Collector: DatagramReceiver, @unchecked Sendable {
        var sizes: [Int] = []
        var bytes: [UInt8] = []
        var reads = 0
        var bursts = 0
        var isClosed = false

        func localAddressAdded(_ address: TransportAddress) {}
        func localAddressRemoved(_ address: TransportAddress) {}

        func receive(_ bytes: ByteBuffer, segmentSize: Int, path: NetworkPath, at now: Instant) {
            reads += 1
            var rest = bytes
            while rest.readableBytes > 0, let segment = rest.readSlice(length: min(segmentSize, rest.readableBytes)) {
                sizes.append(segment.readableBytes)
                if let first = segment.getInteger(at: segment.readerIndex, as: UInt8.self) { self.bytes.append(first) }
            }
        }

        func endOfBurst(at now: Instant) { bursts += 1 }
        func endpointClosed() { isClosed = true }
    }

    @Test("Datagrams of 16 KiB leave four to a call; one that is too large for the interface is reported and harms no other")
    func large() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let sender = try await UDPEndpoint.bind(host: "127.0.0.1", on: group)
        let receiver = try await UDPEndpoint.bind(host: "127.0.0.1", on: group)
        let path = NetworkPath(local: try #require(sender.localAddresses.first), remote: try #require(receiver.localAddresses.first))
        let collector = Collector()
        // the loopback interface's MTU is 65,536: nobody sends more than 65,507 bytes
        let sizes = Array(repeating: 16_373, count: 8) + [1200, 65_508, 65_507, 65_520] + Array(repeating: 9000, count: 7) + [4000, 65_507]
        let refused = try await sender.eventLoop.submit {
            receiver.router.value.setOwner(collector)
            var batch = DatagramBatch()
            for (index, size) in sizes.enumerated() { batch.append(ByteBuffer(repeating: UInt8(truncatingIfNeeded: index), count: size), along: path) }
            return sender.router.value.send(batch)
        }.get()
        #expect(refused == 65_508)
        let expected = sizes.filter { $0 <= 65_507 }
        try await within(.seconds(120)) {
            while try await receiver.eventLoop.submit({ collector.sizes.count }).get() < expected.count, !Task.isCancelled { await Task.yield() }
        }
        try await receiver.eventLoop.submit { #expect(collector.sizes == expected) }.get()
        let statistics = await sender.statistics()
        #expect(statistics.datagramsSent == expected.count)
        #expect(statistics.sendDropsTooLarge == 2)
        #expect(statistics.sendDropsRefused == 0)
        await sender.close()
        await receiver.close()
        try await group.shutdownGracefully()
    }

    @Test("A batch with runs of equal sizes arrives datagram by datagram, whole and in order, however the kernel joins them")
    func batches() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let sender = try await UDPEndpoint.bind(host: "127.0.0.1", on: group)
        let receiver = try await UDPEndpoint.bind(host: "127.0.0.1", on: group)
        let path = NetworkPath(local: try #require(sender.localAddresses.first), remote: try #require(receiver.localAddresses.first))
        let collector = Collector()
        // equal ones beyond the segment limit, a shorter end, growing ones, a single byte
        let sizes = Array(repeating: 1200, count: 150) + [700, 1200, 1300, 1300, 20, 1] + Array(repeating: 1400, count: 60)
        try await sender.eventLoop.submit {
            receiver.router.value.setOwner(collector)
            var batch = DatagramBatch()
            for (index, size) in sizes.enumerated() { batch.append(ByteBuffer(repeating: UInt8(truncatingIfNeeded: index), count: size), along: path) }
            sender.router.value.send(batch)
        }.get()
        try await within(.seconds(120)) {
            while try await receiver.eventLoop.submit({ collector.sizes.count }).get() < sizes.count, !Task.isCancelled { await Task.yield() }
        }
        try await receiver.eventLoop.submit {
            #expect(collector.sizes == sizes)
            #expect(collector.bytes == sizes.indices.map { UInt8(truncatingIfNeeded: $0) })
        }.get()
        let statistics = await sender.statistics()
        #expect(statistics.datagramsSent == sizes.count)
        #expect(statistics.sendCalls < sizes.count || !System.supportsUDPSegmentationOffload)
        await sender.close()
        await receiver.close()
        #expect(collector.isClosed)
        try await group.shutdownGracefully()
    }

    @Test("A destination that the kernel refuses costs its datagrams only: the socket lives on")
    func refused() async throws {
        let endpoint = try await UDPEndpoint.bind(host: "127.0.0.1")
        let local = try #require(endpoint.localAddresses.first)
        let collector = Collector()
        try await endpoint.eventLoop.submit {
            endpoint.router.value.setOwner(collector)
            var batch = DatagramBatch()
            // port 0 is EINVAL, a socket bound to loopback reaches no other host, and an IPv6 peer is of another family
            for remote in [local.withPort(0), TransportAddress(ip: .v4(0xC633_6401), port: 9), TransportAddress(ip: .v6(high: 0, low: 1), port: 9), local] {
                for _ in 0..<3 { batch.append(ByteBuffer(repeating: 7, count: 100), along: NetworkPath(local: local, remote: remote)) }
            }
            endpoint.router.value.send(batch)
        }.get()
        try await within(.seconds(120)) {
            while try await endpoint.eventLoop.submit({ collector.sizes.count }).get() < 3, !Task.isCancelled { await Task.yield() }
        }
        #expect(await endpoint.statistics().sendDropsRefused >= 6)
        await endpoint.close()
    }

    @Test("A port is the same on all addresses; a port that is taken is an error")
    func ports() async throws {
        let all = try await UDPEndpoint.bind(includeLoopback: true)
        #expect(all.localAddresses.contains { $0.ip == .v4(0x7F00_0001) })
        let port = Int(try #require(all.localAddresses.first { $0.ip == .v4(0x7F00_0001) }).port)
        await #expect(throws: (any Error).self) { try await UDPEndpoint.bind(host: "127.0.0.1", port: port) }
        await #expect(throws: (any Error).self) { try await UDPEndpoint.bind(host: "127.0.0.1", port: 65_536) }
        await #expect(throws: (any Error).self) { try await UDPEndpoint.bind(host: "no address") }
        await all.close()
        // other tests may take the port in between, so there is another try with another one
        for attempt in 1...5 {
            let first = try await UDPEndpoint.bind(includeLoopback: true)
            let port = try #require(first.localAddresses.first?.port)
            await first.close()
            guard let again = try? await UDPEndpoint.bind(port: Int(port), includeLoopback: true) else {
                #expect(attempt < 5)
                continue
            }
            #expect(again.localAddresses.allSatisfy { $0.port == port })
            await again.close()
            break
        }
    }

    @Test("An address belongs to the session that sent to it first, until ICE proves another's; nothing is left when sessions go")
    func routing() async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        try await loop.submit {
            let router = EndpointRouter()
            let (one, two) = (Collector(), Collector())
            let local = TransportAddress(ip: .v4(1), port: 1)
            let peer = TransportAddress(ip: .v4(2), port: 2)
            let data = ByteBuffer(bytes: [22, 1, 2, 3])
            func send() { router.route(data, segmentSize: 4, path: NetworkPath(local: local, remote: peer)) }
            router.add(one, ufrag: "one")
            router.add(two, ufrag: "two")
            send()
            #expect(router.counters.unknown == 1)
            router.claim(peer, for: one, proved: false)
            router.claim(peer, for: two, proved: false)
            send()
            #expect(one.reads == 1 && two.reads == 0)
            router.claim(peer, for: two, proved: true)
            send()
            router.endBurst()
            #expect(one.reads == 1 && two.reads == 1 && one.bursts == 1 && two.bursts == 1)
            router.remove(one)
            send()
            #expect(two.reads == 2)
            router.remove(two)
            send()
            #expect(two.reads == 2 && router.counters.unknown == 2)
            // a session claims no more than its share
            router.add(one, ufrag: "one")
            for port in 1...UInt16(EndpointRouter.addressesPerSession + 1) { router.claim(peer.withPort(port), for: one, proved: false) }
            router.route(data, segmentSize: 4, path: NetworkPath(local: local, remote: peer.withPort(1)))
            #expect(router.counters.unknown == 3)
        }.get()
    }
}
