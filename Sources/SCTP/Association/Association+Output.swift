import NIOCore
import Wire

/// A chunk other than DATA and SACK that waits for the next packet.
struct ControlChunk {
    enum Placement {
        /// Its own packet with this tag and a checksum.
        case alone(tag: UInt32)
        /// The first of a packet that carries a checksum.
        case first
        case bundled
    }

    var bytes: ByteBuffer
    var placement: Placement

    init(_ bytes: ByteBuffer, _ placement: Placement) {
        self.bytes = bytes
        self.placement = placement
    }
}

extension Association {
    /// Writes what is due, at most `maximumBytesPerPoll` bytes and a packet.
    mutating func writePackets(at now: Instant, into batch: inout PacketBatch) {
        wakeAt = nil
        progressReset(at: now)
        var writer = PacketWriter(configuration, size: search.current, tag: peerTag, usesZeroChecksum: capabilities.zeroChecksum, batch: batch)
        writeControl(&writer, &batch, at: now)
        if state.hasPeer {
            writeSack(&writer, &batch, at: now)
            writeForwardTSN(&writer, &batch, at: now)
            if state.maySendData { writeData(&writer, &batch, at: now) }
            // the last message of a closing stream may just have expired
            if mayAskForReset { wakeAt = now }
            writeProbe(&writer, &batch, at: now)
        }
        writer.close(&batch)
        counters.packetsSent += writer.packets
        counters.bytesSent += writer.bytes
        armSack()
    }

    private mutating func writeControl(_ writer: inout PacketWriter, _ batch: inout PacketBatch, at now: Instant) {
        while let chunk = control.popFirst() {
            switch chunk.placement {
            case .alone(let tag):
                writer.close(&batch)
                writer.open(&batch, tag: tag)
                batch.bytes.writeImmutableBuffer(chunk.bytes)
                writer.needsChecksum = true
                writer.close(&batch)
            case .first:
                writer.close(&batch)
                writer.open(&batch)
                batch.bytes.writeImmutableBuffer(chunk.bytes)
                writer.needsChecksum = true
            case .bundled:
                writer.makeRoom(chunk.bytes.readableBytes, &batch)
                batch.bytes.writeImmutableBuffer(chunk.bytes)
            }
        }
    }

    private mutating func writeSack(_ writer: inout PacketWriter, _ batch: inout PacketBatch, at now: Instant) {
        guard state.mayReceiveData, sackSchedule.isDue || sackSchedule.isPending && mayWriteData(at: now) else { return }
        windowTuner.update(
            received: counters.payloadBytesReceived, held: reassembly.windowUse + deliveredCharge, roundTrip: roundTrip.smoothed, at: now)
        let window = receiveWindow
        var sack = SackChunk(cumulative: TSN(tracker.cumulative), receiverWindow: UInt32(clamping: window))
        let room = configuration.basePacketSize - CommonHeader.size - SackChunk.size
        if !sackSchedule.duplicates.isEmpty { sack.duplicates = sackSchedule.duplicates }
        if !tracker.ranges.isEmpty {
            let most = room / 4 - sack.duplicates.count
            for range in tracker.ranges.prefix(most) {
                // a block's ends have 16 bits: what lies beyond is told when the gap before it is closed
                guard let start = UInt16(exactly: range.first - tracker.cumulative) else { break }
                sack.gaps.append(.init(start: start, end: UInt16(clamping: range.last - tracker.cumulative)))
            }
        }
        writer.makeRoom(SackChunk.size + 4 * (sack.gaps.count + sack.duplicates.count), &batch)
        sack.write(into: &batch.bytes)
        sackSchedule.sent(window: window)
        counters.sacksSent += 1
    }

    private mutating func writeForwardTSN(_ writer: inout PacketWriter, _ batch: inout PacketBatch, at now: Instant) {
        guard needsForwardTSN else { return }
        needsForwardTSN = false
        guard advancedPoint > inFlight.cumulative else { return }
        let chunk = makeForwardTSN(room: configuration.basePacketSize - CommonHeader.size)
        writer.makeRoom(8 + chunk.skips.count * (capabilities.interleaving ? 8 : 4), &batch)
        chunk.write(interleaved: capabilities.interleaving, into: &batch.bytes)
        if !timers.isArmed(.retransmission) { timers[.retransmission] = now + roundTrip.timeout }
    }

    /// Whether `writeData` would write anything.
    private func mayWriteData(at now: Instant) -> Bool {
        guard state.maySendData, sendQueue.hasUnsent || !inFlight.lost.isEmpty, peerWindow > inFlight.payloadBytes || inFlight.sent.isEmpty else {
            return false
        }
        if allowance > 0 || inFlight.bytes == 0 { return true }
        guard inFlight.bytes < congestion.window else { return false }
        return congestion.pacingRate.map { pacer.due(pace(of: $0)) <= now } ?? true
    }

