/// The timers of an engine as data: each key has a deadline or none.
///
/// `Key` is a small enum whose raw values are 0..<count. Asking for the next deadline changes nothing.
public struct TimerTable<Key: CaseIterable & RawRepresentable & Sendable>: Sendable where Key.RawValue == Int {
    private var deadlines: [Instant?]

    public init() { deadlines = Array(repeating: nil, count: Key.allCases.count) }

    /// The deadline of one timer; nil while it is not running.
    public subscript(key: Key) -> Instant? {
        get { deadlines[key.rawValue] }
        set { deadlines[key.rawValue] = newValue }
    }

    public func isArmed(_ key: Key) -> Bool { deadlines[key.rawValue] != nil }

    public mutating func stop(_ key: Key) { deadlines[key.rawValue] = nil }

    public mutating func stopAll() {
        for index in deadlines.indices { deadlines[index] = nil }
    }

    /// The earliest deadline of all.
    public var next: Instant? {
        var result: Instant?
        for case let deadline? in deadlines where result.map({ deadline < $0 }) ?? true { result = deadline }
        return result
    }

    /// Disarms and returns one timer that is due, or nil when none is.
    public mutating func popDue(at now: Instant) -> Key? {
        for key in Key.allCases {
            if let deadline = deadlines[key.rawValue], deadline <= now {
                deadlines[key.rawValue] = nil
                return key
            }
        }
        return nil
    }
}
