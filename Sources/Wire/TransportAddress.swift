/// An IP address and a UDP or TCP port.
@frozen
public struct TransportAddress: Hashable, Sendable, BitwiseCopyable {
    @frozen
    public enum IP: Hashable, Sendable, BitwiseCopyable {
        /// Host byte order: 127.0.0.1 is 0x7F00_0001.
        case v4(UInt32)
        case v6(high: UInt64, low: UInt64)
    }

    public var ip: IP
    public var port: UInt16

    @inlinable
    public init(ip: IP, port: UInt16) {
        self.ip = ip
        self.port = port
    }

    @inlinable
    public func withPort(_ port: UInt16) -> TransportAddress { TransportAddress(ip: ip, port: port) }
}

extension TransportAddress.IP {
    public var isIPv6: Bool { if case .v6 = self { true } else { false } }

    public var isLoopback: Bool {
        switch self {
        case .v4(let bits): bits >> 24 == 127
        case .v6(let high, let low): high == 0 && low == 1
        }
    }

    /// 169.254/16 or fe80::/10.
    public var isLinkLocal: Bool {
        switch self {
        case .v4(let bits): bits >> 16 == 0xA9FE
        case .v6(let high, _): high >> 54 == 0x3FA
        }
    }

    /// 0.0.0.0 or ::
    public var isUnspecified: Bool {
        switch self {
        case .v4(let bits): bits == 0
        case .v6(let high, let low): high == 0 && low == 0
        }
    }

    /// Parses dotted-quad or RFC 4291 text; nil when it is neither. A zone (`%eth0`) is refused.
    public init?(_ text: some StringProtocol) {
        if text.utf8.contains(UInt8(ascii: ":")) {
            guard let groups = Self.groups(of: text) else { return nil }
            let words = groups.map { UInt64($0) }
            self = .v6(
                high: words[0] << 48 | words[1] << 32 | words[2] << 16 | words[3],
                low: words[4] << 48 | words[5] << 32 | words[6] << 16 | words[7])
        } else {
            guard let bits = Self.dottedQuad(text) else { return nil }
            self = .v4(bits)
        }
    }

    private static func dottedQuad(_ text: some StringProtocol) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bits: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }), let byte = UInt8(part) else { return nil }
            bits = bits << 8 | UInt32(byte)
        }
        return bits
    }

    private static func groups(of text: some StringProtocol) -> [UInt16]? {
        var head: [UInt16] = []
        var tail: [UInt16] = []
        var sawGap = false
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard (3...9).contains(parts.count) else { return nil }
        var index = parts.startIndex
        while index < parts.endIndex {
            let part = parts[index]
            let isLast = index == parts.endIndex - 1
            if part.isEmpty {
                if index == parts.startIndex {
                    // a leading colon must be doubled
                    guard parts[index + 1].isEmpty else { return nil }
                } else if isLast {
                    guard sawGap, parts[index - 1].isEmpty else { return nil }
                } else {
                    guard !sawGap else { return nil }
                    sawGap = true
                }
            } else if isLast, part.utf8.contains(UInt8(ascii: ".")) {
                guard let bits = dottedQuad(part) else { return nil }
                let words = [UInt16(truncatingIfNeeded: bits >> 16), UInt16(truncatingIfNeeded: bits)]
                if sawGap { tail += words } else { head += words }
            } else {
                guard part.utf8.count <= 4, let word = UInt16(part, radix: 16), part.utf8.first != UInt8(ascii: "+") else { return nil }
                if sawGap { tail.append(word) } else { head.append(word) }
            }
            index += 1
        }
        let count = head.count + tail.count
        if sawGap { guard count <= 7 else { return nil } } else { guard count == 8 else { return nil } }
        return head + Array(repeating: 0, count: 8 - count) + tail
    }
}

extension TransportAddress.IP: CustomStringConvertible {
    /// Dotted quad, or RFC 5952 text.
    public var description: String {
        switch self {
        case .v4(let bits):
            return "\(bits >> 24).\(bits >> 16 & 0xFF).\(bits >> 8 & 0xFF).\(bits & 0xFF)"
        case .v6(let high, let low):
            let words = (0..<8).map { index in
                UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> (48 - 16 * UInt64(index % 4)))
            }
            var best = 0..<0
            var start = 0
            while start < 8 {
                var end = start
                while end < 8, words[end] == 0 { end += 1 }
                if end - start > best.count, end - start > 1 { best = start..<end }
                start = max(end, start + 1)
            }
            func hex(_ slice: ArraySlice<UInt16>) -> String { slice.map { String($0, radix: 16) }.joined(separator: ":") }
            if best.isEmpty { return hex(words[...]) }
            return hex(words[..<best.lowerBound]) + "::" + hex(words[best.upperBound...])
        }
    }
}

extension TransportAddress: CustomStringConvertible {
    public var description: String { ip.isIPv6 ? "[\(ip)]:\(port)" : "\(ip):\(port)" }
}
