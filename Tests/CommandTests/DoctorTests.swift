import Foundation
import Glibc
import Testing

/// `everyframe doctor` against servers that are well, down, closed or beyond reach.
@Suite(.timeLimit(.minutes(3)), .serialized) struct DoctorTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    private func examine(_ url: String, _ options: String...) async throws -> (code: Int32, steps: [String: [String: Any]], ended: Program.Ended) {
        let ended = try await Program.run(["doctor", "--server", url, "--json", "--timeout", "5"] + options, in: workshop, within: 60)
        let object = try JSONSerialization.jsonObject(with: Data(ended.output.utf8)) as? [String: Any]
        let steps = try #require(object?["steps"] as? [[String: Any]], "\(ended)")
        #expect(object?["ok"] as? Bool == (ended.code == 0))
        let byName = Dictionary(steps.compactMap { step in (step["step"] as? String).map { ($0, step) } }, uniquingKeysWith: { $1 })
        #expect(byName.count == 11, "each step is told, tried or not")
        return (ended.code, byName, ended)
    }

    private func outcomes(_ steps: [String: [String: Any]]) -> [String: String] { steps.compactMapValues { $0["outcome"] as? String } }

    @Test("All is well: each step says what it measured, and the session is over when the doctor has left")
    func well() async throws {
        try await withServer("synthetic:0", ["--log-level", "info"], in: workshop) { server in
            let (code, steps, ended) = try await examine(server.url)
            #expect(code == 0, "\(ended)")
            for name in ["dns", "http", "signalling", "udp", "dtls", "sctp", "mtu", "rtt", "throughput"] {
                #expect(steps[name]?["outcome"] as? String == "ok", "\(name): \(String(describing: steps[name]))")
            }
            #expect(steps["stun"]?["outcome"] as? String == "skipped" && steps["turn"]?["outcome"] as? String == "skipped")
            #expect(steps["dns"]?["ipv4"] as? [String] == ["127.0.0.1"])
            #expect(steps["http"]?["status"] as? Int == 200 && steps["http"]?["model"] as? String == "synthetic:0ms")
            #expect(steps["signalling"]?["whip"] as? Bool == true)
            #expect((steps["udp"]?["remote"] as? String)?.hasPrefix("127.0.0.1:") == true)
            #expect((steps["mtu"]?["datagram_size"] as? Int ?? 0) > 1200, "over loopback")
            #expect(steps["rtt"]?["rtt_ms"] as? Double ?? 0 > 0)
            #expect(steps["throughput"]?["up_bytes_per_second"] as? Double ?? 0 > 0 && steps["throughput"]?["down_bytes_per_second"] as? Double ?? 0 > 0)
            try await eventually("the session is over") { server.program.errors.contains("Session 1 ended") }
            // for people, too
            let told = try await Program.run(["doctor", "--server", server.url], in: workshop, within: 60)
            #expect(told.code == 0 && told.output.contains("ok   throughput") && !told.output.contains("FAIL"), "\(told)")
        }
    }

    @Test("No server, no such host, another program's port, and no use of the options")
    func down() async throws {
        let (code, steps, _) = try await examine("http://127.0.0.1:9")
        #expect(code == 69 && steps["dns"]?["outcome"] as? String == "ok" && steps["http"]?["outcome"] as? String == "failed")
        #expect((steps["http"]?["advice"] as? String)?.contains("--host") == true)
        #expect(outcomes(steps).filter { $0.value == "skipped" }.count == 9)
        let unknown = try await examine("http://nosuch.invalid")
        #expect(unknown.code == 69 && unknown.steps["dns"]?["outcome"] as? String == "failed")
        #expect(try await Program.run(["doctor", "--server", "ftp://x"], in: workshop).code == 64)
        #expect(try await Program.run(["doctor", "--stun", "example.net"], in: workshop).code == 64)
        #expect(try await Program.run(["doctor", "--turn", "turn:example.net"], in: workshop).code == 64)
    }

    @Test("A wrong key, and no key")
    func key() async throws {
        let server = try await Server(["--model", "synthetic:0"], in: workshop, environment: ["EVERYFRAME_API_KEY": "sesame"])
        for options in [[], ["--api-key", "wrong"]] {
            let ended = try await Program.run(["doctor", "--server", server.url] + options, in: workshop, within: 60)
            #expect(ended.code == 77 && ended.output.contains("FAIL signalling") && ended.output.contains("EVERYFRAME_API_KEY"), "\(ended)")
        }
        #expect(try await examine(server.url, "--api-key", "sesame").code == 0)
        try await server.stop()
    }

    @Test("The name of a WHIP session, with which it can be ended, is in no log")
    func secretName() async throws {
        try await withServer("synthetic:0", ["--log-level", "debug"], in: workshop) { server in
            let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(socket) }
            try #require(withLoopback(UInt16(server.port)) { connect(socket, $0, $1) } == 0)
            let request = "DELETE /whip/0123456789secret HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            _ = request.withCString { send(socket, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
            #expect(readMessage(socket)?.hasPrefix("HTTP/1.1 404") == true)
            try await eventually("the refusal is told") { server.program.errors.contains("DELETE /whip/… refused with 404") }
            #expect(!server.program.errors.contains("0123456789secret"))
        }
    }

    @Test("UDP is blocked: the addresses that each end is told are those where nobody is")
    func noUDP() async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            // a proxy that lets HTTP through, and names port 9 for every candidate in it
            let proxy = try RewritingProxy(
                to: server.port,
                body: { $0.replacingOccurrences(of: #"(udp \d+ [0-9.]+) \d+ typ"#, with: "$1 9 typ", options: .regularExpression) })
            defer { proxy.stop() }
            let (code, steps, ended) = try await examine(proxy.url)
            #expect(code == 75, "\(ended)")
            #expect(steps["http"]?["outcome"] as? String == "ok" && steps["signalling"]?["outcome"] as? String == "ok")
            #expect(steps["udp"]?["outcome"] as? String == "failed" && (steps["udp"]?["checks_sent"] as? Int ?? 0) > 0)
            #expect((steps["udp"]?["advice"] as? String)?.contains("--udp-port") == true)
            #expect(steps["dtls"]?["outcome"] as? String == "skipped")
        }
    }

    @Test("A server without WHIP: the doctor says so, and a stream goes by the JSON route")
    func withoutWhip() async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            let proxy = try RewritingProxy(to: server.port, head: { $0.replacing("POST /whip ", with: "POST /nothing ") })
            defer { proxy.stop() }
            let (code, steps, ended) = try await examine(proxy.url)
            #expect(code == 0 && steps["signalling"]?["whip"] as? Bool == false && steps["throughput"]?["outcome"] as? String == "ok", "\(ended)")
            try workshop.video("video.mp4", frames: 10)
            let stream = try await Program.run(["stream", "video.mp4", "--server", proxy.url], in: workshop)
            #expect(stream.code == 0, "\(stream)")
        }
    }

    @Test("--transport reaches the connections of the server, the doctor and a stream, and what is wrong with it is a usage error")
    func transport() async throws {
        try await withServer("synthetic:0", ["--transport", "mtu=1200", "--transport", "receive-window=131072"], in: workshop) { server in
            let (code, steps, ended) = try await examine(server.url, "--transport", "congestion-control=newreno")
            #expect(code == 0, "\(ended)")
            #expect(steps["sctp"]?["receive_window"] as? Int ?? .max <= 131_072)
            try workshop.video("video.mp4", frames: 10)
            let stream = try await Program.run(
                ["stream", "video.mp4", "--server", server.url, "--transport", "congestion-control=cubic", "--transport", "mtu=1200", "--summary", "s.json"],
                in: workshop)
            #expect(stream.code == 0, "\(stream)")
            let stats = try workshop.json("s.json")["webrtc_stats"] as? [String: [String: Any]]
            let settings = (stats?["S"]?["everyframe"] as? [String: Any])?["settings"] as? [String: Any]
            #expect(settings?["congestionControl"] as? String == "cubic" && settings?["maximumDatagramSize"] as? Int == 1200)
        }
        for command in [["serve"], ["stream", "x.mp4"], ["doctor"]] {
            let ended = try await Program.run(command + ["--transport", "rto-min=0"], in: workshop)
            #expect(ended.code == 64 && ended.errors.contains("rto-min '0' is not between 1 and 60000 ms"), "\(ended)")
        }
    }

    @Test("STUN: one that answers, and one that does not")
    func stun() async throws {
        try await withServer("synthetic:0", in: workshop) { server in
            // the server's own UDP port answers no strangers
            let silent = try await examine(server.url, "--stun", "stun:127.0.0.1:9")
            #expect(silent.code == 1, "\(silent.ended)")
            #expect(silent.steps["stun"]?["outcome"] as? String == "failed" && silent.steps["throughput"]?["outcome"] as? String == "ok")
            let stun = try StunResponder()
            defer { stun.stop() }
            let answered = try await examine(server.url, "--stun", "stun:127.0.0.1:\(stun.port)")
            #expect(answered.code == 0, "\(answered.ended)")
            #expect((answered.steps["stun"]?["mapped"] as? String)?.hasPrefix("127.0.0.1:") == true)
        }
    }
}

