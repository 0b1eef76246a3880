import CFFmpeg
import Glibc

/// How FFmpeg is asked for a location: nothing but what was asked for can be reached.
struct Source {
    var url: String?
    var format: UnsafePointer<AVInputFormat>?
    var options: [(String, String)] = []
    var flags: Int32 = 0
    var descriptor: Int32?
    var ownsDescriptor = false
    /// Packets are looked at before the first is handed out, to learn what the header did not say.
    var isProbed = true

    init(_ location: MediaLocation) throws(MediaError) {
        switch location {
        case .file(let path): try openFile(path)
        case .url(let text): try openURL(text, location)
        case .descriptor(let number, let name):
            guard fcntl(number, F_GETFD) >= 0 else { throw .badLocation(location: location.description, reason: "it is not open") }
            descriptor = number
            format = try name.map { name throws(MediaError) in try Self.container(named: name, location) }
            options = Self.containersWithoutLinks
        case .device(let device): try openDevice(device, location)
        }
    }

    private mutating func openFile(_ path: String) throws(MediaError) {
        var status = stat()
        guard stat(path, &status) == 0 else { throw .fileNotFound(path: path) }
        options = Self.containersWithoutLinks
        switch status.st_mode & S_IFMT {
        case S_IFDIR: throw .notAVideo(path: path, reason: "it is a directory")
        case S_IFIFO:
            // reading must end when cancelled, which FFmpeg's own reading of pipes does not
            let number = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
            guard number >= 0 else { throw .notAVideo(path: path, reason: FFmpeg.message(everyframe_averror(errno))) }
            (descriptor, ownsDescriptor) = (number, true)
        default:
            // "file:" keeps a name with a colon from being taken for a protocol; the list keeps the network out of reach
            url = "file:" + path
            options += [("protocol_whitelist", "file"), ("pattern_type", "none")]
        }
    }

    private mutating func openURL(_ text: String, _ location: MediaLocation) throws(MediaError) {
        let scheme = text.prefix { $0 != ":" }.lowercased()
        guard scheme == "rtsp" || scheme == "rtsps", text.hasPrefix(scheme + "://"), text.utf8.count <= 1000 else {
            throw .badLocation(location: location.description, reason: "only rtsp:// and rtsps:// are known, in small letters")
        }
        // FFmpeg takes options for itself from the query: "?tcp", "?udp", "?listen", …
        let query = text.drop { $0 != "?" }.dropFirst().split(separator: "&")
        guard !query.contains(where: { ["listen", "udp", "multicast", "http", "https", "satip_raw"].contains($0.prefix { $0 != "=" }.lowercased()) }) else {
            throw .badLocation(location: location.description, reason: "its query asks for another transport than TCP")
        }
        url = text
        format = av_find_input_format("rtsp")
        guard format != nil else { throw .cannotOpen(location: location.description, reason: "FFmpeg was built without RTSP") }
        options = [
            ("protocol_whitelist", scheme == "rtsp" ? "tcp" : "tcp,tls"), ("rtsp_transport", "tcp"), ("allowed_media_types", "video"),
            // the interruption ends a silent connection sooner; this one ends a blocked write
            ("timeout", "30000000"),
            // three pictures are enough to guess a rate that nothing depends on
            ("fpsprobesize", "3"),
        ]
    }

    private mutating func openDevice(_ device: MediaLocation.Device, _ location: MediaLocation) throws(MediaError) {
        guard access(device.path, F_OK) == 0 else { throw .fileNotFound(path: device.path) }
        guard DeviceLibrary.isLoaded else {
            throw .cannotOpen(location: location.description, reason: "\(DeviceLibrary.name) is not installed, without which FFmpeg knows no devices")
        }
        format = av_find_input_format("v4l2")
        guard format != nil else { throw .cannotOpen(location: location.description, reason: "FFmpeg was built without Video4Linux") }
        url = device.path
        if let name = device.format { options.append(("input_format", name)) }
        if let width = device.width, let height = device.height { options.append(("video_size", "\(width)x\(height)")) }
        if let rate = device.frameRate, rate > 0, rate.isFinite { options.append(("framerate", "\(rate)")) }
        // a read that would wait comes back instead, so that it can be cancelled
        flags = AVFMT_FLAG_NONBLOCK
        // the driver said it all
        isProbed = false
    }

