import Foundation
import Synchronization
import Testing

/// The program `everyframe` as a process of its own, as users have it. Every wait has a bound.
final class Program: Sendable {
    struct Ended: Sendable {
        /// 128 and the signal's number where one ended it, as shells say it.
        var code: Int32
        /// Standard output and standard error.
        var output: String
        var errors: String
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    let processID: pid_t
    let arguments: [String]
    private let errorFile: String
    private let outputFile: String
    private let end: AsyncStream<Int32>
    private let endedWith: Mutex<Int32?>
    private let isOver: Flag

    /// - Parameters:
    ///   - input: the file or pipe that is standard input; nil: there is none.
    ///   - prefix: a command that runs it in place of itself, elsewhere.
    init(_ arguments: [String], in folder: Workshop, input: String? = nil, environment: [String: String] = [:], prefix: [String] = []) throws {
        self.arguments = arguments
        let process = Process()
        process.executableURL = URL(fileURLWithPath: prefix.isEmpty ? Self.path : "/usr/bin/env")
        process.arguments = prefix.isEmpty ? arguments : prefix + [Self.path] + arguments
        process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
        process.environment = Self.environment.merging(environment) { $1 }
        process.standardInput = input.flatMap { FileHandle(forReadingAtPath: $0) } ?? FileHandle.nullDevice
        (outputFile, process.standardOutput) = try folder.log("output")
        (errorFile, process.standardError) = try folder.log("errors")
        let (stream, ended) = AsyncStream<Int32>.makeStream()
        end = stream
        let isOver = Flag()
        self.isOver = isOver
        process.terminationHandler = { process in
            isOver.withLock { $0 = true }
            ended.yield(process.terminationReason == .uncaughtSignal ? 128 + process.terminationStatus : process.terminationStatus)
            ended.finish()
        }
        endedWith = Mutex(nil)
        try process.run()
        processID = process.processIdentifier
    }

    /// Runs it to its end.
    static func run(
        _ arguments: [String], in folder: Workshop, input: String? = nil, environment: [String: String] = [:], prefix: [String] = [],
        within seconds: Double = 60
    ) async throws -> Ended {
        let program = try Program(arguments, in: folder, input: input, environment: environment, prefix: prefix)
        return try await program.waitForEnd(within: seconds)
    }

    /// Not to whoever has the number after it.
    func send(_ signal: Int32) { isOver.withLock { if !$0 { kill(processID, signal) } } }

    /// Kills it once something is so. A thread of its own looks, which the other tests do not hold up; it ends with the program.
    func killWhen(_ condition: @escaping @Sendable () -> Bool) {
        Thread.detachNewThread { [self] in
            while !isOver.withLock({ $0 }) {
                if condition() { return send(SIGKILL) }
                usleep(2000)
            }
        }
    }

    /// What it said so far.
    var errors: String { (try? String(contentsOfFile: errorFile, encoding: .utf8)) ?? "" }

    /// Comes back when the process has ended; one that does not is killed, and that is an error.
    func waitForEnd(within seconds: Double = 60) async throws -> Ended {
        if endedWith.withLock({ $0 }) == nil {
            let alarm = Task {
                try await Task.sleep(for: .seconds(seconds))
                send(SIGKILL)
                return true
            }
            for await code in end { endedWith.withLock { $0 = code } }
            alarm.cancel()
            if (try? await alarm.value) == true {
                throw Failure(description: "\(arguments.joined(separator: " ")) did not end within \(seconds) s, and said:\n\(errors)")
            }
        }
        let output = (try? String(contentsOfFile: outputFile, encoding: .utf8)) ?? ""
        return Ended(code: endedWith.withLock { $0 } ?? -1, output: output, errors: errors)
    }

    /// Beside the tests, where the package's programs are built.
    static let path: String = {
        if let path = ProcessInfo.processInfo.environment["EVERYFRAME_PROGRAM"] { return path }
        let tests = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return (tests as NSString).deletingLastPathComponent + "/everyframe"
    }()

    /// The caller's variables are not the tests'.
    private static let environment: [String: String] = {
        var environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("EVERYFRAME_") && $0.key != "LOG_LEVEL" }
        // a proxy is not asked for what is on this machine
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] { environment[name] = nil }
        return environment
    }()
}

