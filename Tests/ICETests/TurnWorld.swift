import Ciphers
import ICE
import NIOCore
import Testing
import Wire

/// A TURN client and a server that follows a script, in virtual time, `delay` apart.
final class TurnWorld {
    static let relayed = address("203.0.113.9", 50_000)
    static let mapped = address("198.51.100.7", 4000)
    static let peer = address("192.0.2.33", 7000)

    var client: TurnClient
    var now = Instant.zero
    var delay: Duration = .milliseconds(20)
    /// Events and what peers sent, with their times.
    var events: [(at: Instant, event: TurnClient.Event)] = []
    var received: [TurnClient.Received] = []

    // MARK: The server's script

    var username = "user"
    var password = "secret"
    var realm = "example.org"
    /// Grows with each challenge; only the last one is good.
    var nonce = 0
    /// How long a nonce is good.
    var nonceLifetime: Duration = .seconds(100_000)
    private var nonceIssued = Instant.zero
    var lifetime: UInt32 = 600
    var algorithms: [UInt8] = []
    /// Given a request's method and how often that came so far, an error to answer with instead.
    var refusal: (_ method: UInt16, _ count: Int) -> (Int, String)? = { _, _ in nil }
    /// What is not delivered: to the server, and to the client.
    var losesRequest: (_ count: Int) -> Bool = { _ in false }
    var losesAnswer: (_ count: Int) -> Bool = { _ in false }
    /// Changes an answer on its way.
    var tampers: (StunMessage) -> StunMessage? = { _ in nil }
    var signs = true

    var allocationEnds: Instant?
    var permissions: [TransportAddress.IP: Instant] = [:]
    var channels: [UInt16: (peer: TransportAddress, ends: Instant)] = [:]
    /// Requests that reached the server, by method.
    var requests: [(at: Instant, method: UInt16)] = []
    /// What reached peers.
    var relayedToPeers: [(at: Instant, datagram: ByteBuffer, peer: TransportAddress, isChannel: Bool)] = []
    /// Data that the server dropped for want of a permission or channel.
    var dropped = 0

    private var toServer: [(due: Instant, message: ByteBuffer)] = []
    private var toClient: [(due: Instant, message: ByteBuffer)] = []
    private var sent = 0, answered = 0

    init(transport: TurnClient.Transport = .udp, password: String = "secret", configure: (inout TurnClient.Configuration) -> Void = { _ in }) {
        var configuration = TurnClient.Configuration(transport: transport, username: "user", password: password)
        configure(&configuration)
        client = TurnClient(configuration: configuration, generator: SplitMix64(seed: 7))
    }

    var errors: [TurnError] { events.compactMap { if case .failed(let error) = $0.event { error } else { nil } } }

    func allocate() { client.start(at: now); run(.seconds(5)) { self.client.allocation != nil } }

    func send(_ text: String, to peer: TransportAddress = TurnWorld.peer) {
        var batch = PacketBatch()
        client.send(ByteBuffer(string: text), to: peer, at: now, into: &batch)
        drain(&batch)
    }

    /// A peer sends to the relayed address.
    func peerSends(_ text: String, from peer: TransportAddress = TurnWorld.peer) {
        guard permissions[peer.ip].map({ $0 > now }) ?? false else { dropped += 1; return }
        if let channel = channels.first(where: { $0.value.peer == peer && $0.value.ends > now }) {
            var message = ByteBuffer()
            message.writeMultipleIntegers(channel.key, UInt16(text.utf8.count))
            message.writeString(text)
            toClient.append((now + delay, message))
        } else {
            let data = StunMessage(
                .indication, method: StunMessage.dataIndication, transactionID: StunTransactionID(high: 1, low: 2),
                attributes: [.xorPeerAddress(peer), .data(Array(text.utf8))])
            toClient.append((now + delay, data.encoded()))
        }
    }

    func inject(_ message: ByteBuffer) {
        if let received = client.handle(message, at: now) { self.received.append(received) }
        var batch = PacketBatch()
        drain(&batch)
    }

    private func drain(_ batch: inout PacketBatch) {
        while let event = client.poll(into: &batch) { events.append((now, event)) }
        for index in 0..<batch.count {
            guard let message = batch.packet(index) else { continue }
            sent += 1
            if !losesRequest(sent) { toServer.append((now + delay, ByteBuffer(message.readableBytesView))) }
        }
    }

    @discardableResult
    func run(_ duration: Duration, until condition: () -> Bool = { false }) -> Bool {
        let end = now + duration
        var idle = 0
        while true {
            var batch = PacketBatch()
            drain(&batch)
            if condition() { return true }
            var next = client.deadline
            next = earliest(next, toServer.map(\.due).min())
            next = earliest(next, toClient.map(\.due).min())
            guard let next, next <= end else {
                now = end
                return condition()
            }
            idle = next <= now ? idle + 1 : 0
            guard idle < 1000 else {
                Issue.record("no progress at \(now)")
                return false
            }
            now = max(now, next)
            while let index = toServer.firstIndex(where: { $0.due <= now }) { serve(toServer.remove(at: index).message) }
            while let index = toClient.firstIndex(where: { $0.due <= now }) { inject(toClient.remove(at: index).message) }
            if client.deadline.map({ $0 <= now }) ?? false { client.handleTimeout(at: now) }
        }
    }

