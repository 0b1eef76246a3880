import FrameTransport
public import Logging
import NIOCore
import WebRTC
public import WebRTCNIO
import Wire

/// Finds out which step of reaching a server fails, and what to do about it: names, HTTP, signalling, UDP, DTLS, SCTP, packet size, round trip,
/// throughput; and STUN and TURN servers beside it.
///
///     let diagnosis = await Doctor(configuration: .init(server: "http://127.0.0.1:9001")).run { print($0.detail) }
///
/// It opens one session at the server, for some seconds and with the same key as a stream, and sends a few MiB.
public struct Doctor: Sendable {
    public var configuration: StreamConfiguration
    /// Asked one by one, as well as those that the server names; `stun:` URLs only need one.
    public var servers: [PeerConnection.IceServer] = []
    /// For each of the steps that wait for an answer.
    public var patience: Duration = .seconds(10)
    private let log: Logger

    public init(configuration: StreamConfiguration, logger: Logger? = nil) {
        self.configuration = configuration
        log = logger ?? Logger(label: "everyframe.doctor", factory: { _ in SwiftLogNoOpLogHandler() })
    }

    /// Tries everything, as far as it comes.
    /// - Parameter onFinding: told of each step when it is over.
    /// - Throws: what is wrong with the configuration.
    public func run(_ onFinding: @Sendable (Diagnosis.Finding) async -> Void = { _ in }) async throws(StreamError) -> Diagnosis {
        try configuration.validate()
        let url = try ServerURL(configuration.server)
        var diagnosis = Diagnosis(server: configuration.server)
        func note(_ finding: Diagnosis.Finding, since start: Instant) async -> Bool {
            var finding = finding
            finding.milliseconds = (Instant.now - start).inMilliseconds
            diagnosis.findings.append(finding)
            await onFinding(finding)
            return finding.outcome != .failed
        }
        var servers = servers
        reach: do {
            var start = Instant.now
            let (names, addresses) = await resolve(url)
            guard await note(names, since: start) else {
                diagnosis.refusal = StreamError(.serverUnreachable, names.detail)
                break reach
            }
            start = .now
            let (http, refusal) = await askHealth(url, addresses)
            diagnosis.refusal = refusal
            guard await note(http, since: start) else { break reach }
            start = .now
            let patient: PeerConnection
            do {
                patient = try await PeerConnection(configuration: configuration.peerConfiguration, logger: log)
            } catch {
                _ = await note(.init(.udp, .failed, "no UDP socket can be bound here: \(error)"), since: start)
                break reach
            }
            let session: Session
            switch await signal(patient) {
            case .success(let opened): session = opened
            case .failure(let error):
                diagnosis.refusal = error
                _ = await note(Self.words(for: error), since: start)
                await patient.close()
                break reach
            }
            servers += session.answer.whip?.iceServers ?? []
            _ = await note(session.finding, since: start)
            let trickle = session.answer.whip.map { whip in Task { await whip.trickle(patient) } }
            for examination in [connect, dtls, sctp, packetSize, roundTrip, throughput] {
                start = .now
                let finding = await examination(session)
                // without a probe channel there is no throughput either
                guard await note(finding, since: start), finding.outcome != .skipped else { break }
            }
            trickle?.cancel()
            await patient.close()
            await session.answer.whip?.end()
        }
        for server in servers {
            for url in server.urls {
                let start = Instant.now
                _ = await note(await ask(url, of: server), since: start)
            }
        }
        let tried = Set(diagnosis.findings.map(\.step))
        for step in Diagnosis.Step.allCases where !tried.contains(step) {
            let why = step == .stun || step == .turn ? "no such server was named" : "an earlier step did not come through"
            _ = await note(.init(step, .skipped, why), since: .now)
        }
        return diagnosis
    }

    /// A session at the server, while it is examined.
    struct Session: Sendable {
        let peer: PeerConnection
        let probe: DataChannel
        let answer: Signalling.Answer
        let finding: Diagnosis.Finding
    }

