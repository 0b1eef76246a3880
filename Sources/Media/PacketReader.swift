import CFFmpeg

/// Reads the access units of a file's, a stream's or a device's video, as they are, in the order of decoding. One thread at a time.
///
///     let reader = try PacketReader(.file("cars.mp4"))
///     while let unit = try reader.next() { … }
///
/// Together with `AccessUnitDecoder` this gives the pictures that any other program gets from the source.
package final class PacketReader {
    package struct Options: Sendable {
        /// Seconds from the source's beginning: the first picture is the first one at this time or later. nil: all.
        package var start: Double?
        /// Seconds from the source's beginning: pictures at this time or later are not shown. nil: all.
        package var end: Double?
        package var pixelLimit: Int
        /// Longest silence in seconds. nil: 10 for streams and devices, any for files and pipes.
        package var readTimeout: Double?
        /// Ends a wait, also that of `init`.
        package var cancellation: Cancellation

        package init(
            start: Double? = nil, end: Double? = nil, pixelLimit: Int = VideoFrame.defaultPixelLimit, readTimeout: Double? = nil,
            cancellation: Cancellation = Cancellation()
        ) {
            self.start = start
            self.end = end
            self.pixelLimit = pixelLimit
            self.readTimeout = readTimeout
            self.cancellation = cancellation
        }
    }

    package struct Damage: Sendable, Equatable {
        /// Units that the source itself says are damaged.
        package var corruptUnits = 0
        /// The source stopped before its end.
        package var readError: String?
        package var isNone: Bool { self == Damage() }
    }

    package let location: MediaLocation
    package let info: VideoInfo
    package let facts: StreamFacts
    /// Pictures come when they come: the source does not wait for a slow reader, and what is not read is lost or late.
    package let isLive: Bool
    /// Of the next unit; `next()` may change them.
    package private(set) var parameters: CodecParameters
    package private(set) var damage = Damage()
    /// Ends a blocked `next()` from another thread; may be handed to it.
    package let cancellation: Cancellation

    private let interruption: Interruption
    private let range: ShownRange
    private let packet: PacketBox
    private var container: Container
    private var configuration = 1
    private var hasReadAny = false
    /// Where a stream without any times has come to: its units follow each other.
    private var untimed: Int64 = 0
    private var codecID: AVCodecID
    private var waiting: [AccessUnit] = []
    private var hasEnded = false

    package init(_ location: MediaLocation, options: Options = Options()) throws(MediaError) {
        FFmpeg.quiet
        self.location = location
        cancellation = options.cancellation
        isLive =
            switch location {
            case .file: false
            case .url, .device: true
            // whoever writes into a pipe waits when it is full
            case .descriptor: false
            }
        interruption = Interruption(cancellation, patience: options.readTimeout ?? (isLive ? 10 : nil))
        packet = try PacketBox()
        container = try Container(location, interruption)
        info = container.describe()
        // some files tell their size only in their frames
        if info.width > 0, info.height > 0 { try checkSize(info.width, info.height, limit: options.pixelLimit) }
        facts = StreamFacts(container)
        parameters = CodecParameters(container.stream.pointee.codecpar.pointee)
        codecID = container.stream.pointee.codecpar.pointee.codec_id
        range = ShownRange(options, info)
        if let first = range.first, !isLive { try seek(to: first) }
    }

    /// Not the whole source was asked for: it may be that there is nothing.
    package var isPart: Bool { range.isPart }

    /// The next access unit; nil after the last.
    package func next() throws(MediaError) -> AccessUnit? {
        guard let unit = try waiting.isEmpty ? read() : waiting.removeFirst() else { return nil }
        if range.isOver(unit.facts, reorders: CodecRules.reorders(codecID), otherwise: untimed) {
            hasEnded = true
            waiting = []
            return nil
        }
        return unit
    }

    /// Makes a blocked `next()` throw `cancelled`. From other threads by way of `cancellation`.
    package func cancel() { cancellation.cancel() }

    private func read() throws(MediaError) -> AccessUnit? {
        guard !hasEnded else { return nil }
        let code = container.readPacket(into: packet.packet)
        guard code == 0 else {
            hasEnded = true
            if let error = interruption.error(at: location) { throw error }
            if code != FFmpeg.endOfFile { damage.readError = FFmpeg.message(code) }
            return nil
        }
        defer { av_packet_unref(packet.packet) }
        noteChanges()
        let content = packet.packet.pointee
        var facts = UnitFacts(content)
        if facts.isCorrupt { damage.corruptUnits += 1 }
        if facts.duration == 0, facts.pts == nil { facts.duration = usualDuration }
        if range.isCut(facts, otherwise: untimed) { facts.isDiscard = true }
        if facts.pts == nil, facts.dts == nil { untimed = untimed &+ facts.duration }
        return AccessUnit(
            facts: facts, bytes: Array(UnsafeBufferPointer(start: content.data, count: Int(max(0, content.size)))), parameters: parameters,
            configuration: configuration)
    }

    /// What comes with the packet and is for the decoder.
    private func noteChanges() {
        var changed = parameters
        let current = container.stream.pointee.codecpar.pointee
        if current.codec_id != codecID {
            codecID = current.codec_id
            changed = CodecParameters(current)
        }
        if let data = packet.sideData(AV_PKT_DATA_NEW_EXTRADATA), !data.isEmpty { changed.extradata = data }
        if let data = packet.sideData(AV_PKT_DATA_PALETTE), data.count == Int(AVPALETTE_SIZE) { changed.palette = data }
        // the first unit only completes what the header began
        if hasReadAny, changed != parameters { configuration += 1 }
        hasReadAny = true
        parameters = changed
    }

    /// For streams without times.
    private var usualDuration: Int64 { max(1, Int64((1 / (info.averageFrameRate ?? 25)) / max(info.timeBase.seconds, 1e-9))) }

    /// Puts a keyframe from which the picture at `first` can be decoded, or what is before it, into `waiting`.
    private func seek(to first: Int64) throws(MediaError) {
        guard container.isSeekable else { return }
        var target = first
        var step = max(1, Int64(1 / max(info.timeBase.seconds, 1e-9)))
        let beginning = Int64(info.startSeconds / max(info.timeBase.seconds, 1e-9))
        while target > beginning, container.seek(to: target) >= 0 {
            let reached = try readToKeyframe(notAfter: first)
            if !waiting.isEmpty { return }
            target = min(target, reached ?? target) &- step
            step = step &* 2
        }
        // no index, or nothing to begin with before: from the very beginning
        container = try Container(location, interruption)
        parameters = CodecParameters(container.stream.pointee.codecpar.pointee)
        (configuration, hasReadAny, damage, hasEnded, untimed) = (1, false, Damage(), false, 0)
    }

    /// Fills `waiting` if the next keyframe is shown at `first` or before and decodes by itself; else says where it ended up.
    private func readToKeyframe(notAfter first: Int64) throws(MediaError) -> Int64? {
        hasEnded = false
        while var unit = try read() {
            // what was passed over is nobody's
            (configuration, unit.configuration) = (1, 1)
            guard let time = unit.facts.pts ?? unit.facts.dts else { return nil }
            if unit.facts.isKeyframe {
                if time <= first, unit.isCleanStart { waiting = [unit] }
                return time
            }
            if (unit.facts.dts ?? time) > first { return time }
        }
        return nil
    }
}

