import NIOCore
import Wire

extension TurnClient {
    /// A request that is not answered yet.
    struct Transaction: Sendable {
        enum Purpose: Hashable, Sendable {
            case allocate
            /// A Refresh with lifetime zero.
            case release(thenAllocate: Bool)
            case refresh
            case permission(TransportAddress.IP)
            case channel(UInt16, TransportAddress)
        }

        let id: StunTransactionID
        let purpose: Purpose
        let message: ByteBuffer
        /// The key that its answer must be protected with; nil where the request went without credentials.
        let key: [UInt8]?
        /// How often the nonce was renewed for this purpose (RFC 8489 §9.2.5).
        let renewals: Int
        var transmissions = 1
        var timeout: Duration
        var due: Instant
        /// An error came without a signature: told when nothing better comes.
        var unsigned: Int?
    }

    /// Beyond that a server which calls every nonce stale is not argued with.
    private static let maximumRenewals = 3

    // MARK: Asking

    mutating func requestAllocation(at now: Instant) { request(.allocate, at: now) }

    mutating func request(_ purpose: Transaction.Purpose, renewals: Int = 0, at now: Instant) {
        var attributes: [StunAttribute]
        let method: UInt16
        switch purpose {
        case .allocate:
            method = StunMessage.allocate
            // RFC 8656 §7.1: UDP, protocol 17
            attributes = [.requestedTransport(17), .lifetime(UInt32(clamping: configuration.lifetime.components.seconds))]
            if let family { attributes.append(.requestedAddressFamily(family)) } else { attributes.append(.additionalAddressFamily(2)) }
        case .release:
            method = StunMessage.refresh
            attributes = [.lifetime(0)]
        case .refresh:
            method = StunMessage.refresh
            attributes = [.lifetime(UInt32(clamping: configuration.lifetime.components.seconds))]
        case .permission(let ip):
            method = StunMessage.createPermission
            attributes = [.xorPeerAddress(TransportAddress(ip: ip, port: 0))]
        case .channel(let number, let peer):
            method = StunMessage.channelBind
            attributes = [.channelNumber(number), .xorPeerAddress(peer)]
        }
        let id = StunTransactionID.random(using: &generator)
        let (all, protection) = credential.protect(attributes)
        let message = StunMessage(.request, method: method, transactionID: id, attributes: all).encoded(protection)
        let timeout = configuration.transport.isReliable ? configuration.reliableTimeout : configuration.retransmissionTimeout
        transactions.append(
            Transaction(
                id: id, purpose: purpose, message: message, key: credential.challenge?.key, renewals: renewals, timeout: timeout, due: now + timeout))
        counters.requestsSent += 1
        outbox.append(message)
    }

    mutating func runTransactions(at now: Instant) {
        var index = 0
        while index < transactions.count {
            guard transactions[index].due <= now else {
                index += 1
                continue
            }
            if configuration.transport.isReliable || transactions[index].transmissions >= configuration.transmissions {
                let gone = transactions.remove(at: index)
                giveUp(gone, gone.unsigned.map { .unsignedError(code: $0) } ?? .timedOut, at: now)
                // giving up may have ended everything
                continue
            }
            transactions[index].transmissions += 1
            transactions[index].timeout = min(transactions[index].timeout * 2, configuration.maximumRetransmissionTimeout)
            transactions[index].due = now + transactions[index].timeout
            counters.retransmissions += 1
            outbox.append(transactions[index].message)
            index += 1
        }
    }

    private mutating func giveUp(_ transaction: Transaction, _ error: TurnError, at now: Instant) {
        switch transaction.purpose {
        case .allocate: fail(error)
        case .release(let thenAllocate):
            if thenAllocate { fail(.allocationMismatch) } else { finishClosing() }
        case .refresh:
            // RFC 8656 §8: tried again while the allocation lasts
            refreshAt = now + configuration.refusalRest / 6
        case .permission(let ip): permissionRefused(ip, error, at: now)
        case .channel(_, let peer): channelRefused(peer, at: now)
        }
    }

    // MARK: Answers

    mutating func handleResponse(_ response: StunMessage, at now: Instant) {
        guard let index = transactions.firstIndex(where: { $0.id == response.transactionID }) else { counters.unmatchedResponses += 1; return }
        let transaction = transactions[index]
        let integrity = transaction.key.map { response.integrity(key: $0) } ?? .right
        let error = response.errorCode
        let isChallenge = response.messageClass == .error && error.map { $0.code == 401 || $0.code == 438 || $0.code == 300 } ?? false
        guard integrity == .right || integrity == .absent && isChallenge else {
            // RFC 8489 §9.2.5: a challenge cannot be signed; anything else is as if it never came, for anybody could have sent it
            counters.unauthenticated += 1
            if integrity == .absent { transactions[index].unsigned = error?.code }
            return
        }
        transactions.remove(at: index)
        guard response.messageClass == .error else { return handleSuccess(response, of: transaction, at: now) }
        guard let error else { return giveUp(transaction, .badAnswer("an error without a code"), at: now) }
        handleError(error.code, error.reason, response, of: transaction, at: now)
    }

