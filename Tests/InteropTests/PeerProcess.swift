import Foundation
import Testing

/// A WebRTC stack that is not ours, in a process of its own, driven by JSON lines (Peers/README.md). Every wait has a bound.
actor PeerProcess {
    enum Stack: String, CaseIterable, Sendable, CustomTestStringConvertible {
        case aiortc, libdatachannel, chromium, libwebrtc, pion
        var testDescription: String { rawValue }

        /// Those that `make test` brings (EVERYFRAME_INTEROP=1), or with `make interop` (=all) those whose set-up takes longer, too.
        static var wanted: [Stack] { wantsAll ? allCases : [.aiortc, .libdatachannel, .chromium] }
        static var wantsAll: Bool { ProcessInfo.processInfo.environment["EVERYFRAME_INTEROP"] == "all" }
    }

    /// What the process said.
    enum Event: Equatable, Sendable {
        case ready(name: String, version: String)
        case description(type: String, sdp: String)
        case candidate(String, mid: String)
        /// `limit`: the largest message the stack sends; nil where only our limit counts.
        case open(label: String, limit: Int?, ChannelFacts)
        case message(label: String, TestMessage.Digest)
        case closed(label: String)
        case state(String)
        case error(String)
        case ended
    }

    /// What the other end knows of a channel; nil where its interface does not tell.
    struct ChannelFacts: Equatable, Sendable {
        var ordered: Bool?
        var maxRetransmits: Int?
        var maxPacketLifeTime: Int?
        var subprotocol: String?
        var id: Int?
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    let stack: Stack
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    /// Said and not yet waited for.
    private var backlog: [Event] = []
    private var waiter: (id: Int, continuation: CheckedContinuation<Void, Never>)?
    private var waits = 0

    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    private static var python: URL {
        if let path = ProcessInfo.processInfo.environment["EVERYFRAME_PEERS_PYTHON"] { return URL(fileURLWithPath: path) }
        return root.appendingPathComponent(".deps/peers/bin/python3")
    }
    /// `make test` sets EVERYFRAME_INTEROP=1 after `scripts/setup peers`; then a stack that is missing fails the tests.
    static var isWanted: Bool { ["1", "all"].contains(ProcessInfo.processInfo.environment["EVERYFRAME_INTEROP"]) }

    /// Starts the process and waits until it has loaded its stack.
    init(_ stack: Stack, _ options: String...) async throws {
        self.stack = stack
        let more = Self.root.appendingPathComponent(".deps/interop")
        if stack == .pion {
            process.executableURL = more.appendingPathComponent("pion_peer")
            process.arguments = options
        } else {
            process.executableURL = Self.python
            process.arguments = [Self.root.appendingPathComponent("Tests/InteropTests/Peers/\(stack.rawValue)_peer.py").path] + options
            process.environment = ProcessInfo.processInfo.environment.merging(["PYTHONPATH": more.appendingPathComponent("packages").path]) { $1 }
        }
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        read()
        _ = try await wait("being ready", seconds: 60) { if case .ready = $0 { true } else { false } }
    }

    /// Ends the process by its id, with the browser or whatever it owns: first by asking.
    func end() async {
        try? tell(["do": "quit"])
        _ = try? await wait("its end", seconds: 8) { $0 == .ended }
        if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
    }

    // MARK: Commands

    func tell(_ command: [String: any Sendable]) throws {
        var line = try JSONSerialization.data(withJSONObject: command)
        line.append(UInt8(ascii: "\n"))
        try input.fileHandleForWriting.write(contentsOf: line)
    }

    func createChannel(_ label: String, _ options: [String: any Sendable] = [:]) throws {
        try tell(["do": "channel", "label": label].merging(options) { $1 })
    }
    func makeOffer() throws { try tell(["do": "offer"]) }
    func setDescription(type: String, sdp: String) throws { try tell(["do": "description", "type": type, "sdp": sdp]) }
    func addCandidate(_ candidate: String, mid: String) throws { try tell(["do": "candidate", "candidate": candidate, "mid": mid]) }
    func closeChannel(_ label: String) throws { try tell(["do": "close", "label": label]) }
    func send(_ message: TestMessage, on label: String) throws {
        try tell(["do": "send", "label": label, "kind": message.isText ? "text" : "binary", "size": message.size, "seed": message.seed])
    }
    func quit() throws { try tell(["do": "quit"]) }

    // MARK: Events

    /// The first event that matches, now or within `seconds`; others stay for later waits. An error that the peer reports ends every wait.
    func wait(_ what: String, seconds: Double = 60, for matches: @Sendable (Event) -> Bool) async throws -> Event {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while true {
            if let index = backlog.firstIndex(where: matches) { return backlog.remove(at: index) }
            for case .error(let text) in backlog { throw Failure(description: "\(stack) waited for \(what), and said: \(text)") }
            if backlog.contains(.ended) { throw Failure(description: "\(stack) ended before \(what)") }
            guard ContinuousClock.now < deadline else {
                throw Failure(description: "\(stack): \(what) did not come within \(seconds) s; it said \(backlog.map { String(describing: $0).prefix(200) })")
            }
            await change(until: deadline)
        }
    }

    func waitForDescription() async throws -> (type: String, sdp: String) {
        guard
            case .description(let type, let sdp) = try await wait(
                "a description", for: { if case .description = $0 { true } else { false } })
        else { throw Failure(description: "unreachable") }
        return (type, sdp)
    }

    /// The largest message the peer will send on the channel, once it is open.
    func waitForOpen(_ label: String) async throws -> Int? { try await waitForFacts(of: label).limit }

    func waitForFacts(of label: String) async throws -> (limit: Int?, facts: ChannelFacts) {
        let event = try await wait("the channel \(label) to open") { if case .open(label, _, _) = $0 { true } else { false } }
        guard case .open(_, let limit, let facts) = event else { throw Failure(description: "unreachable") }
        return (limit, facts)
    }

    func waitForMessage(on label: String) async throws -> TestMessage.Digest {
        let event = try await wait("a message on \(label)") { if case .message(label, _) = $0 { true } else { false } }
        guard case .message(_, let digest) = event else { throw Failure(description: "unreachable") }
        return digest
    }

    func waitForClose(of label: String) async throws {
        _ = try await wait("the channel \(label) to close") { $0 == .closed(label: label) }
    }

    /// Candidates that the peer found since the last call.
    func takeCandidates() -> [(candidate: String, mid: String)] {
        var taken: [(String, String)] = []
        backlog.removeAll { event in
            guard case .candidate(let candidate, let mid) = event else { return false }
            taken.append((candidate, mid))
            return true
        }
        return taken
    }

    /// Suspends until the process says something more, or until `deadline`.
    private func change(until deadline: ContinuousClock.Instant) async {
        waits += 1
        let id = waits
        let alarm = Task {
            try? await Task.sleep(until: deadline, clock: .continuous)
            self.wake(id)
        }
        await withCheckedContinuation { waiter = (id, $0) }
        alarm.cancel()
    }

    private func wake(_ id: Int?) {
        guard let waiter, id == nil || id == waiter.id else { return }
        self.waiter = nil
        waiter.continuation.resume()
    }

    private func heard(_ events: [Event]) {
        backlog += events
        wake(nil)
    }

    /// A thread of its own: reading a pipe blocks.
    private nonisolated func read() {
        let handle = output.fileHandleForReading
        let (stream, continuation) = AsyncStream<[Event]>.makeStream()
        let thread = Thread {
            var rest = Data()
            while case let data = handle.availableData, !data.isEmpty {
                rest.append(data)
                var events: [Event] = []
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    if let event = Self.parse(rest[rest.startIndex..<end]) { events.append(event) }
                    rest = Data(rest[(end + 1)...])
                }
                continuation.yield(events)
            }
            continuation.yield([.ended])
            continuation.finish()
        }
        thread.start()
        Task { for await events in stream { await self.heard(events) } }
    }

    private static func parse(_ line: Data) -> Event? {
        guard let object = try? JSONSerialization.jsonObject(with: line) as? [String: Any] else { return nil }
        func text(_ key: String) -> String { object[key] as? String ?? "" }
        switch text("event") {
        case "ready": return .ready(name: text("name"), version: text("version"))
        case "description": return .description(type: text("type"), sdp: text("sdp"))
        case "candidate": return .candidate(text("candidate"), mid: text("mid"))
        case "open":
            let facts = ChannelFacts(
                ordered: object["ordered"] as? Bool, maxRetransmits: object["maxRetransmits"] as? Int, maxPacketLifeTime: object["maxPacketLifeTime"] as? Int,
                subprotocol: object["protocol"] as? String, id: object["id"] as? Int)
            return .open(label: text("label"), limit: object["limit"] as? Int, facts)
        case "message":
            let digest = TestMessage.Digest(isText: text("kind") == "text", size: object["size"] as? Int ?? -1, crc: object["crc"] as? UInt32 ?? 0)
            return .message(label: text("label"), digest)
        case "closed": return .closed(label: text("label"))
        case "state": return .state(text("state"))
        case "error": return .error(text("text"))
        default: return nil
        }
    }
}
