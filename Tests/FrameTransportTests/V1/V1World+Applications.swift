import NIOCore
import Wire

@testable import FrameTransport

extension V1World {
    // MARK: The client's application

    /// The same bytes each time it is asked.
    static func payload(job: Int, unit: Int, sizes: ClosedRange<Int>) -> ByteBuffer {
        var random = SplitMix64(seed: UInt64(job) << 32 | UInt64(unit))
        // mostly small, so that hundreds of seeds take seconds
        let count = Int.random(in: unit % 8 == 3 ? sizes : sizes.lowerBound...max(sizes.lowerBound, sizes.upperBound / 20), using: &random)
        var bytes = ByteBuffer(repeating: UInt8(truncatingIfNeeded: unit), count: count)
        if count >= 16 { bytes.setInteger(random.next(), at: count / 2) }
        return bytes
    }

    func info(job: Int, unit: Int) -> FrameInfo {
        var info = FrameInfo(encoding: plan.encoding, width: 64, height: 48)
        info.pts = Int64(unit) * 40
        info.timeBase = TimeBase(numerator: 1, denominator: 1000)
        info.configuration = jobs[job].configuration
        return info
    }

    func submit() {
        for index in jobs.indices where jobs[index].end == nil {
            guard let key = jobs[index].key else { continue }
            while client.room(of: key) > 0, jobs[index].nextUnit <= plan.units {
                let unit = jobs[index].nextUnit
                do throws(SubmitError) {
                    let id = try client.withJob(key) { sender throws(SubmitError) in
                        if plan.encoding == .source {
                            // a new configuration now and then, as when the picture's size changes
                            jobs[index].configuration = try sender.declare(
                                CodecConfiguration(codec: "h264", width: 64, height: 48, extradata: ByteBuffer(string: "set \(unit / 16)")))
                        }
                        let payload = Self.payload(job: index, unit: unit, sizes: plan.sizes)
                        return try sender.submit(OutgoingFrame(info: info(job: index, unit: unit), payload: payload))
                    }
                    if id != unit { faults.append("unit \(unit) got id \(id ?? 0)") }
                    jobs[index].nextUnit += 1
                } catch {
                    faults.append("unit \(unit): \(error)")
                    return
                }
            }
            if jobs[index].nextUnit == plan.units + 1, !jobs[index].isSourceFinished {
                jobs[index].isSourceFinished = true
                _ = client.withJob(key) { $0.finishSource() }
            }
        }
    }

    func handle(_ event: ClientConnection.Event) {
        switch event {
        case .ready: break
        case .stalled:
            stallCount += 1
            reconnect()
        case .failed(let failure):
            failures.append(failure)
            reconnect()
        case .job(let key, let event):
            guard let index = jobs.firstIndex(where: { $0.key == key }) else { return }
            switch event {
            case .accepted(let ticket): jobs[index].token = ticket.token
            case .resumed(let next): if jobs[index].nextUnit == .max { jobs[index].nextUnit = next }
            case .result(let result):
                jobs[index].waiting.append(result)
                schedule(.take(job: index), in: plan.takeTime)
            case .ended(let end):
                if jobs[index].end != nil { faults.append("two ends") }
                jobs[index].end = end
            case .progress(let progress): self.progress.append(progress)
            case .roomAvailable: break
            }
        }
    }

    private func reconnect() {
        guard !isCut else { return }
        isCut = true
        for wire in 0..<4 { wires[wire] = [] }
        client.disconnected(at: now)
        schedule(.reconnect, in: 1...200)
    }

    func takeResult(_ index: Int) {
        if let pause = plan.pause, pause.contains(Int(now.nanoseconds / 1_000_000)) {
            actions.append((.zero + .milliseconds(pause.upperBound + 1), .take(job: index)))
            return
        }
        guard !jobs[index].waiting.isEmpty, let key = jobs[index].key, jobs[index].results.count != plan.cancelAfter else { return }
        let result = jobs[index].waiting.removeFirst()
        jobs[index].results.append(result)
        _ = client.withJob(key) { sender in
            sender.take(through: result.sequence)
            if let limit = plan.cancelAfter, jobs[index].results.count == limit { sender.cancel() }
        }
    }

    // MARK: The server's application

    func handle(_ event: ServerConnection.Event) {
        switch event {
        case .ready: break
        case .opened(let number, _):
            guard let token = server?.accept(number, at: now) else { return }
            numbers[token] = number
            decoders[token] = Decoder()
        case .resumeRequested(let number, let request):
            guard let receiver = parked.take(request.token) else {
                server?.reject(number, .unknownToken)
                return
            }
            let token = receiver.token
            if let refused = server?.resume(number, receiver, at: now) {
                parked.park(refused, at: now)
            } else {
                numbers[token] = number
            }
        case .job(let number, let event):
            guard let token = numbers.first(where: { $0.value == number })?.key else { return }
            handle(event, token: token)
        case .stalled, .failed: park()
        }
    }

    func handle(_ event: FrameReceiver.Event, token: String) {
        switch event {
        case .frame(let frame):
            if chance(plan.undecodable) {
                refused[token, default: 0] += 1
                withReceiver(token) { $0.retry(frame.id, at: now) }
                return
            }
            schedule(.release(token: token, id: frame.id), in: plan.decodeTime)
            if plan.encoding == .source {
                if frame.configuration?.extradata != ByteBuffer(string: "set \(frame.id / 16)") { faults.append("unit \(frame.id) has another configuration") }
                if frame.id % 7 == 0 { return }
                let shown = decoders[token, default: Decoder()].decode(frame.id)
                for id in shown { show(id, token) }
                if let oldest = shown.min() { withReceiver(token) { $0.settle(below: oldest, at: now) } }
            } else {
                schedule(.complete(token: token, id: frame.id), in: plan.inferTime)
            }
        case .lost: break
        case .finished(let last):
            for id in decoders[token, default: Decoder()].flush() { show(id, token) }
            withReceiver(token) { $0.settle(below: last + 1, at: now) }
        case .ended(let end):
            if let index = jobs.firstIndex(where: { $0.token == token }) { jobs[index].serverEnd = end }
        }
    }

    private func show(_ id: Int, _ token: String) {
        withReceiver(token) { $0.order(id) }
        schedule(.complete(token: token, id: id), in: plan.inferTime)
    }

    func complete(_ token: String, _ id: Int) {
        var answer = Answer(format: .messagePack, body: Answer.Format.messagePack.encode(["unit": .integer(id)]))
        if id % 5 == 0 {
            answer.image = Answer.Image(encoding: .jpeg, width: 64, height: 48, bytes: Self.payload(job: 99, unit: id, sizes: 0...50_000))
        }
        answer.times.infer = UInt32(id)
        withReceiver(token) { $0.complete(id, answer, at: now) }
    }

    /// Wherever the job is.
    func withReceiver<Result>(_ token: String, _ body: (inout FrameReceiver) -> Result) {
        if let number = numbers[token], server != nil {
            _ = server?.withJob(number, body)
        } else {
            _ = parked.withJob(token, body)
        }
    }
}
