import WebRTC

/// Descriptions as other stacks write them, re-typed, with keys and addresses of no meaning.
enum Fixture: String, CaseIterable, Sendable {
    case aiortcData, aiortcVideoAndData, chromiumData, chromiumAudioVideoData, firefoxData, libdatachannelData, pionData, legacyFirefox

    var text: String {
        switch self {
        case .aiortcData: Self.lines(Self.aiortcSession(bundle: "0"), Self.aiortcApplication(mid: "0"))
        case .aiortcVideoAndData: Self.lines(Self.aiortcSession(bundle: "0 1"), Self.aiortcVideo, Self.aiortcApplication(mid: "1"))
        case .chromiumData: Self.lines(Self.chromiumSession(bundle: "0"), Self.chromiumApplication(mid: "0", bundleOnly: false))
        case .chromiumAudioVideoData:
            Self.lines(
                Self.chromiumSession(bundle: "0 1 2"), Self.chromiumAudio, Self.chromiumVideo, Self.chromiumApplication(mid: "2", bundleOnly: true))
        case .firefoxData: Self.lines(Self.firefox)
        // LF only, as it comes out of many a template
        case .libdatachannelData: Self.libdatachannel
        case .pionData: Self.lines(Self.pion)
        case .legacyFirefox: Self.lines(Self.legacy)
        }
    }

    /// mid, ufrag, candidates, max-message-size and whether there is more to come.
    var expected: (mid: String?, ufrag: String, candidates: Int, maximum: Int?, trickles: Bool, ended: Bool, hashes: [String]) {
        switch self {
        case .aiortcData: ("0", "jPaz", 1, 262_144, false, true, ["sha-256", "sha-384", "sha-512"])
        case .aiortcVideoAndData: ("1", "jPaz", 1, 262_144, false, true, ["sha-256", "sha-384", "sha-512"])
        case .chromiumData: ("0", "Yk+3", 3, 262_144, true, false, ["sha-256"])
        case .chromiumAudioVideoData: ("2", "Yk+3", 3, 262_144, true, false, ["sha-256"])
        case .firefoxData: ("0", "5a8b1f3e", 2, 1_073_741_823, true, true, ["sha-256"])
        case .libdatachannelData: ("0", "Vq7m", 2, 262_144, true, false, ["sha-256"])
        case .pionData: ("0", "EsAwQZmmKIgjGFOm", 2, 65_536, false, true, ["sha-256"])
        case .legacyFirefox: ("sdparta_0", "0a1b2c3d", 1, 1_073_741_823, true, false, ["sha-256"])
        }
    }

    private static func lines(_ parts: String...) -> String {
        parts.flatMap { $0.split(separator: "\n") }.map { $0 + "\r\n" }.joined()
    }
}

private func digits(_ count: Int, _ seed: UInt8) -> String {
    (0..<count).map { index in
        let byte = seed &+ UInt8(index) &* 37
        return (byte < 16 ? "0" : "") + String(byte, radix: 16).uppercased()
    }.joined(separator: ":")
}

extension Fixture {
    private static func aiortcSession(bundle: String) -> String {
        """
        v=0
        o=- 4004363932 4004363932 IN IP4 0.0.0.0
        s=-
        t=0 0
        a=group:BUNDLE \(bundle)
        a=msid-semantic:WMS *
        """
    }

    private static let aiortcTransport = """
        a=candidate:41c49a367b69f260933ec15436c8fa3b 1 udp 2130706431 192.0.2.7 46617 typ host
        a=end-of-candidates
        a=ice-ufrag:jPaz
        a=ice-pwd:lJmAVJgJSumEi5dLOjZQ1R
        a=fingerprint:sha-256 \(digits(32, 1))
        a=fingerprint:sha-384 \(digits(48, 2))
        a=fingerprint:sha-512 \(digits(64, 3))
        a=setup:actpass
        """

