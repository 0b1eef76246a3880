/// Where video comes from.
package enum MediaLocation: Hashable, Sendable {
    case file(String)
    /// `rtsp://` or `rtsps://`, media interleaved in the one TCP connection.
    case url(String)
    /// An open descriptor (0: standard input), read to its end and left open. `format` is FFmpeg's name of the container (`mjpeg`,
    /// `yuv4mpegpipe`, `mpegts`, …); nil: it is told from the first bytes.
    case descriptor(Int32, format: String?)
    case device(Device)

    package static func standardInput(format: String? = nil) -> MediaLocation { .descriptor(0, format: format) }

    /// A camera of Video4Linux.
    package struct Device: Hashable, Sendable {
        /// `/dev/video0`
        package var path: String
        /// `mjpeg`, `h264`, `yuyv422`, …; nil: the driver's first choice.
        package var format: String?
        /// Pixels; nil: the driver's choice.
        package var width, height: Int?
        /// Frames per second; nil: the driver's choice.
        package var frameRate: Double?

        package init(path: String, format: String? = nil, width: Int? = nil, height: Int? = nil, frameRate: Double? = nil) {
            self.path = path
            self.format = format
            self.width = width
            self.height = height
            self.frameRate = frameRate
        }
    }
}

extension MediaLocation {
    /// Whether `format` of a descriptor may be this.
    package static func knows(container name: String) -> Bool { Source.knows(container: name) }
}

extension MediaLocation: CustomStringConvertible {
    /// For people and logs: user names and passwords are left out.
    package var description: String {
        switch self {
        case .file(let path): path
        case .url(let url): Self.withoutSecrets(url)
        case .descriptor(0, _): "standard input"
        case .descriptor(let number, _): "descriptor \(number)"
        case .device(let device): device.path
        }
    }

    private static func withoutSecrets(_ url: String) -> String {
        guard let scheme = url.firstRange(of: "://") else { return url }
        // cameras also take passwords in the query; and one in front may, wrongly, hold a "/" or an "@"
        let rest = url[scheme.upperBound...].prefix { $0 != "?" }
        return String(url[..<scheme.upperBound] + (rest.lastIndex(of: "@").map { rest[rest.index(after: $0)...] } ?? rest))
    }
}
