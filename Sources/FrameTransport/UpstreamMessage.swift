package import NIOCore

/// How the pixels of a frame are packed.
public enum FrameEncoding: String, Hashable, Sendable, CaseIterable {
    case jpeg = "jpg"
    case png

    /// The names that are understood on the wire.
    package init?(wireName: String) {
        switch wireName.lowercased() {
        case "jpg", "jpeg": self = .jpeg
        case "png": self = .png
        default: return nil
        }
    }
}

/// A message on `upstream_frames`, from the client to the server (prototype wire).
package enum UpstreamMessage: Hashable, Sendable {
    case chunk(FrameChunk)
    /// The client has every answer and sends no more frames.
    case endOfFrames
    /// The client's source broke, for instance `failed_to_open`.
    case sourceError(String)
}

/// A piece of an encoded frame.
///
///     {"type":"frame_chunk","frame_id":123,"chunk_id":0,"chunks":1,"encoding":"jpg","width":1280,"height":720,"data":"<base64>"}
package struct FrameChunk: Hashable, Sendable {
    package var frameID: Int
    package var chunkID: Int
    package var chunks: Int
    package var encoding: FrameEncoding
    package var width: Int?
    package var height: Int?
    /// Base64 text, still encoded: a slice of the message wherever that has no escapes in it.
    package var data: ByteBuffer
}

/// A message that is not one of `UpstreamMessage`.
package struct MalformedMessage: Error, Hashable, Sendable {
    package enum Reason: Hashable, Sendable {
        case notJSON(JSONError)
        case notAnObject
        case missing(Field)
        case invalid(Field)
        case unknownType
    }
    package enum Field: String, Hashable, Sendable {
        case type, data, chunks, encoding, width, height, error
        case frameID = "frame_id"
        case chunkID = "chunk_id"
    }
    package var reason: Reason
    /// The frame it belongs to, where that much could be read.
    package var frameID: Int?
}

extension UpstreamMessage {
    /// Ids above this are refused, so that arithmetic on them cannot overflow and JavaScript reads them exactly.
    package static let maximumFrameID = 1 << 53

    /// Reads a message in one pass; the base64 text is neither copied nor decoded here.
    package init(parsing message: ByteBuffer) throws(MalformedMessage) {
        var fields = Fields()
        do throws(JSONError) {
            try fields.read(message)
        } catch {
            let reason: MalformedMessage.Reason = error == .unexpectedByte(offset: 0) ? .notAnObject : .notJSON(error)
            throw MalformedMessage(reason: reason, frameID: fields.frameID)
        }
        self = try fields.message()
    }

    /// What has been read of a message, in whatever order it came.
    private struct Fields {
        var type: JSON?
        var frame: JSON?
        var chunk: JSON?
        var chunks: JSON?
        var encoding: JSON?
        var width: JSON?
        var height: JSON?
        var error: JSON?
        var data: ByteBuffer?
        var hasOtherData = false

        var frameID: Int? {
            guard let id = frame?.integer, id >= 0, id <= maximumFrameID else { return nil }
            return id
        }

        mutating func read(_ message: ByteBuffer) throws(JSONError) {
            var cursor = JSONCursor(message.readableBytesUInt8Span)
            guard try cursor.take(UInt8(ascii: "{")) else { throw .unexpectedByte(offset: 0) }
            if try !cursor.take(UInt8(ascii: "}")) {
                repeat {
                    let name = try cursor.readString()
                    try cursor.expect(UInt8(ascii: ":"))
                    if name == "data", try cursor.peek() == UInt8(ascii: "\"") {
                        let raw = try cursor.readRawString()
                        // a writer may escape the slashes of base64
                        data =
                            raw.hasEscapes
                            ? ByteBuffer(bytes: try cursor.unescape(raw))
                            : message.getSlice(at: message.readerIndex + raw.range.lowerBound, length: raw.range.count)
                    } else {
                        set(name, try cursor.readValue(depth: 1))
                    }
                } while try cursor.take(UInt8(ascii: ","))
                try cursor.expect(UInt8(ascii: "}"))
            }
            try cursor.expectEnd()
        }

        private mutating func set(_ name: String, _ value: JSON) {
            switch name {
            case "type": type = value
            case "frame_id": frame = value
            case "chunk_id": chunk = value
            case "chunks": chunks = value
            case "encoding": encoding = value
            case "width": width = value
            case "height": height = value
            case "error": error = value
            case "data": hasOtherData = true
            default: break
            }
        }

        func message() throws(MalformedMessage) -> UpstreamMessage {
            switch type?.string {
            case "frame_chunk": return .chunk(try frameChunk())
            case "frame_eof": return .endOfFrames
            case "frame_error": return .sourceError(error?.string ?? error?.description ?? "unknown")
            case nil: throw fault(type == nil ? .missing(.type) : .invalid(.type))
            default: throw fault(.unknownType)
            }
        }

        private func frameChunk() throws(MalformedMessage) -> FrameChunk {
            guard let frame else { throw fault(.missing(.frameID)) }
            guard let frameID, case .integer = frame else { throw fault(.invalid(.frameID)) }
            let chunks = try integer(chunks, .chunks, default: 1)
            let chunk = try integer(chunk, .chunkID, default: 0)
            guard let data else { throw fault(hasOtherData ? .invalid(.data) : .missing(.data)) }
            var kind = FrameEncoding.jpeg
            if let encoding, !encoding.isNull {
                guard let named = encoding.string.flatMap(FrameEncoding.init(wireName:)) else { throw fault(.invalid(.encoding)) }
                kind = named
            }
            return FrameChunk(
                frameID: frameID, chunkID: chunk, chunks: chunks, encoding: kind, width: width?.integer, height: height?.integer, data: data)
        }

        private func integer(_ value: JSON?, _ field: MalformedMessage.Field, default fallback: Int) throws(MalformedMessage) -> Int {
            guard let value else { return fallback }
            guard case .integer(let number) = value else { throw fault(.invalid(field)) }
            return number
        }

        private func fault(_ reason: MalformedMessage.Reason) -> MalformedMessage {
            MalformedMessage(reason: reason, frameID: frameID)
        }
    }
}

extension MalformedMessage: CustomStringConvertible {
    package var description: String {
        switch reason {
        case .notJSON(let error): "not JSON: \(error)"
        case .notAnObject: "not a JSON object"
        case .missing(let field): "\(field.rawValue) is missing"
        case .invalid(let field): "\(field.rawValue) is not valid"
        case .unknownType: "unknown type"
        }
    }
}
