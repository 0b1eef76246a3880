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
    private var histograms = [Histogram](repeating: Histogram(), count: Stage.allCases.count)
    private var recent = [Int64](repeating: 0, count: Stage.allCases.count)
    private var recentCount: Int64 = 0
    private(set) var count = 0

    mutating func record(_ times: FrameTimes) {
        count += 1
        recentCount += 1
        for (index, stage) in Stage.allCases.enumerated() {
            let nanoseconds = times[stage].inNanoseconds
            histograms[index].record(nanoseconds)
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
                .init(name: stage.rawValue, p50: histograms[index].milliseconds(at: 0.5), p99: histograms[index].milliseconds(at: 0.99))
            })
    }

    private static func milliseconds(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}

/// A distribution of durations in logarithmic bins of at most 3 % width.
struct Histogram: Sendable {
    private static let binsPerOctave = 32
    private var bins = [UInt32](repeating: 0, count: 44 * binsPerOctave)
    private var count: UInt64 = 0

    mutating func record(_ nanoseconds: Int64) {
        bins[Self.bin(of: nanoseconds)] &+= 1
        count += 1
    }

    /// The value below which the share `quantile` of all lies, rounded to microseconds.
    func milliseconds(at quantile: Double) -> Double {
        guard count > 0 else { return 0 }
        let rank = UInt64((Double(count - 1) * quantile).rounded(.up))
        var seen: UInt64 = 0
        for (index, entries) in bins.enumerated() {
            seen += UInt64(entries)
            if seen > rank { return (Self.middle(of: index) / 1e3).rounded() / 1e3 }
        }
        return 0
    }

    private static func bin(of nanoseconds: Int64) -> Int {
        let value = UInt64(clamping: max(nanoseconds, 1))
        let octave = 63 - value.leadingZeroBitCount
        guard octave < 44 else { return 44 * binsPerOctave - 1 }
        let fraction = octave >= 5 ? Int((value >> UInt64(octave - 5)) & 31) : Int((value << UInt64(5 - octave)) & 31)
        return octave * binsPerOctave + fraction
    }

    private static func middle(of bin: Int) -> Double {
        let base = Double(UInt64(1) << UInt64(bin / binsPerOctave))
        return base * (1 + (Double(bin % binsPerOctave) + 0.5) / Double(binsPerOctave))
    }
}
