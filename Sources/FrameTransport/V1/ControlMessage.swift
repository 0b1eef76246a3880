package import NIOCore

/// Everything that is said beside frames and results. One map each: MessagePack after a byte 0x01, or a JSON text message.
///
/// Names that are not known are ignored, and so are messages of an unknown type.
package enum ControlMessage: Hashable, Sendable {
    /// Both ends, first.
    case hello(Hello)
    /// Either end: the connection makes no sense any more.
    case goodbye(reason: String, message: String)
    case ping(Int)
    case pong(Int)

    // client to server
    case open(job: JobNumber, JobRequest)
    case resume(job: JobNumber, ResumeRequest)
    /// On the bulk lane, behind the last frame.
    case finish(job: JobNumber, JobFinish)
    /// Results up to this sequence were taken by the application.
    case taken(job: JobNumber, sequence: Int)
    case cancel(job: JobNumber)
    /// The end was understood: the server may forget the job.
    case bye(job: JobNumber)

    // server to client
    case accepted(job: JobNumber, JobAcceptance)
    case rejected(job: JobNumber, reason: JobFailure, message: String)
    case resumed(job: JobNumber, JobResumption)
    case acknowledgement(job: JobNumber, Acknowledgement)
    case retry(job: JobNumber, ids: [Int])
    case progress(job: JobNumber, ServerProgress)
    case end(job: JobNumber, JobEnd)

    package var job: JobNumber? {
        switch self {
        case .hello, .goodbye, .ping, .pong: nil
        case .open(let job, _), .resume(let job, _), .finish(let job, _), .taken(let job, _), .cancel(let job), .bye(let job),
            .accepted(let job, _), .rejected(let job, _, _), .resumed(let job, _), .acknowledgement(let job, _), .retry(let job, _),
            .progress(let job, _), .end(let job, _):
            job
        }
    }
}

/// The first message of either end.
package struct Hello: Hashable, Sendable {
    /// The client's: all it can do. The server's: the one chosen.
    package var versions: [Int]
    /// Program and version, for logs.
    package var agent = ""
    /// The longest message this end takes.
    package var maximumMessageBytes: Int
    /// How the client wants control messages to be written.
    package var format = Answer.Format.messagePack
    /// The server's.
    package var limits: JobLimits?
    package var encodings: [PayloadEncoding] = []
    package var compressions: [Compression] = []
    /// What else the server wants to be known: models, for instance. This room does not read it.
    package var extra: JSON = .object([:])

    package init(versions: [Int], maximumMessageBytes: Int) {
        self.versions = versions
        self.maximumMessageBytes = maximumMessageBytes
    }
}

package struct ResumeRequest: Hashable, Sendable {
    package var token: String
    /// The highest sequence that the application took.
    package var taken: Int
    /// The highest sequence that the client has, taken or not: it need not be sent again.
    package var have: Int

    package init(token: String, taken: Int, have: Int) {
        self.token = token
        self.taken = taken
        self.have = have
    }
}

/// The source's end.
package struct JobFinish: Hashable, Sendable {
    /// The highest id.
    package var last: Int
    package var dropped = DropCounts()
    /// Why the source broke; nil where it simply ended.
    package var error: String?

    package init(last: Int, dropped: DropCounts = DropCounts(), error: String? = nil) {
        self.last = last
        self.dropped = dropped
        self.error = error
    }
}

/// The right to send: how far ids and payload bytes of this connection may go.
package struct Credit: Hashable, Sendable {
    package var id: Int
    package var bytes: Int

    package init(id: Int, bytes: Int) {
        self.id = id
        self.bytes = bytes
    }
}

package struct JobAcceptance: Hashable, Sendable {
    package var token: String
    package var lifetime: Duration
    package var credit: Credit

    package init(token: String, lifetime: Duration, credit: Credit) {
        self.token = token
        self.lifetime = lifetime
        self.credit = credit
    }
}

package struct JobResumption: Hashable, Sendable {
    package var lifetime: Duration
    /// Sending goes on behind this id.
    package var received: Int
    /// Payloads up to this id are not needed any more.
    package var acknowledged: Int
    /// The highest sequence that the server knows to be taken: perhaps more than a new process was told.
    package var taken: Int
    /// The server's rolling digest behind `taken` or `ResumeRequest.have`, whichever is higher.
    package var digest: UInt64
    package var credit: Credit

    package init(lifetime: Duration, received: Int, acknowledged: Int, taken: Int, digest: UInt64, credit: Credit) {
        self.lifetime = lifetime
        self.received = received
        self.acknowledged = acknowledged
        self.taken = taken
        self.digest = digest
        self.credit = credit
    }
}

package struct Acknowledgement: Hashable, Sendable {
    /// Whole up to this id.
    package var received: Int
    /// Payloads up to this id are not needed any more.
    package var acknowledged: Int
    package var credit: Credit

    package init(received: Int, acknowledged: Int, credit: Credit) {
        self.received = received
        self.acknowledged = acknowledged
        self.credit = credit
    }
}

/// Why a message could not be read as control.
package enum ControlMessageError: Error, Hashable, Sendable {
    case messagePack(MessagePackError)
    case json(JSONError)
    case notAnObject
    case missing(String)
    case invalid(String)
}

/// A control message as it came: understood, or of a type from the future.
package enum ReceivedControl: Hashable, Sendable {
    case message(ControlMessage)
    case unknown(type: String)
}

extension ControlMessage {
    /// Reads a binary message behind its byte 0x01, or a text message.
    package static func read(_ bytes: ByteBuffer, isText: Bool) throws(ControlMessageError) -> ReceivedControl {
        let value: JSON
        if isText {
            do throws(JSONError) { value = try JSON(parsing: bytes) } catch { throw .json(error) }
        } else {
            do throws(MessagePackError) {
                value = try MessagePack.read(bytes, limits: MessagePack.Limits(depth: 16, values: 16_384))
            } catch { throw .messagePack(error) }
        }
        guard case .object(let object) = value else { throw .notAnObject }
        let fields = ControlFields(object: object)
        let type = try fields.string("type")
        guard let message = try ControlMessage(type: type, fields) else { return .unknown(type: type) }
        return .message(message)
    }

    package func write(_ format: Answer.Format, into bytes: inout ByteBuffer) {
        switch format {
        case .messagePack:
            bytes.writeInteger(BinaryMessage.Kind.control.rawValue)
            MessagePack.write(.object(object), into: &bytes)
        case .json:
            JSON.object(object).write(into: &bytes)
        }
    }
}
