import FrameTransport
import Media
import NIOCore
import NIOPosix

/// A frame that is ready to be sent.
struct EncodedFrame: Sendable {
    var payload: ByteBuffer
    var encoding: FrameEncoding
    var source: SourceFrame
}

/// Reads a source and encodes its frames, a few ahead of the sender and several at once, in order.
actor FrameFeed {
    private let source: any FrameSource
    private let encoding: StreamConfiguration.Encoding
    private let limit: Int
    private let line: Handoff<Task<EncodedFrame, any Error>, StreamError>
    /// Ends with the source, or when `stop()` cancels it.
    private var reading: Task<Void, Never>?
    private(set) var framesDecoded = 0

    init(source: any FrameSource, encoding: StreamConfiguration.Encoding, limit: Int?, ahead: Int = 4) {
        self.source = source
        self.encoding = encoding
        self.limit = limit ?? .max
        line = Handoff(capacity: ahead)
    }

    func start() {
        reading = Task { await read() }
    }

    func next() async throws(StreamError) -> EncodedFrame? {
        guard let task = try await line.next() else { return nil }
        do {
            return try await task.value
        } catch {
            throw error as? StreamError ?? StreamError(.sourceFailed, "\(error)")
        }
    }

    func stop() async {
        reading?.cancel()
        for task in await line.abandon() { task.cancel() }
    }

    private func read() async {
        do {
            while framesDecoded < limit, !Task.isCancelled, let frame = try await source.next() {
                framesDecoded += 1
                let encoding = encoding
                let task = Task { try await Self.encode(frame, as: encoding) }
                guard await line.put(task) else {
                    task.cancel()
                    return
                }
            }
            await line.finish()
        } catch {
            await line.finish(.failure(error as? StreamError ?? StreamError(.sourceFailed, "\(error)")))
        }
    }

    private static func encode(_ frame: SourceFrame, as encoding: StreamConfiguration.Encoding) async throws -> EncodedFrame {
        switch frame.content {
        case .encoded(let payload, let encoding): EncodedFrame(payload: payload, encoding: encoding, source: frame)
        case .pixels(let pixels):
            try await encoders.runIfActive {
                let bytes: ByteBuffer
                switch encoding {
                case .jpeg(let quality): bytes = try codecs.withCodec { try $0.encode(pixels, quality: quality) { ByteBuffer(bytes: $0) } }
                case .png: bytes = ByteBuffer(bytes: try PNGCodec.encode(pixels))
                }
                return EncodedFrame(payload: bytes, encoding: encoding.wireEncoding, source: frame)
            }
        }
    }

    private static let codecs = JPEGCodecPool()

    /// Encoding never runs where sockets or other tasks need the thread.
    private static let encoders: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: max(1, System.coreCount))
        pool.start()
        return pool
    }()
}
