import NIOCore
import NetworkSimulator
package import SCTP
import Wire

/// A path with one bottleneck.
package struct LabPath: Sendable, Hashable, CustomStringConvertible {
    /// Round-trip time without a queue, milliseconds.
    package var roundTripTime: Double
    /// Mbit/s, counted in SCTP packets.
    package var rate: Double
    /// Random loss each way, per cent.
    package var loss: Double
    /// The bottleneck's queue in bandwidth-delay products.
    package var queue: Double
    /// Extra delay each way, uniform up to so many milliseconds; it reorders.
    package var jitter: Double

    package init(roundTripTime: Double = 50, rate: Double = 50, loss: Double = 0, queue: Double = 1, jitter: Double = 0) {
        self.roundTripTime = roundTripTime
        self.rate = rate
        self.loss = loss
        self.queue = queue
        self.jitter = jitter
    }

    package var description: String {
        "\(roundTripTime) ms, \(rate) Mbit/s" + (loss > 0 ? ", loss \(loss) %" : "") + (queue != 1 ? ", queue \(queue) BDP" : "")
            + (jitter > 0 ? ", jitter \(jitter) ms" : "")
    }

    fileprivate var forward: LinkConditions {
        var result = back
        result.queueLimit = max(4 * 1500, Int(rate * 1e6 / 8 * roundTripTime / 1000 * queue))
        return result
    }

    fileprivate var back: LinkConditions {
        var result = LinkConditions()
        result.delay = .nanoseconds(Int64(roundTripTime / 2 * 1e6))
        result.jitter = .nanoseconds(Int64(jitter * 1e6))
        result.loss = loss / 100
        result.rate = rate * 1e6
        return result
    }
}

/// What flows over one bottleneck reached.
package struct LabReport: Sendable {
    /// Mbit/s of user data each, from five seconds after the last began; from the beginning where there is one.
    package var goodput: [Double] = []
    /// Milliseconds that the first flow's smoothed round-trip time lies above the path's, at even intervals, sorted.
    package var queueDelays: [Double] = []
    package var retransmitted: [Int] = []
    package var timeouts: [Int] = []
    package var undone: [Int] = []
    package var queueDrops = 0
    package var path: LabPath

    package var total: Double { goodput.reduce(0, +) }
    /// User data by the path's rate.
    package var utilization: Double { total / path.rate }

    /// Jain's fairness index: 1 where all get the same, 1/n where one gets all.
    package var fairness: Double {
        let squares = goodput.reduce(0) { $0 + $1 * $1 }
        return squares > 0 ? total * total / squares / Double(goodput.count) : 0
    }

    package func queueDelay(_ share: Double) -> Double {
        queueDelays.isEmpty ? 0 : queueDelays[min(queueDelays.count - 1, Int(Double(queueDelays.count) * share))]
    }
}

/// Bulk transfers that share one bottleneck, in virtual time: the whole association runs, the network and the clock are simulated. The same seed gives
/// the same run.
package struct CongestionLab: ~Copyable {
    private let path: LabPath
    private var flows: [Flow]
    private var toReceivers: Link
    private var toSenders: Link
    private var now = Instant.zero

    /// Each flow begins `interval` seconds after the one before it.
    package init(_ controls: [CongestionControl], path: LabPath, interval: Double = 5, seed: UInt64) {
        self.path = path
        toReceivers = Link(path.forward, seed: seed)
        toSenders = Link(path.back, seed: seed &+ 1)
        flows = controls.enumerated().map { index, control in
            Flow(control, port: Self.firstPort + UInt16(index), seed: seed &+ UInt64(100 * index), startsAt: .zero + .seconds(Double(index) * interval))
        }
    }

    private static let firstPort: UInt16 = 5000

    /// Runs for so many seconds of virtual time.
    package mutating func run(seconds: Double) -> LabReport {
        let end = Instant.zero + .seconds(seconds)
        let counted = flows.count > 1 ? (flows.last?.startsAt ?? .zero) + .seconds(5) : .zero
        var before = flows.map(\.received)
        var report = LabReport(path: path)
        var nextSample = Instant.zero + .milliseconds(10)
        var isCounting = false
        while now < end {
            turn()
            if !isCounting, now >= counted {
                isCounting = true
                before = flows.map(\.received)
            }
            if now >= nextSample {
                nextSample += .milliseconds(10)
                if let time = flows.first?.sender.statistics.smoothedRoundTripTime { report.queueDelays.append(time.inMilliseconds - path.roundTripTime) }
            }
            var next = earliest(toReceivers.deadline, toSenders.deadline)
            for flow in flows { next = earliest(next, flow.deadline(at: now)) }
            now = max(now, min(next ?? end, end))
        }
        report.goodput = flows.indices.map { Double(flows[$0].received - before[$0]) * 8 / 1e6 / (end - counted).inMilliseconds * 1000 }
        report.queueDelays.sort()
        for flow in flows {
            let statistics = flow.sender.statistics
            report.retransmitted.append(statistics.chunksRetransmitted)
            report.timeouts.append(statistics.timeouts)
            report.undone.append(statistics.spuriousRecoveries + statistics.spuriousTimeouts)
        }
        report.queueDrops = toReceivers.counters.queueDropped
        return report
    }

    /// All that is due now.
    private mutating func turn() {
        var isDone = false
        while !isDone {
            isDone = true
            while let packet = toReceivers.receive(at: now) { flow(of: packet)?.takeData(packet, at: now) }
            while let packet = toSenders.receive(at: now) { flow(of: packet)?.takeAcknowledgement(packet, at: now) }
            for flow in flows where flow.turn(at: now, toReceivers: &toReceivers, toSenders: &toSenders) { isDone = false }
        }
    }

    /// Ports tell the flows apart.
    private func flow(of packet: ByteBuffer) -> Flow? {
        let port = packet.getInteger(at: packet.readerIndex, as: UInt16.self) ?? 0
        return port >= Self.firstPort && Int(port - Self.firstPort) < flows.count ? flows[Int(port - Self.firstPort)] : nil
    }
}

