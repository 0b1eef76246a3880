import Everyframe
import Foundation
import FrameTransport
import NIOCore
import Testing

@Suite struct DetectionTests {
    @Test("Detections are those of the named output, of predictions, or of the first that has some")
    func outputs() {
        let list: JSON = ["predictions": [box()]]
        #expect(StreamResult(frameID: 1, outputs: ["count": 1, "mine": list]).detections().map(\.className) == ["car"])
        #expect(StreamResult(frameID: 1, outputs: ["mine": list, "predictions": ["predictions": []]]).detections().isEmpty)
        #expect(StreamResult(frameID: 1, outputs: ["mine": list, "predictions": ["predictions": []]]).detections(of: "mine").count == 1)
        #expect(StreamResult(frameID: 1, outputs: ["mine": list]).detections(of: "other").isEmpty)
        #expect(StreamResult(frameID: 1).detections().isEmpty)
        #expect(StreamResult(frameID: 1, outputs: [1, 2]).detections().isEmpty)
    }

    @Test("What is no detection is left out, and half a box is none")
    func shapes() {
        let odd: JSON = ["predictions": ["predictions": [1, .null, ["class": "sky", "confidence": 0.25], ["x": 1, "y": 2, "width": 3]]]]
        let found = StreamResult(frameID: 1, outputs: odd).detections()
        #expect(found.count == 2)
        #expect(found[0] == Detection(className: "sky", confidence: 0.25))
        #expect(found[1] == Detection(className: nil))
        #expect(Detection(["x": .number(.nan), "y": 1, "width": 1, "height": 1])?.box == nil)
    }
}

@Suite struct JSONLinesSinkTests {
    let workshop: Workshop
    init() throws { workshop = try Workshop() }

    @Test("A line for each result, and any other line")
    func lines() async throws {
        let sink = try JSONLinesSink(path: workshop.path("out.jsonl"))
        let results = [result(1, [box("a \"b\"\n")]), result(2), result(3, errors: ["broken", "twice"])]
        for result in results { try await sink.write(result) }
        try await sink.write(["summary": true])
        try await sink.finish()
        let lines = try workshop.text("out.jsonl").split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count == 5 && lines[4].isEmpty)
        #expect(try lines.prefix(3).map { try JSON(parsing: ByteBuffer(string: String($0))) } == results.map(\.json))
        #expect(lines[3] == "{\"summary\":true}")
    }

    @Test("Without results the file is empty, and an old one is emptied")
    func empty() async throws {
        try Data("old".utf8).write(to: URL(fileURLWithPath: workshop.path("out.jsonl")))
        let sink = try JSONLinesSink(path: workshop.path("out.jsonl"))
        try await sink.finish()
        try await sink.finish()
        #expect(try workshop.text("out.jsonl") == "")
        await #expect(throws: OutputError.self) { try await sink.write(result(1)) }
    }

    @Test("Many results go to the disk as they come")
    func many() async throws {
        let sink = try JSONLinesSink(path: workshop.path("out.jsonl"))
        let line = result(1, [box(), box()]).json.description.utf8.count
        for id in 1...2000 {
            try await sink.write(result(id, [box(), box()]))
            if id % 500 == 0 { #expect(try workshop.size("out.jsonl") >= id * line - (70 << 10)) }
        }
        try await sink.finish()
        #expect(try workshop.text("out.jsonl").split(separator: "\n").count == 2000)
    }
}

@Suite struct CSVSinkTests {
    let workshop: Workshop
    init() throws { workshop = try Workshop() }

    /// RFC 4180, as a reader of its own sees it.
    private func parse(_ text: String) -> [[String]] {
        var rows: [[String]] = []
        var row: [String] = []
        var field = ""
        var isQuoted = false
        var characters = Array(text.unicodeScalars)[...]
        while let next = characters.popFirst() {
            switch (next, isQuoted) {
            case ("\"", true) where characters.first == "\"":
                characters.removeFirst()
                field.unicodeScalars.append("\"")
            case ("\"", _): isQuoted.toggle()
            case (",", false):
                row.append(field)
                field = ""
            case ("\r", false) where characters.first == "\n":
                characters.removeFirst()
                rows.append(row + [field])
                (row, field) = ([], "")
            default: field.unicodeScalars.append(next)
            }
        }
        #expect(row.isEmpty && field.isEmpty)
        return rows
    }

