import Foundation
import Hummingbird
import NIOCore
import WebRTC
import WebRTCNIO

/// Signalling as WHIP has it (RFC 9725), for data channels: an offer is POSTed as SDP and answered at once, candidates follow by PATCH (RFC 8840),
/// DELETE ends the session. What a job wants travels in the data channel (`everyframe.v1`), so that there is nothing to say here.
///
///     POST /whip               offer    ─► 201, answer; Location: the session's resource, ETag: its ICE session
///     PATCH /whip/…            If-Match ─► 204; 200 and this side's fragment where ICE is restarted (If-Match: *)
///     DELETE /whip/…                    ─► 200
struct WhipRoutes {
    static let path = "whip"
    private static let sdp = "application/sdp"

    let configuration: ServerConfiguration
    let registry: SessionRegistry
    let authorise: @Sendable (Request) throws(HTTPFault) -> Void

    func add(to router: Router<BasicRequestContext>) {
        router.post("\(Self.path)") { request, _ in try await offer(request) }
        router.patch("\(Self.path)/{token}") { request, context in try await trickle(request, try context.parameters.require("token")) }
        router.delete("\(Self.path)/{token}") { request, context in
            try authorise(request)
            guard await registry.endWhip(try context.parameters.require("token")) else { throw HTTPFault.noSession("") }
            return Response(status: .ok)
        }
        // §4.2: kept for later; and nobody is told whether there is such a session
        for method in [HTTPRequest.Method.get, .head, .put] {
            router.on("\(Self.path)", method: method) { _, _ -> Response in throw HTTPFault.methodNotAllowed("POST, OPTIONS") }
            router.on("\(Self.path)/{token}", method: method) { _, _ -> Response in throw HTTPFault.methodNotAllowed("PATCH, DELETE, OPTIONS") }
        }
        router.on("\(Self.path)", method: .options) { _, _ in
            Response(status: .noContent, headers: [.allow: "POST, OPTIONS", .acceptPost: Self.sdp])
        }
        router.on("\(Self.path)/{token}", method: .options) { _, _ in
            Response(status: .noContent, headers: [.allow: "PATCH, DELETE, OPTIONS", .acceptPatch: TrickleFragment.contentType])
        }
    }

    /// §4.2.
    private func offer(_ request: Request) async throws -> Response {
        try authorise(request)
        let offer = try await body(of: request, Self.sdp)
        guard !offer.isEmpty else { throw HTTPFault.offer("There is no offer in the request: delayed offers (RFC 9725 §4.4.4) are not supported") }
        let session = try await registry.openWhip(offer)
        var headers: HTTPFields = [
            .contentType: Self.sdp, .location: "/\(Self.path)/\(session.token)", .eTag: session.tag, .acceptPatch: TrickleFragment.contentType,
        ]
        for server in configuration.iceServers { headers.append(.init(name: .link, value: server.linkHeader)) }
        return Response(status: .created, headers: headers, body: .init(byteBuffer: ByteBuffer(string: session.answer.sdp)))
    }

    /// §4.3.
    private func trickle(_ request: Request, _ token: String) async throws -> Response {
        try authorise(request)
        let text = try await body(of: request, TrickleFragment.contentType)
        guard let session = await registry.whipSession(token) else { throw HTTPFault.noSession("") }
        // §4.3.1: so that candidates of an ICE session that was restarted do no harm
        guard let wanted = request.headers[.ifMatch] else { throw HTTPFault.preconditionRequired }
        let isAny = wanted.trimmingCharacters(in: .whitespaces) == "*"
        guard isAny || wanted.split(separator: ",").contains(where: { $0.trimmingCharacters(in: .whitespaces) == session.tag }) else {
            throw HTTPFault.preconditionFailed
        }
        let fragment: TrickleFragment
        do {
            fragment = try TrickleFragment(parsing: text)
        } catch {
            throw HTTPFault.fragment("The fragment cannot be read: \(error)")
        }
        let restarted: TrickleFragment?
        do {
            restarted = try await session.connection.apply(fragment, allowsRestart: isAny)
        } catch {
            // §4.3.2: what is not supported is told so
            throw HTTPFault.fragment("The fragment cannot be used: \(error)")
        }
        guard let restarted else { return Response(status: .noContent) }
        return Response(
            status: .ok, headers: [.contentType: TrickleFragment.contentType, .eTag: await registry.renewTag(of: token, restarted) ?? session.tag],
            body: .init(byteBuffer: ByteBuffer(string: restarted.text)))
    }

    private func body(of request: Request, _ type: String) async throws -> String {
        let given = request.headers[.contentType]?.split(separator: ";").first?.trimmingCharacters(in: .whitespaces).lowercased()
        guard given == type else { throw HTTPFault.mediaType(type) }
        return String(buffer: try await request.body.collect(upTo: min(configuration.limits.requestBytes, 1 << 18)))
    }
}

/// A session as its WHIP resource shows it.
struct WhipSession: Sendable {
    let id: Int
    /// Whoever knows it may send candidates for the session, and end it.
    let token: String
    /// The present ICE session's ETag.
    var tag: String
    let answer: SessionDescription
    let connection: PeerConnection

    /// Another ICE session has another ufrag (RFC 8839 §4.4.1.1.1).
    static func tag(of fragment: TrickleFragment) -> String { "\"\(fragment.ufrag)\"" }
}

extension HTTPFields.Element.Name {
    /// Named in RFC 5789 §3.1 and in the W3C's Linked Data Platform §7.1; known by these texts.
    fileprivate static var acceptPatch: Self { .init("Accept-Patch") ?? .accept }
    fileprivate static var acceptPost: Self { .init("Accept-Post") ?? .accept }
    fileprivate static var link: Self { .init("Link") ?? .via }
}

extension PeerConnection.IceServer {
    /// RFC 9725 §4.6: `<stun:stun.example.net>; rel="ice-server"`.
    var linkHeader: String {
        urls.map { url in
            var link = "<\(url)>; rel=\"ice-server\""
            if let username { link += "; username=\"\(Self.quoted(username))\"" }
            if let credential { link += "; credential=\"\(Self.quoted(credential))\"; credential-type=\"password\"" }
            return link
        }.joined(separator: ", ")
    }

    private static func quoted(_ text: String) -> String { text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") }
}
