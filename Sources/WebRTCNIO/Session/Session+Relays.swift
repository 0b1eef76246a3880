import Logging
import NIOCore
import WebRTC
import Wire

/// What a session knows of one TURN server.
struct RelayRecord {
    /// As configured, for reports.
    var url: String
    /// Gathering waits for it.
    var isAwaited = true
    var addresses: [TransportAddress] = []
}

extension PeerConnection.Configuration {
    /// That each ICE server can be used, and that the policy `relay` has a TURN server.
    func checkIceServers() throws(PeerConnectionError) {
        var hasTurn = false
        for server in iceServers {
            for url in server.urls {
                guard let parsed = IceServerURL(url) else {
                    throw PeerConnectionError(.invalidArgument, "'\(url)' is no ICE server that can be used; they look like \(IceServerURL.form)")
                }
                guard case .turn = parsed.service else { continue }
                hasTurn = true
                if server.username ?? "" == "" || server.credential == nil {
                    throw PeerConnectionError(.invalidArgument, "'\(url)': a TURN server needs a user name and a credential")
                }
            }
        }
        if iceTransportPolicy == .relay, !hasTurn { throw PeerConnectionError(.invalidArgument, "the policy 'relay' needs a TURN server") }
    }
}

extension Session: RelayUser {
    /// Gathering ends after that whatever TURN servers do; an allocation that comes later is used all the same.
    private static let relayPatience = TimeAmount.seconds(4)
    /// TURN servers that one session uses.
    private static let maximumRelays = 8

    /// Looks the name up and asks for an allocation at each address family that it has.
    func askTurnServer(_ server: IceServerURL, _ url: String, _ transport: TurnClient.Transport, _ configured: PeerConnection.IceServer) {
        guard let username = configured.username, let password = configured.credential else { return }
        lookups += 1
        server.resolve(on: eventLoop).whenComplete { result in
            self.assumeIsolated { session in
                guard !session.isEnded else { return }
                let addresses = (try? result.get()) ?? []
                if addresses.isEmpty { session.report(.nameNotFound(server.host), url: url, address: nil) }
                let router = session.endpoint.router.value
                for address in addresses where session.relays.count < Self.maximumRelays {
                    let base = transport == .udp ? router.base(toward: address) : nil
                    if transport == .udp, base == nil {
                        session.report(.cannotConnect("no socket of ours reaches it"), url: url, address: address)
                        continue
                    }
                    let key = TurnRelay.Key(
                        url: server, server: address, base: base, username: username, password: password, trustRoots: configured.trustedCertificates)
                    guard session.relays[key] == nil else { continue }
                    session.relays[key] = RelayRecord(url: url)
                    session.lookups += 1
                    router.relay(for: key, transport: transport, on: session.eventLoop).join(session)
                }
                session.settleLookup()
            }
        }
    }

    /// A server that nobody reaches must not hold up the description.
    func boundGathering() {
        guard lookups > 0 else { return }
        eventLoop.scheduleTask(in: Self.relayPatience) { [weak self] in
            self?.assumeIsolated { session in
                guard session.lookups > 0, !session.isEnded else { return }
                let now = Instant.now
                session.engine.endOfLocalAddresses(at: now)
                session.flush(at: now)
            }
        }
    }

    private func settleLookup() {
        lookups -= 1
        let now = Instant.now
        if lookups == 0 { engine.endOfLocalAddresses(at: now) }
        flush(at: now)
    }

    nonisolated func relayChanged(_ key: TurnRelay.Key, _ change: TurnRelay.Change) {
        assumeIsolated { $0.take(change, of: key) }
    }

    private func take(_ change: TurnRelay.Change, of key: TurnRelay.Key) {
        guard !isEnded, var record = relays[key] else { return }
        let wasAwaited = record.isAwaited
        record.isAwaited = false
        let now = Instant.now
        switch change {
        case .allocated(let relayed):
            for var address in relayed where !record.addresses.contains(address.address) {
                record.addresses.append(address.address)
                if configuration.iceTransportPolicy == .relay {
                    // RFC 8828 §5.2: the related address would tell where we are
                    address.mapped = nil
                    address.base = nil
                }
                engine.addRelayedAddress(address, at: now)
            }
        case .failed(let error):
            for address in record.addresses { engine.removeRelayedAddress(address, at: now) }
            record.addresses = []
            report(error, url: record.url, address: key.server)
        }
        relays[key] = record
        if wasAwaited { settleLookup() } else { flush(at: now) }
    }

    private func report(_ error: TurnError, url: String, address: TransportAddress?) {
        logger?.notice("a TURN server gives no candidate", metadata: ["url": "\(url)", "reason": "\(error)"])
        emit(.plain(.iceCandidateError(.init(url: url, address: address, errorCode: error.code, errorText: "\(error)"))))
    }

    /// With the policy `relay` nothing is taken, so nothing answered, that came another way.
    func accepts(_ path: NetworkPath) -> Bool {
        configuration.iceTransportPolicy == .all || relays.values.contains { $0.addresses.contains(path.local) }
    }
}
