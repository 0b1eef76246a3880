import Glibc

enum WallClock {
    /// The time of day: milliseconds since 1970, with a fraction (W3C's DOMHighResTimeStamp).
    static func milliseconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) * 1e3 + Double(time.tv_nsec) / 1e6
    }
}
