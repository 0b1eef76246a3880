import Foundation
import NetworkSimulator
import SCTP
import Testing
import Wire

/// What the ends offer.
enum Offer: String, Sendable, CaseIterable, CustomTestStringConvertible {
    case everything, noInterleaving, nothing
    var testDescription: String { rawValue }
    /// Corruption needs a checksum: DTLS would catch it in the field.
    func configuration(needsChecksum: Bool) -> Configuration {
        var result = Configuration()
        result.offerInterleaving = self == .everything
        result.offerZeroChecksum = self != .nothing && !needsChecksum
        return result
    }
}

/// A path, two ends and what they say to each other: all of it follows from the seed.
struct Scenario: Sendable, CustomTestStringConvertible {
    /// One channel and its messages.
    struct Plan: Sendable {
        var parameters: ChannelParameters
        var isOpenedByA: Bool
        /// Sizes of the messages of the end that opens the channel, and of the other.
        var out: [Int]
        var back: [Int]
        /// Its opener closes it as soon as it has sent everything.
        var closesAtOnce: Bool

        var isReliable: Bool { parameters.maxRetransmits == nil && parameters.maxPacketLifeTime == nil }
    }

    /// Something happens to the path meanwhile.
    struct Change: Sendable {
        var after: Duration
        var name: String
        var apply: @Sendable (inout LinkConditions) -> Void
    }

    let seed: UInt64
    private(set) var conditions = LinkConditions()
    private(set) var offer = Offer.everything
    private(set) var receiveWindow = Configuration().receiveWindow
    private(set) var plans: [Plan] = []
    private(set) var changes: [Change] = []
    private(set) var isShutDownByA: Bool
    private var longestOutage: Duration = .zero

    init(seed: UInt64) {
        self.seed = seed
        var generator = SplitMix64(seed: seed &* 0x9E37_79B9 &+ 0x1234)
        func pick<Value>(_ values: Value...) -> Value { values[Int(generator.next() % UInt64(values.count))] }
        isShutDownByA = pick(true, false)

        let roundTrip: Duration = .milliseconds(pick(0, 1, 10, 30, 50, 100, 200, 300))
        conditions.delay = roundTrip / 2
        conditions.loss = pick(0, 0, 0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2)
        conditions.bursts = pick(
            nil, nil, nil, LossBursts(length: .milliseconds(5), spacing: .milliseconds(200)),
            LossBursts(length: .milliseconds(50), spacing: .seconds(1)), LossBursts(length: .milliseconds(200), spacing: .seconds(3), loss: 0.8))
        (conditions.reordering, conditions.reorderingDelay) = pick(
            (0, .zero), (0, .zero), (0.01, .milliseconds(5)), (0.05, roundTrip / 2), (0.3, .milliseconds(2)))
        conditions.jitter = pick(.zero, .zero, .milliseconds(1), roundTrip / 4)
        conditions.duplication = pick(0, 0, 0, 0.01, 0.2)
        conditions.corruption = pick(0, 0, 0, 0, 0.02)
        conditions.rate = pick(nil, nil, 1e6, 5e6, 20e6, 100e6)
        if let rate = conditions.rate {
            // from ten packets to four times what the path holds
            let held = rate / 8 * Double(max(roundTrip, .milliseconds(10)).inNanoseconds) * 1e-9
            conditions.queueLimit = max(12_000, Int(held * pick(0.25, 1, 1, 4)))
        }
        // less IPv6, UDP and DTLS: Ethernet, the least that IPv6 allows, and what no path may fall below
        let (ethernet, least, base) = (1500 - 48 - 37, 1280 - 48 - 37, 1163)
        conditions.maximumDatagram = pick(65_507, 65_507, 8900, ethernet, ethernet, least, base)
        offer = pick(.everything, .everything, .noInterleaving, .nothing)
        receiveWindow = pick(receiveWindow, receiveWindow, 64 << 10, 256 << 10)

        let changeAt: Duration = .milliseconds(pick(150, 300, 700, 2000))
        switch pick(0, 0, 0, 0, 1, 2, 3) {
        case 1:
            changes.append(Change(after: changeAt, name: "carries \(least) bytes") { $0.maximumDatagram = min($0.maximumDatagram, least) })
            longestOutage = .seconds(6)
        case 2:
            let time: Duration = .milliseconds(pick(100, 500, 3000))
            longestOutage = time
            changes.append(Change(after: changeAt, name: "is down for \(time)") { $0.isDown = true })
            changes.append(Change(after: changeAt + time, name: "is up") { $0.isDown = false })
        case 3:
            changes.append(Change(after: changeAt, name: "takes 100 ms longer") { $0.delay += .milliseconds(50) })
            longestOutage = .milliseconds(200)
        default: break
        }
        makePlans(&generator)
    }

