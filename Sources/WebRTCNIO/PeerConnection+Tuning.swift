import WebRTC

extension PeerConnection.Configuration {
    /// The SCTP controllers that there are (RFC 9260 §7.2 leaves others open).
    public enum CongestionControl: String, Hashable, Sendable, Codable, CaseIterable {
        /// A model of the path's rate and round trip, after BBRv3.
        case bbr
        /// RFC 9438 with HyStart++ (RFC 9406).
        case cubic
        /// RFC 9260 §7.2 as it stands.
        case newReno = "newreno"
    }

    /// How SCTP reacts (RFC 9260 §16). The defaults suit video and answers over the Internet.
    public struct Sctp: Hashable, Sendable {
        /// Whose rule sets how fast data goes; `bbr`.
        public var congestionControl = CongestionControl(rawValue: SctpSettings().congestionControl) ?? .bbr
        /// RTO.Initial: before a round trip was measured. 500 ms; 10 ms to 60 s.
        public var initialRetransmissionTimeout = SctpSettings().initialRetransmissionTimeout
        /// RTO.Min. 100 ms; 1 ms to 60 s.
        public var minimumRetransmissionTimeout = SctpSettings().minimumRetransmissionTimeout
        /// RTO.Max. 5 s; 10 ms to 120 s.
        public var maximumRetransmissionTimeout = SctpSettings().maximumRetransmissionTimeout
        /// How long an acknowledgement waits for company. 20 ms; 0 to 500 ms (RFC 9260 §6.2).
        public var sackDelay = SctpSettings().sackDelay
        /// Packets of the least size that are written in one go, before timers and arriving packets get their turn. 256; 1 to 4096.
        public var packetsPerBurst = SctpSettings().packetsPerBurst

        public init() {}
    }

    /// How ICE asks, and when it gives up (RFC 8445 §14, RFC 7675 §5).
    public struct Ice: Hashable, Sendable {
        /// Ta: between new checks, beyond the first few. 50 ms; 5 ms to 2 s.
        public var pacing: Duration = .milliseconds(50)
        /// RTO of a check's first retransmission; doubles. 500 ms; 10 ms to 10 s.
        public var retransmissionTimeout: Duration = .milliseconds(500)
        /// Rc: how often a check is sent. 7; 1 to 20.
        public var transmissions = 7
        /// No pair works for this long: failed. 15 s; 1 s to 10 min.
        public var failureTimeout: Duration = .seconds(15)
        /// Between consent requests, times 0.8 to 1.2. 5 s; 1 s to 15 s.
        public var consentInterval: Duration = .seconds(5)
        /// Without consent for this long nothing is sent any more, and the connection fails. 15 s; 2 s to the 30 s of RFC 7675 §5.1, and longer than
        /// `consentInterval`.
        public var consentTimeout: Duration = .seconds(15)
        /// Unanswered for this long: disconnected. 3 s; 100 ms to 10 min.
        public var disconnectedTimeout: Duration = .seconds(3)

        public init() {}
    }

    /// Finds values out of their range, and ICE servers that cannot be used.
    /// - Throws: ``PeerConnectionError`` with `invalidArgument`, naming the value and its range.
    public func validate() throws(PeerConnectionError) {
        for setting in Setting.allCases { try setting.check(self) }
        try checkIceServers()
        guard sctp.minimumRetransmissionTimeout <= sctp.maximumRetransmissionTimeout else {
            throw PeerConnectionError(.invalidArgument, "rto-min \(sctp.minimumRetransmissionTimeout) is above rto-max \(sctp.maximumRetransmissionTimeout)")
        }
        guard ice.consentInterval < ice.consentTimeout else {
            throw PeerConnectionError(.invalidArgument, "consent-interval \(ice.consentInterval) is not below consent-timeout \(ice.consentTimeout)")
        }
    }

    /// Sets one value by name, as command lines and files have it: `congestion-control=cubic`, `rto-min=50`, `receive-window=4194304`.
    /// Durations are milliseconds, sizes bytes. The names are those of ``Setting``.
    /// - Throws: ``PeerConnectionError`` with `invalidArgument`: no such name, not a value of its kind, or out of its range.
    public mutating func set(_ text: some StringProtocol) throws(PeerConnectionError) {
        guard let equals = text.firstIndex(of: "="), let setting = Setting(rawValue: String(text[..<equals])) else {
            let names = Setting.allCases.map(\.rawValue).joined(separator: ", ")
            throw PeerConnectionError(.invalidArgument, "'\(text)' is not NAME=VALUE with one of these names: \(names)")
        }
        try setting.set(String(text[text.index(after: equals)...]), in: &self)
        try setting.check(self)
    }

