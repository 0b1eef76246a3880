public import FrameTransport
import Inference
public import WebRTCNIO

/// All that a server can be told. The defaults suit one machine that serves itself.
public struct ServerConfiguration: Sendable {
    /// HTTP.
    public var host = "127.0.0.1"
    /// HTTP; 0 takes a free one.
    public var port = 9001
    /// A numeric address for the UDP of all sessions; nil for those of all interfaces, whatever they become. Nothing answers there but sessions
    /// that were agreed on over HTTP.
    public var udpHost: String?
    /// The UDP port of all sessions: the first of these that is free on every address; 0...0, the default, takes any.
    public var udpPorts: ClosedRange<UInt16> = 0...0
    /// Numeric addresses that clients are told in place of the server's own, at most one of each family: those of a NAT that maps one to one.
    public var advertisedAddresses: [String] = []
    /// The id of a model, the path of a model file, or `synthetic:75ms`: answers made up after a delay, for measuring the transport.
    public var model = ModelCatalog.defaultID
    /// Frames in the engine at once; nil leaves the choice to the engine.
    public var requestsInFlight: Int?
    /// Frames of one batch, gathered over all sessions; more than 1 gains on machines with many cores.
    public var batchSize = 1
    /// How long a batch that is not full waits for more.
    public var batchWait: Duration = .milliseconds(2)
    /// Threads that decode pictures; nil for one a core.
    public var decodeThreads: Int?
    /// A request must carry it, in its body or as a bearer token; nil admits everybody.
    public var apiKey: String?
    /// STUN and TURN servers that clients of the WHIP route are told (RFC 9725 §4.6), with what they need to know to use them.
    public var iceServers: [PeerConnection.IceServer] = []
    /// Windows, timers, packet sizes and congestion control of each session's connection. The addresses in it, and the longest message, are those below
    /// and above.
    public var peer = PeerConnection.Configuration()
    public var limits = Limits()

    public init() {}

    /// What one server and each of its sessions may use.
    public struct Limits: Sendable {
        public var sessions = 64
        /// Frames of one session, or job, that are decoded and not answered; on the prototype wire, between the network and their answer.
        public var framesInPipeline = 16
        /// The same in bytes of pixels; one picture always has a place.
        public var pipelineBytes = 256 << 20
        /// What one job of `everyframe.v1` may hold here; announced to clients.
        public var job = JobLimits()
        /// The longest piece of a frame or result in one message.
        public var chunkBytes = 262_144
        /// Jobs without a connection that are kept for its client to come back; the oldest makes room.
        public var parkedJobs = 256
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
