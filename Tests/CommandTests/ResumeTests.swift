import Foundation
import Testing

/// A client that is killed, and another that goes on with its token, as a user would have it.
@Suite(.timeLimit(.minutes(3)), .serialized) struct ResumeTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    @Test(
        "A client that is killed in the middle and started again leaves each frame once, in order, in the same file",
        arguments: [1, 40, 130], [[], ["--encoding", "jpeg"]])
    func killed(after count: Int, options: [String]) async throws {
        try workshop.video("video.mp4", frames: 160)
        try await withServer("synthetic:8ms", in: workshop) { server in
            let command = ["stream", "video.mp4", "--server", server.url, "--results", "results.jsonl"] + options
            let token = try await killed(command, after: count)
            let second = try await Program.run(command + ["--resume", token], in: workshop)
            #expect(second.code == 0, "\(second.errors)")
            #expect(second.errors.contains("all 160 frames answered, each once, in order"), "\(second.errors)")
            #expect(workshop.frames(of: "results.jsonl") == Array(1...160))
        }
    }

    @Test("It may happen more than once")
    func killedAgain() async throws {
        try workshop.video("video.mp4", frames: 160)
        try await withServer("synthetic:8ms", in: workshop) { server in
            let command = ["stream", "video.mp4", "--server", server.url, "--results", "results.jsonl"]
            let token = try await killed(command, after: 20)
            var isOver = false
            for count in [50, 90, 120] where !isOver { isOver = try await kill(command + ["--resume", token], after: count) == nil }
            if !isOver {
                let last = try await Program.run(command + ["--resume", token], in: workshop)
                #expect(last.code == 0, "\(last.errors)")
            }
            #expect(workshop.frames(of: "results.jsonl") == Array(1...160))
        }
    }

    @Test("What a killed process left of a line is written anew")
    func cutLine() async throws {
        try workshop.video("video.mp4", frames: 100)
        try await withServer("synthetic:8ms", in: workshop) { server in
            let command = ["stream", "video.mp4", "--server", server.url, "--results", "results.jsonl"]
            let token = try await killed(command, after: 30)
            try workshop.write(Data((workshop.text(of: "results.jsonl") + #"{"video_metadata":{"fra"#).utf8), as: "results.jsonl")
            let second = try await Program.run(command + ["--resume", token], in: workshop)
            #expect(second.code == 0, "\(second.errors)")
            #expect(workshop.frames(of: "results.jsonl") == Array(1...100))
        }
    }

    @Test("A source that is not the one of before is told so, and the job waits for the right one")
    func anotherSource() async throws {
        try workshop.video("video.mp4", frames: 160)
        try workshop.video("short.mp4", frames: 20)
        try await withServer("synthetic:10ms", in: workshop) { server in
            let options = ["--server", server.url, "--results", "results.jsonl"]
            let token = try await killed(["stream", "video.mp4"] + options, after: 60)
            let wrong = try await Program.run(["stream", "short.mp4", "--resume", token] + options, in: workshop)
            #expect(wrong.code == 66)
            #expect(wrong.errors.contains("is it the same source"), "\(wrong.errors)")
            let right = try await Program.run(["stream", "video.mp4", "--resume", token] + options, in: workshop)
            #expect(right.code == 0, "\(right.errors)")
            #expect(workshop.frames(of: "results.jsonl") == Array(1...160))
        }
    }

    @Test("A token that no server knows, and one that is none")
    func unknownToken() async throws {
        try workshop.video("video.mp4", frames: 10)
        try await withServer("synthetic:0", in: workshop) { server in
            let options = ["stream", "video.mp4", "--server", server.url, "--results", "results.jsonl", "--resume"]
            let unknown = try await Program.run(options + [String(repeating: "0", count: 32)], in: workshop)
            #expect(unknown.code == 76)
            #expect(unknown.errors == "everyframe: refused by the server: the job cannot go on: the job is unknown, or its time is over\n")
            let none = try await Program.run(options + ["that-thing"], in: workshop)
            #expect(none.code == 64)
            #expect(none.errors.contains("'that-thing' is no token of a job"))
        }
    }

    /// Runs a client until so many results are in its file, and ends it as the system does when there is no memory. Answers with its token; nil
    /// where it was faster than this test, which a busy machine may hold up.
    private func kill(_ command: [String], after count: Int) async throws -> String? {
        let program = try Program(command, in: workshop)
        program.killWhen { [workshop] in workshop.text(of: "results.jsonl").count { $0 == "\n" } >= count }
        let ended = try await program.waitForEnd()
        guard ended.code == 137 else {
            #expect(ended.code == 0, "\(ended.errors)")
            return nil
        }
        // one that went on prints none
        return token(in: ended.errors) ?? ""
    }

    /// The same from the beginning, until it was in time.
    private func killed(_ command: [String], after count: Int) async throws -> String {
        for _ in 0..<5 {
            try? FileManager.default.removeItem(atPath: workshop.file("results.jsonl"))
            if let token = try await kill(command, after: count) { return token }
        }
        throw Program.Failure(description: "five times it was over before it was killed")
    }
}
