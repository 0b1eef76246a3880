import NIOCore
import NIOPosix
import Testing
import Wire

@testable import WebRTCNIO

@Suite struct NameTests {
    /// A response with the question repeated, a foreign record, and the answer under a compressed name.
    private func response(type: UInt16, data: [UInt8]) -> ByteBuffer {
        var message = ByteBuffer()
        message.writeMultipleIntegers(UInt16(0), UInt16(0x8400), UInt16(1), UInt16(2), UInt16(0), UInt16(0))
        let name = message.writerIndex
        message.writeBytes([4] + Array("host".utf8) + [5] + Array("local".utf8) + [0])
        message.writeMultipleIntegers(UInt16(1), UInt16(1))
        message.writeBytes([5] + Array("other".utf8) + [0xC0, UInt8(name + 5)])
        message.writeMultipleIntegers(UInt16(1), UInt16(0x8001), UInt32(120), UInt16(4), UInt32(0x0102_0304))
        message.writeBytes([0xC0, UInt8(name)])
        message.writeMultipleIntegers(type, UInt16(0x8001), UInt32(120), UInt16(data.count))
        message.writeBytes(data)
        return message
    }

    @Test("RFC 6762 §5.1: an answer's address is found behind compressed names, IPv4 and IPv6")
    func answers() {
        #expect(DNSMessage.address(of: "HOST.local", in: response(type: 1, data: [10, 0, 0, 7])) == .v4(0x0A00_0007))
        let v6 = [UInt8](repeating: 0, count: 15) + [1]
        #expect(DNSMessage.address(of: "host.local", in: response(type: 28, data: v6)) == .v6(high: 0, low: 1))
        #expect(DNSMessage.address(of: "other.local", in: response(type: 28, data: v6)) == .v4(0x0102_0304))
        #expect(DNSMessage.address(of: "nobody.local", in: response(type: 28, data: v6)) == nil)
    }

    @Test("Truncated and flipped answers never trap, and pointer loops end")
    func hostile() {
        let message = response(type: 1, data: [10, 0, 0, 7])
        for length in 0..<message.readableBytes {
            var prefix = message
            prefix.moveWriterIndex(to: length)
            #expect(DNSMessage.address(of: "host.local", in: prefix) == nil)
        }
        for index in 0..<message.readableBytes {
            for bit in 0..<8 {
                var flipped = message
                let byte: UInt8 = message.getInteger(at: index) ?? 0
                flipped.setInteger(byte ^ 1 << UInt8(bit), at: index)
                _ = DNSMessage.address(of: "host.local", in: flipped)
            }
        }
        var loop = ByteBuffer()
        loop.writeMultipleIntegers(UInt16(0), UInt16(0x8400), UInt16(0), UInt16(1), UInt16(0), UInt16(0))
        loop.writeBytes([0xC0, 12])
        #expect(DNSMessage.address(of: "host.local", in: loop) == nil)
    }

    @Test(
        "Only .local names are asked for, and only ones that DNS can carry",
        arguments: ["example.com", "local", "", ".local", "a..local", String(repeating: "x", count: 64) + ".local"])
    func refusedQueries(name: String) {
        #expect(DNSMessage.query(for: name) == nil)
    }

    @Test("A .local name that nobody has comes back as none, in bounded time")
    func unanswered() async throws {
        let ip = try await within(.seconds(120)) {
            try await MulticastDNS.resolve("3a6e1f0c-0000-4000-8000-feedfacecafe.local", on: MultiThreadedEventLoopGroup.singleton.next()).get()
        }
        #expect(ip == nil)
    }

    @Test("RFC 7064 and RFC 7065: URLs of STUN and TURN servers")
    func urls() throws {
        func read(_ url: String) throws -> String {
            let parsed = try #require(IceServerURL(url), "\(url)")
            return "\(parsed.service) \(parsed.host) \(parsed.port)"
        }
        #expect(try read("stun:stun.example.org") == "stun stun.example.org 3478")
        #expect(try read("STUN:192.0.2.1:99") == "stun 192.0.2.1 99")
        #expect(try read("stun:[2001:db8::1]:5") == "stun 2001:db8::1 5")
        #expect(try read("turn:example.org").hasPrefix("turn(") && IceServerURL("turn:example.org")?.service == .turn(.udp))
        #expect(IceServerURL("turn:example.org?transport=tcp")?.service == .turn(.tcp))
        #expect(IceServerURL("turn:example.org:99?transport=UDP").map { "\($0.host) \($0.port)" } == "example.org 99")
        #expect(IceServerURL("turns:example.org").map { "\($0.host) \($0.port)" } == "example.org 5349")
        #expect(IceServerURL("TURNS:[::1]:443?transport=tcp")?.service == .turn(.tls))
        let bad = [
            "stun:", "stun:host:", "stun:host:0", "stun:host:99999", "stun:[::1", "stun:[host]:1", "http://x", "host:3478", "turn:host?transport=sctp",
            "turn:host?transport", "turn:host?x=udp", "turns:host?transport=udp", "stuns:host", "turn://host", "turn:a b", "",
        ]
        for url in bad { #expect(IceServerURL(url) == nil, "\(url)") }
    }

    @Test("Names that are addresses need no lookup; names that do not exist give nothing")
    func lookUp() async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let here = try #require(IceServerURL("stun:127.0.0.1:7"))
        #expect(try await here.resolve(on: loop).get() == [TransportAddress(ip: .v4(0x7F00_0001), port: 7)])
        let local = try #require(IceServerURL("stun:localhost:7"))
        #expect(try await local.resolve(on: loop).get().allSatisfy { $0.ip.isLoopback && $0.port == 7 })
    }
}
