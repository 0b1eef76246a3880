import ArgumentParser
import CMalloc
import Foundation
import Logging

/// Options by environment: what the command line does not say, a variable may.
enum Environment {
    static func text(_ names: String...) -> String? {
        for name in names {
            if let value = ProcessInfo.processInfo.environment[name], !value.isEmpty { return value }
        }
        return nil
    }

    static func value<Value: ExpressibleByArgument>(_ names: String..., as type: Value.Type = Value.self) throws -> Value? {
        for name in names {
            guard let text = text(name) else { continue }
            guard let value = Value(argument: text) else {
                throw ValidationError("The environment variable \(name) has the value '\(text)', which is not valid")
            }
            return value
        }
        return nil
    }
}

/// `trace` … `critical`, and the words other programs use.
struct LogLevelOption: ExpressibleByArgument {
    let level: Logger.Level

    init?(argument: String) {
        switch argument.lowercased() {
        case "warn": level = .warning
        case "fatal": level = .critical
        case let name:
            guard let level = Logger.Level(rawValue: name) else { return nil }
            self.level = level
        }
    }
}

enum Memory {
    /// Freed memory of frames and messages stays with the process: giving it back and taking it again costs a page fault for each 4 KiB, a tenth of
    /// the time of a server that gets raw pictures.
    static func keepFreed() {
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 128 << 20)
    }
}

enum Log {
    /// For libraries whose words are of no use to a person.
    static var silent: Logger { Logger(label: "everyframe.silent", factory: { _ in SwiftLogNoOpLogHandler() }) }

    /// To stderr, from `level` on, or as LOG_LEVEL says.
    static func start(_ option: LogLevelOption?, default fallback: Logger.Level) throws {
        let level = try option?.level ?? Environment.value("LOG_LEVEL", as: LogLevelOption.self)?.level ?? fallback
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
    }
}