    // MARK: The server

    private func serve(_ message: ByteBuffer) {
        if let number = message.getInteger(at: message.readerIndex, as: UInt16.self), number >> 14 == 1 {
            guard let channel = channels[number], channel.ends > now, permissions[channel.peer.ip].map({ $0 > now }) ?? false,
                let length = message.getInteger(at: message.readerIndex + 2, as: UInt16.self),
                let data = message.getSlice(at: message.readerIndex + 4, length: Int(length))
            else { dropped += 1; return }
            relayedToPeers.append((now, data, channel.peer, true))
            return
        }
        guard let request = try? StunMessage(parsing: message) else {
            Issue.record("the client sent what is no STUN message")
            return
        }
        var peer: TransportAddress?
        var number: UInt16?
        var data: [UInt8]?
        var theirNonce: String?
        for attribute in request.attributes {
            switch attribute {
            case .xorPeerAddress(let address): peer = address
            case .channelNumber(let value): number = value
            case .data(let bytes): data = bytes
            case .nonce(let text): theirNonce = text
            default: continue
            }
        }
        if request.messageClass == .indication {
            guard let peer, let data, permissions[peer.ip].map({ $0 > now }) ?? false else { dropped += 1; return }
            relayedToPeers.append((now, ByteBuffer(bytes: data), peer, false))
            return
        }
        let count = requests.count { $0.method == request.method }
        requests.append((now, request.method))
        if let (code, reason) = refusal(request.method, count) {
            var attributes: [StunAttribute] = [.errorCode(code, reason)]
            if code == 300 { attributes.append(.alternateServer(address("203.0.113.10", 3478))) }
            return answer(request, .error, attributes)
        }
        guard request.hasIntegrity else { return challenge(request, 401) }
        guard request.integrity(key: key) == .right else { return challenge(request, 401) }
        guard theirNonce == "n\(nonce)", nonceIssued + nonceLifetime > now else { return challenge(request, 438) }
        switch request.method {
        case StunMessage.allocate:
            allocationEnds = now + .seconds(Int64(lifetime))
            answer(request, .success, [.xorRelayedAddress(Self.relayed), .xorMappedAddress(Self.mapped), .lifetime(lifetime)])
        case StunMessage.refresh:
            guard let ends = allocationEnds, ends > now else { return answer(request, .error, [.errorCode(437, "Allocation Mismatch")]) }
            let wanted = request.attributes.contains(.lifetime(0)) ? 0 : lifetime
            allocationEnds = wanted == 0 ? nil : now + .seconds(Int64(wanted))
            answer(request, .success, [.lifetime(wanted)])
        case StunMessage.createPermission:
            guard let peer else { return }
            permissions[peer.ip] = now + .seconds(300)
            answer(request, .success, [])
        case StunMessage.channelBind:
            guard let peer, let number else { return }
            if let known = channels[number], known.peer != peer, known.ends + .seconds(300) > now {
                Issue.record("RFC 8656 §12: channel \(number) meant another peer")
            }
            if let other = channels.first(where: { $0.value.peer == peer && $0.key != number }), other.value.ends > now {
                return answer(request, .error, [.errorCode(400, "the peer has a channel")])
            }
            channels[number] = (peer, now + .seconds(600))
            permissions[peer.ip] = now + .seconds(300)
            answer(request, .success, [])
        default: Issue.record("method \(request.method)")
        }
    }

    var key: [UInt8] {
        MessageDigest.digest(algorithms.isEmpty ? .md5 : .sha256, of: Array("\(username):\(realm):\(password)".utf8)) ?? []
    }

    private func challenge(_ request: StunMessage, _ code: Int) {
        nonce += 1
        nonceIssued = now
        var attributes: [StunAttribute] = [.errorCode(code, ""), .realm(realm), .nonce("n\(nonce)")]
        if !algorithms.isEmpty { attributes.append(.passwordAlgorithms(algorithms)) }
        respond(StunMessage(.error, method: request.method, transactionID: request.transactionID, attributes: attributes), .none)
    }

    private func answer(_ request: StunMessage, _ messageClass: StunMessage.Class, _ attributes: [StunAttribute]) {
        let response = StunMessage(messageClass, method: request.method, transactionID: request.transactionID, attributes: attributes)
        respond(response, !signs || !request.hasIntegrity ? .none : request.usesSHA256 ? .sha256(key: key) : .sha1(key: key))
    }

    private func respond(_ response: StunMessage, _ protection: StunMessage.Protection) {
        answered += 1
        guard !losesAnswer(answered) else { return }
        if let forged = tampers(response) { toClient.append((now + delay / 2, forged.encoded())) }
        toClient.append((now + delay, response.encoded(protection)))
    }
}