    private func signal(_ peer: PeerConnection) async -> Result<Session, StreamError> {
        do {
            let probe = try await peer.createDataChannel(ProbeMessage.label, .init(protocol: ProbeMessage.subprotocol))
            let answer = try await Signalling(configuration: configuration).negotiate(peer, declaredFPS: nil, timeout: patience)
            let theirs = (try? SDP(parsing: answer.sdp)).flatMap { try? TrickleFragment($0) }
            let candidates = (theirs?.candidates ?? []).compactMap { try? IceCandidate(sdp: $0) }.compactMap { $0.transportAddress.map { "\($0)" } }
            let route = answer.whip == nil ? "the JSON route: this server has no WHIP" : "WHIP"
            let finding = Diagnosis.Finding(
                .signalling, .ok, "the server answers an offer over \(route), with \(candidates.count) addresses: \(candidates.joined(separator: ", "))",
                ["whip": .bool(answer.whip != nil), "server_candidates": .array(candidates.map(JSON.string))])
            return .success(Session(peer: peer, probe: probe, answer: answer, finding: finding))
        } catch {
            return .failure(error as? StreamError ?? StreamError(.cannotConnect, "\(error)"))
        }
    }

    private static func words(for error: StreamError) -> Diagnosis.Finding {
        let advice =
            switch error.status {
            case 401, 403: "give the server's key with --api-key or EVERYFRAME_API_KEY"
            case 503: "wait for a place, or raise --max-sessions at the server"
            default: error.code == .badAnswer ? "look whether the URL is that of an Everyframe server: host, port and path" : nil as String?
            }
        return .init(.signalling, .failed, error.description, advice: advice, error.status.map { ["status": .integer($0)] } ?? [:])
    }

    // MARK: The connection

    private func connect(_ session: Session) async -> Diagnosis.Finding {
        // what ICE, DTLS and SCTP do comes one after the other; the first that stands still is the one at fault
        let deadline = Instant.now + patience
        while Instant.now < deadline, !Task.isCancelled {
            let stats = await session.peer.getStats()
            if let pair = stats.selectedCandidatePair, let local = stats.selectedLocalCandidate, let remote = stats.selectedRemoteCandidate {
                let roundTrip = pair.currentRoundTripTime.map { " in \(Self.text($0 * 1e3)) ms" } ?? ""
                func address(_ candidate: IceCandidateStats) -> String { "\(candidate.address ?? "?"):\(candidate.port ?? 0) (\(candidate.candidateType))" }
                return .init(
                    .udp, .ok, "\(address(local)) reaches \(address(remote))\(roundTrip)",
                    [
                        "local": .string(address(local)), "remote": .string(address(remote)), "local_type": .string(local.candidateType),
                        "remote_type": .string(remote.candidateType), "protocol": .string(local.protocol),
                        "rtt_ms": pair.currentRoundTripTime.map { .number($0 * 1e3) } ?? .null,
                    ])
            }
            if stats.transport.iceState == "failed" { break }
            try? await Task.sleep(for: .milliseconds(20))
        }
        let stats = await session.peer.getStats()
        let remote = stats.remoteCandidates.map { "\($0.address ?? "a name that is not resolved"):\($0.port ?? 0)" }.joined(separator: ", ")
        let sent = stats.candidatePairs.reduce(0) { $0 + $1.requestsSent }
        let received = stats.candidatePairs.reduce(0) { $0 + $1.requestsReceived }
        let heard =
            received > 0
            ? "\(received) checks of the server arrived, and none of ours is answered: something lets datagrams through one way only"
            : "none of \(sent) checks to \(remote) is answered"
        return .init(
            .udp, .failed, heard,
            advice: "let UDP through to the port that the server names (fix it with --udp-port at the server); behind a NAT the server has to name its outer "
                + "address; where no UDP gets out of this network, a TURN server helps",
            ["server_candidates": .string(remote), "checks_sent": .integer(sent), "checks_received": .integer(received)])
    }

