public import FrameTransport

/// What ``Doctor`` found, step by step.
public struct Diagnosis: Sendable {
    /// The steps of setting a connection up, in their order, and the servers beside it.
    public enum Step: String, Sendable, CaseIterable {
        case dns, http, signalling, udp, dtls, sctp, mtu, roundTrip = "rtt", throughput, stun, turn
    }

    public enum Outcome: String, Sendable {
        case ok
        /// It works, and could work better or for more clients.
        case warning
        case failed
        /// Not tried, since an earlier step failed or there was nothing to try.
        case skipped
    }

    public struct Finding: Sendable {
        public var step: Step
        public var outcome: Outcome
        /// What was measured, or what failed, for a person.
        public var detail: String
        /// What to do about it; nil where nothing is to be done.
        public var advice: String?
        /// What was measured, for programs; named as in the documentation.
        public var values: JSONObject
        public var milliseconds = 0.0

        public init(_ step: Step, _ outcome: Outcome, _ detail: String, advice: String? = nil, _ values: JSONObject = [:]) {
            self.step = step
            self.outcome = outcome
            self.detail = detail
            self.advice = advice
            self.values = values
        }

        public var json: JSON {
            var object: JSONObject = [
                "step": .string(step.rawValue), "outcome": .string(outcome.rawValue), "detail": .string(detail), "advice": advice.map(JSON.string) ?? .null,
                "ms": .number((milliseconds * 1e3).rounded() / 1e3),
            ]
            for member in values.members { object.append(member.name, member.value) }
            return .object(object)
        }
    }

    public var server: String
    public internal(set) var findings: [Finding] = []
    /// Why the server was not reached or did not let us in; nil where it did.
    public internal(set) var refusal: StreamError?

    public init(server: String) { self.server = server }

    /// Nothing failed.
    public var isWell: Bool { !findings.contains { $0.outcome == .failed } }

    public var json: JSON { ["server": .string(server), "ok": .bool(isWell), "steps": .array(findings.map(\.json))] }
}
