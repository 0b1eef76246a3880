package import NIOCore
package import Wire

/// What a driver needs of either end of `everyframe.v1`, so that one driver can run both.
///
/// It opens the two channels (`Lane.label`), calls `connected`, hands every message to `handle`, and after each call does what
/// `poll` gives until that is nil, tells `setBuffered` whenever a channel's fill changes, and wakes up for `deadline` to call
/// `handleTimeout`. Any order of calls is legal. What an end wants of its application is a verb of its own.
package protocol ConnectionEngine: ~Copyable {
    associatedtype Event: Sendable

    /// Both channels are open. `channelMessageBytes`: SDP's `max-message-size` of the other end; nil: not known.
    mutating func connected(channelMessageBytes: Int?, at now: Instant)

    /// The connection is lost or was given up: nothing is sent or heard any more. The jobs live on.
    mutating func disconnected(at now: Instant)

    /// A message, whole, as the channel gave it.
    mutating func handle(_ lane: Lane, _ message: ByteBuffer, isText: Bool, at now: Instant)

    /// How many bytes wait in a channel, whenever that changes.
    mutating func setBuffered(_ bytes: Int, on lane: Lane, at now: Instant)

    mutating func handleTimeout(at now: Instant)

    /// When to call `handleTimeout`; nil: not before something happens.
    var deadline: Instant? { get }

    /// What to do next; nil: nothing until something happens.
    mutating func poll(at now: Instant) -> ConnectionOutput<Event>?
}

/// What a connection itself has to say to its driver.
enum ConnectionNews: Hashable, Sendable {
    case failed(ConnectionFailure)
    case stalled(Stall)
}

extension ConnectionCore {
    /// A failure or a stall, once each on a connection.
    mutating func nextNews() -> ConnectionNews? {
        if let failure, !isFailureTold {
            isFailureTold = true
            return .failed(failure)
        }
        if let stall, !isStallTold {
            isStallTold = true
            return .stalled(stall)
        }
        return nil
    }

    mutating func send<Event>(_ message: ControlMessage, at now: Instant) -> ConnectionOutput<Event> {
        let (bytes, isText) = encode(message)
        return send(bytes, isText: isText, on: .control, at: now)
    }

    /// From the job at `index` of those that take turns: whoever has sent goes to the end.
    mutating func send<Key, Event>(_ message: BulkMessage, from index: Int, of turns: inout [Key], at now: Instant) -> ConnectionOutput<Event> {
        turns.append(turns.remove(at: index))
        let (bytes, isText) = encode(message)
        return send(bytes, isText: isText, on: .bulk, at: now)
    }

    mutating func send<Event>(_ bytes: ByteBuffer, isText: Bool, on lane: Lane, at now: Instant) -> ConnectionOutput<Event> {
        handOut(bytes.readableBytes, on: lane, at: now)
        return .send(lane, bytes, isText: isText)
    }

    /// A message is for a job that is not here: it is over, or it was never there, which fails the connection. True for the former.
    @discardableResult
    mutating func isOver(_ number: JobNumber) -> Bool {
        guard number != 0, number <= lastNumber else {
            fail(.unknownJob(Int(number)))
            return false
        }
        counters.stale += 1
        return true
    }
}
