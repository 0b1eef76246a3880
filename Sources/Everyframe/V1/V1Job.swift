import FrameTransport
import NIOCore
import WebRTCNIO
import Wire

/// One source's way over a link of `everyframe.v1`: frames in as there is room, every result out and taken, the end with its proof.
actor V1Job {
    private let configuration: StreamConfiguration
    private let link: ServerLink
    private let source: any FrameSource
    private let handlers: EveryframeClient.Handlers

    private var key: ServerLink.JobKey?
    private var feed: FrameFeed?
    private var progress = StreamProgress()
    private var end: JobEnd?
    private var failure: StreamError?
    private var lastAnswer: Instant?
    private var lastActivity = Instant.now
    private var withoutPicture = 0
    private var isCancelled = false
    /// The last result that is safe with the application, and not yet acknowledged.
    private var delivered: Int?
    private var lastProgress = Instant.zero
    private var lastTaken = Instant.now

    init(configuration: StreamConfiguration, link: ServerLink, source: any FrameSource, handlers: EveryframeClient.Handlers) {
        self.configuration = configuration
        self.link = link
        self.source = source
        self.handlers = handlers
    }

    /// - Throws: what kept it from beginning. What breaks it later is the summary's `failure`.
    func run() async throws(StreamError) -> StreamSummary {
        let plan: JobPlan
        do {
            plan = try await JobPlan(configuration, source)
        } catch {
            await source.stop()
            throw isCancelled ? StreamError(.cancelled) : error
        }
        guard let first = plan.first else {
            var summary = StreamSummary(proof: LedgerProof(sent: 0, answered: 0))
            summary.sourceDamage = await source.damage
            return summary
        }
        progress.framesExpected = await source.expectedFrameCount.map { min($0, configuration.frameLimit ?? .max) }
        let key: ServerLink.JobKey
        do {
            key = try await link.open(plan.request, resuming: configuration.resume)
        } catch {
            await source.stop()
            throw error
        }
        self.key = key
        let start = Instant.now
        lastActivity = start
        if isCancelled { await link.cancel(key) }
        await withTaskGroup(of: Void.self) { group in
            // a job that goes on is told first where
            var resumedAt: Int?
            if configuration.resume != nil { resumedAt = await self.awaitResumption(key) }
            if end == nil {
                group.addTask { await self.send(first, plan, skip: (resumedAt ?? 1) - 1, key) }
                group.addTask { await self.watch(key) }
                await receive(key)
            }
            await feed?.stop()
            await source.stop()
            group.cancelAll()
        }
        await handlers.onProgress(progress)
        return await summary(since: start)
    }

    /// Ends the job; what the server holds for it is freed at once. Bounded, whatever the network does.
    func cancel() async {
        guard !isCancelled else { return }
        isCancelled = true
        failure = failure ?? StreamError(.cancelled)
        // its first frame may not have come
        await source.stop()
        await feed?.stop()
        guard let key else { return }
        await link.cancel(key)
        try? await Task.sleep(for: .seconds(2))
        await link.abandon(key, JobEnd(status: .cancelled))
    }

    // MARK: Sending

    private func send(_ first: SourceFrame, _ plan: JobPlan, skip: Int, _ key: ServerLink.JobKey) async {
        do throws(StreamError) {
            let feed = try FrameFeed(
                source: source, first: first, encoder: plan.encoder, policy: plan.policy, isDependent: plan.isDependent,
                limit: configuration.frameLimit, skip: skip)
            self.feed = feed
            await feed.start()
            while true {
                // what is encoded only on demand is not asked for before there is room; where there will be none the job is over
                guard await link.waitForRoom(of: key) else { return }
                let frames = try await feed.next()
                if frames.isEmpty { break }
                do throws(SubmitError) {
                    try await link.submit(frames, to: key)
                } catch {
                    guard error != .ended else { return }
                    throw StreamError(.sourceFailed, error.words)
                }
                for frame in frames {
                    progress.framesSent += 1
                    progress.bytesSent += frame.payload.readableBytes + Self.headerBytes
                }
                lastActivity = .now
            }
            if configuration.resume != nil {
                let isBehind = await link.isBehindServer(key)
                let isShort = await feed.skip > 0
                // a job that is over has stopped the feed
                guard !isBehind && !isShort || end != nil || isCancelled else {
                    let words = "the job that is to go on has more frames than this source: is it the same source, with the same options?"
                    failure = failure ?? StreamError(.sourceFailed, words)
                    return await link.leave(key)
                }
            }
            await link.finish(key, drops: await feed.drops)
        } catch {
            // what was sent is answered all the same, and the server told why no more comes
            failure = failure ?? error
            await link.finish(key, drops: await feed?.drops ?? DropCounts(), error: "\(error)")
        }
    }

    /// Of a frame's first message.
    private static let headerBytes = 88

    // MARK: Receiving

    private func awaitResumption(_ key: ServerLink.JobKey) async -> Int? {
        while true {
            let events = await link.events(of: key, taken: delivered.take())
            guard !events.isEmpty else { return nil }
            var next: Int?
            var rest: [FrameSender.Event] = []
            for event in events {
                if case .resumed(let nextID) = event { next = nextID } else { rest.append(event) }
            }
            await handle(rest)
            if let next { return next }
            if end != nil { return nil }
        }
    }

    private func receive(_ key: ServerLink.JobKey) async {
        while end == nil {
            let events = await link.events(of: key, taken: delivered.take())
            guard !events.isEmpty else { return }
            await handle(events)
        }
    }

    private func handle(_ events: [FrameSender.Event]) async {
        var given: Int?
        lastTaken = .now
        for event in events {
            lastActivity = .now
            switch event {
            case .accepted(let ticket): await handlers.onTicket(ticket)
            case .resumed, .roomAvailable: break
            case .progress(let job):
                progress.server = job.server
                progress.retries = job.retries
                progress.isReconnecting = await link.isReconnecting
                lastProgress = .now
                await handlers.onProgress(progress)
            case .result(let result):
                guard failure == nil || failure?.code == .sourceFailed else { break }
                guard await deliver(result) else { break }
                given = result.sequence
                // a slow application does not keep the server waiting for the rest of what came together
                if let key, .now - lastTaken >= Self.patience {
                    await makeSafe(through: result.sequence)
                    if let safe = delivered.take() { await link.take(key, through: safe) }
                    lastTaken = .now
                    given = nil
                }
            case .ended(let end): self.end = end
            }
        }
        if let given { await makeSafe(through: given) }
    }

    /// False: the application could not take it, and the job is over.
    private func deliver(_ result: FrameResult) async -> Bool {
        lastAnswer = .now
        guard result.answer.status != .noPicture else {
            withoutPicture += 1
            return true
        }
        progress.resultsReceived += 1
        if result.answer.status.isFailure { progress.framesFailed += 1 }
        do {
            try await handlers.onResult(StreamResult(result))
            return true
        } catch {
            failure = failure ?? StreamError(error is CancellationError ? .cancelled : .resultHandlerFailed, "\(error)")
            Task { await self.cancel() }
            return false
        }
    }

    /// Only what is safe with the application is acknowledged, when more is asked for.
    private func makeSafe(through sequence: Int) async {
        do {
            try await handlers.onDelivered()
            delivered = sequence
        } catch {
            failure = failure ?? StreamError(.resultHandlerFailed, "\(error)")
            Task { await self.cancel() }
        }
        // not for each result: whoever shows it to a person cannot show it so often
        let now = Instant.now
        guard now - lastProgress >= Self.progressInterval else { return }
        lastProgress = now
        await handlers.onProgress(progress)
    }

    private static let progressInterval: Duration = .milliseconds(50)
    /// Results that came together are acknowledged together, unless the application takes longer for them than this.
    private static let patience: Duration = .milliseconds(10)

    // MARK: Watching

    /// An answer that does not come although the connection lives: the model hangs.
    private func watch(_ key: ServerLink.JobKey) async {
        let limit = configuration.timeouts.stall
        while end == nil, !Task.isCancelled {
            let due = lastActivity + limit
            let now = Instant.now
            if due <= now {
                guard await !link.isReconnecting, progress.framesSent > progress.resultsReceived + withoutPicture else {
                    lastActivity = now
                    continue
                }
                failure = failure ?? StreamError(.stalled, "no answer for \(limit.components.seconds) s")
                await link.cancel(key)
                await link.abandon(key, JobEnd(status: .cancelled))
                return
            }
            guard (try? await Task.sleep(for: due - now)) != nil else { return }
        }
    }

    // MARK: The end

    private func summary(since start: Instant) async -> StreamSummary {
        let end = self.end ?? JobEnd(status: .failed)
        let counts = end.counts
        let sent = max(counts.sent, progress.framesSent)
        let answered = end.status == .completed ? counts.answered : progress.resultsReceived + withoutPicture
        var proof = LedgerProof(sent: sent, answered: answered)
        proof.failed = max(counts.failed, progress.framesFailed)
        var summary = StreamSummary(proof: proof)
        summary.framesDecoded = await feed?.framesRead ?? 0
        summary.framesSent = sent
        summary.resultsReceived = progress.resultsReceived
        summary.framesFailed = progress.framesFailed
        summary.unitsWithoutPicture = withoutPicture
        summary.dropped = await feed?.drops ?? DropCounts()
        // an earlier process may have sent all there is; then the job is complete before this one has read that far
        if configuration.resume != nil, end.status == .completed {
            summary.framesDecoded = max(summary.framesDecoded, sent + summary.dropped.total)
        }
        summary.retries = progress.retries
        summary.reconnections = await link.reconnections
        summary.setupMilliseconds = await link.setupTime?.inMilliseconds ?? 0
        summary.seconds = ((lastAnswer ?? .now) - start).inMilliseconds / 1e3
        summary.bytesSent = progress.bytesSent
        summary.verification = end.proof
        summary.digest = end.digest
        summary.bottleneck = progress.server?.bottleneck
        summary.stages = progress.server.map { StageReport($0) }
        summary.sourceDamage = await source.damage
        if end.status != .completed { summary.terminationReason = end.reason.rawValue.isEmpty ? end.status.rawValue : end.reason.rawValue }
        summary.failure = await reason(end)
        return summary
    }

    private func reason(_ end: JobEnd) async -> StreamError? {
        if let failure { return failure }
        switch end.status {
        case .completed: return nil
        case .cancelled: return StreamError(.cancelled)
        case .timedOut: return StreamError(.endedByServer, "its time is over: \(end.message)")
        case .failed:
            if let failure = await link.failure { return failure }
            switch end.reason {
            case .digestMismatch: return StreamError(.proofFailed, end.message)
            case .unsupported, .tooManyJobs: return StreamError(.refused, end.message)
            case .unknownToken: return StreamError(.refused, "the job cannot go on: \(end.message)")
            default: return StreamError(.endedByServer, "\(end.reason.rawValue): \(end.message)")
            }
        }
    }
}

extension SubmitError {
    /// For a person.
    var words: String {
        switch self {
        case .noRoom: "the window is full"
        case .ended: "the job is over"
        case .tooLarge(let limit): "a frame is larger than the \(limit) bytes that the server takes"
        case .tooManyPixels(let limit): "a picture has more than the \(limit) pixels that the server takes"
        case .wrongEncoding: "a frame is of another kind than the job"
        case .wrongLength(let expected): "a raw picture has not the \(expected) bytes that its geometry needs"
        case .unknownConfiguration, .badConfiguration: "the codec's configuration cannot be sent"
        }
    }
}

extension StageReport {
    init(_ progress: ServerProgress) {
        self.init(
            stages: StageTimes.names.compactMap { name in
                progress.stages[name].map { Stage(name: name, p50: $0.median.inMilliseconds, p99: $0.p99.inMilliseconds) }
            })
    }
}
