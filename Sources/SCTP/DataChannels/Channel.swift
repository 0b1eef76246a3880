import NIOCore

/// What the engine knows of one data channel.
struct Channel {
    let handle: ChannelHandle
    var parameters: ChannelParameters
    /// nil until the DTLS roles decide the parity.
    var id: UInt16?
    let isOurs: Bool
    var isOpen = false
    /// `close` was called or the peer reset its stream.
    var isClosing = false
    /// The peer's ACK has not come.
    var awaitsAck = false
    var incomingIsReset = false
    var outgoingIsReset = false
    var wantsAcknowledgement = false
    var lowThreshold = 0
    var counters = ChannelCounters()
    /// Sent before the id was known, with payload protocol identifiers.
    var early: [(ByteBuffer, UInt32)] = []
    /// Lengths of the messages that the application has not taken, and how much of the first it took.
    private var untaken = Queue<(bytes: Int, charge: Int)>()
    private var taken = 0
    /// What this channel takes of the receive window.
    private(set) var heldCharge = 0

    init(handle: ChannelHandle, parameters: ChannelParameters, id: UInt16? = nil, isOurs: Bool) {
        self.handle = handle
        self.parameters = parameters
        self.id = id
        self.isOurs = isOurs
    }

    mutating func hand(out bytes: Int, charge: Int) {
        counters.messagesReceived += 1
        counters.bytesReceived += bytes
        untaken.append((bytes, charge))
        heldCharge += charge
    }

    /// Returns what the receive window gains.
    mutating func consume(_ bytes: Int) -> Int {
        taken += bytes
        var gain = 0
        while let first = untaken.first, first.bytes <= taken {
            _ = untaken.popFirst()
            taken -= first.bytes
            gain += first.charge
        }
        if untaken.isEmpty { taken = 0 }
        heldCharge -= gain
        return gain
    }
}
