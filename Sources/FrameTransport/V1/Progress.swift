import Wire

/// What the server tells of a job while it runs.
public struct ServerProgress: Hashable, Sendable {
    public var counts = JobCounts()
    /// Since the job was accepted.
    public var elapsed: Duration = .zero
    /// How long the server had nothing of this job to work on.
    public var idle: Duration = .zero
    /// Of what frames waited in front of the decoder, together: how long it was not the decoder that they waited for, but what follows it.
    public var blocked: Duration = .zero
    /// Where the time went, by stage: wait, decode, batch, infer, serialise, send.
    public var stages: [String: StageSummary] = [:]

    public init() {}

    /// What the job waited for.
    public enum Bottleneck: String, Hashable, Sendable, CaseIterable {
        /// The server had nothing to do: the source, the client's encoder or the network gave frames too slowly.
        case input
        case decode
        case inference
        /// Writing results down, and drawing and encoding pictures.
        case output
        /// The client takes its results slowly, or the way to it is slow.
        case delivery
    }

    /// What took most of the job's time, and its share from 0 to 1; nil before there is anything to compare.
    ///
    /// Waiting in front of a stage counts for that stage; time without work counts for the input, the rest is divided by what frames spent.
    public var bottleneck: (name: Bottleneck, share: Double)? {
        guard elapsed > .zero else { return nil }
        func total(_ names: String...) -> Double { names.reduce(0) { $0 + (stages[$1]?.total.inMilliseconds ?? 0) } }
        let spent: [(Bottleneck, Double)] = [
            (.decode, max(0, total("wait") - blocked.inMilliseconds) + total("decode")), (.inference, total("batch", "infer")), (.output, total("serialise")),
            (.delivery, total("send")),
        ]
        let sum = spent.reduce(0) { $0 + $1.1 }
        let starved = min(1, idle.inMilliseconds / elapsed.inMilliseconds)
        guard sum > 0, let most = spent.max(by: { $0.1 < $1.1 }) else { return starved > 0 ? (.input, starved) : nil }
        let share = most.1 / sum * (1 - starved)
        return starved > share ? (.input, starved) : (most.0, share)
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

/// Durations in microseconds by size: 16 classes to each power of two, so that a quantile is right within 4 %.
package struct DurationHistogram: Hashable, Sendable {
    private static let perOctave = 16
    private var classes = [UInt32](repeating: 0, count: index(of: .max) + 1)
    package private(set) var count = 0
    package private(set) var total = 0

    package init() {}

    package mutating func add(_ microseconds: UInt32) {
        classes[Self.index(of: microseconds)] &+= 1
        count += 1
        total += Int(microseconds)
    }

    package var summary: StageSummary {
        StageSummary(count: count, total: .microseconds(total), median: quantile(0.5), p99: quantile(0.99))
    }

    /// The middle of the class that the quantile falls into.
    private func quantile(_ share: Double) -> Duration {
        guard count > 0 else { return .zero }
        let rank = Int((Double(count - 1) * share).rounded(.down))
        var seen = 0
        for (index, number) in classes.enumerated() {
            seen += Int(number)
            if seen > rank {
                let lower = Self.lowerBound(of: index)
                let upper = index + 1 < classes.count ? Self.lowerBound(of: index + 1) : lower
                return .microseconds(lower + max(0, upper - lower - 1) / 2)
            }
        }
        return .zero
    }

    /// Values below the number of classes in an octave have a class each.
    private static func index(of value: UInt32) -> Int {
        guard value >= UInt32(perOctave) else { return Int(value) }
        let exponent = 31 - value.leadingZeroBitCount
        return perOctave * (exponent - 3) + Int(value >> UInt32(exponent - 4) & UInt32(perOctave - 1))
    }

    private static func lowerBound(of index: Int) -> Int {
        guard index >= perOctave else { return index }
        let exponent = index / perOctave + 3
        return (perOctave + index % perOctave) << (exponent - 4)
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
