import CFFmpeg

/// Makes frames of ours of a decoder's pictures.
final class PictureCopier {
    private let format: PixelFormat?
    private let converter = PixelConverter()

    /// `format`: nil: what costs least.
    init(format: PixelFormat?) { self.format = format }

    /// The picture in memory of its own, turned as `declared` says; where that says nothing, as the picture itself does.
    func upright(_ picture: AVFrame, declared: Orientation?) throws(MediaError) -> VideoFrame {
        let frame = try copy(picture)
        return frame.turned(declared ?? Orientation(sideDataOf: picture) ?? .upright)
    }

    private func copy(_ picture: AVFrame) throws(MediaError) -> VideoFrame {
        let source = AVPixelFormat(rawValue: picture.format)
        let colour = Colour(of: picture)
        let native: PixelFormat? =
            switch source {
            case AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUVJ420P: .i420
            case AV_PIX_FMT_NV12: .nv12
            case AV_PIX_FMT_BGR24: .bgr24
            default: nil
            }
        // palettes hold RGB, which their flags do not say
        let isRGB = source == AV_PIX_FMT_PAL8 || av_pix_fmt_desc_get(source).map { $0.pointee.flags & everyframe_pixel_format_flag_rgb() != 0 } ?? false
        let wanted = format ?? native ?? (isRGB ? .bgr24 : .i420)
        if let native, native == wanted || native == .nv12 {
            let frame = Self.copy(picture, as: native, colour: colour)
            return native == wanted ? frame : try converter.convert(frame, to: wanted)
        }
        return try converter.convert(picture, to: wanted, colour: wanted == .bgr24 || isRGB ? .jpeg : colour)
    }

    private static func copy(_ picture: AVFrame, as format: PixelFormat, colour: Colour) -> VideoFrame {
        let (width, height) = (Int(picture.width), Int(picture.height))
        let (data, lines) = (picture.data, picture.linesize)
        let sources = [(data.0, lines.0), (data.1, lines.1), (data.2, lines.2)]
        return VideoFrame(format, width: width, height: height, colour: colour) { bytes in
            for (plane, (pointer, line)) in zip(format.planes(width: width, height: height), sources) {
                guard let pointer, let target = bytes.baseAddress?.advanced(by: plane.offset) else { continue }
                av_image_copy_plane(
                    target.assumingMemoryBound(to: UInt8.self), Int32(plane.bytesPerRow), pointer, line, Int32(plane.bytesPerRow),
                    Int32(plane.rows))
            }
        }
    }
}

func checkSize(_ width: Int, _ height: Int, limit: Int) throws(MediaError) {
    guard width > 0, height > 0, width <= VideoFrame.maximumSide, height <= VideoFrame.maximumSide, width * height <= limit else {
        throw .tooManyPixels(width: width, height: height, limit: limit)
    }
}

extension Orientation {
    /// Some codecs carry the orientation with each picture (H.264 and HEVC messages, EXIF).
    init?(sideDataOf picture: AVFrame) {
        var picture = picture
        guard let data = av_frame_get_side_data(&picture, AV_FRAME_DATA_DISPLAYMATRIX), data.pointee.size >= 36 else { return nil }
        self = data.pointee.data.withMemoryRebound(to: Int32.self, capacity: 9) { Orientation(displayMatrix: $0) }
    }
}
