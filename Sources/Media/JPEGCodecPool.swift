/// Codecs for threads that come and go: as many as are used at the same time, each with the tables and buffers of its last picture.
package final class JPEGCodecPool: Sendable {
    private let idle = IdlePool { JPEGCodec() }

    package init() {}

    package func withCodec<Result, Failure: Error>(_ body: (JPEGCodec) throws(Failure) -> Result) throws(Failure) -> Result {
        try idle.with(body)
    }
}
