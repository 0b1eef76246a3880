import Foundation
import Inference
import Media
import Testing

@Suite struct ModelCatalogTests {
    @Test(
        "An unknown model is refused with the names of those there are",
        arguments: ["yolo", "synthetic:", "synthetic:fast", "synthetic:-1ms", "synthetic:5m", ""])
    func unknown(_ name: String) async {
        await #expect(throws: InferenceError.unknownModel(id: name, known: ["people-ssdlite"])) { _ = try await ModelCatalog.load(name) }
        #expect(InferenceError.unknownModel(id: name, known: ["people-ssdlite"]).description.contains("people-ssdlite"))
    }

    @Test("A model file that is missing, or none at all, says so")
    func badFiles() async throws {
        await #expect(throws: InferenceError.modelUnreadable(path: "/nowhere/model.pb", reason: "there is no such file")) {
            _ = try await ModelCatalog.load("/nowhere/model.pb")
        }
        for name in ["model.pb", "model.onnx", "model.xml", "model.txt"] {
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("everyframe-\(UUID().uuidString)-\(name)").path
            try Data("this is not a model".utf8).write(to: URL(fileURLWithPath: path))
            defer { try? FileManager.default.removeItem(atPath: path) }
            await #expect {
                _ = try await ModelCatalog.load(path)
            } throws: { error in
                switch error as? InferenceError {
                case .modelUnreadable(path, let reason): !reason.isEmpty && !reason.contains("\n")
                case .modelUnsupported(path, _): true
                default: false
                }
            }
        }
    }

    @Test("What is missing says how to install it")
    func instructions() {
        #expect(InferenceError.engineNotInstalled(searched: ["a"]).description.contains("scripts/setup engine"))
        #expect(InferenceError.modelNotInstalled(id: "x", searched: ["a"]).description.contains("scripts/setup model"))
    }

    @Test(
        "Synthetic models take the time they are told to",
        arguments: [
            ("synthetic:75ms", Duration.milliseconds(75)), ("synthetic:75", .milliseconds(75)), ("synthetic:0ms", .zero),
            ("synthetic:0.5ms", .microseconds(500)),
            ("synthetic:250us", .microseconds(250)), ("synthetic:2s", .seconds(2)), ("synthetic", .zero),
        ])
    func delays(_ name: String, _ delay: Duration) async throws {
        let model = try #require(try await ModelCatalog.load(name, options: ModelOptions(requestsInFlight: 3)) as? SyntheticModel)
        #expect(model.delay == delay && model.requestsInFlight == 3 && model.isSynthetic)
    }

    @Test("A synthetic engine of n slots works on n frames at a time", arguments: [1, 2, 4])
    func slots(_ count: Int) async throws {
        let model = SyntheticModel(delay: .microseconds(200), requestsInFlight: count)
        let frame = VideoFrame(.bgr24, width: 4, height: 2) { for index in $0.indices { $0[index] = 0 } }
        let results = try await model.infer([VideoFrame](repeating: frame, count: 9))
        #expect(results.map(\.waited) == (0..<9).map { .microseconds(200) * ($0 / count) })
        #expect(results.allSatisfy { $0.isSynthetic && $0.detections.isEmpty && $0.width == 4 && $0.height == 2 })
    }

    @Test("Waiting for a synthetic engine can be cancelled")
    func cancelled() async {
        let model = SyntheticModel(delay: .seconds(3600))
        let frame = VideoFrame(.bgr24, width: 1, height: 1) { for index in $0.indices { $0[index] = 0 } }
        let task = Task { try await model.infer(frame) }
        task.cancel()
        await #expect(throws: InferenceError.cancelled) { _ = try await task.value }
    }
}
