import COpenSSL

/// The AEADs of the suites that `DTLSContext` offers, and the form that their nonces have.
enum RecordCipher {
    /// RFC 5288 §3: four secret bytes, then eight that each record carries.
    case aesGCM(name: String, keyLength: Int)
    /// RFC 7905 §2: twelve secret bytes with the record's number XORed into the last eight.
    case chaCha20Poly1305

    /// What the handshake agreed on; nil where it is none of these.
    init?(_ ssl: OpaquePointer) {
        guard let suite = SSL_get_current_cipher(ssl) else { return nil }
        switch SSL_CIPHER_get_cipher_nid(suite) {
        case NID_aes_128_gcm: self = .aesGCM(name: "AES-128-GCM", keyLength: 16)
        case NID_aes_256_gcm: self = .aesGCM(name: "AES-256-GCM", keyLength: 32)
        case NID_chacha20_poly1305: self = .chaCha20Poly1305
        default: return nil
        }
    }

    static let tagLength = 16

    var name: String {
        switch self {
        case .aesGCM(let name, _): name
        case .chaCha20Poly1305: "ChaCha20-Poly1305"
        }
    }

    var keyLength: Int {
        switch self {
        case .aesGCM(_, let keyLength): keyLength
        case .chaCha20Poly1305: 32
        }
    }

    /// The secret part of the nonce.
    var fixedLength: Int {
        switch self {
        case .aesGCM: 4
        case .chaCha20Poly1305: 12
        }
    }

    /// The part that travels in front of the ciphertext.
    var explicitLength: Int {
        switch self {
        case .aesGCM: 8
        case .chaCha20Poly1305: 0
        }
    }
}

/// The secrets of both directions: RFC 5246 §6.3, expanded from the handshake's master secret.
struct RecordSecrets {
    var clientKey: ArraySlice<UInt8>, serverKey: ArraySlice<UInt8>
    var clientFixed: ArraySlice<UInt8>, serverFixed: ArraySlice<UInt8>

    /// Works on the secrets and wipes them.
    static func with<Result>(_ ssl: OpaquePointer, _ cipher: RecordCipher, _ body: (RecordSecrets) -> Result?) -> Result? {
        guard let session = SSL_get_session(ssl), let suite = SSL_get_current_cipher(ssl), let hash = SSL_CIPHER_get_handshake_digest(suite),
            let hashName = EVP_MD_get0_name(hash)
        else { return nil }
        var master = [UInt8](repeating: 0, count: 48)
        var block = [UInt8](repeating: 0, count: 2 * (cipher.keyLength + cipher.fixedLength))
        defer {
            OPENSSL_cleanse(&master, master.count)
            OPENSSL_cleanse(&block, block.count)
        }
        guard SSL_SESSION_get_master_key(session, &master, master.count) == master.count else { return nil }
        var seed = Array("key expansion".utf8)
        var random = [UInt8](repeating: 0, count: 32)
        guard SSL_get_server_random(ssl, &random, 32) == 32 else { return nil }
        seed += random
        guard SSL_get_client_random(ssl, &random, 32) == 32 else { return nil }
        seed += random
        guard expand(&master, &seed, hashName, into: &block) else { return nil }
        let (key, fixed) = (cipher.keyLength, cipher.fixedLength)
        return body(
            RecordSecrets(
                clientKey: block[..<key], serverKey: block[key..<2 * key], clientFixed: block[(2 * key)..<(2 * key + fixed)],
                serverFixed: block[(2 * key + fixed)...]))
    }

    /// PRF of RFC 5246 §5.
    private static func expand(_ secret: inout [UInt8], _ seed: inout [UInt8], _ hash: UnsafePointer<CChar>, into block: inout [UInt8]) -> Bool {
        guard let function = EVP_KDF_fetch(nil, "TLS1-PRF", nil) else { return false }
        defer { EVP_KDF_free(function) }
        guard let context = EVP_KDF_CTX_new(function) else { return false }
        defer { EVP_KDF_CTX_free(context) }
        let (secretCount, seedCount, count) = (secret.count, seed.count, block.count)
        var parameters = [OSSL_PARAM](repeating: OSSL_PARAM_construct_end(), count: 4)
        return secret.withUnsafeMutableBytes { secret in
            seed.withUnsafeMutableBytes { seed in
                everyframe_prf_parameters(&parameters, hash, secret.baseAddress, secretCount, seed.baseAddress, seedCount)
                return EVP_KDF_derive(context, &block, count, parameters) == 1
            }
        }
    }
}

/// One direction's AEAD, its key set once: a record costs setting a nonce, no allocation and no copy but encryption.
final class RecordAEAD {
    private let context: OpaquePointer
    /// Nonce in bytes 0..<12, additional data (RFC 5246 §6.2.3.3) in 16..<29.
    private let scratch: UnsafeMutableRawPointer
    /// The nonce's last eight bytes where no part of it travels.
    private let fixedTail: UInt64
    private let explicitLength: Int
    private let seals: Bool

