import Wire

extension ControlMessage {
    /// nil: a type that this version does not know.
    init?(type: String, _ fields: ControlFields) throws(ControlMessageError) {
        switch type {
        case "hello": self = .hello(try Hello(fields))
        case "goodbye": self = .goodbye(reason: try fields.string("reason"), message: try fields.optionalString("message") ?? "")
        case "ping": self = .ping(try fields.integer("n"))
        case "pong": self = .pong(try fields.integer("n"))
        case "open": self = .open(job: try fields.job(), try JobRequest(fields))
        case "resume":
            let token = try fields.string("token")
            guard ResumeTicket.isValid(token: token) else { throw .invalid("token") }
            let taken = try fields.integer("taken")
            let have = try fields.optionalInteger("have") ?? taken
            guard have >= taken else { throw .invalid("have") }
            self = .resume(job: try fields.job(), ResumeRequest(token: token, taken: taken, have: have))
        case "finish":
            self = .finish(
                job: try fields.job(),
                JobFinish(last: try fields.integer("last"), dropped: try DropCounts(fields), error: try fields.optionalString("error")))
        case "taken": self = .taken(job: try fields.job(), sequence: try fields.integer("sequence"))
        case "cancel": self = .cancel(job: try fields.job())
        case "bye": self = .bye(job: try fields.job())
        case "accepted":
            let token = try fields.string("token")
            guard ResumeTicket.isValid(token: token) else { throw .invalid("token") }
            self = .accepted(
                job: try fields.job(), JobAcceptance(token: token, lifetime: try fields.milliseconds("lifetime_ms"), credit: try Credit(fields)))
        case "rejected":
            self = .rejected(
                job: try fields.job(), reason: JobFailure(rawValue: try fields.string("reason")), message: try fields.optionalString("message") ?? "")
        case "resumed":
            self = .resumed(
                job: try fields.job(),
                JobResumption(
                    lifetime: try fields.milliseconds("lifetime_ms"), received: try fields.integer("received"),
                    acknowledged: try fields.integer("acknowledged"), taken: try fields.integer("taken"), digest: try fields.digest("digest"),
                    credit: try Credit(fields)))
        case "ack":
            self = .acknowledgement(
                job: try fields.job(),
                Acknowledgement(
                    received: try fields.integer("received"), acknowledged: try fields.integer("acknowledged"), credit: try Credit(fields)))
        case "retry": self = .retry(job: try fields.job(), ids: try fields.integers("ids", in: 1...JobLimits.maximumID))
        case "progress": self = .progress(job: try fields.job(), try ServerProgress(fields))
        case "end": self = .end(job: try fields.job(), try JobEnd(fields))
        default: return nil
        }
    }

    var object: JSONObject {
        switch self {
        case .hello(let hello): hello.object
        case .goodbye(let reason, let message): ["type": "goodbye", "reason": .string(reason), "message": .string(message)]
        case .ping(let number): ["type": "ping", "n": .integer(number)]
        case .pong(let number): ["type": "pong", "n": .integer(number)]
        case .open(let job, let request): request.object(type: "open", job: job)
        case .resume(let job, let request):
            [
                "type": "resume", "job": .integer(Int(job)), "token": .string(request.token), "taken": .integer(request.taken),
                "have": .integer(request.have),
            ]
        case .finish(let job, let finish):
            finish.object(job: job)
        case .taken(let job, let sequence): ["type": "taken", "job": .integer(Int(job)), "sequence": .integer(sequence)]
        case .cancel(let job): ["type": "cancel", "job": .integer(Int(job))]
        case .bye(let job): ["type": "bye", "job": .integer(Int(job))]
        case .accepted(let job, let acceptance):
            [
                "type": "accepted", "job": .integer(Int(job)), "token": .string(acceptance.token),
                "lifetime_ms": acceptance.lifetime.wireMilliseconds, "credit_id": .integer(acceptance.credit.id),
                "credit_bytes": .integer(acceptance.credit.bytes),
            ]
        case .rejected(let job, let reason, let message):
            ["type": "rejected", "job": .integer(Int(job)), "reason": .string(reason.rawValue), "message": .string(message)]
        case .resumed(let job, let resumption):
            [
                "type": "resumed", "job": .integer(Int(job)), "lifetime_ms": resumption.lifetime.wireMilliseconds,
                "received": .integer(resumption.received), "acknowledged": .integer(resumption.acknowledged),
                "taken": .integer(resumption.taken), "digest": .string(Hex64.text(resumption.digest)), "credit_id": .integer(resumption.credit.id),
                "credit_bytes": .integer(resumption.credit.bytes),
            ]
        case .acknowledgement(let job, let ack):
            [
                "type": "ack", "job": .integer(Int(job)), "received": .integer(ack.received), "acknowledged": .integer(ack.acknowledged),
                "credit_id": .integer(ack.credit.id), "credit_bytes": .integer(ack.credit.bytes),
            ]
        case .retry(let job, let ids): ["type": "retry", "job": .integer(Int(job)), "ids": .array(ids.map { .integer($0) })]
        case .progress(let job, let progress): progress.object(job: job)
        case .end(let job, let end): end.object(job: job)
        }
    }
}

