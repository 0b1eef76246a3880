public import NIOCore
import Wire

/// Why bytes are not a MessagePack value.
public enum MessagePackError: Error, Hashable, Sendable {
    case truncated
    /// 0xC1, which the format never uses.
    case badByte(UInt8)
    /// A string that is not UTF-8.
    case badString
    case tooDeep
    case tooManyValues
    /// Bytes after the value.
    case trailing
}

/// MessagePack (msgpack.org) for the values that JSON has: what control messages and results are written in.
///
/// Of its own rather than a C library, because all bytes here are a stranger's: every length is compared with the bytes that are
/// present before anything is reserved, and depth and number of values are bounded. Binary and extension values read as null
/// and map keys that are no strings are passed over, so that fields from the future do no harm.
public enum MessagePack {
    /// What a reader accepts.
    public struct Limits: Hashable, Sendable {
        public var depth = 32
        public var values = 1 << 20

        public init(depth: Int = 32, values: Int = 1 << 20) {
            self.depth = depth
            self.values = values
        }
    }

    public static func write(_ value: JSON, into bytes: inout ByteBuffer) {
        switch value {
        case .null: bytes.writeInteger(UInt8(0xC0))
        case .bool(let value): bytes.writeInteger(UInt8(value ? 0xC3 : 0xC2))
        case .integer(let value): write(value, into: &bytes)
        case .number(let value):
            bytes.writeInteger(UInt8(0xCB))
            bytes.writeInteger(value.bitPattern)
        case .string(let value): write(value, into: &bytes)
        case .array(let values):
            write(count: values.count, short: 0x90, long: 0xDC, into: &bytes)
            for value in values { write(value, into: &bytes) }
        case .object(let object):
            write(count: object.members.count, short: 0x80, long: 0xDE, into: &bytes)
            for member in object.members {
                write(member.name, into: &bytes)
                write(member.value, into: &bytes)
            }
        }
    }

    /// Reads one value that fills `bytes`.
    public static func read(_ bytes: ByteBuffer, limits: Limits = Limits()) throws(MessagePackError) -> JSON {
        var cursor = Cursor(reader: ByteReader(unsafe bytes.readableBytesUInt8Span.bytes), valuesLeft: limits.values)
        let value = try cursor.value(depth: limits.depth)
        guard cursor.reader.isAtEnd else { throw .trailing }
        return value
    }

    private static func write(_ value: Int, into bytes: inout ByteBuffer) {
        switch value {
        case 0...0x7F: bytes.writeInteger(UInt8(value))
        case -32..<0: bytes.writeInteger(Int8(value))
        case 0...0xFF: bytes.writeMultipleIntegers(UInt8(0xCC), UInt8(value))
        case 0...0xFFFF: bytes.writeMultipleIntegers(UInt8(0xCD), UInt16(value))
        case 0...0xFFFF_FFFF: bytes.writeMultipleIntegers(UInt8(0xCE), UInt32(value))
        case 0...: bytes.writeMultipleIntegers(UInt8(0xCF), UInt64(value))
        case -0x80..<0: bytes.writeMultipleIntegers(UInt8(0xD0), Int8(value))
        case -0x8000..<0: bytes.writeMultipleIntegers(UInt8(0xD1), Int16(value))
        case -0x8000_0000..<0: bytes.writeMultipleIntegers(UInt8(0xD2), Int32(value))
        default: bytes.writeMultipleIntegers(UInt8(0xD3), Int64(value))
        }
    }

    private static func write(_ value: String, into bytes: inout ByteBuffer) {
        let count = value.utf8.count
        switch count {
        case ...31: bytes.writeInteger(UInt8(0xA0 | count))
        case ...0xFF: bytes.writeMultipleIntegers(UInt8(0xD9), UInt8(count))
        case ...0xFFFF: bytes.writeMultipleIntegers(UInt8(0xDA), UInt16(count))
        default: bytes.writeMultipleIntegers(UInt8(0xDB), UInt32(truncatingIfNeeded: count))
        }
        bytes.writeString(value)
    }

    private static func write(count: Int, short: UInt8, long: UInt8, into bytes: inout ByteBuffer) {
        switch count {
        case ...15: bytes.writeInteger(short | UInt8(count))
        case ...0xFFFF: bytes.writeMultipleIntegers(long, UInt16(count))
        default: bytes.writeMultipleIntegers(long + 1, UInt32(truncatingIfNeeded: count))
        }
    }

    private struct Cursor: ~Escapable {
        var reader: ByteReader
        var valuesLeft: Int

        @_lifetime(copy reader)
        init(reader: ByteReader, valuesLeft: Int) {
            self.reader = reader
            self.valuesLeft = valuesLeft
        }

