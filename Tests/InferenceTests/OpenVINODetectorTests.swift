import Foundation
import Inference
import Media
import Testing

/// What was found in some frames of the sample footage; pictures with these boxes drawn in were looked at, and each sits on a person.
struct Expectation: Codable {
    struct Frame: Codable {
        var index: Int
        var detections: [Detection]
    }
    var footage: String
    var frames: [Frame]

    static func load() throws -> Expectation {
        let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/people.json")
        return try JSONDecoder().decode(Expectation.self, from: Data(contentsOf: url))
    }
}

enum Footage {
    static func frames(_ indices: Set<Int>) throws -> [Int: VideoFrame] {
        let path = ".deps/footage/vtest.avi"
        try #require(FileManager.default.fileExists(atPath: path), "the footage is missing: run `scripts/setup footage`")
        let reader = try VideoFileReader(path: path)
        var frames: [Int: VideoFrame] = [:]
        while let frame = try reader.next(), let last = indices.max(), reader.framesRead <= last + 1 {
            if indices.contains(reader.framesRead - 1) { frames[reader.framesRead - 1] = frame }
        }
        return frames
    }
}

/// The default model, loaded once for the tests that only ask it.
enum Shared {
    private static let loading = Task { try await ModelCatalog.load() }
    static func model() async throws -> any Model { try await loading.value }
}

/// Boxes and confidences differ a little between machines, whose arithmetic differs.
func expectSame(_ found: [Detection], _ expected: [Detection], overlap: Double = 0.8, slack: Double = 0.1, _ about: String) {
    // near the threshold either answer is right
    for wanted in expected where wanted.confidence > 0.4 + slack {
        let match = found.max { $0.overlap(with: wanted) < $1.overlap(with: wanted) }
        #expect((match?.overlap(with: wanted) ?? 0) > overlap, "\(about): no box where \(wanted) was expected")
        #expect(abs((match?.confidence ?? 0) - wanted.confidence) < slack, "\(about): \(match?.confidence ?? 0) for \(wanted)")
        #expect(match?.className == wanted.className)
    }
    for detection in found where detection.confidence > 0.4 + slack {
        #expect(expected.contains { $0.overlap(with: detection) > overlap }, "\(about): unexpected \(detection)")
    }
}

