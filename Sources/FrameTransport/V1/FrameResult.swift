public import NIOCore

/// The answer to one unit, as it reaches the client's application.
public struct FrameResult: Hashable, Sendable {
    /// The answer's place among the job's answers, from 1 without gaps: what is acknowledged.
    public var sequence: Int
    /// The unit that is answered. Equal to `sequence` but for `source`, where pictures come in presentation order.
    public var id: Int
    /// The picture's number in presentation order, from 1; 0 where the unit holds no picture of its own.
    public var picture: Int
    /// Of the unit, so that nobody has to keep a table.
    public var pts: Int64?
    public var timeBase: TimeBase
    public var captureTime: Int64?
    /// What the server received and verified; 0 where nothing arrived intact.
    public var digest: UInt64
    public var answer: Answer

    public init(
        sequence: Int, id: Int, picture: Int, pts: Int64?, timeBase: TimeBase, captureTime: Int64?, digest: UInt64, answer: Answer
    ) {
        self.sequence = sequence
        self.id = id
        self.picture = picture
        self.pts = pts
        self.timeBase = timeBase
        self.captureTime = captureTime
        self.digest = digest
        self.answer = answer
    }
}

/// What a server has to say about one unit.
public struct Answer: Hashable, Sendable {
    public enum Status: UInt8, Hashable, Sendable, CaseIterable {
        case ok = 0
        /// The unit was decoded and holds no picture of its own: hidden, cut away by an edit list, or a part of another.
        case noPicture = 1
        /// It never arrived intact, as often as it was sent.
        case damaged = 2
        case undecodable = 3
        case inferenceFailed = 4
        /// The answer was bigger than a result may be.
        case tooLarge = 5

        public var isFailure: Bool { self != .ok && self != .noPicture }
    }

    /// How `body` is written.
    public enum Format: UInt8, Hashable, Sendable {
        case messagePack = 1
        case json = 2

        public var name: String { self == .messagePack ? "msgpack" : "json" }

        public init?(name: String) {
            switch name {
            case "msgpack": self = .messagePack
            case "json": self = .json
            default: return nil
            }
        }

        public func encode(_ value: JSON) -> ByteBuffer {
            var bytes = ByteBuffer()
            switch self {
            case .messagePack: MessagePack.write(value, into: &bytes)
            case .json: value.write(into: &bytes)
            }
            return bytes
        }

        /// nil where the bytes are not of this format.
        public func decode(_ bytes: ByteBuffer) -> JSON? {
            switch self {
            case .messagePack: try? MessagePack.read(bytes)
            case .json: try? JSON(parsing: bytes)
            }
        }
    }

    /// A picture that goes with the data in one unit, for instance with the detections drawn.
    public struct Image: Hashable, Sendable {
        public enum Encoding: UInt8, Hashable, Sendable, CaseIterable {
            case jpeg = 1
            case png = 2
            /// One access unit in byte-stream format.
            case h264 = 3
        }

        public var encoding: Encoding
        public var width: UInt16
        public var height: UInt16
        public var bytes: ByteBuffer

        public init(encoding: Encoding, width: UInt16, height: UInt16, bytes: ByteBuffer) {
            self.encoding = encoding
            self.width = width
            self.height = height
            self.bytes = bytes
        }
    }

    public var status: Status
    public var format: Format
    /// The data; of failures an object with `message`.
    public var body: ByteBuffer
    public var image: Image?
    /// Wall clock when the unit was whole at the server, microseconds since 1970; nil where nobody noted it.
    public var receivedAt: Int64?
    public var times = StageTimes()
    /// How often the unit was sent.
    public var tries = 1

    public init(status: Status = .ok, format: Format = .messagePack, body: ByteBuffer = ByteBuffer(), image: Image? = nil) {
        self.status = status
        self.format = format
        self.body = body
        self.image = image
    }

    /// A failure with its reason in words.
    public static func failure(_ status: Status, _ message: String, format: Format = .messagePack) -> Answer {
        Answer(status: status, format: format, body: format.encode(["message": .string(message)]))
    }

    /// The body as a value; nil where it is empty or broken.
    public var value: JSON? { body.readableBytes == 0 ? nil : format.decode(body) }

    var byteCount: Int { body.readableBytes + (image?.bytes.readableBytes ?? 0) }
}

/// Where the time of one unit went, in microseconds.
public struct StageTimes: Hashable, Sendable {
    public var wait: UInt32 = 0
    public var decode: UInt32 = 0
    public var batch: UInt32 = 0
    public var infer: UInt32 = 0
    public var serialise: UInt32 = 0
    public var send: UInt32 = 0

    public init() {}

    package static let names = ["wait", "decode", "batch", "infer", "serialise", "send"]
    package var all: [UInt32] { [wait, decode, batch, infer, serialise, send] }
}