        @_lifetime(self: copy self)
        mutating func value(depth: Int) throws(MessagePackError) -> JSON {
            guard depth > 0 else { throw .tooDeep }
            guard valuesLeft > 0 else { throw .tooManyValues }
            valuesLeft -= 1
            let byte = try integer(UInt8.self)
            switch byte {
            case 0x00...0x7F: return .integer(Int(byte))
            case 0x80...0x8F: return try map(Int(byte & 0x0F), depth: depth)
            case 0x90...0x9F: return try array(Int(byte & 0x0F), depth: depth)
            case 0xA0...0xBF: return .string(try string(Int(byte & 0x1F)))
            case 0xC0: return .null
            case 0xC2: return .bool(false)
            case 0xC3: return .bool(true)
            case 0xC4: return try skip(Int(integer(UInt8.self)))
            case 0xC5: return try skip(Int(integer(UInt16.self)))
            case 0xC6: return try skip(Int(integer(UInt32.self)))
            case 0xC7: return try skip(Int(integer(UInt8.self)) + 1)
            case 0xC8: return try skip(Int(integer(UInt16.self)) + 1)
            case 0xC9: return try skip(Int(integer(UInt32.self)) + 1)
            case 0xCA: return .number(Double(Float(bitPattern: try integer(UInt32.self))))
            case 0xCB: return .number(Double(bitPattern: try integer(UInt64.self)))
            case 0xCC: return .integer(Int(try integer(UInt8.self)))
            case 0xCD: return .integer(Int(try integer(UInt16.self)))
            case 0xCE: return .integer(Int(try integer(UInt32.self)))
            case 0xCF:
                let value = try integer(UInt64.self)
                return Int(exactly: value).map { .integer($0) } ?? .number(Double(value))
            case 0xD0: return .integer(Int(try integer(Int8.self)))
            case 0xD1: return .integer(Int(try integer(Int16.self)))
            case 0xD2: return .integer(Int(try integer(Int32.self)))
            case 0xD3: return .integer(Int(try integer(Int64.self)))
            case 0xD4...0xD8: return try skip(1 + 1 << Int(byte - 0xD4))
            case 0xD9: return .string(try string(Int(integer(UInt8.self))))
            case 0xDA: return .string(try string(Int(integer(UInt16.self))))
            case 0xDB: return .string(try string(Int(integer(UInt32.self))))
            case 0xDC: return try array(Int(integer(UInt16.self)), depth: depth)
            case 0xDD: return try array(Int(integer(UInt32.self)), depth: depth)
            case 0xDE: return try map(Int(integer(UInt16.self)), depth: depth)
            case 0xDF: return try map(Int(integer(UInt32.self)), depth: depth)
            case 0xE0...0xFF: return .integer(Int(Int8(bitPattern: byte)))
            default: throw .badByte(byte)
            }
        }

        @_lifetime(self: copy self)
        private mutating func array(_ count: Int, depth: Int) throws(MessagePackError) -> JSON {
            // each value takes a byte at least
            guard count <= reader.remaining else { throw .truncated }
            guard count <= valuesLeft else { throw .tooManyValues }
            var values: [JSON] = []
            values.reserveCapacity(count)
            for _ in 0..<count { values.append(try value(depth: depth - 1)) }
            return .array(values)
        }

        @_lifetime(self: copy self)
        private mutating func map(_ count: Int, depth: Int) throws(MessagePackError) -> JSON {
            guard count <= reader.remaining / 2 else { throw .truncated }
            guard count <= valuesLeft / 2 else { throw .tooManyValues }
            var object = JSONObject()
            for _ in 0..<count {
                let name = try value(depth: depth - 1)
                let value = try value(depth: depth - 1)
                if case .string(let name) = name { object.append(name, value) }
            }
            return .object(object)
        }

        @_lifetime(self: copy self)
        private mutating func string(_ count: Int) throws(MessagePackError) -> String {
            let span: RawSpan
            do throws(WireError) { span = try reader.readSpan(count) } catch { throw .truncated }
            guard let text = unsafe span.withUnsafeBytes({ unsafe String(validating: $0, as: UTF8.self) }) else { throw .badString }
            return text
        }

        @_lifetime(self: copy self)
        private mutating func skip(_ count: Int) throws(MessagePackError) -> JSON {
            do throws(WireError) { try reader.skip(count) } catch { throw .truncated }
            return .null
        }

        @_lifetime(self: copy self)
        private mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) throws(MessagePackError) -> T {
            do throws(WireError) { return try reader.read(T.self) } catch { throw .truncated }
        }
    }
}
