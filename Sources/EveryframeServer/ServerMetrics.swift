import FrameTransport
import Inference
import Metrics

/// What `GET /metrics` answers: swift-metrics in the form that Prometheus reads.
public struct MetricsExporter: Sendable {
    private let metrics: PrometheusMetrics

    /// Becomes the process's metrics backend; to be called once, and before anything else is. A process with a backend of its own does
    /// without this, and without `/metrics`.
    public static func bootstrap() -> MetricsExporter {
        var options = PrometheusMetrics.Options()
        options.help = ServerMetrics.help
        let metrics = PrometheusMetrics(options: options)
        MetricsSystem.bootstrap(metrics)
        return MetricsExporter(metrics: metrics)
    }

    var text: String { metrics.exposition() }
    static var contentType: String { PrometheusMetrics.contentType }
}

/// swift-metrics; nothing is kept unless the process has a metrics backend.
enum ServerMetrics {
    private static let sessions = Counter(label: "everyframe_sessions_total")
    private static let activeSessions = Meter(label: "everyframe_sessions_active")
    private static let frames = Counter(label: "everyframe_frames_answered_total")
    private static let failedFrames = Counter(label: "everyframe_frames_failed_total")
    private static let jobs = Counter(label: "everyframe_jobs_total")
    private static let resumedJobs = Counter(label: "everyframe_jobs_resumed_total")
    private static let retriedFrames = Counter(label: "everyframe_frames_retried_total")
    private static let activeJobs = Meter(label: "everyframe_jobs_active")
    private static let parkedJobs = Meter(label: "everyframe_jobs_parked")
    private static let refused = Counter(label: "everyframe_requests_refused_total")
    private static let heldPayload = Meter(label: "everyframe_held_bytes", dimensions: [("kind", "payload")])
    private static let heldPictures = Meter(label: "everyframe_held_bytes", dimensions: [("kind", "pictures")])
    private static let heldResults = Meter(label: "everyframe_held_bytes", dimensions: [("kind", "results")])
    private static let batchOccupancy = Meter(label: "everyframe_batch_occupancy")
    private static let engineQueue = Meter(label: "everyframe_engine_queue_frames")
    private static let stages = StageTimes.names.map { Timer(label: "everyframe_stage", dimensions: [("stage", $0)]) }

    static let help = [
        "everyframe_sessions_total": "Connections that were accepted.",
        "everyframe_sessions_active": "Connections that are open.",
        "everyframe_frames_answered_total": "Frames that were answered, the failed ones among them.",
        "everyframe_frames_failed_total": "Frames that were answered with an error.",
        "everyframe_frames_retried_total": "Frames that were asked for again.",
        "everyframe_jobs_total": "Jobs of everyframe.v1 that were accepted.",
        "everyframe_jobs_resumed_total": "Jobs that went on over another connection.",
        "everyframe_jobs_active": "Jobs that are not over.",
        "everyframe_jobs_parked": "Jobs whose connection is lost, kept for their client.",
        "everyframe_requests_refused_total": "HTTP requests that were refused.",
        "everyframe_held_bytes": "Memory held for jobs: payloads that are not decoded, decoded pictures, results that are not taken.",
        "everyframe_batch_occupancy": "Frames in a batch, on average.",
        "everyframe_engine_queue_frames": "Frames that wait for a batch.",
        "everyframe_stage": "Where the time of answered frames went, by stage.",
    ]

    static func sessionOpened(active: Int) {
        sessions.increment()
        activeSessions.set(active)
    }

    static func sessionEnded(active: Int) { activeSessions.set(active) }

    static func frameAnswered(isFailure: Bool) {
        frames.increment()
        if isFailure { failedFrames.increment() }
    }

    /// Of one frame; `send` is not known yet.
    static func record(_ times: StageTimes) {
        for (timer, microseconds) in zip(stages, times.all).dropLast() { timer.recordMicroseconds(Int64(microseconds)) }
    }

    static func frameRetried() { retriedFrames.increment() }
    static func jobOpened() { jobs.increment() }
    static func jobResumed() { resumedJobs.increment() }
    static func requestRefused() { refused.increment() }

    /// What is only known when it is asked for.
    static func report(_ state: HubState, _ batches: Batcher.Statistics) {
        activeJobs.set(state.jobs)
        parkedJobs.set(state.parked)
        heldPayload.set(state.payloadBytes)
        heldPictures.set(state.pictureBytes)
        heldResults.set(state.resultBytes)
        batchOccupancy.set(batches.occupancy)
        engineQueue.set(batches.queueDepth)
    }
}
