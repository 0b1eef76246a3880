import Foundation
import FrameTransport

/// The time of day, for messages.
enum WallClock {
    /// Microseconds since 1970.
    static func microseconds() -> Int64 { Int64((Date().timeIntervalSince1970 * 1e6).rounded()) }

    /// As the prototype writes `received_at`.
    static func timestamp() -> String { Timestamp.text(microseconds()) }
}
