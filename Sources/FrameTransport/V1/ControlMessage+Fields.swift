import Wire

/// Typed access to the members of a control message.
struct ControlFields {
    var object: JSONObject

    func string(_ name: String) throws(ControlMessageError) -> String {
        guard let value = object[name] else { throw .missing(name) }
        guard let text = value.string else { throw .invalid(name) }
        return text
    }

    func optionalString(_ name: String) throws(ControlMessageError) -> String? { object[name] == nil ? nil : try string(name) }

    func integer(_ name: String, in range: ClosedRange<Int> = 0...JobLimits.maximumID) throws(ControlMessageError) -> Int {
        guard let value = object[name] else { throw .missing(name) }
        guard let number = value.integer, range.contains(number) else { throw .invalid(name) }
        return number
    }

    func optionalInteger(_ name: String, in range: ClosedRange<Int> = 0...JobLimits.maximumID) throws(ControlMessageError) -> Int? {
        guard let value = object[name], !value.isNull else { return nil }
        return try integer(name, in: range)
    }

    func number(_ name: String) throws(ControlMessageError) -> Double {
        guard let value = object[name] else { throw .missing(name) }
        guard let number = value.double, number.isFinite else { throw .invalid(name) }
        return number
    }

    func job() throws(ControlMessageError) -> JobNumber { JobNumber(try integer("job", in: 1...65_535)) }

    func milliseconds(_ name: String) throws(ControlMessageError) -> Duration { .milliseconds(try integer(name, in: 0...JobLimits.maximumID / 1000)) }

    func optionalMilliseconds(_ name: String) throws(ControlMessageError) -> Duration? {
        guard let value = object[name], !value.isNull else { return nil }
        return try milliseconds(name)
    }

    func digest(_ name: String) throws(ControlMessageError) -> UInt64 {
        guard let value = Hex64.value(try string(name)) else { throw .invalid(name) }
        return value
    }

    func fields(_ name: String) throws(ControlMessageError) -> ControlFields {
        guard let value = object[name] else { throw .missing(name) }
        guard let object = value.object else { throw .invalid(name) }
        return ControlFields(object: object)
    }

    func optionalFields(_ name: String) throws(ControlMessageError) -> ControlFields? { object[name] == nil ? nil : try fields(name) }

    /// An array that is not longer than a control message needs.
    func integers(_ name: String, in range: ClosedRange<Int>) throws(ControlMessageError) -> [Int] {
        guard let value = object[name] else { throw .missing(name) }
        guard let items = value.array else { throw .invalid(name) }
        var result: [Int] = []
        for item in items {
            guard let number = item.integer, range.contains(number) else { throw .invalid(name) }
            result.append(number)
        }
        return result
    }

    /// Names; what is not a string is passed over.
    func names(_ name: String) -> [String] { object[name]?.array?.compactMap(\.string) ?? [] }
}

extension Duration {
    /// Whole milliseconds for a control message.
    var wireMilliseconds: JSON { .integer(Int(clamping: inNanoseconds / 1_000_000)) }
}
