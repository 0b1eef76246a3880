/// A session description (RFC 8866) as WebRTC uses it: order and unknown attributes are kept, typed views stand beside them.
package struct SDP: Hashable, Sendable {
    package var origin: Origin
    package var sessionName: String
    /// The session level's.
    package var attributes: Attributes
    package var media: [MediaSection]

    package init(origin: Origin, sessionName: String = "-", attributes: Attributes = [], media: [MediaSection] = []) {
        self.origin = origin
        self.sessionName = sessionName
        self.attributes = attributes
        self.media = media
    }

    /// `o=`: RFC 8866 §5.2.
    package struct Origin: Hashable, Sendable {
        package var username = "-"
        package var sessionID: UInt64
        package var version: UInt64
        package var address = "IN IP4 127.0.0.1"

        package init(sessionID: UInt64, version: UInt64) {
            // JSEP (RFC 8829 §5.2.1): below 2^63
            self.sessionID = sessionID & .max >> 1
            self.version = version
        }
    }

    /// One `a=` line, without the `a=`.
    package struct Attribute: Hashable, Sendable {
        package var name: String
        /// nil for a property attribute such as `a=ice-lite`.
        package var value: String?

        package init(_ name: String, _ value: String? = nil) {
            self.name = name
            self.value = value
        }
    }

    /// `m=` and what belongs to it.
    package struct MediaSection: Hashable, Sendable {
        /// `application`, `video`, `audio`.
        package var kind: String
        package var port: UInt16
        /// `UDP/DTLS/SCTP`, `UDP/TLS/RTP/SAVPF`, …
        package var transport: String
        /// Payload types, or `webrtc-datachannel`.
        package var formats: [String]
        /// The `c=` line's value.
        package var connection: String?
        package var attributes: Attributes

        package init(
            kind: String, port: UInt16, transport: String, formats: [String], connection: String? = "IN IP4 0.0.0.0", attributes: Attributes = []
        ) {
            self.kind = kind
            self.port = port
            self.transport = transport
            self.formats = formats
            self.connection = connection
            self.attributes = attributes
        }
    }

    /// RFC 8842 §5 and RFC 4145 §4: who opens the DTLS association.
    package enum Setup: String, Hashable, Sendable {
        case active, passive, actpass, holdconn

        /// What an answer says to this offer; active where the choice is ours, since that saves a round trip (RFC 8842 §5.3). nil: nothing fits.
        package var answer: Setup? {
            switch self {
            case .actpass, .passive: .active
            case .active: .passive
            case .holdconn: nil
            }
        }
    }

    package enum Direction: String, Hashable, Sendable {
        case sendrecv, sendonly, recvonly, inactive
    }

    /// RFC 5888: sections that belong together.
    package struct Group: Hashable, Sendable {
        /// `BUNDLE` (RFC 9143), `LS`, …
        package var semantics: String
        package var mids: [String]

        package init(semantics: String, mids: [String]) {
            self.semantics = semantics
            self.mids = mids
        }
    }
}

extension SDP {
    package struct Attributes: Hashable, Sendable, ExpressibleByArrayLiteral {
        package var all: [Attribute]

        package init(_ all: [Attribute] = []) { self.all = all }
        package init(arrayLiteral elements: Attribute...) { all = elements }

        package var isEmpty: Bool { all.isEmpty }

        package func contains(_ name: String) -> Bool { all.contains { $0.name == name } }
        /// The first value under that name.
        package func first(_ name: String) -> String? { all.first { $0.name == name }?.value }
        /// All values under that name, in order.
        package func values(_ name: String) -> [String] { all.lazy.filter { $0.name == name }.compactMap(\.value) }
        package mutating func append(_ name: String, _ value: String? = nil) { all.append(Attribute(name, value)) }
        package mutating func removeAll(_ name: String) { all.removeAll { $0.name == name } }
    }

    package var groups: [Group] {
        attributes.values("group").compactMap { value in
            let words = value.split(separator: " ").map(String.init)
            return words.first.map { Group(semantics: $0, mids: Array(words.dropFirst())) }
        }
    }

    /// The mids of the BUNDLE group that `mid` is in.
    package func bundle(of mid: String) -> [String]? { groups.first { $0.semantics == "BUNDLE" && $0.mids.contains(mid) }?.mids }

    package var isIceLite: Bool { attributes.contains("ice-lite") }
}

extension SDP.MediaSection {
    package var mid: String? { attributes.first("mid") }
    package var isBundleOnly: Bool { attributes.contains("bundle-only") }
    /// Port 0 refuses a section, except where it says bundle-only (RFC 9143 §6).
    package var isRejected: Bool { port == 0 && !isBundleOnly }
    package var direction: SDP.Direction {
        attributes.all.lazy.compactMap { $0.value == nil ? SDP.Direction(rawValue: $0.name) : nil }.first ?? .sendrecv
    }
    /// As RFC 8839 §5.1 writes them, from `candidate:` on.
    package var candidates: [String] { attributes.values("candidate").map { "candidate:" + $0 } }
    package var hasEndOfCandidates: Bool { attributes.contains("end-of-candidates") }
    /// Whether this is where data channels go, in today's form or in the one before RFC 8841.
    package var isDataChannel: Bool { kind == "application" && transport.uppercased().hasSuffix("DTLS/SCTP") }
    /// `DTLS/SCTP 5000` with a=sctpmap: drafts of RFC 8841, still written by old stacks.
    package var isLegacyDataChannel: Bool { isDataChannel && formats.first.map { UInt16($0) != nil } ?? false }
}
