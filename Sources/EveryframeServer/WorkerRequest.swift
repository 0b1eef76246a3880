import FrameTransport
import NIOCore

/// The body of `POST /initialise_webrtc_worker`, checked (PROTOCOLS.md sections 1 and 2). Unknown fields are ignored.
struct WorkerRequest {
    enum FrameTransportKind: String, CaseIterable {
        case dataChannel = "data_channel"
        case mediaTrack = "media_track"
    }
    enum OutputMode: String, CaseIterable {
        case dataOnly = "data_only"
        case videoOnly = "video_only"
        case both
    }

    /// What the messages on the data channels are.
    enum FrameProtocol: String, CaseIterable {
        case prototype
        case everyframe = "everyframe.v1"
    }

    var apiKey: String?
    var offer: String
    var frameTransport = FrameTransportKind.mediaTrack
    var frameProtocol = FrameProtocol.prototype
    var outputMode = OutputMode.both
    var dataOutput: DataOutput
    var declaredFPS: Double?
    /// Seconds.
    var processingTimeout: Int?

    private let offerKind: String?
    private let transportName: String?
    private let modeName: String?
    private let protocolName: String?

    /// Checks the types of the fields; `checkConfiguration` what they say.
    init(parsing body: ByteBuffer) throws(HTTPFault) {
        guard body.readableBytes > 0 else { throw .schema(SchemaFault("missing", ["body"], "Field required", .null)) }
        let json: JSON
        do throws(JSONError) {
            json = try JSON(parsing: body)
        } catch {
            throw .schema(SchemaFault("json_invalid", ["body", .integer(error.offset)], "JSON decode error", [:], context: ["error": .string("\(error)")]))
        }
        guard case .object = json else {
            throw .schema(
                SchemaFault("model_attributes_type", ["body"], "Input should be a valid dictionary or object to extract fields from", json))
        }
        var fields = FieldReader(json: json, location: ["body"])
        apiKey = fields.string("api_key")
        if let workflow = fields.object("workflow_configuration") {
            fields.check(
                workflow["type"]?.string == "WorkflowConfiguration",
                SchemaFault(
                    "literal_error", ["body", "workflow_configuration", "type"], "Input should be 'WorkflowConfiguration'", workflow["type"] ?? .null,
                    context: ["expected": "'WorkflowConfiguration'"]))
        }
        let offerFields = fields.object("webrtc_offer", isRequired: true)
        var description = FieldReader(json: offerFields ?? [:], location: ["body", "webrtc_offer"])
        offerKind = description.string("type", isRequired: true)
        offer = description.string("sdp", isRequired: true) ?? ""
        if offerFields != nil { fields.faults += description.faults }
        let names = fields.strings("data_output")
        _ = fields.strings("stream_output")
        declaredFPS = fields.double("declared_fps")
        processingTimeout = fields.integer("processing_timeout")
        transportName = fields.string("frame_transport")
        modeName = fields.string("output_mode")
        protocolName = fields.string("frame_protocol")
        dataOutput = names.map { $0.contains("*") ? .all : .named($0.filter { !$0.isEmpty }) } ?? .all
        guard fields.faults.isEmpty else { throw .schema(fields.faults) }
    }