    private static func aiortcApplication(mid: String) -> String {
        """
        m=application 46617 UDP/DTLS/SCTP webrtc-datachannel
        c=IN IP4 192.0.2.7
        a=mid:\(mid)
        a=sctp-port:5000
        a=max-message-size:262144
        \(aiortcTransport)
        """
    }

    private static let aiortcVideo = """
        m=video 46617 UDP/TLS/RTP/SAVPF 97 98 99
        c=IN IP4 192.0.2.7
        a=sendrecv
        a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
        a=mid:0
        a=msid:786275e5-4fc3-406c-8e45-f3435d2e3d02 cb4024dd-0e9c-4b65-a71a-da32cfa880d7
        a=rtcp:9 IN IP4 0.0.0.0
        a=rtcp-mux
        a=ssrc:2473770153 cname:54af0193-6aaf-4620-8818-14b7f48c9f38
        a=rtpmap:97 VP8/90000
        a=rtcp-fb:97 nack
        a=rtcp-fb:97 nack pli
        a=rtpmap:98 rtx/90000
        a=fmtp:98 apt=97
        a=rtpmap:99 H264/90000
        a=fmtp:99 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
        \(aiortcTransport)
        """

    private static func chromiumSession(bundle: String) -> String {
        """
        v=0
        o=- 6640194823109482711 2 IN IP4 127.0.0.1
        s=-
        t=0 0
        a=group:BUNDLE \(bundle)
        a=extmap-allow-mixed
        a=msid-semantic: WMS 
        """
    }

    private static let chromiumTransport = """
        a=ice-ufrag:Yk+3
        a=ice-pwd:p3o/8Zc2pHcIw9p7nJ3Q0c1Z
        a=ice-options:trickle
        a=fingerprint:sha-256 \(digits(32, 9))
        a=setup:actpass
        """

    private static let chromiumCandidates = """
        a=candidate:2498133614 1 udp 2113937151 4b1f7c3a-6f0a-4f1f-9f44-0d1a5d1f3f5e.local 53211 typ host generation 0 network-cost 999
        a=candidate:842163049 1 udp 1677729535 198.51.100.4 53211 typ srflx raddr 0.0.0.0 rport 0 generation 0 network-cost 999
        a=candidate:3162849711 1 tcp 1518280447 192.0.2.31 9 typ host tcptype active generation 0 network-id 1
        """

    private static let chromiumAudio = """
        m=audio 53211 UDP/TLS/RTP/SAVPF 111 63 0 8
        c=IN IP4 198.51.100.4
        a=rtcp:9 IN IP4 0.0.0.0
        \(chromiumCandidates)
        \(chromiumTransport)
        a=mid:0
        a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
        a=sendrecv
        a=msid:- 0b8b2f6f-1a3c-4d1e-8d1a-5c1c5c6b7a01
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:111 opus/48000/2
        a=rtcp-fb:111 transport-cc
        a=fmtp:111 minptime=10;useinbandfec=1
        """

    private static let chromiumVideo = """
        m=video 0 UDP/TLS/RTP/SAVPF 96 97
        c=IN IP4 0.0.0.0
        a=rtcp:9 IN IP4 0.0.0.0
        \(chromiumTransport)
        a=mid:1
        a=bundle-only
        a=recvonly
        a=rtcp-mux
        a=rtpmap:96 VP8/90000
        a=rtcp-fb:96 goog-remb
        a=rtpmap:97 rtx/90000
        a=fmtp:97 apt=96
        """

    private static func chromiumApplication(mid: String, bundleOnly: Bool) -> String {
        """
        m=application \(bundleOnly ? 0 : 53211) UDP/DTLS/SCTP webrtc-datachannel
        c=IN IP4 \(bundleOnly ? "0.0.0.0" : "198.51.100.4")
        \(bundleOnly ? "a=bundle-only" : chromiumCandidates)
        \(chromiumTransport)
        a=mid:\(mid)
        a=sctp-port:5000
        a=max-message-size:262144
        """
    }

