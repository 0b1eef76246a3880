public import NIOCore

extension JSON: CustomStringConvertible {
    /// The text on one line, without spaces.
    public var description: String {
        var text = ByteBuffer()
        write(into: &text)
        return String(buffer: text)
    }

    /// Appends the text, on one line and without spaces. A number that JSON cannot say (NaN, infinity) becomes null.
    public func write(into text: inout ByteBuffer) {
        switch self {
        case .null: text.writeStaticString("null")
        case .bool(true): text.writeStaticString("true")
        case .bool(false): text.writeStaticString("false")
        case .integer(let value): text.writeString(String(value))
        case .number(let value):
            if value.isFinite { text.writeString(value.description) } else { text.writeStaticString("null") }
        case .string(let value): Self.writeString(value, into: &text)
        case .array(let values):
            text.writeInteger(UInt8(ascii: "["))
            var isFirst = true
            for value in values {
                if !isFirst { text.writeInteger(UInt8(ascii: ",")) }
                isFirst = false
                value.write(into: &text)
            }
            text.writeInteger(UInt8(ascii: "]"))
        case .object(let object):
            text.writeInteger(UInt8(ascii: "{"))
            var isFirst = true
            for member in object.members {
                if !isFirst { text.writeInteger(UInt8(ascii: ",")) }
                isFirst = false
                Self.writeString(member.name, into: &text)
                text.writeInteger(UInt8(ascii: ":"))
                member.value.write(into: &text)
            }
            text.writeInteger(UInt8(ascii: "}"))
        }
    }

    static func writeString(_ value: String, into text: inout ByteBuffer) {
        text.writeInteger(UInt8(ascii: "\""))
        // RFC 8259 §7: quotation mark, reverse solidus and control characters must be escaped, nothing else
        if value.utf8.contains(where: { $0 < 0x20 || $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") }) {
            for byte in value.utf8 { writeEscaped(byte, into: &text) }
        } else {
            text.writeString(value)
        }
        text.writeInteger(UInt8(ascii: "\""))
    }

    private static func writeEscaped(_ byte: UInt8, into text: inout ByteBuffer) {
        switch byte {
        case UInt8(ascii: "\""): text.writeStaticString("\\\"")
        case UInt8(ascii: "\\"): text.writeStaticString("\\\\")
        case 0x0a: text.writeStaticString("\\n")
        case 0x0d: text.writeStaticString("\\r")
        case 0x09: text.writeStaticString("\\t")
        case ..<0x20:
            text.writeStaticString("\\u00")
            for digit in [byte >> 4, byte & 15] { text.writeInteger(digit < 10 ? 0x30 + digit : 0x57 + digit) }
        default: text.writeInteger(byte)
        }
    }
}
