import Glibc

/// The models there are, by name.
package enum ModelCatalog {
    package struct Entry: Sendable {
        package var id: String
        package var summary: String
        package var licence: String
        /// Below `.deps`.
        package var file: String
        package var classNames: [String]
        /// The size that the graph brings every picture to; done outside, it costs half as much (a third from 1080p on).
        package var inputSize: PictureSize?
    }

    package static let defaultID = "people-ssdlite"

    package static let entries = [
        Entry(
            id: defaultID, summary: "people, seen by a fixed camera (SSDLite MobileNet v2)", licence: "MIT",
            file: "models/people-ssdlite/frozen_inference_graph.pb", classNames: ["person"],
            inputSize: PictureSize(width: 300, height: 300))
    ]

    /// Loads the model that `name` names: an id of `entries`, `synthetic:75ms`, or the path of a model file.
    package static func load(_ name: String = defaultID, options: ModelOptions = ModelOptions()) async throws(InferenceError) -> any Model {
        if let delay = try syntheticDelay(name) {
            return SyntheticModel(delay: delay, requestsInFlight: options.requestsInFlight ?? 1, batchSize: options.batchSize)
        }
        if let entry = entries.first(where: { $0.id == name }) {
            let (found, searched) = InstalledFile.find(entry.file)
            guard let path = found else { throw .modelNotInstalled(id: name, searched: searched) }
            return try await OpenVINODetector.load(
                path: path, name: entry.id, classNames: entry.classNames, inputSize: entry.inputSize, options: options)
        }
        // a name with a slash or a dot is meant as a file
        guard name.contains("/") || name.contains(".") else { throw .unknownModel(id: name, known: entries.map(\.id)) }
        guard access(name, R_OK) == 0 else { throw .modelUnreadable(path: name, reason: "there is no such file") }
        let base = name.split(separator: "/").last.map(String.init) ?? name
        return try await OpenVINODetector.load(path: name, name: base, classNames: [], options: options)
    }

    /// `synthetic:75ms`, also in `us` and `s`; a bare number is milliseconds.
    static func syntheticDelay(_ name: String) throws(InferenceError) -> Duration? {
        guard name == "synthetic" || name.hasPrefix("synthetic:") else { return nil }
        let text = name.dropFirst("synthetic:".count)
        if text.isEmpty && name == "synthetic" { return .zero }
        let number = text.prefix { $0.isNumber || $0 == "." }
        guard let value = Double(number), value >= 0, value <= 3_600_000 else { throw .unknownModel(id: name, known: entries.map(\.id)) }
        switch text.dropFirst(number.count) {
        case "ms", "": return .microseconds(Int64((value * 1000).rounded()))
        case "us": return .microseconds(Int64(value.rounded()))
        case "s": return .milliseconds(Int64((value * 1000).rounded()))
        default: throw .unknownModel(id: name, known: entries.map(\.id))
        }
    }
}

package struct PictureSize: Sendable, Equatable {
    package var width, height: Int

    package init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }
}

package struct ModelOptions: Sendable {
    /// nil: what the engine finds best for this machine.
    package var requestsInFlight: Int?
    /// Frames per request; more than 1 gains only on machines with many cores.
    package var batchSize: Int
    /// Detections below are left out.
    package var confidence: Double
    /// Arithmetic in full 32-bit floats: the same numbers on every machine, at about half the speed.
    package var exact: Bool
    /// The engine's threads; nil: all cores.
    package var threads: Int?

    package init(
        requestsInFlight: Int? = nil, batchSize: Int = 1, confidence: Double = 0.4, exact: Bool = false, threads: Int? = nil
    ) {
        self.requestsInFlight = requestsInFlight
        self.batchSize = batchSize
        self.confidence = confidence
        self.exact = exact
        self.threads = threads
    }
}

/// Finds what `scripts/setup` installed: in `EVERYFRAME_DEPS`, or in `.deps` beside or above the working directory or the program.
enum InstalledFile {
    static func find(_ file: String) -> (path: String?, searched: [String]) {
        var searched: [String] = []
        for folder in folders() {
            let path = folder + "/" + file
            if access(path, R_OK) == 0 { return (path, searched) }
            searched.append(path)
        }
        return (nil, searched.isEmpty ? [file] : searched)
    }

    private static func folders() -> [String] {
        if let set = environment("EVERYFRAME_DEPS") { return [set] }
        var found: [String] = []
        for start in [workingDirectory(), programFolder()] {
            var folder = start
            while !folder.isEmpty {
                let candidate = folder + "/.deps"
                if access(candidate, F_OK) == 0, !found.contains(candidate) { found.append(candidate) }
                guard let slash = folder.lastIndex(of: "/") else { break }
                folder = String(folder[..<slash])
            }
        }
        return found.isEmpty ? [workingDirectory() + "/.deps"] : found
    }

    static func environment(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }

    private static func workingDirectory() -> String {
        guard let path = getcwd(nil, 0) else { return "." }
        defer { free(path) }
        return String(cString: path)
    }

    private static func programFolder() -> String {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &bytes, bytes.count)
        guard count > 0 else { return "" }
        let path = String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }
}
