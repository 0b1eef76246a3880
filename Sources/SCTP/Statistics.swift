/// Why packets, chunks or messages of the peer were dropped, and how often.
package struct DropCounters: Hashable, Sendable {
    package var malformedPacket = 0
    package var badChecksum = 0
    package var badVerificationTag = 0
    package var wrongPort = 0
    package var malformedChunk = 0
    package var unknownChunk = 0
    package var unexpectedChunk = 0
    package var staleCookie = 0
    package var forgedCookie = 0
    package var invalidStream = 0
    package var emptyData = 0
    package var windowExceeded = 0
    package var tooManyGaps = 0
    package var staleSack = 0
    /// FORWARD-TSN over what has arrived or was given up before.
    package var staleForwardTSN = 0
    /// RE-CONFIG requests whose number is not the next one.
    package var staleRequest = 0
    /// RE-CONFIG requests that did not wait for an answer.
    package var floodedRequest = 0
    /// Answers that were not given, since too many were owed at once.
    package var suppressedAnswer = 0
    /// Data channel messages that are none.
    package var malformedMessage = 0
    /// DATA_CHANNEL_OPEN on a stream that is not free or not the peer's to open.
    package var illegalOpen = 0
    /// DATA_CHANNEL_OPEN beyond the number of channels, or of bytes of their names.
    package var tooManyChannels = 0
    /// DATA_CHANNEL_ACK that nobody waits for.
    package var unexpectedAcknowledgement = 0
    /// What no conforming peer does; the association ended with it.
    package var violation = 0

    package init() {}
}

/// What one data channel carried: messages as the application sees them, and their bytes.
package struct ChannelCounters: Hashable, Sendable {
    package var messagesSent = 0
    package var bytesSent = 0
    package var messagesReceived = 0
    package var bytesReceived = 0
}

/// Counters since the association's birth and its values of the moment.
package struct Statistics: Hashable, Sendable {
    package var packetsSent = 0
    package var packetsReceived = 0
    package var bytesSent = 0
    package var bytesReceived = 0
    package var messagesSent = 0
    package var messagesReceived = 0
    package var messagesAbandoned = 0
    package var payloadBytesSent = 0
    package var payloadBytesReceived = 0
    package var chunksRetransmitted = 0
    package var timeouts = 0
    package var tailProbes = 0
    package var recoveries = 0
    /// Recoveries and T3 expiries that were undone: what was taken for lost had only been late.
    package var spuriousRecoveries = 0
    package var spuriousTimeouts = 0
    package var duplicatesReceived = 0
    package var pathProbes = 0
    /// Times that large packets were given up again.
    package var blackHoles = 0
    /// Times that packets took another way.
    package var pathChanges = 0
    package var sacksSent = 0
    package var sacksReceived = 0
    package var drops = DropCounters()

    /// Bytes that a packet may have now (PLPMTU, RFC 8899).
    package var packetSize = 0
    package var congestionWindow = 0
    package var slowStartThreshold = 0
    package var bytesInFlight = 0
    package var chunksInFlight = 0
    package var peerReceiveWindow = 0
    package var receiveWindow = 0
    /// Bytes that wait in reassembly or for the application.
    package var bytesHeld = 0
    package var smoothedRoundTripTime: Duration?
    package var minimumRoundTripTime: Duration?
    package var retransmissionTimeout: Duration = .zero
    package var usesInterleaving = false
    package var usesZeroChecksum = false

    package init() {}
}
