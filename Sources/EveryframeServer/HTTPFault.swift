import FrameTransport

/// Why a request was refused, in the shapes that clients of the prototype and of Roboflow's worker read.
enum HTTPFault: Error, Hashable {
    /// 422, as FastAPI has it.
    case schema([SchemaFault])
    /// 400: a combination or value that cannot be served.
    case configuration(String)
    /// 400: the offer is not SDP, or not one that can be answered.
    case offer(String)
    /// 401.
    case unauthorized
    /// 404: it has ended, or there never was one.
    case noSession(String)
    /// 405, with the methods that there are.
    case methodNotAllowed(String)
    /// 412: the ICE session that the request means is not the present one.
    case preconditionFailed
    /// 415, with the type that is taken.
    case mediaType(String)
    /// 422: candidates that cannot be used.
    case fragment(String)
    /// 428.
    case preconditionRequired
    /// 503.
    case tooManySessions(limit: Int)
    /// 503.
    case shuttingDown

    static func schema(_ fault: SchemaFault) -> HTTPFault { .schema([fault]) }

    /// HTTP.
    var status: Int {
        switch self {
        case .schema: 422
        case .configuration, .offer: 400
        case .unauthorized: 401
        case .noSession: 404
        case .methodNotAllowed: 405
        case .preconditionFailed: 412
        case .mediaType: 415
        case .fragment: 422
        case .preconditionRequired: 428
        case .tooManySessions, .shuttingDown: 503
        }
    }

    var body: JSON {
        switch self {
        case .schema(let faults): ["detail": .array(faults.map(\.json))]
        case .configuration(let message): Self.error(message, "WebRTCConfigurationError")
        case .offer(let message): Self.error(message, "WebRTCOfferError")
        case .unauthorized: Self.error("Unauthorized: the api_key is missing or wrong", "UnauthorizedError")
        case .noSession(let name):
            Self.error("There is no session\(name.isEmpty ? "" : " '\(name.prefix(64))'") here: it has ended, or never was", "NoSessionError")
        case .methodNotAllowed(let methods): Self.error("This method is not for this resource; there are: \(methods)", "MethodNotAllowedError")
        case .preconditionFailed: Self.error("If-Match does not name the present ICE session; its ETag came with the answer", "PreconditionFailedError")
        case .mediaType(let type): Self.error("The body's Content-Type has to be \(type)", "UnsupportedMediaTypeError")
        case .fragment(let message): Self.error(message, "TrickleFragmentError")
        case .preconditionRequired:
            Self.error("If-Match is missing: the ETag that came with the answer, or * to restart ICE", "PreconditionRequiredError")
        case .tooManySessions(let limit): Self.error("All \(limit) sessions of this server are taken; try again later", "TooManySessionsError")
        case .shuttingDown: Self.error("This server is shutting down", "ShuttingDownError")
        }
    }

    /// One line for the log; no secret and nothing of the request's text in it.
    var summary: String {
        switch self {
        case .schema(let faults): "schema: " + faults.map { "\($0.path): \($0.message)" }.joined(separator: "; ")
        default: body["message"]?.string ?? ""
        }
    }

    private static func error(_ message: String, _ type: String) -> JSON { ["message": .string(message), "error_type": .string(type)] }
}

/// One entry of FastAPI's `detail`.
struct SchemaFault: Hashable {
    var type: String
    var location: [JSON]
    var message: String
    var input: JSON
    var context: JSON?

    init(_ type: String, _ location: [JSON], _ message: String, _ input: JSON, context: JSON? = nil) {
        self.type = type
        self.location = location
        self.message = message
        self.input = input
        self.context = context
    }

    var path: String { location.map { $0.string ?? $0.description }.joined(separator: ".") }

    var json: JSON {
        var object: JSONObject = ["type": .string(type), "loc": .array(location), "msg": .string(message), "input": Self.redacted(input)]
        if let context { object.append("ctx", context) }
        return .object(object)
    }

    /// A key that came with a faulty request does not go back with the error.
    private static func redacted(_ json: JSON) -> JSON {
        guard case .object(var object) = json, object["api_key"]?.string != nil else { return json }
        object["api_key"] = "***"
        return .object(object)
    }
}
