/// The record header, looked at before OpenSSL sees a datagram.
///
///     0        1        3        5                          11       13
///     +--------+--------+--------+--------------------------+--------+
///     | type   | 254 v  | epoch  | sequence number          | length |      RFC 6347 §4.1
///     +--------+--------+--------+--------------------------+--------+
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
            offset += length
            if type == 23 { count += 1 }
        }
        return count
    }
}
