import CLZ4
import CZstd

/// How the bytes of a raw picture are squeezed: without loss, fast enough for video. From any thread.
///
/// What is decompressed may come from anyone: its length is known beforehand, memory is that length and no more, and anything else than
/// exactly so many bytes is an error. Neither format carries a checksum here; a payload's digest finds flipped bits (docs/protocol.md).
package enum PayloadCompression: Hashable, Sendable {
    /// One LZ4 block: of camera pictures it leaves four fifths, of drawn ones far less; the quickest to undo.
    case lz4
    /// One Zstandard frame, with its content's size. Level 1 leaves two thirds of camera pictures in little more time than LZ4; up to 22 the bytes
    /// get fewer and the time longer, below 0 it is the other way round.
    case zstd(level: Int = 1)

    /// The longest payload: the LZ4 block format's limit, 2,113,929,216 bytes.
    package static let maximumByteCount = Int(LZ4_MAX_INPUT_SIZE)

    /// What `compress(_:into:)` needs room for, for a payload of `count` bytes: the bytes that cannot be squeezed, and a little.
    package func maximumCompressedByteCount(of count: Int) -> Int {
        guard (0...Self.maximumByteCount).contains(count) else { return 0 }
        return switch self {
        case .lz4: Int(LZ4_compressBound(Int32(count)))
        case .zstd: Int(ZSTD_compressBound(count))
        }
    }

    /// Compresses into memory of the caller's, of `maximumCompressedByteCount(of:)` bytes.
    /// - Returns: how many bytes were written.
    package func compress(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) throws(MediaError) -> Int {
        guard let source = bytes.baseAddress, !bytes.isEmpty, bytes.count <= Self.maximumByteCount else {
            throw .cannotEncode(reason: "a payload of \(bytes.count) bytes cannot be compressed")
        }
        guard let output = target.baseAddress, target.count >= maximumCompressedByteCount(of: bytes.count) else {
            throw .cannotEncode(reason: "there is not enough room for the compressed payload")
        }
        switch self {
        case .lz4:
            return try LZ4State.pool.with { (state) throws(MediaError) in
                let written = LZ4_compress_fast_extState(
                    state.memory.baseAddress, source.assumingMemoryBound(to: CChar.self), output.assumingMemoryBound(to: CChar.self),
                    Int32(bytes.count), Int32(clamping: target.count), 1)
                guard written > 0 else { throw .cannotEncode(reason: "LZ4") }
                return Int(written)
            }
        case .zstd(let level):
            guard (Int(ZSTD_minCLevel())...Int(ZSTD_maxCLevel())).contains(level) else {
                throw .cannotEncode(reason: "Zstandard has no level \(level)")
            }
            return try ZstdContexts.pool.with { (contexts) throws(MediaError) in
                let code = ZSTD_compressCCtx(contexts.compressor, output, target.count, source, bytes.count, Int32(level))
                guard ZSTD_isError(code) == 0 else { throw .cannotEncode(reason: "Zstandard: \(message(code))") }
                return code
            }
        }
    }

    package func compress(_ bytes: UnsafeRawBufferPointer) throws(MediaError) -> [UInt8] {
        var failure: MediaError?
        let compressed = [UInt8](unsafeUninitializedCapacity: maximumCompressedByteCount(of: bytes.count)) { target, count in
            do throws(MediaError) {
                count = try compress(bytes, into: UnsafeMutableRawBufferPointer(target))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return compressed
    }

    /// Fills `target`, whose length is that of the payload before compression.
    /// - Throws: `badPayload` unless `bytes` decompress to exactly that length. `target` holds anything then.
    package func decompress(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) throws(MediaError) {
        guard let source = bytes.baseAddress, !bytes.isEmpty, bytes.count <= Int(Int32.max) else {
            throw .badPayload(reason: "\(bytes.count) bytes are no compressed picture")
        }
        guard let output = target.baseAddress, !target.isEmpty, target.count <= Self.maximumByteCount else {
            throw .badPayload(reason: "there are no pictures of \(target.count) bytes")
        }
        switch self {
        case .lz4:
            let count = LZ4_decompress_safe(
                source.assumingMemoryBound(to: CChar.self), output.assumingMemoryBound(to: CChar.self), Int32(bytes.count), Int32(target.count))
            guard count >= 0 else { throw .badPayload(reason: "it is no LZ4 block, or one of more than \(target.count) bytes") }
            guard count == target.count else { throw .badPayload(reason: "it has \(count) bytes instead of \(target.count)") }
        case .zstd:
            try checkFrame(bytes, contentByteCount: target.count)
            // in one call there is no window: matches point into `target`, whatever size of window the frame claims
            let code = ZstdContexts.pool.with { ZSTD_decompressDCtx($0.decompressor, output, target.count, source, bytes.count) }
            guard ZSTD_isError(code) == 0 else { throw .badPayload(reason: "Zstandard: \(message(code))") }
            guard code == target.count else { throw .badPayload(reason: "it has \(code) bytes instead of \(target.count)") }
        }
    }

    /// One frame, nothing behind it, and no other size than the expected one (an encoder that streams may leave it out).
    private func checkFrame(_ bytes: UnsafeRawBufferPointer, contentByteCount: Int) throws(MediaError) {
        let claimed = ZSTD_getFrameContentSize(bytes.baseAddress, bytes.count)
        let length = ZSTD_findFrameCompressedSize(bytes.baseAddress, bytes.count)
        guard ZSTD_isError(length) == 0 else { throw .badPayload(reason: "it is no Zstandard frame") }
        guard length == bytes.count else { throw .badPayload(reason: "something follows the Zstandard frame") }
        guard claimed == everyframe_zstd_content_size_unknown() || claimed == UInt64(contentByteCount) else {
            throw .badPayload(reason: "it says to have another size than \(contentByteCount) bytes")
        }
    }

    private func message(_ code: Int) -> String { String(cString: ZSTD_getErrorName(code)) }
}

/// The hash table of LZ4's compressor; decompressing needs none.
private final class LZ4State {
    static let pool = IdlePool { LZ4State() }
    // the library wants it aligned to a pointer's size
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(LZ4_sizeofState()), alignment: 16)
    deinit { memory.deallocate() }
}

private final class ZstdContexts {
    static let pool = IdlePool { ZstdContexts() }
    // nil where there is no memory, which the library reports when they are used
    let compressor = ZSTD_createCCtx()
    let decompressor = ZSTD_createDCtx()

    deinit {
        ZSTD_freeCCtx(compressor)
        ZSTD_freeDCtx(decompressor)
    }
}
