import NIOCore
import Testing
import Wire

@testable import FrameTransport

@Suite struct FrameAssemblerTests {
    @Test("Chunks in any order make a frame; frames leave by ascending id", arguments: [UInt64(3), 4, 5])
    func shuffled(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var assembler = FrameAssembler()
        var chunks = (1...20).flatMap { id in (0..<3).map { chunk(id, $0, of: 3, text: "AAA\($0)") } }
        chunks.shuffle(using: &random)
        var left: [Int] = []
        for chunk in chunks {
            assembler.handle(chunk, at: .zero)
            while case .frame(let frame)? = assembler.next() {
                left.append(frame.id)
                #expect(frame.pieces.map { String(buffer: $0) } == ["AAA0", "AAA1", "AAA2"])
            }
        }
        #expect(left == Array(1...20))
        #expect(assembler.heldBytes == 0 && assembler.isEmpty)
    }

    @Test("Chunk numbers out of range fail their frame and no other")
    func outOfRange() {
        for (chunkID, chunks) in [(1, 1), (-1, 2), (0, 0), (0, -5), (7, 3), (Int.max, Int.max), (Int.min, 1)] {
            var assembler = FrameAssembler()
            assembler.handle(chunk(1, chunkID, of: chunks), at: .zero)
            #expect(assembler.next()?.fault == .chunkOutOfRange(chunk: chunkID, chunks: chunks))
            assembler.handle(chunk(2, 0, of: 1), at: .zero)
            #expect(assembler.next()?.frameID == 2)
        }
    }

    @Test("Totals and encodings that change fail the frame once; later chunks of it are dropped")
    func inconsistent() {
        var assembler = FrameAssembler()
        assembler.handle(chunk(1, 0, of: 3), at: .zero)
        assembler.handle(chunk(1, 1, of: 4), at: .zero)
        assembler.handle(chunk(1, 1, of: 3), at: .zero)
        #expect(assembler.next()?.fault == .inconsistent)
        assembler.handle(chunk(1, 2, of: 3), at: .zero)
        #expect(assembler.next() == nil)
        #expect(assembler.counters.staleChunks == 2)
    }

    @Test("Duplicates count once")
    func duplicates() {
        var assembler = FrameAssembler()
        assembler.handle(chunk(1, 0, of: 2), at: .zero)
        assembler.handle(chunk(1, 0, of: 2, text: "BBBB"), at: .zero)
        #expect(assembler.next() == nil)
        assembler.handle(chunk(1, 1, of: 2), at: .zero)
        guard case .frame(let frame)? = assembler.next() else {
            Issue.record("no frame")
            return
        }
        #expect(String(buffer: frame.pieces[0]) == "AAAA")
        assembler.handle(chunk(1, 0, of: 1), at: .zero)
        #expect(assembler.next() == nil)
        #expect(assembler.counters.duplicateChunks == 1 && assembler.counters.staleChunks == 1)
    }

    @Test("A frame that is never completed fails after its age, and the ones behind it follow")
    func age() throws {
        var assembler = FrameAssembler()
        assembler.handle(chunk(1, 0, of: 2), at: .zero)
        assembler.handle(chunk(2, 0, of: 1), at: .zero)
        #expect(assembler.next() == nil)
        let deadline = try #require(assembler.deadline)
        assembler.expire(at: deadline - .nanoseconds(1))
        #expect(assembler.next() == nil)
        assembler.expire(at: deadline)
        #expect(assembler.next()?.fault == .timedOut(received: 1, of: 2))
        #expect(assembler.next()?.frameID == 2)
        #expect(assembler.deadline == nil)
    }

    @Test("A skipped id fails in its turn; the end fails what is open at once")
    func skipped() {
        var assembler = FrameAssembler()
        assembler.handle(chunk(1, 0, of: 1), at: .zero)
        assembler.handle(chunk(3, 0, of: 1), at: .zero)
        assembler.handle(chunk(4, 0, of: 2), at: .zero)
        #expect(assembler.next()?.frameID == 1)
        #expect(assembler.next() == nil)
        assembler.finish()
        #expect(assembler.next()?.fault == .neverArrived)
        #expect(assembler.next()?.frameID == 3)
        #expect(assembler.next()?.fault == .incomplete(received: 1, of: 2))
        #expect(assembler.next() == nil)
    }

