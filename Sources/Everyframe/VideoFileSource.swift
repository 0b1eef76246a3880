import Media
import NIOCore
import NIOPosix

/// The frames of a video file, upright, in order of presentation. Decoding happens on a thread of its own.
public actor VideoFileSource: FrameSource {
    private let reader: VideoFileReader
    private let thread: any EventLoop
    public nonisolated let declaredFPS: Double?
    public nonisolated let expectedFrameCount: Int?

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.executor.asUnownedSerialExecutor() }

    /// Opens the file; what is wrong with it is thrown here.
    public init(path: String) async throws(StreamError) {
        // one loop of the shared group's would be blocked by decoding: this one does nothing else
        thread = Self.threads.next()
        do {
            reader = try VideoFileReader(path: path)
        } catch {
            throw StreamError(.sourceFailed, "\(error)")
        }
        declaredFPS = reader.info.averageFrameRate
        expectedFrameCount = reader.info.estimatedFrameCount
    }

    public func next() throws -> SourceFrame? {
        do {
            return try reader.next().map { SourceFrame($0) }
        } catch {
            throw StreamError(.sourceFailed, "\(error)")
        }
    }

    public var damage: String? {
        let damage = reader.damage
        guard !damage.isNone else { return nil }
        var words: [String] = []
        if damage.refusedPackets > 0 { words.append("\(damage.refusedPackets) packets could not be decoded") }
        if damage.concealedFrames > 0 { words.append("\(damage.concealedFrames) frames are damaged") }
        if let error = damage.readError { words.append("the file ends early: \(error)") }
        return words.joined(separator: "; ")
    }

    /// For decoding only; never for sockets.
    static let threads = MultiThreadedEventLoopGroup(numberOfThreads: max(1, min(4, System.coreCount)))
}
