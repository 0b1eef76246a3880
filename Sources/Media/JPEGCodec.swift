import CTurboJPEG

/// JPEG by TurboJPEG. Keeps its tables and buffers from picture to picture: make one per thread and keep it.
package final class JPEGCodec {
    private var compressor: tjhandle?
    private var decompressor: tjhandle?
    private var output: UnsafeMutablePointer<UInt8>?
    private var outputCapacity: UInt = 0
    private let converter = PixelConverter()

    package init() {}

    deinit {
        if let compressor { tjDestroy(compressor) }
        if let decompressor { tjDestroy(decompressor) }
        tjFree(output)
    }

    // MARK: Encoding

    /// `frame` as JPEG, chroma at half size. Video's own levels and matrix are turned into those of JPEG on the way; nothing becomes RGB.
    /// - Parameter quality: 1 … 100.
    package func encode(_ frame: VideoFrame, quality: Int) throws(MediaError) -> [UInt8] {
        try encode(frame, quality: quality) { Array($0) }
    }

    /// The same without a copy: `body` sees the codec's own buffer, which the next picture overwrites.
    package func encode<Result>(_ frame: VideoFrame, quality: Int, _ body: (UnsafeRawBufferPointer) -> Result) throws(MediaError) -> Result {
        guard (1...100).contains(quality) else { throw .cannotEncode(reason: "JPEG quality \(quality) is not from 1 to 100") }
        guard frame.width <= 65_500, frame.height <= 65_500 else { throw .cannotEncode(reason: "JPEG has no pictures over 65500 pixels a side") }
        if compressor == nil { compressor = tjInitCompress() }
        guard let compressor else { throw .cannotEncode(reason: "TurboJPEG did not start") }
        reserve(tjBufSize(Int32(frame.width), Int32(frame.height), Int32(TJSAMP_420.rawValue)))

        var size = outputCapacity
        let status: Int32
        switch frame.format {
        case .bgr24:
            status = frame.withUnsafeBytes { bytes in
                tjCompress2(
                    compressor, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(frame.width), Int32(3 * frame.width),
                    Int32(frame.height), Int32(TJPF_BGR.rawValue), &output, &size, Int32(TJSAMP_420.rawValue), Int32(quality), TJFLAG_NOREALLOC)
            }
        case .i420, .nv12:
            let picture = try converter.convert(frame, to: .i420).withColour(.jpeg)
            let planes = picture.planes
            status = picture.withUnsafeBytes { bytes in
                var pointers = planes.map { bytes.baseAddress?.advanced(by: $0.offset).assumingMemoryBound(to: UInt8.self) }
                let strides = planes.map { Int32($0.bytesPerRow) }
                return tjCompressFromYUVPlanes(
                    compressor, &pointers, Int32(frame.width), strides, Int32(frame.height), Int32(TJSAMP_420.rawValue), &output, &size,
                    Int32(quality), TJFLAG_NOREALLOC)
            }
        }
        guard status == 0, let output else { throw .cannotEncode(reason: message(of: compressor)) }
        return body(UnsafeRawBufferPointer(start: output, count: Int(size)))
    }

    private func reserve(_ capacity: UInt) {
        guard capacity > outputCapacity else { return }
        tjFree(output)
        output = tjAlloc(Int32(clamping: capacity))
        outputCapacity = output == nil ? 0 : capacity
    }

    // MARK: Decoding

    /// What the header says. Nothing is decoded, so a claim of any size is cheap.
    package struct Header: Equatable, Sendable {
        package var width, height: Int
        package init(width: Int, height: Int) {
            self.width = width
            self.height = height
        }
    }

    package func header(of jpeg: UnsafeRawBufferPointer) throws(MediaError) -> Header {
        let parsed = try parse(jpeg)
        return Header(width: Int(parsed.width), height: Int(parsed.height))
    }

    /// Decodes a picture that anyone may have sent: its size is checked before memory is taken, scans are bounded, and a picture that
    /// is cut off or damaged is an error, not a grey patch.
    package func decode(
        _ jpeg: UnsafeRawBufferPointer, to format: PixelFormat = .bgr24, pixelLimit: Int = VideoFrame.defaultPixelLimit
    ) throws(MediaError) -> VideoFrame {
        let header = try parse(jpeg)
        try checkSize(Int(header.width), Int(header.height), limit: pixelLimit)
        switch format {
        case .i420 where header.subsampling == Int32(TJSAMP_420.rawValue): return try decodePlanes(jpeg, header)
        case .bgr24: return try decodeBGR(jpeg, header)
        case .i420, .nv12: return try converter.convert(decodeBGR(jpeg, header), to: format, colour: .jpeg)
        }
    }

    package func decode(
        _ jpeg: [UInt8], to format: PixelFormat = .bgr24, pixelLimit: Int = VideoFrame.defaultPixelLimit
    ) throws(MediaError) -> VideoFrame {
        try jpeg.span.bytes.withUnsafeBytes { (bytes) throws(MediaError) in try decode(bytes, to: format, pixelLimit: pixelLimit) }
    }

    private struct ParsedHeader { var width: Int32 = 0, height: Int32 = 0, subsampling: Int32 = 0, colourSpace: Int32 = 0 }

    /// Warnings are errors; pictures with hundreds of scans, which take minutes, are refused.
    private static let flags = TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS

    private func parse(_ jpeg: UnsafeRawBufferPointer) throws(MediaError) -> ParsedHeader {
        if decompressor == nil { decompressor = tjInitDecompress() }
        guard let decompressor else { throw .badPicture(.jpeg, reason: "TurboJPEG did not start") }
        guard jpeg.count >= 4, jpeg[0] == 0xff, jpeg[1] == 0xd8 else { throw .badPicture(.jpeg, reason: "it does not begin like one") }
        var header = ParsedHeader()
        let status = tjDecompressHeader3(
            decompressor, jpeg.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt(jpeg.count), &header.width, &header.height,
            &header.subsampling, &header.colourSpace)
        guard status == 0, header.width > 0, header.height > 0 else { throw decodingFailed() }
        guard header.colourSpace != Int32(TJCS_CMYK.rawValue), header.colourSpace != Int32(TJCS_YCCK.rawValue) else {
            throw .badPicture(.jpeg, reason: "it is in printing colours (CMYK)")
        }
        return header
    }

    private func decodeBGR(_ jpeg: UnsafeRawBufferPointer, _ header: ParsedHeader) throws(MediaError) -> VideoFrame {
        try VideoFrame(.bgr24, width: Int(header.width), height: Int(header.height)) { (pixels) throws(MediaError) in
            let status = tjDecompress2(
                decompressor, jpeg.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt(jpeg.count),
                pixels.baseAddress?.assumingMemoryBound(to: UInt8.self), header.width, 3 * header.width, header.height,
                Int32(TJPF_BGR.rawValue), Self.flags)
            guard status == 0 else { throw decodingFailed() }
        }
    }

    private func decodePlanes(_ jpeg: UnsafeRawBufferPointer, _ header: ParsedHeader) throws(MediaError) -> VideoFrame {
        let (width, height) = (Int(header.width), Int(header.height))
        let planes = PixelFormat.i420.planes(width: width, height: height)
        return try VideoFrame(.i420, width: width, height: height) { (pixels) throws(MediaError) in
            var pointers = planes.map { pixels.baseAddress?.advanced(by: $0.offset).assumingMemoryBound(to: UInt8.self) }
            var strides = planes.map { Int32($0.bytesPerRow) }
            let status = tjDecompressToYUVPlanes(
                decompressor, jpeg.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt(jpeg.count), &pointers, header.width, &strides,
                header.height, Self.flags)
            guard status == 0 else { throw decodingFailed() }
        }
    }

    /// TurboJPEG 2.1 goes on in the middle of the damaged header with the next picture, so it starts anew.
    private func decodingFailed() -> MediaError {
        defer {
            if let decompressor { tjDestroy(decompressor) }
            decompressor = nil
        }
        return .badPicture(.jpeg, reason: message(of: decompressor))
    }

    private func message(of handle: tjhandle?) -> String {
        guard let text = tjGetErrorStr2(handle) else { return "unknown" }
        return String(cString: text)
    }
}
