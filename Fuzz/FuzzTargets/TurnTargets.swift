import ICE
import NIOCore
import Wire

extension FuzzTarget {
    /// A TURN client whose server sends what the bytes say: whole messages of its own making, its real answers damaged, data, silence and time.
    static let turnClient = FuzzTarget(name: "turn-client") { input in
        var commands = Commands(input)
        var world = TurnPair(first: commands.byte())
        while !commands.isAtEnd { world.perform(&commands) }
    }

    /// What a TURN server sends over TCP or TLS, in pieces; each message cut out is handed to a client.
    static let turnStream = FuzzTarget(name: "turn-stream") { input in
        var commands = Commands(input)
        var stream = TurnStream()
        var client = TurnClient(configuration: .init(transport: .tcp, username: "u", password: "p"), generator: SplitMix64(seed: 1))
        client.start(at: .zero)
        while !commands.isAtEnd {
            stream.append(commands.take(commands.number(below: 64) + 1))
            while let message = try? stream.next() {
                require(message.readableBytes >= 4, "a message without a header")
                _ = client.handle(message, at: .zero)
            }
        }
    }
}

private struct TurnPair: ~Copyable {
    private var client: TurnClient
    private var now = Instant.zero
    private var requests: [ByteBuffer] = []
    private static let peers = (1...4).map { TransportAddress(ip: .v4(0xC000_0200 + UInt32($0)), port: UInt16($0)) }

    init(first: UInt8) {
        var configuration = TurnClient.Configuration(transport: first & 1 == 0 ? .udp : .tcp, username: "u", password: "p")
        configuration.maximumPeers = 3
        client = TurnClient(configuration: configuration, generator: SplitMix64(seed: UInt64(first)))
    }

    mutating func perform(_ commands: inout Commands) {
        var batch = PacketBatch()
        switch commands.number(below: 10) {
        case 0: client.start(at: now)
        case 1: client.close(at: now)
        case 2: client.connectionLost(.timedOut, at: now)
        case 3: advance(.milliseconds(Int(commands.byte()) * 8))
        case 4: advance(.seconds(Int(commands.byte()) * 4))
        case 5, 6:
            let peer = Self.peers[commands.number(below: 4)]
            client.send(commands.take(commands.number(below: 16)), to: peer, at: now, into: &batch)
        case 7: _ = client.handle(commands.take(commands.number(below: 64)), at: now)
        default: answer(&commands)
        }
        settle(&batch)
    }

    /// An answer to one of the last requests: unsigned, as a challenge is, or signed with the right key, in which case it may say anything.
    private mutating func answer(_ commands: inout Commands) {
        guard !requests.isEmpty, let request = try? StunMessage(parsing: requests[commands.number(below: requests.count)]) else { return }
        let choice = commands.byte()
        let codes = [300, 400, 401, 403, 437, 438, 440, 486, 508]
        var attributes: [StunAttribute] = [.realm("r"), .nonce("n\(choice)")]
        let isError = choice & 1 != 0
        if isError { attributes.append(.errorCode(codes[commands.number(below: codes.count)], "")) }
        if choice & 2 != 0 { attributes.append(.lifetime(UInt32(commands.byte()) * 8)) }
        if choice & 4 != 0 { attributes.append(.xorRelayedAddress(TransportAddress(ip: .v4(UInt32(commands.byte()) << 24 | 1), port: 9))) }
        if choice & 8 != 0 { attributes.append(.xorMappedAddress(TransportAddress(ip: .v4(0x0A00_0001), port: 9))) }
        if choice & 16 != 0 { attributes.append(.alternateServer(TransportAddress(ip: .v4(0x0A00_0002), port: UInt16(commands.byte())))) }
        if choice & 32 != 0 { attributes.append(.passwordAlgorithms(Array(commands.take(commands.number(below: 12)).readableBytesView))) }
        // RFC 8489 §9.2.2: MD5 of "u:r:p"
        let key: [UInt8] = [0x44, 0xad, 0xd2, 0x2b, 0x6f, 0x31, 0x79, 0xb7, 0x51, 0xea, 0xfd, 0x68, 0xee, 0x37, 0x0f, 0x7d]
        let response = StunMessage(isError ? .error : .success, method: request.method, transactionID: request.transactionID, attributes: attributes)
        _ = client.handle(response.encoded(choice & 64 != 0 ? .sha1(key: key) : .none), at: now)
    }

    private mutating func advance(_ duration: Duration) {
        let end = now + duration
        for _ in 0..<64 {
            guard let next = client.deadline, next <= end else { break }
            now = max(now, next)
            client.handleTimeout(at: now)
            require(client.deadline.map { $0 > now } ?? true, "a deadline stays at \(now)")
            var batch = PacketBatch()
            settle(&batch)
        }
        now = max(now, end)
        client.handleTimeout(at: now)
    }

    private mutating func settle(_ batch: inout PacketBatch) {
        var events = 0
        while client.poll(into: &batch) != nil {
            events += 1
            require(events < 1000, "events without end")
        }
        for index in 0..<batch.count { if let message = batch.packet(index) { requests.append(ByteBuffer(message.readableBytesView)) } }
        if requests.count > 16 { requests.removeFirst(requests.count - 16) }
    }
}