    init?(_ cipher: RecordCipher, key: ArraySlice<UInt8>, fixed: ArraySlice<UInt8>, seals: Bool) {
        guard key.count == cipher.keyLength, fixed.count == cipher.fixedLength, let context = EVP_CIPHER_CTX_new() else { return nil }
        self.context = context
        self.seals = seals
        explicitLength = cipher.explicitLength
        scratch = .allocate(byteCount: 32, alignment: 8)
        scratch.initializeMemory(as: UInt8.self, repeating: 0, count: 32)
        for (index, byte) in fixed.enumerated() { scratch.storeBytes(of: byte, toByteOffset: index, as: UInt8.self) }
        fixedTail = UInt64(bigEndian: scratch.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
        // from here on deinit cleans up
        guard let algorithm = EVP_CIPHER_fetch(nil, cipher.name, nil) else { return nil }
        defer { EVP_CIPHER_free(algorithm) }
        let isReady = key.withUnsafeBufferPointer { EVP_CipherInit_ex2(context, algorithm, $0.baseAddress, nil, seals ? 1 : 0, nil) == 1 }
        guard isReady else { return nil }
    }

    deinit {
        EVP_CIPHER_CTX_free(context)
        OPENSSL_cleanse(scratch, 32)
        scratch.deallocate()
    }

    /// Encrypts behind a header that stands at `record` already: explicit nonce, ciphertext, tag. `nonce` is the part that travels.
    @inline(__always)
    func seal(_ plaintext: UnsafeRawBufferPointer, number: UInt64, nonce: UInt64, at record: UnsafeMutableRawPointer) -> Bool {
        var body = record + RecordHeader.byteCount
        if explicitLength > 0 {
            body.storeBytes(of: nonce.bigEndian, as: UInt64.self)
            body += explicitLength
        }
        guard begin(record, count: plaintext.count, number: number, nonce: nonce) else { return false }
        let target = body.assumingMemoryBound(to: UInt8.self)
        var written: Int32 = 0
        guard
            EVP_EncryptUpdate(context, target, &written, plaintext.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(plaintext.count)) == 1,
            EVP_EncryptFinal_ex(context, target + plaintext.count, &written) == 1
        else { return false }
        return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(RecordCipher.tagLength), target + plaintext.count) == 1
    }

    /// Decrypts a whole record that is long enough into `target`, which has room for it. Returns the plaintext's length, nil where it is not genuine.
    @inline(__always)
    func open(_ record: UnsafeRawBufferPointer, number: UInt64, into target: UnsafeMutableRawPointer) -> Int? {
        guard let start = record.baseAddress else { return nil }
        var body = start + RecordHeader.byteCount
        var nonce: UInt64 = 0
        if explicitLength > 0 {
            nonce = UInt64(bigEndian: body.loadUnaligned(as: UInt64.self))
            body += explicitLength
        }
        let count = record.count - RecordHeader.byteCount - explicitLength - RecordCipher.tagLength
        guard count >= 0, begin(start, count: count, number: number, nonce: nonce) else { return nil }
        let output = target.assumingMemoryBound(to: UInt8.self)
        var written: Int32 = 0
        guard EVP_DecryptUpdate(context, output, &written, body.assumingMemoryBound(to: UInt8.self), Int32(count)) == 1,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(RecordCipher.tagLength), UnsafeMutableRawPointer(mutating: body + count)) == 1,
            EVP_DecryptFinal_ex(context, output + count, &written) == 1
        else { return nil }
        return count
    }

    /// Sets the nonce and takes the additional data: number, type, version, length of the plaintext.
    @inline(__always)
    private func begin(_ header: UnsafeRawPointer, count: Int, number: UInt64, nonce: UInt64) -> Bool {
        scratch.storeBytes(of: (explicitLength > 0 ? nonce : fixedTail ^ number).bigEndian, toByteOffset: 4, as: UInt64.self)
        let additional = scratch + 16
        additional.storeBytes(of: number.bigEndian, as: UInt64.self)
        (additional + 8).copyMemory(from: header, byteCount: 3)
        additional.storeBytes(of: UInt8(truncatingIfNeeded: count >> 8), toByteOffset: 11, as: UInt8.self)
        additional.storeBytes(of: UInt8(truncatingIfNeeded: count), toByteOffset: 12, as: UInt8.self)
        var ignored: Int32 = 0
        guard EVP_CipherInit_ex2(context, nil, nil, scratch.assumingMemoryBound(to: UInt8.self), seals ? 1 : 0, nil) == 1 else { return false }
        return EVP_CipherUpdate(context, nil, &ignored, additional.assumingMemoryBound(to: UInt8.self), 13) == 1
    }
}