    private func pace(of rate: Double) -> Pacer.Pace { Pacer.Pace(rate: rate, packetSize: search.current, limit: configuration.maximumBytesPerPoll) }

    /// Retransmissions first, then new fragments, as far as both windows let them (RFC 9260 §6.1).
    private mutating func writeData(_ writer: inout PacketWriter, _ batch: inout PacketBatch, at now: Instant) {
        if let last = lastDataSentAt, inFlight.isEmpty, sendQueue.hasUnsent, now > last {
            congestion.idled(for: now - last, retransmissionTimeout: roundTrip.timeout)
        }
        let interleaved = capabilities.interleaving
        let header = DataChunk.headerSize(interleaved: interleaved)
        let window = congestion.window
        let pace = congestion.pacingRate.map { self.pace(of: $0) }
        var budget = pace.map { pacer.allowance($0, at: now) } ?? .max
        // with nothing under way no answer comes that would set a pace right which is far too slow
        if inFlight.bytes == 0 { budget = max(budget, search.base) }
        var spent = 0
        let limit = configuration.maximumBytesPerPoll
        let longest = longestFragment
        // in large packets a short fragment at the end costs more than the room is worth
        let shortest = chunksPerPacket >= 4 ? longest / 2 : 32
        var wrote = false
        var isBlocked = false
        isWindowLimited = false
        isPaced = false
        while true {
            if writer.written(batch) >= limit, !writer.hasRoom(header + 4, batch) {
                // more than one poll may write: the deadline says "now"
                if mayWriteData(at: now) { wakeAt = now }
                break
            }
            if inFlight.bytes >= window || spent >= budget {
                if allowance <= 0 {
                    let hasMore = sendQueue.hasUnsent || !inFlight.lost.isEmpty
                    isWindowLimited = hasMore && inFlight.bytes >= window
                    isPaced = hasMore && !isWindowLimited
                    isBlocked = isWindowLimited
                    break
                }
                allowance -= 1
            }
            if !inFlight.lost.isEmpty {
                guard peerWindow > 0 || inFlight.sent.isEmpty else { isBlocked = true; break }
                let written = resendFirstLost(&writer, &batch, interleaved: interleaved, header: header, at: now)
                if written > 0 { wrote = true }
                spent += written
                continue
            }
            let slot = sendQueue.selectNext(at: now)
            guard slot >= 0 else { break }
            let message = sendQueue.messages[Int(slot)]
            if message.isStarted, let expiry = message.expiry, expiry <= now, capabilities.forwardTSN {
                abandon(slot)
                continue
            }
            let remaining = message.size - message.sent
            let wanted = min(remaining, longest)
            var length = min(wanted, writer.freshRoom(batch) - header)
            if length < remaining {
                if length < wanted, length < shortest {
                    writer.close(&batch)
                    length = min(wanted, writer.freshRoom(batch) - header)
                }
                if length < remaining { length &= ~3 }
            }
            let credit = peerWindow - inFlight.payloadBytes
            if length > credit {
                // §6.1 A: one chunk may probe a closed window; a small window waits for a better one rather than for small chunks
                guard inFlight.sent.isEmpty else { isBlocked = true; break }
                if credit >= 64 { length = min(length, credit & ~3) }
            }
            writer.makeRoom(header + 4, &batch)
            let (chunk, head) = sendQueue.takeFragment(slot, length: length, tsn: inFlight.next)
            inFlight.append(chunk, marksLargePacket: writer.crosses(search.base, by: inFlight.size(chunk.length), batch), at: now)
            write(chunk, head, interleaved: interleaved, &writer, &batch)
            wrote = true
            spent += inFlight.size(chunk.length)
        }
        if inFlight.lost.isEmpty, !sendQueue.hasUnsent { allowance = 0 }
        // nor does the peer's window tell anything of the path
        if !isWindowLimited, !isPaced, wakeAt == nil { inFlight.delivery.applicationLimited(inFlight: inFlight.bytes) }
        if let pace {
            pacer.sent(spent)
            timers[.pacing] = isPaced ? pacer.due(pace) : nil
        }
        if wrote {
            // RFC 7053: whoever waits for the window, or for the end, wants to know at once
            if isBlocked || state != .established || reset.isWaitingForData { writer.requestSackImmediately(&batch) }
            lastDataSentAt = now
            if !timers.isArmed(.retransmission) { timers[.retransmission] = now + roundTrip.timeout }
            armTailProbe(at: now)
        }
    }

