import Synchronization

/// Objects that may be used by one thread at a time, for threads that come and go: as many as are used at the same time, each with the
/// tables and buffers of its last use.
final class IdlePool<Object: AnyObject>: Sendable {
    // An idle object is in this list alone, and one that is taken is in the hands of one thread until it comes back.
    private struct Idle: @unchecked Sendable {
        let object: Object
    }

    private let idle = Mutex<[Idle]>([])
    private let make: @Sendable () -> Object

    init(_ make: @escaping @Sendable () -> Object) { self.make = make }

    func with<Result, Failure: Error>(_ body: (Object) throws(Failure) -> Result) throws(Failure) -> Result {
        let taken = idle.withLock { $0.popLast() } ?? Idle(object: make())
        defer { idle.withLock { $0.append(taken) } }
        return try body(taken.object)
    }
}
