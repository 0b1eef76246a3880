import COpenSSL
import Ciphers
import NIOCore
import Wire

/// What OpenSSL's callbacks reach through a plain pointer, so that a record costs no retain, no lock and no allocation.
///
/// Lives on the heap from before `SSL_new` until after `SSL_free`.
struct EndpointState {
    /// The one datagram being handled; nil once OpenSSL has read it. Valid only within `DTLSEngine.handle`.
    var input: UnsafeRawBufferPointer?
    /// What OpenSSL wrote: one packet per datagram.
    var output = PacketBatch()
    /// Number and explicit nonce of the last protected record that OpenSSL wrote; the record layer goes on from there.
    var lastProtected: (number: UInt64, nonce: UInt64)?
    /// From this number on records are the record layer's.
    var firstReserved = UInt64.max
    var remoteFingerprints: [Fingerprint]
    var peerIsVerified = false
    var timer: HandshakeTimer

    /// The state that `SSL_set_ex_data` tied to `ssl`.
    static func of(_ ssl: OpaquePointer) -> UnsafeMutablePointer<EndpointState>? {
        SSL_get_ex_data(ssl, 0)?.assumingMemoryBound(to: EndpointState.self)
    }
}

/// A BIO over `EndpointState`: a read takes the whole datagram being handled, a write is one datagram to send.
enum DatagramBIO {
    static func make(_ state: UnsafeMutablePointer<EndpointState>) -> OpaquePointer? {
        guard let bio = BIO_new(method.pointer) else { return nil }
        BIO_set_data(bio, state)
        BIO_set_init(bio, 1)
        return bio
    }

    private struct Method: @unchecked Sendable {
        // written once below, read only afterwards
        let pointer: OpaquePointer?
    }

    private static let method: Method = {
        guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "everyframe datagram") else { return Method(pointer: nil) }
        BIO_meth_set_read(method, read)
        BIO_meth_set_write(method, write)
        BIO_meth_set_ctrl(method, control)
        return Method(pointer: method)
    }()

    private static let retryFlags = BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY

    private static let read: @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int32) -> Int32 = { bio, target, capacity in
        BIO_clear_flags(bio, retryFlags)
        guard let state = stateOf(bio), let target, capacity > 0, let input = state.pointee.input, let source = input.baseAddress else {
            BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
            return -1
        }
        // as with a socket, what does not fit is lost
        let count = min(Int(capacity), input.count)
        UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: count)
        state.pointee.input = nil
        return Int32(count)
    }

    private static let write: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int32) -> Int32 = { bio, source, count in
        BIO_clear_flags(bio, retryFlags)
        guard let state = stateOf(bio), let source, count > 0 else { return 0 }
        let datagram = UnsafeRawBufferPointer(start: source, count: Int(count))
        // to OpenSSL it is sent, and lost
        guard note(datagram, state) else { return count }
        state.pointee.output.bytes.writeBytes(datagram)
        state.pointee.output.endPacket()
        return count
    }

    /// Keeps the numbers of protected records in mind; false where one of them is not OpenSSL's to use any more.
    private static func note(_ datagram: UnsafeRawBufferPointer, _ state: UnsafeMutablePointer<EndpointState>) -> Bool {
        var offset = 0
        while let size = RecordHeader.size(datagram, at: offset) {
            let record = UnsafeRawBufferPointer(rebasing: datagram[offset..<offset + size])
            let number = RecordHeader.number(record)
            if number >> 48 != 0, size >= RecordHeader.byteCount + 8 {
                guard number < state.pointee.firstReserved else { return false }
                let nonce = UInt64(bigEndian: record.loadUnaligned(fromByteOffset: RecordHeader.byteCount, as: UInt64.self))
                state.pointee.lastProtected = (number, nonce)
            }
            offset += size
        }
        return true
    }

    private static let control: @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int = { bio, command, _, argument in
        switch command {
        case BIO_CTRL_FLUSH: return 1
        case BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT:
            guard let state = stateOf(bio), let argument else { return 0 }
            state.pointee.timer.opensslSet(argument)
            return 1
        default:
            // nothing is ever pending, and the MTU we set already excludes IP and UDP headers
            return 0
        }
    }

    private static func stateOf(_ bio: OpaquePointer?) -> UnsafeMutablePointer<EndpointState>? {
        BIO_get_data(bio)?.assumingMemoryBound(to: EndpointState.self)
    }
}
