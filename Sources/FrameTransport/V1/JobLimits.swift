/// What a server holds for one connection and job; announced in its hello and obeyed by the client.
public struct JobLimits: Hashable, Sendable {
    /// Jobs side by side on a connection.
    public var jobs = 16
    /// Payload of one frame.
    public var frameBytes = 64 << 20
    /// Width times height.
    public var framePixels = 1 << 26
    /// Units of one job that were sent and whose result the client has not taken: the window of frames. With `source` it is 48 at least, since
    /// a decoder keeps units back.
    public var framesInFlight = 64
    /// Payload bytes of one job that the server has not released: the window of bytes. At least `frameBytes`.
    public var bytesInFlight = 64 << 20
    /// Body and picture of one result.
    public var resultBytes = 64 << 20
    /// Codec configurations that a job may refer to at a time; older ones are forgotten.
    public var configurations = 8
    /// Extradata of one of them; with its header it fits the smallest message.
    public var configurationBytes = leastMessage - CodecConfiguration.byteCount
    /// How often a frame is sent before it is given up.
    public var tries = 3
    /// How long a job is kept when its connection is lost.
    public var resumeLifetime: Duration = .seconds(60)

    public init() {}

    /// Ids, sequences and counts stay below, so that JavaScript reads them exactly and sums cannot overflow.
    package static let maximumID = 1 << 53

    /// A unit without a picture is known by the units behind it: H.264 reorders up to 16 pictures, each perhaps two units, and a decoder keeps
    /// one for each of up to 8 threads.
    package static let leastSourceWindow = 48

    /// The most units of a job in flight.
    package func window(of encoding: PayloadEncoding) -> Int { encoding == .source ? max(framesInFlight, Self.leastSourceWindow) : framesInFlight }

    private static var leastMessage: Int { TransportSettings.leastMessageBytes }

    /// The same with values that contradict each other put right.
    package var consistent: JobLimits {
        var limits = self
        limits.jobs = min(max(jobs, 1), 65_535)
        limits.frameBytes = min(max(frameBytes, 1024), Int(UInt32.max))
        limits.framesInFlight = min(max(framesInFlight, 1), 1 << 20)
        limits.bytesInFlight = min(max(bytesInFlight, limits.frameBytes), 1 << 40)
        limits.resultBytes = min(max(resultBytes, 1024), Int(UInt32.max))
        limits.configurations = min(max(configurations, 1), 256)
        limits.configurationBytes = min(max(configurationBytes, 0), Self.leastMessage - CodecConfiguration.byteCount)
        limits.tries = min(max(tries, 1), 255)
        limits.framePixels = max(framePixels, 1)
        limits.resumeLifetime = max(resumeLifetime, .zero)
        return limits
    }
}
