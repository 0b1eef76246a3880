import FrameTransport

/// What a job asks of the server, found out from the configuration and the source's first frame.
struct JobPlan: Sendable {
    let first: SourceFrame?
    let encoder: FrameEncoder
    let policy: DropPolicy
    /// Frames refer to others.
    let isDependent: Bool
    let request: JobRequest

    init(_ configuration: StreamConfiguration, _ source: any FrameSource) async throws(StreamError) {
        let isLive = await source.isLive
        do {
            // what is to be encoded here must be decoded here
            switch configuration.encoding {
            case nil, .source: try await source.prepare(needsPixels: false)
            case .jpeg, .png, .raw: try await source.prepare(needsPixels: true)
            }
            first = try await source.next()
        } catch {
            throw error as? StreamError ?? StreamError(.sourceFailed, "\(error)")
        }
        let encoding = first.map { FrameEncoder.encoding(configuration.encoding, for: $0) } ?? configuration.encoding ?? .source
        if encoding == .source, let first {
            guard case .unit = first.content else { throw FrameEncoder.noUnits }
        }
        encoder = FrameEncoder(encoding: encoding)
        isDependent = encoding == .source && first?.isIndependent == false
        if encoding != .source, configuration.stride > 1 {
            policy = .everyNth(configuration.stride)
        } else {
            policy = configuration.dropPolicy ?? (isLive ? .latest : .all)
        }
        // what cannot be left out is said before the server is asked
        _ = try Self.gate(policy, isDependent: isDependent)
        var parameters: JSONObject = [:]
        switch configuration.output {
        case .data: parameters.append("output_mode", "data")
        case .video: parameters.append("output_mode", "video")
        case .both: parameters.append("output_mode", "both")
        }
        switch configuration.output.image {
        case .jpeg(let quality): parameters.append("image", ["encoding": "jpeg", "quality": .integer(quality)])
        case .h264(let quality): parameters.append("image", ["encoding": "h264", "quality": .integer(quality)])
        case nil: break
        }
        switch configuration.dataOutput {
        case .all: break
        case .none: parameters.append("data_output", [])
        case .named(let names): parameters.append("data_output", .array(names.map(JSON.string)))
        }
        if encoding == .source, configuration.stride > 1 { parameters.append("stride", .integer(configuration.stride)) }
        if isLive { parameters.append("realtime", true) }
        request = JobRequest(
            encoding: encoding.payloadEncoding, window: configuration.window, dropPolicy: policy, resultFormat: configuration.messageFormat,
            parameters: .object(parameters))
    }

    static func gate(_ policy: DropPolicy, isDependent: Bool) throws(StreamError) -> FrameGate<SourceFrame> {
        do throws(DropPolicyError) {
            return try FrameGate(policy, isDependent: isDependent)
        } catch {
            throw StreamError(
                .invalidConfiguration,
                error == .badValue
                    ? "a rate or count of a drop policy is not above zero"
                    : "frames of a stream whose pictures refer to each other cannot be left out one by one: choose another encoding, or a stride")
        }
    }
}
