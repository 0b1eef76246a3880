import COpenVINO
import Dispatch
import Media
import Synchronization

/// A fixed number of asynchronous requests and the queue of what waits for one.
///
/// A request that ends takes the next job on the engine's own thread, before the answer is even handed out, so that the engine never
/// idles while something waits; and no thread of ours waits for it.
final class OpenVINORequestPool: Sendable {
    typealias Answer = Result<[RawDetections], InferenceError>

    /// What the graph says about one frame, before thresholds and names.
    struct RawDetections: Sendable {
        var boxes: [Float]
        var classes: [Float]
        var scores: [Float]
        var waited: Duration
        var inferred: Duration
    }

    /// Frames of one geometry, to be inferred as one batch.
    struct Job: Sendable {
        let id: UInt64
        /// BGR.
        let memory: PixelMemory
        let count, width, height: Int
        let asked: ContinuousClock.Instant
        let answer: @Sendable (Answer) -> Void
    }

    private struct State {
        var idle: [OpenVINORequest] = []
        /// Those taken out leave nil behind, so that nothing holds their pixels.
        var waiting: [Job?] = []
        /// Index of the first that may still wait; what is before it is dropped now and then.
        var first = 0
        var nextID: UInt64 = 0
    }

    /// All of them, idle or not: what the engine works on is not in `idle`.
    private let requests: [OpenVINORequest]
    private let state: Mutex<State>
    var count: Int { requests.count }

    init(network: OpenVINONetwork, count: Int) throws(InferenceError) {
        var requests: [OpenVINORequest] = []
        for _ in 0..<count { requests.append(try OpenVINORequest(network: network)) }
        self.requests = requests
        state = Mutex(State(idle: requests))
        for request in requests { request.ended = { [weak self, weak request] in request.map { request in self?.requestEnded(request) } } }
    }

    func newID() -> UInt64 {
        state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
    }

    func submit(_ job: Job) {
        let request: OpenVINORequest? = state.withLock { state in
            if let request = state.idle.popLast() { return request }
            state.waiting.append(job)
            return nil
        }
        if let request { start(job, on: request) }
    }

    /// Takes a job out of the queue. One that the engine works on goes on to its end.
    func cancel(_ id: UInt64) {
        let job: Job? = state.withLock { state in
            guard let index = state.waiting[state.first...].firstIndex(where: { $0?.id == id }) else { return nil }
            defer { state.waiting[index] = nil }
            return state.waiting[index]
        }
        job?.answer(.failure(.cancelled))
    }

    private func start(_ job: Job, on request: OpenVINORequest) {
        var job = job
        while let failure = request.start(job) {
            job.answer(.failure(failure))
            guard let next = release(request) else { return }
            job = next
        }
    }

    /// On a thread of the engine.
    private func requestEnded(_ request: OpenVINORequest) {
        guard let job = request.job else { return }
        let answer = request.collect()
        if let next = release(request) { start(next, on: request) }
        job.answer(answer)
    }

    /// The next job for this request; without one it is idle.
    private func release(_ request: OpenVINORequest) -> Job? {
        state.withLock { state in
            var job: Job?
            while job == nil, state.first < state.waiting.count {
                swap(&job, &state.waiting[state.first])
                state.first += 1
            }
            if state.first == state.waiting.count || state.first > 256 {
                state.waiting.removeFirst(state.first)
                state.first = 0
            }
            if job == nil { state.idle.append(request) }
            return job
        }
    }
}

/// One of the engine's requests. Used by whoever took it out of the pool, one at a time.
final class OpenVINORequest: @unchecked Sendable {
    private let network: OpenVINONetwork
    private let request: OpaquePointer
    /// The engine keeps this pointer, so it must not move.
    private let callback: UnsafeMutablePointer<ov_callback_t>
    private(set) var job: OpenVINORequestPool.Job?
    private var started = ContinuousClock.now
    private var hasRun = false
    /// Called on a thread of the engine.
    var ended: (() -> Void)?

    init(network: OpenVINONetwork) throws(InferenceError) {
        self.network = network
        request = try network.makeRequest()
        callback = .allocate(capacity: 1)
        callback.initialize(to: ov_callback_t())
        callback.pointee = ov_callback_t(
            callback_func: { context in
                guard let context else { return }
                Unmanaged<OpenVINORequest>.fromOpaque(context).takeUnretainedValue().ended?()
            }, args: Unmanaged.passUnretained(self).toOpaque())
    }

    deinit {
        // freeing waits for the callback to return, and this may be the callback; the job's memory and the network must last as long
        let (network, job) = (network, job)
        let (request, callback) = (SendablePointer(raw: UnsafeMutableRawPointer(request)), SendablePointer(raw: UnsafeMutableRawPointer(callback)))
        DispatchQueue.global().async {
            network.library.functions.pointee.infer_request_free(OpaquePointer(request.raw))
            callback.raw.deallocate()
            withExtendedLifetime(job) {}
        }
    }

