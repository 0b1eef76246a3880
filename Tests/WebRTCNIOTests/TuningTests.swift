import NIOCore
import Testing
import WebRTCNIO

/// Values that can be set, their ranges, and that the connection goes by them.
@Suite(.serialized) struct TuningTests {
    @Test(
        "Every value is set by its name, checked, and refused beyond its range with words that name it",
        arguments: PeerConnection.Configuration.Setting.allCases)
    func ranges(setting: PeerConnection.Configuration.Setting) throws {
        var configuration = PeerConnection.Configuration()
        try configuration.validate()
        for bad in ["-1", "x", "", "99999999999999999999", "4294967296000"] {
            do throws(PeerConnectionError) {
                var configuration = PeerConnection.Configuration()
                try configuration.set("\(setting.rawValue)=\(bad)")
                Issue.record("\(setting.rawValue)=\(bad) was accepted")
            } catch {
                #expect(error.code == .invalidArgument && error.detail.hasPrefix(setting.rawValue), "\(error)")
            }
        }
        let good = setting == .congestionControl ? "NewReno" : setting == .receiveWindow ? "65536" : setting == .iceTransmissions ? "3" : "2500"
        switch setting {
        // below that
        case .sackDelay, .icePacing: try configuration.set("\(setting.rawValue)=400")
        default: try configuration.set("\(setting.rawValue)=\(good)")
        }
        #expect(
            configuration.sctp != .init() || configuration.ice != .init() || configuration.receiveWindow == 65_536 || configuration.sendBuffer == 2500
                || configuration.maximumDatagramSize == 2500)
    }

    @Test("Names that are none, values that contradict each other, and a connection that is made with them")
    func contradictions() async throws {
        var configuration = PeerConnection.Configuration()
        for bad in ["", "mtu", "=1", "window=1"] { #expect(throws: PeerConnectionError.self) { try configuration.set(bad) } }
        configuration.sctp.minimumRetransmissionTimeout = .seconds(10)
        #expect(throws: PeerConnectionError.self) { try configuration.validate() }
        configuration.sctp = .init()
        configuration.ice.consentTimeout = .seconds(3)
        await #expect(throws: PeerConnectionError.self) { _ = try await PeerConnection(configuration: configuration) }
    }

    @Test("What is set shows in the stats, and is what the connection does", arguments: PeerConnection.Configuration.CongestionControl.allCases)
    func live(controller: PeerConnection.Configuration.CongestionControl) async throws {
        var configuration = ConnectedPair.loopback()
        for setting in [
            "congestion-control=\(controller.rawValue)", "receive-window=131072", "rto-initial=700", "rto-min=250", "rto-max=4000", "sack-delay=5", "burst=16",
            "mtu=1200", "send-buffer=65536",
        ] { try configuration.set(setting) }
        let pair = try await ConnectedPair.make(configuration: configuration)
        let received = Task {
            var bytes = 0
            for try await message in pair.right.messages {
                if case .binary(let part) = message { bytes += part.readableBytes }
                if bytes == 4 << 20 { break }
            }
            return bytes
        }
        for _ in 0..<64 { try await pair.left.send(payload(65_536, seed: 5)) }
        try await within(.seconds(60)) { try await pair.left.drained() }
        #expect(try await received.value == 4 << 20)
        let sctp = await pair.offerer.getStats().sctpTransport
        let settings = sctp.everyframe.settings
        #expect(settings.congestionControl == controller.rawValue && settings.receiveWindow == 131_072 && settings.packetsPerBurst == 16)
        #expect(settings.initialRetransmissionTimeout == 0.7 && settings.minimumRetransmissionTimeout == 0.25 && settings.maximumRetransmissionTimeout == 4)
        #expect(settings.sackDelay == 0.005)
        // what they do: the windows, the time-out's floor, the size of datagrams
        #expect(sctp.receiverWindow <= 131_072 && sctp.everyframe.retransmissionTimeout >= 0.25 && sctp.everyframe.datagramSize <= 1200)
        await pair.close()
    }
}
