package import NIOCore
package import Wire

/// What goes to peers and comes from them (RFC 8656 §9 to §12).
extension TurnClient {
    /// The server relays between us and one IP address.
    struct Permission: Sendable {
        enum State: Sendable {
            case requested
            case granted(refreshAt: Instant, expiresAt: Instant)
            /// Granted, and asked for again.
            case refreshing(expiresAt: Instant)
            /// Granted, and not asked for again since nobody sends there.
            case fading(expiresAt: Instant)
            case refused(until: Instant)
        }

        let ip: TransportAddress.IP
        var state = State.requested
        /// Until the permission is there.
        var waiting: [(datagram: ByteBuffer, peer: TransportAddress)] = []

        var isGranted: Bool {
            switch state {
            case .granted, .refreshing, .fading: true
            case .requested, .refused: false
            }
        }

        var deadline: Instant? {
            switch state {
            case .requested: nil
            case .granted(let refreshAt, let expiresAt): min(refreshAt, expiresAt)
            case .refreshing(let expiresAt), .fading(let expiresAt): expiresAt
            case .refused(let until): until
            }
        }
    }

    struct Peer: Sendable {
        enum Channel: Sendable {
            case none
            case binding(UInt16)
            case bound(UInt16, refreshAt: Instant, expiresAt: Instant)
            case refreshing(UInt16, expiresAt: Instant)
            /// Expired, or refused for now. RFC 8656 §12: the address may get no other number.
            case resting(UInt16, until: Instant)
            case lapsed(UInt16)
        }

        let address: TransportAddress
        var channel = Channel.none
        var lastUsed: Instant
        /// Its IP address's permission ends, for nothing was sent: the next datagram asks for it.
        var asksAnew = false

        /// The number that stands for the address in ChannelData.
        var number: UInt16? {
            switch channel {
            case .bound(let number, _, _), .refreshing(let number, _): number
            case .none, .binding, .resting, .lapsed: nil
            }
        }

        /// The number that it has, or had: nothing else may have it for a while.
        var reservedNumber: UInt16? {
            switch channel {
            case .binding(let number), .bound(let number, _, _), .refreshing(let number, _), .resting(let number, _), .lapsed(let number): number
            case .none: nil
            }
        }

        /// May be forgotten.
        var isSpare: Bool {
            switch channel {
            case .none, .resting, .lapsed: true
            case .binding, .bound, .refreshing: false
            }
        }

        var channelDeadline: Instant? {
            switch channel {
            case .none, .binding, .lapsed: nil
            case .bound(_, let refreshAt, let expiresAt): min(refreshAt, expiresAt)
            case .refreshing(_, let expiresAt): expiresAt
            case .resting(_, let until): until
            }
        }
    }

    /// ChannelData's header (RFC 8656 §12.4): what a relayed datagram is longer by between us and the server, once its peer has a channel.
    package static let channelOverhead = 4

    // MARK: Sending

    /// Writes what carries `datagram` to `peer` into `batch`. The first datagram to an IP address waits for its permission; the first that is not STUN asks
    /// for a channel, so that checks of pairs that come to nothing cost none. Call `poll` afterwards.
    package mutating func send(_ datagram: ByteBuffer, to peer: TransportAddress, at now: Instant, into batch: inout PacketBatch) {
        guard let index = remember(peer, at: now) else { counters.datagramsDropped += 1; return }
        peers[index].lastUsed = now
        if peers[index].asksAnew {
            peers[index].asksAnew = false
            renewPermission(peer.ip, at: now)
        }
        if let number = peers[index].number {
            batch.bytes.writeMultipleIntegers(number, UInt16(truncatingIfNeeded: datagram.readableBytes))
            batch.bytes.writeImmutableBuffer(datagram)
            // RFC 8656 §12.5: over streams only
            if configuration.transport.isReliable { batch.bytes.writeRepeatingByte(0, count: -datagram.readableBytes & 3) }
            batch.endPacket()
            return
        }
        let changes = permit(datagram, to: peer, at: now, into: &batch)
        let isCheck = datagram.getInteger(at: datagram.readerIndex, as: UInt8.self).map { $0 < 4 } ?? true
        let asksChannel = !isCheck && bindChannel(index, at: now)
        if changes || asksChannel { update(at: now) }
    }

    private mutating func bindChannel(_ index: Int, at now: Instant) -> Bool {
        let number: UInt16
        switch peers[index].channel {
        case .none:
            guard let free = freeChannel(at: now) else { return false }
            number = free
        case .lapsed(let before): number = before
        case .binding, .bound, .refreshing, .resting: return false
        }
        peers[index].channel = .binding(number)
        request(.channel(number, peers[index].address), at: now)
        return true
    }

