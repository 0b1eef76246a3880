import CFFmpeg

/// PNG by FFmpeg: exact pixels, for pictures that must lose nothing.
package enum PNGCodec {
    package static func encode(_ frame: VideoFrame) throws(MediaError) -> [UInt8] {
        FFmpeg.quiet
        let picture = try PictureBox()
        let bgr = try PixelConverter().convert(frame, to: .bgr24)
        let encoder = try CodecBox(avcodec_find_encoder(AV_CODEC_ID_PNG), failure: { .cannotEncode(reason: $0) }) { context in
            context.pointee.width = Int32(frame.width)
            context.pointee.height = Int32(frame.height)
            context.pointee.pix_fmt = AV_PIX_FMT_RGB24
            context.pointee.time_base = AVRational(num: 1, den: 1)
            // the default of 100 is several times slower for a few per cent
            context.pointee.compression_level = 3
        }
        picture.frame.pointee.format = AV_PIX_FMT_RGB24.rawValue
        picture.frame.pointee.width = Int32(frame.width)
        picture.frame.pointee.height = Int32(frame.height)
        guard av_frame_get_buffer(picture.frame, 0) == 0, let target = picture.frame.pointee.data.0 else {
            throw .cannotEncode(reason: "out of memory")
        }
        let line = Int(picture.frame.pointee.linesize.0)
        bgr.withUnsafeBytes { pixels in
            for row in 0..<frame.height {
                for column in 0..<frame.width {
                    let from = 3 * (row * frame.width + column)
                    let to = target + row * line + 3 * column
                    (to[0], to[1], to[2]) = (pixels[from + 2], pixels[from + 1], pixels[from])
                }
            }
        }
        guard avcodec_send_frame(encoder.context, picture.frame) == 0, avcodec_send_frame(encoder.context, nil) == 0,
            avcodec_receive_packet(encoder.context, picture.packet) == 0
        else { throw .cannotEncode(reason: "PNG") }
        return Array(UnsafeBufferPointer(start: picture.packet.pointee.data, count: Int(picture.packet.pointee.size)))
    }

    /// Decodes a picture that anyone may have sent; its size is checked before memory is taken. Transparency is dropped.
    package static func decode(_ png: UnsafeRawBufferPointer, pixelLimit: Int = VideoFrame.defaultPixelLimit) throws(MediaError) -> VideoFrame {
        FFmpeg.quiet
        let size = try header(of: png)
        try checkSize(size.width, size.height, limit: pixelLimit)
        guard png.count <= Int(Int32.max) / 2 else { throw .badPicture(.png, reason: "it is too long") }
        let picture = try PictureBox()
        let decoder = try CodecBox(avcodec_find_decoder(AV_CODEC_ID_PNG), failure: { .badPicture(.png, reason: $0) }) { context in
            context.pointee.max_pixels = Int64(pixelLimit)
            context.pointee.err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE
            context.pointee.thread_count = 1
        }
        // the packet's bytes must be followed by some zeros, so they are copied
        guard av_new_packet(picture.packet, Int32(png.count)) == 0, let data = picture.packet.pointee.data, let source = png.baseAddress else {
            throw .badPicture(.png, reason: "out of memory")
        }
        data.update(from: source.assumingMemoryBound(to: UInt8.self), count: png.count)
        var code = avcodec_send_packet(decoder.context, picture.packet)
        if code == 0 { code = avcodec_send_packet(decoder.context, nil) }
        if code == 0 { code = avcodec_receive_frame(decoder.context, picture.frame) }
        guard code == 0, picture.frame.pointee.decode_error_flags == 0 else { throw .badPicture(.png, reason: FFmpeg.message(code)) }
        try checkSize(Int(picture.frame.pointee.width), Int(picture.frame.pointee.height), limit: pixelLimit)
        return try PixelConverter().convert(picture.frame.pointee, to: .bgr24, colour: .jpeg)
    }

    package static func decode(_ png: [UInt8], pixelLimit: Int = VideoFrame.defaultPixelLimit) throws(MediaError) -> VideoFrame {
        try png.span.bytes.withUnsafeBytes { (bytes) throws(MediaError) in try decode(bytes, pixelLimit: pixelLimit) }
    }

    /// Width and height of the IHDR chunk, which must be the first; and IEND, which must be the last, so that a cut-off picture is known.
    package static func header(of png: UnsafeRawBufferPointer) throws(MediaError) -> (width: Int, height: Int) {
        let signature: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
        guard png.count >= 45, png.prefix(8).elementsEqual(signature), png[12..<16].elementsEqual("IHDR".utf8) else {
            throw .badPicture(.png, reason: "it does not begin like one")
        }
        guard png.suffix(8).prefix(4).elementsEqual("IEND".utf8) else { throw .badPicture(.png, reason: "its end is missing") }
        func number(_ offset: Int) -> Int { png[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) } }
        return (number(16), number(20))
    }
}

/// An AVFrame and an AVPacket with a scope.
final class PictureBox {
    let frame: UnsafeMutablePointer<AVFrame>
    let packet: UnsafeMutablePointer<AVPacket>

    init() throws(MediaError) {
        guard let frame = av_frame_alloc(), let packet = av_packet_alloc() else { throw .conversionFailed(reason: "out of memory") }
        (self.frame, self.packet) = (frame, packet)
    }

    deinit {
        var (frame, packet): (UnsafeMutablePointer<AVFrame>?, UnsafeMutablePointer<AVPacket>?) = (frame, packet)
        av_frame_free(&frame)
        av_packet_free(&packet)
    }
}

/// An AVCodecContext with a scope, opened after `configure`.
final class CodecBox {
    let context: UnsafeMutablePointer<AVCodecContext>

    init(
        _ codec: UnsafePointer<AVCodec>?, failure: (String) -> MediaError, options: [(String, String)] = [],
        configure: (UnsafeMutablePointer<AVCodecContext>) -> Void
    ) throws(MediaError) {
        guard let codec else { throw failure("FFmpeg was built without the codec") }
        guard let context = avcodec_alloc_context3(codec) else { throw failure("out of memory") }
        self.context = context
        configure(context)
        for (key, value) in options { av_opt_set(context.pointee.priv_data, key, value, 0) }
        let code = avcodec_open2(context, codec, nil)
        guard code == 0 else { throw failure(FFmpeg.message(code)) }
    }

    deinit {
        var context: UnsafeMutablePointer<AVCodecContext>? = context
        avcodec_free_context(&context)
    }
}
