/// What a client asks for when it opens a job.
public struct JobRequest: Hashable, Sendable {
    /// Of all frames of the job.
    public var encoding: PayloadEncoding
    /// The wish for a smaller window than the server's, for low latency; nil for the server's.
    public var window: Int?
    /// Which frames may be dropped before they are encoded. Told to the server for its reports; the client does it.
    public var dropPolicy: DropPolicy
    /// How bodies of results are written.
    public var resultFormat: Answer.Format
    /// Result bytes that the server may have sent without an acknowledgement.
    public var resultWindow: Int
    /// The job ends as timed out after this long; nil for the server's own bound.
    public var timeLimit: Duration?
    /// Model, outputs, whatever the applications agree on; an object. This room does not read it.
    public var parameters: JSON

    public init(
        encoding: PayloadEncoding, window: Int? = nil, dropPolicy: DropPolicy = .all, resultFormat: Answer.Format = .messagePack,
        resultWindow: Int = 64 << 20, timeLimit: Duration? = nil, parameters: JSON = .object([:])
    ) {
        self.encoding = encoding
        self.window = window
        self.dropPolicy = dropPolicy
        self.resultFormat = resultFormat
        self.resultWindow = resultWindow
        self.timeLimit = timeLimit
        self.parameters = parameters
    }
}

/// What lets a job go on over another connection or in another process. `description` is its text form.
public struct ResumeTicket: Hashable, Sendable, CustomStringConvertible {
    /// A secret of the server's choice: who knows it owns the job.
    public var token: String
    /// The highest sequence that the application took.
    public var taken: Int

    public init(token: String, taken: Int) {
        self.token = token
        self.taken = taken
    }

    /// Reads `description`'s form.
    public init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, Self.isValid(token: String(parts[0])), let taken = Int(parts[1]), (0...JobLimits.maximumID).contains(taken) else { return nil }
        self.init(token: String(parts[0]), taken: taken)
    }

    public var description: String { "\(token).\(taken)" }

    package static func isValid(token: String) -> Bool {
        (16...64).contains(token.utf8.count) && token.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}

/// How a job ended, as both ends know it.
public struct JobEnd: Hashable, Sendable {
    public enum Status: String, Hashable, Sendable, CaseIterable {
        case completed
        case cancelled
        case timedOut = "timed_out"
        case failed
    }

    /// What the two rolling digests say.
    public enum Proof: Hashable, Sendable {
        /// Each unit arrived as it was sent and was answered once, in order.
        case proved
        /// Proved from this answer on; what came before was answered to an earlier process.
        case provedAfter(sequence: Int)
        case differs
        /// The job did not complete, so there is nothing to compare.
        case none
    }

    public var status: Status
    /// Why it failed; empty for completed.
    public var reason = JobFailure.none
    public var message = ""
    public var counts = JobCounts()
    public var digest: UInt64 = 0
    /// Filled in by the client.
    public var proof = Proof.none

    public init(status: Status, reason: JobFailure = .none, message: String = "") {
        self.status = status
        self.reason = reason
        self.message = message
    }
}

/// Why a job failed or was refused, as the wire names it.
public struct JobFailure: RawRepresentable, Hashable, Sendable {
    public var rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }

    public static let none = JobFailure(rawValue: "")
    /// The other end broke the protocol.
    public static let protocolViolation = JobFailure(rawValue: "protocol")
    /// The token is unknown, or its lifetime is over.
    public static let unknownToken = JobFailure(rawValue: "unknown_token")
    public static let tooManyJobs = JobFailure(rawValue: "too_many_jobs")
    /// An encoding, format or parameter that the server does not do.
    public static let unsupported = JobFailure(rawValue: "unsupported")
    /// Another connection goes on with the job.
    public static let takenOver = JobFailure(rawValue: "taken_over")
    /// The proof failed.
    public static let digestMismatch = JobFailure(rawValue: "digest")
    /// The client's source broke.
    public static let source = JobFailure(rawValue: "source")
    /// The server's pipeline broke.
    public static let server = JobFailure(rawValue: "server")
}

/// What was counted in a job.
public struct JobCounts: Hashable, Sendable {
    /// Units that the client sent: its last id.
    public var sent = 0
    public var received = 0
    /// Units decoded or otherwise done with: their payload was released.
    public var decoded = 0
    public var answered = 0
    /// Answers that the client's application took.
    public var taken = 0
    /// Among the answers: failures, by whatever reason.
    public var failed = 0
    /// Among the answers: units without a picture.
    public var withoutPicture = 0
    /// Units asked for again.
    public var retries = 0
    public var payloadBytes = 0
    /// Frames dropped before they got an id, by reason.
    public var dropped = DropCounts()

    public init() {}
}
