import Testing
import WebRTC

@Suite struct TrickleFragmentTests {
    static let text = """
        a=group:BUNDLE 0 1\r
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r
        a=mid:0\r
        a=ice-ufrag:EsAw\r
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r
        a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0 ufrag EsAw network-id 2\r
        a=end-of-candidates\r

        """

    @Test("RFC 8840 §9: a fragment has an ICE session's credentials, candidates and their end")
    func reading() throws {
        let fragment = try TrickleFragment(parsing: Self.text)
        #expect(fragment.mid == "0" && fragment.ufrag == "EsAw" && fragment.password == "P2uYro0UCOQ4zxjKXaWCBui1")
        #expect(fragment.candidates.count == 2 && fragment.candidates[0].hasPrefix("candidate:1387637174 1 udp") && fragment.hasEndOfCandidates)
        #expect(try TrickleFragment(parsing: fragment.text) == fragment, "what is written reads as it was")
    }

    @Test("RFC 8840 §4.4: credentials may stand above the sections; without a ufrag nobody knows whose candidates these are")
    func sessionLevel() throws {
        let fragment = try TrickleFragment(parsing: "a=ice-ufrag:abcd\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:x\n")
        #expect(fragment.ufrag == "abcd" && fragment.password == nil && fragment.candidates.isEmpty && !fragment.hasEndOfCandidates)
        #expect(throws: SDPError.self) { try TrickleFragment(parsing: "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\n") }
        #expect(throws: SDPError.self) { try TrickleFragment(parsing: "") }
        for length in 0..<Self.text.utf8.count { _ = try? TrickleFragment(parsing: String(Self.text.prefix(length))) }
    }

    @Test("RFC 8445 §9: a restart puts other credentials and candidates into the description, and leaves the rest")
    func restart() throws {
        let offer = try SDP(
            parsing: """
                v=0\r
                o=- 1 1 IN IP4 127.0.0.1\r
                s=-\r
                m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
                a=mid:0\r
                a=ice-ufrag:oldu\r
                a=ice-pwd:oldoldoldoldoldoldoldold\r
                a=fingerprint:sha-256 AA\r
                a=candidate:1 1 udp 1 192.0.2.9 1 typ host\r
                a=end-of-candidates\r

                """)
        let fragment = try TrickleFragment(parsing: Self.text.replacing("a=end-of-candidates\r\n", with: ""))
        let restarted = try #require(offer.restarted(by: fragment))
        #expect(try TrickleFragment(restarted).ufrag == "EsAw" && TrickleFragment(restarted).candidates == fragment.candidates)
        #expect(!restarted.text.contains("oldu") && !restarted.text.contains("192.0.2.9") && !restarted.text.contains("end-of-candidates"))
        #expect(restarted.media[0].attributes.first("fingerprint") == "sha-256 AA")
        var without = fragment
        without.password = nil
        #expect(offer.restarted(by: without) == nil)
    }
}