    static func knows(container name: String) -> Bool { av_find_input_format(name).map { !names(of: $0).contains(where: linking.contains) } ?? false }

    private static func container(named name: String, _ location: MediaLocation) throws(MediaError) -> UnsafePointer<AVInputFormat> {
        guard let format = av_find_input_format(name), !names(of: format).contains(where: linking.contains) else {
            throw .badLocation(location: location.description, reason: "\(name) is no container that FFmpeg knows here")
        }
        return format
    }

    /// Containers that send FFmpeg to other files or to the network.
    private static let linking = [
        "hls", "applehttp", "dash", "concat", "imf", "sdp", "rtsp", "rtp", "sap", "tty", "v4l2", "video4linux2", "lavfi", "fbdev", "x11grab", "kmsgrab",
    ]
    private static let containersWithoutLinks: [(String, String)] = {
        var names: [String] = []
        var state: UnsafeMutableRawPointer?
        while let format = av_demuxer_iterate(&state) {
            if !Self.names(of: format).contains(where: linking.contains) { names += Self.names(of: format) }
        }
        return [("format_whitelist", names.joined(separator: ","))]
    }()

    private static func names(of format: UnsafePointer<AVInputFormat>) -> [String] {
        String(cString: format.pointee.name).split(separator: ",").map(String.init)
    }
}

/// libavdevice is slow to load, for the libraries that it brings along, so only those who ask for a device have it.
private enum DeviceLibrary {
    /// Its major version goes with that of libavformat.
    static let name = "libavdevice.so.\(LIBAVFORMAT_VERSION_MAJOR)"

    static let isLoaded: Bool = {
        guard let library = dlopen(name, RTLD_NOW | RTLD_LOCAL), let symbol = dlsym(library, "avdevice_register_all") else { return false }
        unsafeBitCast(symbol, to: (@convention(c) () -> Void).self)()
        return true
    }()
}

/// Reads a pipe or a socket for FFmpeg so that a wait can be cancelled.
final class DescriptorInput {
    private(set) var context: UnsafeMutablePointer<AVIOContext>?
    private let descriptor: Int32
    private let owned: Bool
    private let interruption: Interruption
    private static let bufferSize: Int32 = 65_536

    init?(_ descriptor: Int32, owned: Bool, _ interruption: Interruption) {
        self.descriptor = descriptor
        self.owned = owned
        self.interruption = interruption
        guard let buffer = av_malloc(Int(Self.bufferSize)) else { return nil }
        context = avio_alloc_context(
            buffer.assumingMemoryBound(to: UInt8.self), Self.bufferSize, 0, Unmanaged.passUnretained(self).toOpaque(),
            { input, target, count in
                guard let input, let target else { return everyframe_averror(EINVAL) }
                return Unmanaged<DescriptorInput>.fromOpaque(input).takeUnretainedValue().read(into: target, count: Int(count))
            }, nil, nil)
        guard context != nil else {
            av_free(buffer)
            return nil
        }
    }

    deinit {
        // FFmpeg leaves what it did not make to its maker; the buffer may have been exchanged
        av_free(context?.pointee.buffer)
        avio_context_free(&context)
        if owned { close(descriptor) }
    }

    private func read(into target: UnsafeMutablePointer<UInt8>, count: Int) -> Int32 {
        while !interruption.isDue {
            // a named pipe that nobody writes to yet is silent, but would read as ended
            guard interruption.cancellation.wait(for: descriptor, seconds: interruption.left), !interruption.isDue else { continue }
            let got = Glibc.read(descriptor, target, count)
            if got > 0 { return Int32(got) }
            if got == 0 { return FFmpeg.endOfFile }
            guard errno == EAGAIN || errno == EINTR else { return everyframe_averror(errno) }
        }
        return everyframe_averror_exit()
    }
}
