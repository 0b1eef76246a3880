package import NIOCore
import NIOPosix
import WebRTC
package import Wire

/// Asks one TURN server for an allocation and gives it back: whether relaying would work from here, and if not, why.
package struct TurnTrial: Sendable {
    /// What the server answered.
    package struct Report: Sendable {
        package var url: String
        package var server: TransportAddress
        package var transport: TurnClient.Transport
        /// The addresses that peers would see, one of each family that the server relays.
        package var relayed: [TransportAddress]
        /// Where the server sees this machine.
        package var mapped: TransportAddress?
        /// From the first datagram, or the call of TCP, to the allocation.
        package var elapsed: Duration
    }

    /// - Parameters:
    ///   - url: `turn:` or `turns:`, as in ``PeerConnection/IceServer``.
    ///   - timeout: of the whole; 10 s unless set.
    /// - Throws: why there is no allocation; `timedOut` at the bound, `CancellationError` never.
    package static func allocate(
        url: String, username: String?, credential: String?, trustedCertificates: String? = nil, timeout: Duration = .seconds(10),
        on group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
    ) async throws(TurnError) -> Report {
        guard let parsed = IceServerURL(url), case .turn(let transport) = parsed.service else { throw .invalidURL(url) }
        guard let username, username != "", let credential else { throw .missingCredentials }
        let addresses = (try? await parsed.resolve(on: group.next()).get()) ?? []
        guard !addresses.isEmpty else { throw .nameNotFound(parsed.host) }
        let endpoint: UDPEndpoint
        do {
            endpoint = try await UDPEndpoint.bind(on: group, includeLoopback: true)
        } catch {
            throw .cannotConnect("no UDP socket: \(error)")
        }
        // one family may be broken: the first that works is the answer
        var failure = TurnError.timedOut
        for server in addresses {
            let start = Instant.now
            switch await attempt(parsed, server, transport, username, credential, trustedCertificates, timeout, endpoint) {
            case .success(let relayed):
                await endpoint.close()
                return Report(
                    url: url, server: server, transport: transport, relayed: relayed.map(\.address), mapped: relayed.first?.mapped, elapsed: .now - start)
            case .failure(let error): failure = error
            }
        }
        await endpoint.close()
        throw failure
    }

    private static func attempt(
        _ url: IceServerURL, _ server: TransportAddress, _ transport: TurnClient.Transport, _ username: String, _ credential: String, _ trust: String?,
        _ timeout: Duration, _ endpoint: UDPEndpoint
    ) async -> Result<[IceAgent.RelayedAddress], TurnError> {
        let loop = endpoint.eventLoop
        let promise = loop.makePromise(of: Result<[IceAgent.RelayedAddress], TurnError>.self)
        let released = loop.makePromise(of: Void.self)
        let router = endpoint.router
        let bound = loop.scheduleTask(in: .nanoseconds(timeout.inNanoseconds)) { promise.succeed(.failure(.timedOut)) }
        let user = TrialUser(promise)
        loop.execute {
            let base = transport == .udp ? router.value.base(toward: server) : nil
            guard transport != .udp || base != nil else { return promise.succeed(.failure(.cannotConnect("no socket of ours reaches it"))) }
            let key = TurnRelay.Key(url: url, server: server, base: base, username: username, password: credential, trustRoots: trust)
            router.value.relay(for: key, transport: transport, on: loop).join(user)
        }
        promise.futureResult.whenComplete { _ in
            bound.cancel()
            router.value.leaveRelays(user) { released.succeed() }
        }
        let result = (try? await promise.futureResult.get()) ?? .failure(.timedOut)
        try? await released.futureResult.get()
        return result
    }
}

private final class TrialUser: RelayUser {
    private let promise: EventLoopPromise<Result<[IceAgent.RelayedAddress], TurnError>>

    init(_ promise: EventLoopPromise<Result<[IceAgent.RelayedAddress], TurnError>>) { self.promise = promise }

    func relayChanged(_ key: TurnRelay.Key, _ change: TurnRelay.Change) {
        switch change {
        case .allocated(let relayed): promise.succeed(.success(relayed))
        case .failed(let error): promise.succeed(.failure(error))
        }
    }
}