extension Credit {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        id = try fields.integer("credit_id")
        bytes = try fields.integer("credit_bytes")
    }
}

extension JobFinish {
    func object(job: JobNumber) -> JSONObject {
        var object: JSONObject = ["type": "finish", "job": .integer(Int(job)), "last": .integer(last), "dropped": dropped.json]
        if let error { object.append("error", .string(error)) }
        return object
    }
}

extension Hello {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        self.init(
            versions: try fields.integers("versions", in: 0...JobLimits.maximumID),
            maximumMessageBytes: try fields.integer("max_message", in: TransportSettings.leastMessageBytes...JobLimits.maximumID))
        agent = try fields.optionalString("agent") ?? ""
        format = Answer.Format(name: try fields.optionalString("format") ?? "") ?? .messagePack
        limits = try fields.optionalFields("limits").map { fields throws(ControlMessageError) in try JobLimits(fields) }
        encodings = fields.names("encodings").compactMap(PayloadEncoding.init(name:))
        compressions = fields.names("compressions").compactMap(Compression.init(name:))
        extra = fields.object["extra"] ?? .object([:])
    }

    var object: JSONObject {
        var object: JSONObject = [
            "type": "hello", "versions": .array(versions.map { .integer($0) }), "agent": .string(agent), "max_message": .integer(maximumMessageBytes),
            "format": .string(format.name), "encodings": .array(encodings.map { .string($0.name) }),
            "compressions": .array(compressions.map { .string($0.name) }),
        ]
        if let limits { object.append("limits", limits.json) }
        if extra != .object([:]) { object.append("extra", extra) }
        return object
    }
}

extension JobLimits {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        self.init()
        jobs = try fields.integer("jobs", in: 1...JobLimits.maximumID)
        frameBytes = try fields.integer("frame_bytes", in: 1...JobLimits.maximumID)
        framePixels = try fields.integer("frame_pixels", in: 1...JobLimits.maximumID)
        framesInFlight = try fields.integer("frames_in_flight", in: 1...JobLimits.maximumID)
        bytesInFlight = try fields.integer("bytes_in_flight", in: 1...JobLimits.maximumID)
        resultBytes = try fields.integer("result_bytes", in: 1...JobLimits.maximumID)
        configurations = try fields.integer("configurations", in: 1...JobLimits.maximumID)
        configurationBytes = try fields.integer("configuration_bytes")
        tries = try fields.integer("tries", in: 1...JobLimits.maximumID)
        resumeLifetime = try fields.milliseconds("resume_ms")
        self = consistent
    }

    var json: JSON {
        [
            "jobs": .integer(jobs), "frame_bytes": .integer(frameBytes), "frame_pixels": .integer(framePixels),
            "frames_in_flight": .integer(framesInFlight), "bytes_in_flight": .integer(bytesInFlight), "result_bytes": .integer(resultBytes),
            "configurations": .integer(configurations), "configuration_bytes": .integer(configurationBytes), "tries": .integer(tries),
            "resume_ms": resumeLifetime.wireMilliseconds,
        ]
    }
}

extension JobRequest {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        guard let encoding = PayloadEncoding(name: try fields.string("encoding")) else { throw .invalid("encoding") }
        guard let format = Answer.Format(name: try fields.optionalString("result_format") ?? "msgpack") else { throw .invalid("result_format") }
        self.init(encoding: encoding, resultFormat: format)
        window = try fields.optionalInteger("window", in: 1...JobLimits.maximumID)
        resultWindow = try fields.optionalInteger("result_window", in: 1...JobLimits.maximumID) ?? resultWindow
        timeLimit = try fields.optionalMilliseconds("time_limit_ms")
        if let drop = try fields.optionalFields("drop") { dropPolicy = try DropPolicy(drop) }
        if let parameters = fields.object["parameters"] {
            guard parameters.object != nil else { throw .invalid("parameters") }
            self.parameters = parameters
        }
    }

    func object(type: String, job: JobNumber) -> JSONObject {
        var object: JSONObject = [
            "type": .string(type), "job": .integer(Int(job)), "encoding": .string(encoding.name), "result_format": .string(resultFormat.name),
            "result_window": .integer(resultWindow), "drop": dropPolicy.json, "parameters": parameters,
        ]
        if let window { object.append("window", .integer(window)) }
        if let timeLimit { object.append("time_limit_ms", timeLimit.wireMilliseconds) }
        return object
    }
}

