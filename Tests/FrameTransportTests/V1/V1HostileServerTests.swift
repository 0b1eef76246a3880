import NIOCore
import Testing
import Wire

@testable import FrameTransport

/// Servers that break the rules: the job fails at the client with the reason, and nothing grows.
@Suite struct V1HostileServerTests {
    /// A client whose job was accepted with credit for eight frames, three of which it has sent.
    struct Client: ~Copyable {
        var engine: ClientConnection
        let key: ClientConnection.JobKey
        var end: JobEnd?
        var failure: ConnectionFailure?
        var results: [FrameResult] = []
        var sent: [ReceivedControl] = []
        static let payload = ByteBuffer(string: "frame")
        static let token = "00112233445566778899aabbccddeeff"

        init(resultWindow: Int = 100_000, settings: TransportSettings = TransportSettings(), limits: JobLimits = JobLimits()) {
            engine = ClientConnection(settings: settings, agent: "test")
            var request = JobRequest(encoding: .jpeg)
            request.resultWindow = resultWindow
            engine.connected(at: .zero)
            key = engine.open(request, at: .zero)
            var hello = Hello(versions: [1], maximumMessageBytes: 262_144)
            hello.limits = limits
            control(.hello(hello))
            control(.accepted(job: 1, JobAcceptance(token: Self.token, lifetime: .seconds(9), credit: Credit(id: 8, bytes: 1000))))
            for _ in 0..<3 { submit() }
        }

        mutating func submit() {
            let frame = OutgoingFrame(info: FrameInfo(encoding: .jpeg, width: 8, height: 8), payload: Self.payload)
            _ = try? engine.withJob(key) { sender throws(SubmitError) in try sender.submit(frame) }
            drain()
        }

        mutating func control(_ message: ControlMessage) {
            var bytes = ByteBuffer()
            message.write(.json, into: &bytes)
            engine.handle(.control, bytes, isText: true, at: .zero)
            drain()
        }

        mutating func result(_ sequence: Int, id: Int, digest: UInt64? = nil, status: Answer.Status = .ok, body: Int = 5, sent: Int? = nil) {
            let answer = Answer(status: status, body: ByteBuffer(repeating: 0xC0, count: body))
            let result = FrameResult(
                sequence: sequence, id: id, picture: id, pts: nil, timeBase: TimeBase(numerator: 1, denominator: 1), captureTime: nil,
                digest: digest ?? XXH64.digest(Self.payload), answer: answer)
            var bytes = ByteBuffer()
            ResultHeader(job: 1, result: result).write(into: &bytes)
            bytes.writeRepeatingByte(0xC0, count: sent ?? body)
            engine.handle(.bulk, bytes, isText: false, at: .zero)
            drain()
        }

        mutating func drain() {
            while let output = engine.poll(at: .zero) {
                switch output {
                case .event(.job(_, .ended(let end))): self.end = end
                case .event(.job(_, .result(let result))): results.append(result)
                case .event(.failed(let failure)): self.failure = failure
                case .event: break
                case .send(let lane, var bytes, _):
                    engine.setBuffered(0, on: lane, at: .zero)
                    if bytes.readInteger() == UInt8(1), let message = try? ControlMessage.read(bytes, isText: false) { sent.append(message) }
                }
            }
        }
    }

    @Test("Answers out of order, twice, to units never sent, or for other bytes than were sent")
    func answers() {
        var good = Client()
        good.result(1, id: 1)
        #expect(good.results.count == 1 && good.end == nil)
        good.result(1, id: 1)
        #expect(good.end?.reason == .protocolViolation)
        var skipped = Client()
        skipped.result(2, id: 2)
        #expect(skipped.end?.reason == .protocolViolation)
        var other = Client()
        other.result(1, id: 2)
        #expect(other.end?.reason == .protocolViolation)
        var never = Client()
        for id in 1...4 { never.result(id, id: id) }
        #expect(never.end?.reason == .protocolViolation && never.results.count == 3)
        var changed = Client()
        changed.result(1, id: 1, digest: 5)
        #expect(changed.end?.reason == .digestMismatch)
        var lazy = Client()
        lazy.result(1, id: 1, digest: 0)
        #expect(lazy.end?.reason == .digestMismatch, "a digest may be missing only where nothing arrived")
        #expect(lazy.sent.contains(.message(.cancel(job: 1))), "the server is told to stop")
    }

    @Test("Answers beyond the window, longer than they say, or in tiny pieces")
    func sizes() {
        var client = Client(resultWindow: 10_000)
        client.result(1, id: 1, body: 9000)
        client.result(2, id: 2, body: 2000)
        #expect(client.end?.reason == .protocolViolation)
        var giant = Client()
        giant.result(1, id: 1, body: 80 << 20, sent: 10)
        #expect(giant.end?.reason == .protocolViolation)
        var long = Client()
        long.result(1, id: 1, body: 10, sent: 11)
        #expect(long.end?.reason == .protocolViolation)
        var tiny = Client()
        tiny.result(1, id: 1, body: 5000, sent: 10)
        #expect(tiny.end?.reason == .protocolViolation)
    }

