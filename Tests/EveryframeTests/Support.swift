import Everyframe
import Foundation
import FrameTransport
import NIOCore
import Testing

/// A folder that goes away with its test.
final class Workshop: Sendable {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("everyframe-outputs-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    func text(_ name: String) throws -> String { String(decoding: try Data(contentsOf: URL(fileURLWithPath: path(name))), as: UTF8.self) }
    func size(_ name: String) throws -> Int { try Data(contentsOf: URL(fileURLWithPath: path(name))).count }
    var names: [String] { get throws { try FileManager.default.contentsOfDirectory(atPath: folder.path) } }
}

func box(_ name: String = "car", id: Int? = 2, x: Double = 30, y: Double = 20, width: Double = 10, height: Double = 8, confidence: Double? = 0.5) -> JSON {
    var object: JSONObject = ["x": .number(x), "y": .number(y), "width": .number(width), "height": .number(height), "class": .string(name)]
    if let id { object.append("class_id", .integer(id)) }
    if let confidence { object.append("confidence", .number(confidence)) }
    return .object(object)
}

func result(_ id: Int, _ boxes: [JSON] = [], errors: [String] = [], pts: Int64? = nil) -> StreamResult {
    let outputs: JSON = [
        "predictions": ["image": ["width": 64, "height": 48], "predictions": .array(boxes)], "count": .integer(boxes.count),
    ]
    return StreamResult(
        frameID: id, pts: pts ?? Int64(id - 1) * 40, timeBase: TimeBase(numerator: 1, denominator: 1000), outputs: errors.isEmpty ? outputs : nil,
        errors: errors)
}
