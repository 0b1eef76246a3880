import NIOCore
import WebRTC
import Wire

extension Session: DatagramReceiver {
    nonisolated func receive(_ bytes: ByteBuffer, segmentSize: Int, path: NetworkPath, at now: Instant) {
        assumeIsolated { $0.take(bytes, segmentSize: segmentSize, path: path, at: now) }
    }

    nonisolated func endOfBurst(at now: Instant) {
        assumeIsolated { $0.flush(at: now) }
    }

    nonisolated func localAddressAdded(_ address: TransportAddress) {
        later { session in
            guard session.isGathering, !session.isEnded, session.configuration.iceTransportPolicy == .all else { return }
            let now = Instant.now
            session.engine.addLocalAddress(address, advertised: session.endpoint.advertisedAddress(for: address), at: now)
            session.flush(at: now)
        }
    }

    nonisolated func localAddressRemoved(_ address: TransportAddress) {
        later { session in
            guard session.isGathering, !session.isEnded else { return }
            let now = Instant.now
            session.engine.removeLocalAddress(address, at: now)
            session.flush(at: now)
        }
    }

    nonisolated func endpointClosed() {
        later { $0.end(PeerConnectionError(.endpointClosed), farewell: false) }
    }

    private func take(_ bytes: ByteBuffer, segmentSize: Int, path: NetworkPath, at now: Instant) {
        guard closeReason == nil, accepts(path) else { return }
        var rest = bytes
        while rest.readableBytes > segmentSize, let segment = rest.readSlice(length: segmentSize) {
            engine.handle(segment, path: path, at: now)
        }
        if rest.readableBytes > 0 { engine.handle(rest, path: path, at: now) }
    }
}

extension PeerConnectionError {
    init(_ failure: PeerFailure) {
        switch failure {
        case .ice: self.init(.iceFailed, "no candidate pair works, or the peer is gone")
        case .fingerprintMismatch: self.init(Code.fingerprintMismatch)
        case .dtls(let detail): self.init(.dtlsFailed, detail)
        case .sctp(let detail): self.init(.sctpFailed, detail)
        case .closedByPeer: self.init(Code.closedByPeer)
        }
    }
}

extension PeerConnection.IceConnectionState {
    init(_ state: IceAgent.State) {
        switch state {
        case .new: self = .new
        case .checking: self = .checking
        case .connected: self = .connected
        case .completed: self = .completed
        case .disconnected: self = .disconnected
        case .failed: self = .failed
        case .closed: self = .closed
        }
    }
}
