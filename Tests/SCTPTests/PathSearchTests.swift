import Testing
import Wire

@testable import SCTP

@Suite("RFC 8899: which size is probed next")
struct PathSearchTests {
    /// Plays a search over a path that carries `limit`. Answers with the probes it took.
    func play(_ search: inout PathSearch, limit: Int, unlucky: Set<Int> = []) -> [Int] {
        var probes: [Int] = []
        var heard = 0
        var bad = unlucky
        while search.begin(nonce: UInt64(probes.count), packetsHeard: heard), probes.count < 100 {
            guard let probe = search.probe else { break }
            // an unlucky size is lost in its first round
            if probe.size <= limit, !bad.contains(probe.size) {
                probes.append(probe.size)
                let isOurs = search.acknowledged(nonce: probe.nonce)
                #expect(isOurs)
                continue
            }
            bad.remove(probe.size)
            for round in 1...PathSearch.maximumProbes {
                probes.append(probe.size)
                heard += 1
                let verdict = search.expired(packetsHeard: heard)
                #expect(verdict == (round == PathSearch.maximumProbes ? .failed : .tryAgain))
            }
        }
        return probes
    }

    @Test(
        "RFC 8899 §5.3: whatever the path carries, the largest candidate that fits is found, with few probes",
        arguments: Array(stride(from: 1160, through: 16_400, by: 60)))
    func everyLimit(limit: Int) {
        var search = PathSearch(base: 1160, maximum: 16_336)
        let probes = play(&search, limit: limit)
        #expect(probes.first == 16_336)
        #expect(probes.count <= 24)
        #expect(search.current <= limit)
        let expected = [1160, 1192, 1212, 1312, 1332, 1352, 1372, 1404, 1412, 1424, 1432, 1960, 1980, 4008, 4028, 8912, 8932, 16_336].last { $0 <= limit }
        #expect(search.current == expected)
    }

    @Test("a size that failed by bad luck is found out", arguments: [[16_336], [1412], [16_336, 1412], [16_336, 8932, 1980]])
    func badLuck(sizes: [Int]) {
        var search = PathSearch(base: 1160, maximum: 16_336)
        _ = play(&search, limit: 16_400, unlucky: Set(sizes))
        #expect(search.current == 16_336)
    }

    @Test("RFC 8899 §5.1.2: without room above the base nothing is probed", arguments: [1160, 1161, 1000])
    func off(maximum: Int) {
        var search = PathSearch(base: 1160, maximum: maximum)
        expect(search.begin(nonce: 1, packetsHeard: 0), false)
        #expect(search.current == 1160)
    }

    @Test("a probe that is lost while nothing at all is heard is no sign of its size")
    func silence() {
        var search = PathSearch(base: 1160, maximum: 16_336)
        expect(search.begin(nonce: 1, packetsHeard: 7), true)
        for _ in 0..<50 { expect(search.expired(packetsHeard: 7), .tryAgain) }
        #expect(search.probe?.size == 16_336)
        #expect(search.probe?.silences == 4)
        expect(search.expired(packetsHeard: 8), .tryAgain)
        expect(search.expired(packetsHeard: 9), .tryAgain)
        expect(search.expired(packetsHeard: 10), .failed)
    }

    @Test("what the own host refuses is not tried again, and costs no time")
    func refused() {
        var search = PathSearch(base: 1160, maximum: 16_336)
        var probes = 0
        while search.begin(nonce: 1, packetsHeard: 0), let probe = search.probe, probes < 20 {
            probes += 1
            if probe.size > 1432 { expect(search.refused(probe.size), false) } else { expect(search.acknowledged(nonce: 1), true) }
        }
        #expect(search.current == 1432)
        #expect(probes <= 6)
        // the host moved to a smaller network
        expect(search.refused(1432), true)
        #expect(search.current == 1160)
        // nothing to be done about that
        expect(search.refused(800), false)
        #expect(search.current == 1160)
    }

    @Test("RFC 8899 §4.3: after a black hole the old size is tried first")
    func fallBack() {
        var search = PathSearch(base: 1160, maximum: 16_336)
        _ = play(&search, limit: 9000)
        #expect(search.current == 8932)
        search.fallBack()
        #expect(search.current == 1160)
        expect(search.begin(nonce: 99, packetsHeard: 0), true)
        #expect(search.probe?.size == 8932)
        expect(search.acknowledged(nonce: 99), true)
        let above = play(&search, limit: 1300)
        #expect(above.allSatisfy { $0 >= 8932 })
        search.fallBack()
        let probes = play(&search, limit: 1300)
        #expect(probes.first == 8932)
        #expect(search.current == 1212)
    }

    @Test("RFC 8899 §4.2: only the nonce of the probe counts, and once")
    func nonce() {
        var search = PathSearch(base: 1160, maximum: 16_336)
        expect(search.acknowledged(nonce: 0), false)
        expect(search.begin(nonce: 5, packetsHeard: 0), true)
        expect(search.acknowledged(nonce: 4), false)
        #expect(search.current == 1160)
        expect(search.acknowledged(nonce: 5), true)
        expect(search.acknowledged(nonce: 5), false)
        #expect(search.current == 16_336)
    }

    /// `#expect` takes no mutating calls.
    func expect<Value: Equatable>(_ value: Value, _ expected: Value, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(value == expected, sourceLocation: sourceLocation)
    }
}