    /// Refuses what cannot be served, given the outputs that the model has.
    mutating func checkConfiguration(available: [String]) throws(HTTPFault) {
        guard offerKind == "offer" else { throw .configuration("Invalid webrtc_offer: its type is '\(offerKind ?? "")', not 'offer'") }
        frameTransport = try Self.named(transportName, "frame_transport", default: .mediaTrack)
        frameProtocol = try Self.named(protocolName, "frame_protocol", default: .prototype)
        // each job of that protocol says for itself what it wants
        if frameProtocol == .everyframe { return }
        outputMode = try Self.named(modeName, "output_mode", default: .both)
        guard frameTransport == .dataChannel else {
            throw .configuration(
                "frame_transport 'media_track' is not supported by this server yet; frames travel over a data channel: frame_transport 'data_channel'"
            )
        }
        guard outputMode != .videoOnly else {
            throw .configuration("output_mode 'video_only' needs a media track, which this server does not support yet; use 'data_only'")
        }
        if let processingTimeout, processingTimeout <= 0 {
            throw .configuration("Invalid processing_timeout: \(processingTimeout) is not a positive number of seconds")
        }
        if let declaredFPS, !(declaredFPS > 0 && declaredFPS <= 100_000) {
            throw .configuration("Invalid declared_fps: \(declaredFPS) is not between 0 and 100000")
        }
        guard case .named(let names) = dataOutput else { return }
        let unknown = names.filter { !available.contains($0) }
        guard !unknown.isEmpty else { return }
        throw .configuration("Invalid data_output fields: \(Self.list(unknown)). Available workflow outputs: \(Self.list(available))")
    }

    private static func list(_ names: [String]) -> String { "[" + names.map { "'\($0)'" }.joined(separator: ", ") + "]" }

    private static func named<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String?, _ field: String, default fallback: Choice
    ) throws(HTTPFault) -> Choice {
        guard let name else { return fallback }
        guard let choice = Choice(rawValue: name) else {
            throw .configuration("Invalid \(field): '\(name)'. It is one of \(list(Choice.allCases.map(\.rawValue)))")
        }
        return choice
    }
}

/// Reads the fields of an object and collects what is wrong with them, in the words of FastAPI.
private struct FieldReader {
    let json: JSON
    let location: [JSON]
    var faults: [SchemaFault] = []

    init(json: JSON, location: [JSON]) {
        self.json = json
        self.location = location
    }

    mutating func check(_ condition: Bool, _ fault: SchemaFault) {
        if !condition { faults.append(fault) }
    }

    mutating func string(_ name: String, isRequired: Bool = false) -> String? {
        read(name, isRequired, "string_type", "Input should be a valid string") { $0.string }
    }

    mutating func object(_ name: String, isRequired: Bool = false) -> JSON? {
        read(name, isRequired, "model_attributes_type", "Input should be a valid dictionary or object to extract fields from") {
            $0.object == nil ? nil : $0
        }
    }

    mutating func strings(_ name: String) -> [String]? {
        guard let values = read(name, false, "list_type", "Input should be a valid list", { $0.array }) else { return nil }
        return values.enumerated().compactMap { index, value in
            // null stands for an output without a name in what the SDK sends
            if value.isNull { return nil }
            check(value.string != nil, fault("string_type", [.string(name), .integer(index)], "Input should be a valid string", value))
            return value.string
        }
    }

    mutating func double(_ name: String) -> Double? {
        read(name, false, "float_type", "Input should be a valid number") { $0.double }
    }

    mutating func integer(_ name: String) -> Int? {
        guard let value = json[name], !value.isNull else { return nil }
        if let text = value.string {
            check(
                Int(text) != nil, fault("int_parsing", [.string(name)], "Input should be a valid integer, unable to parse string as an integer", value))
            return Int(text)
        }
        check(value.integer != nil, fault("int_type", [.string(name)], "Input should be a valid integer", value))
        return value.integer
    }

    private mutating func read<Value>(_ name: String, _ isRequired: Bool, _ type: String, _ message: String, _ convert: (JSON) -> Value?) -> Value? {
        guard let value = json[name], isRequired || !value.isNull else {
            check(!isRequired, fault("missing", [.string(name)], "Field required", json))
            return nil
        }
        let converted = convert(value)
        check(converted != nil, fault(type, [.string(name)], message, value))
        return converted
    }

    private func fault(_ type: String, _ path: [JSON], _ message: String, _ input: JSON) -> SchemaFault {
        SchemaFault(type, location + path, message, input)
    }
}

extension JSONError {
    fileprivate var offset: Int {
        switch self {
        case .unexpectedByte(let offset), .badNumber(let offset), .badString(let offset): offset
        case .unexpectedEnd, .tooDeep: 0
        }
    }
}