private final class Flag: Sendable {
    private let value = Mutex(false)
    func withLock<Result: Sendable>(_ body: (inout sending Bool) -> sending Result) -> Result { value.withLock(body) }
}

/// A folder that goes away with its test, and what is needed in it.
final class Workshop: Sendable {
    let path: String
    private let logs = Mutex(0)

    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("everyframe-command-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }

    func log(_ name: String) throws -> (String, FileHandle) {
        let number = logs.withLock { number in
            number += 1
            return number
        }
        let path = file(".\(name)-\(number)")
        try Data().write(to: URL(fileURLWithPath: path))
        guard let handle = FileHandle(forWritingAtPath: path) else { throw Program.Failure(description: "\(path) cannot be written") }
        return (path, handle)
    }

    func write(_ bytes: some DataProtocol, as name: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: file(name))) }

    func text(of name: String) -> String { (try? String(contentsOfFile: file(name), encoding: .utf8)) ?? "" }

    /// Whole lines only, unless the last one was cut.
    func lines(of name: String) -> [Substring] { text(of: name).split(separator: "\n", omittingEmptySubsequences: true) }

    /// The numbers of the frames in a file of results; nil where a line is not a whole one.
    func frames(of name: String) -> [Int?] {
        let text = text(of: name)
        var numbers = text.split(separator: "\n").map { line -> Int? in
            let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            return (object?["video_metadata"] as? [String: Any])?["frame_id"] as? Int
        }
        if !text.isEmpty, !text.hasSuffix("\n") { numbers.append(nil) }
        return numbers
    }

    func json(_ name: String) throws -> [String: Any] {
        let object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: file(name))))
        return try #require(object as? [String: Any])
    }

    /// 25 small pictures a second, H.264 with B-frames where nothing else is said.
    @discardableResult
    func video(
        _ name: String, frames: Int, _ arguments: [String] = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "3"]
    ) throws -> String {
        try ffmpeg(["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-frames:v", "\(frames)"] + arguments + [file(name)])
        return name
    }

    @discardableResult
    func ffmpeg(_ arguments: [String]) throws -> String { try tool("ffmpeg", ["-nostdin", "-v", "error", "-y"] + arguments) }

    /// Pictures of a video, counted by decoding it.
    func pictures(in name: String) throws -> Int? {
        let words = ["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", file(name)]
        return Int(try tool("ffprobe", words).prefix { $0.isNumber })
    }

    private func tool(_ name: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [name] + arguments
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(name) \(arguments.joined(separator: " ")) failed; `scripts/setup peers` installs it")
        return String(decoding: data, as: UTF8.self)
    }
}

/// `everyframe serve` on a free port.
struct Server: Sendable {
    let program: Program
    let url: String

    init(_ options: [String], in folder: Workshop, port: Int = 0, environment: [String: String] = [:]) async throws {
        let program = try Program(["serve", "--port", "\(port)", "--udp-host", "127.0.0.1"] + options, in: folder, environment: environment)
        self.program = program
        try await eventually("the server listens") { program.errors.contains("Listening on ") }
        let words = program.errors.components(separatedBy: "Listening on ")
        url = String(try #require(words.dropFirst().first?.prefix { $0 != ";" }))
    }

    var port: Int { Int(url.split(separator: ":").last ?? "") ?? 0 }

    /// Asks it to end, and waits until it has.
    @discardableResult
    func stop(within seconds: Double = 30) async throws -> Program.Ended {
        program.send(SIGTERM)
        return try await program.waitForEnd(within: seconds)
    }
}

/// A server that runs while `body` does.
func withServer(_ model: String, _ options: [String] = [], in folder: Workshop, _ body: (Server) async throws -> Void) async throws {
    let server = try await Server(["--model", model] + options, in: folder)
    let result: Result<Void, any Error>
    do { result = .success(try await body(server)) } catch { result = .failure(error) }
    let ended = try await server.stop()
    #expect(ended.code == 0, "\(ended.errors)")
    try result.get()
}

/// For what other processes do to files, of which no event tells. Bounded.
func eventually(_ what: String, within seconds: Double = 30, _ condition: () throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        guard ContinuousClock.now < deadline else { throw Program.Failure(description: "not within \(seconds) s: \(what)") }
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// The token that a client printed.
func token(in errors: String) -> String? { errors.components(separatedBy: "--resume ").dropFirst().first.map { String($0.prefix { !$0.isWhitespace }) } }