/// What `start` and `end` leave, in the stream's ticks.
private struct ShownRange {
    let first: Int64?
    let end: Int64?
    var isPart: Bool { first != nil || end != nil }

    init(_ options: PacketReader.Options, _ info: VideoInfo) {
        func ticks(_ seconds: Double?) -> Int64? {
            guard let seconds, seconds.isFinite, info.timeBase.seconds > 0 else { return nil }
            let exact = (seconds + info.startSeconds) / info.timeBase.seconds
            // 0.04 s shall be the picture at 0.04 s, however the division comes out
            let value = abs(exact - exact.rounded()) < 1e-3 ? exact.rounded() : exact.rounded(.up)
            return abs(value) < 9e18 ? Int64(value) : nil
        }
        first = options.start.flatMap { $0 > 0 ? ticks($0) : nil }
        end = ticks(options.end)
    }

    /// Where a unit has no time of presentation, that of decoding must do: then the edges are off by as much as pictures are reordered.
    func isCut(_ unit: UnitFacts, otherwise untimed: Int64) -> Bool {
        let time = unit.pts ?? unit.dts ?? untimed
        return first.map { time < $0 } ?? false || end.map { time >= $0 } ?? false
    }

    /// Times of decoding only grow, and nothing is shown before it is decoded.
    func isOver(_ unit: UnitFacts, reorders: Bool, otherwise untimed: Int64) -> Bool {
        guard let end else { return false }
        if let dts = unit.dts { return dts >= end }
        if let pts = unit.pts { return !reorders && pts >= end }
        // the largest picture buffer is 16
        return untimed >= end &+ 17 &* unit.duration
    }
}
