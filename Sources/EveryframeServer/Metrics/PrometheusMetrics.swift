package import Metrics
import Synchronization

/// A backend for swift-metrics that Prometheus can read: `MetricsSystem.bootstrap(metrics)`, and `exposition()` for `GET /metrics`.
///
/// Counters stay counters, meters and recorders that do not aggregate become gauges, other recorders and timers histograms with
/// fixed buckets. Timers are in seconds, and their names say so: `everyframe_decode` becomes `everyframe_decode_seconds`. Who asks
/// twice for a label and dimensions gets the same series. Recording costs an atomic operation, or for histograms an uncontended lock.
package final class PrometheusMetrics: MetricsFactory, Sendable {
    package struct Options: Sendable {
        /// Upper bounds, in seconds.
        package var timerBuckets: [Double] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
        /// Upper bounds, in the recorder's own unit.
        package var recorderBuckets: [Double] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000, 1_000_000]
        /// Upper bounds for these labels instead.
        package var buckets: [String: [Double]] = [:]
        /// What `# HELP` says about these labels; about others it says the label.
        package var help: [String: String] = [:]
        /// Series beyond are not kept, so that dimensions with a stranger's words in them cannot fill the memory.
        package var maximumSeries = 10_000

        package init() {}
    }

    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"
    /// Counts what was not kept: beyond `maximumSeries`, or of another kind than the label has already.
    static let refusedName = "prometheus_series_refused_total"

    private struct Entry: Sendable {
        var series: any PrometheusSeries
        /// Handlers given out and not destroyed.
        var users: Int
    }

    private struct Family: Sendable {
        var kind: PrometheusKind
        var help: String
        /// By their labels, as they are written.
        var entries: [String: Entry] = [:]
    }

    private struct Registry: Sendable {
        var families: [String: Family] = [:]
        /// Names of samples, by the family they belong to: `x_count` cannot be another's while `x` is a histogram.
        var names: [String: String] = [:]
        var count = 0
        var refused = 0
    }

    private let options: Options
    private let registry = Mutex(Registry())

    package init(options: Options = Options()) { self.options = options }

    /// All series in the text format of Prometheus, version 0.0.4.
    package func exposition() -> String {
        // the handlers have locks of their own, so nobody waits for the text
        let (families, refused) = registry.withLock { ($0.families, $0.refused) }
        var text = ""
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            text += "# HELP \(name) \(PrometheusText.help(family.help))\n# TYPE \(name) \(family.kind.rawValue)\n"
            for (labels, entry) in family.entries.sorted(by: { $0.key < $1.key }) { entry.series.write(name, labels, to: &text) }
        }
        if refused > 0 { text += "# HELP \(Self.refusedName) Series that were not kept.\n# TYPE \(Self.refusedName) counter\n\(Self.refusedName) \(refused)\n" }
        return text
    }

    // MARK: MetricsFactory

    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(label, dimensions, .counter) { CounterSeries(key: $0) }
    }

    package func makeFloatingPointCounter(label: String, dimensions: [(String, String)]) -> any FloatingPointCounterHandler {
        series(label, dimensions, .counter) { FloatingCounterSeries(key: $0) }
    }

    package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(label, dimensions, .gauge) { GaugeSeries(key: $0) }
    }

    package func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        guard aggregate else { return series(label, dimensions, .gauge) { GaugeSeries(key: $0) } }
        return series(label, dimensions, .histogram) { HistogramSeries(key: $0, bounds: self.options.buckets[label] ?? self.options.recorderBuckets) }
    }

    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(label, dimensions, .histogram, unit: "_seconds") {
            HistogramSeries(key: $0, bounds: self.options.buckets[label] ?? self.options.timerBuckets)
        }
    }

    package func destroyCounter(_ handler: any CounterHandler) { release(handler) }
    package func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { release(handler) }
    package func destroyMeter(_ handler: any MeterHandler) { release(handler) }
    package func destroyRecorder(_ handler: any RecorderHandler) { release(handler) }
    package func destroyTimer(_ handler: any TimerHandler) { release(handler) }

    // MARK: Inside

    /// The series that is there, a new one, or where neither can be one that is not kept.
    private func series<Series: PrometheusSeries>(
        _ label: String, _ dimensions: [(String, String)], _ kind: PrometheusKind, unit: String = "", make: (PrometheusKey) -> Series
    ) -> Series {
        var name = PrometheusText.metricName(label)
        if !name.hasSuffix(unit) { name += unit }
        let key = PrometheusKey(name: name, labels: PrometheusText.labels(dimensions, isHistogram: kind == .histogram))
        let samples = kind == .histogram ? [name, name + "_bucket", name + "_sum", name + "_count"] : [name]
        return registry.withLock { registry in
            let isFree = name != Self.refusedName && samples.allSatisfy { registry.names[$0] ?? name == name }
            var family = registry.families[name] ?? Family(kind: kind, help: options.help[label] ?? label)
            if family.kind == kind, let entry = family.entries[key.labels], let found = entry.series as? Series {
                family.entries[key.labels]?.users += 1
                registry.families[name] = family
                return found
            }
            let made = make(key)
            guard isFree, family.kind == kind, family.entries[key.labels] == nil, registry.count < options.maximumSeries else {
                registry.refused += 1
                return made
            }
            family.entries[key.labels] = Entry(series: made, users: 1)
            registry.families[name] = family
            for sample in samples { registry.names[sample] = name }
            registry.count += 1
            return made
        }
    }

    private func release(_ handler: Any) {
        guard let series = handler as? any PrometheusSeries else { return }
        registry.withLock { registry in
            guard let entry = registry.families[series.key.name]?.entries[series.key.labels], entry.series === series else { return }
            if entry.users > 1 {
                registry.families[series.key.name]?.entries[series.key.labels]?.users -= 1
                return
            }
            registry.families[series.key.name]?.entries[series.key.labels] = nil
            registry.count -= 1
            guard registry.families[series.key.name]?.entries.isEmpty ?? false else { return }
            registry.families[series.key.name] = nil
            registry.names = registry.names.filter { $0.value != series.key.name }
        }
    }
}

enum PrometheusKind: String, Sendable {
    case counter
    case gauge
    case histogram
}

/// Where a series is kept.
struct PrometheusKey: Hashable, Sendable {
    var name: String
    var labels: String
}
