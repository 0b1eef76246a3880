import Everyframe
import FrameTransport
import NIOCore
import Testing

@Suite struct StreamResultTests {
    @Test("A message of the prototype wire becomes a result, and the result writes the prototype's JSON")
    func prototype() throws {
        let text = """
            {"video_metadata":{"frame_id":7,"received_at":"2025-11-11T12:48:10.123456","pts":512,"time_base":0.001,"declared_fps":20.0,"measured_fps":null},\
            "serialized_output_data":{"predictions":{"image":{"width":64,"height":48},"predictions":[]},"count":0},"errors":[]}
            """
        let result = StreamResult(try ResultMessage(parsing: ByteBuffer(string: text)))
        #expect(result.frameID == 7 && result.pts == 512 && result.timeBase == TimeBase(numerator: 1, denominator: 1000))
        #expect((result.width, result.height) == (64, 48))
        #expect(result.seconds == 0.512)
        #expect(
            result.json.description == """
                {"video_metadata":{"frame_id":7,"received_at":"2025-11-11T12:48:10.123456","pts":512,"time_base":0.001,"declared_fps":null,\
                "measured_fps":null,"width":64,"height":48},"serialized_output_data":{"predictions":{"image":{"width":64,"height":48},\
                "predictions":[]},"count":0},"errors":[]}
                """)
    }

    @Test("An answer of everyframe.v1 becomes a result with times and image", arguments: [Answer.Format.messagePack, .json])
    func frameResult(_ format: Answer.Format) {
        var answer = Answer(format: format, body: format.encode(["count": 2]))
        answer.image = Answer.Image(encoding: .jpeg, width: 4, height: 2, bytes: ByteBuffer(bytes: [1, 2]))
        answer.receivedAt = 1_762_865_290_123_456
        answer.times.infer = 5000
        answer.tries = 2
        let base = TimeBase(numerator: 1, denominator: 90_000)
        let result = StreamResult(FrameResult(sequence: 3, id: 5, picture: 3, pts: 9000, timeBase: base, captureTime: 8, digest: 1, answer: answer))
        #expect(result.frameID == 3 && result.seconds == 0.1 && result.captureTime == 8 && result.tries == 2)
        #expect(result.outputs == ["count": 2] && result.errors.isEmpty && result.times?.infer == 5000)
        #expect(result.receivedAt == "2025-11-11T12:48:10.123456")
        #expect(result.image?.encoding == .jpeg)
        #expect(!result.json.description.contains("image"))
    }

    @Test("A failure has a sentence and no outputs, with a message or without")
    func failure() {
        let base = TimeBase(numerator: 1, denominator: 0)
        func result(_ answer: Answer) -> StreamResult {
            StreamResult(FrameResult(sequence: 1, id: 1, picture: 1, pts: nil, timeBase: base, captureTime: nil, digest: 0, answer: answer))
        }
        let told = result(.failure(.undecodable, "no keyframe"))
        #expect(told.errors == ["no keyframe"] && told.outputs == nil && told.seconds == nil)
        #expect(result(Answer(status: .damaged)).errors == ["the frame arrived damaged as often as it was sent"])
        #expect(result(Answer(status: .noPicture)).errors.isEmpty)
        #expect(told.json["video_metadata"]?["time_base"]?.isNull == true)
    }

    @Test(
        "Time bases that were written as decimal numbers are fractions again",
        arguments: [(0.001, 1, 1000), (1001.0 / 30_000, 1001, 30_000), (1.0 / 90_000, 1, 90_000), (1e-6, 1, 1_000_000), (0.04, 1, 25), (1, 1, 1), (2.5, 5, 2)])
    func fractions(_ seconds: Double, _ numerator: UInt32, _ denominator: UInt32) {
        let message = ResultMessage(videoMetadata: .init(frameID: 1, receivedAt: nil, pts: 3, timeBase: seconds), outputs: nil)
        #expect(StreamResult(message).timeBase == TimeBase(numerator: numerator, denominator: denominator))
    }

    @Test("Numbers that are no time base are none", arguments: [0, -1, .nan, .infinity, 1e300, 1e-300])
    func noFraction(_ seconds: Double) {
        let message = ResultMessage(videoMetadata: .init(frameID: 1, receivedAt: nil, pts: 3, timeBase: seconds), outputs: nil)
        #expect(StreamResult(message).timeBase == nil)
    }

    @Test(
        "Times of day are right before and after 1970, and at the ends of the range",
        arguments: [
            (0, "1970-01-01T00:00:00.000000"), (-1, "1969-12-31T23:59:59.999999"), (951_782_400_000_000, "2000-02-29T00:00:00.000000"),
            (951_868_800_000_001, "2000-03-01T00:00:00.000001"), (4_107_542_399_999_999, "2100-02-28T23:59:59.999999"),
            (1_735_689_599_000_000, "2024-12-31T23:59:59.000000"),
        ])
    func clock(_ microseconds: Int64, _ text: String) {
        var answer = Answer()
        answer.receivedAt = microseconds
        let base = TimeBase(numerator: 1, denominator: 1)
        func result(_ answer: Answer) -> StreamResult {
            StreamResult(FrameResult(sequence: 1, id: 1, picture: 1, pts: 0, timeBase: base, captureTime: nil, digest: 0, answer: answer))
        }
        #expect(result(answer).receivedAt == text)
        for extreme in [Int64.min, .max] {
            answer.receivedAt = extreme
            #expect(result(answer).receivedAt?.isEmpty == false)
        }
    }
}