    private func dtls(_ session: Session) async -> Diagnosis.Finding {
        do {
            try await session.peer.waitUntilConnected(timeout: patience)
        } catch {
            return .init(
                .dtls, .failed, "the handshake does not come to its end: \(error)",
                advice: "something on the way changes datagrams, or the answer came from another server than the one that the datagrams reach")
        }
        let transport = await session.peer.getStats().transport
        return .init(
            .dtls, .ok, "DTLS 1.2 with \(transport.dtlsCipher ?? "?"), as its \(transport.dtlsRole); the certificate is the one that the answer promised",
            ["cipher": transport.dtlsCipher.map(JSON.string) ?? .null, "role": .string(transport.dtlsRole)])
    }

    private func sctp(_ session: Session) async -> Diagnosis.Finding {
        do {
            try await bounded(by: patience) { try await session.probe.waitUntilOpen() }
        } catch {
            return .init(.sctp, .failed, "no data channel opens: \(error)", advice: "the server's log says why it refused the association")
        }
        let sctp = await session.peer.getStats().sctpTransport
        return .init(
            .sctp, .ok, "a data channel is open; the server takes \(sctp.receiverWindow >> 10) KiB ahead", ["receive_window": .integer(sctp.receiverWindow)])
    }

    /// The search (RFC 8899) begins with the association and takes a round trip or two where nothing is lost.
    private func packetSize(_ session: Session) async -> Diagnosis.Finding {
        let deadline = Instant.now + min(patience, .seconds(3))
        var size = 0
        var since = Instant.now
        while Instant.now < deadline, Instant.now - since < .milliseconds(600), !Task.isCancelled {
            let now = await session.peer.getStats().sctpTransport.everyframe.datagramSize
            if now != size { (size, since) = (now, .now) }
            try? await Task.sleep(for: .milliseconds(20))
        }
        let values: JSONObject = ["datagram_size": .integer(size)]
        guard size > 1200 else {
            return .init(
                .mtu, .warning, "datagrams of \(size) bytes, the least that every path carries, so far",
                advice: "a tunnel on the way, or a firewall that drops larger datagrams; it works, at more cost per byte", values)
        }
        return .init(.mtu, .ok, "datagrams of \(size) bytes", values)
    }

    private func roundTrip(_ session: Session) async -> Diagnosis.Finding {
        let times: [Double]
        do {
            times = try await bounded(by: patience) {
                var messages = session.probe.messages.makeAsyncIterator()
                var times: [Double] = []
                for number in 0..<20 {
                    let start = Instant.now
                    try await session.probe.send(ProbeMessage.ping(number).text)
                    var isAnswered = false
                    while !isAnswered {
                        guard let message = try await messages.next() else { throw StreamError(.connectionLost) }
                        if case .text(let text) = message { isAnswered = ProbeMessage(text) == .pong(number) }
                    }
                    times.append((Instant.now - start).inMilliseconds)
                }
                return times
            }
        } catch {
            return .init(.roundTrip, .skipped, "the server does not answer on the probe channel: it is older than this program, or another's")
        }
        let sorted = times.sorted()
        let (least, middle, most) = (sorted.first ?? 0, sorted[sorted.count / 2], sorted.last ?? 0)
        return .init(
            .roundTrip, .ok, "\(Self.text(middle)) ms, \(Self.text(least)) to \(Self.text(most)), from message to message",
            ["rtt_ms": .number(middle), "rtt_least_ms": .number(least), "rtt_most_ms": .number(most)])
    }

