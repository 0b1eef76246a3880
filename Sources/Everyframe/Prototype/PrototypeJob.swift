import FrameTransport
import Logging
import NIOCore
import WebRTCNIO

/// One source's way through an open connection: sends within the window, enters every answer in the ledger, ends cleanly.
actor PrototypeJob {
    private let configuration: StreamConfiguration
    private let connection: StreamConnection
    private let source: any FrameSource
    private let feed: FrameFeed
    private let window: Int
    private let handlers: EveryframeClient.Handlers
    private let log: Logger

    private var ledger = FrameLedger()
    private var deframer = ResultDeframer()
    private var progress = StreamProgress()
    /// Encoded bytes of each frame that has no answer.
    private var openBytes: [Int: Int] = [:]
    private var openByteCount = 0
    private var completion: ResultMessage.Completion?
    private var failure: StreamError?
    private var isAllSent = false
    private var saidGoodbye = false
    /// Nothing more will come.
    private var isClosed = false
    private var lastAnswer: ContinuousClock.Instant?
    private var lastActivity = ContinuousClock.now
    private var waiter: CheckedContinuation<Void, Never>?

    init(
        configuration: StreamConfiguration, connection: StreamConnection, source: any FrameSource, feed: FrameFeed, handlers: EveryframeClient.Handlers,
        log: Logger
    ) {
        self.configuration = configuration
        self.connection = connection
        self.source = source
        self.handlers = handlers
        self.log = log
        self.feed = feed
        window = configuration.window ?? 32
    }

    func run() async -> StreamSummary {
        let start = ContinuousClock.now
        lastActivity = start
        progress.framesExpected = await source.expectedFrameCount.map { min($0, configuration.frameLimit ?? .max) }
        await feed.start()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.receive() }
            group.addTask { await self.watch() }
            await send()
            await finish()
            await feed.stop()
            await connection.peer.close()
            group.cancelAll()
        }
        return await summary(since: start)
    }

    /// Ends the job with an error; the first one counts.
    func fail(_ error: StreamError) async {
        guard failure == nil, !saidGoodbye else { return }
        failure = error
        wake()
        // whoever waits on a channel wakes from this
        await connection.peer.close()
    }

    // MARK: Sending

    private func send() async {
        do throws(StreamError) {
            while true {
                let frames = try await feed.next()
                if frames.isEmpty { break }
                for frame in frames {
                    await waitForWindow(frame.payload.readableBytes)
                    guard failure == nil, completion == nil else { return }
                    try await send(frame)
                }
            }
            isAllSent = true
        } catch {
            guard error.code == .sourceFailed else {
                await fail(error)
                return
            }
            // what was sent is answered first, then the server is told
            await waitUntil { $0.ledger.unanswered == 0 }
            guard failure == nil else { return }
            failure = error
            try? await connection.upstream.send(UpstreamMessage.sourceErrorText("source_failed"))
            await waitForCompletion()
        }
    }

    private func send(_ frame: EncodedFrame) async throws(StreamError) {
        let id = ledger.send()
        let size = frame.payload.readableBytes
        openBytes[id] = size
        openByteCount += size
        await handlers.onFrame(id, frame.source)
        let chunker = connection.chunker
        for chunk in 0..<chunker.chunkCount(for: size) {
            let message = chunker.message(
                frameID: id, chunkID: chunk, encoding: frame.info.encoding == .png ? .png : .jpeg, width: Int(frame.info.width), height: Int(frame.info.height),
                of: frame.payload)
            do {
                try await connection.upstream.send(String(buffer: message))
            } catch {
                throw failure ?? StreamError(.connectionLost, "\(error)")
            }
            progress.bytesSent += message.readableBytes
        }
        progress.framesSent = ledger.sent
        lastActivity = .now
    }

    /// Waits for a place for a frame of `size` bytes. One frame always has a place, however large.
    private func waitForWindow(_ size: Int) async {
        await waitUntil { job in
            job.ledger.unanswered == 0
                || (job.ledger.unanswered < job.window && job.openByteCount + size <= job.configuration.windowBytes)
        }
    }

    /// Says goodbye when every frame has its answer, and hears what the server has to say.
    private func finish() async {
        guard isAllSent, failure == nil else { return }
        await waitUntil { $0.ledger.unanswered == 0 }
        guard failure == nil, completion == nil else { return }
        saidGoodbye = true
        do {
            try await connection.upstream.send(UpstreamMessage.endOfFramesText)
            await waitForCompletion()
        } catch {
            log.debug("The server had gone before the goodbye: \(error)")
        }
    }

    private func waitForCompletion() async {
        let bound = configuration.timeouts.completion
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.waitForLastWord() }
            group.addTask {
                try? await Task.sleep(for: bound)
                await self.giveUpOnCompletion()
            }
            await group.next()
            group.cancelAll()
        }
    }

    private func waitForLastWord() async {
        while completion == nil, !isClosed { await withCheckedContinuation { waiter = $0 } }
    }

    private func giveUpOnCompletion() {
        isClosed = true
        wake()
    }

    // MARK: Receiving

    private func receive() async {
        do throws(DataChannelError) {
            for try await message in connection.inference.messages {
                lastActivity = .now
                switch message {
                case .text(let text): await take(ByteBuffer(string: text))
                case .binary(let bytes): await takeBinary(bytes)
                }
                if completion != nil || failure != nil { return wake() }
            }
            await lost("the server closed the connection")
        } catch {
            await lost(error.description)
        }
    }

    private func lost(_ reason: String) async {
        isClosed = true
        wake()
        guard completion == nil else { return }
        await fail(StreamError(.connectionLost, "\(reason), with \(ledger.unanswered) frames unanswered"))
    }

    private func takeBinary(_ message: ByteBuffer) async {
        do throws(ResultDeframer.Fault) {
            if let text = try deframer.handle(message) { await take(text) }
        } catch {
            log.warning("A binary message on inference is ignored: \(error)")
        }
    }

    private func take(_ text: ByteBuffer) async {
        let result: ResultMessage
        do throws(ResultMessage.DecodingError) {
            result = try ResultMessage(parsing: text)
        } catch {
            log.warning("A message on inference that is no result is ignored: \(error)")
            return
        }
        if let completion = result.completion {
            self.completion = completion
            if !isAllSent || ledger.unanswered > 0, failure == nil {
                let reason = completion.terminationReason ?? "processing_complete"
                failure = StreamError(.endedByServer, "\(reason), with \(ledger.unanswered) frames unanswered")
            }
            return wake()
        }
        let id = result.videoMetadata.frameID
        switch ledger.answer(id, isFailure: !result.errors.isEmpty) {
        case .inOrder, .early: break
        case .duplicate, .unknown:
            log.warning("An answer to frame \(id) came that was not due")
            return
        }
        openByteCount -= openBytes.removeValue(forKey: id) ?? 0
        lastAnswer = .now
        progress.resultsReceived = ledger.answered
        progress.framesFailed = ledger.failed
        do {
            try await handlers.onResult(StreamResult(result))
        } catch {
            await fail(StreamError(.resultHandlerFailed, "\(error)"))
        }
        await handlers.onProgress(progress)
        lastActivity = .now
        wake()
    }

    // MARK: Waiting

    /// A connection that stands still with frames open is lost, whatever the layers below believe.
    private func watch() async {
        while (try? await Task.sleep(for: .milliseconds(500))) != nil {
            guard ledger.unanswered > 0, ContinuousClock.now - lastActivity > configuration.timeouts.stall else { continue }
            await fail(StreamError(.stalled, "no answer for \(configuration.timeouts.stall), with \(ledger.unanswered) frames unanswered"))
        }
    }

    /// Until the condition holds or the job has failed. Only the sending side waits, so one waiter is enough.
    private func waitUntil(_ condition: (isolated PrototypeJob) -> Bool) async {
        while failure == nil, completion == nil, !condition(self) { await withCheckedContinuation { waiter = $0 } }
    }

    private func wake() {
        waiter?.resume()
        waiter = nil
    }

    private func summary(since start: ContinuousClock.Instant) async -> StreamSummary {
        var summary = StreamSummary(proof: ledger.proof)
        summary.framesDecoded = await feed.framesRead
        summary.framesSent = ledger.sent
        summary.resultsReceived = ledger.answered
        summary.framesFailed = ledger.failed
        summary.seconds = ((lastAnswer ?? .now) - start).inSeconds
        summary.bytesSent = progress.bytesSent
        summary.stages = completion?.stages
        summary.terminationReason = completion?.terminationReason
        summary.failure = failure
        summary.sourceDamage = await source.damage
        return summary
    }
}
