import Dispatch
import Metrics
import Testing

@testable import EveryframeServer

/// What Prometheus would read.
@Suite struct PrometheusMetricsTests {
    /// The text format, read as strictly as Prometheus reads it.
    private struct Exposition {
        struct Sample: Hashable {
            var name: String
            var labels: [String: String]
        }

        struct Malformed: Error {
            var line: String
        }

        var samples: [Sample: Double] = [:]
        var types: [String: String] = [:]
        var help: [String: String] = [:]

        init(_ text: String) throws {
            #expect(text.isEmpty || text.hasSuffix("\n"))
            for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
                let line = String(line)
                if line.hasPrefix("# ") {
                    let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
                    guard words.count == 4 else { throw Malformed(line: line) }
                    if words[1] == "TYPE" {
                        guard types.updateValue(words[3], forKey: words[2]) == nil else { throw Malformed(line: "two types: \(line)") }
                    } else {
                        help[words[2]] = words[3]
                    }
                    continue
                }
                let (sample, value) = try Self.sample(line)
                guard samples.updateValue(value, forKey: sample) == nil else { throw Malformed(line: "two samples: \(line)") }
                let family = ["_bucket", "_sum", "_count"].first { sample.name.hasSuffix($0) && types[String(sample.name.dropLast($0.count))] == "histogram" }
                guard types[String(sample.name.dropLast(family?.count ?? 0))] != nil else { throw Malformed(line: "no type before \(line)") }
            }
        }

        private static func sample(_ line: String) throws -> (Sample, Double) {
            var rest = line[...]
            func name(_ allowed: (Character) -> Bool) throws -> String {
                let name = rest.prefix(while: allowed)
                guard let first = name.first, !first.isNumber else { throw Malformed(line: line) }
                rest = rest.dropFirst(name.count)
                return String(name)
            }
            func isLetter(_ character: Character) -> Bool { character.isASCII && (character.isLetter || character.isNumber || character == "_") }
            var sample = Sample(name: try name { isLetter($0) || $0 == ":" }, labels: [:])
            if rest.first == "{" {
                rest.removeFirst()
                while rest.first != "}" {
                    let label = try name(isLetter)
                    guard rest.hasPrefix("=\"") else { throw Malformed(line: line) }
                    rest = rest.dropFirst(2)
                    var value = ""
                    while let character = rest.popFirst(), character != "\"" {
                        guard character == "\\" else {
                            value.append(character)
                            continue
                        }
                        switch rest.popFirst() {
                        case "n": value += "\n"
                        case "\\": value += "\\"
                        case "\"": value += "\""
                        default: throw Malformed(line: line)
                        }
                    }
                    guard sample.labels.updateValue(value, forKey: label) == nil else { throw Malformed(line: line) }
                    if rest.first == "," { rest.removeFirst() }
                }
                rest.removeFirst()
            }
            guard rest.popFirst() == " ", let value = rest == "+Inf" ? .infinity : Double(rest) else { throw Malformed(line: line) }
            return (sample, value)
        }

