import FrameTransport
import NIOCore
import Wire

extension FuzzTarget {
    /// The parsers of everyframe.v1, one by the first byte. What was read is written and read again the same.
    static let v1Parsers = FuzzTarget(name: "v1-parsers") { input in
        var commands = Commands(input)
        let choice = commands.number(below: 7)
        let bytes = commands.rest
        switch choice {
        case 0: checkMessagePack(bytes)
        case 1: checkControl(bytes, isText: false)
        case 2: checkControl(bytes, isText: true)
        case 3:
            var message = bytes
            guard let header = try? ChunkHeader(readingFrom: &message) else { return }
            var written = ByteBuffer()
            header.write(into: &written)
            require((try? ChunkHeader(readingFrom: &written)) == header, "a chunk's header changes when it is written and read")
        case 4: for message in [bytes, bytes.sealed(kind: 0x10, words: 22)] { checkFrame(message) }
        case 5: for message in [bytes, bytes.sealed(kind: 0x20, words: 28)] { checkResult(message) }
        default: for message in [bytes, bytes.sealed(kind: 0x12, words: 12)] { checkConfiguration(message) }
        }
    }
}

// Where values may hold a NaN, which equals nothing, what was written is compared.

private func checkMessagePack(_ bytes: ByteBuffer) {
    guard let value = try? MessagePack.read(bytes) else { return }
    var first = ByteBuffer()
    MessagePack.write(value, into: &first)
    guard let again = try? MessagePack.read(first) else { return require(false, "MessagePack of ours cannot be read") }
    var second = ByteBuffer()
    MessagePack.write(again, into: &second)
    require(first == second, "a MessagePack value changes when it is written and read")
}

private func checkControl(_ bytes: ByteBuffer, isText: Bool) {
    guard case .message(let message)? = try? ControlMessage.read(bytes, isText: isText) else { return }
    let first = message.written(isText ? .json : .messagePack)
    guard case .message(let again)? = try? ControlMessage.read(isText ? first : first.dropping(1), isText: isText) else {
        // what an optional field is by default is written too, and that may be more than is read
        return require(bytes.readableBytes >= 8192, "a control message of ours cannot be read: \(message)")
    }
    require(again.written(isText ? .json : .messagePack) == first, "a control message changes when it is written and read: \(message)")
}

private func checkFrame(_ bytes: ByteBuffer) {
    var message = bytes
    guard let header = try? FrameHeader(readingFrom: &message) else { return }
    var written = ByteBuffer()
    header.write(into: &written)
    require((try? FrameHeader(readingFrom: &written)) == header, "a frame's header changes when it is written and read")
}

private func checkResult(_ bytes: ByteBuffer) {
    var message = bytes
    guard let header = try? ResultHeader(readingFrom: &message) else { return }
    var written = ByteBuffer()
    header.write(into: &written)
    require((try? ResultHeader(readingFrom: &written)) == header, "a result's header changes when it is written and read")
    _ = header.result.answer.value
}

private func checkConfiguration(_ bytes: ByteBuffer) {
    guard let (job, configuration) = try? CodecConfiguration.read(bytes) else { return }
    var written = ByteBuffer()
    configuration.write(job: job, into: &written)
    guard let again = try? CodecConfiguration.read(written) else { return require(false, "a configuration of ours cannot be read") }
    require(again == (job, configuration), "a configuration changes when it is written and read")
}

// MARK: For all targets of everyframe.v1

extension Commands {
    mutating func flag() -> Bool { byte() & 1 == 1 }

    /// Mostly `usual`, now and then any other small number.
    mutating func mostly(_ usual: Int) -> Int {
        let choice = byte()
        return choice < 224 ? usual : Int(choice) - 224
    }

    /// Everything that is left.
    var rest: ByteBuffer {
        var copy = self
        return copy.take(.max)
    }
}

extension ByteBuffer {
    /// A header of this kind out of these bytes, whose length and check are right, and what is behind them.
    func sealed(kind: UInt8, words: Int) -> ByteBuffer {
        var rest = self
        var header = ByteBuffer(repeating: 0, count: 4 * words - 4)
        header.setBuffer(rest.readSlice(length: Swift.min(rest.readableBytes, 4 * words - 4)) ?? ByteBuffer(), at: 0)
        header.setInteger(kind, at: 0)
        header.setInteger(UInt8(words), at: 1)
        header.writeInteger(UInt32(truncatingIfNeeded: XXH64.digest(header)))
        header.writeBuffer(&rest)
        return header
    }

    func dropping(_ count: Int) -> ByteBuffer { getSlice(at: readerIndex + count, length: readableBytes - count) ?? ByteBuffer() }
}

extension ControlMessage {
    func written(_ format: Answer.Format) -> ByteBuffer {
        var bytes = ByteBuffer()
        write(format, into: &bytes)
        return bytes
    }
}

/// A message of ours, which the other end must be able to read, and no longer than it said.
func checkSent(_ bytes: ByteBuffer, on lane: Lane, isText: Bool, limit: Int) -> ControlMessage? {
    require(bytes.readableBytes <= limit, "a message of \(bytes.readableBytes) bytes to one who takes \(limit)")
    if isText {
        guard case .message(let message)? = try? ControlMessage.read(bytes, isText: true) else { fatalError("a text message of ours cannot be read") }
        return message
    }
    var rest = bytes
    switch bytes.getInteger(at: bytes.readerIndex, as: UInt8.self) {
    case 0x01:
        guard case .message(let message)? = try? ControlMessage.read(bytes.dropping(1), isText: false) else { fatalError("control that cannot be read") }
        return message
    case 0x10: require(lane == .bulk && (try? FrameHeader(readingFrom: &rest)) != nil, "a frame of ours cannot be read")
    case 0x20: require(lane == .bulk && (try? ResultHeader(readingFrom: &rest)) != nil, "a result of ours cannot be read")
    case 0x11, 0x21: require(lane == .bulk && (try? ChunkHeader(readingFrom: &rest)) != nil, "a chunk of ours cannot be read")
    case 0x12: require(lane == .bulk && (try? CodecConfiguration.read(bytes)) != nil, "a configuration of ours cannot be read")
    default: fatalError("a message of no kind")
    }
    return nil
}
