import FrameTransport
import Inference
import Logging
import Media
import Wire

/// The model as sessions see it: a picture in, outputs by name out. It queues what comes beyond its requests in flight.
struct Predictor: Sendable {
    struct Prediction: Sendable {
        var outputs: JSONObject
        /// Until the engine had a place.
        var wait: Duration
        var inference: Duration
    }

    /// What a result can carry.
    static let outputs = ["predictions", "count"]

    private let model: any Model

    var name: String { model.name }
    var requestsInFlight: Int { model.requestsInFlight }

    /// The model of the configuration, loaded.
    static func load(_ configuration: ServerConfiguration, logger: Logger) async throws(ServerError) -> Predictor {
        do throws(InferenceError) {
            let model = try await ModelCatalog.load(configuration.model, options: ModelOptions(requestsInFlight: configuration.requestsInFlight))
            if model.isSynthetic { logger.warning("Model \(model.name) makes its answers up: for measurements only") }
            return Predictor(model: model)
        } catch {
            throw ServerError(.modelUnavailable, "\(error)")
        }
    }

    func predict(_ picture: VideoFrame) async throws(InferenceError) -> Prediction {
        let start = WallClock.now()
        let result = try await model.infer(picture)
        let taken = WallClock.now() - start
        let wait = min(result.waited, taken)
        return Prediction(outputs: Self.json(result), wait: wait, inference: taken - wait)
    }

    /// The shape of Roboflow's detections, boxes by their centre: `{"predictions":{"image":…,"predictions":[…]},"count":N}`.
    private static func json(_ result: Inference.FrameResult) -> JSONObject {
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
