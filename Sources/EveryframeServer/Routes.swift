import Foundation
import FrameTransport
import Hummingbird
import Logging
import NIOCore
import WebRTC

/// The HTTP side.
struct Routes {
    let configuration: ServerConfiguration
    let registry: SessionRegistry
    let hub: FrameHub
    let predictor: Predictor
    let metrics: MetricsExporter?
    let log: Logger

    func responder() -> RouterResponder<BasicRequestContext> {
        let router = Router()
        router.add(middleware: FaultMiddleware(log: log))
        router.post("initialise_webrtc_worker") { request, _ in try await initialise(request) }
        for path in ["healthz", "readiness"] as [RouterPath] {
            router.get(path) { _, _ in Response(json: ["status": "ok", "model": .string(predictor.name), "sessions": .integer(await registry.count)]) }
        }
        if let metrics {
            router.get("metrics") { _, _ in
                ServerMetrics.report(await hub.state, predictor.batches)
                return Response(
                    status: .ok, headers: [.contentType: MetricsExporter.contentType], body: .init(byteBuffer: ByteBuffer(string: metrics.text)))
            }
        }
        WhipRoutes(configuration: configuration, registry: registry) { request throws(HTTPFault) in try authorise(request) }.add(to: router)
        router.get("sessions") { request, _ in
            try authorise(request)
            return Response(json: ["sessions": .array(await registry.numbers.map { ["id": .integer($0)] })])
        }
        router.get("sessions/{id}/stats") { request, context in
            try authorise(request)
            let id = try context.parameters.require("id")
            guard let number = Int(id), let report = await registry.stats(of: number) else { throw HTTPFault.noSession(id) }
            return Response(
                status: .ok, headers: [.contentType: "application/json"], body: .init(byteBuffer: ByteBuffer(bytes: try JSONEncoder().encode(report))))
        }
        return router.buildResponder()
    }

    private func initialise(_ request: Request) async throws -> Response {
        let body = try await request.body.collect(upTo: configuration.limits.requestBytes)
        var worker = try WorkerRequest(parsing: body)
        guard isAuthorised(bodyKey: worker.apiKey, header: request.headers[.authorization]) else { throw HTTPFault.unauthorized }
        try worker.checkConfiguration(available: Predictor.outputs)
        let answer = try await registry.open(worker)
        return Response(json: [
            "status": "success", "context": ["request_id": .null, "pipeline_id": .null], "sdp": .string(answer.sdp), "type": .string(answer.kind.rawValue),
            "frame_protocol": .string(worker.frameProtocol.rawValue),
        ])
    }

    /// The key as a bearer token (RFC 6750 §2.1), for requests that have no body to carry it.
    private func authorise(_ request: Request) throws(HTTPFault) {
        guard isAuthorised(bodyKey: nil, header: request.headers[.authorization]) else { throw .unauthorized }
    }

    private func isAuthorised(bodyKey: String?, header: String?) -> Bool {
        guard let key = configuration.apiKey else { return true }
        var candidates: [String] = []
        if let bodyKey { candidates.append(bodyKey) }
        if let header, header.lowercased().hasPrefix("bearer ") { candidates.append(String(header.dropFirst(7))) }
        return candidates.contains { Self.areEqual($0, key) }
    }

    /// In time that depends on the lengths only.
    private static func areEqual(_ left: String, _ right: String) -> Bool {
        guard left.utf8.count == right.utf8.count else { return false }
        return zip(left.utf8, right.utf8).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

/// Turns what is thrown into the bodies that clients know, and logs each refusal once.
private struct FaultMiddleware: RouterMiddleware {
    let log: Logger

    /// Whoever knows the name of a WHIP session can end it: no log has it.
    private static func path(of request: Request) -> String {
        let prefix = "/\(WhipRoutes.path)/"
        return request.uri.path.hasPrefix(prefix) ? "\(prefix)…" : request.uri.path
    }

    func handle(
        _ request: Request, context: BasicRequestContext, next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let fault as HTTPFault {
            ServerMetrics.requestRefused()
            log.warning("\(request.method) \(Self.path(of: request)) refused with \(fault.status): \(fault.summary)")
            var response = Response(json: fault.body, status: .init(code: fault.status))
            switch fault {
            case .tooManySessions, .shuttingDown: response.headers[.retryAfter] = "5"
            case .methodNotAllowed(let methods): response.headers[.allow] = methods
            case .unauthorized: response.headers[.wwwAuthenticate] = "Bearer"
            default: break
            }
            return response
        } catch let error as HTTPError {
            ServerMetrics.requestRefused()
            log.debug("\(request.method) \(Self.path(of: request)) refused with \(error.status.code)")
            let isUnknown = error.status == .notFound || error.status == .methodNotAllowed
            let status = isUnknown ? .notFound : error.status
            return Response(json: ["detail": .string(status.reasonPhrase)], status: status)
        } catch is NIOTooManyBytesError {
            ServerMetrics.requestRefused()
            log.warning("\(request.method) \(Self.path(of: request)) refused with 413: the body is too large")
            return Response(json: ["detail": "Request Entity Too Large"], status: .contentTooLarge)
        } catch {
            log.error("\(request.method) \(Self.path(of: request)) failed: \(error)")
            return Response(json: ["message": "Internal error."], status: .internalServerError)
        }
    }
}

extension Response {
    fileprivate init(json: JSON, status: HTTPResponse.Status = .ok) {
        var body = ByteBuffer()
        json.write(into: &body)
        self.init(status: status, headers: [.contentType: "application/json"], body: .init(byteBuffer: body))
    }
}
