/// Names and values as Prometheus' text format 0.0.4 wants them.
enum PrometheusText {
    static func sample(_ name: String, _ labels: String, _ value: String) -> String {
        labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
    }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
        // whole numbers without a fraction, as far as they are exact
        if value == value.rounded(), abs(value) < 9e15 { return "\(Int64(value))" }
        return "\(value)"
    }

    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`
    static func metricName(_ label: String) -> String { name(label, allowsColons: true) }

    /// `[a-zA-Z_][a-zA-Z0-9_]*`, and no two underscores in front: those are Prometheus' own.
    static func labelName(_ name: String) -> String {
        let name = Self.name(name, allowsColons: false)
        return name.hasPrefix("__") ? "_" + name.drop { $0 == "_" } : name
    }

    /// `a="1",b="2"` in the order of names, so that the same dimensions are the same series.
    static func labels(_ dimensions: [(String, String)], isHistogram: Bool) -> String {
        var seen: Set<String> = isHistogram ? ["le"] : []
        return dimensions.map { (labelName($0.0), $0.1) }.sorted { $0.0 < $1.0 }.map { given, value in
            var name = given
            while !seen.insert(name).inserted { name += "_" }
            return "\(name)=\"\(escaped(value, quotes: true))\""
        }
        .joined(separator: ",")
    }

    static func help(_ text: String) -> String { escaped(text, quotes: false) }

    private static func name(_ text: String, allowsColons: Bool) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "a"..."z", "A"..."Z", "_": result.unicodeScalars.append(scalar)
            case "0"..."9":
                if result.isEmpty { result = "_" }
                result.unicodeScalars.append(scalar)
            case ":" where allowsColons: result.unicodeScalars.append(scalar)
            default: result += "_"
            }
        }
        return result.isEmpty ? "_" : result
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var result = ""
        // scalars, for a carriage return and a line feed are one character
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
