/// Which TSNs of the peer have arrived: everything up to `cumulative`, and ranges behind gaps. Numbers are unwrapped.
struct TSNTracker {
    struct Range: Equatable, BitwiseCopyable {
        var first: UInt64
        var last: UInt64
    }

    enum Arrival: Equatable {
        /// `cumulative + 1`.
        case next
        case outOfOrder
        case duplicate
        /// It would open one more gap than may be remembered.
        case tooManyGaps
    }

    private(set) var cumulative: UInt64
    /// Ascending, disjoint, not adjacent; all beyond `cumulative + 1`.
    private(set) var ranges: [Range] = []
    private let maximumRanges: Int

    init(initialTSN: TSN, maximumRanges: Int) {
        // an epoch of 2^32 in front keeps every distance positive
        cumulative = 1 << 32 + UInt64(initialTSN.rawValue) - 1
        self.maximumRanges = maximumRanges
    }

    @inline(__always)
    func unwrap(_ tsn: TSN) -> UInt64 { tsn.unwrapped(near: cumulative) }

    /// What `insert` would find; changes nothing.
    @inline(__always)
    func classify(_ number: UInt64) -> Arrival {
        if number == cumulative + 1 { return .next }
        if number <= cumulative { return .duplicate }
        return classifyBehindGap(number)
    }

    private func classifyBehindGap(_ number: UInt64) -> Arrival {
        let index = firstIndex(endingAtOrAfter: number)
        if index < ranges.count, ranges[index].first <= number { return .duplicate }
        let touches = index > 0 && ranges[index - 1].last + 1 == number || index < ranges.count && ranges[index].first == number + 1
        return touches || ranges.count < maximumRanges ? .outOfOrder : .tooManyGaps
    }

    /// Records a TSN that is not a duplicate.
    @inline(__always)
    mutating func insert(_ number: UInt64) {
        if number == cumulative + 1 {
            cumulative = number
            if !ranges.isEmpty { absorb() }
        } else {
            insertBehindGap(number)
        }
    }

    /// Forgets everything up to `number` (RFC 3758 §3.6).
    mutating func advance(to number: UInt64) {
        guard number > cumulative else { return }
        cumulative = number
        let keep = firstIndex(endingAtOrAfter: number + 1)
        ranges.removeFirst(keep)
        if let first = ranges.first, first.first <= number + 1 {
            cumulative = first.last
            ranges.removeFirst()
        }
    }

    private mutating func absorb() {
        if let first = ranges.first, first.first == cumulative + 1 {
            cumulative = first.last
            ranges.removeFirst()
        }
    }

    private mutating func insertBehindGap(_ number: UInt64) {
        let index = firstIndex(endingAtOrAfter: number)
        let joinsPrevious = index > 0 && ranges[index - 1].last + 1 == number
        let joinsNext = index < ranges.count && ranges[index].first == number + 1
        if joinsPrevious && joinsNext {
            ranges[index - 1].last = ranges[index].last
            ranges.remove(at: index)
        } else if joinsPrevious {
            ranges[index - 1].last = number
        } else if joinsNext {
            ranges[index].first = number
        } else {
            ranges.insert(Range(first: number, last: number), at: index)
        }
    }

    /// Most arrivals belong to the last range, so the search starts there.
    private func firstIndex(endingAtOrAfter number: UInt64) -> Int {
        guard let last = ranges.last, last.last >= number else { return ranges.count }
        var low = 0
        var high = ranges.count - 1
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].last < number { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