    /// What ``set(_:)`` knows, by name.
    public enum Setting: String, Hashable, Sendable, CaseIterable {
        case congestionControl = "congestion-control"
        case receiveWindow = "receive-window"
        case sendBuffer = "send-buffer"
        case mtu
        case rtoInitial = "rto-initial"
        case rtoMin = "rto-min"
        case rtoMax = "rto-max"
        case sackDelay = "sack-delay"
        case burst
        case icePacing = "ice-pacing"
        case iceRto = "ice-rto"
        case iceTransmissions = "ice-transmissions"
        case iceFailure = "ice-failure-timeout"
        case consentInterval = "consent-interval"
        case consentTimeout = "consent-timeout"
        case disconnected = "disconnected-timeout"

        private enum Place {
            case duration(WritableKeyPath<PeerConnection.Configuration, Duration>, ClosedRange<Int>)
            case number(WritableKeyPath<PeerConnection.Configuration, Int>, ClosedRange<Int>)
            case controller
        }

        /// Milliseconds, or numbers.
        private var place: Place {
            switch self {
            case .congestionControl: .controller
            case .receiveWindow: .number(\.receiveWindow, 65_536...1 << 30)
            case .sendBuffer: .number(\.sendBuffer, 0...1 << 30)
            // beyond what a datagram holds the search goes as far as it can
            case .mtu: .number(\.maximumDatagramSize, 0...1 << 20)
            case .rtoInitial: .duration(\.sctp.initialRetransmissionTimeout, 10...60_000)
            case .rtoMin: .duration(\.sctp.minimumRetransmissionTimeout, 1...60_000)
            case .rtoMax: .duration(\.sctp.maximumRetransmissionTimeout, 10...120_000)
            case .sackDelay: .duration(\.sctp.sackDelay, 0...500)
            case .burst: .number(\.sctp.packetsPerBurst, 1...4096)
            case .icePacing: .duration(\.ice.pacing, 5...2000)
            case .iceRto: .duration(\.ice.retransmissionTimeout, 10...10_000)
            case .iceTransmissions: .number(\.ice.transmissions, 1...20)
            case .iceFailure: .duration(\.ice.failureTimeout, 1000...600_000)
            case .consentInterval: .duration(\.ice.consentInterval, 1000...15_000)
            case .consentTimeout: .duration(\.ice.consentTimeout, 2000...30_000)
            case .disconnected: .duration(\.ice.disconnectedTimeout, 100...600_000)
            }
        }

        fileprivate func check(_ configuration: PeerConnection.Configuration) throws(PeerConnectionError) {
            switch place {
            case .controller: break
            case .number(let path, let range):
                guard range.contains(configuration[keyPath: path]) else { throw outOfRange("\(configuration[keyPath: path])", range, "") }
            case .duration(let path, let range):
                let value = configuration[keyPath: path]
                guard value >= .milliseconds(range.lowerBound), value <= .milliseconds(range.upperBound) else { throw outOfRange("\(value)", range, " ms") }
            }
        }

        fileprivate func set(_ text: String, in configuration: inout PeerConnection.Configuration) throws(PeerConnectionError) {
            switch place {
            case .controller:
                guard let controller = CongestionControl(rawValue: text.lowercased()) else {
                    let names = CongestionControl.allCases.map(\.rawValue).joined(separator: ", ")
                    throw PeerConnectionError(.invalidArgument, "\(rawValue) '\(text)' is none of \(names)")
                }
                configuration.sctp.congestionControl = controller
            case .number(let path, let range):
                guard let value = Int(text) else { throw outOfRange("'\(text)'", range, "") }
                configuration[keyPath: path] = value
            case .duration(let path, let range):
                guard let value = Int(text), range.contains(value) else { throw outOfRange("'\(text)'", range, " ms") }
                configuration[keyPath: path] = .milliseconds(value)
            }
        }

        private func outOfRange(_ value: String, _ range: ClosedRange<Int>, _ unit: String) -> PeerConnectionError {
            PeerConnectionError(.invalidArgument, "\(rawValue) \(value) is not between \(range.lowerBound) and \(range.upperBound)\(unit)")
        }
    }
}

extension PeerConnection.Configuration {
    /// As the engine has it.
    func apply(to settings: inout PeerConfiguration) {
        settings.maximumMessageSize = maxMessageSize
        settings.receiveWindow = receiveWindow
        settings.maximumDatagramSize = maximumDatagramSize
        settings.sctp.initialRetransmissionTimeout = sctp.initialRetransmissionTimeout
        settings.sctp.minimumRetransmissionTimeout = sctp.minimumRetransmissionTimeout
        settings.sctp.maximumRetransmissionTimeout = sctp.maximumRetransmissionTimeout
        settings.sctp.sackDelay = sctp.sackDelay
        settings.sctp.packetsPerBurst = sctp.packetsPerBurst
        settings.sctp.congestionControl = sctp.congestionControl.rawValue
        let ice = ice
        settings.tuneIce = {
            $0.pacing = ice.pacing
            $0.retransmissionTimeout = ice.retransmissionTimeout
            $0.transmissions = ice.transmissions
            $0.failureTimeout = ice.failureTimeout
            $0.consentInterval = ice.consentInterval
            $0.consentTimeout = ice.consentTimeout
            $0.disconnectedTimeout = ice.disconnectedTimeout
        }
    }
}
