import NIOCore
import Wire

/// What INIT ACK hands to the peer so that nothing need be kept until COOKIE ECHO brings it back (RFC 9260 §5.1.3).
/// The layout is ours alone; an authentication code follows it.
struct StateCookie: Equatable {
    /// Bytes in front of the authentication code.
    static let size = 48
    private static let magic: UInt32 = 0x4556_4631

    var createdAt: Instant
    var localTag: UInt32
    var peerTag: UInt32
    var localInitialTSN: TSN
    var peerInitialTSN: TSN
    var peerWindow: UInt32
    var peerOutboundStreams: UInt16
    var peerInboundStreams: UInt16
    /// Tags of the association that existed when the cookie was made, 0 without one (§5.2.2).
    var tieLocal: UInt32
    var tiePeer: UInt32
    var usesInterleaving: Bool
    var usesForwardTSN: Bool
    var usesReconfiguration: Bool
    var peerAcceptsZeroChecksum: Bool
    var peerKnowsPadding: Bool

    /// The cookie's bytes without the authentication code.
    var encoded: ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(Self.magic)
        buffer.writeInteger(createdAt.nanoseconds)
        for word in [localTag, peerTag, localInitialTSN.rawValue, peerInitialTSN.rawValue, peerWindow] { buffer.writeInteger(word) }
        buffer.writeInteger(peerOutboundStreams)
        buffer.writeInteger(peerInboundStreams)
        buffer.writeInteger(tieLocal)
        buffer.writeInteger(tiePeer)
        for flag in [usesInterleaving, usesForwardTSN, usesReconfiguration] { buffer.writeInteger(UInt8(flag ? 1 : 0)) }
        buffer.writeInteger(UInt8((peerAcceptsZeroChecksum ? 1 : 0) | (peerKnowsPadding ? 2 : 0)))
        return buffer
    }

    /// Only called once the authentication code was found right.
    init(parsing value: RawSpan) throws(ParseError) {
        guard value.byteCount == Self.size else { throw .badLength }
        var reader = ByteReader(value)
        guard try reader.take(UInt32.self) == Self.magic else { throw .badValue }
        createdAt = Instant(nanoseconds: try reader.take())
        localTag = try reader.take()
        peerTag = try reader.take()
        localInitialTSN = TSN(rawValue: try reader.take())
        peerInitialTSN = TSN(rawValue: try reader.take())
        peerWindow = try reader.take()
        peerOutboundStreams = try reader.take()
        peerInboundStreams = try reader.take()
        tieLocal = try reader.take()
        tiePeer = try reader.take()
        usesInterleaving = try reader.take(UInt8.self) == 1
        usesForwardTSN = try reader.take(UInt8.self) == 1
        usesReconfiguration = try reader.take(UInt8.self) == 1
        let peerFlags: UInt8 = try reader.take()
        peerAcceptsZeroChecksum = peerFlags & 1 != 0
        peerKnowsPadding = peerFlags & 2 != 0
    }

    init(
        createdAt: Instant, localTag: UInt32, localInitialTSN: TSN, peer: InitChunk, tieLocal: UInt32, tiePeer: UInt32, capabilities: Capabilities
    ) {
        self.createdAt = createdAt
        self.localTag = localTag
        self.localInitialTSN = localInitialTSN
        peerTag = peer.initiateTag
        peerInitialTSN = peer.initialTSN
        peerWindow = peer.receiverWindow
        peerOutboundStreams = peer.outboundStreams
        peerInboundStreams = peer.inboundStreams
        self.tieLocal = tieLocal
        self.tiePeer = tiePeer
        usesInterleaving = capabilities.interleaving
        usesForwardTSN = capabilities.forwardTSN
        usesReconfiguration = capabilities.reconfiguration
        peerAcceptsZeroChecksum = capabilities.zeroChecksum
        peerKnowsPadding = capabilities.padding
    }
}

/// What both sides offered.
struct Capabilities: Equatable {
    var interleaving = false
    var forwardTSN = false
    var reconfiguration = false
    /// The peer takes packets with a checksum of 0.
    var zeroChecksum = false
    /// The peer knows PAD (RFC 4820), and says so.
    var padding = false

    init() {}

    init(peer: InitChunk, configuration: Configuration) {
        // RFC 8260 §2.2.1: I-FORWARD-TSN comes with I-DATA where partial reliability is in use at all
        interleaving = configuration.offerInterleaving && peer.supportedExtensions.contains(ChunkType.interleavedData)
        let forward = peer.supportsForwardTSN || peer.supportedExtensions.contains(ChunkType.forwardTSN)
        let interleavedForward = peer.supportedExtensions.contains(ChunkType.interleavedForwardTSN)
        forwardTSN = configuration.offerPartialReliability && (interleaving ? interleavedForward : forward)
        reconfiguration = peer.supportedExtensions.contains(ChunkType.reconfiguration)
        zeroChecksum = configuration.offerZeroChecksum && peer.zeroChecksumMethod == 1
        padding = peer.supportedExtensions.contains(ChunkType.padding)
    }

    init(_ cookie: StateCookie) {
        interleaving = cookie.usesInterleaving
        forwardTSN = cookie.usesForwardTSN
        reconfiguration = cookie.usesReconfiguration
        zeroChecksum = cookie.peerAcceptsZeroChecksum
        padding = cookie.peerKnowsPadding
    }
}
