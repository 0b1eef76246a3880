import Ciphers
import ICE
import Testing
import WebRTC
import Wire

@Suite("SDP")
struct SDPTests {
    @Test("what other stacks offer is understood", arguments: Fixture.allCases)
    func understood(fixture: Fixture) throws {
        let session = try SDP(parsing: fixture.text).dataSession(of: .offer)
        let expected = fixture.expected
        #expect(session.mid == expected.mid)
        #expect(session.credentials.ufrag == expected.ufrag)
        #expect(session.candidates.count == expected.candidates)
        #expect(session.candidates.allSatisfy { $0.hasPrefix("candidate:") })
        #expect(session.maximumMessageSize == expected.maximum)
        #expect(session.trickles == expected.trickles)
        #expect(session.hasEndOfCandidates == expected.ended)
        #expect(session.fingerprints.map(\.algorithm) == expected.hashes)
        #expect(session.setup == .actpass)
        #expect(session.sctpPort == 5000)
        #expect(!session.isIceLite)
    }

    @Test("RFC 8829 §5.3.1: an answer has the offer's sections, mids and forms; what we cannot serve is refused", arguments: Fixture.allCases)
    func answered(fixture: Fixture) throws {
        let offer = try SDP(parsing: fixture.text)
        let text = try offer.answer(.example).text
        let answer = try SDP(parsing: text)
        try answer.checkAnswer(to: offer)
        #expect(answer.media.map(\.mid) == offer.media.map(\.mid))
        #expect(answer.media.map(\.transport) == offer.media.map(\.transport))
        let index = try offer.dataSectionIndex()
        for (position, section) in answer.media.enumerated() where position != index {
            #expect(section.port == 0 && section.isRejected && section.formats == offer.media[position].formats)
        }
        let mid = try #require(offer.media[index].mid)
        #expect(answer.groups == [SDP.Group(semantics: "BUNDLE", mids: [mid])])
        #expect(answer.media[index].formats == offer.media[index].formats)
        #expect(answer.media[index].isLegacyDataChannel == (fixture == .legacyFirefox))
        let session = try answer.dataSession(of: .answer)
        #expect(session.setup == .active)
        #expect(session.credentials == LocalDataSession.example.credentials)
        #expect(session.fingerprints == LocalDataSession.example.fingerprints)
        #expect(session.maximumMessageSize == 64 << 20)
        #expect(text.hasSuffix("\r\n") && !text.contains("\r\n\r\n"))
    }

    @Test("what is written is read back the same", arguments: Fixture.allCases)
    func roundTrip(fixture: Fixture) throws {
        let sdp = try SDP(parsing: fixture.text)
        #expect(try SDP(parsing: sdp.text) == sdp)
        let answer = try sdp.answer(.example)
        #expect(try SDP(parsing: answer.text) == answer)
    }

    @Test("LF, CR, CRLF, blank lines and blanks at the ends of lines make no difference", arguments: Fixture.allCases)
    func lineEnds(fixture: Fixture) throws {
        for end in ["\n", "\r", "\r\n", "\n\n", " \r\n"] {
            let text = fixture.text.split(whereSeparator: \.isNewline).map { $0 + end }.joined()
            #expect(try SDP(parsing: text) == SDP(parsing: fixture.text))
        }
    }

    @Test("our offer is understood by our own reader, and says what RFC 8829 §5.2.1 and RFC 8841 §5 want")
    func offer() throws {
        var local = LocalDataSession.example
        local.candidates = ["candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", "2 1 udp 1 192.0.2.2 5001 typ host"]
        local.defaultAddress = TransportAddress(ip: .v4(0xC000_0201), port: 5000)
        local.hasEndOfCandidates = true
        local.isIceLite = true
        let text = SDP.offer(local).text
        let expected = """
            v=0
            o=- 77 3 IN IP4 127.0.0.1
            s=-
            t=0 0
            a=group:BUNDLE 0
            a=ice-lite
            a=ice-options:trickle ice2
            a=msid-semantic:WMS *
            m=application 5000 UDP/DTLS/SCTP webrtc-datachannel
            c=IN IP4 192.0.2.1
            a=mid:0
            a=ice-ufrag:abcd
            a=ice-pwd:0123456789abcdefghijkl
            a=fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13
            a=setup:actpass
            a=sctp-port:5000
            a=max-message-size:67108864
            a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host
            a=candidate:2 1 udp 1 192.0.2.2 5001 typ host
            a=end-of-candidates

            """
        #expect(text == expected.split(separator: "\n").map { $0 + "\r\n" }.joined())
        let session = try SDP(parsing: text).dataSession(of: .offer)
        #expect(session.isIceLite && session.trickles && session.hasEndOfCandidates && session.candidates.count == 2)
    }