        subscript(name: String, labels: [String: String] = [:]) -> Double? { samples[Sample(name: name, labels: labels)] }
    }

    private let metrics = PrometheusMetrics()

    private func read() throws -> Exposition { try Exposition(metrics.exposition()) }

    @Test("Counters count up, by dimensions, and nothing makes them fall")
    func counters() throws {
        let plain = Counter(label: "frames_total", factory: metrics)
        plain.increment()
        plain.increment(by: 41)
        let jpeg = Counter(label: "bytes_total", dimensions: [("encoding", "jpeg"), ("lane", "bulk")], factory: metrics)
        jpeg.increment(by: 7)
        // the same dimensions in another order
        Counter(label: "bytes_total", dimensions: [("lane", "bulk"), ("encoding", "jpeg")], factory: metrics).increment(by: 3)
        Counter(label: "bytes_total", dimensions: [("encoding", "png"), ("lane", "bulk")], factory: metrics).increment(by: 1)
        metrics.makeCounter(label: "frames_total", dimensions: []).increment(by: -5)
        let seconds = FloatingPointCounter(label: "busy_seconds_total", factory: metrics)
        seconds.increment(by: 0.25)
        seconds.increment(by: 1.5)
        metrics.makeFloatingPointCounter(label: "busy_seconds_total", dimensions: []).increment(by: .nan)
        let text = try read()
        #expect(text.types == ["frames_total": "counter", "bytes_total": "counter", "busy_seconds_total": "counter"])
        #expect(text["frames_total"] == 42)
        #expect(text["bytes_total", ["encoding": "jpeg", "lane": "bulk"]] == 10)
        #expect(text["bytes_total", ["encoding": "png", "lane": "bulk"]] == 1)
        #expect(text["busy_seconds_total"] == 1.75)
        plain.reset()
        seconds.reset()
        #expect(try read()["frames_total"] == 0)
    }

    @Test("Meters and gauges show their last value")
    func gauges() throws {
        let active = Meter(label: "sessions_active", factory: metrics)
        active.set(5)
        active.increment(by: 2.5)
        active.decrement(by: 1)
        Gauge(label: "load", factory: metrics).record(0.125)
        let unknown = Gauge(label: "unknown", factory: metrics)
        unknown.record(Double.infinity)
        let text = try read()
        #expect(text.types["sessions_active"] == "gauge" && text.types["load"] == "gauge")
        #expect(text["sessions_active"] == 6.5 && text["load"] == 0.125 && text["unknown"] == .infinity)
        unknown.record(Double.nan)
        #expect(metrics.exposition().contains("unknown NaN\n"))
    }

    @Test("Timers are histograms in seconds, cumulative, with their sum and count")
    func timers() throws {
        let timer = Timer(label: "everyframe_decode", dimensions: [("codec", "h264")], factory: metrics)
        timer.recordMilliseconds(1)
        timer.recordMicroseconds(1001)
        timer.recordMilliseconds(40)
        timer.recordSeconds(100)
        let text = try read()
        func bucket(_ bound: String) -> Double? { text["everyframe_decode_seconds_bucket", ["codec": "h264", "le": bound]] }
        #expect(text.types == ["everyframe_decode_seconds": "histogram"])
        #expect(text.help == ["everyframe_decode_seconds": "everyframe_decode"])
        #expect(bucket("0.0005") == 0 && bucket("0.001") == 1 && bucket("0.0025") == 2 && bucket("0.05") == 3 && bucket("60") == 3 && bucket("+Inf") == 4)
        #expect(text["everyframe_decode_seconds_count", ["codec": "h264"]] == 4)
        #expect(abs((text["everyframe_decode_seconds_sum", ["codec": "h264"]] ?? 0) - 100.042001) < 1e-9)
        let counts = text.samples.filter { $0.key.name.hasSuffix("_bucket") }.sorted { lower, upper in
            (Double(lower.key.labels["le"] ?? "") ?? .infinity) < (Double(upper.key.labels["le"] ?? "") ?? .infinity)
        }
        #expect(counts.map(\.value) == counts.map(\.value).sorted() && counts.count == 17)
    }

    @Test("Recorders have buckets of their own; a label may have others")
    func recorders() throws {
        var options = PrometheusMetrics.Options()
        options.buckets["batch"] = [4, 1, 2, 2, .infinity]
        options.help["batch"] = "Frames in a batch.\nOf one size, with a \\ in it."
        let metrics = PrometheusMetrics(options: options)
        let batch = Recorder(label: "batch", factory: metrics)
        for size in [1, 2, 2, 3, 9] { batch.record(size) }
        batch.record(Double.nan)
        let text = try Exposition(metrics.exposition())
        #expect(["1", "2", "4", "+Inf"].map { text["batch_bucket", ["le": $0]] } == [1, 3, 4, 5])
        #expect(text.samples.count == 6)
        #expect(text["batch_sum"] == 17 && text["batch_count"] == 5)
        #expect(text.help["batch"] == "Frames in a batch.\\nOf one size, with a \\\\ in it.")
    }

    @Test("Names are made valid, and a value may hold anything")
    func names() throws {
        let odd = "a \"quoted\" \\ back\r\nslash, {braces} and 視頻\u{0}"
        Counter(label: "http.server-requests", dimensions: [("9path", odd), ("__name", "x"), ("a:b", "y"), ("", "empty")], factory: metrics).increment()
        Counter(label: "9lives:total", factory: metrics).increment()
        Recorder(label: "sizes", dimensions: [("le", "mine"), ("x.y", "1"), ("x-y", "2")], factory: metrics).record(1)
        let text = try read()
        #expect(text["http_server_requests", ["_9path": odd, "_name": "x", "a_b": "y", "_": "empty"]] == 1)
        #expect(text["_9lives:total"] == 1)
        #expect(text["sizes_count", ["le_": "mine", "x_y": "1", "x_y_": "2"]] == 1)
        #expect(text["sizes_bucket", ["le_": "mine", "x_y": "1", "x_y_": "2", "le": "1"]] == 1)
    }

    @Test("A name has one kind; what does not fit is counted, not shown, and does no harm")
    func conflicts() throws {
        Counter(label: "x", factory: metrics).increment()
        Meter(label: "x", factory: metrics).set(7)
        Recorder(label: "y", factory: metrics).record(1)
        Counter(label: "y_count", factory: metrics).increment(by: 9)
        FloatingPointCounter(label: "x", factory: metrics).increment(by: 3)
        let text = try read()
        #expect(text["x"] == 1 && text["y_count"] == 1)
        #expect(text[PrometheusMetrics.refusedName] == 3)
    }

    @Test("Series are bounded in number; those there go on")
    func bounded() throws {
        var options = PrometheusMetrics.Options()
        options.maximumSeries = 10
        let metrics = PrometheusMetrics(options: options)
        for path in 0..<100 { Counter(label: "requests", dimensions: [("path", "\(path)")], factory: metrics).increment() }
        Counter(label: "requests", dimensions: [("path", "3")], factory: metrics).increment()
        let text = try Exposition(metrics.exposition())
        #expect(text.samples.keys.count { $0.name == "requests" } == 10)
        #expect(text["requests", ["path": "3"]] == 2)
        #expect(text[PrometheusMetrics.refusedName] == 90)
    }

    @Test("A destroyed series goes when nobody has it any more, and makes room")
    func destroyed() throws {
        let first = Counter(label: "x", factory: metrics)
        let second = Counter(label: "x", factory: metrics)
        first.increment()
        first.destroy()
        second.increment()
        #expect(try read()["x"] == 2)
        second.destroy()
        second.increment()
        #expect(try read().samples.isEmpty)
        Meter(label: "x", factory: metrics).set(1)
        #expect(try read().types == ["x": "gauge"])
        for metric in 0..<3 {
            let timer = Timer(label: "t\(metric)", factory: metrics)
            timer.destroy()
        }
        #expect(try read().types == ["x": "gauge"])
    }

    @Test("Many threads at once lose no count")
    func threads() throws {
        let timer = Timer(label: "work", factory: metrics)
        let (counter, floating, meter) = (
            Counter(label: "n", factory: metrics), FloatingPointCounter(label: "f", factory: metrics), Meter(label: "m", factory: metrics)
        )
        DispatchQueue.concurrentPerform(iterations: 4) { _ in
            for item in 0..<5000 {
                counter.increment()
                floating.increment(by: 0.5)
                meter.increment(by: 1)
                timer.recordMilliseconds(item % 100)
                if item % 1000 == 0 { _ = metrics.exposition() }
            }
        }
        let text = try read()
        #expect(text["n"] == 20_000 && text["f"] == 10_000 && text["m"] == 20_000)
        #expect(text["work_seconds_count"] == 20_000 && text["work_seconds_bucket", ["le": "+Inf"]] == 20_000)
    }

    @Test("Where nothing was recorded there is nothing to read")
    func empty() throws {
        #expect(metrics.exposition().isEmpty)
        #expect(PrometheusMetrics.contentType.contains("version=0.0.4"))
    }
}
