import Glibc
import NIOCore
import NIOPosix
import Testing
import WebRTCNIO
import Wire

/// Real sockets on loopback. One after the other: the machine's cores are few.
@Suite(.serialized) struct ConnectionTests {
    @Test("Two peers connect, with states and events as W3C names them")
    func connects() async throws {
        let pair = try await ConnectedPair.make()
        try await pair.offerer.waitUntilConnected(timeout: .seconds(60))
        try await pair.answerer.waitUntilConnected(timeout: .seconds(60))
        #expect(await pair.offerer.signalingState == .stable)
        #expect(await pair.offerer.iceGatheringState == .complete)
        #expect(pair.right.label == "test")
        #expect(await pair.left.readyState == .open)
        #expect(await pair.left.id == pair.right.id)
        let stats = await pair.offerer.getStats()
        #expect(stats.peerConnection.everyframe.setupTime != nil)
        #expect(stats.selectedRemoteCandidate?.address == "127.0.0.1")
        await pair.close()
        #expect(await pair.offerer.connectionState == .closed)
    }

    @Test("Messages from 0 bytes to 16 MiB both ways arrive whole, text as text")
    func sizes() async throws {
        let pair = try await ConnectedPair.make()
        let sizes = [0, 1, 2, 1143, 1144, 1145, 65_535, 65_536, 1 << 20, 16 << 20]
        for (sender, receiver) in [(pair.left, pair.right), (pair.right, pair.left)] {
            try await within(.seconds(120)) {
                async let sending: Void = {
                    for (index, size) in sizes.enumerated() { try await sender.send(payload(size, seed: UInt64(index))) }
                    try await sender.send("grüße")
                    try await sender.send("")
                }()
                var messages = receiver.messages.makeAsyncIterator()
                for (index, size) in sizes.enumerated() {
                    let message = try await messages.next()
                    #expect(message == .binary(payload(size, seed: UInt64(index))), "message of \(size) bytes")
                }
                try await expect(.text("grüße"), from: &messages)
                try await expect(.text(""), from: &messages)
                try await sending
            }
        }
        await pair.close()
    }

    @Test("RFC 8899: over loopback datagrams grow to what the configuration allows", arguments: [16_373, 9000, 1200])
    func datagramSize(limit: Int) async throws {
        var configuration = ConnectedPair.loopback()
        configuration.maximumDatagramSize = limit
        let pair = try await ConnectedPair.make(configuration: configuration)
        // DTLS adds 37 bytes to packets of whole words
        let expected = (limit - 37) / 4 * 4 + 37
        try await within(.seconds(120)) {
            while await pair.offerer.getStats().sctpTransport.everyframe.datagramSize != expected { try await Task.sleep(for: .milliseconds(5)) }
            while await pair.answerer.getStats().sctpTransport.everyframe.datagramSize != expected { try await Task.sleep(for: .milliseconds(5)) }
        }
        let received = Task {
            var received: [DataChannel.Message] = []
            for try await message in pair.right.messages {
                received.append(message)
                if received.count == 4 { break }
            }
            return received
        }
        let message = payload(1 << 20, seed: 3)
        for _ in 0..<4 { try await pair.left.send(message) }
        #expect(try await received.value == Array(repeating: .binary(message), count: 4))
        let datagrams = await pair.answerer.getStats().transport.packetsReceived
        #expect(datagrams >= 4 << 20 / limit)
        // those before the path was measured are small
        #expect(datagrams < 2 * (4 << 20) / limit + 1500)
        await pair.close()
    }

    @Test("Whoever leaves a loop over messages and begins another one loses nothing")
    func leftLoop() async throws {
        let pair = try await ConnectedPair.make()
        try await within(.seconds(60)) {
            for number in 0..<20 { try await pair.left.send("\(number)") }
            try await pair.left.drained()
            var texts: [DataChannel.Message] = []
            while texts.count < 20 {
                for try await message in pair.right.messages {
                    texts.append(message)
                    if texts.count.isMultiple(of: 3) { break }
                    if texts.count == 20 { break }
                }
            }
            #expect(texts == (0..<20).map { .text("\($0)") })
        }
        await pair.close()
    }

