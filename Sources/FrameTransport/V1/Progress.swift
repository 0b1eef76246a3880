import Wire

/// What the server tells of a job while it runs.
public struct ServerProgress: Hashable, Sendable {
    public var counts = JobCounts()
    /// Since the job was accepted.
    public var elapsed: Duration = .zero
    /// Where the time went, by stage: wait, decode, batch, infer, serialise, send.
    public var stages: [String: StageSummary] = [:]

    public init() {}

    /// The stage that took most of the time, and its share from 0 to 1; nil before there is anything to compare.
    public var bottleneck: (stage: String, share: Double)? {
        let totals = stages.mapValues { $0.total.inMilliseconds }
        let sum = totals.values.reduce(0, +)
        // waiting is the consequence, not the cause
        guard sum > 0, let most = StageTimes.names.dropFirst().max(by: { totals[$0] ?? 0 < totals[$1] ?? 0 }), let total = totals[most], total > 0 else {
            return nil
        }
        return (most, total / sum)
    }
}

public struct StageSummary: Hashable, Sendable {
    public var count: Int
    public var total: Duration
    public var median: Duration
    public var p99: Duration

    public init(count: Int, total: Duration, median: Duration, p99: Duration) {
        self.count = count
        self.total = total
        self.median = median
        self.p99 = p99
    }
}

/// A job as the client sees it: its own counts and the server's last word.
public struct JobProgress: Hashable, Sendable {
    /// Given to the sender.
    public var submitted = 0
    /// Handed to the channel.
    public var sent = 0
    /// Not needed by the server any more.
    public var acknowledged = 0
    /// Results that arrived.
    public var arrived = 0
    public var taken = 0
    public var retries = 0
    public var dropped = DropCounts()
    public var server = ServerProgress()

    public init() {}
}

/// Durations in microseconds by size: 128 classes, four to each power of two, so that a quantile is right within a fifth.
struct DurationHistogram: Hashable, Sendable {
    private var classes = [Int](repeating: 0, count: 128)
    private(set) var count = 0
    private(set) var total = 0

    mutating func add(_ microseconds: UInt32) {
        classes[Self.index(of: microseconds)] += 1
        count += 1
        total += Int(microseconds)
    }

    var summary: StageSummary {
        StageSummary(count: count, total: .microseconds(total), median: quantile(0.5), p99: quantile(0.99))
    }

    /// The middle of the class that the quantile falls into.
    private func quantile(_ share: Double) -> Duration {
        guard count > 0 else { return .zero }
        let rank = Int((Double(count - 1) * share).rounded(.down))
        var seen = 0
        for (index, number) in classes.enumerated() {
            seen += number
            if seen > rank {
                let lower = Self.lowerBound(of: index)
                let upper = index + 1 < classes.count ? Self.lowerBound(of: index + 1) : lower
                return .microseconds(lower + max(0, upper - lower - 1) / 2)
            }
        }
        return .zero
    }

    private static func index(of value: UInt32) -> Int {
        guard value >= 4 else { return Int(value) }
        let exponent = 31 - value.leadingZeroBitCount
        return 4 * (exponent - 1) + Int(value >> UInt32(exponent - 2) & 3)
    }

    private static func lowerBound(of index: Int) -> Int {
        guard index >= 4 else { return index }
        let exponent = index / 4 + 1
        return (4 + index % 4) << (exponent - 2)
    }
}

/// The six stages of a job.
struct StageHistograms: Hashable, Sendable {
    private var stages = [DurationHistogram](repeating: DurationHistogram(), count: StageTimes.names.count)

    mutating func add(_ times: StageTimes) {
        for (index, time) in times.all.enumerated() { stages[index].add(time) }
    }

    var summaries: [String: StageSummary] {
        var result: [String: StageSummary] = [:]
        for (name, stage) in zip(StageTimes.names, stages) where stage.total > 0 { result[name] = stage.summary }
        return result
    }
}
