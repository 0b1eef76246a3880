import Foundation
import FrameMedia
import FrameTransport
import Media
import NIOCore
import NIOPosix

/// The pictures of a folder, JPEG and PNG, in the order of their names (2 before 10). They go as they are stored; the server turns those
/// that a camera held sideways.
public actor ImageFolderSource: FrameSource {
    private let folder: String
    private let names: [String]
    private var next = 0
    private var unreadable: [String] = []

    /// - Throws: `sourceFailed` where there is no such folder, or no picture in it.
    public init(path: String) throws(StreamError) {
        folder = path
        let all: [String]
        do {
            all = try FileManager.default.contentsOfDirectory(atPath: path)
        } catch {
            throw StreamError(.sourceFailed, "the folder \(path) cannot be read")
        }
        names = all.filter { ["jpg", "jpeg", "png"].contains(($0 as NSString).pathExtension.lowercased()) && !$0.hasPrefix(".") }
            .sorted { $0.compare($1, options: [.numeric, .caseInsensitive]) == .orderedAscending }
        guard !names.isEmpty else { throw StreamError(.sourceFailed, "there is no JPEG or PNG picture in the folder \(path)") }
    }

    public var expectedFrameCount: Int? { names.count }

    public var damage: String? {
        guard let first = unreadable.first else { return nil }
        return unreadable.count == 1 ? "\(first) is no picture" : "\(unreadable.count) files are no pictures, \(first) among them"
    }

    /// The next picture. A file that is none is left out and told in `damage`.
    public func next() async throws -> SourceFrame? {
        while next < names.count {
            let name = names[next]
            next += 1
            let path = folder + "/" + name
            let frame = try await NIOThreadPool.singleton.runIfActive { Self.read(path) }
            if let frame { return frame }
            unreadable.append(name)
        }
        return nil
    }

    private static func read(_ path: String) -> SourceFrame? {
        guard let data = FileManager.default.contents(atPath: path) else { return nil }
        let bytes = [UInt8](data)
        let isPNG = bytes.starts(with: [0x89, 0x50, 0x4E, 0x47])
        do throws(MediaError) {
            let (width, height) = try bytes.span.bytes.withUnsafeBytes { (bytes) throws(MediaError) in
                if isPNG {
                    let header = try PNGCodec.header(of: bytes)
                    return (header.width, header.height)
                }
                let header = try JPEGCodec().header(of: bytes)
                return (header.width, header.height)
            }
            var frame = SourceFrame(encoded: ByteBuffer(bytes: bytes), as: isPNG ? .png : .jpeg, width: width, height: height)
            if !isPNG, let turned = JPEGOrientation.read(bytes) { frame.orientation = FrameTransport.Orientation(turned) }
            return frame
        } catch {
            return nil
        }
    }
}