    @Test("RFC 8841 §6.1: a message beyond the peer's limit is refused before a byte goes out, and the channel lives on")
    func tooLarge() async throws {
        var small = ConnectedPair.loopback()
        small.maxMessageSize = 1000
        let pair = try await ConnectedPair.make(configuration: small)
        await #expect {
            try await pair.left.send(payload(1001, seed: 1))
        } throws: { ($0 as? DataChannelError)?.code == .messageTooLarge }
        try await pair.left.send(payload(1000, seed: 1))
        var messages = pair.right.messages.makeAsyncIterator()
        try await expect(.binary(payload(1000, seed: 1)), from: &messages)
        await pair.close()
    }

    @Test("Closing a channel delivers what was sent before; both ends see the end")
    func channelClose() async throws {
        let pair = try await ConnectedPair.make()
        let counting = Task {
            var count = 0
            for try await _ in pair.right.messages { count += 1 }
            return count
        }
        for index in 0..<200 { try await pair.left.send(payload(10_000, seed: UInt64(index))) }
        try await within(.seconds(120)) { await pair.left.close() }
        let count = try await within(.seconds(120)) { try await counting.value }
        #expect(count == 200)
        #expect(await pair.right.readyState == .closed)
        await #expect(throws: DataChannelError.self) { try await pair.left.send("late") }
        await pair.close()
    }

    @Test("The connection's end, by either side, ends everything that waits", arguments: [true, false])
    func connectionClose(byOfferer: Bool) async throws {
        let pair = try await ConnectedPair.make()
        let reading = Task { for try await _ in pair.right.messages {} }
        let events = Task { for await _ in pair.offerer.events {} }
        let draining = Task {
            for _ in 0..<1000 { try await pair.left.send(payload(1 << 20, seed: 1)) }
        }
        try await pair.left.send("hello")
        await (byOfferer ? pair.offerer : pair.answerer).close()
        _ = await within20 { _ = await reading.result }
        _ = await within20 { _ = await events.result }
        let sent = await draining.result
        #expect(throws: (any Error).self) { try sent.get() }
        await pair.close()
        #expect(await pair.offerer.connectionState == .closed)
        #expect(await pair.answerer.connectionState == .closed)
    }

    private func within20(_ body: @escaping @Sendable () async -> Void) async -> Bool {
        (try? await within(.seconds(120)) { await body() }) != nil
    }

    @Test("A paused reader stops the sender: the buffered amount stays bounded, memory too, and all arrives when reading goes on")
    func backpressure() async throws {
        var configuration = ConnectedPair.loopback()
        configuration.receiveWindow = 1 << 20
        let pair = try await ConnectedPair.make(configuration: configuration)
        let count = 160
        let sending = Task {
            for index in 0..<count { try await pair.left.send(payload(65_536, seed: UInt64(index))) }
        }
        // the sender has filled both windows when its buffer stands above the mark and stays
        try await within(.seconds(120)) {
            while await pair.left.bufferedAmount <= DataChannel.defaultHighWaterMark, !Task.isCancelled { await Task.yield() }
        }
        #expect(await pair.left.bufferedAmount <= DataChannel.defaultHighWaterMark + 65_536)
        #expect(await pair.answerer.getStats().sctpTransport.everyframe.messageBytesReceived <= 3 << 20)
        try await within(.seconds(120)) {
            var messages = pair.right.messages.makeAsyncIterator()
            for index in 0..<count { try await expect(.binary(payload(65_536, seed: UInt64(index))), from: &messages) }
        }
        try await sending.value
        try await within(.seconds(120)) { try await pair.left.drained() }
        await pair.close()
    }

    @Test("A cancelled send sends nothing, a cancelled read says so, and the channel goes on")
    func cancellation() async throws {
        let pair = try await ConnectedPair.make()
        let reading = Task { () -> DataChannelError? in
            var messages = pair.right.messages.makeAsyncIterator()
            do throws(DataChannelError) { _ = try await messages.next() } catch { return error }
            return nil
        }
        reading.cancel()
        #expect(await reading.value?.code == .cancelled)

        await pair.left.setBufferedAmountHighWaterMark(100_000)
        let sending = Task {
            var sent = 0
            while true {
                do { try await pair.left.send(payload(200_000, seed: UInt64(sent))) } catch { return sent }
                sent += 1
                if sent == 300 { return sent }
            }
        }
        try await within(.seconds(120)) { while await pair.left.bufferedAmount < 100_000, !Task.isCancelled { await Task.yield() } }
        sending.cancel()
        let sent = await sending.value
        try await within(.seconds(120)) {
            var messages = pair.right.messages.makeAsyncIterator()
            for index in 0..<sent { try await expect(.binary(payload(200_000, seed: UInt64(index))), from: &messages) }
            try await pair.left.send("next")
            try await expect(.text("next"), from: &messages)
        }
        await pair.close()
    }

    @Test("Fifty channels in one connection, some negotiated, each carries its own messages")
    func manyChannels() async throws {
        let pair = try await ConnectedPair.make()
        try await within(.seconds(120)) {
            var mine: [DataChannel] = []
            for index in 0..<50 { mine.append(try await pair.offerer.createDataChannel("c\(index)")) }
            for (index, channel) in mine.enumerated() { try await channel.send("message \(index)") }
            var seen = 0
            for await event in pair.answerer.events {
                guard case .dataChannel(let channel) = event else { continue }
                var messages = channel.messages.makeAsyncIterator()
                try await expect(.text("message \(channel.label.dropFirst())"), from: &messages)
                try await channel.send("back")
                seen += 1
                if seen == 50 { break }
            }
            for channel in mine {
                var messages = channel.messages.makeAsyncIterator()
                try await expect(.text("back"), from: &messages)
            }
            let options = DataChannel.Options(ordered: false, negotiated: true, id: 500)
            let one = try await pair.offerer.createDataChannel("n", options)
            let other = try await pair.answerer.createDataChannel("n", options)
            try await one.send("negotiated")
            var messages = other.messages.makeAsyncIterator()
            try await expect(.text("negotiated"), from: &messages)
        }
        await pair.close()
    }

    @Test("One shared port serves many connections at once, and forgets them when they close")
    func sharedEndpoint() async throws {
        let endpoint = try await UDPEndpoint.bind(host: "127.0.0.1")
        var pairs: [ConnectedPair] = []
        for index in 0..<8 { pairs.append(try await ConnectedPair.make(label: "c\(index)", answererEndpoint: endpoint)) }
        for (index, pair) in pairs.enumerated() {
            try await pair.left.send("to \(index)")
            try await pair.right.send("from \(index)")
        }
        for (index, pair) in pairs.enumerated() {
            var right = pair.right.messages.makeAsyncIterator()
            var left = pair.left.messages.makeAsyncIterator()
            try await expect(.text("to \(index)"), from: &right)
            try await expect(.text("from \(index)"), from: &left)
        }
        for pair in pairs { await pair.close() }
        #expect(await endpoint.statistics().segmentedSendCalls >= 0)
        await endpoint.close()
        await #expect(throws: PeerConnectionError.self) { try await PeerConnection(endpoint: endpoint) }
    }

    @Test("RFC 8838: with trickled candidates and a channel made after negotiation")
    func trickle() async throws {
        let offerer = try await PeerConnection(configuration: ConnectedPair.loopback())
        let answerer = try await PeerConnection(configuration: ConnectedPair.loopback())
        @Sendable func forward(_ from: PeerConnection, _ to: PeerConnection, _ channels: AsyncStream<DataChannel>.Continuation? = nil) -> Task<Void, any Error>
        {
            Task {
                for await event in from.events {
                    switch event {
                    case .iceCandidate(let candidate): try? await to.addIceCandidate(IceCandidate(sdp: candidate.sdp))
                    case .iceGatheringStateChanged(.complete): try? await to.addIceCandidate(nil)
                    case .dataChannel(let channel): channels?.yield(channel)
                    default: break
                    }
                }
            }
        }
        let offer = try await offerer.createOffer()
        try await answerer.setRemoteDescription(offer)
        let (channels, continuation) = AsyncStream.makeStream(of: DataChannel.self)
        let answer = try await answerer.createAnswer()
        try await offerer.setLocalDescription(offer)
        try await offerer.setRemoteDescription(answer)
        try await answerer.setLocalDescription(answer)
        let one = forward(offerer, answerer)
        let two = forward(answerer, offerer, continuation)
        try await offerer.waitUntilConnected(timeout: .seconds(60))
        let channel = try await offerer.createDataChannel("later")
        try await channel.send("hello")
        try await within(.seconds(120)) {
            var iterator = channels.makeAsyncIterator()
            guard let other = await iterator.next() else { throw Ended() }
            var messages = other.messages.makeAsyncIterator()
            try await expect(.text("hello"), from: &messages)
        }
        await offerer.close()
        await answerer.close()
        one.cancel()
        two.cancel()
    }

    @Test("A connection to nobody: waiting is bounded, an ICE failure has its reason, close wakes all")
    func nobody() async throws {
        let offerer = try await PeerConnection(configuration: ConnectedPair.loopback())
        let channel = try await offerer.createDataChannel("x")
        try await offerer.setLocalDescription()
        await #expect {
            try await offerer.waitUntilConnected(timeout: .milliseconds(50))
        } throws: { ($0 as? PeerConnectionError)?.code == .timedOut }
        let opening = Task { try await channel.waitUntilOpen() }
        await offerer.close()
        let result = await opening.result
        #expect(throws: DataChannelError.self) { try result.get() }
        await #expect(throws: PeerConnectionError.self) { try await offerer.createOffer() }
    }

    @Test("RFC 8122: a wrong fingerprint fails with that reason")
    func fingerprint() async throws {
        let offerer = try await PeerConnection(configuration: ConnectedPair.loopback())
        let answerer = try await PeerConnection(configuration: ConnectedPair.loopback())
        _ = try await offerer.createDataChannel("x")
        try await offerer.setLocalDescription()
        try await answerer.setRemoteDescription(try await offerer.gatheringComplete())
        try await answerer.setLocalDescription()
        var answer = try await answerer.gatheringComplete()
        let lines = answer.sdp.split(separator: "\r\n").map { line -> String in
            guard line.hasPrefix("a=fingerprint:") else { return String(line) }
            return String(line.dropLast(2)) + (line.hasSuffix("00") ? "01" : "00")
        }
        answer.sdp = lines.map { $0 + "\r\n" }.joined()
        try await offerer.setRemoteDescription(answer)
        await #expect {
            try await offerer.waitUntilConnected(timeout: .seconds(60))
        } throws: { ($0 as? PeerConnectionError)?.code == .fingerprintMismatch }
        #expect(await offerer.connectionState == .failed)
        await offerer.close()
        await answerer.close()
    }

    /// In a process of its own (scripts/check): what other tests open meanwhile would count.
    private static let rounds = getenv("EVERYFRAME_CYCLES").flatMap { Int(String(cString: $0)) }

    @Test("Connect, transfer, close, over and over: no descriptor and no memory stays behind", .enabled(if: rounds != nil))
    func cycles() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let rounds = Self.rounds ?? 0
        func cycle(_ index: Int) async throws {
            let pair = try await ConnectedPair.make(group: group)
            try await pair.left.send(payload(20_000, seed: UInt64(index)))
            var messages = pair.right.messages.makeAsyncIterator()
            try await expect(.binary(payload(20_000, seed: UInt64(index))), from: &messages)
            await pair.close()
        }
        for index in 0..<20 { try await cycle(index) }
        let descriptors = openDescriptors()
        let memory = residentMemory()
        for index in 0..<rounds { try await cycle(index) }
        #expect(openDescriptors() <= descriptors)
        #expect(residentMemory() - memory < 8 << 20, "grew by \((residentMemory() - memory) >> 10) KiB in \(rounds) rounds")
        try await group.shutdownGracefully()
    }

    @Test("A connection whose last reference goes closes itself", .enabled(if: rounds != nil))
    func abandoned() async throws {
        // what a process opens once for all of its connections
        await (try await ConnectedPair.make()).close()
        let before = openDescriptors()
        do {
            let pair = try await ConnectedPair.make()
            try await pair.left.send("x")
        }
        try await within(.seconds(120)) { while openDescriptors() > before, !Task.isCancelled { await Task.yield() } }
    }
}
