package import FrameTransport

/// How a client streams. The defaults suit a file: every frame, as fast as the server answers.
public struct StreamConfiguration: Sendable {
    /// The messages on the data channels.
    public enum Wire: String, Sendable, CaseIterable {
        /// JSON with base64 pictures (PROTOCOLS.md section 1).
        case prototype
    }

    public enum Encoding: Hashable, Sendable {
        /// 1…100; 85 is hard to tell from the source.
        case jpeg(quality: Int)
        /// Without loss, and several times the bytes.
        case png

        package var wireEncoding: FrameEncoding {
            switch self {
            case .jpeg: .jpeg
            case .png: .png
            }
        }
    }

    /// What each result carries beside its metadata.
    public enum DataOutput: Hashable, Sendable {
        case all
        case none
        case named([String])
    }

    /// The server's base URL, `http://host:port`.
    public var server: String
    public var wire = Wire.prototype
    public var encoding = Encoding.jpeg(quality: 85)
    public var dataOutput = DataOutput.all
    public var apiKey: String?
    /// Frames sent and not answered: what hides the way there and back. Sending waits while so many are open.
    public var window = 32
    /// The same in encoded bytes.
    public var windowBytes = 32 << 20
    /// Stop after so many frames of the source.
    public var frameLimit: Int?
    /// Bytes of a frame in one message; less where the server accepts less.
    public var chunkSize = 16_000_000
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
