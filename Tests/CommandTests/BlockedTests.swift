import Foundation
import Testing

/// An application that takes nothing for a while.
@Suite(.timeLimit(.minutes(3))) struct BlockedTests {
    @Test("A reader that blocks for twenty seconds, longer than consent lasts, costs no connection and no frame")
    func blockedReader() async throws {
        let workshop = try Workshop()
        try workshop.video("video.mp4", frames: 1500)
        try await withServer("synthetic:0", in: workshop) { server in
            let words = ["stream", "video.mp4", "--server", server.url, "--results", "-", "--summary", "summary.json", "--window", "16"]
            // the pipe holds 64 KiB; the program's thread that writes to it stands still
            let prefix = ["sh", "-c", #""$@" | (sleep 20; cat > results.jsonl)"#, "sh"]
            let ended = try await Program.run(words, in: workshop, prefix: prefix, within: 90)
            #expect(ended.code == 0, "\(ended.errors)")
            #expect(ended.errors.contains("all 1500 frames answered, each once, in order"), "\(ended.errors)")
            #expect(workshop.frames(of: "results.jsonl") == Array(1...1500))
            let summary = try workshop.json("summary.json")
            #expect(summary["reconnections"] as? Int == 0, "\(summary)")
        }
    }
}