    @Test("RFC 8842 §5.3: the answer's setup fits the offer's", arguments: [("actpass", "active"), ("active", "passive"), ("passive", "active")])
    func setup(offered: String, answered: String) throws {
        let offer = try SDP(parsing: Fixture.aiortcData.text.replacing("a=setup:actpass", with: "a=setup:" + offered))
        #expect(try offer.answer(.example).dataSession(of: .answer).setup.rawValue == answered)
    }

    @Test(
        "what is missing or wrong is named",
        arguments: [
            ("a=ice-ufrag:", SDPError.Code.missingIceUfrag), ("a=ice-pwd:", .missingIcePassword), ("a=fingerprint:", .missingFingerprint),
            ("m=application", .missingApplicationSection), ("v=", .notSDP),
        ])
    func missing(line: String, code: SDPError.Code) {
        let text = Fixture.aiortcData.text.split(separator: "\r\n").filter { !$0.hasPrefix(line) }.joined(separator: "\r\n")
        #expect(failure(text)?.code == code)
    }

    @Test(
        "what is wrong is named",
        arguments: [
            ("a=ice-ufrag:jPaz", "a=ice-ufrag:abc", SDPError.Code.invalidIceCredentials),
            ("a=ice-ufrag:jPaz", "a=ice-ufrag:a b c", .invalidIceCredentials),
            ("a=ice-pwd:lJmA", "a=ice-pwd:\u{E9}", .invalidIceCredentials),
            ("a=fingerprint:sha-", "a=fingerprint:md", .unsupportedFingerprint),
            ("a=setup:actpass", "a=setup:holdconn", .invalidSetup),
            ("a=setup:actpass", "a=setup:both", .invalidSetup),
            ("a=sctp-port:5000", "a=sctp-port:0", .invalidSctpPort),
            ("a=sctp-port:5000", "a=sctp-port:65536", .invalidSctpPort),
            ("a=max-message-size:262144", "a=max-message-size:-1", .invalidMaximumMessageSize),
            ("a=max-message-size:262144", "a=max-message-size:big", .invalidMaximumMessageSize),
            ("m=application 46617", "m=application 70000", .malformedMediaLine),
            ("m=application 46617", "m=application", .malformedMediaLine),
            ("m=application 46617", "m=application 0", .dataChannelRejected),
            ("UDP/DTLS/SCTP webrtc-datachannel", "RTP/AVP 96", .missingApplicationSection),
            ("v=0", "v=1", .notSDP),
        ])
    func wrong(from: String, to: String, code: SDPError.Code) {
        #expect(failure(Fixture.aiortcData.text.replacing(from, with: to))?.code == code)
    }

    @Test(
        "what is no description at all is refused",
        arguments: ["", "\r\n", "{}", "<html>", "v", "v=", "v=0 ", "o=- 0 0 IN IP4 0.0.0.0\r\nv=0\r\n", "\u{0}v=0"])
    func notSDP(text: String) {
        let code = failure(text)?.code
        #expect(code == .notSDP || code == .missingApplicationSection)
    }

    @Test("RFC 8841 §6.1: no max-message-size is 64 KiB, zero and absurd numbers are no limit")
    func maximumMessageSize() throws {
        func read(_ line: String) throws -> Int? {
            try SDP(parsing: Fixture.aiortcData.text.replacing("a=max-message-size:262144\r\n", with: line)).dataSession(of: .offer).maximumMessageSize
        }
        #expect(try read("") == 65_536)
        #expect(try read("a=max-message-size:0\r\n") == nil)
        #expect(try read("a=max-message-size:99999999999999999999999\r\n") == nil)
        #expect(try read("a=max-message-size:1\r\n") == 1)
    }

    @Test("RFC 8829 §5.10: an answer with other sections or mids is refused")
    func answerMismatch() throws {
        let offer = try SDP(parsing: Fixture.aiortcVideoAndData.text)
        func check(_ text: String) -> SDPError.Code? {
            do throws(SDPError) { try SDP(parsing: text).checkAnswer(to: offer) } catch { return error.code }
            return nil
        }
        #expect(check(Fixture.aiortcVideoAndData.text) == nil)
        #expect(check(Fixture.aiortcData.text) == .answerDoesNotMatchOffer)
        #expect(check(Fixture.aiortcVideoAndData.text.replacing("a=mid:1", with: "a=mid:7")) == .answerDoesNotMatchOffer)
        #expect(check(Fixture.aiortcVideoAndData.text.replacing("a=mid:1", with: "a=mid:0")) == .duplicateMid)
        #expect(check(Fixture.aiortcVideoAndData.text.replacing("m=video", with: "m=audio")) == .answerDoesNotMatchOffer)
    }

