import Everyframe
import Foundation
import FrameTransport
import Logging

/// `everyframe stream`: outputs are opened first, then the source, then the connection, so that what is wrong shows before a frame is sent.
struct StreamRunner: Sendable {
    let videos: [String]
    let configuration: StreamConfiguration
    let range: VideoSource.Range
    let inputFormat: String?
    let files: OutputFiles
    let pool: Int
    let parallel: Int
    let isQuiet: Bool

    private struct Outcome: Sendable {
        var video: String
        var summary: StreamSummary?
        var status: ExitStatus?
        /// What kept it from beginning.
        var failure: String?

        /// Also of a video of which nothing came: an old summary must not be taken for this one's.
        func json(withName: Bool) -> JSON {
            var object: JSONObject = [:]
            if let summary, case .object(let members) = summary.json {
                object = members
            } else {
                object.append("ok", false)
                if let failure { object.append("failure", .string(failure)) }
            }
            if withName { object.append("video", .string(video)) }
            return .object(object)
        }
    }

    /// - Returns: nil where every frame of every video was answered; else what went wrong first.
    func run() async -> ExitStatus? {
        if videos.count > 1 {
            do { try files.makeFolders() } catch { return fail("\(error)", .cannotWrite) }
        }
        do { try files.check(videos: videos) } catch { return fail("\(error)", .cannotWrite) }
        let client = EveryframeClient(configuration: configuration, logger: Logger(label: "everyframe.client"))
        var outcomes: [Outcome] = []
        if videos.count == 1, let video = videos.first {
            outcomes.append(await stream(video, name: nil) { source, handlers throws(StreamError) in try await client.run(source, handlers: handlers) })
        } else {
            let shared: EveryframePool
            do throws(StreamError) { shared = try client.pool(size: pool) } catch { return fail("\(error)", ExitStatus(error)) }
            outcomes = await streamAll { source, handlers throws(StreamError) in try await shared.run(source, handlers: handlers) }
            await shared.close()
        }
        do {
            try await files.writeSummary(videos.count == 1 ? outcomes.first?.json(withName: false) : .array(outcomes.map { $0.json(withName: true) }))
        } catch {
            return fail("\(error)", .writeFailed)
        }
        if videos.count > 1, !isQuiet { Terminal.write(Self.total(outcomes.compactMap(\.summary), of: videos.count)) }
        return outcomes.lazy.compactMap(\.status).first
    }

    private typealias Run = @Sendable (any FrameSource, EveryframeClient.Handlers) async throws(StreamError) -> StreamSummary

    /// As many at a time as asked for; outcomes in the order of the videos.
    private func streamAll(_ run: @escaping Run) async -> [Outcome] {
        let names = OutputFiles.names(of: videos)
        return await withTaskGroup(of: (Int, Outcome).self) { group in
            var results = [Outcome?](repeating: nil, count: videos.count)
            var next = 0
            func add() {
                let index = next
                next += 1
                group.addTask { (index, await stream(videos[index], name: names[index], run)) }
            }
            while next < min(parallel, videos.count) { add() }
            while let (index, outcome) = await group.next() {
                results[index] = outcome
                if next < videos.count, !Task.isCancelled { add() }
            }
            return results.compactMap(\.self)
        }
    }

    private func stream(_ video: String, name: String?, _ run: Run) async -> Outcome {
        var outcome = Outcome(video: video)
        func failed(_ message: String, _ status: ExitStatus) -> Outcome {
            outcome.failure = message
            outcome.status = fail(message, status)
            return outcome
        }
        let source: any FrameSource
        do throws(StreamError) {
            source = try await self.source(video)
        } catch {
            return failed("\(error)", ExitStatus(error))
        }
        let sinks: Sinks
        do {
            sinks = try await Sinks(
                files, name: name, isContinued: configuration.resume != nil, frameRate: await source.declaredFPS, isLive: await source.isLive)
        } catch {
            return failed("\(error)", .cannotWrite)
        }
        // several at a time have no line each
        let progress = ProgressDisplay(isQuiet: isQuiet || videos.count > 1)
        let prefix = videos.count > 1 ? "\(video): " : ""
        var handlers = EveryframeClient.Handlers()
        handlers.onResult = { result in
            if !result.errors.isEmpty { await progress.note("\(prefix)frame \(result.frameID) failed: \(result.errors.joined(separator: "; "))") }
            try await sinks.write(result)
        }
        handlers.onDelivered = { try await sinks.flush() }
        handlers.onProgress = { await progress.show($0) }
        if !isQuiet { handlers.onTicket = { await progress.say("\(prefix)to go on after an interruption: the same command with --resume \($0.token)") } }
        if let annotation = sinks.drawnHere, configuration.wire == .prototype { handlers.onFrame = { await annotation.remember($0, $1) } }
        let summary: StreamSummary
        do throws(StreamError) {
            summary = try await run(source, handlers)
        } catch {
            await progress.finish()
            try? await sinks.finish()
            return failed("\(prefix)\(error)", ExitStatus(error))
        }
        await progress.finish()
        outcome.summary = summary
        do {
            try await sinks.finish()
        } catch {
            outcome.status = fail("\(error)", .writeFailed)
            return outcome
        }
        outcome.status = conclude(summary, video, prefix)
        return outcome
    }

