extension SDP {
    /// What a description may hold at most; far above what any browser writes.
    package enum Limits {
        package static let bytes = 1 << 18
        package static let lines = 8192
        package static let bytesPerLine = 8192
        package static let mediaSections = 256
        package static let candidatesPerSection = 256
    }

    /// Reads tolerantly: lines end in CRLF, LF or CR; unknown or broken lines are passed over. What cannot be made sense of as a whole throws.
    package init(parsing text: String) throws(SDPError) {
        var bytes = text.utf8[...]
        guard bytes.count <= Limits.bytes else { throw SDPError(.tooLarge) }
        var parsed: SDP?
        var lineNumber = 0
        var mids: Set<String> = []
        var candidates = 0
        while let (line, rest) = Self.nextLine(of: bytes) {
            bytes = rest
            lineNumber += 1
            guard lineNumber <= Limits.lines else { throw SDPError(.tooLarge, line: lineNumber) }
            guard !line.isEmpty else { continue }
            guard line.count <= Limits.bytesPerLine else { throw SDPError(.tooLarge, line: lineNumber) }
            guard let (type, value) = Self.field(of: line) else {
                if parsed == nil { throw SDPError(.notSDP, line: lineNumber) }
                continue
            }
            guard var sdp = parsed.take() else {
                guard type == "v", value == "0" else { throw SDPError(.notSDP, line: lineNumber) }
                parsed = SDP(origin: Origin(sessionID: 0, version: 0))
                continue
            }
            switch type {
            case "o": if let origin = Origin(parsing: value) { sdp.origin = origin }
            case "s": sdp.sessionName = value
            case "m":
                guard sdp.media.count < Limits.mediaSections else { throw SDPError(.tooLarge, line: lineNumber) }
                guard let section = MediaSection(parsing: value) else { throw SDPError(.malformedMediaLine, line: lineNumber) }
                sdp.media.append(section)
                candidates = 0
            case "c": sdp.modifyLastSection { $0.connection = value }
            case "a":
                let attribute = Attribute(parsing: value)
                if attribute.name == "candidate" {
                    candidates += 1
                    guard candidates <= Limits.candidatesPerSection else { throw SDPError(.tooLarge, line: lineNumber) }
                }
                if attribute.name == "mid", let mid = attribute.value, !sdp.media.isEmpty {
                    guard mids.insert(mid).inserted else { throw SDPError(.duplicateMid, line: lineNumber) }
                }
                if sdp.media.isEmpty { sdp.attributes.all.append(attribute) } else { sdp.modifyLastSection { $0.attributes.all.append(attribute) } }
            default: break
            }
            parsed = sdp
        }
        guard let parsed else { throw SDPError(.notSDP) }
        self = parsed
    }

    private mutating func modifyLastSection(_ body: (inout MediaSection) -> Void) {
        guard let last = media.indices.last else { return }
        body(&media[last])
    }

    /// The next line without its end, and what follows; nil at the end.
    private static func nextLine(of bytes: Substring.UTF8View) -> (line: Substring.UTF8View, rest: Substring.UTF8View)? {
        guard !bytes.isEmpty else { return nil }
        guard let end = bytes.firstIndex(where: { $0 == 0x0A || $0 == 0x0D }) else { return (bytes, bytes[bytes.endIndex...]) }
        var next = bytes.index(after: end)
        if bytes[end] == 0x0D, next < bytes.endIndex, bytes[next] == 0x0A { next = bytes.index(after: next) }
        return (bytes[..<end], bytes[next...])
    }

    /// `x=value`, with blanks around it dropped; nil for anything else, and for control characters.
    private static func field(of line: Substring.UTF8View) -> (type: Character, value: String)? {
        let trimmed = line.trimming(while: { $0 == 0x20 || $0 == 0x09 })
        guard trimmed.count >= 2, let type = trimmed.first, (0x61...0x7A).contains(type), trimmed.dropFirst().first == UInt8(ascii: "=") else { return nil }
        let value = trimmed.dropFirst(2)
        guard !value.contains(where: { $0 < 0x20 && $0 != 0x09 || $0 == 0x7F }) else { return nil }
        return (Character(Unicode.Scalar(type)), String(Substring(value)))
    }
}

extension Substring.UTF8View {
    fileprivate func trimming(while isBlank: (UInt8) -> Bool) -> Substring.UTF8View {
        var result = drop(while: isBlank)
        while let last = result.last, isBlank(last) { result = result.dropLast() }
        return result
    }
}

extension SDP.Origin {
    /// `<username> <session> <version> IN IP4 <address>`; numbers beyond 64 bits become zero.
    fileprivate init?(parsing value: String) {
        let words = value.split(separator: " ")
        guard words.count == 6 else { return nil }
        self.init(sessionID: UInt64(words[1]) ?? 0, version: UInt64(words[2]) ?? 0)
        username = String(words[0])
        address = words[3...].joined(separator: " ")
    }
}

extension SDP.MediaSection {
    /// `<media> <port>[/<count>] <proto> <fmt>…`
    fileprivate init?(parsing value: String) {
        let words = value.split(separator: " ")
        guard words.count >= 4, let digits = words[1].split(separator: "/").first, let port = UInt16(digits) else { return nil }
        self.init(
            kind: String(words[0]), port: port, transport: String(words[2]), formats: words[3...].map(String.init), connection: nil)
    }
}

extension SDP.Attribute {
    /// `name` or `name:value`.
    fileprivate init(parsing text: String) {
        guard let colon = text.firstIndex(of: ":") else {
            self.init(text)
            return
        }
        // some stacks write a blank after the colon
        self.init(String(text[..<colon]), String(text[text.index(after: colon)...].drop { $0 == " " }))
    }
}
