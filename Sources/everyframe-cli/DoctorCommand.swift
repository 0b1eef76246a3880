import ArgumentParser
import Everyframe
import Foundation
import FrameTransport
import Logging
import WebRTCNIO

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Find out which step of reaching a server fails, and what to do about it.",
        discussion: """
            Tries names (DNS), HTTP, signalling, UDP (ICE), DTLS, SCTP, packet size, round trip and throughput, in that order, then the STUN and TURN
            servers that are named here or by the server. It opens one session, for some seconds, and sends a few MiB each way.

            Exit codes: 0 all is well, perhaps with warnings; 1 only a STUN or TURN server failed; 64 wrong usage; 69 the server is not reached
            by DNS or HTTP, has no place, or is no Everyframe; 75 signalling works and UDP, DTLS, SCTP or the load test does not; 76 the server refused
            the request; 77 the server refused the key.
            """)

    @Option(help: "The server's URL (EVERYFRAME_SERVER; default http://127.0.0.1:9001).")
    var server: String?
    @Option(help: "Key for the server (EVERYFRAME_API_KEY).")
    var apiKey: String?
    @Option(help: "A STUN server to try, stun:HOST[:PORT]; may be given several times.")
    var stun: [String] = []
    @Option(help: "A TURN server to try, turn:HOST[:PORT][?transport=tcp] or turns:…; with its user name and credential behind it, parted by commas.")
    var turn: [String] = []
    @OptionGroup(title: "How the connection behaves")
    var transport: TransportOptions
    @Option(help: "Seconds that each step may take.")
    var timeout: Int = 10
    @Flag(help: "What was found as JSON, on standard output.")
    var json = false

    mutating func validate() throws {
        _ = try inRange(timeout, 1...600, "timeout")
        var peer = PeerConnection.Configuration()
        try transport.apply(to: &peer)
        do throws(StreamError) { try streamConfiguration().validate() } catch { throw ValidationError(error.detail) }
        _ = try servers()
    }

    func run() async throws {
        try Log.start(nil, default: .error)
        var doctor = Doctor(configuration: streamConfiguration())
        doctor.servers = try servers()
        doctor.patience = .seconds(timeout)
        let isQuiet = json
        let diagnosis: Diagnosis
        do throws(StreamError) {
            diagnosis = try await doctor.run { if !isQuiet { print(Self.line($0)) } }
        } catch {
            throw ExitStatus(error).code
        }
        if json { print(diagnosis.json.description) }
        if let status = Self.status(of: diagnosis) { throw status.code }
    }

    private func streamConfiguration() -> StreamConfiguration {
        var configuration = StreamConfiguration(server: server ?? Environment.text("EVERYFRAME_SERVER") ?? "http://127.0.0.1:9001")
        configuration.apiKey = apiKey ?? Environment.text("EVERYFRAME_API_KEY")
        // `validate()` has looked at it before
        try? transport.apply(to: &configuration.peer)
        configuration.peer.iceServers = (try? servers()) ?? []
        return configuration
    }

    private func servers() throws -> [PeerConnection.IceServer] {
        try stun.map { try .init($0, option: "--stun") } + turn.map { try .init($0, option: "--turn") }
    }

    private static func line(_ finding: Diagnosis.Finding) -> String {
        let mark =
            switch finding.outcome {
            case .ok: "ok  "
            case .warning: "warn"
            case .failed: "FAIL"
            case .skipped: "-   "
            }
        let name = finding.step.rawValue.padding(toLength: 10, withPad: " ", startingAt: 0)
        return "\(mark) \(name) \(finding.detail)" + (finding.advice.map { "\n                → \($0)" } ?? "")
    }

    /// The first thing that is wrong decides.
    private static func status(of diagnosis: Diagnosis) -> ExitStatus? {
        guard let first = diagnosis.findings.first(where: { $0.outcome == .failed }) else { return nil }
        switch first.step {
        case .dns, .http, .signalling: return diagnosis.refusal.map { ExitStatus($0) } ?? .serverUnavailable
        case .udp, .dtls, .sctp, .mtu, .roundTrip, .throughput: return .connectionLost
        case .stun, .turn: return .framesFailed
        }
    }
}
