import CFFmpeg

/// What has to be known of an H.264 access unit in byte-stream format to put it into a container.
final class AccessUnitParser {
    struct Unit {
        var isKeyFrame = false
        /// Parameter sets with their start codes; empty unless the unit has both kinds.
        var parameterSets: [UInt8] = []
        /// Of the picture, cut to what is shown; 0 where no parameter set was seen yet.
        var width = 0
        var height = 0
    }

    private let parser: UnsafeMutablePointer<AVCodecParserContext>
    private let context: UnsafeMutablePointer<AVCodecContext>

    init() throws(MediaError) {
        FFmpeg.quiet
        guard let decoder = avcodec_find_decoder(AV_CODEC_ID_H264), let context = avcodec_alloc_context3(decoder) else {
            throw .conversionFailed(reason: "FFmpeg knows no H.264")
        }
        guard let parser = av_parser_init(Int32(AV_CODEC_ID_H264.rawValue)) else {
            var context: UnsafeMutablePointer<AVCodecContext>? = context
            avcodec_free_context(&context)
            throw .conversionFailed(reason: "FFmpeg knows no H.264")
        }
        (self.parser, self.context) = (parser, context)
        // units come whole
        parser.pointee.flags |= PARSER_FLAG_COMPLETE_FRAMES
    }

    deinit {
        av_parser_close(parser)
        var context: UnsafeMutablePointer<AVCodecContext>? = context
        avcodec_free_context(&context)
    }

    /// - Parameter packet: one unit; its memory is followed by zeros, as FFmpeg's packets are. nil where there is no picture in it.
    func parse(_ packet: UnsafeMutablePointer<AVPacket>) -> Unit? {
        guard let data = packet.pointee.data, packet.pointee.size > 0 else { return nil }
        var unit = Unit()
        var kinds: Set<UInt8> = []
        let bytes = UnsafeRawBufferPointer(start: data, count: Int(packet.pointee.size))
        for range in networkUnits(of: bytes) {
            // ITU-T H.264 §7.3.1: the low five bits of a NAL unit's first byte are its type
            let kind = bytes[range.lowerBound] & 0x1F
            kinds.insert(kind)
            if kind == NetworkUnit.sequenceParameters || kind == NetworkUnit.pictureParameters { unit.parameterSets += [0, 0, 0, 1] + bytes[range] }
        }
        guard kinds.contains(NetworkUnit.slice) || kinds.contains(NetworkUnit.keySlice) else { return nil }
        unit.isKeyFrame = kinds.contains(NetworkUnit.keySlice)
        if !kinds.isSuperset(of: [NetworkUnit.sequenceParameters, NetworkUnit.pictureParameters]) { unit.parameterSets = [] }

        var output: UnsafeMutablePointer<UInt8>?
        var outputCount: Int32 = 0
        _ = av_parser_parse2(parser, context, &output, &outputCount, data, packet.pointee.size, FFmpeg.noPTS, FFmpeg.noPTS, -1)
        (unit.width, unit.height) = (Int(parser.pointee.width), Int(parser.pointee.height))
        return unit
    }

    /// Profile and level, as the last parameter sets said.
    func describe(_ parameters: UnsafeMutablePointer<AVCodecParameters>) {
        parameters.pointee.profile = context.pointee.profile
        parameters.pointee.level = context.pointee.level
        parameters.pointee.format = parser.pointee.format
    }
}

private enum NetworkUnit {
    static let slice: UInt8 = 1
    static let keySlice: UInt8 = 5
    static let sequenceParameters: UInt8 = 7
    static let pictureParameters: UInt8 = 8
}

/// Where the NAL units lie, without start codes and without zeros behind them (ITU-T H.264 §B.1). None is empty.
func networkUnits(of bytes: UnsafeRawBufferPointer) -> [Range<Int>] {
    var units: [Range<Int>] = []
    var start: Int?
    func end(at index: Int) {
        guard let start else { return }
        var end = index
        while end > start, bytes[end - 1] == 0 { end -= 1 }
        if end > start { units.append(start..<end) }
    }
    var index = 0
    while index + 3 <= bytes.count {
        if bytes[index + 2] > 1 {
            index += 3
        } else if bytes[index] == 0, bytes[index + 1] == 0, bytes[index + 2] == 1 {
            end(at: index)
            start = index + 3
            index += 3
        } else {
            index += 1
        }
    }
    end(at: bytes.count)
    return units
}
