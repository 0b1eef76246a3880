import Dispatch
package import Media

/// A detection graph (TensorFlow's detection API: boxes, classes, scores and their number, overlaps already taken out) on OpenVINO.
package final class OpenVINODetector: Model {
    package let name: String
    package let classNames: [String]
    package let engine: EngineInfo
    package let batchSize: Int
    package let isSynthetic = false
    /// Detections below are left out.
    package let confidence: Double
    package var requestsInFlight: Int { pool.count }
    package var mixesGeometries: Bool { inputSize != nil }

    private let pool: OpenVINORequestPool
    /// What the graph would make of every picture first; nil: it is given pictures as they are.
    private let inputSize: PictureSize?
    /// Where frames are made into what the graph takes.
    private let preparation = DispatchQueue(label: "everyframe.inference.preparation", attributes: .concurrent)

    /// Reads and compiles the model file at `path`, on a thread of its own: that takes a second.
    package static func load(
        path: String, name: String, classNames: [String], inputSize: PictureSize? = nil, options: ModelOptions = ModelOptions()
    ) async throws(InferenceError) -> OpenVINODetector {
        let result: Result<OpenVINODetector, InferenceError> = await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                continuation.resume(
                    returning: Result { () throws(InferenceError) in
                        try OpenVINODetector(path: path, name: name, classNames: classNames, inputSize: inputSize, options: options)
                    })
            }
        }
        return try result.get()
    }

    private init(
        path: String, name: String, classNames: [String], inputSize: PictureSize?, options: ModelOptions
    ) throws(InferenceError) {
        let network = try OpenVINONetwork(path: path, outputs: SSDOutputs.all, inputSize: inputSize, options: options)
        self.inputSize = inputSize
        self.name = name
        self.classNames = classNames
        batchSize = max(1, options.batchSize)
        confidence = options.confidence
        engine = EngineInfo(name: "OpenVINO", version: network.library.version, device: network.deviceName)
        pool = try OpenVINORequestPool(network: network, count: max(1, options.requestsInFlight ?? network.optimalRequests))
    }

    package func infer(_ frames: [VideoFrame]) async throws(InferenceError) -> [FrameResult] {
        if frames.count == 1, let frame = frames.first { return try await inferBatch([try await prepare(frame)]) }
        let batches = try await split(frames)
        // side by side: the pool keeps the order of the queue, the indices that of the answers
        let answers = await withTaskGroup(of: (Int, Result<[FrameResult], InferenceError>).self) { group in
            for (index, batch) in batches.enumerated() {
                group.addTask { (index, await Result { () async throws(InferenceError) in try await self.inferBatch(batch) }) }
            }
            var answers = [Result<[FrameResult], InferenceError>?](repeating: nil, count: batches.count)
            for await (index, answer) in group { answers[index] = answer }
            return answers
        }
        var results: [FrameResult] = []
        for answer in answers { if let answer { results += try answer.get() } }
        return results
    }

    /// A picture as the graph takes it, and the size of the one it was.
    private struct Prepared: Sendable {
        var picture: VideoFrame
        var width, height: Int
    }

    private func prepare(_ frame: VideoFrame) async throws(InferenceError) -> Prepared {
        let picture: VideoFrame
        if inputSize == nil, frame.format == .bgr24 {
            picture = frame
        } else {
            let made: Result<VideoFrame, MediaError> = await withCheckedContinuation { continuation in
                preparation.async { [inputSize] in
                    continuation.resume(
                        returning: Result { () throws(MediaError) in
                            guard let inputSize else { return try PixelConverter().convert(frame, to: .bgr24) }
                            return frame.sampled(width: inputSize.width, height: inputSize.height)
                        })
                }
            }
            do { picture = try made.get() } catch { throw .badFrame(reason: error.description) }
        }
        return Prepared(picture: picture, width: frame.width, height: frame.height)
    }

    /// Runs of pictures of the same size, none longer than `batchSize`.
    private func split(_ frames: [VideoFrame]) async throws(InferenceError) -> [[Prepared]] {
        var batches: [[Prepared]] = []
        for frame in frames {
            let prepared = try await prepare(frame)
            if let last = batches.last, last.count < batchSize, last[0].picture.width == prepared.picture.width,
                last[0].picture.height == prepared.picture.height
            {
                batches[batches.count - 1].append(prepared)
            } else {
                batches.append([prepared])
            }
        }
        return batches
    }

    private func inferBatch(_ batch: [Prepared]) async throws(InferenceError) -> [FrameResult] {
        guard let first = batch.first?.picture else { return [] }
        let id = pool.newID()
        let asked = ContinuousClock.now
        let memory = batch.count == 1 ? first.memory : Self.joined(batch.map(\.picture)).memory
        let answer: OpenVINORequestPool.Answer = await withTaskCancellationHandler {
            guard !Task.isCancelled else { return .failure(.cancelled) }
            return await withCheckedContinuation { continuation in
                pool.submit(
                    OpenVINORequestPool.Job(
                        id: id, memory: memory, count: batch.count, width: first.width, height: first.height, asked: asked
                    ) { continuation.resume(returning: $0) })
            }
        } onCancel: {
            pool.cancel(id)
        }
        return zip(try answer.get(), batch).map { result(of: $0, width: $1.width, height: $1.height) }
    }

    private func result(of raw: OpenVINORequestPool.RawDetections, width: Int, height: Int) -> FrameResult {
        var detections: [Detection] = []
        for (index, score) in raw.scores.enumerated() where Double(score) >= confidence {
            // as shares of the picture: top, left, bottom, right
            let sides = raw.boxes[4 * index..<4 * index + 4].map { Double(max(0, min(1, $0))) }
            guard sides.allSatisfy(\.isFinite), sides[3] > sides[1], sides[2] > sides[0] else { continue }
            let label = raw.classes[index]
            guard label.isFinite, label >= 1, label < 100_000 else { continue }
            // the graph counts from 1, 0 being the background
            let classID = Int(label) - 1
            detections.append(
                Detection(
                    classID: classID, className: classNames.indices.contains(classID) ? classNames[classID] : "class \(classID)",
                    confidence: Double(score), x: sides[1] * Double(width), y: sides[0] * Double(height),
                    width: (sides[3] - sides[1]) * Double(width), height: (sides[2] - sides[0]) * Double(height)))
        }
        return FrameResult(
            detections: detections.sorted { $0.confidence > $1.confidence }, width: width, height: height, waited: raw.waited, inferred: raw.inferred)
    }

    /// One picture as high as all of them: the layout of a batch.
    private static func joined(_ frames: [VideoFrame]) -> VideoFrame {
        VideoFrame(.bgr24, width: frames[0].width, height: frames.reduce(0) { $0 + $1.height }) { bytes in
            var offset = 0
            for frame in frames {
                frame.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: bytes[offset...]).copyMemory(from: $0) }
                offset += frame.byteCount
            }
        }
    }
}

extension Result {
    fileprivate init(_ body: () async throws(Failure) -> Success) async {
        do throws(Failure) { self = .success(try await body()) } catch { self = .failure(error) }
    }
}
