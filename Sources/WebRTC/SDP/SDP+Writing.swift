extension SDP {
    /// The text of RFC 8866: fields in the order of its §5, lines end in CRLF.
    package var text: String {
        var text = ""
        text.line("v", "0")
        text.line("o", "\(origin.username) \(origin.sessionID) \(origin.version) \(origin.address)")
        // §5.3: an empty session name is not allowed
        text.line("s", sessionName.isEmpty ? "-" : sessionName)
        text.line("t", "0 0")
        for attribute in attributes.all { text.line("a", attribute.text) }
        for section in media {
            text.line("m", "\(section.kind) \(section.port) \(section.transport) \(section.formats.joined(separator: " "))")
            if let connection = section.connection { text.line("c", connection) }
            for attribute in section.attributes.all { text.line("a", attribute.text) }
        }
        return text
    }
}

extension SDP.Attribute {
    package var text: String { value.map { "\(name):\($0)" } ?? name }
}

extension String {
    /// A value never ends its line early, whatever it holds.
    fileprivate mutating func line(_ type: Character, _ value: String) {
        append(type)
        append("=")
        unicodeScalars.append(contentsOf: value.unicodeScalars.lazy.filter { $0.value >= 0x20 || $0 == "\t" })
        append("\r\n")
    }
}
