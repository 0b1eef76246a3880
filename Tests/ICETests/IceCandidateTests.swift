import ICE
import Testing
import Wire

@Suite("Candidate lines, RFC 8839 §5.1")
struct IceCandidateTests {
    /// As libwebrtc, Firefox, aioice, libjuice and RFC 6544 write them.
    @Test(
        "Lines of the field are read and written again",
        arguments: [
            (
                "candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ host generation 0 ufrag abcd network-id 1",
                "candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ host ufrag abcd"
            ),
            (
                "a=candidate:2 1 UDP 1694498815 203.0.113.141 8998 typ srflx raddr 10.0.1.1 rport 9\r\n",
                "candidate:2 1 udp 1694498815 203.0.113.141 8998 typ srflx raddr 10.0.1.1 rport 9"
            ),
            ("0 1 UDP 2122252543 2001:db8::1 61665 typ host", "candidate:0 1 udp 2122252543 2001:db8::1 61665 typ host"),
            ("candidate:3 1 TCP 2105458943 10.0.0.1 9 typ host tcptype active", "candidate:3 1 tcp 2105458943 10.0.0.1 9 typ host tcptype active"),
            ("candidate:1 1 udp 2113937151 AB-cd.local 5000 typ host", "candidate:1 1 udp 2113937151 ab-cd.local 5000 typ host"),
            ("candidate:1 1 udp 1 10.0.0.1 5000 typ relay", "candidate:1 1 udp 1 10.0.0.1 5000 typ relay raddr 0.0.0.0 rport 0"),
            ("candidate:1 2 udp 1 10.0.0.1 5000 typ prflx raddr :: rport 0 something", "candidate:1 2 udp 1 10.0.0.1 5000 typ prflx raddr :: rport 0"),
        ])
    func field(line: String, expected: String) throws {
        let candidate = try IceCandidate(sdp: line)
        #expect(candidate.sdp == expected)
        #expect(try IceCandidate(sdp: candidate.sdp).sdp == expected)
    }

    @Test(
        "Broken lines are refused with their reason",
        arguments: [
            ("", .missingField), ("candidate:1 1 udp 1 10.0.0.1 5000 typ", .missingField), ("candidate:1 x udp 1 10.0.0.1 5000 typ host", .badComponent),
            ("candidate:1 0 udp 1 10.0.0.1 5000 typ host", .badComponent), ("candidate:1 1 sctp 1 10.0.0.1 5000 typ host", .badTransport),
            ("candidate:1 1 udp 4294967296 10.0.0.1 5000 typ host", .badPriority), ("candidate:1 1 udp -1 10.0.0.1 5000 typ host", .badPriority),
            ("candidate:1 1 udp 1 10.0.0.256 5000 typ host", .badAddress), ("candidate:1 1 udp 1 ..local 5000 typ host", .badAddress),
            ("candidate:1 1 udp 1 10.0.0.1 65536 typ host", .badPort), ("candidate:1 1 udp 1 10.0.0.1 5000 typ hoist", .badKind),
            ("candidate:1 1 udp 1 10.0.0.1 5000 type host", .badKind), ("candidate:é 1 udp 1 10.0.0.1 5000 typ host", .badFoundation),
        ] as [(String, IceCandidateError)])
    func broken(line: String, reason: IceCandidateError) {
        #expect(throws: reason) { try IceCandidate(sdp: line) }
    }

    @Test("A line longer than any candidate is refused before it is split")
    func long() {
        #expect(throws: IceCandidateError.tooLong) { try IceCandidate(sdp: "candidate:" + String(repeating: "1 ", count: 4000)) }
    }

    @Test("Every prefix of a valid line is read or refused, never more")
    func prefixes() throws {
        let line = "candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ srflx raddr 10.0.1.1 rport 9 tcptype passive ufrag x"
        for length in 0...line.utf8.count { _ = try? IceCandidate(sdp: String(line.prefix(length))) }
        #expect(try IceCandidate(sdp: line).relatedAddress == address("10.0.1.1", 9))
    }

    @Test("RFC 8445 §5.3: credentials are long enough and of ice-chars")
    func credentials() {
        var generator = SplitMix64(seed: 1)
        let first = IceCredentials.random(using: &generator)
        let second = IceCredentials.random(using: &generator)
        #expect(first.ufrag.utf8.count >= 4 && first.password.utf8.count >= 22 && first != second)
        #expect(!"\(first)".contains(first.password))
    }
}
