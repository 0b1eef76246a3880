import Inference

/// All that a server can be told. The defaults suit one machine that serves itself.
public struct ServerConfiguration: Sendable {
    /// HTTP.
    public var host = "127.0.0.1"
    /// HTTP; 0 takes a free one.
    public var port = 9001
    /// A numeric address for the UDP of all sessions; nil for those of all interfaces. Nothing answers there but sessions
    /// that were agreed on over HTTP.
    public var udpHost: String?
    /// 0 takes a free one.
    public var udpPort = 0
    /// The id of a model, the path of a model file, or `synthetic:75ms`: answers made up after a delay, for measuring the transport.
    public var model = ModelCatalog.defaultID
    /// Frames in the engine at once; nil leaves the choice to the engine.
    public var requestsInFlight: Int?
    /// Threads that decode pictures; nil for one a core.
    public var decodeThreads: Int?
    /// A request must carry it, in its body or as a bearer token; nil admits everybody.
    public var apiKey: String?
    public var limits = Limits()

    public init() {}

    /// What one server and each of its sessions may use.
    public struct Limits: Sendable {
        public var sessions = 64
        /// Frames of one session between the network and their answer.
        public var framesInPipeline = 16
        /// HTTP bodies.
        public var requestBytes = 4 << 20
        /// The largest message a client may send; announced to it.
        public var messageBytes = 64 << 20
        /// Encoded frames of one session that are being put together.
        public var reassemblyBytes = 256 << 20
        public var reassemblyAge: Duration = .seconds(5)
        /// The pixels of one picture.
        public var pixels = 2 * 7680 * 4320
        /// From the answer to open channels.
        public var connectTime: Duration = .seconds(30)
        /// Without a message while no frame is being answered; ten times as long while the client does not take its answers.
        public var idleTime: Duration = .seconds(60)
        /// For a whole session; nil for no limit. A request may ask for less.
        public var sessionTime: Duration?
        /// For answering what is queued when the server is told to stop, and for the client to take the last answers.
        public var drainTime: Duration = .seconds(10)

        public init() {}
    }
}
