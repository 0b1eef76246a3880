import COpenVINO
import Glibc

/// OpenVINO's C interface, loaded at run time: the package builds and starts without it.
final class OpenVINOLibrary: @unchecked Sendable {
    let path: String
    let version: String
    /// Constant for the life of the process.
    let functions: UnsafePointer<everyframe_openvino>

    /// Loaded once, by whoever asks first.
    static let shared: Result<OpenVINOLibrary, InferenceError> = Result { () throws(InferenceError) in try OpenVINOLibrary() }

    private static let soname = "libopenvino_c.so.2641"

    private init() throws(InferenceError) {
        var candidates: [String] = []
        if let set = InstalledFile.environment("EVERYFRAME_OPENVINO") {
            candidates = [set.contains(".so") ? set : set + "/" + Self.soname]
        } else {
            let (found, searched) = InstalledFile.find("py/openvino/libs/" + Self.soname)
            // the last is the system's own way of finding libraries
            candidates = (found.map { [$0] } ?? searched) + [Self.soname]
        }
        var reason: (path: String, text: String)?
        for path in candidates {
            guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
                if path.contains("/"), access(path, F_OK) == 0 { reason = (path, dlerror().map { String(cString: $0) } ?? "it does not load") }
                continue
            }
            var missing: UnsafePointer<CChar>?
            guard let functions = everyframe_openvino_table(handle, &missing) else {
                throw .engineUnusable(path: path, reason: "it has no \(missing.map { String(cString: $0) } ?? "memory")")
            }
            self.path = path
            self.functions = functions
            var version = ov_version_t()
            guard functions.pointee.get_openvino_version(&version) == 0, let number = version.buildNumber else {
                throw .engineUnusable(path: path, reason: "it does not tell its version")
            }
            self.version = String(cString: number)
            functions.pointee.version_free(&version)
            // enumerations have been renumbered from year to year
            guard self.version.hasPrefix("2026.") else { throw .engineUnusable(path: path, reason: "its version is \(self.version), wanted is 2026") }
            return
        }
        if let reason { throw .engineUnusable(path: reason.path, reason: reason.text) }
        throw .engineNotInstalled(searched: candidates)
    }

    /// What OpenVINO says about the call that just failed on this thread, in one line.
    func message(_ status: ov_status_e) -> String {
        let summary = functions.pointee.get_error_info(status).map { String(cString: $0) } ?? "status \(status)"
        guard let last = functions.pointee.get_last_err_msg() else { return summary }
        defer { functions.pointee.free(last) }
        let lines = String(cString: last).split(whereSeparator: \.isNewline).map { $0.drop(while: \.isWhitespace) }
        // the first lines name OpenVINO's own source files
        let telling = lines.filter { !$0.isEmpty && !$0.hasPrefix("Exception from ") && !$0.hasPrefix("Check ") }
        let text = (telling.isEmpty ? lines : telling).joined(separator: " ")
        return text.isEmpty ? summary : String(text.prefix(300))
    }
}