    private static let firefox = """
        v=0
        o=mozilla...THIS_IS_SDPARTA-99.0 3514713946158092911 0 IN IP4 0.0.0.0
        s=-
        t=0 0
        a=fingerprint:sha-256 \(digits(32, 21))
        a=group:BUNDLE 0
        a=ice-options:trickle
        a=msid-semantic:WMS *
        m=application 39401 UDP/DTLS/SCTP webrtc-datachannel
        c=IN IP6 2001:db8::21
        a=candidate:0 1 UDP 2122252543 2001:db8::21 39401 typ host
        a=candidate:1 1 TCP 2105524479 2001:db8::21 9 typ host tcptype active
        a=sendrecv
        a=end-of-candidates
        a=ice-pwd:c9a2a0ef8c0fba0f0d9ad1d7ea1cd0b4
        a=ice-ufrag:5a8b1f3e
        a=mid:0
        a=setup:actpass
        a=sctp-port:5000
        a=max-message-size:1073741823
        """

    private static let libdatachannel = """
        v=0
        o=rtc 3124118417 0 IN IP4 127.0.0.1
        s=-
        t=0 0
        a=group:BUNDLE 0
        a=group:LS 0
        a=msid-semantic:WMS *
        a=setup:actpass
        a=ice-ufrag:Vq7m
        a=ice-pwd:OJ3RgkA1V6kBDQ3hA9fnbc
        a=ice-options:ice2,trickle
        a=fingerprint:sha-256 \(digits(32, 33))
        m=application 45820 UDP/DTLS/SCTP webrtc-datachannel
        c=IN IP4 192.0.2.99
        a=mid:0
        a=sendrecv
        a=sctp-port:5000
        a=max-message-size:262144
        a=candidate:1 1 UDP 2122317823 192.0.2.99 45820 typ host
        a=candidate:2 1 UDP 2122317311 2001:db8::99 45820 typ host

        """

    private static let pion = """
        v=0
        o=- 7083211452013841903 1700000000 IN IP4 0.0.0.0
        s=-
        t=0 0
        a=msid-semantic:WMS*
        a=fingerprint:sha-256 \(digits(32, 44))
        a=extmap-allow-mixed
        a=group:BUNDLE 0
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel
        c=IN IP4 0.0.0.0
        a=setup:actpass
        a=mid:0
        a=sendrecv
        a=sctp-port:5000
        a=ice-ufrag:EsAwQZmmKIgjGFOm
        a=ice-pwd:JnQvLGJRgPwkXhaQLdAFRpCFYKgiWxyM
        a=candidate:2103219563 1 udp 2130706431 192.0.2.50 51820 typ host ufrag EsAwQZmmKIgjGFOm
        a=candidate:2103219563 2 udp 2130706431 192.0.2.50 51820 typ host ufrag EsAwQZmmKIgjGFOm
        a=end-of-candidates
        """

    private static let legacy = """
        v=0
        o=mozilla...THIS_IS_SDPARTA-52.0 971342098735 0 IN IP4 0.0.0.0
        s=-
        t=0 0
        a=sendrecv
        a=fingerprint:sha-256 \(digits(32, 55))
        a=group:BUNDLE sdparta_0
        a=ice-options:trickle
        a=msid-semantic:WMS *
        m=application 50101 DTLS/SCTP 5000
        c=IN IP4 192.0.2.70
        a=candidate:0 1 UDP 2122252543 192.0.2.70 50101 typ host
        a=sendrecv
        a=ice-pwd:0f1e2d3c4b5a69788796a5b4c3d2e1f0
        a=ice-ufrag:0a1b2c3d
        a=mid:sdparta_0
        a=sctpmap:5000 webrtc-datachannel 256
        a=setup:actpass
        a=max-message-size:1073741823
        """
}
