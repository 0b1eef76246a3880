import ArgumentParser
import WebRTCNIO

/// Windows, timers and the like of the connections, for `serve`, `stream` and `doctor`.
struct TransportOptions: ParsableArguments {
    @Option(
        help: """
            NAME=VALUE, several times (EVERYFRAME_TRANSPORT, parted by blanks): congestion-control (bbr, cubic, newreno), receive-window, send-buffer and mtu \
            in bytes, rto-initial, rto-min, rto-max and sack-delay in ms, burst in packets, ice-pacing, ice-rto, ice-failure-timeout, consent-interval, \
            consent-timeout and disconnected-timeout in ms, ice-transmissions.
            """)
    var transport: [String] = []

    func apply(to configuration: inout PeerConnection.Configuration) throws {
        let variable = Environment.text("EVERYFRAME_TRANSPORT")?.split(separator: " ").map(String.init) ?? []
        do throws(PeerConnectionError) {
            for setting in transport.isEmpty ? variable : transport { try configuration.set(setting) }
            try configuration.validate()
        } catch {
            throw ValidationError("--transport: \(error.detail)")
        }
    }
}

extension PeerConnection.IceServer {
    /// `stun:HOST[:PORT]`, or `turn:HOST[:PORT],USERNAME,CREDENTIAL`.
    init(_ text: String, option: String) throws {
        let parts = text.split(separator: ",", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        let scheme = parts[0].prefix { $0 != ":" }.lowercased()
        let isStun = scheme == "stun" && parts.count == 1 && parts[0].utf8.count > 5
        guard isStun || ["turn", "turns"].contains(scheme) && parts.count == 3 else {
            throw ValidationError("\(option): '\(parts[0])' is neither stun:HOST[:PORT] nor turn:HOST[:PORT],USERNAME,CREDENTIAL")
        }
        self.init(urls: [parts[0]], username: parts.count == 3 ? parts[1] : nil, credential: parts.count == 3 ? parts[2] : nil)
    }
}
