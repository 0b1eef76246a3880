import Wire

extension IceCandidate {
    /// Reads `candidate:…` (RFC 8839 §5.1), with or without `a=` and with or without `candidate:`. Extensions are skipped, but for `tcptype` and `ufrag`.
    public init(sdp: String) throws(IceCandidateError) {
        guard sdp.utf8.count <= Self.maximumLine else { throw .tooLong }
        var line = Substring(sdp)
        if line.hasPrefix("a=") { line = line.dropFirst(2) }
        if line.hasPrefix("candidate:") { line = line.dropFirst(10) }
        let fields = line.split(whereSeparator: \.isWhitespace)
        guard fields.count >= 8 else { throw .missingField }

        let foundation = String(fields[0])
        guard (1...32).contains(foundation.utf8.count), foundation.utf8.allSatisfy(Self.isIceCharacter) else { throw .badFoundation }
        guard let component = Int(fields[1]), (1...256).contains(component) else { throw .badComponent }
        guard let transport = Transport(rawValue: fields[2].lowercased()) else { throw .badTransport }
        guard let priority = UInt32(fields[3]) else { throw .badPriority }
        guard let port = UInt16(fields[5]) else { throw .badPort }
        let address: Address
        if let ip = TransportAddress.IP(fields[4]) {
            address = .ip(TransportAddress(ip: ip, port: port))
        } else {
            guard Self.isHostname(fields[4]) else { throw .badAddress }
            address = .hostname(fields[4].lowercased(), port: port)
        }
        guard fields[6] == "typ", let kind = Kind(rawValue: fields[7].lowercased()) else { throw .badKind }
        self.init(foundation: foundation, component: component, transport: transport, priority: priority, address: address, kind: kind)

        // pairs of name and value; a name without value at the end is tolerated
        var relatedIP: TransportAddress.IP?
        var relatedPort: UInt16?
        var index = 8
        while index + 1 < fields.count {
            let value = fields[index + 1]
            switch fields[index] {
            case "raddr": relatedIP = TransportAddress.IP(value)
            case "rport": relatedPort = UInt16(value)
            case "tcptype": tcpType = TCPType(rawValue: value.lowercased())
            case "ufrag": usernameFragment = String(value)
            default: break
            }
            index += 2
        }
        if let relatedIP { relatedAddress = TransportAddress(ip: relatedIP, port: relatedPort ?? 0) }
    }

    /// The attribute as JSEP and browsers exchange it: `candidate:…`, without `a=`.
    public var sdp: String {
        let (host, port) =
            switch address {
            case .ip(let address): (address.ip.description, address.port)
            case .hostname(let name, let port): (name, port)
            }
        var line = "candidate:\(foundation) \(component) \(transport.rawValue) \(priority) \(host) \(port) typ \(kind.rawValue)"
        if let relatedAddress {
            line += " raddr \(relatedAddress.ip) rport \(relatedAddress.port)"
        } else if kind != .host {
            // RFC 8839 §5.1: both must be there for reflexive and relayed candidates; zeros hide them
            let isIPv6 = transportAddress?.ip.isIPv6 ?? false
            line += isIPv6 ? " raddr :: rport 0" : " raddr 0.0.0.0 rport 0"
        }
        if let tcpType { line += " tcptype \(tcpType.rawValue)" }
        if let usernameFragment { line += " ufrag \(usernameFragment)" }
        return line
    }

    private static let maximumLine = 1024

    private static func isIceCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "_"): true
        default: false
        }
    }

    private static func isHostname(_ text: Substring) -> Bool {
        guard (1...253).contains(text.utf8.count), text.utf8.first != UInt8(ascii: "."), !text.contains("..") else { return false }
        // all digits and dots would be a broken IPv4 address
        guard text.utf8.contains(where: { !(48...57).contains($0) && $0 != 46 }) else { return false }
        return text.utf8.allSatisfy { isIceCharacter($0) && $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "/") || $0 == UInt8(ascii: ".") }
    }
}
