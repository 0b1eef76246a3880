/// The book of a job: which frames were sent, and that each was answered once.
///
/// Memory is bounded by how far answers are out of order, not by the job's length.
package struct FrameLedger {
    package enum Verdict: Hashable, Sendable {
        /// The answer that was due.
        case inOrder
        /// An answer to a frame whose predecessors are still open.
        case early
        case duplicate
        /// An answer to a frame that was never sent.
        case unknown
    }

    /// The highest id sent; ids begin at 1 and have no gaps.
    package private(set) var sent = 0
    package private(set) var answered = 0
    /// Frames answered with errors.
    package private(set) var failed = 0
    package private(set) var duplicates = 0
    package private(set) var unknown = 0
    package private(set) var outOfOrder = 0
    /// All ids below it are answered.
    private var firstOpen = 1
    private var early: Set<Int> = []

    package init() {}

    package var unanswered: Int { sent - answered }

    /// Enters the next frame and answers with its id.
    package mutating func send() -> Int {
        sent += 1
        return sent
    }

    package mutating func answer(_ id: Int, isFailure: Bool) -> Verdict {
        guard id >= 1, id <= sent else {
            unknown += 1
            return .unknown
        }
        guard id >= firstOpen, !early.contains(id) else {
            duplicates += 1
            return .duplicate
        }
        answered += 1
        if isFailure { failed += 1 }
        guard id == firstOpen else {
            outOfOrder += 1
            early.insert(id)
            return .early
        }
        firstOpen += 1
        while early.remove(firstOpen) != nil { firstOpen += 1 }
        return .inOrder
    }

    package var proof: LedgerProof {
        var missing: [ClosedRange<Int>] = []
        var start = firstOpen
        for id in early.sorted() + [sent + 1] {
            if start < id { missing.append(start...id - 1) }
            start = id + 1
        }
        return LedgerProof(
            sent: sent, answered: answered, failed: failed, duplicates: duplicates, unknown: unknown, outOfOrder: outOfOrder, missing: missing)
    }
}

/// What a ledger says at the end of a job.
public struct LedgerProof: Hashable, Sendable {
    public var sent: Int
    /// Frames with an answer, the failed ones among them.
    public var answered: Int
    public var failed: Int
    public var duplicates: Int
    /// Answers to frames that were never sent.
    public var unknown: Int
    public var outOfOrder: Int
    /// The ids that have no answer.
    public var missing: [ClosedRange<Int>]

    init(sent: Int, answered: Int, failed: Int, duplicates: Int, unknown: Int, outOfOrder: Int, missing: [ClosedRange<Int>]) {
        self.sent = sent
        self.answered = answered
        self.failed = failed
        self.duplicates = duplicates
        self.unknown = unknown
        self.outOfOrder = outOfOrder
        self.missing = missing
    }

    /// Of a wire that gives each answer once and in order, or none at all: `everyframe.v1`.
    package init(sent: Int, answered: Int) {
        self.init(
            sent: sent, answered: answered, failed: 0, duplicates: 0, unknown: 0, outOfOrder: 0,
            missing: answered < sent ? [answered + 1...sent] : [])
    }

    /// Each frame 1…N was answered exactly once and in order.
    public var isComplete: Bool { missing.isEmpty && duplicates == 0 && unknown == 0 && outOfOrder == 0 }

    /// Complete, and no frame failed.
    public var isClean: Bool { isComplete && failed == 0 }
}

extension LedgerProof: CustomStringConvertible {
    public var description: String {
        var faults: [String] = []
        if !missing.isEmpty {
            let ranges = missing.prefix(8).map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            faults.append("missing \(ranges.joined(separator: ", "))\(missing.count > 8 ? ", …" : "")")
        }
        if failed > 0 { faults.append("\(failed) failed") }
        if duplicates > 0 { faults.append("\(duplicates) answered twice") }
        if unknown > 0 { faults.append("\(unknown) answers to no frame") }
        if outOfOrder > 0 { faults.append("\(outOfOrder) out of order") }
        guard faults.isEmpty else { return "\(answered) of \(sent) frames answered: \(faults.joined(separator: "; "))" }
        return "all \(sent) frames answered, each once, in order"
    }
}
