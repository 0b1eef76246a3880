import NIOCore
import Synchronization

/// Messages from any thread to an owner on an event loop: one visit takes all that came meanwhile.
final class Mailbox<Message: Sendable>: Sendable {
    private let waiting = Mutex<[Message]>([])
    private let eventLoop: any EventLoop
    private let wake: @Sendable () -> Void

    /// - Parameter wake: called on the loop when messages are there; the owner answers with `takeAll`.
    init(on eventLoop: any EventLoop, wake: @escaping @Sendable () -> Void) {
        self.eventLoop = eventLoop
        self.wake = wake
    }

    func post(_ message: Message) {
        let isFirst = waiting.withLock { waiting in
            waiting.append(message)
            return waiting.count == 1
        }
        if isFirst { eventLoop.execute(wake) }
    }

    func takeAll() -> [Message] {
        waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
    }
}
