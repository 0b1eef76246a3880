/// What the bench says on the command line, as `key=value`.
struct Arguments: Sendable {
    var isSender = false
    var messageSize = 16_384
    var total = 1 << 26
    var highWaterMark = 4 << 20
    var lowWaterMark = 1 << 20
    var pings = 1000
    var pingSize = 1024
    var warmUp = 50
    /// The most that path MTU discovery looks for; nil for the library's own.
    var datagramSize: Int?
    /// So many pairs of idle connections in place of the bench.
    var idleSessions = 0
    /// Pings on a channel of their own while the transfer runs, as a share of the bulk channel's: 512 is high (RFC 8831 §6.4).
    var control = 0
    /// Seconds until the process gives up.
    var deadline = 110.0

    init(_ words: some Sequence<String>) {
        for word in words {
            let parts = word.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = String(parts[1])
            func set(_ field: WritableKeyPath<Arguments, Int>) { if let number = Int(value) { self[keyPath: field] = number } }
            switch parts[0] {
            case "role": isSender = value == "send"
            case "msg": set(\.messageSize)
            case "total": set(\.total)
            case "hwm": set(\.highWaterMark)
            case "lwm": set(\.lowWaterMark)
            case "pings": set(\.pings)
            case "psize": set(\.pingSize)
            case "warm": set(\.warmUp)
            case "idle": set(\.idleSessions)
            case "control": set(\.control)
            case "datagram": datagramSize = Int(value)
            case "deadline": if let number = Double(value) { deadline = number }
            default: break
            }
        }
    }
}