extension DropPolicy {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        switch try fields.string("policy") {
        case "latest": self = .latest
        case "max_lag": self = .maximumLag(try fields.milliseconds("ms"))
        case "every_nth": self = .everyNth(try fields.integer("n", in: 1...JobLimits.maximumID))
        case "max_fps":
            let rate = try fields.number("fps")
            guard rate > 0 else { throw .invalid("fps") }
            self = .maximumRate(rate)
        // it is the client that drops: a policy from the future does no harm
        default: self = .all
        }
    }

    var json: JSON {
        switch self {
        case .all: ["policy": "all"]
        case .latest: ["policy": "latest"]
        case .maximumLag(let lag): ["policy": "max_lag", "ms": lag.wireMilliseconds]
        case .everyNth(let n): ["policy": "every_nth", "n": .integer(n)]
        case .maximumRate(let rate): ["policy": "max_fps", "fps": .number(rate)]
        }
    }
}

extension DropCounts {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        self.init()
        guard let dropped = try fields.optionalFields("dropped") else { return }
        for reason in Reason.allCases {
            if let count = try dropped.optionalInteger(reason.rawValue), count > 0 { byReason[reason] = count }
        }
    }

    package var json: JSON {
        var object = JSONObject()
        for reason in Reason.allCases where self[reason] > 0 { object.append(reason.rawValue, .integer(self[reason])) }
        return .object(object)
    }
}

extension JobCounts {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        self.init()
        sent = try fields.optionalInteger("sent") ?? 0
        received = try fields.integer("received")
        decoded = try fields.integer("decoded")
        answered = try fields.integer("answered")
        taken = try fields.integer("taken")
        failed = try fields.integer("failed")
        withoutPicture = try fields.optionalInteger("without_picture") ?? 0
        retries = try fields.optionalInteger("retries") ?? 0
        payloadBytes = try fields.optionalInteger("payload_bytes") ?? 0
        dropped = try DropCounts(fields)
    }

    var json: JSON {
        [
            "sent": .integer(sent), "received": .integer(received), "decoded": .integer(decoded), "answered": .integer(answered),
            "taken": .integer(taken), "failed": .integer(failed), "without_picture": .integer(withoutPicture), "retries": .integer(retries),
            "payload_bytes": .integer(payloadBytes), "dropped": dropped.json,
        ]
    }
}

extension JobEnd {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        guard let status = Status(rawValue: try fields.string("status")) else { throw .invalid("status") }
        self.init(
            status: status, reason: JobFailure(rawValue: try fields.optionalString("reason") ?? ""), message: try fields.optionalString("message") ?? "")
        counts = try JobCounts(try fields.fields("counts"))
        digest = try fields.digest("digest")
    }

    /// Words are for people; they must not outgrow a message.
    private static func shortened(_ text: String) -> String { text.utf8.count <= 2000 ? text : String(decoding: text.utf8.prefix(1990), as: UTF8.self) }

    func object(job: JobNumber) -> JSONObject {
        [
            "type": "end", "job": .integer(Int(job)), "status": .string(status.rawValue), "reason": .string(reason.rawValue),
            "message": .string(Self.shortened(message)), "counts": counts.json, "digest": .string(Hex64.text(digest)),
        ]
    }
}

extension ServerProgress {
    init(_ fields: ControlFields) throws(ControlMessageError) {
        self.init()
        counts = try JobCounts(try fields.fields("counts"))
        elapsed = try fields.milliseconds("elapsed_ms")
        idle = try fields.optionalMilliseconds("idle_ms") ?? .zero
        blocked = try fields.optionalMilliseconds("blocked_ms") ?? .zero
        guard let stages = try fields.optionalFields("stages") else { return }
        for name in StageTimes.names {
            guard let stage = try stages.optionalFields(name) else { continue }
            self.stages[name] = StageSummary(
                count: try stage.integer("count"), total: .microseconds(try stage.integer("total_us")),
                median: .microseconds(try stage.integer("p50_us")),
                p99: .microseconds(try stage.integer("p99_us")))
        }
    }

    func object(job: JobNumber) -> JSONObject {
        func microseconds(_ duration: Duration) -> JSON { .integer(Int(clamping: duration.inNanoseconds / 1000)) }
        var stages = JSONObject()
        for name in StageTimes.names {
            guard let stage = self.stages[name] else { continue }
            stages.append(
                name,
                [
                    "count": .integer(stage.count), "total_us": microseconds(stage.total), "p50_us": microseconds(stage.median),
                    "p99_us": microseconds(stage.p99),
                ])
        }
        return [
            "type": "progress", "job": .integer(Int(job)), "counts": counts.json, "elapsed_ms": elapsed.wireMilliseconds,
            "idle_ms": idle.wireMilliseconds, "blocked_ms": blocked.wireMilliseconds, "stages": .object(stages),
        ]
    }
}
