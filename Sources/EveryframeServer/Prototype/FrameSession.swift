import FrameTransport
import Logging
import NIOCore
import WebRTCNIO
import Wire

/// One client's job: frames come on `upstream_frames`, and each is answered once, in order, on `inference`.
///
///     upstream_frames ─► FrameAssembler ─► FrameQueue ─► workers: decode, infer ─► in order: serialise, send ─► inference
///
/// The queue is bounded and holds a frame until its answer is in the channel, so a slow model or a client that does not
/// take its answers stops the reading of `upstream_frames`, and SCTP's window stops the client.
actor FrameSession: ServedSession {
    nonisolated let id: Int
    nonisolated let connection: PeerConnection
    private nonisolated let request: WorkerRequest
    private nonisolated let limits: ServerConfiguration.Limits
    private nonisolated let worker: FrameWorker
    private nonisolated let queue: FrameQueue<FrameAssembler.Output, FrameAnswer>
    nonisolated let log: Logger

    private var assembler: FrameAssembler
    private var statistics = StageStatistics()
    private var summary: SessionSummary
    private var ending: SessionEnding?
    private var endedAt: Instant?

    private var inference: DataChannel?
    private var upstream: DataChannel?
    private var opening: CheckedContinuation<Void, Never>?
    /// The reading of `upstream`; this session cancels it when it ends.
    private var reading: Task<Void, Never>?
    private var isStepping = false
    private var steppers: [CheckedContinuation<Void, Never>] = []
    private let began = Instant.now
    private var lastActivity = Instant.now
    private var malformedLogged = 0

    init(
        id: Int, connection: PeerConnection, request: WorkerRequest, limits: ServerConfiguration.Limits, worker: FrameWorker, logger: Logger
    ) {
        self.id = id
        self.connection = connection
        self.request = request
        self.limits = limits
        self.worker = worker
        queue = FrameQueue(capacity: limits.framesInPipeline)
        var bounds = FrameAssembler.Limits()
        bounds.bytes = limits.reassemblyBytes
        bounds.frameBytes = min(bounds.frameBytes, limits.reassemblyBytes)
        bounds.age = limits.reassemblyAge
        assembler = FrameAssembler(limits: bounds)
        summary = SessionSummary(id: id)
        var log = logger
        log[metadataKey: "session"] = "\(id)"
        self.log = log
    }

    /// Serves the client until the job ends, one way or another, and closes the connection.
    func run() async -> String {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.watchConnection() }
            group.addTask { await self.watchTime() }
            if let (inference, upstream) = await openChannels() {
                group.addTask { await self.read(upstream) }
                group.addTask { await self.readControl(inference) }
                for _ in 0..<max(1, limits.framesInPipeline) { group.addTask { await self.work() } }
                await emit(on: inference)
                await conclude(on: inference)
            }
            await queue.abort()
            await connection.close()
            group.cancelAll()
        }
        worker.close()
        return finishSummary().line
    }

    /// Ends the session for a reason; the first one counts. What is queued is still answered where the client can be reached.
    func end(_ reason: SessionEnding) async {
        guard ending == nil else { return }
        ending = reason
        endedAt = Instant.now
        opening?.resume()
        opening = nil
        reading?.cancel()
        if !reason.leavesChannelOpen || inference == nil || upstream == nil { await queue.abort() }
    }

    /// Ends the session at once, whatever it is waiting for.
    func abort() async {
        await end(.aborted)
        await queue.abort()
        await connection.close()
    }

    // MARK: Opening

    /// Both channels; nil if the session ended before they were there.
    private func openChannels() async -> (inference: DataChannel, upstream: DataChannel)? {
        if ending == nil, inference == nil || upstream == nil { await withCheckedContinuation { opening = $0 } }
        guard let inference, let upstream else { return nil }
        lastActivity = Instant.now
        log.info("Session \(id): channels open after \((lastActivity - began).inMilliseconds.rounded()) ms")
        return (inference, upstream)
    }

    private func watchConnection() async {
        for await event in connection.events {
            switch event {
            case .dataChannel(let channel): adopt(channel)
            case .connectionStateChanged(.failed): await end(.connectionLost("\(await connection.closeReason?.description ?? "failed")"))
            case .connectionStateChanged(.closed): await end(.connectionLost("closed by the client"))
            default: break
            }
        }
        await end(.connectionLost("closed"))
    }

    private func adopt(_ channel: DataChannel) {
        switch channel.label {
        case "inference" where inference == nil: inference = channel
        case "upstream_frames" where upstream == nil: upstream = channel
        default: log.warning("Session \(id): a channel '\(channel.label.prefix(64))' is ignored")
        }
        guard inference != nil, upstream != nil else { return }
        opening?.resume()
        opening = nil
    }

    /// Looks at the session's bounds a few times a second.
    private func watchTime() async {
        let sessionTime = request.processingTimeout.map { min(.seconds($0), limits.sessionTime ?? .seconds($0)) } ?? limits.sessionTime
        while (try? await Task.sleep(for: .milliseconds(200))) != nil {
            let now = Instant.now
            if let endedAt {
                // the client had its time to take what was queued
                if now - endedAt > limits.drainTime * 2 { await abort() }
            } else if inference == nil || upstream == nil {
                if now - began > limits.connectTime { await end(.neverConnected) }
            } else if let sessionTime, now - began > sessionTime {
                await end(.timeLimit)
            } else {
                // Slow inference is no idleness; a client that takes no answers is given time, but not for ever.
                let patience = await queue.count == 0 ? limits.idleTime : limits.idleTime * 10
                if now - lastActivity > patience { await end(.idle) }
            }
            if let deadline = assembler.deadline, deadline <= now { await step { $0.expire(at: now) } }
        }
    }

    // MARK: Reading

    private func read(_ upstream: DataChannel) async {
        let reading = Task { await self.pull(upstream) }
        self.reading = reading
        if ending != nil { reading.cancel() }
        await reading.value
        // What was begun and is not whole will never be; that too is answered. A limit of ours cuts off without a word about it.
        switch ending {
        case .completed, .sourceError, nil: await step { $0.finish() }
        default: break
        }
        await queue.close()
    }

    private func pull(_ upstream: DataChannel) async {
        do throws(DataChannelError) {
            for try await message in upstream.messages {
                await receive(message)
                if ending != nil { return }
            }
            await end(.channelClosed)
        } catch {
            await end(.connectionLost(error.description))
        }
    }

    private func receive(_ message: DataChannel.Message) async {
        let now = Instant.now
        lastActivity = now
        let text: ByteBuffer
        switch message {
        case .text(let string): text = ByteBuffer(string: string)
        // JSON all the same: some clients do not tell the kinds apart
        case .binary(let bytes): text = bytes
        }
        summary.messages += 1
        summary.bytes += text.readableBytes
        do throws(MalformedMessage) {
            switch try UpstreamMessage(parsing: text) {
            case .chunk(let chunk): await step { $0.handle(chunk, at: now) }
            case .endOfFrames: await end(.completed)
            case .sourceError(let error):
                log.warning("Session \(id): the client's source failed: \(error.prefix(200))")
                await end(.sourceError(error))
            }
        } catch {
            noteMalformed(error)
            await step { $0.handle(error, at: now) }
        }
    }

    /// Changes the assembler and passes on what it has ready, one step after another, so that frames keep their order.
    private func step(_ change: (inout FrameAssembler) -> Void) async {
        while isStepping { await withCheckedContinuation { steppers.append($0) } }
        isStepping = true
        change(&assembler)
        while let output = assembler.next() {
            summary.frames += 1
            summary.lastFrameID = output.id
            if case .failed(let id, let fault) = output { log.warning("Session \(self.id): frame \(id): \(fault)") }
            guard await queue.put(output) else { break }
        }
        isStepping = false
        for stepper in steppers { stepper.resume() }
        steppers.removeAll()
    }

    private func noteMalformed(_ error: MalformedMessage) {
        summary.malformedMessages += 1
        malformedLogged += 1
        guard malformedLogged <= 3 else { return }
        let more = malformedLogged == 3 ? "; further ones are only counted" : ""
        log.warning("Session \(id): a message on upstream_frames was dropped: \(error)\(more)")
    }

    /// Acknowledgements and whatever else other clients say on `inference`. Nothing there is needed by this wire.
    private func readControl(_ inference: DataChannel) async {
        var logged = false
        do throws(DataChannelError) {
            for try await message in inference.messages {
                lastActivity = Instant.now
                let text: ByteBuffer
                switch message {
                case .text(let string): text = ByteBuffer(string: string)
                case .binary(let bytes): text = bytes
                }
                let isObject = (try? JSON(parsing: text))?.object != nil
                if !isObject, !logged {
                    logged = true
                    log.warning("Session \(id): a message on inference that is no JSON object is ignored")
                }
            }
            if ending == nil { await end(.channelClosed) }
        } catch {
            await end(.connectionLost(error.description))
        }
    }

    // MARK: Answering

    private nonisolated func work() async {
        while let (ticket, job) = await queue.take() {
            let answer: FrameAnswer
            switch job {
            case .frame(let frame): answer = await worker.answer(frame)
            case .failed(let id, let fault): answer = FrameAnswer(id: id, outcome: .failure("\(fault)"))
            }
            await queue.finish(ticket, with: answer)
        }
    }

    /// Sends the answers in order until the queue is closed and empty.
    private func emit(on inference: DataChannel) async {
        while let answer = await queue.next() {
            var times = answer.times
            let start = Instant.now
            let message = message(for: answer)
            let text = message.json.description
            let serialised = Instant.now
            do throws(EmitError) {
                try await send(text, for: message, on: inference)
            } catch {
                await end(.connectionLost("\(error)"))
                return
            }
            let sent = Instant.now
            times.serialise = serialised - start
            times.send = sent - serialised
            lastActivity = sent
            note(answer, times)
            await queue.release()
        }
    }

    private struct EmitError: Error, CustomStringConvertible {
        var description: String
    }

    private func send(_ text: String, for message: ResultMessage, on channel: DataChannel) async throws(EmitError) {
        do {
            try await channel.send(text)
        } catch let error as DataChannelError where error.code == .messageTooLarge {
            var smaller = message
            smaller.outputs = nil
            smaller.errors.append("the result of \(text.utf8.count) bytes is larger than the client accepts in one message")
            summary.failed += 1
            do { try await channel.send(smaller.json.description) } catch { throw EmitError(description: "\(error)") }
        } catch {
            throw EmitError(description: "\(error)")
        }
    }

    private func message(for answer: FrameAnswer) -> ResultMessage {
        let metadata = ResultMessage.VideoMetadata(
            frameID: answer.id, receivedAt: answer.receivedAt, declaredFPS: request.declaredFPS)
        switch answer.outcome {
        case .failure(let reason): return ResultMessage(videoMetadata: metadata, outputs: nil, errors: [reason])
        case .success(let outputs): return ResultMessage(videoMetadata: metadata, outputs: request.dataOutput.select(from: outputs))
        }
    }

    private func note(_ answer: FrameAnswer, _ times: FrameTimes) {
        summary.answered += 1
        if case .failure(let reason) = answer.outcome {
            summary.failed += 1
            ServerMetrics.frameAnswered(isFailure: true)
            if answer.isServerFault || summary.failed <= 5 { log.warning("Session \(id): frame \(answer.id) failed: \(reason)") }
        } else {
            statistics.record(times)
            ServerMetrics.frameAnswered(isFailure: false)
        }
        if summary.answered % 30 == 0 { log.info("Session \(id): Frame \(answer.id): \(statistics.takeRecent())") }
    }

    // MARK: Ending

    /// The last message, and time for the client to take all.
    private func conclude(on inference: DataChannel) async {
        guard let ending, ending.leavesChannelOpen else { return }
        var errors: [String] = []
        if case .sourceError(let error) = ending { errors.append(error) }
        let message = ResultMessage(
            videoMetadata: .init(frameID: summary.lastFrameID, receivedAt: WallClock.timestamp(), declaredFPS: request.declaredFPS), outputs: nil,
            errors: errors, completion: .init(terminationReason: ending.terminationReason, stages: statistics.count > 0 ? statistics.report : nil))
        let bound = limits.drainTime
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    try await inference.send(message.json.description)
                    try await inference.drained()
                } catch {}
            }
            group.addTask { try? await Task.sleep(for: bound) }
            await group.next()
            group.cancelAll()
        }
    }

    private func finishSummary() -> SessionSummary {
        summary.ending = ending ?? .aborted
        summary.duration = Instant.now - began
        summary.stages = statistics.summary
        summary.assembly = assembler.counters
        return summary
    }
}
