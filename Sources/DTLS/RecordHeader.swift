/// The record header, and that of a handshake message in the clear, looked at before OpenSSL sees a datagram: what is nonsense in itself is dropped,
/// and does not end a handshake that goes on.
///
///     0        1        3        5                          11       13
///     +--------+--------+--------+--------------------------+--------+
///     | type   | 254 v  | epoch  | sequence number          | length |      RFC 6347 §4.1
///     +--------+--------+--------+--------------------------+--------+
///     | message type | length 24 | sequence 16 | fragment offset 24 | fragment length 24 | …      RFC 6347 §4.2.2
///     +--------------+-----------+-------------+--------------------+--------------------+
enum RecordHeader {
    static let byteCount = 13

    /// What an AEAD adds to a record: explicit nonce and tag for AES-GCM (RFC 5288 §3), a tag alone for ChaCha20 (RFC 7905 §2).
    static let gcmOverhead = 24

    static let alert: UInt8 = 21
    static let applicationData: UInt8 = 23

    static func type(_ record: UnsafeRawBufferPointer) -> UInt8 { record[0] }

    /// Epoch in the upper 16 bits, then the sequence number: what the RFCs call the record's number when they authenticate it.
    @inline(__always)
    static func number(_ record: UnsafeRawBufferPointer) -> UInt64 { UInt64(bigEndian: record.loadUnaligned(fromByteOffset: 3, as: UInt64.self)) }

    /// Bytes of the record that begins at `offset`, its header included; nil where it is not wholly there.
    @inline(__always)
    static func size(_ datagram: UnsafeRawBufferPointer, at offset: Int) -> Int? {
        guard datagram.count - offset >= byteCount else { return nil }
        let size = byteCount + (Int(datagram[offset + 11]) << 8 | Int(datagram[offset + 12]))
        return size <= datagram.count - offset ? size : nil
    }

    @inline(__always)
    static func write(type: UInt8, number: UInt64, length: Int, at target: UnsafeMutableRawPointer) {
        target.storeBytes(of: type, as: UInt8.self)
        // DTLS 1.2
        target.storeBytes(of: UInt16(0xFEFD).bigEndian, toByteOffset: 1, as: UInt16.self)
        target.storeBytes(of: number.bigEndian, toByteOffset: 3, as: UInt64.self)
        target.storeBytes(of: UInt16(truncatingIfNeeded: length).bigEndian, toByteOffset: 11, as: UInt16.self)
    }

    /// Whether a datagram is a row of whole records.
    ///
    /// An encrypted record below `overhead` cannot be genuine. OpenSSL 3.0 does not drop it in silence (RFC 6347 §4.1.2.7) but ends the session,
    /// which would let anyone who knows the addresses do so; it must not see one.
    static func isRow(_ datagram: UnsafeRawBufferPointer, overhead: Int) -> Bool {
        guard !datagram.isEmpty else { return false }
        var offset = 0
        while offset < datagram.count {
            guard let size = size(datagram, at: offset) else { return false }
            // change_cipher_spec 20, alert 21, handshake 22, application_data 23
            guard (20...23).contains(datagram[offset]), datagram[offset + 1] == 0xFE else { return false }
            let isEncrypted = datagram[offset + 3] | datagram[offset + 4] != 0
            guard size - byteCount >= (isEncrypted ? overhead : 1) else { return false }
            let (sequence, body) = (datagram[offset + 5..<offset + 8], datagram[offset + byteCount..<offset + size])
            guard isEncrypted || isPlausible(datagram[offset], sequence: sequence, body) else { return false }
            offset += size
        }
        return true
    }

    /// More than any certificate needs.
    private static let longestMessage = 1 << 15

    /// Whether a record in the clear may be part of a handshake.
    /// - Parameter sequence: the three highest bytes of the record's sequence number. No handshake sends so many; and a forged one would make OpenSSL
    ///   take the peer's own for old.
    private static func isPlausible(_ type: UInt8, sequence: Slice<UnsafeRawBufferPointer>, _ body: Slice<UnsafeRawBufferPointer>) -> Bool {
        guard sequence.allSatisfy({ $0 == 0 }) else { return false }
        switch type {
        // RFC 5246 §7.1: one byte of value 1
        case 20: return body.count == 1 && body.first == 1
        // RFC 5246 §7.2: warning or fatal, and what
        case 21: return body.count == 2 && (1...2).contains(body.first ?? 0)
        case 22:
            var rest = body
            while !rest.isEmpty {
                guard rest.count >= 12 else { return false }
                func number(_ offset: Int, _ bytes: Int) -> Int { rest.dropFirst(offset).prefix(bytes).reduce(0) { $0 << 8 | Int($1) } }
                let (message, start, count) = (number(1, 3), number(6, 3), number(9, 3))
                // RFC 5246 §7.4, RFC 6347 §4.3.2
                guard [0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 20].contains(rest.first ?? 255), number(4, 2) < 64, message <= longestMessage,
                    start + count <= message, count <= rest.count - 12
                else { return false }
                rest = rest.dropFirst(12 + count)
            }
            return true
        // application data in the clear
        default: return false
        }
    }
}
