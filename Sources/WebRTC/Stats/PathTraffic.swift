import Wire

/// DTLS datagrams by the way they went. Looked up once for each datagram that arrives and for each batch that leaves.
struct PathTraffic {
    struct Entry {
        var path: NetworkPath
        var packetsSent = 0, packetsReceived = 0
        var bytesSent = 0, bytesReceived = 0
        var lastSent: Instant?, lastReceived: Instant?
    }

    /// A stranger may send from any number of addresses; what is beyond counts in the total only.
    static let maximumPaths = 64

    private(set) var total: Entry
    private var paths: [Entry] = []
    private var latest = 0

    init() {
        let nowhere = TransportAddress(ip: .v4(0), port: 0)
        total = Entry(path: NetworkPath(local: nowhere, remote: nowhere))
    }

    mutating func sent(_ packets: Int, _ bytes: Int, along path: NetworkPath, at now: Instant) {
        guard packets > 0 else { return }
        total.packetsSent += packets
        total.bytesSent += bytes
        guard let index = index(of: path) else { return }
        paths[index].packetsSent += packets
        paths[index].bytesSent += bytes
        paths[index].lastSent = now
    }

    mutating func received(_ bytes: Int, along path: NetworkPath, at now: Instant) {
        total.packetsReceived += 1
        total.bytesReceived += bytes
        guard let index = index(of: path) else { return }
        paths[index].packetsReceived += 1
        paths[index].bytesReceived += bytes
        paths[index].lastReceived = now
    }

    subscript(path: NetworkPath) -> Entry? { paths.first { $0.path == path } }

    private mutating func index(of path: NetworkPath) -> Int? {
        if latest < paths.count, paths[latest].path == path { return latest }
        if let known = paths.firstIndex(where: { $0.path == path }) {
            latest = known
        } else {
            guard paths.count < Self.maximumPaths else { return nil }
            latest = paths.count
            paths.append(Entry(path: path))
        }
        return latest
    }
}
