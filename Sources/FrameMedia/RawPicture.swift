package import FrameTransport
package import Media
package import NIOCore

/// Pictures as `raw` payloads: planes without padding, compressed or not.
package enum RawPicture {
    /// - Parameter info: gets what the receiver needs to read the payload: pixel format, colour, compression, length.
    package static func payload(
        of picture: VideoFrame, as format: FrameTransport.PixelFormat, _ compression: Compression?, _ info: inout FrameInfo
    ) throws(MediaError) -> ByteBuffer {
        let frame = try PixelConverter().convert(picture, to: Media.PixelFormat(format))
        info.pixelFormat = format
        info.compression = compression
        info.color = ColorInfo(frame)
        return try frame.withUnsafeBytes { (pixels) throws(MediaError) in
            guard let compression else { return ByteBuffer(bytes: pixels) }
            info.uncompressedLength = UInt32(clamping: pixels.count)
            let codec = PayloadCompression(compression)
            var payload = ByteBuffer()
            var count = 0
            var failure: MediaError?
            payload.writeWithUnsafeMutableBytes(minimumWritableBytes: codec.maximumCompressedByteCount(of: pixels.count)) { target in
                do throws(MediaError) { count = try codec.compress(pixels, into: target) } catch { failure = error }
                return count
            }
            if let failure { throw failure }
            return payload
        }
    }

    /// The picture that a payload is. The receiver has compared its length with its geometry; this looks again.
    package static func frame(_ info: FrameInfo, _ payload: FramePayload, pixelLimit: Int) throws(MediaError) -> VideoFrame {
        guard let format = info.pixelFormat, let length = info.rawLength else { throw .conversionFailed(reason: "a raw picture without a pixel format") }
        let (width, height) = (Int(info.width), Int(info.height))
        guard width > 0, height > 0, width * height <= pixelLimit else { throw .tooManyPixels(width: width, height: height, limit: pixelLimit) }
        return try VideoFrame(Media.PixelFormat(format), width: width, height: height, colour: info.color.colour) { (pixels) throws(MediaError) in
            guard pixels.count == length else { throw .conversionFailed(reason: "a raw picture of \(pixels.count) bytes, not \(length)") }
            guard let compression = info.compression else { return try copy(payload, to: pixels) }
            var failure: MediaError?
            payload.contiguous.withUnsafeReadableBytes { bytes in
                do throws(MediaError) { try PayloadCompression(compression).decompress(bytes, into: pixels) } catch { failure = error }
            }
            if let failure { throw failure }
        }
    }

    private static func copy(_ payload: FramePayload, to pixels: UnsafeMutableRawBufferPointer) throws(MediaError) {
        guard payload.readableBytes == pixels.count else {
            throw .conversionFailed(reason: "a raw picture of \(payload.readableBytes) bytes, not \(pixels.count)")
        }
        var offset = 0
        for piece in payload.pieces {
            piece.withUnsafeReadableBytes { UnsafeMutableRawBufferPointer(rebasing: pixels[offset..<offset + $0.count]).copyMemory(from: $0) }
            offset += piece.readableBytes
        }
    }
}

extension Media.PixelFormat {
    fileprivate init(_ format: FrameTransport.PixelFormat) {
        switch format {
        case .i420: self = .i420
        case .nv12: self = .nv12
        case .bgr24: self = .bgr24
        }
    }
}

extension PayloadCompression {
    fileprivate init(_ compression: Compression) {
        switch compression {
        case .lz4: self = .lz4
        // its own default: a few times slower than LZ4, a third fewer bytes
        case .zstd: self = .zstd(level: 1)
        }
    }
}

extension ColorInfo {
    /// As H.273 numbers it; pixels of `bgr24` say nothing.
    fileprivate init(_ frame: VideoFrame) {
        guard frame.format != .bgr24 else {
            self.init()
            return
        }
        let matrix: UInt8 =
            switch frame.colour.matrix {
            case .bt601: 6
            case .bt709: 1
            case .bt2020: 9
            }
        self.init(range: frame.colour.range == .full ? .full : .limited, matrix: matrix)
    }

    fileprivate var colour: Colour {
        let matrix: Colour.Matrix =
            switch self.matrix {
            case 1: .bt709
            case 9, 10: .bt2020
            default: .bt601
            }
        return Colour(matrix, range == .full ? .full : .limited)
    }
}
