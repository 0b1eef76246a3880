public import NIOCore

/// A message on `inference`, from the server to the client: the answer to one frame, or the end of the job.
///
///     {"video_metadata":{"frame_id":123,"received_at":"2025-11-11T12:48:10.123456","pts":null,"time_base":null,
///      "declared_fps":20.0,"measured_fps":null},"serialized_output_data":{"predictions":{…},"count":12},"errors":[]}
public struct ResultMessage: Hashable, Sendable {
    public struct VideoMetadata: Hashable, Sendable {
        public var frameID: Int
        /// ISO 8601 with microseconds.
        public var receivedAt: String?
        public var pts: Int?
        /// Seconds for one unit of `pts`.
        public var timeBase: Double?
        public var declaredFPS: Double?
        public var measuredFPS: Double?

        public init(
            frameID: Int, receivedAt: String?, pts: Int? = nil, timeBase: Double? = nil, declaredFPS: Double? = nil, measuredFPS: Double? = nil
        ) {
            self.frameID = frameID
            self.receivedAt = receivedAt
            self.pts = pts
            self.timeBase = timeBase
            self.declaredFPS = declaredFPS
            self.measuredFPS = measuredFPS
        }
    }

    /// What the last message says beside the fields of every message.
    public struct Completion: Hashable, Sendable {
        /// Nil for a job that came to its end, `timeout_reached`, `frame_error` or another word otherwise.
        public var terminationReason: String?
        /// Where the time went; absent from other servers.
        public var stages: StageReport?

        public init(terminationReason: String?, stages: StageReport? = nil) {
            self.terminationReason = terminationReason
            self.stages = stages
        }
    }

    public var videoMetadata: VideoMetadata
    /// The outputs by name; nil where the frame failed, and for the end of the job.
    public var outputs: JSON?
    public var errors: [String]
    /// Set in the last message only.
    public var completion: Completion?

    public init(videoMetadata: VideoMetadata, outputs: JSON?, errors: [String] = [], completion: Completion? = nil) {
        self.videoMetadata = videoMetadata
        self.outputs = outputs
        self.errors = errors
        self.completion = completion
    }

    /// Why a text is not such a message.
    public enum DecodingError: Error, Hashable, Sendable {
        case notJSON(JSONError)
        /// Neither metadata with a frame id nor the end of the job.
        case notAResult
    }
}

/// p50 and p99 of each stage, in milliseconds.
public struct StageReport: Hashable, Sendable {
    public struct Stage: Hashable, Sendable {
        public var name: String
        public var p50: Double
        public var p99: Double

        public init(name: String, p50: Double, p99: Double) {
            self.name = name
            self.p50 = p50
            self.p99 = p99
        }
    }
    public var stages: [Stage]

    public init(stages: [Stage]) { self.stages = stages }

    public var json: JSON {
        .object(
            JSONObject(
                members: stages.map { .init(name: $0.name, value: .object(["p50": .number($0.p50), "p99": .number($0.p99)])) }))
    }

    init?(_ json: JSON?) {
        guard let object = json?.object else { return nil }
        stages = object.members.compactMap { member in
            guard let p50 = member.value["p50"]?.double, let p99 = member.value["p99"]?.double else { return nil }
            return Stage(name: member.name, p50: p50, p99: p99)
        }
    }
}

extension ResultMessage {
    public var json: JSON {
        var metadata: JSONObject = ["frame_id": .integer(videoMetadata.frameID)]
        metadata.append("received_at", videoMetadata.receivedAt.map(JSON.string) ?? .null)
        metadata.append("pts", videoMetadata.pts.map(JSON.integer) ?? .null)
        metadata.append("time_base", videoMetadata.timeBase.map(JSON.number) ?? .null)
        metadata.append("declared_fps", videoMetadata.declaredFPS.map(JSON.number) ?? .null)
        metadata.append("measured_fps", videoMetadata.measuredFPS.map(JSON.number) ?? .null)
        var message: JSONObject = [
            "video_metadata": .object(metadata), "serialized_output_data": outputs ?? .null, "errors": .array(errors.map(JSON.string)),
        ]
        if let completion {
            message.append("processing_complete", true)
            message.append("termination_reason", completion.terminationReason.map(JSON.string) ?? .null)
            if let stages = completion.stages { message.append("stages", stages.json) }
        }
        return .object(message)
    }

    public init(parsing text: ByteBuffer) throws(DecodingError) {
        let json: JSON
        do throws(JSONError) { json = try JSON(parsing: text) } catch { throw .notJSON(error) }
        let isComplete = json["processing_complete"]?.bool ?? false
        let metadata = json["video_metadata"]
        guard let id = metadata?["frame_id"]?.integer ?? (isComplete ? 0 : nil) else { throw .notAResult }
        let outputs = json["serialized_output_data"]
        self.init(
            videoMetadata: VideoMetadata(
                frameID: id, receivedAt: metadata?["received_at"]?.string, pts: metadata?["pts"]?.integer,
                timeBase: metadata?["time_base"]?.double, declaredFPS: metadata?["declared_fps"]?.double,
                measuredFPS: metadata?["measured_fps"]?.double),
            outputs: outputs?.isNull == true ? nil : outputs,
            errors: json["errors"]?.array?.map { $0.string ?? $0.description } ?? [],
            completion: isComplete
                ? Completion(terminationReason: json["termination_reason"]?.string, stages: StageReport(json["stages"])) : nil)
    }
}
