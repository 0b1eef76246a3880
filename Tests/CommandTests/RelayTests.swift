import Foundation
import Testing

/// Client and server that reach a TURN server and nothing else (Networks/relay.sh).
@Suite(.timeLimit(.minutes(4)), .serialized, .enabled(if: RelayNetwork.isAvailable, "network namespaces or coturn are not to be had here"))
struct RelayTests {
    @Test("Every frame goes by the TURN server, and every result comes back by it", arguments: ["udp", "tcp", "tls"])
    func stream(transport: String) async throws {
        let workshop = try Workshop()
        try workshop.video("video.mp4", frames: 100)
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Networks/relay.sh").path
        let words = ["timeout", "-k", "5", "150", "bash", script, Program.path, transport, "video.mp4", "summary.json"]
        let (ended, end) = AsyncStream<Int32>.makeStream()
        _ = try RelayNetwork.start(words, in: workshop.path) { code in
            end.yield(code)
            end.finish()
        }
        // bounded by timeout
        var code: Int32 = -1
        for await status in ended { code = status }
        #expect(code == 0)
        let summary = try workshop.json("summary.json")
        #expect(summary["results_received"] as? Int == 100, "\(summary)")
    }
}

enum RelayNetwork {
    static let isAvailable: Bool = {
        let needs = "command -v turnserver && command -v nsenter && command -v openssl && unshare -rnm ip link add v type veth peer name w"
        guard let process = try? start(["bash", "-c", needs], in: nil, whenEnded: { _ in }) else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    static func start(_ words: [String], in folder: String?, whenEnded: @escaping @Sendable (Int32) -> Void) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        if let folder { process.currentDirectoryURL = URL(fileURLWithPath: folder) } else { process.standardError = FileHandle.nullDevice }
        (process.standardInput, process.standardOutput) = (FileHandle.nullDevice, FileHandle.nullDevice)
        process.terminationHandler = { whenEnded($0.terminationStatus) }
        try process.run()
        return process
    }
}
