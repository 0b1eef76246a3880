import FrameTransport
import Inference
import Logging
import Media
import Wire

/// The model as sessions see it: pictures in, outputs by name out. All sessions share its batches.
struct Predictor: Sendable {
    /// What a result can carry.
    static let outputs = ["predictions", "count"]

    private let model: any Model
    private let batcher: Batcher

    var name: String { model.name }
    var requestsInFlight: Int { model.requestsInFlight }

    init(model: any Model, batchWait: Duration) {
        self.model = model
        batcher = Batcher(model: model, options: .init(maximumWait: batchWait))
    }

    /// The model of the configuration, loaded.
    static func load(_ configuration: ServerConfiguration, logger: Logger) async throws(ServerError) -> Predictor {
        do throws(InferenceError) {
            let options = ModelOptions(requestsInFlight: configuration.requestsInFlight, batchSize: configuration.batchSize)
            let model = try await ModelCatalog.load(configuration.model, options: options)
            if model.isSynthetic { logger.warning("Model \(model.name) makes its answers up: for measurements only") }
            return Predictor(model: model, batchWait: configuration.batchWait)
        } catch {
            throw ServerError(.modelUnavailable, "\(error)")
        }
    }

    /// One job's turn among all.
    func makeStream() -> Batcher.Stream { batcher.makeStream() }

    var batches: Batcher.Statistics { batcher.statistics }

    /// The shape of Roboflow's detections, boxes by their centre: `{"predictions":{"image":…,"predictions":[…]},"count":N}`.
    static func json(_ result: Inference.FrameResult) -> JSONObject {
        let boxes = result.detections.map { found -> JSON in
            [
                "x": .number(rounded(found.x + found.width / 2)), "y": .number(rounded(found.y + found.height / 2)),
                "width": .number(rounded(found.width)), "height": .number(rounded(found.height)),
                "confidence": .number((found.confidence * 1e4).rounded() / 1e4), "class": .string(found.className),
                "class_id": .integer(found.classID),
            ]
        }
        var outputs: JSONObject = [
            "predictions": [
                "image": ["width": .integer(result.width), "height": .integer(result.height)], "predictions": .array(boxes),
            ],
            "count": .integer(boxes.count),
        ]
        if result.isSynthetic { outputs.append("synthetic", true) }
        return outputs
    }

    private static func rounded(_ pixels: Double) -> Double { (pixels * 100).rounded() / 100 }
}
