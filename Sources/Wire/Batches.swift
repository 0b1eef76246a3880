public import NIOCore

/// Packets of one layer, back to back in one buffer: what an engine writes and the layer below reads.
///
/// Kept and re-used by its owner, so that steady state allocates nothing.
public struct PacketBatch: Sendable {
    /// The bytes of all packets, one after the other, from reader index 0.
    public var bytes: ByteBuffer
    /// Where each packet ends, as offsets into `bytes`.
    public private(set) var ends: [Int]

    public init(capacity: Int = 0) {
        bytes = ByteBuffer()
        bytes.reserveCapacity(capacity)
        ends = []
    }

    public var isEmpty: Bool { ends.isEmpty }
    public var count: Int { ends.count }

    /// The byte range of a packet in `bytes`.
    @inlinable
    public func range(_ index: Int) -> Range<Int> { (index == 0 ? 0 : ends[index - 1])..<ends[index] }

    /// Closes the packet that was just written to `bytes`. Nothing written means no packet.
    public mutating func endPacket() {
        if bytes.writerIndex > (ends.last ?? 0) { ends.append(bytes.writerIndex) }
    }

    public mutating func append(_ packet: ByteBuffer) {
        bytes.writeImmutableBuffer(packet)
        endPacket()
    }

    /// A packet as a slice that shares storage.
    public func packet(_ index: Int) -> ByteBuffer? {
        let range = range(index)
        return bytes.getSlice(at: range.lowerBound, length: range.count)
    }

    public mutating func removeAll() {
        bytes.clear()
        ends.removeAll(keepingCapacity: true)
    }
}

/// The two ends of a datagram's way: the local socket's own address and the peer's.
@frozen
public struct NetworkPath: Hashable, Sendable, BitwiseCopyable {
    public var local: TransportAddress
    public var remote: TransportAddress

    @inlinable
    public init(local: TransportAddress, remote: TransportAddress) {
        self.local = local
        self.remote = remote
    }
}

/// Datagrams to send, each with its path. The driver joins neighbours on one path for segmentation offload.
public struct DatagramBatch: Sendable {
    public var packets: PacketBatch
    /// One per packet.
    public private(set) var paths: [NetworkPath]

    public init() {
        packets = PacketBatch()
        paths = []
    }

    public var isEmpty: Bool { packets.isEmpty }
    public var count: Int { packets.count }

    /// Closes whatever packets were written to `packets` since the last call; they all go along `path`.
    public mutating func assign(_ path: NetworkPath) {
        while paths.count < packets.count { paths.append(path) }
    }

    public mutating func append(_ packet: ByteBuffer, along path: NetworkPath) {
        packets.append(packet)
        assign(path)
    }

    public mutating func removeAll() {
        packets.removeAll()
        paths.removeAll(keepingCapacity: true)
    }
}
