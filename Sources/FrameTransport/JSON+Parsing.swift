public import NIOCore

/// Why a text is not JSON. Offsets count bytes from its start.
public enum JSONError: Error, Hashable, Sendable {
    case unexpectedEnd
    case unexpectedByte(offset: Int)
    case badNumber(offset: Int)
    case badString(offset: Int)
    /// Arrays and objects nested deeper than the reader allows.
    case tooDeep
}

extension JSON {
    /// Nesting that the reader follows; a hostile text must not exhaust the stack.
    static let maximumDepth = 64

    public init(parsing text: ByteBuffer) throws(JSONError) {
        var cursor = JSONCursor(text.readableBytesUInt8Span)
        self = try cursor.readDocument()
    }

    public init(parsing text: String) throws(JSONError) {
        try self.init(parsing: ByteBuffer(string: text))
    }
}

/// A cursor over a JSON text.
///
/// Beside whole values it can hand out where a string lies without copying it, which is what long base64 strings need.
struct JSONCursor: ~Escapable {
    let bytes: Span<UInt8>
    private(set) var position = 0

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) { self.bytes = bytes }

    /// Where a string's content lies, between its quotes.
    struct RawString {
        var range: Range<Int>
        var hasEscapes: Bool
    }

    @_lifetime(self: copy self)
    mutating func readDocument() throws(JSONError) -> JSON {
        let value = try readValue(depth: 0)
        try expectEnd()
        return value
    }

    @_lifetime(self: copy self)
    mutating func expectEnd() throws(JSONError) {
        skipSpace()
        guard position == bytes.count else { throw .unexpectedByte(offset: position) }
    }

    /// The next byte that is not white space, without taking it.
    @_lifetime(self: copy self)
    mutating func peek() throws(JSONError) -> UInt8 {
        skipSpace()
        guard position < bytes.count else { throw .unexpectedEnd }
        return bytes[position]
    }

    @_lifetime(self: copy self)
    mutating func expect(_ byte: UInt8) throws(JSONError) {
        guard try peek() == byte else { throw .unexpectedByte(offset: position) }
        position += 1
    }

    /// Takes `byte` if it is the next one.
    @_lifetime(self: copy self)
    mutating func take(_ byte: UInt8) throws(JSONError) -> Bool {
        guard try peek() == byte else { return false }
        position += 1
        return true
    }

    @_lifetime(self: copy self)
    mutating func readValue(depth: Int) throws(JSONError) -> JSON {
        guard depth <= JSON.maximumDepth else { throw .tooDeep }
        switch try peek() {
        case UInt8(ascii: "{"):
            var object = JSONObject()
            position += 1
            if try take(UInt8(ascii: "}")) { return .object(object) }
            repeat {
                let name = try readString()
                try expect(UInt8(ascii: ":"))
                object.append(name, try readValue(depth: depth + 1))
            } while try take(UInt8(ascii: ","))
            try expect(UInt8(ascii: "}"))
            return .object(object)
        case UInt8(ascii: "["):
            var values: [JSON] = []
            position += 1
            if try take(UInt8(ascii: "]")) { return .array(values) }
            repeat { values.append(try readValue(depth: depth + 1)) } while try take(UInt8(ascii: ","))
            try expect(UInt8(ascii: "]"))
            return .array(values)
        case UInt8(ascii: "\""): return .string(try readString())
        case UInt8(ascii: "t"): return try readLiteral("true", .bool(true))
        case UInt8(ascii: "f"): return try readLiteral("false", .bool(false))
        case UInt8(ascii: "n"): return try readLiteral("null", .null)
        default: return try readNumber()
        }
    }

    @_lifetime(self: copy self)
    mutating func readString() throws(JSONError) -> String {
        try text(of: try readRawString())
    }

    func text(of raw: RawString) throws(JSONError) -> String {
        if raw.hasEscapes {
            let plain = ByteBuffer(bytes: try unescape(raw))
            guard let text = plain.getString(at: 0, length: plain.readableBytes), Self.isUTF8(plain.readableBytesUInt8Span) else {
                throw .badString(offset: raw.range.lowerBound)
            }
            return text
        }
        guard let text = Self.string(bytes.extracting(raw.range)) else { throw .badString(offset: raw.range.lowerBound) }
        return text
    }

    /// Takes a string and answers with where its content lies. Long strings are passed at several bytes a cycle.
    @_lifetime(self: copy self)
    mutating func readRawString() throws(JSONError) -> RawString {
        try expect(UInt8(ascii: "\""))
        let start = position
        var hasEscapes = false
        while true {
            skipPlainEights()
            guard position < bytes.count else { throw .unexpectedEnd }
            switch bytes[position] {
            case UInt8(ascii: "\""):
                position += 1
                return RawString(range: start..<position - 1, hasEscapes: hasEscapes)
            case UInt8(ascii: "\\"):
                hasEscapes = true
                position += 2
            case ..<0x20: throw .badString(offset: position)
            default: position += 1
            }
        }
    }

    /// The bytes of a string with its escapes resolved (RFC 8259 §7).
    func unescape(_ raw: RawString) throws(JSONError) -> [UInt8] {
        var plain: [UInt8] = []
        plain.reserveCapacity(raw.range.count)
        var index = raw.range.lowerBound
        while index < raw.range.upperBound {
            let byte = bytes[index]
            index += 1
            guard byte == UInt8(ascii: "\\") else {
                plain.append(byte)
                continue
            }
            guard index < raw.range.upperBound else { throw .badString(offset: index) }
            let escape = bytes[index]
            index += 1
            switch escape {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): plain.append(escape)
            case UInt8(ascii: "b"): plain.append(0x08)
            case UInt8(ascii: "f"): plain.append(0x0c)
            case UInt8(ascii: "n"): plain.append(0x0a)
            case UInt8(ascii: "r"): plain.append(0x0d)
            case UInt8(ascii: "t"): plain.append(0x09)
            case UInt8(ascii: "u"): plain.append(contentsOf: try unescapeUnicode(at: &index, end: raw.range.upperBound))
            default: throw .badString(offset: index - 1)
            }
        }
        return plain
    }

    /// `\uXXXX`, two of them for a character outside the basic plane; a lone surrogate becomes U+FFFD.
    private func unescapeUnicode(at index: inout Int, end: Int) throws(JSONError) -> [UInt8] {
        let replacement: [UInt8] = [0xef, 0xbf, 0xbd]
        let first = try hexadecimal(at: index, end: end)
        index += 4
        var scalar = UInt32(first)
        if first & 0xfc00 == 0xd800, index + 6 <= end, bytes[index] == UInt8(ascii: "\\"), bytes[index + 1] == UInt8(ascii: "u") {
            let second = try hexadecimal(at: index + 2, end: end)
            guard second & 0xfc00 == 0xdc00 else { return replacement }
            index += 6
            scalar = 0x10000 + (UInt32(first & 0x3ff) << 10 | UInt32(second & 0x3ff))
        }
        guard let character = Unicode.Scalar(scalar) else { return replacement }
        return [UInt8](String(Character(character)).utf8)
    }

    private func hexadecimal(at index: Int, end: Int) throws(JSONError) -> UInt16 {
        guard index + 4 <= end else { throw .badString(offset: index) }
        var value: UInt16 = 0
        for offset in 0..<4 {
            let byte = bytes[index + offset]
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt16(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt16(byte - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | UInt16(byte - UInt8(ascii: "A") + 10)
            default: throw .badString(offset: index + offset)
            }
        }
        return value
    }

    /// RFC 8259 §6. Integers beyond 64 bits become floating point.
    @_lifetime(self: copy self)
    private mutating func readNumber() throws(JSONError) -> JSON {
        let start = position
        var isInteger = true
        func isDigit(_ index: Int) -> Bool { index < bytes.count && bytes[index] >= 0x30 && bytes[index] <= 0x39 }
        if bytes[position] == UInt8(ascii: "-") { position += 1 }
        guard isDigit(position) else {
            throw position < bytes.count ? .unexpectedByte(offset: position) : .unexpectedEnd
        }
        if bytes[position] == UInt8(ascii: "0"), isDigit(position + 1) { throw .badNumber(offset: start) }
        while isDigit(position) { position += 1 }
        if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            guard isDigit(position) else { throw .badNumber(offset: start) }
            while isDigit(position) { position += 1 }
        }
        if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
            isInteger = false
            position += 1
            if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-") { position += 1 }
            guard isDigit(position) else { throw .badNumber(offset: start) }
            while isDigit(position) { position += 1 }
        }
        guard let text = Self.string(bytes.extracting(start..<position)) else { throw .badNumber(offset: start) }
        if isInteger, let value = Int(text) { return .integer(value) }
        guard let value = Double(text), value.isFinite else { throw .badNumber(offset: start) }
        return .number(value)
    }

    @_lifetime(self: copy self)
    private mutating func readLiteral(_ text: StaticString, _ value: JSON) throws(JSONError) -> JSON {
        let letters = text.description.utf8
        guard position + letters.count <= bytes.count else { throw .unexpectedEnd }
        var index = position
        for letter in letters {
            guard bytes[index] == letter else { throw .unexpectedByte(offset: index) }
            index += 1
        }
        position = index
        return value
    }

    @_lifetime(self: copy self)
    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x0a, 0x0d, 0x09: position += 1
            default: return
            }
        }
    }

    /// Passes eight bytes at a time while none of them is a quote, a backslash or a control character.
    @_lifetime(self: copy self)
    private mutating func skipPlainEights() {
        let raw = unsafe bytes.bytes
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = ones << 7
        while position + 8 <= raw.byteCount {
            let eight = unsafe raw.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self)
            let quotes = eight ^ (ones &* 0x22)
            let slashes = eight ^ (ones &* 0x5c)
            let found =
                ((quotes &- ones) & ~quotes) | ((slashes &- ones) & ~slashes) | ((eight &- (ones &* 0x20)) & ~eight)
            if found & highs != 0 { return }
            position += 8
        }
    }

    private static func string(_ bytes: Span<UInt8>) -> String? {
        guard let text = try? UTF8Span(validating: bytes) else { return nil }
        return String(copying: text)
    }

    private static func isUTF8(_ bytes: Span<UInt8>) -> Bool { (try? UTF8Span(validating: bytes)) != nil }
}
