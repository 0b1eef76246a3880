package import NIOCore

/// A parser or engine that gets bytes from strangers. A target returns whatever the bytes are; a trap is the finding.
package struct FuzzTarget: Sendable {
    /// Names the folders of its corpus and of what crashed it.
    package let name: String
    package let run: @Sendable (_ input: ByteBuffer) -> Void

    package static let all: [FuzzTarget] = [
        stun, sdp, iceAgents, candidate, turnClient, turnStream, frames, results, json, sctpPackets, sctpEngines, sctpDelivery, dtls, v1Parsers, v1Server,
        v1Client, v1Pair,
    ]

    package static func named(_ name: String) -> FuzzTarget? { all.first { $0.name == name } }
}
