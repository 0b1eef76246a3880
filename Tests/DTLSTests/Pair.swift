import Ciphers
import DTLS
import NIOCore
import NetworkSimulator
import Wire

/// Two engines and a link each way, stepped from deadline to deadline in the engines' own time.
struct Pair: ~Copyable {
    struct Side: ~Copyable {
        var engine: DTLSEngine
        var events: [DTLSEvent] = []
        var received = PacketBatch()
        /// Datagrams that were sent, by size.
        var sizes: [Int] = []
    }

    var client: Side
    var server: Side
    var toServer: Link
    var toClient: Link
    var now = Instant.zero

    init(
        conditions: LinkConditions = .instant, seed: UInt64 = 1, configuration: DTLSConfiguration = .init(),
        clientCertificate: Certificate? = nil, serverCertificate: Certificate? = nil,
        clientTrusts: [Fingerprint]? = nil, serverTrusts: [Fingerprint]? = nil
    ) throws {
        let clientCertificate = try clientCertificate ?? Certificates.client.get()
        let serverCertificate = try serverCertificate ?? Certificates.server.get()
        let clientEngine = try DTLSEngine(
            role: .client, certificate: clientCertificate, remoteFingerprints: clientTrusts ?? [serverCertificate.fingerprint],
            configuration: configuration)
        let serverEngine = try DTLSEngine(
            role: .server, certificate: serverCertificate, remoteFingerprints: serverTrusts ?? [clientCertificate.fingerprint],
            configuration: configuration)
        client = Side(engine: clientEngine)
        server = Side(engine: serverEngine)
        toServer = Link(conditions, seed: seed)
        toClient = Link(conditions, seed: seed &+ 0x9E37)
    }

    mutating func start() {
        server.engine.start(at: now)
        client.engine.start(at: now)
        flush()
    }

    /// Sends what both have to say.
    mutating func flush() {
        var batch = PacketBatch()
        while let event = client.engine.poll(into: &batch) { client.events.append(event) }
        for index in 0..<batch.count { client.sizes.append(batch.range(index).count) }
        Self.send(batch, over: &toServer, at: now)
        batch.removeAll()
        while let event = server.engine.poll(into: &batch) { server.events.append(event) }
        for index in 0..<batch.count { server.sizes.append(batch.range(index).count) }
        Self.send(batch, over: &toClient, at: now)
    }

    /// One step of time; false when nothing is left to happen.
    mutating func step() -> Bool {
        let links = earliest(toServer.deadline, toClient.deadline)
        let engines = earliest(client.engine.deadline, server.engine.deadline)
        guard let next = earliest(links, engines) else { return false }
        now = max(now, next)
        while let datagram = toServer.receive(at: now) { server.engine.handle(datagram, at: now, into: &server.received) }
        while let datagram = toClient.receive(at: now) { client.engine.handle(datagram, at: now, into: &client.received) }
        if let deadline = client.engine.deadline, deadline <= now { client.engine.handleTimeout(at: now) }
        if let deadline = server.engine.deadline, deadline <= now { server.engine.handleTimeout(at: now) }
        flush()
        return true
    }

    /// Steps until nothing is left to happen or `limit` of time is over.
    mutating func run(for limit: Duration = .seconds(120)) {
        let end = now + limit
        var steps = 0
        while now < end, steps < 100_000, step() { steps += 1 }
    }

    mutating func connect() {
        start()
        run()
    }

    mutating func sendToServer(_ packets: borrowing PacketBatch) throws {
        var records = PacketBatch()
        try client.engine.seal(packets, into: &records)
        Self.send(records, over: &toServer, at: now)
    }

    static var one: PacketBatch { batch([[1]]) }

    static func send(_ batch: borrowing PacketBatch, over link: inout Link, at now: Instant) {
        for index in 0..<batch.count { if let packet = batch.packet(index) { link.send(packet, at: now) } }
    }
}

extension LinkConditions {
    static var instant: LinkConditions {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(1)
        return conditions
    }
}

/// Made once: key generation is what costs.
enum Certificates {
    static let client = Result { try Certificate.selfSigned() }
    static let server = Result { try Certificate.selfSigned() }
    static let other = Result { try Certificate.selfSigned() }
    static let rsa = Result { try Certificate.selfSigned(key: .rsa2048) }
}

func batch(_ packets: [[UInt8]]) -> PacketBatch {
    var batch = PacketBatch()
    for packet in packets { batch.append(ByteBuffer(bytes: packet)) }
    return batch
}

func packets(_ batch: borrowing PacketBatch) -> [[UInt8]] {
    (0..<batch.count).map { index in batch.packet(index).map { Array($0.readableBytesView) } ?? [] }
}
