import FrameTransport
import NIOCore
import Wire

extension FuzzTarget {
    /// Text lines as messages on `upstream_frames`; a line that begins with a digit lets that many seconds pass.
    static let frames = FuzzTarget(name: "frames") { input in
        var limits = FrameAssembler.Limits()
        limits.frames = 4
        limits.bytes = 4096
        limits.frameBytes = 1024
        limits.chunksPerFrame = 16
        var assembler = FrameAssembler(limits: limits)
        var now = Instant.zero
        var lastID: Int?
        func check(_ assembler: inout FrameAssembler) {
            // What is handed out goes up by id, each once.
            while let output = assembler.next() {
                require(lastID.map { output.id > $0 } ?? true, "frame \(output.id) after \(lastID ?? -1)")
                lastID = output.id
                if case .frame(let frame) = output { _ = try? frame.payload() }
            }
            require(assembler.heldBytes <= limits.bytes, "\(assembler.heldBytes) bytes held")
        }
        for line in input.readableBytesView.split(separator: UInt8(ascii: "\n")) {
            if let digit = line.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) {
                now += .seconds(Int(digit - UInt8(ascii: "0")))
                assembler.expire(at: now)
                if let deadline = assembler.deadline { require(deadline > now, "a deadline in the past") }
            } else {
                do throws(MalformedMessage) {
                    switch try UpstreamMessage(parsing: ByteBuffer(line)) {
                    case .chunk(let chunk): assembler.handle(chunk, at: now)
                    case .endOfFrames, .sourceError: break
                    }
                } catch {
                    _ = error.description
                    assembler.handle(error, at: now)
                }
            }
            check(&assembler)
        }
        assembler.finish()
        check(&assembler)
    }

    /// An answer from a server, as the client reads it. What was read is written and read again the same.
    static let results = FuzzTarget(name: "results") { input in
        guard let message = try? ResultMessage(parsing: input) else { return }
        var text = ByteBuffer()
        message.json.write(into: &text)
        let again = try? ResultMessage(parsing: text)
        require(again == message, "an answer changes when it is written and read")
    }

    /// Any JSON text. What was read is written and read again the same.
    static let json = FuzzTarget(name: "json") { input in
        guard let value = try? JSON(parsing: input) else { return }
        var text = ByteBuffer()
        value.write(into: &text)
        let again = try? JSON(parsing: text)
        require(again == value, "a JSON value changes when it is written and read")
    }
}
