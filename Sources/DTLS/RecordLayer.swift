import COpenSSL
import NIOCore
import Wire

/// The records of a connection whose handshake is done (RFC 6347 §4.1), sealed straight into the batch that is sent and opened straight into the one
/// that SCTP reads. OpenSSL's own way there costs two copies and more time than the cipher itself (Benchmarks/README.md).
///
/// The keys are those of OpenSSL's handshake, and OpenSSL may still have to repeat its last flight with them. So that no record number and no nonce is
/// used twice, ours begin a little above the last that OpenSSL used, and `DatagramBIO` lets nothing of OpenSSL's pass from there on. Its nonces count
/// up by one with each record; ours go on in the same step.
struct RecordLayer: ~Copyable {
    /// What a record may hold (RFC 5246 §6.2.1).
    static let longestPlaintext = 1 << 14
    /// Left to OpenSSL for repeating its flight: it gives up after 12. Fewer than the 64 that a peer's replay window may be wide.
    static let reserved: UInt64 = 32

    /// Bytes that a record adds beside its header.
    let overhead: Int
    /// The first number that is ours, epoch included.
    let first: UInt64
    private let sealing: RecordAEAD
    private let opening: RecordAEAD
    private var next: UInt64
    private let nonceOffset: UInt64
    private let epoch: UInt64
    private var window = ReplayWindow()

    /// - Parameter last: number and explicit nonce of the last protected record that OpenSSL wrote.
    init?(_ ssl: OpaquePointer, role: DTLSRole, last: (number: UInt64, nonce: UInt64)) {
        guard let cipher = RecordCipher(ssl) else { return nil }
        let pair = RecordSecrets.with(ssl, cipher) { secrets -> (RecordAEAD, RecordAEAD)? in
            let client = RecordAEAD(cipher, key: secrets.clientKey, fixed: secrets.clientFixed, seals: role == .client)
            let server = RecordAEAD(cipher, key: secrets.serverKey, fixed: secrets.serverFixed, seals: role == .server)
            guard let client, let server else { return nil }
            return role == .client ? (client, server) : (server, client)
        }
        guard let pair else { return nil }
        (sealing, opening) = pair
        overhead = cipher.explicitLength + RecordCipher.tagLength
        first = last.number + Self.reserved
        next = first
        nonceOffset = last.nonce &- last.number
        epoch = last.number >> 48
    }

    /// Appends one record. False where the numbers are used up, or OpenSSL failed.
    @inline(__always)
    mutating func seal(_ plaintext: UnsafeRawBufferPointer, type: UInt8 = RecordHeader.applicationData, into records: inout PacketBatch) -> Bool {
        let number = next
        guard number >> 48 == epoch else { return false }
        next += 1
        let length = plaintext.count + overhead
        var isSealed = false
        records.bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: RecordHeader.byteCount + length) { target in
            guard let record = target.baseAddress else { return 0 }
            RecordHeader.write(type: type, number: number, length: length, at: record)
            isSealed = sealing.seal(plaintext, number: number, nonce: number &+ nonceOffset, at: record)
            return isSealed ? RecordHeader.byteCount + length : 0
        }
        records.endPacket()
        return isSealed
    }

    /// Opens one whole record and appends its plaintext. False where it is of another epoch, not genuine, comes again or is too old.
    @inline(__always)
    mutating func open(_ record: UnsafeRawBufferPointer, into plaintext: inout PacketBatch) -> Bool {
        let number = RecordHeader.number(record)
        guard number >> 48 == epoch, window.admits(number), record.count - RecordHeader.byteCount - overhead <= Self.longestPlaintext else { return false }
        var isOpened = false
        plaintext.bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: record.count) { target in
            guard let base = target.baseAddress, let count = opening.open(record, number: number, into: base) else { return 0 }
            isOpened = true
            return count
        }
        guard isOpened else { return false }
        window.insert(number)
        plaintext.endPacket()
        return true
    }
}