/// One association that always has something to send.
private final class Flow {
    private static let message = ByteBuffer(repeating: 7, count: 65_536)

    var sender: DataChannelEngine
    var receiver: DataChannelEngine
    private(set) var received = 0
    let startsAt: Instant
    private var channel: ChannelHandle?
    private var isTouched = false
    private var data = PacketBatch()
    private var acknowledgements = PacketBatch()

    init(_ control: CongestionControl, port: UInt16, seed: UInt64, startsAt: Instant) {
        self.startsAt = startsAt
        var configuration = Configuration()
        configuration.congestionControl = control
        configuration.localPort = port
        configuration.remotePort = port
        // what most paths carry, so that rates mean the same for all
        configuration.maximumPacketSize = configuration.basePacketSize
        sender = DataChannelEngine(configuration: configuration, generator: SplitMix64(seed: seed &+ 2), cookieAuthenticator: { _ in [1, 2, 3, 4] })
        receiver = DataChannelEngine(configuration: configuration, generator: SplitMix64(seed: seed &+ 3), cookieAuthenticator: { _ in [5, 6, 7, 8] })
        sender.setRole(isDTLSClient: true)
        receiver.setRole(isDTLSClient: false)
    }

    func takeData(_ packet: ByteBuffer, at now: Instant) {
        receiver.handle(packet, at: now)
        isTouched = true
    }

    func takeAcknowledgement(_ packet: ByteBuffer, at now: Instant) {
        sender.handle(packet, at: now)
        isTouched = true
    }

    func deadline(at now: Instant) -> Instant? { channel == nil ? startsAt : earliest(sender.deadline, receiver.deadline) }

    /// True when something was done.
    func turn(at now: Instant, toReceivers: inout Link, toSenders: inout Link) -> Bool {
        if channel == nil, now >= startsAt {
            channel = try? sender.open(ChannelParameters(label: "bulk"), at: now)
            sender.connect(at: now)
            receiver.connect(at: now)
            isTouched = true
        }
        guard let channel else { return false }
        if let due = sender.deadline, due <= now {
            sender.handleTimeout(at: now)
            isTouched = true
        }
        if let due = receiver.deadline, due <= now {
            receiver.handleTimeout(at: now)
            isTouched = true
        }
        guard isTouched else { return false }
        isTouched = false
        while sender.bufferedAmount(of: channel) < 1 << 20 {
            guard (try? sender.send(Self.message, isText: false, on: channel, at: now)) != nil else { break }
        }
        while sender.poll(at: now, into: &data) != nil {}
        while let event = receiver.poll(at: now, into: &acknowledgements) {
            guard case .message(let handle, let bytes, _) = event else { continue }
            received += bytes.readableBytes
            receiver.consume(bytes.readableBytes, on: handle, at: now)
        }
        Self.pass(&data, to: &toReceivers, at: now)
        Self.pass(&acknowledgements, to: &toSenders, at: now)
        return true
    }

    private static func pass(_ batch: inout PacketBatch, to link: inout Link, at now: Instant) {
        for index in 0..<batch.count { if let packet = batch.packet(index) { link.send(packet, at: now) } }
        batch.removeAll()
    }
}
