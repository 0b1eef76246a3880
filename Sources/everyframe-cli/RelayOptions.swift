import ArgumentParser
import WebRTCNIO

/// How the ICE servers of one side are used; for `serve` and `stream`.
struct RelayOptions: ParsableArguments {
    @Flag(help: "Use nothing but the TURN servers: the other side learns no address of this one.")
    var relayOnly = false
    @Option(help: "PEM file of certificates that turns: may trust beside the system's (EVERYFRAME_ICE_CA).")
    var iceCa: String?

    func apply(_ servers: [PeerConnection.IceServer], to configuration: inout PeerConnection.Configuration) {
        configuration.iceServers = servers.map { server in
            var server = server
            server.trustedCertificates = iceCa ?? Environment.text("EVERYFRAME_ICE_CA")
            return server
        }
        configuration.iceTransportPolicy = relayOnly ? .relay : .all
    }
}
