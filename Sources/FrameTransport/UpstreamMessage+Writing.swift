package import NIOCore

/// Cuts encoded frames into `frame_chunk` messages no larger than the peer takes.
package struct FrameChunker: Sendable {
    /// What a chunk carries by default, before base64 (PROTOCOLS.md section 1).
    package static let defaultChunkSize = 16_000_000

    /// Payload bytes in one chunk. A multiple of three, so that the base64 texts of all chunks also join to one text.
    package let chunkSize: Int

    /// Room for everything in a chunk but the base64 text: 112 characters of names and six numbers.
    private static let envelope = 256

    /// - Parameter maximumMessageSize: the peer's limit for one message; nil where it has none.
    /// - Returns: nil where the limit leaves no room for a frame.
    package init?(chunkSize: Int = defaultChunkSize, maximumMessageSize: Int?) {
        var size = max(chunkSize, 3)
        if let maximumMessageSize {
            guard maximumMessageSize >= Self.envelope + 4 else { return nil }
            size = min(size, (maximumMessageSize - Self.envelope) / 4 * 3)
        }
        self.chunkSize = size / 3 * 3
    }

    package func chunkCount(for byteCount: Int) -> Int { max(1, (byteCount + chunkSize - 1) / chunkSize) }

    /// The message for piece `chunkID` of a frame.
    package func message(
        frameID: Int, chunkID: Int, encoding: FrameEncoding, width: Int, height: Int, of payload: ByteBuffer
    ) -> ByteBuffer {
        let bytes = payload.readableBytesView.dropFirst(chunkID * chunkSize).prefix(chunkSize)
        var text = ByteBuffer()
        text.reserveCapacity(Self.envelope + Base64.encodedLength(of: bytes.count))
        text.writeString(
            """
            {"type":"frame_chunk","frame_id":\(frameID),"chunk_id":\(chunkID),"chunks":\(chunkCount(for: payload.readableBytes)),\
            "encoding":"\(encoding.rawValue)","width":\(width),"height":\(height),"data":"
            """)
        Base64.encode(bytes, into: &text)
        text.writeStaticString("\"}")
        return text
    }
}

extension UpstreamMessage {
    package static let endOfFramesText = #"{"type":"frame_eof"}"#

    package static func sourceErrorText(_ error: String) -> String {
        JSON.object(["type": "frame_error", "error": .string(error)]).description
    }
}
