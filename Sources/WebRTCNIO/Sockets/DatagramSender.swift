import Glibc
import NIOCore
import Wire

/// Writes datagrams straight to a socket: one `sendmsg` for each run of equal-size neighbours on one path (UDP_SEGMENT), no copy, no allocation.
///
/// It goes round NIO's queue of pending writes for two reasons. The batch's buffer is free again when the call returns, so steady state allocates nothing.
/// And NIO closes an unconnected socket when one destination answers ENETUNREACH or EPERM, which is everyday news while ICE tries its pairs.
struct DatagramSender {
    struct Counters: Sendable, Equatable {
        var datagrams = 0, bytes = 0, calls = 0, segmentedCalls = 0
        /// Dropped because the socket's buffer was full.
        var congested = 0
        /// Dropped because the kernel refused the destination.
        var refused = 0
        /// Dropped because the interface's MTU is smaller: probes of path MTU discovery, mostly.
        var tooLarge = 0
    }

    /// The kernel's UDP_MAX_SEGMENTS before 6.9.
    static let maximumSegments = 64
    /// An IPv4 datagram's 65,535 bytes less both headers; IPv6 would allow 20 more.
    static let maximumRun = 65_507

    private(set) var counters = Counters()
    private(set) var segmentsRuns: Bool
    /// The size of the smallest datagram that was too large for its interface in the last `send`.
    private(set) var sizeRefused: Int?

    init(segmentsRuns: Bool) { self.segmentsRuns = segmentsRuns }

    /// Sends `batch[indices]`, which all leave from one socket. Returns the first index that the socket's full buffer did not take, or nil.
    mutating func send(_ batch: borrowing DatagramBatch, _ indices: Range<Int>, descriptor: CInt) -> Int? {
        sizeRefused = nil
        var index = indices.lowerBound
        var singlesUntil = indices.lowerBound
        while index < indices.upperBound {
            let end = segmentsRuns && index >= singlesUntil ? endOfRun(batch, from: index, limit: indices.upperBound) : index + 1
            let bytes = batch.packets.range(index).lowerBound..<batch.packets.range(end - 1).upperBound
            let segment = end - index > 1 ? batch.packets.range(index).count : nil
            switch transmit(batch.packets.bytes, bytes, to: batch.paths[index].remote, segment: segment, descriptor: descriptor) {
            case 0:
                counters.datagrams += end - index
                counters.bytes += bytes.count
            case EAGAIN, ENOBUFS:
                return index
            case EIO where segment != nil:
                // the device lacks checksum offload, for good
                segmentsRuns = false
                continue
            case EINVAL where segment != nil, EMSGSIZE where segment != nil:
                // segments larger than this path's MTU
                singlesUntil = end
                continue
            case EMSGSIZE:
                // the host is the first to know; it is no error
                counters.tooLarge += 1
                sizeRefused = min(sizeRefused ?? .max, bytes.count)
            default:
                counters.refused += end - index
            }
            index = end
        }
        return nil
    }

    mutating func noteCongestion(_ count: Int) { counters.congested += count }

    /// A run has one path and one size; its last datagram may be shorter.
    private func endOfRun(_ batch: borrowing DatagramBatch, from first: Int, limit: Int) -> Int {
        let size = batch.packets.range(first).count
        let path = batch.paths[first]
        var total = size
        var index = first + 1
        while index < limit, index - first < Self.maximumSegments, batch.paths[index] == path {
            let next = batch.packets.range(index).count
            guard next <= size, total + next <= Self.maximumRun else { break }
            total += next
            index += 1
            if next < size { break }
        }
        return index
    }

    /// 0 or the errno.
    private mutating func transmit(
        _ buffer: ByteBuffer, _ range: Range<Int>, to remote: TransportAddress, segment: Int?, descriptor: CInt
    ) -> CInt {
        counters.calls += 1
        if segment != nil { counters.segmentedCalls += 1 }
        return remote.withSockAddr { name, nameLength in
            buffer.withVeryUnsafeBytes { storage in
                guard let base = storage.baseAddress else { return EINVAL }
                var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: base + range.lowerBound), iov_len: range.count)
                // | length, 8 bytes = 18 | level, 4 | type, 4 | UInt16, padded to 8 |: CMSG_SPACE(2) on every 64-bit Linux
                var control = (UInt64(0), UInt64(0), UInt64(0))
                return withUnsafeMutablePointer(to: &vector) { vector in
                    withUnsafeMutableBytes(of: &control) { control in
                        var message = msghdr()
                        message.msg_name = name
                        message.msg_namelen = nameLength
                        message.msg_iov = vector
                        message.msg_iovlen = 1
                        if let segment {
                            control.storeBytes(of: 18, as: Int.self)
                            control.storeBytes(of: Self.udpLevel, toByteOffset: 8, as: CInt.self)
                            control.storeBytes(of: Self.udpSegment, toByteOffset: 12, as: CInt.self)
                            control.storeBytes(of: UInt16(truncatingIfNeeded: segment), toByteOffset: 16, as: UInt16.self)
                            message.msg_control = control.baseAddress
                            message.msg_controllen = control.count
                        }
                        while true {
                            if sendmsg(descriptor, &message, CInt(MSG_DONTWAIT) | CInt(MSG_NOSIGNAL)) >= 0 { return 0 }
                            let code = errno
                            if code != EINTR { return code }
                        }
                    }
                }
            }
        }
    }

    private static let udpLevel: CInt = 17
    private static let udpSegment: CInt = 103
}
