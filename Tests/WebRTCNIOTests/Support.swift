import Glibc
import NIOCore
import NIOPosix
import Testing
import WebRTCNIO
import Wire

/// Two connected peers in this process, over real sockets on loopback.
struct ConnectedPair {
    var offerer: PeerConnection
    var answerer: PeerConnection
    /// The offerer's and the answerer's end of one channel.
    var left: DataChannel
    var right: DataChannel

    static func loopback() -> PeerConnection.Configuration {
        var configuration = PeerConnection.Configuration()
        configuration.host = "127.0.0.1"
        return configuration
    }

    static func make(
        label: String = "test", options: DataChannel.Options = .init(), configuration: PeerConnection.Configuration = loopback(),
        answererEndpoint: UDPEndpoint? = nil, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
    ) async throws -> ConnectedPair {
        let offerer = try await PeerConnection(configuration: configuration, group: group)
        let answerer = try await PeerConnection(configuration: configuration, endpoint: answererEndpoint, group: group)
        let left = try await offerer.createDataChannel(label, options)
        try await signal(offerer, answerer)
        let right = try await firstChannel(of: answerer)
        try await within(.seconds(120)) { try await left.waitUntilOpen() }
        return ConnectedPair(offerer: offerer, answerer: answerer, left: left, right: right)
    }

    static func signal(_ offerer: PeerConnection, _ answerer: PeerConnection) async throws {
        try await offerer.setLocalDescription()
        try await answerer.setRemoteDescription(try await offerer.gatheringComplete())
        try await answerer.setLocalDescription()
        try await offerer.setRemoteDescription(try await answerer.gatheringComplete())
    }

    static func firstChannel(of connection: PeerConnection) async throws -> DataChannel {
        try await within(.seconds(120)) {
            for await event in connection.events {
                if case .dataChannel(let channel) = event { return channel }
            }
            throw Ended()
        }
    }

    func close() async {
        await offerer.close()
        await answerer.close()
    }
}

struct Ended: Error {}
struct TookTooLong: Error {}

/// Every wait of a test is bounded; the bound is far beyond what any machine needs.
func within<Result: Sendable>(_ bound: Duration, _ body: @escaping @Sendable () async throws -> Result) async throws -> Result {
    try await withThrowingTaskGroup(of: Result.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: bound)
            throw TookTooLong()
        }
        defer { group.cancelAll() }
        guard let result = try await group.next() else { throw Ended() }
        return result
    }
}

/// Bytes that are told apart by seed and by place: random blocks, each with its number in front.
func payload(_ size: Int, seed: UInt64) -> ByteBuffer {
    var generator = SplitMix64(seed: seed)
    var block = ByteBuffer()
    for _ in 0..<64 { block.writeInteger(generator.next()) }
    var buffer = ByteBuffer()
    buffer.reserveCapacity(size + block.readableBytes + 8)
    while buffer.readableBytes < size {
        buffer.writeInteger(buffer.readableBytes ^ Int(truncatingIfNeeded: seed))
        buffer.writeImmutableBuffer(block)
    }
    buffer.moveWriterIndex(to: size)
    return buffer
}

/// Open descriptors of this process.
func openDescriptors() -> Int {
    guard let directory = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count
}

/// Resident memory of this process in bytes.
func residentMemory() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 128)
    guard fgets(&line, CInt(line.count), file) != nil else { return 0 }
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let fields = text.split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * 4096
}

/// The next message is this one.
func expect(
    _ message: DataChannel.Message, from messages: inout DataChannel.Messages.AsyncIterator, sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let next = try await messages.next()
    #expect(next == message, sourceLocation: sourceLocation)
}
