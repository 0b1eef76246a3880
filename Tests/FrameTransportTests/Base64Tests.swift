import FrameTransport
import NIOCore
import Testing
import Wire

@Suite struct Base64Tests {
    @Test(
        "RFC 4648 §10: the published vectors, both ways",
        arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")])
    func vectors(plain: String, text: String) throws {
        var encoded = ByteBuffer()
        Base64.encode(ByteBuffer(string: plain).readableBytesView, into: &encoded)
        #expect(String(buffer: encoded) == text)
        #expect(try decode([text]) == Array(plain.utf8))
    }

    @Test("Bytes of every length survive, cut at every place and as one text", arguments: [UInt64(1), 2])
    func roundTrip(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for length in 0..<67 {
            let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
            var encoded = ByteBuffer()
            Base64.encode(ByteBuffer(bytes: bytes).readableBytesView, into: &encoded)
            let text = String(buffer: encoded)
            #expect(text.utf8.count == Base64.encodedLength(of: length))
            for cut in 0...text.count {
                #expect(try decode([String(text.prefix(cut)), String(text.dropFirst(cut))]) == bytes)
            }
            #expect(try decode(text.map(String.init)) == bytes)
        }
    }

    @Test("Pieces that were encoded one by one join")
    func pieces() throws {
        #expect(try decode(["Zg==", "Zm8=", "Zm9v"]) == Array("ffofoo".utf8))
    }

    @Test(
        "RFC 4648 §3.3: what is not base64 is refused",
        arguments: ["Z", "Zg", "Zg=", "Zg==Zg==", "Z===", "====", "Zm9v!m9v", "Zm 9", "Zm9\u{e9}", "Zg=a", "=Zg=", "Zm9vZg=v"])
    func refused(text: String) {
        #expect(throws: Base64.DecodingError.self) { try decode([text]) }
    }

    @Test("Each byte outside the alphabet is refused at each place of a group")
    func alphabet() {
        let legal = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        for byte in UInt8.min...UInt8.max where !legal.contains(byte) {
            for place in 0..<4 {
                var group = Array("AAAAAAAA".utf8)
                group[place] = byte
                var decoder = Base64.Decoder()
                var bytes = ByteBuffer()
                #expect(throws: Base64.DecodingError.self) { try decoder.decode(ByteBuffer(bytes: group).readableBytesView, into: &bytes) }
            }
        }
    }

    private func decode(_ pieces: [String]) throws -> [UInt8] {
        var decoder = Base64.Decoder()
        var bytes = ByteBuffer()
        for piece in pieces { try decoder.decode(ByteBuffer(string: piece).readableBytesView, into: &bytes) }
        try decoder.finish()
        return Array(buffer: bytes)
    }
}