    private mutating func handleError(_ code: Int, _ reason: String, _ response: StunMessage, of transaction: Transaction, at now: Instant) {
        switch code {
        case 401 where transaction.key == nil, 438:
            // RFC 8489 §9.2.5: asked for the first time, or with a nonce that grew old
            guard transaction.renewals < Self.maximumRenewals else { return refuse(transaction, TurnError(code: code, reason: reason), at: now) }
            guard credential.take(response) else { return refuse(transaction, .badAnswer("a challenge without realm or nonce"), at: now) }
            if code == 438 { counters.staleNonces += 1 }
            request(transaction.purpose, renewals: transaction.renewals + 1, at: now)
        case 300 where transaction.purpose == .allocate:
            redirect(response)
        case 437 where transaction.purpose == .allocate && !hasClearedPort && credential.challenge != nil:
            // a process before us may have had this port: what it left is ours to give back where the credentials are the same
            hasClearedPort = true
            request(.release(thenAllocate: true), at: now)
        case 440 where transaction.purpose == .allocate && family == nil:
            // RFC 8656 §7.2: no IPv4 there
            family = 2
            request(.allocate, at: now)
        default: refuse(transaction, TurnError(code: code, reason: reason), at: now)
        }
    }

    /// The server said no, which is another thing than saying nothing.
    private mutating func refuse(_ transaction: Transaction, _ error: TurnError, at now: Instant) {
        switch transaction.purpose {
        case .release(thenAllocate: true):
            // whatever was there, it is not ours; perhaps it is gone by now
            request(.allocate, at: now)
        case .refresh: fail(.allocationLost("\(error)"))
        case .permission, .channel:
            // RFC 8656 §10.2, §12.2: the allocation that it belongs to is not there
            if error == .allocationMismatch { return fail(.allocationLost("\(error)")) }
            giveUp(transaction, error, at: now)
        case .allocate, .release: giveUp(transaction, error, at: now)
        }
    }

    private mutating func redirect(_ response: StunMessage) {
        var server: TransportAddress?
        var domain: String?
        for attribute in response.attributes {
            if case .alternateServer(let address) = attribute { server = address }
            if case .alternateDomain(let name) = attribute { domain = name }
        }
        guard let server, isUsable(server), redirects < configuration.maximumRedirects else { return fail(.redirectedTooOften) }
        redirects += 1
        forget()
        credential.forgetChallenge()
        family = nil
        hasClearedPort = false
        events.append(.redirected(server, domain: domain))
    }

    private mutating func handleSuccess(_ response: StunMessage, of transaction: Transaction, at now: Instant) {
        switch transaction.purpose {
        case .allocate: allocated(response, at: now)
        case .release(thenAllocate: true): request(.allocate, at: now)
        case .release(thenAllocate: false): finishClosing()
        case .refresh:
            guard response.lifetime != 0 else { return fail(.allocationLost("the server ended it")) }
            extend(response.lifetime, at: now)
        case .permission(let ip): permissionGranted(ip, at: now)
        case .channel(let number, let peer): channelBound(number, to: peer, at: now)
        }
    }

    private mutating func allocated(_ response: StunMessage, at now: Instant) {
        var relayed: [TransportAddress] = []
        for case .xorRelayedAddress(let address) in response.attributes where isUsable(address) {
            if !relayed.contains(where: { $0.ip.isIPv6 == address.ip.isIPv6 }) { relayed.append(address) }
        }
        guard !relayed.isEmpty, let mapped = response.mappedAddress else { return fail(.badAnswer("an allocation without an address")) }
        let allocation = Allocation(relayed: relayed, mapped: mapped)
        state = .allocated(allocation)
        extend(response.lifetime, at: now)
        events.append(.allocated(allocation))
    }

    /// RFC 8656 §8: a minute before the end; half of it where it is short.
    private mutating func extend(_ seconds: UInt32?, at now: Instant) {
        let lifetime = seconds.map { Duration.seconds(Int64($0)) } ?? configuration.lifetime
        expiresAt = now + lifetime
        refreshAt = now + max(lifetime - .seconds(60), lifetime / 2)
    }
}

extension StunMessage {
    var errorCode: (code: Int, reason: String)? {
        for case .errorCode(let code, let reason) in attributes { return (code, reason) }
        return nil
    }

    var lifetime: UInt32? {
        for case .lifetime(let seconds) in attributes { return seconds }
        return nil
    }
}
