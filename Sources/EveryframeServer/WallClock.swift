import Foundation

/// The time of day, for messages.
enum WallClock {
    /// Microseconds since 1970.
    static func microseconds() -> Int64 { Int64((Date().timeIntervalSince1970 * 1e6).rounded()) }

    /// UTC in ISO 8601 with microseconds and without a zone, as the prototype writes `received_at`.
    static func timestamp() -> String {
        // Not a C timespec: an optimised build attributes its members to whichever module of the dependencies it met first, and refuses them.
        let time = Date().timeIntervalSince1970
        var seconds = time_t(time.rounded(.down))
        let microseconds = min(Int((time - Double(seconds)) * 1e6), 999_999)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func pad(_ value: some BinaryInteger, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let date = "\(pad(parts.tm_year + 1900, 4))-\(pad(parts.tm_mon + 1, 2))-\(pad(parts.tm_mday, 2))"
        let clock = "\(pad(parts.tm_hour, 2)):\(pad(parts.tm_min, 2)):\(pad(parts.tm_sec, 2))"
        return "\(date)T\(clock).\(pad(microseconds, 6))"
    }
}
