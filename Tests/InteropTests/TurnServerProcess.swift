import Foundation
import Glibc
import Testing
import WebRTCNIO

/// Debian's coturn in a process of its own, on loopback, with one user. Ended by its id.
final class TurnServerProcess: Sendable {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    static let username = "everyframe"
    static let password = "only for tests"
    static let path = "/usr/bin/turnserver"

    let port: UInt16
    let tlsPort: UInt16
    /// What its certificate is trusted by.
    let authority: String
    private let folder: URL
    private let process: Int32

    /// - Parameter options: lines of turnserver.conf, such as `stale-nonce=1`.
    init(_ options: [String] = [], relayHost: String = "127.0.0.1") async throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("everyframe-turn-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        authority = folder.appendingPathComponent("cert.pem").path
        let key = folder.appendingPathComponent("key.pem").path
        _ = try Self.run(
            "/usr/bin/openssl",
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=turn.test", "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1", "-keyout", key, "-out", authority,
            ])
        // found free now and taken at once: another test's server takes others
        (port, tlsPort) = (try Self.freePort(), try Self.freePort())
        let lines =
            [
                "listening-ip=127.0.0.1", "listening-port=\(port)", "tls-listening-port=\(tlsPort)", "relay-ip=\(relayHost)", "lt-cred-mech",
                "realm=everyframe.test", "user=\(Self.username):\(Self.password)", "allow-loopback-peers", "no-cli", "fingerprint", "relay-threads=1",
                "cert=\(authority)", "pkey=\(key)", "pidfile=\(folder.path)/pid", "userdb=\(folder.path)/db", "log-file=\(folder.path)/log", "simple-log",
                "no-dtls", "verbose",
            ] + options
        let configuration = folder.appendingPathComponent("turnserver.conf").path
        try lines.joined(separator: "\n").write(toFile: configuration, atomically: true, encoding: .utf8)
        process = try Self.spawn(Self.path, ["-c", configuration], log: folder.appendingPathComponent("output").path)
        do {
            try await waitUntilListening()
        } catch {
            end()
            throw error
        }
    }

    deinit {
        end()
        try? FileManager.default.removeItem(at: folder)
    }

    func url(_ transport: String) -> String {
        switch transport {
        case "tls": "turns:localhost:\(tlsPort)"
        default: "turn:127.0.0.1:\(port)?transport=\(transport)"
        }
    }

    func server(_ transport: String) -> PeerConnection.IceServer {
        PeerConnection.IceServer(urls: [url(transport)], username: Self.username, credential: Self.password, trustedCertificates: authority)
    }

    /// Everything it said.
    var log: String {
        (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil))?
            .filter { $0.lastPathComponent.hasPrefix("log") || $0.lastPathComponent == "output" }
            .compactMap { try? String(contentsOf: $0, encoding: .utf8) }.joined() ?? ""
    }

    /// Waits, for at most so many seconds, until its log holds `text` so many times.
    func waitForLog(_ text: String, count: Int = 1, seconds: Double = 20) async throws {
        try await bounded(seconds, "'\(text)' in coturn's log") { [self] in
            while log.components(separatedBy: text).count - 1 < count { try await Task.sleep(for: .milliseconds(50)) }
        }
    }

    /// Stops it at once, as a crash would.
    func end() {
        kill(process, SIGKILL)
        var status: Int32 = 0
        waitpid(process, &status, 0)
    }

    private func waitUntilListening() async throws {
        do {
            try await bounded(20, "coturn") { [self] in
                while !Self.accepts(port) || !Self.accepts(tlsPort) { try await Task.sleep(for: .milliseconds(20)) }
            }
        } catch {
            throw Failure(description: "coturn does not listen; it said: \(log.suffix(2000))")
        }
    }

    // MARK: The system

    private static func address(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    private static func accepts(_ port: UInt16) -> Bool {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = address(port)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        } == 0
    }

    private static func freePort() throws -> UInt16 {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = address(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0 }
        }
        guard bound else { throw Failure(description: "no free port") }
        return UInt16(bigEndian: address.sin_port)
    }

    private static func spawn(_ path: String, _ arguments: [String], log: String) throws -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, path, &actions, nil, &words, environ)
        guard code == 0 else { throw Failure(description: "\(path) cannot be started: \(String(cString: strerror(code)))") }
        return pid
    }

    private static func run(_ path: String, _ arguments: [String]) throws -> Int32 {
        let pid = try spawn(path, arguments, log: "/dev/null")
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        guard status == 0 else { throw Failure(description: "\(path) failed with status \(status)") }
        return status
    }
}
