public import Logging
public import NIOCore
public import NIOPosix
public import WebRTC

/// A WebRTC connection with data channels; the verbs have the names and meanings of W3C's RTCPeerConnection.
///
/// Close it: `close()` frees its sockets and tells the peer. Where the last reference goes, to the connection and to all of its channels, it closes itself.
public final class PeerConnection: Sendable {
    let session: Session
    /// Where this connection's work happens. A task that prefers this loop's executor exchanges messages without changing threads.
    public var eventLoop: any EventLoop { session.eventLoop }

    /// - Parameters:
    ///   - endpoint: sockets to share with other connections; nil gives this one its own, which it closes.
    ///   - group: where own sockets live; ignored with an endpoint.
    /// - Throws: ``PeerConnectionError``: `invalidArgument` for an ICE server that cannot be used, `endpointClosed` without a socket,
    ///   `dtlsFailed` without a certificate.
    public init(
        configuration: Configuration = .init(), endpoint: UDPEndpoint? = nil, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        logger: Logger? = nil
    ) async throws {
        try configuration.validate()
        let own: UDPEndpoint?
        if endpoint == nil {
            do {
                var options = UDPEndpoint.Options()
                options.host = configuration.host
                options.ports = configuration.ports
                options.includeLoopback = configuration.includeLoopback
                options.advertisedAddresses = configuration.advertisedAddresses
                own = try await UDPEndpoint.bind(options, on: group)
            } catch let error as PeerConnectionError {
                throw error
            } catch {
                throw PeerConnectionError(.endpointClosed, "\(error)")
            }
        } else {
            own = nil
        }
        guard let sockets = endpoint ?? own else { throw PeerConnectionError(.endpointClosed) }
        do {
            session = try Session(configuration: configuration, endpoint: sockets, ownsEndpoint: own != nil, logger: logger)
            try await session.start()
        } catch {
            await own?.close()
            throw error
        }
    }

    deinit { session.abandon() }

    /// Makes the process's certificate and has the TLS library start what it needs, so that the process's first connection is set up as
    /// quickly as its later ones. Optional; takes some milliseconds once, on a thread of its own, and nothing when called again.
    public static func prepare() async {
        // a process that cannot make a certificate hears of it, with the reason, when it makes a connection
        _ = try? await NIOThreadPool.singleton.runIfActive { prepared }
    }

    private static let prepared: Void = { try? PeerConfiguration.prepareProcess() }()

    // MARK: Signalling

    /// Creates a channel. It opens when the connection does, or at once on an open connection.
    public func createDataChannel(_ label: String, _ options: DataChannel.Options = .init()) async throws -> DataChannel {
        let handle = try await session.createDataChannel(label, options)
        return DataChannel(handle: handle, label: label, options: options, connection: self)
    }

    /// The offer that fits the present state.
    /// - Parameter iceRestart: with other ICE credentials (RFC 8445 §9): once it is set and answered the connection finds its paths anew, and uses the
    ///   present one until then. Channels, and what is under way on them, outlive it. Ignored before the first offer or answer is set.
    /// - Throws: ``PeerConnectionError`` with `invalidState`, or why the connection is over.
    public func createOffer(iceRestart: Bool = false) async throws -> SessionDescription { try await session.createOffer(iceRestart: iceRestart) }

    /// Makes the next offer restart ICE, as `createOffer(iceRestart: true)` does, and emits ``Event/negotiationNeeded`` (W3C `restartIce`).
    ///
    /// For networks that changed on both sides, or behind a NAT: where only one side's addresses changed and the other can be reached, the connection
    /// moves over by itself. A connection that has failed is over and stays so: restart while its state is `disconnected`, or make another one.
    public func restartIce() async { await session.restartIce() }

    public func createAnswer() async throws -> SessionDescription { try await session.createAnswer() }

    /// Applies `description`, or the offer or answer that fits the state, and starts gathering.
    public func setLocalDescription(_ description: SessionDescription? = nil) async throws {
        try await session.setLocalDescription(description)
    }

    public func setRemoteDescription(_ description: SessionDescription) async throws { try await session.setRemoteDescription(description) }

    /// A candidate of the peer; nil says that there will be no more.
    public func addIceCandidate(_ candidate: IceCandidate?) async throws { try await session.addIceCandidate(candidate) }

    /// With the candidates found so far.
    public var localDescription: SessionDescription? { get async { await session.localDescription } }
    public var remoteDescription: SessionDescription? { get async { await session.remoteDescription } }

    /// The local description with all candidates, once they are all there: for signalling that does not trickle.
    public func gatheringComplete() async throws -> SessionDescription { try await session.gatheringComplete() }

    // MARK: State

    public var connectionState: ConnectionState { get async { await session.connectionState } }
    public var iceConnectionState: IceConnectionState { get async { await session.iceConnectionState } }
    public var iceGatheringState: IceGatheringState { get async { await session.iceGatheringState } }
    public var signalingState: SignalingState { get async { await session.signalingState } }
    /// Why the connection failed or closed; nil while it lives.
    public var closeReason: PeerConnectionError? { get async { await session.closeReason } }

    /// What happens, from the beginning; for one consumer. Ends when the connection is closed.
    public var events: Events { Events(connection: self) }

    /// Returns when the state is connected; throws the reason when it becomes failed or closed, and `timedOut` at the bound.
    public func waitUntilConnected(timeout: Duration = .seconds(30)) async throws {
        try await session.waitUntilConnected(timeout: timeout)
    }

    /// What the connection counts and measures, as W3C's webrtc-stats has it; also after its end, then without candidate pairs.
    public func getStats() async -> StatsReport { await session.stats() }

    /// Ends the connection at once: tells the peer, frees the sockets, wakes every waiting task. What was not acknowledged may be lost:
    /// use ``DataChannel/drained()`` or ``DataChannel/close()`` first.
    public func close() async { await session.close() }
}

extension PeerConnection {
    /// The sequence behind ``PeerConnection/events``.
    public struct Events: AsyncSequence, Sendable {
        public typealias Element = Event
        public typealias Failure = Never
        let connection: PeerConnection

        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(connection: connection) }

        public struct AsyncIterator: AsyncIteratorProtocol {
            let connection: PeerConnection

            public mutating func next() async -> Event? { await next(isolation: nil) }

            /// nil when the connection is closed or the task is cancelled.
            public mutating func next(isolation actor: isolated (any Actor)?) async -> Event? {
                switch await connection.session.nextEvent() {
                case .none: nil
                case .plain(let event): event
                case .channel(let handle, let label, let options):
                    .dataChannel(
                        DataChannel(handle: handle, label: label, options: options, connection: connection))
                }
            }
        }
    }
}
