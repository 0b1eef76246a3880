import Everyframe
import Foundation
import FrameTransport

/// How a stream goes, on stderr: one moving line on a terminal, a line every few seconds elsewhere.
actor ProgressDisplay {
    private let isQuiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let start = ContinuousClock.now
    private var lastShown: ContinuousClock.Instant?
    private var last: StreamProgress?
    private var notes = 0

    init(isQuiet: Bool) { self.isQuiet = isQuiet }

    func show(_ progress: StreamProgress) {
        last = progress
        let now = ContinuousClock.now
        let interval: Duration = isTerminal ? .milliseconds(100) : .seconds(2)
        guard !isQuiet, now - (lastShown ?? start) >= interval else { return }
        lastShown = now
        draw(progress)
    }

    /// Something that went wrong with one frame; the first few are told.
    func note(_ text: String) {
        notes += 1
        guard notes <= 10 else { return }
        Terminal.write("\(isTerminal ? "\r\u{1b}[K" : "")everyframe: \(text)\(notes == 10 ? " (no more of these are shown)" : "")\n")
    }

    /// A line of its own.
    func say(_ text: String) { Terminal.write("\(isTerminal ? "\r\u{1b}[K" : "")\(text)\n") }

    func finish() {
        guard !isQuiet, let last, isTerminal else { return }
        draw(last)
        Terminal.write("\n")
    }

    private func draw(_ progress: StreamProgress) {
        let elapsed = ContinuousClock.now - start
        let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
        let rate = seconds > 0 ? Double(progress.resultsReceived) / seconds : 0
        var text = "\(progress.resultsReceived)"
        if let expected = progress.framesExpected, expected > 0 {
            let share = min(1, Double(progress.resultsReceived) / Double(expected))
            if isTerminal {
                let filled = Int(share * 30)
                text = "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled) + "] " + text
            }
            text += "/\(expected) answered (\(Int(share * 100)) %)"
            if rate > 0, share < 1 { text += String(format: ", %.0f s left", Double(expected - progress.resultsReceived) / rate) }
        } else {
            text += " answered"
        }
        text += String(format: ", %.1f frames/s, %.1f MB sent", rate, Double(progress.bytesSent) / 1e6)
        if progress.dropped.total > 0 { text += ", \(progress.dropped.total) dropped" }
        if progress.isReconnecting { text += ", connecting anew" }
        if progress.framesFailed > 0 { text += ", \(progress.framesFailed) failed" }
        Terminal.write(isTerminal ? "\r\u{1b}[K\(text)" : "\(text)\n")
    }
}

enum Terminal {
    static func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