    private mutating func renewPermission(_ ip: TransportAddress.IP, at now: Instant) {
        if let index = permissions.firstIndex(where: { $0.ip == ip }) {
            guard case .fading(let expiresAt) = permissions[index].state else { return }
            permissions[index].state = .refreshing(expiresAt: expiresAt)
        } else {
            permissions.append(Permission(ip: ip))
        }
        request(.permission(ip), at: now)
        update(at: now)
    }

    /// True where a permission was asked for.
    private mutating func permit(_ datagram: ByteBuffer, to peer: TransportAddress, at now: Instant, into batch: inout PacketBatch) -> Bool {
        guard let index = permissions.firstIndex(where: { $0.ip == peer.ip }) else {
            permissions.append(Permission(ip: peer.ip, waiting: [(ByteBuffer(bytes: datagram.readableBytesView), peer)]))
            request(.permission(peer.ip), at: now)
            return true
        }
        if permissions[index].isGranted {
            batch.append(indication(datagram, to: peer))
        } else if case .requested = permissions[index].state, permissions[index].waiting.count < configuration.maximumWaiting {
            // a copy: the driver's buffer is used again
            permissions[index].waiting.append((ByteBuffer(bytes: datagram.readableBytesView), peer))
        } else {
            counters.datagramsDropped += 1
        }
        return false
    }

    private mutating func indication(_ datagram: ByteBuffer, to peer: TransportAddress) -> ByteBuffer {
        StunMessage(
            .indication, method: StunMessage.sendIndication, transactionID: .random(using: &generator),
            attributes: [.xorPeerAddress(peer), .data(Array(datagram.readableBytesView))]
        ).encoded(fingerprint: false)
    }

    /// The peer's index; nil where it cannot be sent to.
    private mutating func remember(_ peer: TransportAddress, at now: Instant) -> Int? {
        if lastSent < peers.count, peers[lastSent].address == peer { return lastSent }
        guard let allocation, allocation.relayed.contains(where: { $0.ip.isIPv6 == peer.ip.isIPv6 }), isUsable(peer) else { return nil }
        if let known = peers.firstIndex(where: { $0.address == peer }) {
            lastSent = known
            return known
        }
        if peers.count >= configuration.maximumPeers {
            // one with a channel stays until that expires
            guard let victim = peers.indices.filter({ peers[$0].isSpare }).min(by: { peers[$0].lastUsed < peers[$1].lastUsed }) else { return nil }
            let ip = peers[victim].address.ip
            forgetPeer(at: victim, at: now)
            if !peers.contains(where: { $0.address.ip == ip }) {
                permissions.removeAll { $0.ip == ip }
                transactions.removeAll { $0.purpose == .permission(ip) }
            }
        }
        peers.append(Peer(address: peer, lastUsed: now))
        lastSent = peers.count - 1
        return lastSent
    }

    private mutating func forgetPeer(at index: Int, at now: Instant) {
        if let number = peers[index].reservedNumber { resting.append((number, now + configuration.channelLifetime + configuration.channelRest)) }
        peers.remove(at: index)
    }

    // MARK: Receiving

    ///     | channel (16) | length (16) | data, perhaps padding |
    mutating func channelData(_ message: ByteBuffer) -> Received? {
        var message = message
        guard let (number, length) = message.readMultipleIntegers(as: (UInt16, UInt16).self), let datagram = message.readSlice(length: Int(length)) else {
            counters.malformed += 1
            return nil
        }
        if lastReceived >= peers.count || peers[lastReceived].number != number {
            guard let index = peers.firstIndex(where: { $0.number == number }) else {
                // the answer to our ChannelBind may be late or lost; the server uses the channel already
                if let early = peers.first(where: { $0.reservedNumber == number }) { return received(datagram, from: early.address) }
                counters.unexpectedData += 1
                return nil
            }
            lastReceived = index
        }
        return received(datagram, from: peers[lastReceived].address)
    }

