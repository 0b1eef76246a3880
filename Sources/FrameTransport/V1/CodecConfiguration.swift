public import NIOCore

/// How access units are to be decoded: sent before the first frame that names its number (docs/protocol.md, "Codec configuration").
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +---------------+---------------+-------------------------------+
///     |  kind = 0x12  |  words (= 12) |              job              |   0
///     +---------------+---------------+-------------------------------+
///     |            number             |             width             |   4
///     +-------------------------------+-------------------------------+
///     |            height             |            details            |   8
///     +---------------------------------------------------------------+
///
/// In full: number u16, width u16, height u16, details u16, extradata length u32, codec tag u32, profile i32, level i32,
/// codec name 16 bytes of ASCII padded with zeros, check u32; then the extradata.
public struct CodecConfiguration: Hashable, Sendable {
    /// From 1 in each job; `FrameInfo.configuration` refers to it.
    public internal(set) var number: UInt16 = 0
    /// FFmpeg's name of the codec: h264, hevc, vp8, vp9, av1, mjpeg, …
    public var codec: String
    public var width: UInt16
    public var height: UInt16
    /// The container's four-character code as a number, first character lowest; 0 for none.
    public var tag: UInt32 = 0
    /// The codec's own numbers; -99 where they are not known, as FFmpeg has it.
    public var profile: Int32 = -99
    public var level: Int32 = -99
    /// What else decoders may need, 0 where nothing is said: bits of a coded sample (low 8 bits), pictures held back to bring them in
    /// order (5 bits), FFmpeg's order of fields (3 bits).
    public var details: UInt16 = 0
    /// avcC, hvcC, av1C, … or parameter sets, as the container had them.
    public var extradata: ByteBuffer

    public init(codec: String, width: UInt16, height: UInt16, extradata: ByteBuffer = ByteBuffer()) {
        self.codec = codec
        self.width = width
        self.height = height
        self.extradata = extradata
    }

    static let kind: UInt8 = 0x12
    static let byteCount = 48
    static let nameLength = 16

    /// A name that fits its field.
    var isCodecValid: Bool { Self.isValid(codec) }

    package func write(job: JobNumber, into bytes: inout ByteBuffer) {
        let start = bytes.writerIndex
        bytes.writeMultipleIntegers(Self.kind, UInt8(Self.byteCount / 4), job, number, width, height, details)
        bytes.writeMultipleIntegers(UInt32(truncatingIfNeeded: extradata.readableBytes), tag, profile, level)
        let name = Array(codec.utf8.prefix(Self.nameLength))
        bytes.writeBytes(name)
        bytes.writeRepeatingByte(0, count: Self.nameLength - name.count)
        BinaryMessage.appendCheck(from: start, to: &bytes)
        bytes.writeImmutableBuffer(extradata)
    }

    /// The whole message, with the job it is for.
    package static func read(_ message: ByteBuffer) throws(BinaryMessageError) -> (job: JobNumber, configuration: CodecConfiguration) {
        var message = message
        var header = try BinaryMessage.header(kind, minimum: byteCount, of: &message)
        guard let (_, _, job, number, width, height, details) = header.readMultipleIntegers(as: (UInt8, UInt8, UInt16, UInt16, UInt16, UInt16, UInt16).self),
            let (length, tag, profile, level) = header.readMultipleIntegers(as: (UInt32, UInt32, Int32, Int32).self),
            let name = header.readBytes(length: nameLength)
        else { throw .truncated }
        guard Int(length) == message.readableBytes else { throw .badField(.length) }
        guard number > 0 else { throw .badField(.id) }
        let codec = String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
        guard isValid(codec) else { throw .badField(.codec) }
        var configuration = CodecConfiguration(codec: codec, width: width, height: height, extradata: message.slice())
        configuration.number = number
        configuration.tag = tag
        configuration.profile = profile
        configuration.level = level
        configuration.details = details
        return (job, configuration)
    }

    private static func isValid(_ name: String) -> Bool {
        (1...nameLength).contains(name.utf8.count)
            && name.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x5F || $0 == 0x2D }
    }
}
