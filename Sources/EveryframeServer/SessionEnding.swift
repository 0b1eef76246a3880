import FrameTransport
import Wire

/// Why a session came to its end.
enum SessionEnding: Hashable, Sendable {
    /// The client said `frame_eof`.
    case completed
    /// The client's source failed.
    case sourceError(String)
    case timeLimit
    case idle
    case shutdown
    case neverConnected
    /// The client closed a channel without an end.
    case channelClosed
    case connectionLost(String)
    case aborted

    /// The client can still be told.
    var leavesChannelOpen: Bool {
        switch self {
        case .completed, .sourceError, .timeLimit, .idle, .shutdown: true
        case .neverConnected, .channelClosed, .connectionLost, .aborted: false
        }
    }

    /// PROTOCOLS.md section 3: null, or a word for the client.
    var terminationReason: String? {
        switch self {
        case .completed: nil
        case .sourceError: "frame_error"
        case .timeLimit: "timeout_reached"
        case .idle: "idle_timeout"
        case .shutdown: "server_shutdown"
        case .neverConnected: "never_connected"
        case .channelClosed: "channel_closed"
        case .connectionLost: "connection_lost"
        case .aborted: "aborted"
        }
    }

    var detail: String? {
        switch self {
        case .connectionLost(let reason): reason
        case .sourceError(let reason): String(reason.prefix(200))
        default: nil
        }
    }
}

/// What a session did, for the log.
struct SessionSummary: Sendable {
    let id: Int
    var ending = SessionEnding.aborted
    /// Frames that left reassembly, whole or failed.
    var frames = 0
    var answered = 0
    var failed = 0
    var lastFrameID = 0
    var messages = 0
    var bytes = 0
    var malformedMessages = 0
    var duration: Duration = .zero
    var stages = ""
    var assembly = FrameAssembler.Counters()

    init(id: Int) { self.id = id }

    var line: String {
        let seconds = duration.inMilliseconds / 1e3
        let rate = seconds > 0 ? Double(answered) / seconds : 0
        var line = "Session \(id) ended: \(ending.terminationReason ?? "completed")"
        if let detail = ending.detail { line += " (\(detail))" }
        line += "; frames=\(frames) answered=\(answered) failed=\(failed)"
        line += " seconds=\(Self.rounded(seconds)) fps=\(Self.rounded(rate)) bytes=\(bytes)"
        if malformedMessages > 0 { line += " malformed=\(malformedMessages)" }
        if assembly.duplicateChunks + assembly.staleChunks > 0 { line += " dropped_chunks=\(assembly.duplicateChunks + assembly.staleChunks)" }
        if answered > 0 { line += "; p50/p99 \(stages)" }
        return line
    }

    private static func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }
}
