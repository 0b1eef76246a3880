public import FrameTransport
public import WebRTCNIO

/// How a client streams. The defaults suit a file: every frame, as it is stored, as fast as the server answers. For a camera they are right, too:
/// its frames go as it gives them, and the newest is sent when there is room.
public struct StreamConfiguration: Sendable {
    /// The messages on the data channels.
    public enum Wire: String, Sendable, CaseIterable {
        /// `everyframe.v1`: binary, acknowledged, resumable (docs/protocol.md).
        case everyframe
        /// JSON with base64 pictures, as the first servers speak it: JPEG and PNG, without resuming.
        case prototype
    }

    public enum Encoding: Hashable, Sendable {
        /// The source's own access units: nothing is decoded or encoded here, nothing is lost, and the fewest bytes go.
        case source
        /// 1…100; 85 is hard to tell from the source.
        case jpeg(quality: Int)
        /// Without loss, and several times the bytes.
        case png
        /// Pixels as they are.
        case raw(PixelFormat = .i420, Compression? = nil)

        package var payloadEncoding: PayloadEncoding {
            switch self {
            case .source: .source
            case .jpeg: .jpeg
            case .png: .png
            case .raw: .raw
            }
        }

        /// Of the prototype wire, and of pictures that are encoded already.
        package var wireEncoding: FrameEncoding? {
            switch self {
            case .jpeg: .jpeg
            case .png: .png
            case .source, .raw: nil
            }
        }
    }

    /// What comes back for each frame, in one unit.
    public enum Output: Hashable, Sendable {
        case data
        /// The picture with what was found drawn in.
        case video(ImageFormat = .jpeg())
        case both(ImageFormat = .jpeg())

        package var image: ImageFormat? {
            switch self {
            case .data: nil
            case .video(let format), .both(let format): format
            }
        }
    }

    public enum ImageFormat: Hashable, Sendable {
        /// 1…100.
        case jpeg(quality: Int = 85)
        /// One access unit a frame, which a file can take as it is; 0…51, smaller is better.
        case h264(quality: Int = 23)
    }

    /// What each result carries beside its metadata.
    public enum DataOutput: Hashable, Sendable {
        case all
        case none
        case named([String])
    }

    /// JPEG quality where none is named.
    public static let defaultQuality = 85

    /// The server's base URL, `http://host:port`.
    public var server: String
    public var wire = Wire.everyframe
    /// ICE servers, windows, timers, packet sizes and congestion control of each connection.
    public var peer = PeerConnection.Configuration()
    /// nil: what the source has, JPEG for pixels.
    public var encoding: Encoding?
    public var output = Output.data
    public var dataOutput = DataOutput.all
    public var apiKey: String?
    /// Which frames may be dropped before they are sent; nil: none of a source that can wait, all but the latest of one that cannot.
    public var dropPolicy: DropPolicy?
    /// Of the frames, the first of each so many is answered. Access units are all sent, since pictures refer to each other.
    public var stride = 1
    /// Frames sent and not answered: what hides the way there and back. nil: what the server allows; 32 on the prototype wire.
    public var window: Int?
    /// The same in encoded bytes, on the prototype wire.
    public var windowBytes = 32 << 20
    /// Stop after so many frames of the source.
    public var frameLimit: Int?
    /// Go on with a job that another process began.
    public var resume: ResumeTicket?
    /// Bytes of a frame in one message of the prototype wire; less where the server accepts less.
    public var chunkSize = 16_000_000
    /// How control messages and results are written.
    public var messageFormat = Answer.Format.messagePack
    public var timeouts = Timeouts()

    public init(server: String) { self.server = server }

    public struct Timeouts: Sendable {
        /// For the server's HTTP answer; servers that load a model first need their time.
        public var signalling: Duration = .seconds(90)
        /// From the answer to open channels.
        public var connect: Duration = .seconds(30)
        /// Without any answer while frames are open.
        public var stall: Duration = .seconds(60)
        /// For the server's last word after the last answer; some servers have none.
        public var completion: Duration = .seconds(5)
        /// How long a lost connection is sought again before the job fails; a server keeps jobs for as long as it announces.
        public var resume: Duration = .seconds(60)

        public init() {}
    }
}

/// Why a stream could not be had, or broke.
public struct StreamError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Grows with the client: compare, do not switch.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String
        private init(_ description: String) { self.description = description }

        /// Contradicting or impossible options.
        public static let invalidConfiguration = Code("invalid configuration")
        /// The source has no frames to give, or broke in the middle.
        public static let sourceFailed = Code("source failed")
        /// Nothing answers at the server's address.
        public static let serverUnreachable = Code("server unreachable")
        /// The server answered with another status than 200: `status` and its message say why.
        public static let refused = Code("refused by the server")
        /// The server's answer is not what the protocol says.
        public static let badAnswer = Code("bad answer")
        /// The data channels did not open.
        public static let cannotConnect = Code("cannot connect")
        /// The connection broke with frames open.
        public static let connectionLost = Code("connection lost")
        /// No answer came for too long.
        public static let stalled = Code("stalled")
        /// The two ends do not agree on what was sent and answered.
        public static let proofFailed = Code("proof failed")
        /// The server ended the job before all frames were answered.
        public static let endedByServer = Code("ended by the server")
        /// A result could not be delivered.
        public static let resultHandlerFailed = Code("result handler failed")
        public static let cancelled = Code("cancelled")
    }

    public var code: Code
    public var detail: String
    /// HTTP, for `refused`.
    public var status: Int?

    public init(_ code: Code, _ detail: String = "", status: Int? = nil) {
        self.code = code
        self.detail = detail
        self.status = status
    }

    public var description: String {
        let head = status.map { "\(code) (HTTP \($0))" } ?? code.description
        return detail.isEmpty ? head : "\(head): \(detail)"
    }
}
