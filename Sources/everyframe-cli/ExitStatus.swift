import ArgumentParser
import Everyframe
import EveryframeServer

/// What the process tells its caller; the numbers of sysexits.h where one fits.
enum ExitStatus: Int32 {
    case framesFailed = 1
    case usage = 64
    case badInput = 66
    case serverUnavailable = 69
    case `internal` = 70
    case cannotWrite = 73
    case writeFailed = 74
    case connectionLost = 75
    case refused = 76
    case unauthorised = 77
    case interrupted = 130

    /// For the help.
    static let table = """
        Exit codes: 0 every frame was answered; 1 some frames failed or have no answer; 64 wrong usage; 66 the input cannot be read;
        69 the server cannot be reached or has no place; 70 internal error; 73 an output cannot be created; 74 an output cannot be
        written; 75 the connection was lost; 76 the server refused the request; 77 the server refused the key; 130 interrupted.
        """

    var code: ExitCode { ExitCode(rawValue) }

    init(_ error: StreamError) {
        switch error.code {
        case .invalidConfiguration: self = .usage
        case .sourceFailed: self = .badInput
        case .serverUnreachable, .cannotConnect, .badAnswer: self = .serverUnavailable
        case .refused where error.status == 401 || error.status == 403: self = .unauthorised
        case .refused where error.status == 503: self = .serverUnavailable
        case .refused: self = .refused
        case .connectionLost, .stalled, .endedByServer: self = .connectionLost
        case .resultHandlerFailed: self = .writeFailed
        case .proofFailed: self = .framesFailed
        case .cancelled: self = .interrupted
        default: self = .internal
        }
    }

    init(_ error: ServerError) {
        switch error.code {
        case .modelUnavailable: self = .badInput
        default: self = .serverUnavailable
        }
    }
}
