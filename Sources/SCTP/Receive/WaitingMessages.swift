import NIOCore

/// A whole ordered message whose turn has not come.
struct Waiting {
    /// Its place among all messages of its stream, unwrapped.
    var turn: UInt64
    var ppid: UInt32
    var payload: ByteBuffer
}

/// Whole messages that wait for an earlier one: a heap by turn. In whatever order a peer sends them, one more costs the logarithm of their number;
/// in the usual order, ascending, it costs an append.
struct WaitingMessages {
    private var heap: [Waiting] = []

    var isEmpty: Bool { heap.isEmpty }
    var first: Waiting? { heap.first }
    var all: [Waiting] { heap }

    mutating func insert(_ message: Waiting) {
        heap.append(message)
        var child = heap.count - 1
        while child > 0, heap[child].turn < heap[(child - 1) / 2].turn {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeFirst() -> Waiting? {
        guard let last = heap.popLast() else { return nil }
        guard let first = heap.first else { return last }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].turn < heap[least].turn { least = child }
            if least == parent { return first }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
