import Synchronization

/// Codecs for threads that come and go: as many as are used at the same time, each with the tables and buffers of its last picture.
package final class JPEGCodecPool: Sendable {
    // An idle codec is in this list alone, and one that is taken is in the hands of one thread until it comes back.
    private struct Idle: @unchecked Sendable {
        let codec: JPEGCodec
    }

    private let idle = Mutex<[Idle]>([])

    package init() {}

    package func withCodec<Result, Failure: Error>(_ body: (JPEGCodec) throws(Failure) -> Result) throws(Failure) -> Result {
        let taken = idle.withLock { $0.popLast() } ?? Idle(codec: JPEGCodec())
        defer { idle.withLock { $0.append(taken) } }
        return try body(taken.codec)
    }
}