@Suite struct OpenVINODetectorTests {
    @Test("People are found where they stand, in every pixel format", arguments: PixelFormat.allCases)
    func people(_ format: PixelFormat) async throws {
        let expectation = try Expectation.load()
        let frames = try Footage.frames(Set(expectation.frames.map(\.index)))
        let model = try await Shared.model()
        let converter = PixelConverter()
        for expected in expectation.frames {
            let frame = try converter.convert(try #require(frames[expected.index]), to: format)
            let result = try await model.infer(frame)
            #expect((result.width, result.height, result.isSynthetic) == (768, 576, false))
            expectSame(result.detections, expected.detections, "\(format), frame \(expected.index)")
        }
    }

    @Test("JPEG of quality 85 hides nobody who was plain to see")
    func afterJPEG() async throws {
        let expectation = try Expectation.load()
        let frames = try Footage.frames(Set(expectation.frames.map(\.index)))
        let (model, codec) = (try await Shared.model(), JPEGCodec())
        for expected in expectation.frames {
            let frame = try codec.decode(try codec.encode(try #require(frames[expected.index]), quality: 85))
            let found = try await model.infer(frame).detections
            expectSame(found, expected.detections, overlap: 0.7, slack: 0.25, "frame \(expected.index)")
        }
    }

    @Test("The graph's own way of sizing pictures finds the same")
    func ownSampling() async throws {
        let expectation = try Expectation.load()
        let frames = try Footage.frames(Set(expectation.frames.map(\.index)))
        let model = try await OpenVINODetector.load(
            path: ".deps/models/people-ssdlite/frozen_inference_graph.pb", name: "whole pictures", classNames: ["person"])
        for expected in expectation.frames {
            expectSame(
                try await model.infer(try #require(frames[expected.index])).detections, expected.detections, slack: 0.15, "frame \(expected.index)")
        }
    }

    @Test("The same frame gets the same answer, however many are asked for at once, and answers keep the order")
    func deterministicAndOrdered() async throws {
        let frames = try Footage.frames([0, 100, 200])
        let pictures = try [0, 100, 200].map { try #require(frames[$0]) }
        let model = try await ModelCatalog.load(options: ModelOptions(requestsInFlight: 3))
        #expect(model.requestsInFlight == 3)
        var single: [[Detection]] = []
        for picture in pictures { single.append(try await model.infer(picture).detections) }
        let results = try await model.infer((0..<60).map { pictures[$0 % 3] })
        for (index, result) in results.enumerated() { #expect(result.detections == single[index % 3]) }
        #expect(Set(single.map(\.count)).count > 1)
    }

    @Test("A batch finds what its frames hold one by one")
    func batches() async throws {
        let expectation = try Expectation.load()
        let frames = try Footage.frames(Set(expectation.frames.map(\.index)))
        let model = try await ModelCatalog.load(options: ModelOptions(batchSize: 3))
        #expect(model.batchSize == 3)
        let results = try await model.infer(expectation.frames.compactMap { frames[$0.index] })
        #expect(results.count == expectation.frames.count)
        for (result, expected) in zip(results, expectation.frames) { expectSame(result.detections, expected.detections, "frame \(expected.index)") }
    }

    @Test("Pictures of any size are answered, with boxes inside them", arguments: [(1, 1), (2, 2000), (1999, 3), (300, 300), (1920, 1080)])
    func anySize(_ size: (Int, Int)) async throws {
        let model = try await ModelCatalog.load(options: ModelOptions(confidence: 0))
        let frame = VideoFrame(.bgr24, width: size.0, height: size.1) { for index in $0.indices { $0[index] = UInt8(index % 251) } }
        let result = try await model.infer(frame)
        #expect((result.width, result.height) == size)
        for found in result.detections {
            #expect(found.x >= 0 && found.y >= 0 && found.x + found.width <= Double(size.0) + 0.001 && found.y + found.height <= Double(size.1) + 0.001)
        }
        #expect(try await model.infer([]).isEmpty)
    }

    @Test("Cancelled tasks leave the queue; the others are answered")
    func cancellation() async throws {
        let frame = try #require(try Footage.frames([0])[0])
        let model = try await Shared.model()
        let expected = try await model.infer(frame).detections
        let tasks = (0..<40).map { _ in Task { try await model.infer(frame) } }
        for (index, task) in tasks.enumerated() where index % 2 == 1 { task.cancel() }
        for (index, task) in tasks.enumerated() {
            switch await task.result {
            case .success(let result): #expect(result.detections == expected)
            case .failure(let error): #expect(error as? InferenceError == .cancelled && index % 2 == 1)
            }
        }
    }

    @Test("A model may be let go of while it works")
    func letGo() async throws {
        let frame = try #require(try Footage.frames([0])[0])
        for _ in 0..<3 {
            var model: (any Model)? = try await ModelCatalog.load()
            let asked = try #require(model)
            let task = Task { try await asked.infer([VideoFrame](repeating: frame, count: 4)).count }
            model = nil
            #expect(try await task.value == 4)
        }
    }

    @Test("The engine names itself")
    func engine() async throws {
        let model = try await Shared.model()
        #expect(model.engine.name == "OpenVINO" && model.engine.version.hasPrefix("2026.") && !model.engine.device.isEmpty)
        #expect(model.requestsInFlight >= 1 && model.name == "people-ssdlite" && model.classNames == ["person"])
    }

    @Test("Our declarations of the engine's functions are those of its own header")
    func header() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let include = root.path + "/.deps/py/openvino/include"
        try #require(FileManager.default.fileExists(atPath: include), "the engine is missing: run `scripts/setup engine`")
        let source = FileManager.default.temporaryDirectory.appendingPathComponent("everyframe-header-\(UUID().uuidString).c")
        defer { try? FileManager.default.removeItem(at: source) }
        let text = "#define EVERYFRAME_OPENVINO_HEADER 1\n#include <openvino/c/openvino.h>\n#include \"\(root.path)/Sources/COpenVINO/shim.h\"\n"
        try Data(text.utf8).write(to: source)
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        compiler.arguments = ["clang", "-fsyntax-only", "-I", include, source.path]
        let output = Pipe()
        compiler.standardError = output
        try compiler.run()
        let complaints = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        compiler.waitUntilExit()
        #expect(compiler.terminationStatus == 0, "\(complaints)")
    }
}