    private let header = ["frame_id", "pts", "seconds", "class", "class_id", "confidence", "x", "y", "width", "height", "error"]

    @Test("A row for each detection, one for an empty frame, one for a failed frame")
    func rows() async throws {
        let sink = try CSVSink(path: workshop.path("out.csv"))
        try await sink.write(result(1, [box(), box("person", id: nil, confidence: nil)]))
        try await sink.write(result(2))
        try await sink.write(result(3, errors: ["no, never", "again"]))
        try await sink.write(StreamResult(frameID: 4, outputs: ["predictions": ["predictions": [["class": "sky"]]]]))
        try await sink.finish()
        let rows = parse(try workshop.text("out.csv"))
        #expect(
            rows == [
                header, ["1", "0", "0.0", "car", "2", "0.5", "30.0", "20.0", "10.0", "8.0", ""],
                ["1", "0", "0.0", "person", "", "", "30.0", "20.0", "10.0", "8.0", ""], ["2", "40", "0.04", "", "", "", "", "", "", "", ""],
                ["3", "80", "0.08", "", "", "", "", "", "", "", "no, never; again"], ["4", "", "", "sky", "", "", "", "", "", "", ""],
            ])
        #expect(try workshop.text("out.csv").hasPrefix(header.joined(separator: ",") + "\r\n1,0,0.0,car,2,0.5,30.0,20.0,10.0,8.0,\r\n"))
    }

    @Test("Empty frames can be left out, failed ones cannot")
    func omitted() async throws {
        let sink = try CSVSink(path: workshop.path("out.csv"), emptyFrames: .omitted)
        try await sink.write(result(1))
        try await sink.write(result(2, errors: ["e"]))
        try await sink.write(result(3, [box()]))
        try await sink.finish()
        #expect(parse(try workshop.text("out.csv")).dropFirst().map(\.first) == ["2", "3"])
    }

    @Test("Names with commas, quotes and line breaks come back", arguments: ["a,b", "\"", "a \"b\" c", "line\nbreak", "line\r\nbreak", "", "ünï☃", "'", " x "])
    func quoting(_ name: String) async throws {
        let sink = try CSVSink(path: workshop.path("out.csv"))
        try await sink.write(result(1, [box(name)]))
        try await sink.finish()
        #expect(parse(try workshop.text("out.csv")).last?[3] == name)
    }

    @Test("Without results there is the header")
    func empty() async throws {
        let sink = try CSVSink(path: workshop.path("out.csv"))
        try await sink.finish()
        #expect(parse(try workshop.text("out.csv")) == [header])
    }
}

@Suite struct COCOSinkTests {
    let workshop: Workshop
    init() throws { workshop = try Workshop() }

    private func read() throws -> JSON { try JSON(parsing: ByteBuffer(string: try workshop.text("out.json"))) }

    @Test("Images, annotations and categories refer to each other")
    func whole() async throws {
        let sink = try COCOSink(path: workshop.path("out.json"))
        try await sink.write(result(1, [box(), box("person", id: 0, x: 32, y: 24, width: 64, height: 48)]))
        try await sink.write(result(2))
        try await sink.write(result(3, errors: ["broken"]))
        try await sink.write(result(4, [box(), ["class": "sky"]]))
        try await sink.finish()
        let coco = try read()
        let images = try #require(coco["images"]?.array)
        #expect(images.map { $0["id"]?.integer } == [1, 2, 3, 4])
        #expect(images[0]["file_name"] == "frame-000001.jpg" && images[0]["width"] == 64 && images[0]["height"] == 48)
        #expect(images[1]["seconds"] == 0.04 && images[1]["errors"] == nil)
        #expect(images[2]["errors"] == ["broken"])
        let annotations = try #require(coco["annotations"]?.array)
        #expect(annotations.map { $0["id"]?.integer } == [1, 2, 3])
        #expect(annotations.map { $0["image_id"]?.integer } == [1, 1, 4])
        #expect(annotations[0]["bbox"] == [.number(25), .number(16), .number(10), .number(8)])
        #expect(annotations[1]["bbox"]?.array?.map(\.double) == [0, 0, 64, 48])
        #expect(annotations[0]["area"]?.double == 80 && annotations[0]["iscrowd"] == 0 && annotations[0]["score"] == 0.5)
        #expect(annotations.map { $0["category_id"]?.integer } == [2, 0, 2])
        #expect(coco["categories"]?.array?.map { $0["name"]?.string } == ["person", "car"])
        #expect(coco["categories"]?.array?.map { $0["id"]?.integer } == [0, 2])
        #expect(try workshop.names == ["out.json"])
    }

