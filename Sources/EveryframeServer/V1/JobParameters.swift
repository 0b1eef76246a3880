import FrameTransport

/// What a client asks of this server for a job (`open`'s `parameters`), checked. Unknown names are ignored.
///
///     {"output_mode": "data", "data_output": null, "image": {"encoding": "jpeg", "quality": 85}, "stride": 1, "realtime": false, "model": null}
struct JobParameters: Hashable, Sendable {
    enum OutputMode: String, Hashable, Sendable, CaseIterable {
        case data
        case video
        case both
    }

    /// How annotated pictures come back.
    enum ImageFormat: Hashable, Sendable {
        /// 1 to 100.
        case jpeg(quality: Int)
        /// x264's constant rate factor, 0 to 51; smaller is better.
        case h264(quality: Int)
    }

    var outputMode = OutputMode.data
    var dataOutput = DataOutput.all
    /// nil where no pictures are wanted.
    var image: ImageFormat?
    /// Of the pictures of access units, the first of each so many is answered; the others have no picture.
    var stride = 1
    /// The source is live: decode without delay rather than with several threads.
    var isLive = false

    /// Why a job is not taken, in words for the client.
    struct Refusal: Error, Hashable {
        var message: String
    }

    init(_ json: JSON, model: String, outputs: [String]) throws(Refusal) {
        if let name = json["output_mode"], !name.isNull {
            guard let mode = name.string.flatMap({ OutputMode(rawValue: $0) }) else {
                throw Refusal(message: "output_mode \(name) is none of data, video, both")
            }
            outputMode = mode
        }
        if let names = json["data_output"], !names.isNull {
            guard let list = names.array, list.allSatisfy({ $0.string != nil }) else { throw Refusal(message: "data_output is not a list of names") }
            let wanted = list.compactMap(\.string)
            let unknown = wanted.filter { $0 != "*" && !outputs.contains($0) }
            guard unknown.isEmpty else {
                throw Refusal(message: "there is no output \(unknown.joined(separator: ", ")); there are \(outputs.joined(separator: ", "))")
            }
            dataOutput = wanted.contains("*") ? .all : .named(wanted)
        }
        if let name = json["model"], !name.isNull, name.string != model { throw Refusal(message: "this server has the model \(model), not \(name)") }
        if let number = json["stride"], !number.isNull {
            guard let stride = number.integer, stride >= 1 else { throw Refusal(message: "stride \(number) is not a positive number") }
            self.stride = stride
        }
        isLive = json["realtime"]?.bool ?? false
        if outputMode != .data { image = try Self.image(json["image"]) }
    }

    private static func image(_ json: JSON?) throws(Refusal) -> ImageFormat {
        let name = json?["encoding"]?.string ?? "jpeg"
        let quality = json?["quality"]?.integer
        switch name {
        case "jpeg":
            guard (1...100).contains(quality ?? 85) else { throw Refusal(message: "a JPEG quality of \(quality ?? 0) is not between 1 and 100") }
            return .jpeg(quality: quality ?? 85)
        case "h264":
            guard (0...51).contains(quality ?? 23) else { throw Refusal(message: "an H.264 quality of \(quality ?? 0) is not between 0 and 51") }
            return .h264(quality: quality ?? 23)
        default: throw Refusal(message: "pictures come as jpeg or h264, not as \(name)")
        }
    }
}

/// Which outputs of the model a result carries.
enum DataOutput: Hashable, Sendable {
    case all
    /// Metadata only where empty.
    case named([String])

    /// The outputs that the client asked for; nil where it asked for none.
    func select(from outputs: JSONObject) -> JSON? {
        switch self {
        case .all: .object(outputs)
        case .named(let names) where names.isEmpty: nil
        // a result that was made up says so whatever is asked for
        case .named(let names): .object(JSONObject(members: outputs.members.filter { names.contains($0.name) || $0.name == "synthetic" }))
        }
    }
}
