/// The words of the probe channel (docs/protocol.md, section 9): a third data channel of a connection, by which `everyframe doctor` measures it.
///
/// The client asks in text; its binary messages are thrown away and counted. What the server sends is bounded per connection, and only whoever was
/// let in over HTTP has a connection.
package enum ProbeMessage: Hashable, Sendable {
    /// Client: answered with the same number.
    case ping(Int)
    case pong(Int)
    /// Client: how many bytes of binary messages have arrived?
    case count
    case received(Int)
    /// Client: so many bytes are wanted, in binary messages.
    case send(Int)
    /// Server, behind the last of them: so many it were; fewer than wanted where the bound was met.
    case sent(Int)

    package static let label = "everyframe.probe"
    package static let subprotocol = "everyframe.probe.v1"
    /// Bytes that a server sends on one connection, at most.
    package static let maximumBytes = 32 << 20
    /// Of one binary message.
    package static let messageBytes = 64 << 10

    package init?(_ text: String) {
        let words = text.split(separator: " ", maxSplits: 2)
        guard text.utf8.count <= 64, let name = words.first else { return nil }
        if name == "count", words.count == 1 {
            self = .count
            return
        }
        guard words.count == 2, let number = Int(words[1]), number >= 0 else { return nil }
        switch name {
        case "ping": self = .ping(number)
        case "pong": self = .pong(number)
        case "received": self = .received(number)
        case "send": self = .send(number)
        case "sent": self = .sent(number)
        default: return nil
        }
    }

    package var text: String {
        switch self {
        case .ping(let number): "ping \(number)"
        case .pong(let number): "pong \(number)"
        case .count: "count"
        case .received(let bytes): "received \(bytes)"
        case .send(let bytes): "send \(bytes)"
        case .sent(let bytes): "sent \(bytes)"
        }
    }
}