/// The first message of a result; the body and the picture follow as one run of bytes, in this message and in chunks (docs/protocol.md, "Result").
///
///     kind = 0x20 u8, words (= 28) u8, job u16, body length u32, sequence u64, id u64, picture u64, pts i64, capture time i64,
///     time base 2 × u32, digest u64, received at i64, times 6 × u32, image length u32, image width u16, height u16,
///     status u8, format u8, image encoding u8 (0: none), tries u8, check u32
package struct ResultHeader: Hashable, Sendable {
    package var job: JobNumber
    package var bodyLength: Int
    package var imageLength: Int
    /// Body and image empty: their bytes follow.
    package var result: FrameResult

    package var length: Int { bodyLength + imageLength }

    static let kind: UInt8 = 0x20
    static let byteCount = 112

    package init(job: JobNumber, result: FrameResult) {
        self.job = job
        self.result = result
        bodyLength = result.answer.body.readableBytes
        imageLength = result.answer.image?.bytes.readableBytes ?? 0
        self.result.answer.body = ByteBuffer()
        self.result.answer.image?.bytes = ByteBuffer()
    }

    package func write(into bytes: inout ByteBuffer) {
        let start = bytes.writerIndex
        let answer = result.answer
        let times = answer.times
        bytes.writeMultipleIntegers(Self.kind, UInt8(Self.byteCount / 4), job, UInt32(truncatingIfNeeded: bodyLength))
        bytes.writeMultipleIntegers(UInt64(truncatingIfNeeded: result.sequence), UInt64(truncatingIfNeeded: result.id))
        bytes.writeMultipleIntegers(UInt64(truncatingIfNeeded: result.picture), result.pts ?? .min, result.captureTime ?? .min)
        bytes.writeMultipleIntegers(result.timeBase.numerator, result.timeBase.denominator, result.digest, answer.receivedAt ?? .min)
        bytes.writeMultipleIntegers(times.wait, times.decode, times.batch, times.infer, times.serialise, times.send)
        bytes.writeMultipleIntegers(UInt32(truncatingIfNeeded: imageLength), answer.image?.width ?? 0, answer.image?.height ?? 0)
        bytes.writeMultipleIntegers(answer.status.rawValue, answer.format.rawValue, answer.image?.encoding.rawValue ?? 0, UInt8(clamping: answer.tries))
        BinaryMessage.appendCheck(from: start, to: &bytes)
    }

    /// Reads the header; what is left in `message` afterwards are the first bytes of body and image.
    package init(readingFrom message: inout ByteBuffer) throws(BinaryMessageError) {
        var header = try BinaryMessage.header(Self.kind, minimum: Self.byteCount, of: &message)
        guard let (_, _, job, bodyLength, sequence, id) = header.readMultipleIntegers(as: (UInt8, UInt8, UInt16, UInt32, UInt64, UInt64).self),
            let (picture, pts, capture) = header.readMultipleIntegers(as: (UInt64, Int64, Int64).self),
            let (numerator, denominator, digest, receivedAt) = header.readMultipleIntegers(as: (UInt32, UInt32, UInt64, Int64).self),
            let (wait, decode, batch, infer, serialise, send) = header.readMultipleIntegers(as: (UInt32, UInt32, UInt32, UInt32, UInt32, UInt32).self),
            let (imageLength, width, height) = header.readMultipleIntegers(as: (UInt32, UInt16, UInt16).self),
            let (status, format, encoding, tries) = header.readMultipleIntegers(as: (UInt8, UInt8, UInt8, UInt8).self)
        else { throw .truncated }
        let ids = 1...UInt64(JobLimits.maximumID)
        guard ids.contains(sequence) else { throw .badField(.sequence) }
        guard ids.contains(id), picture <= ids.upperBound else { throw .badField(.id) }
        guard let status = Answer.Status(rawValue: status) else { throw .badField(.status) }
        guard let format = Answer.Format(rawValue: format) else { throw .badField(.format) }
        var answer = Answer(status: status, format: format)
        if encoding != 0 {
            guard let encoding = Answer.Image.Encoding(rawValue: encoding) else { throw .badField(.encoding) }
            answer.image = Answer.Image(encoding: encoding, width: width, height: height, bytes: ByteBuffer())
        } else if imageLength != 0 {
            throw .badField(.length)
        }
        answer.receivedAt = receivedAt == .min ? nil : receivedAt
        answer.tries = Int(tries)
        answer.times.wait = wait
        answer.times.decode = decode
        answer.times.batch = batch
        answer.times.infer = infer
        answer.times.serialise = serialise
        answer.times.send = send
        self.job = job
        self.bodyLength = Int(bodyLength)
        self.imageLength = Int(imageLength)
        result = FrameResult(
            sequence: Int(sequence), id: Int(id), picture: Int(picture), pts: pts == .min ? nil : pts,
            timeBase: TimeBase(numerator: numerator, denominator: denominator), captureTime: capture == .min ? nil : capture, digest: digest,
            answer: answer)
    }

    /// The result with its bytes, all of which have arrived.
    func result(with bytes: ByteBuffer) -> FrameResult? {
        var bytes = bytes
        guard let body = bytes.readSlice(length: bodyLength), let image = bytes.readSlice(length: imageLength) else { return nil }
        var result = result
        result.answer.body = body
        result.answer.image?.bytes = image
        return result
    }
}
