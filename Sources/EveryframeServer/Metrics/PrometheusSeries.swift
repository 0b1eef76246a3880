import Metrics
import Synchronization

/// The values of one name and one set of labels.
protocol PrometheusSeries: AnyObject, Sendable {
    var key: PrometheusKey { get }

    /// Its samples, a line each.
    func write(_ name: String, _ labels: String, to text: inout String)
}

final class CounterSeries: CounterHandler, PrometheusSeries {
    let key: PrometheusKey
    private let value = Atomic<Int64>(0)

    init(key: PrometheusKey) { self.key = key }

    func increment(by amount: Int64) {
        // what falls is no counter, and Prometheus would take it for a restart
        if amount > 0 { value.wrappingAdd(amount, ordering: .relaxed) }
    }

    func reset() { value.store(0, ordering: .relaxed) }

    func write(_ name: String, _ labels: String, to text: inout String) {
        text += PrometheusText.sample(name, labels, "\(max(0, value.load(ordering: .relaxed)))")
    }
}

final class FloatingCounterSeries: FloatingPointCounterHandler, PrometheusSeries {
    let key: PrometheusKey
    private let value = AtomicDouble()

    init(key: PrometheusKey) { self.key = key }

    func increment(by amount: Double) {
        if amount > 0, amount.isFinite { value.add(amount) }
    }

    func reset() { value.set(0) }

    func write(_ name: String, _ labels: String, to text: inout String) { text += PrometheusText.sample(name, labels, PrometheusText.number(value.get())) }
}

/// A meter, or a recorder of which only the last value matters.
final class GaugeSeries: MeterHandler, RecorderHandler, PrometheusSeries {
    let key: PrometheusKey
    private let value = AtomicDouble()

    init(key: PrometheusKey) { self.key = key }

    func set(_ value: Int64) { self.value.set(Double(value)) }
    func set(_ value: Double) { self.value.set(value) }
    func increment(by amount: Double) { value.add(amount) }
    func decrement(by amount: Double) { value.add(-amount) }
    func record(_ value: Int64) { set(value) }
    func record(_ value: Double) { set(value) }

    func write(_ name: String, _ labels: String, to text: inout String) { text += PrometheusText.sample(name, labels, PrometheusText.number(value.get())) }
}

/// A recorder or a timer: how many values were at most as high as each bound.
final class HistogramSeries: RecorderHandler, TimerHandler, PrometheusSeries {
    private struct State: Sendable {
        /// Values between a bound and the one before; the last: beyond all bounds.
        var counts: [Int]
        var sum = 0.0
    }

    let key: PrometheusKey
    private let bounds: [Double]
    private let state: Mutex<State>

    init(key: PrometheusKey, bounds: [Double]) {
        self.key = key
        self.bounds = Set(bounds.filter(\.isFinite)).sorted()
        state = Mutex(State(counts: Array(repeating: 0, count: self.bounds.count + 1)))
    }

    func record(_ value: Int64) { record(Double(value)) }
    func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }

    func record(_ value: Double) {
        guard !value.isNaN else { return }
        let index = bucket(of: value)
        state.withLock { state in
            state.counts[index] += 1
            state.sum += value
        }
    }

    /// The first whose bound is not below the value.
    private func bucket(of value: Double) -> Int {
        var (low, high) = (0, bounds.count)
        while low < high {
            let middle = (low + high) / 2
            if bounds[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func write(_ name: String, _ labels: String, to text: inout String) {
        let state = state.withLock { $0 }
        let comma = labels.isEmpty ? "" : ","
        var count = 0
        for (index, number) in state.counts.enumerated() {
            count += number
            let bound = index < bounds.count ? PrometheusText.number(bounds[index]) : "+Inf"
            text += PrometheusText.sample(name + "_bucket", "\(labels)\(comma)le=\"\(bound)\"", "\(count)")
        }
        text += PrometheusText.sample(name + "_sum", labels, PrometheusText.number(state.sum))
        text += PrometheusText.sample(name + "_count", labels, "\(count)")
    }
}

/// A number that many threads change.
private final class AtomicDouble: Sendable {
    private let bits = Atomic<UInt64>(0)

    func get() -> Double { Double(bitPattern: bits.load(ordering: .relaxed)) }
    func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

    func add(_ amount: Double) {
        var old = bits.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + amount).bitPattern
            let (exchanged, original) = bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if exchanged { return }
            old = original
        }
    }
}