    private func conclude(_ outcome: StreamSummary, _ video: String, _ prefix: String) -> ExitStatus? {
        if let failure = outcome.failure, outcome.framesSent == 0 { return fail("\(prefix)\(failure)", ExitStatus(failure)) }
        // units that lead to a part of a file are sent although none of them is shown; one that goes on may find all done
        let isEmpty = outcome.framesDecoded == 0 && outcome.framesSent == 0 || outcome.ok && outcome.resultsReceived == 0 && configuration.resume == nil
        guard !isEmpty else {
            let damage = outcome.sourceDamage.map { ": \($0)" } ?? ""
            return fail("\(video) has no frame\(range == .init() ? "" : " in that part of it")\(damage)", .badInput)
        }
        if !isQuiet { Terminal.write(prefix + Self.table(outcome)) }
        if let damage = outcome.sourceDamage { Terminal.write("everyframe: warning: \(video): \(damage)\n") }
        if let failure = outcome.failure { return fail("\(prefix)\(failure); \(outcome.verdict)", ExitStatus(failure)) }
        return outcome.ok ? nil : fail("\(prefix)\(outcome.verdict)", .framesFailed)
    }

    private func fail(_ message: String, _ status: ExitStatus) -> ExitStatus {
        Terminal.write("everyframe: \(message)\n")
        return status
    }

    private func source(_ video: String) async throws(StreamError) -> any FrameSource {
        func requireAll(_ kind: String) throws(StreamError) {
            guard range == .init() else { throw StreamError(.invalidConfiguration, "--start and --end are for video files, not for \(kind)") }
            guard kind == "folders" || configuration.resume == nil else {
                throw StreamError(.invalidConfiguration, "--resume needs the same frames again, which \(kind) do not give")
            }
        }
        if video == "-" { return try await VideoSource.standardInput(format: inputFormat) }
        if video.hasPrefix("rtsp://") || video.hasPrefix("rtsps://") {
            try requireAll("cameras")
            return try await VideoSource.rtsp(video)
        }
        var isFolder: ObjCBool = false
        if FileManager.default.fileExists(atPath: video, isDirectory: &isFolder) {
            if isFolder.boolValue {
                try requireAll("folders")
                return try ImageFolderSource(path: video)
            }
            if video.hasPrefix("/dev/video") {
                try requireAll("cameras")
                return try await VideoSource.camera(.init(path: video))
            }
        }
        return try await VideoSource.file(video, range: range)
    }

    // MARK: Words

    private static func number(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }

    private static func table(_ outcome: StreamSummary) -> String {
        var lines = [
            "\(outcome.verdict)",
            "  frames   \(outcome.framesDecoded) read, \(outcome.framesSent) sent, \(outcome.resultsReceived) answered, \(outcome.framesFailed) failed",
            "  speed    \(number(outcome.framesPerSecond)) frames/s, \(number(outcome.seconds, 2)) s, set up in \(number(outcome.setupMilliseconds, 0)) ms",
            "  sent     \(outcome.bytesSent < 1_000_000 ? "\(number(Double(outcome.bytesSent) / 1e3)) kB" : "\(number(Double(outcome.bytesSent) / 1e6)) MB")",
        ]
        if outcome.unitsWithoutPicture > 0 {
            lines.append("  units    \(outcome.unitsWithoutPicture) without a picture of their own, or left out by the stride")
        }
        if outcome.dropped.total > 0 {
            let reasons = outcome.dropped.byReason.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) \($0.key.rawValue)" }
            lines.append("  dropped  \(reasons.joined(separator: ", "))")
        }
        if outcome.retries > 0 || outcome.reconnections > 0 {
            lines.append("  network  \(outcome.reconnections) times connected anew, \(outcome.retries) frames sent again")
        }
        if let stages = outcome.stages, !stages.stages.isEmpty {
            let columns = stages.stages.map { "\($0.name) \(number($0.p50, 2))/\(number($0.p99, 2))" }
            lines.append("  server   \(columns.joined(separator: ", ")) ms (p50/p99)")
        }
        if let bottleneck = outcome.bottleneck {
            lines.append("  limit    \(bottleneck.name.rawValue)-bound: \(Int((bottleneck.share * 100).rounded())) % of the time")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func total(_ summaries: [StreamSummary], of count: Int) -> String {
        let good = summaries.count { $0.ok }
        return "\(good) of \(count) videos answered to the last frame: \(summaries.reduce(0) { $0 + $1.resultsReceived }) frames\n"
    }
}
