import Testing
import Wire

@Suite("Transport addresses")
struct TransportAddressTests {
    @Test(
        "text round trip in RFC 5952 form",
        arguments: [
            ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"),
            ("::", "::"), ("::1", "::1"), ("2001:db8::1", "2001:db8::1"), ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("fe80::", "fe80::"), ("::ffff:1.2.3.4", "::ffff:102:304"),
        ])
    func roundTrip(text: String, canonical: String) throws {
        let ip = try #require(TransportAddress.IP(text))
        #expect(ip.description == canonical)
        #expect(TransportAddress.IP(ip.description) == ip)
    }

    @Test(
        "what is not an address is refused",
        arguments: [
            "", ".", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.-4", "01.2.3.+4", ":", ":::", "1:2", "1::2::3", "12345::", "fe80::1%eth0", "a.local",
            "1:2:3:4:5:6:7:8:9", "+1::",
            "::1:", ":1::",
        ])
    func refused(text: String) { #expect(TransportAddress.IP(text) == nil) }

    @Test("kinds of addresses")
    func kinds() throws {
        #expect(try #require(TransportAddress.IP("127.9.9.9")).isLoopback)
        #expect(try #require(TransportAddress.IP("::1")).isLoopback)
        #expect(try #require(TransportAddress.IP("fe80::9")).isLinkLocal)
        #expect(try #require(TransportAddress.IP("169.254.1.1")).isLinkLocal)
        #expect(try !#require(TransportAddress.IP("10.0.0.1")).isLinkLocal)
    }
}