/// Passes HTTP messages on, both ways, one request a connection, with a change of their heads or bodies.
private final class RewritingProxy: Sendable {
    let url: String
    private let socket: Int32

    init(to port: Int, head: @escaping @Sendable (String) -> String = { $0 }, body: @escaping @Sendable (String) -> String = { $0 }) throws {
        let (socket, own) = try listeningSocket(SOCK_STREAM)
        self.socket = socket
        url = "http://127.0.0.1:\(own)"
        // its own thread: all of it blocks. It ends when the socket is shut down
        Thread.detachNewThread {
            while case let client = accept(socket, nil, nil), client >= 0 {
                defer { close(client) }
                let server = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
                defer { close(server) }
                guard withLoopback(UInt16(port), { connect(server, $0, $1) }) == 0 else { continue }
                guard let request = readMessage(client) else { continue }
                Self.send(request, to: server, head, body)
                guard let answer = readMessage(server) else { continue }
                Self.send(answer, to: client, head, body)
            }
        }
    }

    private static func send(_ message: String, to socket: Int32, _ changeHead: (String) -> String, _ changeBody: (String) -> String) {
        let parts = message.components(separatedBy: "\r\n\r\n")
        let body = changeBody(parts.dropFirst().joined(separator: "\r\n\r\n"))
        let head = changeHead(parts[0]).components(separatedBy: "\r\n")
            .filter { !["content-length", "connection", "transfer-encoding"].contains($0.prefix { $0 != ":" }.lowercased()) }
        let text = head.joined(separator: "\r\n") + "\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n" + body
        _ = text.withCString { Glibc.send(socket, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
    }

    func stop() {
        shutdown(socket, Int32(SHUT_RDWR))
        close(socket)
    }
}

/// Answers binding requests (RFC 8489 §6.3.1.1), and nothing else.
private final class StunResponder: Sendable {
    let port: UInt16
    private let socket: Int32

    init() throws {
        (socket, port) = try listeningSocket(SOCK_DGRAM)
        let socket = socket
        Thread.detachNewThread {
            var request = [UInt8](repeating: 0, count: 1500)
            while true {
                var sender = sockaddr_in()
                var length = socklen_t(MemoryLayout<sockaddr_in>.size)
                let count = withUnsafeMutablePointer(to: &sender) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(socket, &request, request.count, 0, $0, &length) }
                }
                // shut down, or an ending of one byte
                guard count > 1 else { return }
                guard count >= 20, request[0] == 0, request[1] == 1 else { continue }
                let cookie: UInt32 = 0x2112_A442
                var answer: [UInt8] = [1, 1, 0, 12] + request[4..<20] + [0, 0x20, 0, 8, 0, 1]
                let mappedPort = UInt16(bigEndian: sender.sin_port) ^ UInt16(cookie >> 16)
                let mappedIP = UInt32(bigEndian: sender.sin_addr.s_addr) ^ cookie
                answer += [UInt8(mappedPort >> 8), UInt8(mappedPort & 255)] + (0..<4).map { UInt8(truncatingIfNeeded: mappedIP >> (24 - 8 * $0)) }
                _ = withUnsafePointer(to: &sender) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(socket, answer, answer.count, 0, $0, length) }
                }
            }
        }
    }

    func stop() {
        // a datagram socket that is not connected wakes its reader by nothing but a datagram
        let other = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        _ = withLoopback(port) { sendto(other, "x", 1, 0, $0, $1) }
        close(other)
    }
}

