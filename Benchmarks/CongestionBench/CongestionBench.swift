import CongestionLab
import SCTP

/// `Benchmarks/run.sh congestion`: every controller over a matrix of paths, and beside others on one bottleneck, in virtual time. Prints Markdown.
@main
enum CongestionBench {
    static let paths: [LabPath] = [
        LabPath(rate: 200), LabPath(rate: 200, loss: 0.1), LabPath(rate: 200, loss: 1), LabPath(roundTripTime: 100, rate: 200, loss: 1),
        LabPath(roundTripTime: 300, loss: 2), LabPath(loss: 5), LabPath(rate: 20, loss: 10), LabPath(rate: 20, loss: 20),
        LabPath(queue: 0.1), LabPath(queue: 4), LabPath(jitter: 10), LabPath(roundTripTime: 2, rate: 1000), LabPath(roundTripTime: 20, rate: 1, queue: 10),
    ]
    static let shared: [LabPath] = [
        LabPath(), LabPath(queue: 0.25), LabPath(queue: 4), LabPath(roundTripTime: 20, rate: 100), LabPath(roundTripTime: 100, rate: 20),
    ]

    static func main() {
        print(
            "One flow for 15 s: user data by the link's rate, per cent; milliseconds of queue, median and 95th percentile; chunks sent again. Medians of three.\n"
        )
        print(
            "| path | " + CongestionControl.allCases.map(\.rawValue).joined(separator: " | ") + " |\n|---|"
                + CongestionControl.allCases.map { _ in "---|" }.joined())
        for path in paths {
            let cells = CongestionControl.allCases.map { control in
                let report = median([control], path, seconds: 15) { $0.utilization }
                return
                    "\(tenths(100 * report.utilization)) % · \(tenths(report.queueDelay(0.5)))/\(tenths(report.queueDelay(0.95))) · \(report.retransmitted[0])"
            }
            print("| \(path) | " + cells.joined(separator: " | ") + " |")
        }
        print("\nTwo flows for a minute, the second five seconds later: Mbit/s of each, and Jain's index. Medians of three.\n")
        let pairs: [[CongestionControl]] = [[.bbr, .cubic], [.cubic, .bbr], [.bbr, .bbr], [.cubic, .cubic]]
        print("| path | " + pairs.map { "\($0[0].rawValue), \($0[1].rawValue)" }.joined(separator: " | ") + " |\n|---|" + pairs.map { _ in "---|" }.joined())
        for path in shared {
            let cells = pairs.map { pair in
                let report = median(pair, path, seconds: 60) { $0.fairness }
                return report.goodput.map(tenths).joined(separator: " + ") + " · \(hundredths(report.fairness))"
            }
            print("| \(path) | " + cells.joined(separator: " | ") + " |")
        }
    }

    /// The run whose value is in the middle of three.
    static func median(_ controls: [CongestionControl], _ path: LabPath, seconds: Double, by value: (LabReport) -> Double) -> LabReport {
        let reports = (1...3).map { seed in
            var lab = CongestionLab(controls, path: path, seed: UInt64(seed) * 1000)
            return lab.run(seconds: seconds)
        }
        return reports.sorted { value($0) < value($1) }[1]
    }

    static func tenths(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
    static func hundredths(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
}
