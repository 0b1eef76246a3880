import Foundation
import FrameTransport
import NIOCore
import NIOPosix
import Testing
import WebRTC
import WebRTCNIO

@testable import Everyframe
@testable import EveryframeServer

/// RFC 9725, by a client made by hand and by our own.
@Suite(.timeLimit(.minutes(2)), .serialized) struct WhipTests {
    private static let sdp = ["Content-Type": "application/sdp"]

    private func offer(_ peer: PeerConnection) async throws -> String {
        _ = try await peer.createDataChannel(Lane.control.label, .init(protocol: Lane.subprotocol))
        _ = try await peer.createDataChannel(Lane.bulk.label, .init(protocol: Lane.subprotocol))
        try await peer.setLocalDescription(peer.createOffer())
        return try await peer.gatheringComplete().sdp
    }

    private func peer() async throws -> PeerConnection {
        var configuration = PeerConnection.Configuration()
        configuration.host = "127.0.0.1"
        return try await PeerConnection(configuration: configuration)
    }

    @Test("RFC 9725 §4.2: POST answers 201 with what belongs to it; the session's resource goes with DELETE")
    func session() async throws {
        try await withServer({
            $0.iceServers = [.init(urls: ["stun:stun.example.net"]), .init(urls: ["turn:turn.example.net?transport=udp"], username: "u\"", credential: "c")]
        }) { server in
            let peer = try await peer()
            let answer = try await server.request("POST", "/whip", headers: Self.sdp, body: try await offer(peer))
            #expect(answer.status == 201 && answer.headers["content-type"] == "application/sdp")
            #expect(answer.headers["accept-patch"] == "application/trickle-ice-sdpfrag")
            let tag = try #require(answer.headers["etag"])
            #expect(tag.hasPrefix("\"") && tag.hasSuffix("\""))
            let links = answer.headers["link"] ?? ""
            #expect(links.contains("<stun:stun.example.net>; rel=\"ice-server\""), "\(links)")
            #expect(
                links.contains("<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"u\\\"\"; credential=\"c\"; credential-type=\"password\""))
            let resource = try #require(answer.headers["location"])
            #expect(resource.hasPrefix("/whip/") && resource.utf8.count >= 6 + 32)
            try await peer.setRemoteDescription(SessionDescription(kind: .answer, sdp: answer.body))
            try await peer.waitUntilConnected(timeout: .seconds(60))
            #expect(try await server.request("DELETE", resource).status == 200)
            #expect(try await server.request("DELETE", resource).status == 404)
            await server.waitUntilEmpty()
            await peer.close()
        }
    }

    @Test("RFC 9725 §4.3: candidates come by PATCH, under the ETag of their ICE session; the session is found although the offer named no candidate")
    func trickle() async throws {
        try await withServer { server in
            let peer = try await peer()
            let whole = try await offer(peer)
            let bare = whole.split(separator: "\r\n").filter { !$0.hasPrefix("a=candidate") && !$0.hasPrefix("a=end-of") }.map { $0 + "\r\n" }.joined()
            let answer = try await server.request("POST", "/whip", headers: Self.sdp, body: bare)
            try #require(answer.status == 201, "\(answer.body)")
            let resource = try #require(answer.headers["location"])
            let tag = try #require(answer.headers["etag"])
            let fragment = try #require(await peer.localFragment)
            #expect(!fragment.candidates.isEmpty)
            func patch(_ tag: String?, _ body: String, type: String = TrickleFragment.contentType) async throws -> (Int, String) {
                var headers = ["Content-Type": type]
                headers["If-Match"] = tag
                let answer = try await server.request("PATCH", resource, headers: headers, body: body)
                return (answer.status, answer.body)
            }
            #expect(try await patch(nil, fragment.text).0 == 428)
            #expect(try await patch("\"other\"", fragment.text).0 == 412)
            #expect(try await patch(tag, fragment.text, type: "application/json").0 == 415)
            #expect(try await patch(tag, "a=mid:0\r\n").0 == 422)
            // another ICE session's, which nobody asked to begin
            var foreign = fragment
            foreign.ufrag = "nobody"
            #expect(try await patch(tag, foreign.text).0 == 422)
            #expect(try await patch(tag, fragment.text).0 == 204)
            #expect(try await patch("\"x\", \(tag)", fragment.text).0 == 204)
            try await peer.setRemoteDescription(SessionDescription(kind: .answer, sdp: answer.body))
            try await peer.waitUntilConnected(timeout: .seconds(60))
            // the server learnt it from the fragment: a check alone would have made it peer reflexive
            let id = try #require(try await server.get("/sessions").json["sessions"]?.array?.first?["id"]?.integer)
            let members = try #require(try await server.get("/sessions/\(id)/stats").json.object?.members)
            #expect(members.contains { $0.value["type"]?.string == "remote-candidate" && $0.value["candidateType"]?.string == "host" })
            // the session goes with its connection
            await peer.close()
            await server.waitUntilEmpty()
            #expect(try await patch(tag, fragment.text).0 == 404)
            #expect(try await server.request("DELETE", resource).status == 404)
        }
    }

    @Test("RFC 9725 §4.3.2: If-Match * with other credentials restarts ICE, or says that this is not supported")
    func restart() async throws {
        try await withServer { server in
            let peer = try await peer()
            let answer = try await server.request("POST", "/whip", headers: Self.sdp, body: try await offer(peer))
            let resource = try #require(answer.headers["location"])
            try await peer.setRemoteDescription(SessionDescription(kind: .answer, sdp: answer.body))
            try await peer.waitUntilConnected(timeout: .seconds(60))
            var fragment = try #require(await peer.localFragment)
            fragment.ufrag = "restarted"
            fragment.password = "restartedrestartedrestarted"
            let headers = ["Content-Type": TrickleFragment.contentType, "If-Match": "*"]
            let restarted = try await server.request("PATCH", resource, headers: headers, body: fragment.text)
            if restarted.status == 200 {
                let theirs = try TrickleFragment(parsing: restarted.body)
                #expect(restarted.headers["content-type"] == TrickleFragment.contentType && restarted.headers["etag"] != answer.headers["etag"])
                #expect(restarted.headers["etag"] == "\"\(theirs.ufrag)\"" && theirs.password != nil && !theirs.candidates.isEmpty)
                let old = ["Content-Type": TrickleFragment.contentType, "If-Match": answer.headers["etag"] ?? ""]
                #expect(try await server.request("PATCH", resource, headers: old, body: fragment.text).status == 412)
            } else {
                #expect(restarted.status == 422 && restarted.body.contains("restart ICE"), "\(restarted)")
            }
            await peer.close()
            await server.waitUntilEmpty()
        }
    }

    @Test("What is refused, and with which words: types, keys, methods, limits")
    func refusals() async throws {
        try await withServer({
            $0.apiKey = "sesame"
            $0.limits.sessions = 1
        }) { server in
            let key = ["Authorization": "Bearer sesame"]
            let peer = try await peer()
            let offer = try await offer(peer)
            #expect(try await server.request("POST", "/whip", headers: Self.sdp, body: offer).status == 401)
            let authorised = Self.sdp.merging(key) { $1 }
            #expect(try await server.request("POST", "/whip", headers: key.merging(["Content-Type": "text/plain"]) { $1 }, body: offer).status == 415)
            for (body, words) in [("nonsense", "does not begin with v=0"), ("", "no offer"), ("v=0\r\n", "no m=application")] {
                let answer = try await server.request("POST", "/whip", headers: authorised, body: body)
                #expect(answer.status == 400 && answer.body.contains(words), "\(answer)")
            }
            for method in ["GET", "PUT"] {
                let answer = try await server.request(method, "/whip", headers: key)
                #expect(answer.status == 405 && answer.headers["allow"] == "POST, OPTIONS", "\(answer)")
                #expect(try await server.request(method, "/whip/x", headers: key).status == 405)
            }
            let options = try await server.request("OPTIONS", "/whip")
            #expect(options.status == 204 && options.headers["accept-post"] == "application/sdp")
            let answer = try await server.request("POST", "/whip", headers: authorised, body: offer)
            #expect(answer.status == 201)
            let full = try await server.request("POST", "/whip", headers: authorised, body: offer)
            #expect(full.status == 503 && full.headers["retry-after"] != nil)
            let resource = try #require(answer.headers["location"])
            #expect(try await server.request("DELETE", resource).status == 401)
            #expect(try await server.request("DELETE", "/whip/0", headers: key).status == 404)
            #expect(try await server.request("DELETE", resource, headers: key).status == 200)
            await server.waitUntilEmpty()
            await peer.close()
        }
    }

    @Test("RFC 9725 §4.6: the client reads the links to ICE servers, and no others")
    func links() {
        let whole = WhipClient.iceServer(
            "<turn:t.example.net?transport=udp>; rel=\"ice-server\"; username=\"a\\\"b;c\"; credential=\"x\"; credential-type=\"password\"")
        #expect(whole?.urls == ["turn:t.example.net?transport=udp"] && whole?.username == "a\"b;c" && whole?.credential == "x")
        #expect(WhipClient.iceServer("<stun:s.example.net>; rel=ice-server")?.urls == ["stun:s.example.net"])
        for other in [
            "", "<", "<>", "stun:x; rel=ice-server", "<https://example.net>; rel=\"next\"", "<stun:x>", "<stun:x>; rel", "<stun:x>; rel=\"ice-server",
        ] {
            let server = WhipClient.iceServer(other)
            #expect(server == nil || other.hasSuffix("rel=\"ice-server"), "\(other)")
        }
    }

    @Test("docs/protocol.md, section 10: the probe channel answers, counts, and sends no more than its bound")
    func probe() async throws {
        try await withServer { server in
            let peer = try await peer()
            let channel = try await peer.createDataChannel(ProbeMessage.label, .init(protocol: ProbeMessage.subprotocol))
            try await peer.setLocalDescription(peer.createOffer())
            let answer = try await server.request("POST", "/whip", headers: Self.sdp, body: try await peer.gatheringComplete().sdp)
            try await peer.setRemoteDescription(SessionDescription(kind: .answer, sdp: answer.body))
            var messages = channel.messages.makeAsyncIterator()
            for nonsense in ["", "ping", "ping x", "ping -1", "pong 1", "sent 5", "send", "more words than two"] { try await channel.send(nonsense) }
            try await channel.send(ByteBuffer(repeating: 1, count: 100_000))
            try await channel.send("count")
            #expect(try await messages.next() == .text("received 100000"), "and nothing before it")
            try await channel.send("ping 7")
            #expect(try await messages.next() == .text("pong 7"))
            // far more than there is, twice
            var bytes = 0
            for expected in ["sent \(ProbeMessage.maximumBytes)", "sent 0"] {
                try await channel.send("send \(1 << 40)")
                reading: while let message = try await messages.next() {
                    switch message {
                    case .binary(let part): bytes += part.readableBytes
                    case .text(let text):
                        #expect(text == expected)
                        break reading
                    }
                }
            }
            #expect(bytes == ProbeMessage.maximumBytes)
            await peer.close()
            await server.waitUntilEmpty()
        }
    }

    @Test("A STUN server that never answers keeps no job waiting")
    func silentStun() async throws {
        let silent = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(host: "127.0.0.1", port: 0).get()
        let port = silent.localAddress?.port ?? 0
        try await withServer { server in
            var configuration = StreamConfiguration(server: server.url)
            configuration.peer.iceServers = [.init(urls: ["stun:127.0.0.1:\(port)"])]
            let peer = try await PeerConnection(configuration: configuration.peerConfiguration)
            _ = try await peer.createDataChannel(Lane.control.label, .init(protocol: Lane.subprotocol))
            let answer = try await Signalling(configuration: configuration).negotiate(peer, declaredFPS: nil)
            #expect(await peer.iceGatheringState == .gathering, "the answer is here and the STUN server is still being asked")
            // comes back when the server has been told that there are no more candidates
            await answer.whip?.trickle(peer)
            #expect(await peer.iceGatheringState == .complete)
            try await peer.waitUntilConnected(timeout: .seconds(60))
            await peer.close()
            let summary = try await EveryframeClient(configuration: configuration).run(GeneratedSource(10))
            #expect(summary.ok)
            await server.waitUntilEmpty()
        }
        try await silent.close()
    }
}
