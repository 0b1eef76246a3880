import CFFmpeg

/// Changes pixel format and colour meaning. Keeps what FFmpeg prepared for the last geometry; one thread at a time.
package final class PixelConverter {
    private var context: OpaquePointer?
    private var prepared: Preparation?

    private struct Preparation: Equatable {
        var source: AVPixelFormat
        var sourceColour: Colour
        var target: AVPixelFormat
        var targetColour: Colour
        var width, height: Int
    }

    package init() { FFmpeg.quiet }
    deinit { sws_freeContext(context) }

    /// `frame` as `format`; the frame itself when it is that already. Colour stays as it is unless `colour` asks for another.
    package func convert(_ frame: VideoFrame, to format: PixelFormat, colour: Colour? = nil) throws(MediaError) -> VideoFrame {
        let target = colour ?? (frame.format == .bgr24 ? .jpeg : frame.colour)
        if frame.format == format, format == .bgr24 || target == frame.colour { return frame }
        // NV12 never meets swscale, which crashes over it where sides are odd (6.7)
        if frame.format == .nv12 { return try convert(frame.separated(), to: format, colour: colour) }
        if format == .nv12 { return try convert(frame, to: .i420, colour: target).interleaved() }
        return try frame.withUnsafeBytes { (bytes) throws(MediaError) in
            let planes = frame.planes
            var pointers: [UnsafePointer<UInt8>?] = [nil, nil, nil, nil]
            var strides: [Int32] = [0, 0, 0, 0]
            for (index, plane) in planes.enumerated() {
                pointers[index] = bytes.baseAddress?.advanced(by: plane.offset).assumingMemoryBound(to: UInt8.self)
                strides[index] = Int32(plane.bytesPerRow)
            }
            var made = try make(
                format, colour: target, width: frame.width, height: frame.height, from: pointers, strides, frame.format.ffmpeg, frame.colour)
            made.pts = frame.pts
            made.timeBase = frame.timeBase
            return made
        }
    }

    /// A decoder's picture as a frame of ours.
    func convert(_ picture: AVFrame, to format: PixelFormat, colour: Colour) throws(MediaError) -> VideoFrame {
        if format == .nv12 { return try convert(picture, to: .i420, colour: colour).interleaved() }
        let data = picture.data
        let lines = picture.linesize
        return try make(
            format, colour: colour, width: Int(picture.width), height: Int(picture.height),
            from: [UnsafePointer(data.0), UnsafePointer(data.1), UnsafePointer(data.2), UnsafePointer(data.3)], [lines.0, lines.1, lines.2, lines.3],
            AVPixelFormat(rawValue: picture.format), Colour(of: picture))
    }

    private func make(
        _ format: PixelFormat, colour: Colour, width: Int, height: Int, from pointers: [UnsafePointer<UInt8>?], _ strides: [Int32],
        _ source: AVPixelFormat, _ sourceColour: Colour
    ) throws(MediaError) -> VideoFrame {
        let wanted = Preparation(
            source: source, sourceColour: sourceColour, target: format.ffmpeg, targetColour: colour, width: width, height: height)
        if prepared != wanted { try prepare(wanted) }
        let context = self.context
        return try VideoFrame(format, width: width, height: height, colour: colour) { (bytes) throws(MediaError) in
            var targets: [UnsafeMutablePointer<UInt8>?] = [nil, nil, nil, nil]
            var targetStrides: [Int32] = [0, 0, 0, 0]
            for (index, plane) in format.planes(width: width, height: height).enumerated() {
                targets[index] = bytes.baseAddress?.advanced(by: plane.offset).assumingMemoryBound(to: UInt8.self)
                targetStrides[index] = Int32(plane.bytesPerRow)
            }
            let rows = sws_scale(context, pointers, strides, 0, Int32(height), targets, targetStrides)
            guard rows == height else { throw .conversionFailed(reason: FFmpeg.message(min(rows, -1))) }
        }
    }

    private func prepare(_ wanted: Preparation) throws(MediaError) {
        sws_freeContext(context)
        prepared = nil
        // to BGR the vector code without flags is several times as fast, but leaves the last columns out where rows are not whole vectors
        let fast = wanted.target == AV_PIX_FMT_BGR24 && wanted.width % 16 == 0
        let flags = fast ? SWS_BILINEAR : SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP
        context = sws_getContext(
            Int32(wanted.width), Int32(wanted.height), wanted.source, Int32(wanted.width), Int32(wanted.height), wanted.target,
            flags, nil, nil, nil)
        guard let context else {
            let name = av_get_pix_fmt_name(wanted.source).map { String(cString: $0) } ?? "unknown"
            throw .conversionFailed(reason: "no way from pixel format \(name) to \(wanted.target)")
        }
        _ = sws_setColorspaceDetails(
            context, sws_getCoefficients(wanted.sourceColour.swscaleMatrix), wanted.sourceColour.range == .full ? 1 : 0,
            sws_getCoefficients(wanted.targetColour.swscaleMatrix), wanted.targetColour.range == .full ? 1 : 0, 0, 1 << 16, 1 << 16)
        prepared = wanted
    }
}

extension VideoFrame {
    /// I420 as NV12.
    fileprivate func interleaved() -> VideoFrame {
        let (luma, chroma) = (width * height, ((width + 1) / 2) * ((height + 1) / 2))
        return withUnsafeBytes { from in
            VideoFrame(.nv12, width: width, height: height, colour: colour, pts: pts, timeBase: timeBase) { to in
                to.copyMemory(from: UnsafeRawBufferPointer(rebasing: from[..<luma]))
                for index in 0..<chroma {
                    to[luma + 2 * index] = from[luma + index]
                    to[luma + 2 * index + 1] = from[luma + chroma + index]
                }
            }
        }
    }

    /// NV12 as I420.
    fileprivate func separated() -> VideoFrame {
        let (luma, chroma) = (width * height, ((width + 1) / 2) * ((height + 1) / 2))
        return withUnsafeBytes { from in
            VideoFrame(.i420, width: width, height: height, colour: colour, pts: pts, timeBase: timeBase) { to in
                to.copyMemory(from: UnsafeRawBufferPointer(rebasing: from[..<luma]))
                for index in 0..<chroma {
                    to[luma + index] = from[luma + 2 * index]
                    to[luma + chroma + index] = from[luma + 2 * index + 1]
                }
            }
        }
    }
}