    private mutating func makePlans(_ generator: inout SplitMix64) {
        func pick<Value>(_ values: Value...) -> Value { values[Int(generator.next() % UInt64(values.count))] }
        var budget = 180_000
        for index in 0..<pick(1, 1, 2, 3, 5) {
            var parameters = ChannelParameters(label: "\(index)", ordered: pick(true, true, true, false), priority: pick(128, 256, 256, 1024))
            switch pick(0, 0, 0, 0, 0, 1, 2) {
            case 1: parameters.maxRetransmits = pick(0, 1, 5)
            case 2: parameters.maxPacketLifeTime = pick(50, 500)
            default: break
            }
            if pick(true, false, false, false) { parameters.negotiatedID = UInt16(100 + index) }
            func sizes(_ count: Int) -> [Int] {
                var result: [Int] = []
                for _ in 0..<count where budget > 0 {
                    var size = pick(0, 1, 10, 100, 1000, 1128, 1129, 1199, 1200, 1201, 4000, 4000, 16_384, 16_384, 65_535, 65_536, 65_537)
                    if pick(true, false, false, false, false, false, false, false) { size += Int(generator.next() % 3000) }
                    result.append(size)
                    budget -= size
                }
                return result
            }
            let plan = Plan(
                parameters: parameters, isOpenedByA: pick(true, false), out: sizes(pick(1, 5, 20)), back: sizes(pick(0, 1, 5, 20)),
                // the other end of a negotiated channel may not have opened it yet
                closesAtOnce: parameters.negotiatedID == nil && pick(true, false, false))
            plans.append(plan)
        }
    }

    var configuration: Configuration {
        var result = offer.configuration(needsChecksum: conditions.corruption > 0)
        result.receiveWindow = receiveWindow
        return result
    }

    // MARK: What may be asked of the path

    /// Both ways.
    private var loss: Double { 1 - (1 - conditions.loss) * (1 - (conditions.bursts?.averageLoss ?? 0)) * (1 - conditions.corruption) }

    /// With full queues and the latest of packets.
    private var worstRoundTrip: Double {
        let queue = conditions.rate.map { Double(conditions.queueLimit + 20_000) * 8 / $0 } ?? 0
        let late = conditions.reordering > 0 ? conditions.reorderingDelay : .zero
        return 2 * seconds(conditions.delay + conditions.jitter + late) + 2 * queue + (changes.contains { $0.name.hasPrefix("takes") } ? 0.1 : 0)
    }

    private var worstTimeout: Double { max(seconds(Configuration().minimumRetransmissionTimeout), 3 * worstRoundTrip) + 0.02 }

    /// The longest time without progress that chance explains: so many attempts in a row fail less than once in a million, each waits twice as long as the
    /// one before.
    var stallBound: Duration {
        let success = (1 - loss) * (1 - loss)
        let attempts = loss == 0 ? 2 : max(2, Int((log(1e-6) / log(1 - success)).rounded(.up)))
        var total = 0.0
        for attempt in 0..<attempts { total += min(seconds(Configuration().maximumRetransmissionTimeout), worstTimeout * pow(2, Double(attempt))) }
        let burst = conditions.bursts.map { 2 * seconds($0.length) } ?? 0
        // whoever waits when the path comes back may wait as long again
        return .seconds(total + 2 * (burst + seconds(longestOutage)))
    }

    /// How long all of it may take: four times what Reno needs for the bytes at this loss (Padhye et al. 1998), and three stalls.
    var timeBound: Duration {
        let bytes = plans.reduce(0) { $0 + ($1.out + $1.back).reduce(0) { $0 + $1 + 100 } }
        let packets = Double(bytes) / 1100 + 20
        let lost = max(loss, 1e-4)
        let perPacket =
            worstRoundTrip * (4 * lost / 3).squareRoot() + worstTimeout * min(1, 3 * (3 * lost / 4).squareRoot()) * lost * (1 + 32 * lost * lost)
        let slow = packets * perPacket
        let line = conditions.rate.map { Double(bytes) * 1.1 * 8 / $0 } ?? 0
        // a window of 64 KiB is one flight per round trip
        let windows = Double(bytes) / Double(receiveWindow) * worstRoundTrip
        let start = 10 * worstRoundTrip
        return .seconds(4 * (slow + line + windows + start)) + stallBound * 3 + .seconds(2)
    }

    private func seconds(_ duration: Duration) -> Double { Double(duration.inNanoseconds) * 1e-9 }

    var testDescription: String { "\(seed)" }

    /// For whoever looks into a failure.
    var story: String {
        let path = [
            "RTT \(conditions.delay * 2)", "loss \(conditions.loss)", conditions.bursts.map { "bursts of \($0.length) every \($0.spacing)" },
            conditions.reordering > 0 ? "reordering \(conditions.reordering) by \(conditions.reorderingDelay)" : nil, "jitter \(conditions.jitter)",
            "duplication \(conditions.duplication)", "corruption \(conditions.corruption)",
            conditions.rate.map { "\($0 / 1e6) Mbit/s, queue \(conditions.queueLimit)" }, "datagrams of \(conditions.maximumDatagram)",
        ].compactMap { $0 }.joined(separator: ", ")
        let changed = changes.map { "after \($0.after) the path \($0.name)" }.joined(separator: ", ")
        let channels = plans.map {
            "\($0.isOpenedByA ? "A" : "Z")\($0.parameters.ordered ? "" : " unordered")\($0.isReliable ? "" : " unreliable") \($0.out)/\($0.back)"
        }
        return "seed \(seed): \(path); \(changed); offer \(offer), window \(receiveWindow); \(channels.joined(separator: "; "))"
    }
}

extension Scenario {
    /// EVERYFRAME_SEEDS: one seed, or a range as in 0-9999; else the first few hundred.
    static let wanted: [Scenario] = {
        let bounds = (ProcessInfo.processInfo.environment["EVERYFRAME_SEEDS"] ?? "0-399").split(separator: "-").compactMap { UInt64($0) }
        guard let first = bounds.first, let last = bounds.last, first <= last else { return [] }
        return (first...last).map { Scenario(seed: $0) }
    }()
}
