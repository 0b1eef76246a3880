/// Why a file, a picture or an encoder could not be used. Each case describes itself in one sentence for a person.
package enum MediaError: Error, Equatable {
    case fileNotFound(path: String)
    /// There is a file, but it is no video: empty, cut off before its index, or something else altogether.
    case notAVideo(path: String, reason: String)
    case noVideoStream(path: String)
    case unsupportedCodec(path: String, codec: String)
    /// A URL, a device's name or a container's name that cannot be meant.
    case badLocation(location: String, reason: String)
    /// A server or a device did not give us video.
    case cannotOpen(location: String, reason: String)
    /// Nothing came for so long.
    case timedOut(location: String, seconds: Double)
    /// Somebody called `cancel()`.
    case cancelled
    /// The codec is unknown, is none of video, or FFmpeg was built without it.
    case noDecoder(codec: String)
    case badParameters(codec: String, reason: String)
    /// No frame of the file could be decoded.
    case undecodable(path: String, reason: String)
    /// Reading failed in the middle.
    case readFailed(path: String, reason: String)
    case badPicture(PictureFormat, reason: String)
    /// Refused before any memory was taken.
    case tooManyPixels(width: Int, height: Int, limit: Int)
    /// A compressed payload that does not become the picture it should be.
    case badPayload(reason: String)
    case cannotEncode(reason: String)
    /// FFmpeg was built without it.
    case missingEncoder(name: String)
    case cannotWrite(path: String, reason: String)
    case conversionFailed(reason: String)

    package enum PictureFormat: String, Sendable {
        case jpeg = "JPEG"
        case png = "PNG"
    }
}

extension MediaError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .fileNotFound(let path): "there is no file \(path)"
        case .notAVideo(let path, let reason): "\(path) is not a video that can be read: \(reason)"
        case .noVideoStream(let path): "\(path) has no video in it"
        case .unsupportedCodec(let path, let codec): "\(path) is coded as \(codec), for which there is no decoder here"
        case .badLocation(let location, let reason): "\(location) cannot be read: \(reason)"
        case .cannotOpen(let location, let reason): "\(location) gives no video: \(reason)"
        case .timedOut(let location, let seconds): "nothing came from \(location) for \(seconds) seconds"
        case .cancelled: "reading was cancelled"
        case .noDecoder(let codec): "there is no decoder for \(codec) here"
        case .badParameters(let codec, let reason): "the decoder for \(codec) did not start: \(reason)"
        case .undecodable(let path, let reason): "not one frame of \(path) could be decoded: \(reason)"
        case .readFailed(let path, let reason): "reading \(path) failed: \(reason)"
        case .badPicture(let format, let reason): "bad \(format.rawValue) picture: \(reason)"
        case .tooManyPixels(let width, let height, let limit): "a picture of \(width)x\(height) is over the limit of \(limit) pixels"
        case .badPayload(let reason): "bad compressed payload: \(reason)"
        case .cannotEncode(let reason): "encoding failed: \(reason)"
        case .missingEncoder(let name): "FFmpeg has no encoder \(name) here"
        case .cannotWrite(let path, let reason): "cannot write \(path): \(reason)"
        case .conversionFailed(let reason): "converting pixels failed: \(reason)"
        }
    }
}
