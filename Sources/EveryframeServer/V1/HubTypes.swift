import FrameLink
import FrameTransport
import WebRTCNIO
import Wire

/// What a hub's jobs are and hold, all together.
package struct HubState: Hashable, Sendable {
    /// Not over.
    package var jobs = 0
    /// Without a connection, those that are over among them.
    package var parked = 0
    package var payloadBytes = 0
    package var pictureBytes = 0
    package var resultBytes = 0
    /// Units with an answer.
    package var answered = 0
}

/// A connection as the hub knows it.
final class HubConnection {
    let id: Int
    let peer: PeerConnection
    let link: EngineLink<ServerConnection>
    var numbers: [String: JobNumber] = [:]
    /// Why it ended, for the log.
    var ending: String?
    var idleSince: Instant
    /// The server is going.
    var isDraining = false

    init(id: Int, peer: PeerConnection, link: EngineLink<ServerConnection>, at now: Instant) {
        self.id = id
        self.peer = peer
        self.link = link
        idleSince = now
    }

    func token(of number: JobNumber) -> String? { numbers.first { $0.value == number }?.key }
}

struct HubJob {
    enum Place: Hashable {
        case connection(Int, JobNumber)
        case parked
    }

    /// Of the connection that opened it and there, for logs: tokens are secrets.
    let number: String
    let request: JobRequest
    let pipeline: JobPipeline
    var place: Place
    var isEnded = false
    var lastCounts = JobCounts()
    var lastMove: Instant
    var nextLook: Instant

    init(number: String, request: JobRequest, pipeline: JobPipeline, place: Place, at now: Instant) {
        self.number = number
        self.request = request
        self.pipeline = pipeline
        self.place = place
        lastMove = now
        nextLook = now
    }

    /// How it ended, for the log.
    func line(_ end: JobEnd, _ progress: ServerProgress) -> String {
        let seconds = progress.elapsed.inMilliseconds / 1e3
        let rate = seconds > 0 ? Double(end.counts.answered) / seconds : 0
        var line = "Job \(number) ended: \(end.status.rawValue)"
        if !end.message.isEmpty { line += " (\(end.message.prefix(200)))" }
        line += "; units=\(end.counts.received) answered=\(end.counts.answered) taken=\(end.counts.taken) failed=\(end.counts.failed)"
        line += " without_picture=\(end.counts.withoutPicture) retries=\(end.counts.retries) dropped=\(end.counts.dropped.total)"
        line += " seconds=\(seconds.rounded(toPlaces: 2)) fps=\(rate.rounded(toPlaces: 1)) bytes=\(end.counts.payloadBytes)"
        if let bottleneck = progress.bottleneck { line += "; \(bottleneck.name.rawValue)-bound: \(Int((bottleneck.share * 100).rounded())) % of time" }
        let stages = StageTimes.names.compactMap { name in
            progress.stages[name].map {
                "\(name)=\($0.median.inMilliseconds.rounded(toPlaces: 2))/\($0.p99.inMilliseconds.rounded(toPlaces: 2))ms"
            }
        }
        if !stages.isEmpty { line += "; p50/p99 \(stages.joined(separator: " "))" }
        return line
    }
}

extension Double {
    func rounded(toPlaces places: Int) -> Double {
        var scale = 1.0
        for _ in 0..<places { scale *= 10 }
        return (self * scale).rounded() / scale
    }
}
