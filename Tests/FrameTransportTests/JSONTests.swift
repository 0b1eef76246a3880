import FrameTransport
import NIOCore
import Testing

@Suite struct JSONTests {
    @Test("RFC 8259: values are read and written back, members in order")
    func roundTrip() throws {
        let text = #"{"z":[1,-2,3.5,1e-05,true,false,null],"a":{"b":"c\"\\\n\u0001é"},"":{},"e":[]}"#
        #expect(try JSON(parsing: text).description == text)
    }

    @Test("RFC 8259 §2: white space anywhere, RFC 8259 §7: every escape")
    func spaceAndEscapes() throws {
        let json = try JSON(parsing: " \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\" } ")
        #expect(json["a"] == [1, 2])
        #expect(json["b"]?.string == "\"\\/\u{8}\u{c}\n\r\té😀")
    }

    @Test(
        "RFC 8259: what is not JSON is refused",
        arguments: [
            "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}", "\"", "\"\\", "\"\\u12\"", "\"\\x\"", "\"\n\"",
            "01", "-", "1.", "1e", "+1", ".5", "tru", "nul", "NaN", "1 2", "{}x", "\"a\"\"b\"", "1e999",
        ])
    func refused(text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
    }

    @Test("Every prefix of a text is refused")
    func prefixes() {
        let text = #"{"video_metadata":{"frame_id":123,"pts":null},"e":[{"x":1.5e3},"\u00e9"]}"#
        for length in 0..<text.utf8.count {
            #expect(throws: JSONError.self) { try JSON(parsing: ByteBuffer(bytes: Array(text.utf8.prefix(length)))) }
        }
    }

    @Test("RFC 8259 §9: nesting is bounded")
    func nesting() {
        #expect(throws: JSONError.tooDeep) { try JSON(parsing: String(repeating: "[", count: 100_000)) }
        #expect(throws: JSONError.tooDeep) { try JSON(parsing: String(repeating: "{\"a\":", count: 100_000)) }
    }

    @Test("RFC 8259 §8.1: text that is not UTF-8 is refused")
    func notUTF8() {
        #expect(throws: JSONError.self) { try JSON(parsing: ByteBuffer(bytes: [0x22, 0xff, 0xfe, 0x22])) }
    }

    @Test("Integers beyond 64 bits and lone surrogates are read, not trapped on")
    func extremes() throws {
        #expect(try JSON(parsing: "9223372036854775807") == .integer(.max))
        #expect(try JSON(parsing: "9223372036854775808").double == 9_223_372_036_854_775_808)
        #expect(try JSON(parsing: #""\ud800""#) == "\u{fffd}")
        #expect(JSON.number(.nan).description == "null")
        #expect(JSON.number(1e300).integer == nil)
    }
}
