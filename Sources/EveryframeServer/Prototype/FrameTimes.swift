import FrameTransport
import Wire

/// The stages of a frame's way through the server.
enum Stage: String, CaseIterable, Sendable {
    /// Whole but waiting for a decoder or for the engine.
    case wait
    /// Base64 and picture.
    case decode
    case inference
    case serialise
    /// Into the data channel; long when the client takes its answers slowly.
    case send
}

/// How long one frame spent in each stage.
struct FrameTimes: Sendable {
    var wait: Duration = .zero
    var decode: Duration = .zero
    var inference: Duration = .zero
    var serialise: Duration = .zero
    var send: Duration = .zero

    subscript(stage: Stage) -> Duration {
        switch stage {
        case .wait: wait
        case .decode: decode
        case .inference: inference
        case .serialise: serialise
        case .send: send
        }
    }
}

/// The stage times of a session: a distribution of fixed size for each stage, and the mean since the last report.
struct StageStatistics: Sendable {
    private var histograms = [DurationHistogram](repeating: DurationHistogram(), count: Stage.allCases.count)
    private var recent = [Int64](repeating: 0, count: Stage.allCases.count)
    private var recentCount: Int64 = 0
    private(set) var count = 0

    mutating func record(_ times: FrameTimes) {
        count += 1
        recentCount += 1
        for (index, stage) in Stage.allCases.enumerated() {
            let nanoseconds = times[stage].inNanoseconds
            histograms[index].add(UInt32(clamping: nanoseconds / 1000))
            recent[index] += nanoseconds
        }
    }

    /// `wait=0.1ms decode=2.3ms …`: means of the frames since this was last asked.
    mutating func takeRecent() -> String {
        let divisor = max(1, recentCount)
        let line = Stage.allCases.indices.map { "\(Stage.allCases[$0].rawValue)=\(Self.milliseconds(Double(recent[$0] / divisor) / 1e6))ms" }
        recent = recent.map { _ in 0 }
        recentCount = 0
        return line.joined(separator: " ")
    }

    /// `wait=0.1/0.9ms …`: p50 and p99 of the whole session.
    var summary: String {
        report.stages.map { "\($0.name)=\(Self.milliseconds($0.p50))/\(Self.milliseconds($0.p99))ms" }.joined(separator: " ")
    }

    var report: StageReport {
        StageReport(
            stages: Stage.allCases.enumerated().map { index, stage in
                let summary = histograms[index].summary
                return .init(name: stage.rawValue, p50: summary.median.inMilliseconds, p99: summary.p99.inMilliseconds)
            })
    }

    private static func milliseconds(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
