import Foundation
import Testing

/// What answers is no Everyframe, an older one, or one that wants a key.
@Suite(.timeLimit(.minutes(2)), .serialized) struct OtherServerTests {
    let workshop: Workshop

    init() throws {
        workshop = try Workshop()
        try workshop.video("video.mp4", frames: 10)
    }

    private func stream(_ url: String, _ options: String...) async throws -> Program.Ended {
        try await Program.run(["stream", "video.mp4", "--server", url] + options, in: workshop, within: 30)
    }

    @Test("No server")
    func down() async throws {
        let ended = try await stream("http://127.0.0.1:9")
        #expect(ended.code == 69)
        #expect(ended.errors == "everyframe: server unreachable: http://127.0.0.1:9/whip: connection refused\n")
        let unknown = try await stream("http://nosuch.invalid")
        #expect(unknown.code == 69)
        #expect(unknown.errors.contains("there is no host of that name"), "\(unknown.errors)")
    }

    @Test(
        "Another program's web server",
        arguments: [
            (200, "text/html", "<html><body>Welcome</body></html>", 69, "the server's answer has no SDP in it; is http://127.0.0.1:"),
            (404, "text/html", "<html><head><title>404 Not Found</title></head></html>", 69, "HTTP 404: there is no Everyframe at http://127.0.0.1:"),
            (404, "application/json", #"{"detail":"Not Found"}"#, 69, "HTTP 404: there is no Everyframe at http://127.0.0.1:"),
            (501, "text/html", "<!DOCTYPE HTML><html>Unsupported method</html>", 69, "HTTP 501: there is no Everyframe at http://127.0.0.1:"),
            (500, "text/html", "<html>oh</html>", 76, "refused by the server (HTTP 500): an HTML page, as no Everyframe answers"),
            (500, "application/json", #"{"detail":"it broke"}"#, 76, "refused by the server (HTTP 500): it broke"),
            (200, "application/json", #"{"status":"success","sdp":"v=0\r\n","type":"answer"}"#, 69, "--wire prototype"),
        ] as [(Int, String, String, Int32, String)])
    func other(status: Int, type: String, body: String, code: Int32, words: String) async throws {
        let server = try WebServer("HTTP/1.1 \(status) X\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)")
        defer { server.stop() }
        let ended = try await stream(server.url)
        #expect(ended.code == code, "\(ended.errors)")
        #expect(ended.errors.contains(words), "\(ended.errors)")
    }

    @Test("Something that speaks no HTTP, and one that hangs up")
    func noHTTP() async throws {
        for answer in ["SSH-2.0-OpenSSH_9.6\r\n", ""] {
            let server = try WebServer(answer)
            defer { server.stop() }
            let ended = try await stream(server.url)
            #expect(ended.code == 69, "\(ended.errors)")
        }
    }

    @Test("A key that is missing, wrong, or right")
    func key() async throws {
        // the variable keeps it out of process lists
        let server = try await Server(["--model", "synthetic:0"], in: workshop, environment: ["EVERYFRAME_API_KEY": "sesame"])
        let missing = try await stream(server.url)
        #expect(missing.code == 77)
        #expect(missing.errors == "everyframe: refused by the server (HTTP 401): Unauthorized: the api_key is missing or wrong\n")
        #expect(try await stream(server.url, "--api-key", "wrong").code == 77)
        #expect(try await stream(server.url, "--api-key", "sesame").code == 0)
        let ended = try await Program.run(
            ["stream", "video.mp4"], in: workshop, environment: ["EVERYFRAME_API_KEY": "sesame", "EVERYFRAME_SERVER": server.url + "/"])
        #expect(ended.code == 0, "\(ended.errors)")
        try await server.stop()
        #expect(!server.program.errors.contains("sesame") && !server.program.errors.contains("wrong\""))
    }

    @Test("A server without a free place")
    func full() async throws {
        try await withServer("synthetic:50ms", ["--max-sessions", "1"], in: workshop) { server in
            try workshop.video("long.mp4", frames: 4000, ["-vf", "scale=32:32", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
            let first = try Program(["stream", "long.mp4", "--server", server.url, "--results", "r.jsonl"], in: workshop)
            try await eventually("the first is served") { !workshop.text(of: "r.jsonl").isEmpty }
            let second = try await stream(server.url)
            #expect(second.code == 69)
            #expect(second.errors.contains("All 1 sessions of this server are taken; try again later"), "\(second.errors)")
            first.send(SIGINT)
            _ = try await first.waitForEnd()
        }
    }
}

/// Says the same to everybody.
private final class WebServer: Sendable {
    let url: String
    private let socket: Int32

    init(_ answer: String) throws {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.socket = socket
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let port = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer -> Bool in
                bind(socket, pointer, length) == 0 && listen(socket, 8) == 0 && getsockname(socket, pointer, &length) == 0
            }
        }
        guard port else { throw Program.Failure(description: "no port for a web server") }
        url = "http://127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
        // its own thread: accepting and reading block. It ends when the socket is shut down
        Thread.detachNewThread {
            while case let connection = accept(socket, nil, nil), connection >= 0 {
                var request: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65_536)
                while !Self.isWhole(request), case let count = read(connection, &buffer, buffer.count), count > 0 { request += buffer[..<count] }
                _ = answer.withCString { send(connection, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
                close(connection)
            }
        }
    }

    func stop() {
        shutdown(socket, Int32(SHUT_RDWR))
        close(socket)
    }

    private static func isWhole(_ request: [UInt8]) -> Bool {
        let text = String(decoding: request, as: UTF8.self).lowercased()
        guard let head = text.range(of: "\r\n\r\n") else { return false }
        let length = text[..<head.lowerBound].components(separatedBy: "content-length:").dropFirst().first?.prefix { $0 != "\r\n" && $0 != "\r" }
        return text[head.upperBound...].utf8.count >= Int(length?.trimmingCharacters(in: .whitespaces) ?? "") ?? 0
    }
}