    /// Begins; `ended` follows unless an error is answered.
    func start(_ job: OpenVINORequestPool.Job) -> InferenceError? {
        let functions = network.library.functions
        var dimensions = [Int64(job.count), Int64(job.height), Int64(job.width), 3]
        var tensor: OpaquePointer?
        let pixels = UnsafeMutableRawPointer(mutating: job.memory.unsafeBytes.baseAddress)
        var status = dimensions.withUnsafeMutableBufferPointer { buffer in
            functions.pointee.tensor_create_from_host_ptr(
                UInt32(everyframe_ov_u8), ov_shape_t(rank: 4, dims: buffer.baseAddress), pixels, &tensor)
        }
        guard status == 0, let tensor else { return .inferenceFailed(reason: network.library.message(status)) }
        defer { functions.pointee.tensor_free(tensor) }
        status = functions.pointee.infer_request_set_input_tensor(request, tensor)
        // the engine puts the callback aside while it calls it, and a start from within could end before it is back in its place
        if status == 0 { status = functions.pointee.infer_request_set_callback(request, callback) }
        guard status == 0 else { return .inferenceFailed(reason: network.library.message(status)) }
        // the last job's pixels were the request's input until now
        self.job = job
        spoilOutput()
        started = .now
        status = functions.pointee.infer_request_start_async(request)
        return status == 0 ? nil : .inferenceFailed(reason: network.library.message(status))
    }

    /// The callback does not say whether inference failed; a count that still has the value put there beforehand does.
    private func spoilOutput() {
        guard hasRun else { return }
        withOutput(SSDOutputs.count) { values, _ in
            for index in values.indices { values[index] = .nan }
        }
    }

    func collect() -> OpenVINORequestPool.Answer {
        let ended = ContinuousClock.now
        guard let job else { return .failure(.inferenceFailed(reason: "there was no job")) }
        hasRun = true
        var counts: [Float] = []
        var (boxes, classes, scores): ([Float], [Float], [Float]) = ([], [], [])
        var perFrame = 0
        withOutput(SSDOutputs.count) { values, _ in counts = Array(values) }
        guard counts.count == job.count, counts.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
            return .failure(.inferenceFailed(reason: "the engine gave no answer to a frame of \(job.width)x\(job.height)"))
        }
        withOutput(SSDOutputs.scores) { values, shape in
            scores = Array(values)
            perFrame = shape.last ?? 0
        }
        withOutput(SSDOutputs.classes) { values, _ in classes = Array(values) }
        withOutput(SSDOutputs.boxes) { values, _ in boxes = Array(values) }
        guard scores.count == job.count * perFrame, classes.count == scores.count, boxes.count == 4 * scores.count else {
            return .failure(.inferenceFailed(reason: "the engine's answer has another form than expected"))
        }
        let (waited, inferred) = (started - job.asked, ended - started)
        return .success(
            counts.enumerated().map { index, count in
                let found = min(Int(count), perFrame)
                let first = index * perFrame
                return OpenVINORequestPool.RawDetections(
                    boxes: Array(boxes[4 * first..<4 * (first + found)]), classes: Array(classes[first..<first + found]),
                    scores: Array(scores[first..<first + found]), waited: waited, inferred: inferred)
            })
    }

    private func withOutput(_ name: String, _ body: (UnsafeMutableBufferPointer<Float>, [Int]) -> Void) {
        let functions = network.library.functions
        var tensor: OpaquePointer?
        guard functions.pointee.infer_request_get_tensor(request, name, &tensor) == 0, let tensor else { return }
        defer { functions.pointee.tensor_free(tensor) }
        var type: UInt32 = 0
        var shape = ov_shape_t()
        guard functions.pointee.tensor_get_element_type(tensor, &type) == 0, type == UInt32(everyframe_ov_f32),
            functions.pointee.tensor_get_shape(tensor, &shape) == 0
        else { return }
        defer { _ = functions.pointee.shape_free(&shape) }
        let sizes = (0..<Int(shape.rank)).map { Int(shape.dims[$0]) }
        let count = sizes.reduce(1, *)
        var data: UnsafeMutableRawPointer?
        guard count > 0, functions.pointee.tensor_data(tensor, &data) == 0, let data else { return }
        body(UnsafeMutableBufferPointer(start: data.assumingMemoryBound(to: Float.self), count: count), sizes)
    }
}

private struct SendablePointer: @unchecked Sendable { let raw: UnsafeMutableRawPointer }

/// What a graph of TensorFlow's detection API calls its outputs.
enum SSDOutputs {
    static let boxes = "detection_boxes:0"
    static let classes = "detection_classes:0"
    static let scores = "detection_scores:0"
    static let count = "num_detections:0"
    static let all = [boxes, classes, scores, count]
}
