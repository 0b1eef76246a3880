import Testing
import Wire

@testable import WebRTC

@Suite struct PathTrafficTests {
    private func path(_ port: Int) -> NetworkPath {
        NetworkPath(local: TransportAddress(ip: .v4(0x7F00_0001), port: 1), remote: TransportAddress(ip: .v4(0x7F00_0001), port: UInt16(port)))
    }

    @Test("Traffic is counted by its way, and from however many addresses strangers send, no more than so many are remembered")
    func bounded() {
        var traffic = PathTraffic()
        for port in 1...1000 { traffic.received(10, along: path(port), at: Instant(nanoseconds: Int64(port))) }
        traffic.sent(3, 300, along: path(1), at: Instant(nanoseconds: 2000))
        traffic.sent(0, 0, along: path(2), at: Instant(nanoseconds: 3000))
        #expect(traffic.total.packetsReceived == 1000 && traffic.total.bytesReceived == 10_000 && traffic.total.packetsSent == 3)
        #expect((1...1000).count { traffic[path($0)] != nil } == PathTraffic.maximumPaths)
        let first = traffic[path(1)]
        #expect(first?.packetsReceived == 1 && first?.packetsSent == 3 && first?.bytesSent == 300)
        #expect(first?.lastSent == Instant(nanoseconds: 2000) && first?.lastReceived == Instant(nanoseconds: 1))
        #expect(traffic[path(2)]?.lastSent == nil, "nothing went out")
    }
}
