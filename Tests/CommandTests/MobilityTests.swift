import Foundation
import Testing

/// The program on hosts whose addresses change under it, and on networks of which a part is broken.
@Suite(.timeLimit(.minutes(4)), .serialized, .enabled(if: TwoHosts.isAvailable, "network namespaces are not to be had here")) struct MobilityTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    /// 500 frames of 20 ms each: ten seconds.
    private static let frames = 500

    /// A server on its host, told of by the address that clients shall use.
    private func serve(on hosts: TwoHosts, at url: (Int) -> String, _ options: [String] = []) async throws -> (Program, String) {
        let words = ["serve", "--port", "0", "--host", "::", "--model", "synthetic:20ms", "--requests-in-flight", "1"]
        let program = try Program(words + options, in: workshop, prefix: hosts.prefix(.server))
        try await eventually("the server listens") { program.errors.contains("Listening on ") }
        let line = program.errors.components(separatedBy: "Listening on ").dropFirst().first?.prefix { $0 != ";" }
        let port = try #require(line?.split(separator: ":").last.flatMap { Int($0) }, "\(program.errors)")
        return (program, url(port))
    }

    private var lines: Int { workshop.text(of: "results.jsonl").count { $0 == "\n" } }

    /// Streams while `change` is done to the network, and answers with the longest time without a result since then.
    private func stream(
        on hosts: TwoHosts, to url: String, _ options: [String] = [], changing change: () async throws -> Void
    ) async throws -> (gap: Duration, errors: String, summary: [String: Any]) {
        try workshop.video("video.mp4", frames: Self.frames)
        let words = ["stream", "video.mp4", "--server", url, "--results", "results.jsonl", "--summary", "summary.json"]
        let program = try Program(words + options, in: workshop, prefix: hosts.prefix(.client))
        try await eventually("results come") { lines >= 60 }
        let clock = ContinuousClock()
        let watch = Task { [workshop] in
            var (seen, at, longest) = (0, clock.now, Duration.zero)
            while !Task.isCancelled {
                let count = workshop.text(of: "results.jsonl").count { $0 == "\n" }
                if count > seen {
                    if seen > 0 { longest = max(longest, clock.now - at) }
                    (seen, at) = (count, clock.now)
                }
                if count >= Self.frames { break }
                try? await Task.sleep(for: .milliseconds(5))
            }
            return longest
        }
        defer { watch.cancel() }
        try await change()
        let ended = try await program.waitForEnd(within: 90)
        #expect(ended.code == 0, "\(ended.errors)")
        #expect(workshop.frames(of: "results.jsonl") == Array(1...Self.frames))
        #expect(ended.errors.contains("all \(Self.frames) frames answered, each once, in order"), "\(ended.errors)")
        watch.cancel()
        return (await watch.value, ended.errors, try workshop.json("summary.json"))
    }

    private func twoHosts(_ names: [String] = []) async throws -> TwoHosts {
        let hosts = try await TwoHosts(in: workshop, names: names)
        try hosts.ip(.server, "addr add 10.9.0.1/24 dev v")
        try hosts.ip(.client, "addr add 10.9.0.2/24 dev v")
        return hosts
    }

    @Test("An address of the client's goes and another comes, after so many milliseconds: the connection moves over", arguments: [0, 1000])
    func clientMoves(pause: Int) async throws {
        let hosts = try await twoHosts()
        let (server, url) = try await serve(on: hosts) { "http://10.9.0.1:\($0)" }
        let (gap, errors, summary) = try await stream(on: hosts, to: url) {
            try hosts.ip(.client, "addr del 10.9.0.2/24 dev v")
            try await Task.sleep(for: .milliseconds(pause))
            try hosts.ip(.client, "addr add 10.9.0.3/24 dev v")
        }
        print("client's address changed with a pause of \(pause) ms: \(gap) without a result")
        #expect(gap <= .milliseconds(3000 + pause), "\(errors)")
        #expect(summary["reconnections"] as? Int == 0, "\(summary)")
        server.send(SIGTERM)
        #expect(try await server.waitForEnd().code == 0)
    }

    @Test("An address of the server's goes and another comes: the connection moves over")
    func serverMoves() async throws {
        let hosts = try await twoHosts()
        let (server, url) = try await serve(on: hosts) { "http://10.9.0.1:\($0)" }
        let (gap, errors, summary) = try await stream(on: hosts, to: url) {
            try hosts.ip(.server, "addr del 10.9.0.1/24 dev v;addr add 10.9.0.4/24 dev v")
        }
        print("server's address changed: \(gap) without a result")
        #expect(gap <= .seconds(3), "\(errors)")
        #expect(summary["reconnections"] as? Int == 0, "\(summary)")
        server.send(SIGTERM)
        #expect(try await server.waitForEnd().code == 0)
    }

    @Test("Five changes in a row, of either family, make no difference")
    func changesInARow() async throws {
        let hosts = try await twoHosts()
        try hosts.ip(.server, "addr add fd09::1/64 dev v nodad")
        let (server, url) = try await serve(on: hosts) { "http://10.9.0.1:\($0)" }
        let (gap, errors, _) = try await stream(on: hosts, to: url) {
            try hosts.ip(.client, "addr add fd09::2/64 dev v nodad;addr del 10.9.0.2/24 dev v")
            try await Task.sleep(for: .milliseconds(1200))
            try hosts.ip(.client, "addr add 10.9.0.5/24 dev v;addr del fd09::2/64 dev v")
            try await Task.sleep(for: .milliseconds(1200))
            try hosts.ip(.client, "addr del 10.9.0.5/24 dev v;addr add 10.9.0.6/24 dev v")
            try await Task.sleep(for: .milliseconds(1200))
            try hosts.ip(.client, "addr del 10.9.0.6/24 dev v;addr add fd09::7/64 dev v nodad")
            try await Task.sleep(for: .milliseconds(1200))
            try hosts.ip(.client, "addr add 10.9.0.2/24 dev v;addr del fd09::7/64 dev v")
        }
        print("five changes: at most \(gap) without a result")
        #expect(gap <= .seconds(4), "\(errors)")
        server.send(SIGTERM)
        #expect(try await server.waitForEnd().code == 0)
    }

    enum Reach: String, CaseIterable { case onlyIPv6, brokenIPv6, brokenIPv4 }

    @Test("Where one of the two families is absent or broken, the other carries the stream, and soon", arguments: Reach.allCases)
    func families(reach: Reach) async throws {
        let hosts = try await TwoHosts(in: workshop, names: ["10.9.0.1 server.test", "fd09::1 server.test"].filter { reach != .onlyIPv6 || $0.hasPrefix("f") })
        try hosts.ip(.server, "addr add fd09::1/64 dev v nodad")
        try hosts.ip(.client, "addr add fd09::2/64 dev v nodad")
        if reach == .onlyIPv6 {
            for host in TwoHosts.Host.allCases { try hosts.ip(host, "addr del 127.0.0.1/8 dev lo") }
        } else {
            try hosts.ip(.server, "addr add 10.9.0.1/24 dev v")
            try hosts.ip(.client, "addr add 10.9.0.2/24 dev v")
            let isIPv6 = reach == .brokenIPv6
            try hosts.lose(.client, to: isIPv6 ? "fd09::1" : "10.9.0.1")
            try hosts.lose(.server, to: isIPv6 ? "fd09::2" : "10.9.0.2")
        }
        let (server, url) = try await serve(on: hosts) { reach == .onlyIPv6 ? "http://[fd09::1]:\($0)" : "http://server.test:\($0)" }
        try workshop.video("video.mp4", frames: 50)
        let words = ["stream", "video.mp4", "--server", url, "--results", "results.jsonl", "--summary", "summary.json"]
        let ended = try await Program.run(words, in: workshop, prefix: hosts.prefix(.client))
        #expect(ended.code == 0, "\(ended.errors)")
        #expect(workshop.frames(of: "results.jsonl") == Array(1...50))
        let setup = try #require(try workshop.json("summary.json")["setup_ms"] as? Double)
        print("\(reach.rawValue): set up in \(setup) ms")
        #expect(setup < 3000)
        server.send(SIGTERM)
        #expect(try await server.waitForEnd().code == 0)
    }
}
