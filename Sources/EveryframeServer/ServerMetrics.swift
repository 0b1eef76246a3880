import Metrics

/// swift-metrics; nothing is kept unless the process has a metrics backend.
enum ServerMetrics {
    private static let sessions = Counter(label: "everyframe_sessions_total")
    private static let activeSessions = Meter(label: "everyframe_sessions_active")
    private static let frames = Counter(label: "everyframe_frames_answered_total")
    private static let failedFrames = Counter(label: "everyframe_frames_failed_total")
    private static let jobs = Counter(label: "everyframe_jobs_total")
    private static let endedJobs = Counter(label: "everyframe_jobs_ended_total")
    private static let resumedJobs = Counter(label: "everyframe_jobs_resumed_total")
    private static let refusedRequests = Counter(label: "everyframe_requests_refused_total")

    static func sessionOpened(active: Int) {
        sessions.increment()
        activeSessions.set(active)
    }

    static func sessionEnded(active: Int) { activeSessions.set(active) }

    static func frameAnswered(isFailure: Bool) {
        frames.increment()
        if isFailure { failedFrames.increment() }
    }

    static func jobOpened() { jobs.increment() }
    static func jobEnded() { endedJobs.increment() }
    static func jobResumed() { resumedJobs.increment() }

    static func requestRefused() { refusedRequests.increment() }
}
