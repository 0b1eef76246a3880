import Foundation
import Testing

/// Either end is told to stop, or is simply gone.
@Suite(.timeLimit(.minutes(3)), .serialized) struct InterruptionTests {
    let workshop: Workshop

    init() throws {
        workshop = try Workshop()
        // none comes to its end: however busy the machine is, there are frames left
        try workshop.video("video.mp4", frames: 4000, ["-vf", "scale=32:32", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "3"])
    }

    @Test("A client that is interrupted says so and frees the server at once", arguments: [SIGINT, SIGTERM])
    func client(signal: Int32) async throws {
        try await withServer("synthetic:20ms", in: workshop) { server in
            let client = try await running(server, ["--csv", "results.csv"])
            client.send(signal)
            let ended = try await client.waitForEnd(within: 10)
            #expect(ended.code == 130)
            #expect(ended.errors.contains("everyframe: cancelled; "), "\(ended.errors)")
            try await eventually("the server has ended the job", within: 5) { server.program.errors.contains("ended: cancelled; units=") }
            // what had come is whole
            let frames = workshop.frames(of: "results.jsonl")
            #expect(frames == Array(1...max(1, frames.count)))
            #expect(workshop.text(of: "results.csv").hasSuffix("\r\n"))
        }
    }

    @Test("A client that waits for a pipe can be interrupted")
    func waiting() async throws {
        #expect(mkfifo(workshop.file("pipe"), 0o600) == 0)
        // both ends are held open here, and nothing is ever written
        let pipe = open(workshop.file("pipe"), O_RDWR)
        defer { close(pipe) }
        let client = try Program(["stream", "-", "--server", "http://127.0.0.1:9"], in: workshop, input: workshop.file("pipe"))
        // the beginning of a picture, which it takes, and then waits for more
        #expect(write(pipe, [0xFF, 0xD8] as [UInt8], 2) == 2)
        try await eventually("the client reads") {
            var state = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
            return poll(&state, 1, 0) == 0
        }
        client.send(SIGINT)
        let ended = try await client.waitForEnd(within: 10)
        #expect(ended.code == 130, "\(ended.errors)")
    }

    @Test("A server that is told to stop answers what it has, tells its clients why it goes, and goes", arguments: ["source", "jpeg"])
    func serverStops(encoding: String) async throws {
        let server = try await Server(["--model", "synthetic:10ms", "--drain-timeout", "8"], in: workshop)
        let client = try await running(server, ["--encoding", encoding])
        server.program.send(SIGTERM)
        let ended = try await client.waitForEnd(within: 30)
        #expect(ended.code == 75)
        #expect(ended.errors.contains("ended by the server: server: the server is shutting down; "), "\(ended.errors)")
        let frames = workshop.frames(of: "results.jsonl")
        #expect(frames == Array(1...max(1, frames.count)))
        let gone = try await server.program.waitForEnd(within: 30)
        #expect(gone.code == 0)
        #expect(gone.errors.contains("Goodbye"))
        #expect(!gone.errors.contains("aborted"), "\(gone.errors)")
    }

    @Test("A second signal ends a server at once")
    func impatience() async throws {
        let server = try await Server(["--model", "synthetic:60s", "--drain-timeout", "60"], in: workshop)
        let client = try Program(["stream", "video.mp4", "--server", server.url], in: workshop)
        try await eventually("the job runs") { server.program.errors.contains("Job 1.1: ") }
        server.program.send(SIGINT)
        try await eventually("it shuts down") { server.program.errors.contains("Shutting down: ") }
        server.program.send(SIGINT)
        let ended = try await server.program.waitForEnd(within: 10)
        #expect(ended.code == 130)
        #expect(ended.errors.contains("Ended at once by a second signal"))
        client.send(SIGINT)
        #expect(try await client.waitForEnd(within: 20).code == 130)
    }

    @Test("A server without clients stops at once", arguments: [SIGINT, SIGTERM])
    func idleServer(signal: Int32) async throws {
        let server = try await Server(["--model", "synthetic:0"], in: workshop)
        server.program.send(signal)
        #expect(try await server.program.waitForEnd(within: 10).code == 0)
    }

    @Test("A server that is killed: the client looks for it as long as it was told, and says that it is gone")
    func serverKilled() async throws {
        let server = try await Server(["--model", "synthetic:10ms"], in: workshop)
        let client = try await running(server, ["--resume-timeout", "1"])
        server.program.send(SIGKILL)
        #expect(try await server.program.waitForEnd().code == 137)
        let ended = try await client.waitForEnd(within: 30)
        #expect(ended.code == 75)
        #expect(ended.errors.contains("everyframe: connection lost: no connection for 1 s: server unreachable: "), "\(ended.errors)")
        #expect(ended.errors.contains("connection refused"))
        let frames = workshop.frames(of: "results.jsonl")
        #expect(frames == Array(1...max(1, frames.count)))
    }

    @Test("A server that was killed and started again does not know the job, and the client says so")
    func serverRestarted() async throws {
        let first = try await Server(["--model", "synthetic:10ms"], in: workshop)
        let client = try await running(first, ["--resume-timeout", "20"])
        first.program.send(SIGKILL)
        #expect(try await first.program.waitForEnd().code == 137)
        let second = try await Server(["--model", "synthetic:10ms"], in: workshop, port: first.port)
        let ended = try await client.waitForEnd(within: 40)
        #expect(ended.code == 76)
        #expect(ended.errors.contains("refused by the server: the job cannot go on: the job is unknown, or its time is over; "), "\(ended.errors)")
        try await second.stop()
    }

    /// A client in the middle of the video.
    private func running(_ server: Server, _ options: [String]) async throws -> Program {
        let client = try Program(["stream", "video.mp4", "--server", server.url, "--results", "results.jsonl"] + options, in: workshop)
        try await eventually("some results") { workshop.text(of: "results.jsonl").count { $0 == "\n" } >= 30 }
        return client
    }
}
