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
    static let chachaOverhead = 16

    /// The number of application-data records in a datagram; nil when it is not a row of whole records.
    ///
    /// An encrypted record below `overhead` cannot be genuine. OpenSSL 3.0 does not drop it in silence (RFC 6347 §4.1.2.7) but ends the session,
    /// which would let anyone who knows the addresses do so; it must not see one.
    static func applicationRecords(_ datagram: UnsafeRawBufferPointer, overhead: Int) -> Int? {
        guard !datagram.isEmpty else { return nil }
        var offset = 0
        var count = 0
        while offset < datagram.count {
            guard datagram.count - offset >= byteCount else { return nil }
            let type = datagram[offset]
            // change_cipher_spec 20, alert 21, handshake 22, application_data 23
            guard (20...23).contains(type), datagram[offset + 1] == 0xFE else { return nil }
            let isEncrypted = datagram[offset + 3] | datagram[offset + 4] != 0
            let length = Int(datagram[offset + 11]) << 8 | Int(datagram[offset + 12])
            offset += byteCount
            guard length >= (isEncrypted ? overhead : 1), length <= datagram.count - offset else { return nil }
            guard isEncrypted || isPlausible(type, sequence: datagram[offset - 8..<offset - 5], datagram[offset..<offset + length]) else { return nil }
            offset += length
            if type == 23 { count += 1 }
        }
        return count
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
