import Ciphers
import DTLS
import ICE
import SCTP
package import Wire

extension PeerEngine {
    /// Everything that is counted and measured, as W3C's webrtc-stats has it.
    /// - Parameter wallClock: what the time of day is now: milliseconds since 1970.
    package func stats(wallClock: Double, at now: Instant) -> StatsReport {
        var report = StatsReport(
            peerConnection: PeerConnectionStats(id: "P", timestamp: wallClock), transport: TransportStats(id: Self.transportID, timestamp: wallClock),
            sctpTransport: sctpTransportStats(wallClock))
        report.peerConnection.dataChannelsOpened = channels.openedCount
        report.peerConnection.dataChannelsClosed = channels.closedCount
        report.dataChannels = channels.handles.compactMap { dataChannelStats(ChannelHandle(inner: $0), wallClock) }
        reportDTLS(into: &report, wallClock)
        reportIce(into: &report, wallClock, at: now)
        report.transport.packetsSent = traffic.total.packetsSent
        report.transport.packetsReceived = traffic.total.packetsReceived
        report.transport.bytesSent = traffic.total.bytesSent
        report.transport.bytesReceived = traffic.total.bytesReceived
        report.transport.everyframe.demultiplexer = .init(countersOf: counters)
        return report
    }

    /// The one transport that everything is bundled on.
    private static let transportID = "T"

    private func reportDTLS(into report: inout StatsReport, _ wallClock: Double) {
        func certificate(_ id: String, _ fingerprint: Fingerprint, _ base64: String) {
            let hexadecimal = fingerprint.description.split(separator: " ").last.map(String.init) ?? ""
            report.certificates.append(
                CertificateStats(
                    id: id, timestamp: wallClock, fingerprint: hexadecimal, fingerprintAlgorithm: fingerprint.algorithm, base64Certificate: base64))
        }
        certificate("CL", configuration.certificate.fingerprint, configuration.certificate.base64)
        report.transport.localCertificateId = "CL"
        switch dtls {
        case .none: break
        case .some(let dtls):
            report.transport.dtlsState = "\(dtls.progress)"
            report.transport.dtlsRole = isDTLSClient ? "client" : "server"
            report.transport.dtlsCipher = dtls.cipherSuite
            if dtls.progress == .connected { report.transport.tlsVersion = "FEFD" }
            report.transport.everyframe.dtls = .init(countersOf: dtls.counters)
            guard let remote = dtls.remoteCertificate else { break }
            certificate("CR", remote.fingerprint, remote.base64)
            report.transport.remoteCertificateId = "CR"
        }
    }

    private func reportIce(into report: inout StatsReport, _ wallClock: Double, at now: Instant) {
        report.transport.iceLocalUsernameFragment = localUfrag
        report.transport.iceState = "\(iceState)"
        report.transport.selectedCandidatePairChanges = selectedPathChanges
        switch ice {
        case .none: break
        case .some(let ice):
            report.transport.iceRole = ice.isControlling ? "controlling" : "controlled"
            report.transport.everyframe.ice = .init(countersOf: ice.counters)
            report.localCandidates = ice.localCandidates.map {
                IceCandidateStats($0, id: Self.id("L", $0), type: .localCandidate, timestamp: wallClock, transportId: Self.transportID)
            }
            report.remoteCandidates = ice.knownRemoteCandidates.map {
                IceCandidateStats($0, id: Self.id("R", $0), type: .remoteCandidate, timestamp: wallClock, transportId: Self.transportID)
            }
            for pair in ice.pairReports {
                report.candidatePairs.append(pairStats(pair, wallClock, at: now))
                if pair.isSelected { report.transport.selectedCandidatePairId = report.candidatePairs.last?.id }
            }
        }
    }

    private func pairStats(_ pair: IceAgent.PairReport, _ wallClock: Double, at now: Instant) -> IceCandidatePairStats {
        var stats = IceCandidatePairStats(id: "CP\(pair.id)", timestamp: wallClock, transportId: Self.transportID)
        stats.localCandidateId = pair.local.map { Self.id("L", $0) }
        stats.remoteCandidateId = pair.remote.map { Self.id("R", $0) }
        stats.state = pair.state
        stats.nominated = pair.isNominated
        stats.totalRoundTripTime = pair.totalRoundTrip.inStatsSeconds
        stats.currentRoundTripTime = pair.roundTrip?.inStatsSeconds
        stats.requestsSent = pair.requestsSent
        stats.requestsReceived = pair.requestsReceived
        stats.responsesSent = pair.requestsReceived
        stats.responsesReceived = pair.responsesReceived
        stats.consentRequestsSent = pair.consentRequestsSent
        if let traffic = traffic[pair.path] {
            stats.packetsSent = traffic.packetsSent
            stats.packetsReceived = traffic.packetsReceived
            stats.bytesSent = traffic.bytesSent
            stats.bytesReceived = traffic.bytesReceived
            stats.lastPacketSentTimestamp = traffic.lastSent.map { wallClock - (now - $0).inMilliseconds }
            stats.lastPacketReceivedTimestamp = traffic.lastReceived.map { wallClock - (now - $0).inMilliseconds }
        }
        let sctp = channels.statistics
        if pair.isSelected, let roundTrip = sctp.smoothedRoundTripTime, roundTrip > .zero {
            stats.availableOutgoingBitrate = Double(sctp.congestionWindow) * 8 / roundTrip.inStatsSeconds
        }
        return stats
    }