private func withLoopback<Result>(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    address.sin_port = port.bigEndian
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}

private func listeningSocket(_ kind: __socket_type) throws -> (socket: Int32, port: UInt16) {
    let socket = Glibc.socket(AF_INET, Int32(kind.rawValue), 0)
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isReady = withLoopback(0) { bind(socket, $0, $1) } == 0 && (kind != SOCK_STREAM || listen(socket, 8) == 0)
    let isKnown = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &length) }
    }
    guard isReady, isKnown == 0 else { throw Program.Failure(description: "no port for a test's server") }
    return (socket, UInt16(bigEndian: address.sin_port))
}

/// One message of HTTP with a length, or without a body; nil where none came.
private func readMessage(_ socket: Int32) -> String? {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let text = String(decoding: bytes, as: UTF8.self)
        if let head = text.range(of: "\r\n\r\n") {
            let lengthLine = text[..<head.lowerBound].split(separator: "\r\n").first { $0.lowercased().hasPrefix("content-length:") }
            let length = lengthLine.flatMap { Int($0.split(separator: ":")[1].trimmingCharacters(in: .whitespaces)) } ?? 0
            if text[head.upperBound...].utf8.count >= length { return text }
        }
        let count = read(socket, &buffer, buffer.count)
        guard count > 0 else { return bytes.isEmpty ? nil : text }
        bytes += buffer[..<count]
    }
}
