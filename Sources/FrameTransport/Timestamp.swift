/// Times of day as messages write them.
package enum Timestamp {
    /// UTC in ISO 8601 with microseconds and without a zone, as the prototype writes `received_at`.
    package static func text(_ microseconds: Int64) -> String {
        func floorDivide(_ value: Int64, _ divisor: Int64) -> (Int64, Int64) {
            let remainder = (value % divisor + divisor) % divisor
            return ((value - remainder) / divisor, remainder)
        }
        func pad(_ value: Int64, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        // an hour less than the whole range, so that rounding down cannot leave it
        let (days, time) = floorDivide(max(microseconds, .min + 90_000_000_000), 86_400_000_000)
        // days since 1 March of the year 0 of a calendar that repeats every 400 years: leap days come last in such a year
        let (era, day) = floorDivide(days + 719_468, 146_097)
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365
        let dayOfYear = day - (365 * year + year / 4 - year / 100)
        let month = (5 * dayOfYear + 2) / 153
        let date = [pad(month < 10 ? month + 3 : month - 9, 2), pad(dayOfYear - (153 * month + 2) / 5 + 1, 2)]
        let clock = [pad(time / 3_600_000_000, 2), pad(time / 60_000_000 % 60, 2), pad(time / 1_000_000 % 60, 2)]
        return "\(pad(era * 400 + year + (month < 10 ? 0 : 1), 4))-\(date[0])-\(date[1])T\(clock.joined(separator: ":")).\(pad(time % 1_000_000, 6))"
    }
}