    private func dataChannelStats(_ handle: ChannelHandle, _ wallClock: Double) -> DataChannelStats? {
        guard let options = options(of: handle), let counters = channels.counters(of: handle.inner) else { return nil }
        var stats = DataChannelStats(
            id: "D\(handle.inner.number)", timestamp: wallClock, label: options.label, protocol: options.subprotocol, state: "\(state(of: handle))")
        stats.dataChannelIdentifier = streamID(of: handle).map(Int.init)
        stats.messagesSent = counters.messagesSent
        stats.bytesSent = counters.bytesSent
        stats.messagesReceived = counters.messagesReceived
        stats.bytesReceived = counters.bytesReceived
        stats.everyframe.bufferedAmount = bufferedAmount(of: handle)
        return stats
    }

    private func sctpTransportStats(_ wallClock: Double) -> SctpTransportStats {
        let sctp = channels.statistics
        var stats = SctpTransportStats(id: "S", timestamp: wallClock, transportId: Self.transportID)
        stats.smoothedRoundTripTime = sctp.smoothedRoundTripTime?.inStatsSeconds
        stats.congestionWindow = sctp.congestionWindow
        stats.receiverWindow = sctp.peerReceiveWindow
        stats.mtu = sctp.packetSize
        stats.unackData = sctp.chunksInFlight
        stats.everyframe.datagramSize = sctp.packetSize + recordOverhead
        stats.everyframe.slowStartThreshold = sctp.slowStartThreshold
        stats.everyframe.bytesInFlight = sctp.bytesInFlight
        stats.everyframe.ownReceiverWindow = sctp.receiveWindow
        stats.everyframe.bytesHeld = sctp.bytesHeld
        stats.everyframe.minimumRoundTripTime = sctp.minimumRoundTripTime?.inStatsSeconds
        stats.everyframe.retransmissionTimeout = sctp.retransmissionTimeout.inStatsSeconds
        stats.everyframe.usesInterleaving = sctp.usesInterleaving
        stats.everyframe.usesZeroChecksum = sctp.usesZeroChecksum
        stats.everyframe.packetsSent = sctp.packetsSent
        stats.everyframe.packetsReceived = sctp.packetsReceived
        stats.everyframe.bytesSent = sctp.bytesSent
        stats.everyframe.bytesReceived = sctp.bytesReceived
        stats.everyframe.messagesSent = sctp.messagesSent
        stats.everyframe.messagesReceived = sctp.messagesReceived
        stats.everyframe.messageBytesSent = sctp.payloadBytesSent
        stats.everyframe.messageBytesReceived = sctp.payloadBytesReceived
        stats.everyframe.messagesAbandoned = sctp.messagesAbandoned
        stats.everyframe.chunksRetransmitted = sctp.chunksRetransmitted
        stats.everyframe.timeouts = sctp.timeouts
        stats.everyframe.tailProbes = sctp.tailProbes
        stats.everyframe.recoveries = sctp.recoveries
        stats.everyframe.spuriousRecoveries = sctp.spuriousRecoveries
        stats.everyframe.spuriousTimeouts = sctp.spuriousTimeouts
        stats.everyframe.duplicatesReceived = sctp.duplicatesReceived
        stats.everyframe.pathProbes = sctp.pathProbes
        stats.everyframe.blackHoles = sctp.blackHoles
        stats.everyframe.sacksSent = sctp.sacksSent
        stats.everyframe.sacksReceived = sctp.sacksReceived
        stats.everyframe.discarded = .init(countersOf: sctp.drops)
        stats.everyframe.settings.congestionControl = configuration.sctp.congestionControl
        stats.everyframe.settings.receiveWindow = configuration.receiveWindow
        stats.everyframe.settings.maximumDatagramSize = configuration.maximumDatagramSize
        stats.everyframe.settings.initialRetransmissionTimeout = configuration.sctp.initialRetransmissionTimeout.inStatsSeconds
        stats.everyframe.settings.minimumRetransmissionTimeout = configuration.sctp.minimumRetransmissionTimeout.inStatsSeconds
        stats.everyframe.settings.maximumRetransmissionTimeout = configuration.sctp.maximumRetransmissionTimeout.inStatsSeconds
        stats.everyframe.settings.sackDelay = configuration.sctp.sackDelay.inStatsSeconds
        stats.everyframe.settings.packetsPerBurst = configuration.sctp.packetsPerBurst
        return stats
    }

    /// An address is of one kind at a time, and of one generation.
    private static func id(_ side: String, _ candidate: IceCandidate) -> String {
        let address =
            switch candidate.address {
            case .ip(let address): "\(address)"
            case .hostname(let name, let port): "\(name):\(port)"
            }
        return "\(side)-\(candidate.kind.rawValue)-\(candidate.transport.rawValue)-\(address)"
    }
}

extension Duration {
    fileprivate var inStatsSeconds: Double { Double(inNanoseconds) / 1e9 }
}

extension [String: Int] {
    /// The whole numbers among a structure's properties, by name: a counter that a layer gains is in the report at once.
    package init(countersOf structure: some Any) {
        self.init()
        for child in Mirror(reflecting: structure).children {
            if let name = child.label, let count = child.value as? Int { self[name] = count }
        }
    }
}
