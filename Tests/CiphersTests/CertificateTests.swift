import Ciphers
import NIOCore
import Testing

@Suite("Certificates and fingerprints")
struct CertificateTests {
    @Test("RFC 8122 §5: each hash gives a fingerprint of its length that matches its own certificate only", arguments: CertificateHash.allCases)
    func hashes(hash: CertificateHash) throws {
        let mine = try Certificate.selfSigned()
        let other = try Certificate.selfSigned()
        let fingerprint = try #require(mine.fingerprint(by: hash))
        #expect(fingerprint.algorithm == hash.rawValue)
        #expect(fingerprint.bytes.count == hash.byteCount)
        #expect(mine.withPair { x509, _ in [fingerprint].match(x509) })
        #expect(!other.withPair { x509, _ in [fingerprint].match(x509) })
        #expect(Fingerprint(sdp: fingerprint.description) == fingerprint)
    }

    @Test("the default fingerprint is sha-256, and no two certificates are alike")
    func distinct() throws {
        let fingerprints = try (0..<8).map { _ in try Certificate.selfSigned().fingerprint }
        #expect(fingerprints.allSatisfy { $0.algorithm == "sha-256" })
        #expect(Set(fingerprints).count == 8)
    }

    @Test("RFC 8122 §5.1: only the fingerprints of the strongest hash count")
    func strongestCounts() throws {
        let mine = try Certificate.selfSigned()
        let sha1 = try #require(mine.fingerprint(by: .sha1))
        let wrong512 = Fingerprint(algorithm: "sha-512", bytes: [UInt8](repeating: 7, count: 64))
        let right512 = try #require(mine.fingerprint(by: .sha512))
        let unknown = Fingerprint(algorithm: "sha3-256", bytes: [UInt8](repeating: 7, count: 32))
        func matches(_ list: [Fingerprint]) -> Bool { mine.withPair { x509, _ in list.match(x509) } }
        #expect(matches([sha1]))
        #expect(!matches([sha1, wrong512]))
        #expect(matches([sha1, wrong512, right512]))
        #expect(matches([unknown, sha1]))
        #expect(!matches([unknown]))
        #expect(!matches([]))
    }

    @Test("a fingerprint's text is read in either case and written in upper case")
    func text() throws {
        let fingerprint = try #require(Fingerprint(sdp: "SHA-1 4a:AD:b9:b1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB"))
        #expect(fingerprint.description == "sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB")
        #expect(Fingerprint(sdp: "sha3-256 01:02")?.bytes == [1, 2])
    }

    @Test(
        "what is not a fingerprint is refused",
        arguments: ["", "sha-256", "sha-256 ", "sha-256 AA", "sha-1 AA:BB", "sha-256 GG:00", "x 0:1", "x 00:", "x :00", "x 000", "x 00 11", "x -1:+2", "x é"])
    func refused(text: String) { #expect(Fingerprint(sdp: text) == nil) }

    @Test("an absurdly long fingerprint is refused")
    func long() {
        #expect(Fingerprint(sdp: "x " + Array(repeating: "00", count: 100_000).joined(separator: ":")) == nil)
        #expect(Fingerprint(sdp: String(repeating: "x", count: 100_000) + " 00") == nil)
    }

    @Test("RFC 2202: HMAC-SHA1, RFC 4231: HMAC-SHA256, test case 2")
    func hmac() {
        let key = Array("Jefe".utf8)
        let data = ByteBuffer(string: "what do ya want for nothing?")
        func hex(_ bytes: [UInt8]) -> String { bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
        #expect(hex(HMAC.authenticationCode(.sha1, of: data, key: key)) == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
        #expect(
            hex(HMAC.authenticationCode(.sha256, of: data, key: key)) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    }
}
