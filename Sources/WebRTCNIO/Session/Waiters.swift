/// The tasks that wait for something to change. Each is woken once: by the change, by its cancellation, or by its time limit.
struct Waiters {
    struct Key: Hashable, Sendable { fileprivate let number: UInt64 }
    enum Wake: Sendable { case ready, cancelled, timedOut }

    private var continuations: [Key: CheckedContinuation<Wake, Never>] = [:]
    private var counter: UInt64 = 0

    mutating func newKey() -> Key {
        counter += 1
        return Key(number: counter)
    }

    mutating func store(_ continuation: CheckedContinuation<Wake, Never>, for key: Key) { continuations[key] = continuation }

    /// A key that does not wait any more is ignored.
    mutating func wake(_ key: Key, _ wake: Wake = .ready) { continuations.removeValue(forKey: key)?.resume(returning: wake) }

    /// Wakes all of a list, and empties it.
    mutating func wake(_ keys: inout [Key]) {
        for key in keys { wake(key) }
        keys.removeAll(keepingCapacity: true)
    }

    mutating func wakeAll() {
        let all = continuations
        continuations.removeAll()
        for continuation in all.values { continuation.resume(returning: .ready) }
    }
}
