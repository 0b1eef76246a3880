/// Why a model could not be had, or a frame not be answered. Each case describes itself in one sentence for a person.
package enum InferenceError: Error, Equatable {
    case engineNotInstalled(searched: [String])
    /// There is a library of that name, but it is not what it should be.
    case engineUnusable(path: String, reason: String)
    case unknownModel(id: String, known: [String])
    case modelNotInstalled(id: String, searched: [String])
    case modelUnreadable(path: String, reason: String)
    /// It loads, but what it takes or gives is not known here.
    case modelUnsupported(path: String, reason: String)
    case inferenceFailed(reason: String)
    case badFrame(reason: String)
    case cancelled
}

extension InferenceError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .engineNotInstalled(let searched):
            "the inference engine OpenVINO is not installed: run `make setup` or `scripts/setup engine`, or set EVERYFRAME_OPENVINO to its library "
                + "(searched: \(searched.joined(separator: ", ")))"
        case .engineUnusable(let path, let reason): "the inference engine \(path) cannot be used: \(reason)"
        case .unknownModel(let id, let known):
            "there is no model '\(id)'; known are \(known.joined(separator: ", ")), synthetic:MS, or the path of a model file"
        case .modelNotInstalled(let id, let searched):
            "the weights of model '\(id)' are not installed: run `make setup` or `scripts/setup model` (searched: \(searched.joined(separator: ", ")))"
        case .modelUnreadable(let path, let reason): "the model \(path) cannot be read: \(reason)"
        case .modelUnsupported(let path, let reason): "the model \(path) is of a kind that is not supported: \(reason)"
        case .inferenceFailed(let reason): "inference failed: \(reason)"
        case .badFrame(let reason): "the frame cannot be inferred: \(reason)"
        case .cancelled: "cancelled"
        }
    }
}