    /// Up for a second or 16 MiB, down for 16 MiB or as long as patience lasts.
    private func throughput(_ session: Session) async -> Diagnosis.Finding {
        let limit = 16 << 20
        do {
            let (up, down) = try await bounded(by: patience) {
                var messages = session.probe.messages.makeAsyncIterator()
                func next(_ accept: (ProbeMessage) -> Int?) async throws -> Int {
                    while let message = try await messages.next() {
                        if case .text(let text) = message, let answer = ProbeMessage(text), let value = accept(answer) { return value }
                    }
                    throw StreamError(.connectionLost)
                }
                // what waits here is not on its way yet
                await session.probe.setBufferedAmountHighWaterMark(256 << 10)
                let block = ByteBuffer(repeating: 0, count: ProbeMessage.messageBytes)
                var start = Instant.now
                var sent = 0
                while sent < limit, Instant.now - start < .seconds(1) {
                    try await session.probe.send(block)
                    sent += block.readableBytes
                }
                try await session.probe.send(ProbeMessage.count.text)
                let arrived = try await next { if case .received(let bytes) = $0 { bytes } else { nil } }
                let up = Double(arrived) / (Instant.now - start).inSeconds
                // about as much as went up in a second: a slow path is not kept busy for long
                start = .now
                try await session.probe.send(ProbeMessage.send(max(arrived, 64 << 10)).text)
                let came = try await next { if case .sent(let bytes) = $0 { bytes } else { nil } }
                return (up, Double(came) / (Instant.now - start).inSeconds)
            }
            return .init(
                .throughput, .ok, "\(Self.text(up / 1e6)) MB/s up, \(Self.text(down / 1e6)) MB/s down",
                ["up_bytes_per_second": .number(up.rounded()), "down_bytes_per_second": .number(down.rounded())])
        } catch is StreamError {
            return .init(
                .throughput, .failed, "the connection was lost under load", advice: "a firewall may limit UDP, or the server ended the session: see its log")
        } catch {
            let stats = await session.peer.getStats().sctpTransport
            // a server that knows no probe channel closes or ignores it
            guard stats.everyframe.messagesReceived > 0 else { return .init(.throughput, .skipped, "the server does not answer on the probe channel") }
            return .init(
                .throughput, .warning, "not through in \(patience.components.seconds) s",
                advice: "the path is very slow or loses most of what is sent",
                ["retransmissions": .integer(stats.everyframe.chunksRetransmitted), "timeouts": .integer(stats.everyframe.timeouts)])
        }
    }

    // MARK: Servers beside it

    private func ask(_ url: String, of server: PeerConnection.IceServer) async -> Diagnosis.Finding {
        guard url.lowercased().hasPrefix("stun:") else { return await allocate(url, at: server) }
        do {
            let answer = try await StunQuery.ask(url)
            return .init(
                .stun, .ok, "\(url) sees this machine as \(answer.mapped), in \(Self.text(answer.roundTrip.inMilliseconds)) ms",
                ["url": .string(url), "mapped": .string("\(answer.mapped)"), "rtt_ms": .number(answer.roundTrip.inMilliseconds)])
        } catch {
            return .init(
                .stun, .failed, "\(url): \(error)", advice: "look at the name and port; where no UDP gets out of this network, no STUN server helps",
                ["url": .string(url)])
        }
    }

    private func allocate(_ url: String, at server: PeerConnection.IceServer) async -> Diagnosis.Finding {
        do throws(TurnError) {
            let report = try await TurnTrial.allocate(
                url: url, username: server.username, credential: server.credential, trustedCertificates: server.trustedCertificates, timeout: patience)
            let relayed = report.relayed.map { "\($0)" }
            return .init(
                .turn, .ok, "\(url) relays for this machine at \(relayed.joined(separator: ", ")), in \(Self.text(report.elapsed.inMilliseconds)) ms",
                [
                    "url": .string(url), "relayed": .array(relayed.map(JSON.string)), "mapped": report.mapped.map { .string("\($0)") } ?? .null,
                    "protocol": .string(report.transport.rawValue), "elapsed_ms": .number(report.elapsed.inMilliseconds),
                ])
        } catch {
            let advice: String? =
                switch error {
                case .unauthorized, .missingCredentials: "look at the user name and the credential; those made for a time may have expired"
                case .timedOut, .cannotConnect: "another transport may get through: turn:…?transport=tcp, or turns: on port 443"
                case .quotaReached, .insufficientCapacity, .allocationMismatch: "try again when other allocations have ended"
                default: nil
                }
            return .init(.turn, .failed, "\(url): \(error)", advice: advice, ["url": .string(url), "code": .integer(error.code)])
        }
    }

    static func text(_ value: Double) -> String {
        let digits = value < 10 ? 100.0 : 10.0
        return "\((value * digits).rounded() / digits)"
    }
}

/// Throws a `CancellationError` where `body` takes longer.
func bounded<Result: Sendable>(by limit: Duration, _ body: @escaping @Sendable () async throws -> Result) async throws -> Result {
    try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        guard let result = try await group.next() ?? nil else { throw CancellationError() }
        return result
    }
}