    @Test("Names share no number, whatever the model says")
    func categories() async throws {
        let sink = try COCOSink(path: workshop.path("out.json"), fileName: { "\($0).png" })
        let boxes = [box("a", id: nil), box("b", id: 1), box("b", id: nil), box("c", id: 7), box("d", id: 7), box("e", id: .max), box("f", id: .max)]
        try await sink.write(result(1, boxes))
        try await sink.write(result(2, boxes))
        try await sink.finish()
        let coco = try read()
        let ids = coco["annotations"]?.array?.map { $0["category_id"]?.integer } ?? []
        #expect(ids.count == 14 && Array(ids.prefix(7)) == Array(ids.suffix(7)) && Set(ids).count == 7)
        #expect(coco["categories"]?.array?.count == 7)
        #expect(coco["images"]?.array?.first?["file_name"] == "1.png")
    }

    @Test("Without results it is still a data set, and before the end it is none")
    func empty() async throws {
        let sink = try COCOSink(path: workshop.path("out.json"))
        #expect(throws: (any Error).self) { try read() }
        try await sink.finish()
        try await sink.finish()
        let coco = try read()
        for name in ["images", "annotations", "categories"] { #expect(coco[name] == []) }
        await #expect(throws: OutputError.self) { try await sink.write(result(1)) }
    }

    @Test("Many results go to the disk as they come")
    func many() async throws {
        let sink = try COCOSink(path: workshop.path("out.json"))
        for id in 1...3000 {
            try await sink.write(result(id, [box(), box("person", id: 1)]))
            if id % 1000 == 0 { #expect(try workshop.size("out.json") >= id * 200 - (70 << 10)) }
        }
        try await sink.finish()
        let object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: workshop.path("out.json")))) as? [String: Any]
        #expect((object?["images"] as? [Any])?.count == 3000)
        #expect((object?["annotations"] as? [Any])?.count == 6000)
    }
}

@Suite struct UnwritableTests {
    let workshop: Workshop
    init() throws { workshop = try Workshop() }

    @Test("A path that cannot be written is an error before the first result")
    func creation() {
        for path in [workshop.folder.path, workshop.path("no/such/folder.out"), ""] {
            #expect(throws: OutputError.self) { try JSONLinesSink(path: path) }
            #expect(throws: OutputError.self) { try CSVSink(path: path) }
            #expect(throws: OutputError.self) { try COCOSink(path: path) }
            #expect(throws: OutputError.self) { try AnnotatedVideoSink(path: path) }
        }
        #expect { try JSONLinesSink(path: workshop.folder.path) } throws: { "\($0)" == "cannot write \(workshop.folder.path): Is a directory" }
    }

    @Test("A full disk is an error at the end, if not before")
    func full() async throws {
        let sinks: [any ResultSink] = [try JSONLinesSink(path: "/dev/full"), try CSVSink(path: "/dev/full"), try COCOSink(path: "/dev/full")]
        for sink in sinks {
            await #expect(throws: OutputError(path: "/dev/full", reason: "No space left on device")) {
                for id in 1...2000 { try await sink.write(result(id, [box()])) }
                try await sink.finish()
            }
        }
    }

    @Test("A sink of one's own takes five lines")
    func own() async throws {
        actor Counter: ResultSink {
            var detections = 0
            func write(_ result: StreamResult) { detections += result.detections().count }
            func finish() {}
        }
        let counter = Counter()
        let sink: any ResultSink = counter
        try await sink.write(result(1, [box(), box()]))
        try await sink.finish()
        #expect(await counter.detections == 2)
    }
}