    /// Sends the first lost chunk again, or gives its message up. Returns the bytes written.
    private mutating func resendFirstLost(_ writer: inout PacketWriter, _ batch: inout PacketBatch, interleaved: Bool, header: Int, at now: Instant) -> Int {
        let tsn = inFlight.lost.head
        let chunk = inFlight[tsn]
        if capabilities.forwardTSN, sendQueue.isGivenUp(chunk, at: now) {
            abandon(chunk.slot)
            return 0
        }
        writer.makeRoom((header + Int(chunk.length) + 3) & ~3, &batch)
        let head = sendQueue.header(of: chunk, tsn: tsn)
        inFlight.resend(tsn, marksLargePacket: writer.crosses(search.base, by: inFlight.size(chunk.length), batch), at: now)
        write(chunk, head, interleaved: interleaved, &writer, &batch)
        counters.chunksRetransmitted += 1
        // §7.2.4, on T3: the first outstanding chunk has its whole time again
        if tsn == inFlight.firstOutstanding { timers[.retransmission] = now + roundTrip.timeout }
        return inFlight.size(chunk.length)
    }

    @inline(__always)
    private func write(_ chunk: SentChunk, _ head: DataChunk, interleaved: Bool, _ writer: inout PacketWriter, _ batch: inout PacketBatch) {
        writer.lastDataAt = batch.bytes.writerIndex
        unsafe sendQueue.payloads[Int(chunk.slot)].withUnsafeReadableBytes { bytes in
            let start = Int(chunk.offset)
            let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[start..<start + Int(chunk.length)])
            unsafe head.write(payload: part, interleaved: interleaved, into: &batch.bytes)
        }
    }
}

/// Fills packets up to the same size, one after the other.
struct PacketWriter {
    private(set) var packets = 0
    private(set) var bytes = 0
    var needsChecksum = false
    /// Where the last DATA chunk of the open packet begins.
    var lastDataAt = -1
    private var start = -1
    private let size: Int
    private let ports: UInt32
    private let tag: UInt32
    private let usesZeroChecksum: Bool

    init(_ configuration: Configuration, size: Int, tag: UInt32, usesZeroChecksum: Bool, batch: borrowing PacketBatch) {
        self.size = size
        ports = UInt32(configuration.localPort) << 16 | UInt32(configuration.remotePort)
        self.tag = tag
        self.usesZeroChecksum = usesZeroChecksum
    }

    var isOpen: Bool { start >= 0 }

    mutating func open(_ batch: inout PacketBatch, tag other: UInt32? = nil) {
        start = batch.bytes.writerIndex
        lastDataAt = -1
        needsChecksum = !usesZeroChecksum
        batch.bytes.writeMultipleIntegers(ports, other ?? tag, UInt32(0))
        packets += 1
    }

    /// Opens a packet, or another one, so that `count` bytes fit.
    @inline(__always)
    mutating func makeRoom(_ count: Int, _ batch: inout PacketBatch) {
        if isOpen, batch.bytes.writerIndex - start + count > size { close(&batch) }
        if !isOpen { open(&batch) }
    }

    /// Room in the open packet, or in a new one.
    @inline(__always)
    func freshRoom(_ batch: borrowing PacketBatch) -> Int { isOpen ? size - (batch.bytes.writerIndex - start) : size - CommonHeader.size }

    /// Bytes of all packets, the open one included.
    func written(_ batch: borrowing PacketBatch) -> Int { bytes + (isOpen ? batch.bytes.writerIndex - start : 0) }

    /// Whether the next `count` bytes of the open packet go over `limit`.
    @inline(__always)
    func crosses(_ limit: Int, by count: Int, _ batch: borrowing PacketBatch) -> Bool {
        let used = batch.bytes.writerIndex - start
        return used <= limit && used + count > limit
    }

    func hasRoom(_ count: Int, _ batch: borrowing PacketBatch) -> Bool { isOpen && batch.bytes.writerIndex - start + count <= size }

    /// The I bit of the last DATA chunk.
    mutating func requestSackImmediately(_ batch: inout PacketBatch) {
        guard isOpen, lastDataAt >= 0, let flags = batch.bytes.getInteger(at: lastDataAt + 1, as: UInt8.self) else { return }
        batch.bytes.setInteger(flags | DataChunk.immediate, at: lastDataAt + 1)
    }

    mutating func close(_ batch: inout PacketBatch) {
        guard isOpen else { return }
        if needsChecksum {
            let skipped = start - batch.bytes.readerIndex
            let checksum = CRC32C.checksum(packet: batch.bytes.readableBytesSpan.extracting(droppingFirst: skipped))
            batch.bytes.setInteger(checksum, at: start + 8, endianness: .little)
        }
        bytes += batch.bytes.writerIndex - start
        start = -1
        batch.endPacket()
    }
}