    @Test("A message that cannot be read fails the frame that it names")
    func malformed() {
        var assembler = FrameAssembler()
        assembler.handle(MalformedMessage(reason: .missing(.data), frameID: 1), at: .zero)
        assembler.handle(MalformedMessage(reason: .missing(.data), frameID: nil), at: .zero)
        #expect(assembler.next()?.fault == .malformed(.missing(.data)))
        #expect(assembler.next() == nil)
    }

    @Test("Text, chunks and frames are bounded")
    func bounds() {
        var limits = FrameAssembler.Limits()
        limits.frames = 4
        limits.frameBytes = 1000
        limits.bytes = 2000
        limits.chunksPerFrame = 8
        var assembler = FrameAssembler(limits: limits)
        assembler.handle(chunk(1, 0, of: 9), at: .zero)
        #expect(assembler.next()?.fault == .tooManyChunks(9))
        assembler.handle(chunk(2, 0, of: 2, text: String(repeating: "A", count: 1000)), at: .zero)
        #expect(assembler.next()?.fault == .tooLarge)
        for id in 3...5 { assembler.handle(chunk(id, 0, of: 2, text: String(repeating: "A", count: 700)), at: .zero) }
        #expect(assembler.heldBytes <= 2000)
        #expect(assembler.next()?.fault == .incomplete(received: 1, of: 2))
        for id in 6...30 { assembler.handle(chunk(id, 0, of: 2), at: .zero) }
        var left: [Int] = []
        while let output = assembler.next() { left.append(output.id) }
        #expect(left == Array(4...27))
        #expect(assembler.heldBytes <= 2000)
    }

    @Test("An id far away neither loops nor reserves", arguments: [UpstreamMessage.maximumFrameID, 1_000_000])
    func farAway(id: Int) {
        var assembler = FrameAssembler()
        assembler.handle(chunk(1, 0, of: 2), at: .zero)
        assembler.handle(chunk(id, 0, of: 1), at: .zero)
        #expect(assembler.next()?.fault == .incomplete(received: 1, of: 2))
        #expect(assembler.next()?.frameID == id)
        assembler.handle(chunk(2, 0, of: 1), at: .zero)
        #expect(assembler.next() == nil)
    }

    @Test("Under random chunks each id leaves once, ascending, within the bounds", arguments: [UInt64(11), 12, 13, 14])
    func random(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var limits = FrameAssembler.Limits()
        limits.frames = 8
        limits.bytes = 4000
        var assembler = FrameAssembler(limits: limits)
        var last = 0
        var now = Instant.zero
        for _ in 0..<5000 {
            now += .milliseconds(Int.random(in: 0...200, using: &random))
            let id = max(1, last + Int.random(in: -3...12, using: &random))
            let chunks = Int.random(in: 0...3, using: &random)
            assembler.handle(chunk(id, Int.random(in: -1...3, using: &random), of: chunks), at: now)
            assembler.expire(at: now)
            while let output = assembler.next() {
                #expect(output.id > last)
                last = output.id
            }
            #expect(assembler.heldBytes >= 0 && assembler.heldBytes <= 4000)
            if let deadline = assembler.deadline { #expect(deadline > now) }
        }
        assembler.finish()
        while assembler.next() != nil {}
        #expect(assembler.heldBytes == 0)
    }

    private func chunk(_ id: Int, _ chunk: Int, of chunks: Int, text: String = "AAAA") -> FrameChunk {
        FrameChunk(frameID: id, chunkID: chunk, chunks: chunks, encoding: .jpeg, data: ByteBuffer(string: text))
    }
}

extension FrameAssembler.Output {
    fileprivate var fault: FrameFault? {
        guard case .failed(_, let fault) = self else { return nil }
        return fault
    }
    fileprivate var frameID: Int? {
        guard case .frame(let frame) = self else { return nil }
        return frame.id
    }
}