    @Test("An answer larger than the window is taken behind empty ones, as the server counts it")
    func emptyAnswers() {
        var client = Client(resultWindow: 1000)
        client.result(1, id: 1, body: 0)
        client.result(2, id: 2, body: 5000)
        #expect(client.end == nil && client.results.count == 2)
        client.result(3, id: 3, body: 1)
        #expect(client.end?.reason == .protocolViolation)
    }

    @Test("A server's own word on how long an answer may be does not make the client hold it")
    func ownLimit() {
        var settings = TransportSettings()
        settings.resultBytes = 100_000
        var limits = JobLimits()
        limits.resultBytes = Int(UInt32.max)
        var client = Client(resultWindow: 8 << 20, settings: settings, limits: limits)
        client.result(1, id: 1, body: 100_000)
        #expect(client.results.count == 1 && client.end == nil)
        client.result(2, id: 2, body: 100_001, sent: 2000)
        #expect(client.end?.reason == .protocolViolation && client.engine.heldBytes <= 100_000)
    }

    @Test("Acknowledgements of what was never sent; requests for what is not there are passed over")
    func acknowledgements() {
        var client = Client()
        client.control(.retry(job: 1, ids: [9, 3, 3, 100]))
        #expect(client.end == nil)
        client.control(.acknowledgement(job: 1, Acknowledgement(received: 3, acknowledged: 4, credit: Credit(id: 9, bytes: 9))))
        #expect(client.end?.reason == .protocolViolation)
    }

    @Test("An end whose counts or proof differ is no completion")
    func falseEnd() {
        var client = Client()
        var end = JobEnd(status: .completed)
        end.counts.answered = 3
        client.control(.end(job: 1, end))
        #expect(client.end?.status == .failed && client.end?.proof == .differs)
        #expect(client.sent.contains(.message(.bye(job: 1))))
    }

    @Test("A server that has more than was sent, or another proof, cannot resume a job")
    func falseResumption() {
        for (received, acknowledged, digest) in [(7, 0, UInt64(0)), (2, 3, 0), (3, 3, 9)] {
            var client = Client()
            client.engine.connected(at: .zero)
            var hello = Hello(versions: [1], maximumMessageBytes: 262_144)
            hello.limits = JobLimits()
            client.control(.hello(hello))
            client.control(
                .resumed(
                    job: 1,
                    JobResumption(
                        lifetime: .seconds(1), received: received, acknowledged: acknowledged, taken: 0, digest: digest, credit: Credit(id: 9, bytes: 9))))
            #expect(client.end?.status == .failed)
        }
    }

    @Test("Frames that break the announced limits are refused before a byte is sent")
    func obedience() throws {
        var client = Client()
        var info = FrameInfo(encoding: .jpeg, width: 8, height: 8)
        func submit(_ client: inout Client, _ info: FrameInfo, _ bytes: Int = 1) -> SubmitError? {
            do throws(SubmitError) {
                _ = try client.engine.withJob(client.key) { sender throws(SubmitError) in
                    try sender.submit(OutgoingFrame(info: info, payload: ByteBuffer(repeating: 0, count: bytes)))
                }
                return nil
            } catch { return error }
        }
        #expect(submit(&client, info, (64 << 20) + 1) == .tooLarge(limit: 64 << 20))
        info.width = .max
        info.height = .max
        #expect(submit(&client, info) == .tooManyPixels(limit: 1 << 26))
        #expect(submit(&client, FrameInfo(encoding: .png, width: 8, height: 8)) == .wrongEncoding)
        #expect(client.engine.room(of: client.key) > 0)
        // more than the credit in bytes waits, whole
        let before = client.engine.counters.bytesSent
        #expect(submit(&client, FrameInfo(encoding: .jpeg, width: 8, height: 8), 5000) == nil)
        client.drain()
        #expect(client.engine.counters.bytesSent == before)
    }

    @Test("A request that is longer than the channel's messages fails before it is sent")
    func longRequest() {
        var client = ClientConnection(agent: "test")
        client.connected(channelMessageBytes: 16_384, at: .zero)
        _ = client.open(
            JobRequest(encoding: .jpeg, parameters: .object(["workflow": .string(String(repeating: "x", count: 20_000))])), at: .zero)
        var hello = Hello(versions: [1], maximumMessageBytes: 262_144)
        hello.limits = JobLimits()
        var bytes = ByteBuffer()
        ControlMessage.hello(hello).write(.messagePack, into: &bytes)
        client.handle(.control, bytes, isText: false, at: .zero)
        var end: JobEnd?
        while let output = client.poll(at: .zero) {
            if case .event(.job(_, .ended(let its))) = output { end = its }
            if case .send(_, let bytes, _) = output { #expect(bytes.readableBytes <= 16_384) }
        }
        #expect(end?.reason == .unsupported)
    }
}
