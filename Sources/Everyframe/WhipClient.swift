import Foundation
import NIOCore
import NIOHTTP1
import WebRTC
import WebRTCNIO

/// A client's side of a WHIP session (RFC 9725): its candidates follow the offer, and it says goodbye.
final class WhipClient: Sendable {
    private let signalling: Signalling
    /// The session's resource; nil where the server names none, or one at another host, which is not to have the key.
    private let resource: String?
    private let tag: String?
    /// STUN and TURN servers that the server names (RFC 9725 §4.6).
    let iceServers: [PeerConnection.IceServer]
    /// What the server knows of us already.
    private let offer: String

    init(signalling: Signalling, endpoint: String, offer: String, headers: HTTPHeaders) {
        self.signalling = signalling
        self.offer = offer
        tag = headers.first(name: "ETag")
        iceServers = headers["Link"].flatMap { $0.replacing(", <", with: "\n<").split(separator: "\n") }.prefix(16)
            .compactMap { Self.iceServer(String($0)) }
        let base = URL(string: endpoint)
        let resource = headers.first(name: "Location").flatMap { URL(string: $0, relativeTo: base)?.absoluteURL }
        let isSameHost = resource?.scheme == base?.scheme && resource?.host == base?.host && resource?.port == base?.port
        self.resource = isSameHost ? resource?.absoluteString : nil
    }

    /// Sends the candidates that the offer did not have, as they are found, until there are no more, the connection ends, or the task is cancelled.
    ///
    /// The one consumer of the connection's events. A server that does not take them is no reason to end: what the offer had may be enough.
    func trickle(_ peer: PeerConnection) async {
        guard let resource, let tag, var known = offered else { return }
        guard !known.hasEndOfCandidates else { return }
        for await event in peer.events {
            switch event {
            case .iceCandidate, .iceGatheringStateChanged(.complete): break
            default: continue
            }
            guard var fragment = await peer.localFragment, fragment.ufrag == known.ufrag else { return }
            let all = fragment
            fragment.candidates.removeAll { known.candidates.contains($0) }
            guard !fragment.candidates.isEmpty || fragment.hasEndOfCandidates != known.hasEndOfCandidates else { continue }
            // RFC 9725 §4.3.1
            let reply = try? await signalling.send(
                .PATCH, resource, type: TrickleFragment.contentType, headers: [("If-Match", tag)], body: ByteBuffer(string: fragment.text),
                timeout: .seconds(10))
            guard let reply, (200..<300).contains(reply.status), !all.hasEndOfCandidates else { return }
            known = all
        }
    }

    /// `<turn:turn.example.net>; rel="ice-server"; username="…"; credential="…"` (RFC 8288 §3); nil for links to anything else.
    static func iceServer(_ link: String) -> PeerConnection.IceServer? {
        guard link.hasPrefix("<"), let end = link.firstIndex(of: ">") else { return nil }
        var parameters: [String: String] = [:]
        var rest = link[link.index(after: end)...]
        while let start = rest.firstIndex(of: ";") {
            rest = rest[rest.index(after: start)...].drop { $0 == " " }
            let name = rest.prefix { $0 != "=" && $0 != ";" }.trimmingCharacters(in: .whitespaces).lowercased()
            rest = rest.drop { $0 != "=" && $0 != ";" }
            guard rest.first == "=" else { continue }
            rest = rest.dropFirst()
            var value = ""
            if rest.first == "\"" {
                rest = rest.dropFirst()
                while let character = rest.popFirst(), character != "\"" { value.append(character == "\\" ? rest.popFirst() ?? character : character) }
            } else {
                value = String(rest.prefix { $0 != ";" }).trimmingCharacters(in: .whitespaces)
            }
            parameters[name] = value
        }
        guard parameters["rel"]?.lowercased() == "ice-server" else { return nil }
        let url = String(link[link.index(after: link.startIndex)..<end])
        return .init(urls: [url], username: parameters["username"], credential: parameters["credential"])
    }

    private var offered: TrickleFragment? { (try? SDP(parsing: offer)).flatMap { try? TrickleFragment($0) } }

    /// Says goodbye (RFC 9725 §4.2); the server would find out by itself, later.
    func end() async {
        guard let resource else { return }
        _ = try? await signalling.send(.DELETE, resource, timeout: .seconds(2))
    }
}