    @Test("an answer that chooses no role is refused")
    func answerWithoutRole() throws {
        #expect(failure(Fixture.aiortcData.text, .answer)?.code == .invalidSetup)
    }

    @Test("every prefix of every fixture is read or refused, and what is read is answered or refused", arguments: Fixture.allCases)
    func prefixes(fixture: Fixture) {
        let bytes = Array(fixture.text.utf8)
        for length in 0..<bytes.count {
            guard let sdp = try? SDP(parsing: String(decoding: bytes[..<length], as: UTF8.self)) else { continue }
            _ = try? sdp.answer(.example)
        }
    }

    @Test("flipped bytes are read or refused, and what is written stays one line per field", arguments: [UInt64](1...8))
    func flipped(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        for fixture in Fixture.allCases {
            for _ in 0..<60 {
                var bytes = Array(fixture.text.utf8)
                for _ in 0..<Int.random(in: 1...8, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
                }
                guard let sdp = try? SDP(parsing: String(decoding: bytes, as: UTF8.self)), let answer = try? sdp.answer(.example) else { continue }
                #expect((try? SDP(parsing: answer.text)) == answer)
            }
        }
    }

    @Test("hostile sizes are refused: bytes, lines, sections, candidates")
    func hostileSizes() throws {
        #expect(failure("v=0\r\n" + String(repeating: "a", count: 1 << 19))?.code == .tooLarge)
        #expect(failure("v=0\r\na=" + String(repeating: "a", count: 10_000))?.code == .tooLarge)
        #expect(failure("v=0\r\n" + String(repeating: "a=x\r\n", count: 9000))?.code == .tooLarge)
        #expect(failure("v=0\r\n" + String(repeating: "m=audio 9 RTP/AVP 0\r\n", count: 300))?.code == .tooLarge)
        #expect(failure(Fixture.aiortcData.text + String(repeating: "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n", count: 300))?.code == .tooLarge)
        let manyFingerprints = Fixture.aiortcData.text + String(repeating: "a=fingerprint:sha-1 00\r\n", count: 5000)
        #expect(try SDP(parsing: manyFingerprints).dataSession(of: .offer).fingerprints.count <= 16)
    }

    @Test("a value that we write never ends its line early")
    func injection() throws {
        var local = LocalDataSession.example
        local.mid = "0\r\na=evil:1"
        let sdp = try SDP(parsing: SDP.offer(local).text)
        #expect(!sdp.media[0].attributes.contains("evil"))
    }

    @Test("RFC 8122: sections without a fingerprint or credentials of their own take those of the session")
    func inheritance() throws {
        let text = """
            v=0
            o=- 1 1 IN IP4 0.0.0.0
            s=-
            t=0 0
            a=ice-lite
            a=ice-ufrag:sess
            a=ice-pwd:sessionsessionsessionse
            a=setup:passive
            a=fingerprint:SHA-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB
            m=application 9 TCP/DTLS/SCTP webrtc-datachannel
            """
        let session = try SDP(parsing: text).dataSession(of: .offer)
        #expect(session.mid == nil && session.isIceLite && session.credentials.ufrag == "sess" && session.setup == .passive)
        let answer = try SDP(parsing: text).answer(.example)
        #expect(answer.groups.isEmpty && answer.media.count == 1 && answer.media[0].mid == nil)
    }
}

private func failure(_ text: String, _ kind: SessionDescription.Kind = .offer) -> SDPError? {
    do throws(SDPError) { _ = try SDP(parsing: text).dataSession(of: kind) } catch { return error }
    return nil
}

extension LocalDataSession {
    fileprivate static var example: LocalDataSession {
        var session = LocalDataSession(
            sessionID: 77, credentials: IceCredentials(ufrag: "abcd", password: "0123456789abcdefghijkl"),
            fingerprints: [Fingerprint(algorithm: "sha-1", bytes: [UInt8](0..<20))], maximumMessageSize: 64 << 20)
        session.version = 3
        return session
    }
}
