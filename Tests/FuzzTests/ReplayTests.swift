import Foundation
import FuzzTargets
import NIOCore
import Testing

/// The committed corpora and every input that ever crashed a target, once more: without libFuzzer, so in each test run.
@Suite struct ReplayTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The files below Fuzz/FOLDER/TARGET.
    private static func inputs(_ folder: String, _ target: String) throws -> [URL] {
        let place = root.appendingPathComponent("Fuzz/\(folder)/\(target)")
        guard FileManager.default.fileExists(atPath: place.path) else { return [] }
        return try FileManager.default.contentsOfDirectory(at: place, includingPropertiesForKeys: nil).sorted { $0.path < $1.path }
    }

    @Test("No saved crash and no seed ends the process", arguments: FuzzTarget.all.map(\.name))
    func replay(name: String) throws {
        let target = try #require(FuzzTarget.named(name))
        let seeds = try Self.inputs("Corpus", name)
        #expect(!seeds.isEmpty, "Fuzz/Corpus/\(name) has no seeds")
        for file in try seeds + Self.inputs("Crashes", name) {
            target.run(ByteBuffer(bytes: try Data(contentsOf: file)))
        }
    }

    @Test("Every prefix of a seed, and the seed with any one byte inverted, is harmless", arguments: FuzzTarget.all.map(\.name))
    func mutate(name: String) throws {
        let target = try #require(FuzzTarget.named(name))
        for file in try Self.inputs("Corpus", name) {
            let bytes = [UInt8](try Data(contentsOf: file))
            // The long ones are the fuzzer's business.
            for length in 0..<min(bytes.count, 1500) {
                target.run(ByteBuffer(bytes: bytes.prefix(length)))
                var changed = bytes
                changed[length] ^= 0xFF
                target.run(ByteBuffer(bytes: changed))
            }
        }
    }
}