    mutating func dataIndication(_ message: StunMessage) -> Received? {
        guard message.method == StunMessage.dataIndication else { counters.malformed += 1; return nil }
        var peer: TransportAddress?
        var data: [UInt8]?
        for attribute in message.attributes {
            if case .xorPeerAddress(let address) = attribute { peer = address }
            if case .data(let bytes) = attribute { data = bytes }
        }
        // without data it tells of an ICMP message (RFC 8656 §11.6): ICE finds out by itself
        guard let peer, let data else { return nil }
        // RFC 8656 §11.4: the indication itself is not signed
        guard permissions.contains(where: { $0.ip == peer.ip && $0.isGranted }) else { counters.unexpectedData += 1; return nil }
        return received(ByteBuffer(bytes: data), from: peer)
    }

    private func received(_ datagram: ByteBuffer, from peer: TransportAddress) -> Received? {
        guard let local = allocation?.relayed.first(where: { $0.ip.isIPv6 == peer.ip.isIPv6 }) else { return nil }
        return Received(datagram: datagram, path: NetworkPath(local: local, remote: peer))
    }

    // MARK: Permissions

    mutating func permissionGranted(_ ip: TransportAddress.IP, at now: Instant) {
        guard let index = permissions.firstIndex(where: { $0.ip == ip }) else { return }
        permissions[index].state = .granted(refreshAt: now + configuration.permissionRefresh, expiresAt: now + configuration.permissionLifetime)
        let waiting = permissions[index].waiting
        permissions[index].waiting = []
        for (datagram, peer) in waiting { outbox.append(indication(datagram, to: peer)) }
    }

    mutating func permissionRefused(_ ip: TransportAddress.IP, _ error: TurnError, at now: Instant) {
        guard let index = permissions.firstIndex(where: { $0.ip == ip }) else { return }
        // a refresh that failed leaves what there is until it expires
        if permissions[index].isGranted { return }
        counters.permissionsRefused += 1
        counters.datagramsDropped += permissions[index].waiting.count
        permissions[index].waiting = []
        permissions[index].state = .refused(until: now + configuration.refusalRest)
        events.append(.peerRefused(ip, error))
    }

    mutating func runPermissions(at now: Instant) {
        for ip in permissions.map(\.ip) {
            guard let index = permissions.firstIndex(where: { $0.ip == ip }), let due = permissions[index].deadline, due <= now else { continue }
            switch permissions[index].state {
            case .granted(_, let expiresAt) where expiresAt > now:
                let isUsed = peers.contains { $0.address.ip == ip && $0.lastUsed + configuration.permissionRefresh > now }
                permissions[index].state = isUsed ? .refreshing(expiresAt: expiresAt) : .fading(expiresAt: expiresAt)
                if isUsed { request(.permission(ip), at: now) } else { askAnew(ip) }
            case .granted, .refreshing, .fading, .refused:
                permissions.remove(at: index)
                transactions.removeAll { $0.purpose == .permission(ip) }
                askAnew(ip)
            case .requested: continue
            }
        }
    }

    private mutating func askAnew(_ ip: TransportAddress.IP) {
        for index in peers.indices where peers[index].address.ip == ip { peers[index].asksAnew = peers[index].number != nil }
    }

    // MARK: Channels

    private mutating func freeChannel(at now: Instant) -> UInt16? {
        if nextChannel <= Self.channels.upperBound {
            defer { nextChannel += 1 }
            return nextChannel
        }
        guard let index = resting.firstIndex(where: { $0.until <= now }) else { return nil }
        return resting.remove(at: index).number
    }

    mutating func channelBound(_ number: UInt16, to peer: TransportAddress, at now: Instant) {
        guard let index = peers.firstIndex(where: { $0.address == peer }) else { return }
        peers[index].channel = .bound(number, refreshAt: now + configuration.channelRefresh, expiresAt: now + configuration.channelLifetime)
    }

    /// Datagrams go on in indications.
    mutating func channelRefused(_ peer: TransportAddress, at now: Instant) {
        guard let index = peers.firstIndex(where: { $0.address == peer }), case .binding(let number) = peers[index].channel else { return }
        counters.channelsRefused += 1
        peers[index].channel = .resting(number, until: now + configuration.refusalRest)
    }

    mutating func runChannels(at now: Instant) {
        for index in peers.indices {
            guard let due = peers[index].channelDeadline, due <= now else { continue }
            switch peers[index].channel {
            case .bound(let number, _, let expiresAt) where expiresAt > now:
                peers[index].channel = .refreshing(number, expiresAt: expiresAt)
                if peers[index].lastUsed + configuration.permissionRefresh > now { request(.channel(number, peers[index].address), at: now) }
            case .bound(let number, _, _), .refreshing(let number, _), .resting(let number, _): peers[index].channel = .lapsed(number)
            case .none, .binding, .lapsed: continue
            }
        }
    }
}
