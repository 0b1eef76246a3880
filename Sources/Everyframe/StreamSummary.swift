public import FrameTransport

/// What came of a stream, and the proof of it.
public struct StreamSummary: Sendable {
    public var framesDecoded = 0
    public var framesSent = 0
    public var resultsReceived = 0
    /// Frames answered with errors.
    public var framesFailed = 0
    /// From the open channels to the last answer.
    public var seconds = 0.0
    /// Messages on `upstream_frames`.
    public var bytesSent = 0
    /// From the beginning to open channels.
    public var setupMilliseconds = 0.0
    /// The server's stages; nil where it does not tell them.
    public var stages: StageReport?
    public var proof: LedgerProof
    /// Why the stream ended early; nil when it came to its end.
    public var failure: StreamError?
    /// What the source could not read, in words; nil where all was well.
    public var sourceDamage: String?
    /// The word of the server for why it ended the job; nil for its regular end.
    public var terminationReason: String?

    public var framesPerSecond: Double { seconds > 0 ? Double(resultsReceived) / seconds : 0 }

    /// Every frame of the source was sent, and answered once, in order, without error.
    public var ok: Bool { failure == nil && proof.isClean && framesSent == framesDecoded && framesSent > 0 }

    public var json: JSON {
        var object: JSONObject = [
            "frames_decoded": .integer(framesDecoded), "frames_sent": .integer(framesSent), "results_received": .integer(resultsReceived),
            "frames_failed": .integer(framesFailed), "seconds": .number(Self.rounded(seconds)), "fps": .number(Self.rounded(framesPerSecond)),
            "bytes_sent": .integer(bytesSent), "setup_ms": .number(Self.rounded(setupMilliseconds)), "stages": stages?.json ?? .null,
            "ok": .bool(ok), "proof": .string(proof.description),
        ]
        if let failure { object.append("failure", .string(failure.description)) }
        if let terminationReason { object.append("termination_reason", .string(terminationReason)) }
        if let sourceDamage { object.append("source_damage", .string(sourceDamage)) }
        return .object(object)
    }

    private static func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }
}

/// Where a stream stands.
public struct StreamProgress: Hashable, Sendable {
    public var framesSent = 0
    public var resultsReceived = 0
    public var framesFailed = 0
    public var bytesSent = 0
    /// What the source expects to have; nil where it cannot know.
    public var framesExpected: Int?
}
