import COpenSSL

/// The digest of a certificate, as SDP carries it (RFC 8122 §5): `sha-256 12:AB:…`.
public struct Fingerprint: Hashable, Sendable {
    /// The hash function's IANA name in lower case, such as `sha-256`.
    public let algorithm: String
    public let bytes: [UInt8]

    public init(algorithm: String, bytes: [UInt8]) {
        self.algorithm = algorithm.lowercased()
        self.bytes = bytes
    }

    /// Parses `sha-256 12:AB:…`, in either case; nil when it is not of that form. An unknown hash is kept, since a description may carry several.
    public init?(sdp text: some StringProtocol) {
        let parts = text.split(whereSeparator: { $0 == " " || $0 == "\t" })
        guard parts.count == 2, (1...16).contains(parts[0].utf8.count), (2...3 * 64).contains(parts[1].utf8.count) else { return nil }
        var bytes: [UInt8] = []
        for pair in Array(parts[1].utf8).split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false) {
            guard pair.count == 2, let high = pair.first.flatMap(hexadecimalValue), let low = pair.last.flatMap(hexadecimalValue) else { return nil }
            bytes.append(high << 4 | low)
        }
        self.init(algorithm: String(parts[0]), bytes: bytes)
        // a known hash has a known length
        if let hash = CertificateHash(rawValue: algorithm), hash.byteCount != bytes.count { return nil }
    }
}

extension Fingerprint: CustomStringConvertible {
    /// The SDP form, with the hexadecimal digits in upper case as RFC 8122's grammar has them.
    public var description: String {
        var text = algorithm + " "
        for (index, byte) in bytes.enumerated() {
            if index > 0 { text += ":" }
            text.unicodeScalars.append(Unicode.Scalar(hexadecimalDigit(byte >> 4)))
            text.unicodeScalars.append(Unicode.Scalar(hexadecimalDigit(byte & 15)))
        }
        return text
    }
}

/// The hash functions we verify fingerprints with, by IANA name; weakest first. MD5 and MD2 are refused (RFC 8122 §5).
package enum CertificateHash: String, CaseIterable, Sendable {
    case sha1 = "sha-1"
    case sha224 = "sha-224"
    case sha256 = "sha-256"
    case sha384 = "sha-384"
    case sha512 = "sha-512"

    package var byteCount: Int {
        switch self {
        case .sha1: 20
        case .sha224: 28
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }

    fileprivate var digest: OpaquePointer? {
        switch self {
        case .sha1: EVP_sha1()
        case .sha224: EVP_sha224()
        case .sha256: EVP_sha256()
        case .sha384: EVP_sha384()
        case .sha512: EVP_sha512()
        }
    }

    /// OpenSSL's `X509` (DER) in base 64; empty where OpenSSL cannot write it.
    package static func base64(of x509: OpaquePointer) -> String {
        let length = i2d_X509(x509, nil)
        guard length > 0 else { return "" }
        var der = [UInt8](repeating: 0, count: Int(length))
        let written = der.withUnsafeMutableBufferPointer { bytes in
            var end = bytes.baseAddress
            return i2d_X509(x509, &end)
        }
        guard written == length else { return "" }
        // four digits for three bytes, and a zero behind them
        var text = [UInt8](repeating: 0, count: (der.count + 2) / 3 * 4 + 1)
        let digits = EVP_EncodeBlock(&text, der, length)
        return String(decoding: text.prefix(max(0, Int(digits))), as: UTF8.self)
    }

    /// The fingerprint of OpenSSL's `X509`; nil when the digest is not available.
    package func fingerprint(of x509: OpaquePointer) -> Fingerprint? {
        var bytes = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        guard let digest, X509_digest(x509, digest, &bytes, &length) == 1, Int(length) == byteCount else { return nil }
        return Fingerprint(algorithm: rawValue, bytes: Array(bytes.prefix(byteCount)))
    }
}

extension Sequence<Fingerprint> {
    /// Those made by the strongest hash that both sides know; the certificate has to match one of them (RFC 8122 §5.1).
    package var strongest: [Fingerprint] {
        for hash in CertificateHash.allCases.reversed() {
            let found = filter { $0.algorithm == hash.rawValue && $0.bytes.count == hash.byteCount }
            if !found.isEmpty { return found }
        }
        return []
    }

    /// Whether OpenSSL's `X509` is one of those described. Empty or unsupported fingerprints match nothing.
    package func match(_ x509: OpaquePointer) -> Bool {
        let candidates = strongest
        guard let name = candidates.first?.algorithm, let actual = CertificateHash(rawValue: name)?.fingerprint(of: x509) else { return false }
        return candidates.contains { equalInConstantTime($0.bytes, actual.bytes) }
    }
}

private func hexadecimalValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
}

private func hexadecimalDigit(_ value: UInt8) -> UInt8 { value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10 }
