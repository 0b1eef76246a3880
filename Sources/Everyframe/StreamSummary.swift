import Foundation
public import FrameTransport
import NIOCore
public import WebRTC

/// What came of a stream, and the proof of it.
public struct StreamSummary: Sendable {
    /// Frames that the source gave: pictures, or access units.
    public var framesDecoded = 0
    /// Of these, what was left after drops.
    public var framesSent = 0
    public var resultsReceived = 0
    /// Frames answered with errors.
    public var framesFailed = 0
    /// Access units without a picture of their own, and those that a stride leaves out.
    public var unitsWithoutPicture = 0
    public var dropped = DropCounts()
    /// Frames that were asked for again.
    public var retries = 0
    /// Connections that were lost and made anew.
    public var reconnections = 0
    /// What the two ends' rolling digests say; nil on the prototype wire, which has none.
    public var verification: JobEnd.Proof?
    /// The server's digest over (id, payload digest) of all answers.
    public var digest: UInt64?
    /// What the job waited for, and the share of its time from 0 to 1; nil where the server does not tell.
    public var bottleneck: (name: ServerProgress.Bottleneck, share: Double)?
    /// From the open channels to the last answer.
    public var seconds = 0.0
    /// Frames with their headers, as messages.
    public var bytesSent = 0
    /// From the beginning to open channels.
    public var setupMilliseconds = 0.0
    /// The server's stages; nil where it does not tell them.
    public var stages: StageReport?
    public var proof: LedgerProof
    /// What the last connection counted and measured (W3C's webrtc-stats); nil where there was none.
    public var webrtcStats: StatsReport?
    /// Why the stream ended early; nil when it came to its end.
    public var failure: StreamError?
    /// What the source could not read, in words; nil where all was well.
    public var sourceDamage: String?
    /// The word of the server for why it ended the job; nil for its regular end.
    public var terminationReason: String?

    public var framesPerSecond: Double { seconds > 0 ? Double(resultsReceived) / seconds : 0 }

    /// Every frame of the source was sent, and answered once, in order, without error.
    public var ok: Bool {
        failure == nil && proof.isClean && framesSent + dropped.total == framesDecoded && framesSent > 0 && isVerified
    }

    private var isVerified: Bool {
        switch verification {
        case nil, .proved, .provedAfter: true
        case .differs, .some(.none): false
        }
    }

    /// The proof in words.
    public var verdict: String {
        var words = proof.description
        if dropped.total > 0 { words += "; \(dropped.total) dropped by choice" }
        switch verification {
        case .proved: words += "; both ends' digests agree" + (digest.map { " (\(Hex64.text($0)))" } ?? "")
        case .provedAfter(let sequence): words += "; both ends' digests agree from answer \(sequence + 1) on"
        case .differs: words += "; the digests of the two ends differ"
        case nil, .some(.none): break
        }
        return words
    }

    public var json: JSON {
        var object: JSONObject = [
            "frames_decoded": .integer(framesDecoded), "frames_sent": .integer(framesSent), "results_received": .integer(resultsReceived),
            "frames_failed": .integer(framesFailed), "seconds": .number(Self.rounded(seconds)), "fps": .number(Self.rounded(framesPerSecond)),
            "bytes_sent": .integer(bytesSent), "setup_ms": .number(Self.rounded(setupMilliseconds)), "stages": stages?.json ?? .null,
            "ok": .bool(ok), "proof": .string(verdict), "units_without_picture": .integer(unitsWithoutPicture), "retries": .integer(retries),
            "reconnections": .integer(reconnections),
            "dropped": dropped.json,
        ]
        if let digest { object.append("digest", .string(Hex64.text(digest))) }
        if let bottleneck {
            object.append("bottleneck", ["name": .string(bottleneck.name.rawValue), "share": .number(Self.rounded(bottleneck.share))])
        }
        if let failure { object.append("failure", .string(failure.description)) }
        if let terminationReason { object.append("termination_reason", .string(terminationReason)) }
        if let webrtcStats, let text = try? JSONEncoder().encode(webrtcStats), let stats = try? JSON(parsing: ByteBuffer(bytes: text)) {
            object.append("webrtc_stats", stats)
        }
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
    public var dropped = DropCounts()
    public var retries = 0
    /// The connection is lost and sought again.
    public var isReconnecting = false
    /// What the server says of the job; nil on the prototype wire.
    public var server: ServerProgress?
    /// What the source expects to have; nil where it cannot know.
    public var framesExpected: Int?
}
