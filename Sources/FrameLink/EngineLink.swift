package import FrameTransport
package import NIOCore
package import WebRTCNIO
import Wire

/// Drives one engine of `everyframe.v1` over the two data channels of a connection: messages in, what the engine wants out, one timer.
///
/// It belongs to whoever owns the engine and lives on the connection's event loop; nothing here may be used elsewhere. Every entry ends in a
/// pump: the engine is asked until it has nothing more to say, so its owner sees each event in the turn in which it arose.
package final class EngineLink<Engine: ConnectionEngine & ~Copyable> {
    package var engine: Engine
    private let eventLoop: any EventLoop
    /// Brings a later turn of the loop back here, through the owner's isolation.
    private let wake: @Sendable () -> Void
    private var control: DataChannel?
    private var bulk: DataChannel?
    private var timer: (callback: NIOScheduledCallback, due: Instant)?
    private var isPumpScheduled = false

    /// - Parameter wake: called on the loop when something is due; the owner answers with `turn`.
    package init(_ engine: consuming Engine, on eventLoop: any EventLoop, wake: @escaping @Sendable () -> Void) {
        self.engine = engine
        self.eventLoop = eventLoop
        self.wake = wake
    }

    // MARK: The channels

    /// Both channels are open: the greeting begins.
    ///
    /// - Parameters:
    ///   - onMessage: called on the loop for each message; the owner answers with `received`.
    ///   - onEnd: called on the loop when a channel is over.
    package func attach(
        control: DataChannel, bulk: DataChannel, onMessage: @escaping @Sendable (Lane, ByteBuffer, Bool) -> Void,
        onBufferedAmount: @escaping @Sendable (Lane, Int) -> Void, onEnd: @escaping @Sendable (DataChannelError) -> Void
    ) {
        self.control = control
        self.bulk = bulk
        engine.connected(channelMessageBytes: control.peerMaximumMessageSize, at: .now)
        for (lane, channel) in [(Lane.control, control), (.bulk, bulk)] {
            channel.attach(
                ChannelHooks(
                    onMessage: { onMessage(lane, $0, $1) }, onBufferedAmount: { onBufferedAmount(lane, $0) }, onEnd: onEnd))
        }
        setNeedsPump()
    }

    /// Lets go of the channels; what they still bring is nobody's.
    package func detach() {
        control = nil
        bulk = nil
        timer?.callback.cancel()
        timer = nil
    }

    package func received(_ bytes: ByteBuffer, isText: Bool, on lane: Lane) {
        guard control != nil else { return }
        engine.handle(lane, bytes, isText: isText, at: .now)
        setNeedsPump()
    }

    package func buffered(_ bytes: Int, on lane: Lane) {
        guard control != nil else { return }
        engine.setBuffered(bytes, on: lane, at: .now)
        setNeedsPump()
    }

    // MARK: Turns of the loop

    /// Has `wake` called behind what this turn still brings: one pump for a burst of messages.
    package func setNeedsPump() {
        guard !isPumpScheduled else { return }
        isPumpScheduled = true
        let wake = wake
        eventLoop.execute { wake() }
    }

    /// What `wake` asked for. `handle` gets each event; it may use the engine, and must not call `turn`.
    package func turn(_ handle: (Engine.Event) -> Void) {
        isPumpScheduled = false
        let now = Instant.now
        if let timer, timer.due <= now { self.timer = nil }
        if let deadline = engine.deadline, deadline <= now { engine.handleTimeout(at: now) }
        while let output = engine.poll(at: now) {
            switch output {
            case .event(let event): handle(event)
            case .send(let lane, let bytes, let isText): send(bytes, isText: isText, on: lane, at: now)
            }
        }
        armTimer()
    }

    private func send(_ bytes: ByteBuffer, isText: Bool, on lane: Lane, at now: Instant) {
        // a channel that is over reports its end by itself
        guard let channel = lane == .control ? control : bulk, let amount = try? channel.sendNow(bytes, isText: isText) else { return }
        engine.setBuffered(amount, on: lane, at: now)
    }

    /// The armed timer stays where the deadline moved back: it finds nothing due and arms the next.
    private func armTimer() {
        guard let deadline = engine.deadline else { return }
        if let timer, timer.due <= deadline { return }
        timer?.callback.cancel()
        // it throws only where the loop is shutting down
        timer = (try? eventLoop.scheduleCallback(at: NIODeadline(deadline), handler: WakeHandler(wake: wake))).map { ($0, deadline) }
    }
}

private struct WakeHandler: NIOScheduledCallbackHandler, Sendable {
    let wake: @Sendable () -> Void

    func handleScheduledCallback(eventLoop: some EventLoop) { wake() }
}
