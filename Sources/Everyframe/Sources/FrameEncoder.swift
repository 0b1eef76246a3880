import FrameMedia
import FrameTransport
import Media
import NIOCore
import NIOPosix

/// A frame that is ready to be sent.
struct EncodedFrame: Sendable {
    var info: FrameInfo
    var payload: ByteBuffer
    /// XXH64, where the wire wants one.
    var digest: UInt64?
    /// How an access unit is to be decoded.
    var configuration: CodecConfiguration?
    var source: SourceFrame
}

/// Makes what travels of what a source gives: access units and pictures of the wanted kind go as they are, all others are encoded.
struct FrameEncoder: Sendable {
    let encoding: StreamConfiguration.Encoding
    /// The prototype wire has no digest.
    var needsDigest = true

    /// What a job is sent as: what was asked for, else what its first frame is.
    static func encoding(_ wanted: StreamConfiguration.Encoding?, for first: SourceFrame) -> StreamConfiguration.Encoding {
        if let wanted { return wanted }
        return switch first.content {
        case .unit: .source
        case .encoded(_, .png): .png
        case .encoded(_, .jpeg), .pixels: .jpeg(quality: StreamConfiguration.defaultQuality)
        }
    }

    func encode(_ frame: SourceFrame) async throws -> EncodedFrame {
        if let ready = try packed(frame) { return ready }
        let info = describe(frame)
        return try await Self.encoders.runIfActive { try encodePixels(frame, info) }
    }

    /// What goes as it is; nil for what must be encoded.
    func packed(_ frame: SourceFrame) throws -> EncodedFrame? {
        switch frame.content {
        case .unit(let unit, let facts):
            guard encoding == .source else { throw StreamError(.sourceFailed, "access units cannot be sent as \(encoding.payloadEncoding.name)") }
            return Self.unit(unit, facts, describe(frame), frame)
        case .encoded(let bytes, let kind) where kind == encoding.wireEncoding:
            return EncodedFrame(info: describe(frame), payload: bytes, digest: needsDigest ? XXH64.digest(bytes) : nil, source: frame)
        case .encoded, .pixels: return nil
        }
    }

    private func describe(_ frame: SourceFrame) -> FrameInfo {
        var info = FrameInfo(encoding: encoding.payloadEncoding, width: UInt16(clamping: frame.width), height: UInt16(clamping: frame.height))
        info.pts = frame.pts
        info.timeBase = frame.timeBase
        info.captureTime = frame.captureTime
        info.orientation = frame.orientation
        return info
    }

    private static func unit(_ unit: AccessUnit, _ facts: StreamFacts, _ info: FrameInfo, _ frame: SourceFrame) -> EncodedFrame {
        var info = info
        info.take(unit.facts, facts)
        let payload = ByteBuffer(bytes: unit.bytes)
        return EncodedFrame(
            info: info, payload: payload, digest: XXH64.digest(payload), configuration: CodecConfiguration(unit.parameters), source: frame)
    }

    private func encodePixels(_ frame: SourceFrame, _ described: FrameInfo) throws -> EncodedFrame {
        var info = described
        let pixels: VideoFrame
        switch frame.content {
        case .pixels(let picture): pixels = picture
        case .encoded(let bytes, let kind):
            // a picture of another kind than asked for
            let picture = try bytes.withUnsafeReadableBytes { bytes in
                kind == .jpeg ? try Self.codecs.withCodec { try $0.decode(bytes, to: .i420) } : try PNGCodec.decode(bytes)
            }
            pixels = picture.turned(Media.Orientation(frame.orientation))
            info.orientation = .up
        case .unit: throw StreamError(.sourceFailed, "an access unit has no pixels yet")
        }
        info.width = UInt16(clamping: pixels.width)
        info.height = UInt16(clamping: pixels.height)
        let payload: ByteBuffer
        switch encoding {
        case .jpeg(let quality): payload = try Self.codecs.withCodec { try $0.encode(pixels, quality: quality) { ByteBuffer(bytes: $0) } }
        case .png: payload = ByteBuffer(bytes: try PNGCodec.encode(pixels))
        case .raw(let format, let compression): payload = try RawPicture.payload(of: pixels, as: format, compression, &info)
        case .source: throw Self.noUnits
        }
        return EncodedFrame(info: info, payload: payload, digest: needsDigest ? XXH64.digest(payload) : nil, source: frame)
    }

    static let noUnits = StreamError(
        .invalidConfiguration,
        "the encoding 'source' is for video as it is stored; this source has pictures or pixels, or a codec that no server reads: choose jpeg, png or raw")

    private static let codecs = JPEGCodecPool()

    /// Encoding never runs where sockets or other tasks need the thread.
    private static let encoders: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: max(1, System.coreCount))
        pool.start()
        return pool
    }()
}
