import Foundation
import Media
import Synchronization
import Testing

/// Pipes, cameras and streams: sources that one waits for.
@Suite struct LiveSourceTests {
    let workshop: Workshop

    init() throws { workshop = try Workshop() }

    /// A pipe into which a thread writes `bytes`; it stays open when `isEndless`.
    private func pipe(_ bytes: [UInt8], isEndless: Bool = false) -> Pipe {
        let pipe = Pipe()
        Thread.detachNewThread { [handle = pipe.fileHandleForWriting] in
            try? handle.write(contentsOf: Data(bytes))
            if !isEndless { try? handle.close() }
        }
        return pipe
    }

    @Test(
        "Pictures through a pipe are those of the file",
        arguments: [
            ("a.mjpeg", "mjpeg", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]), ("a.y4m", "yuv4mpegpipe", ["-pix_fmt", "yuv420p"]),
            ("a.ts", "mpegts", Coding.openGOP), ("a.mkv", "matroska", Coding.openGOP),
            ("a.h264", "h264", Coding.x264),
        ])
    func pipes(_ name: String, _ format: String, _ codec: [String]) throws {
        let path = try workshop.make(name, seconds: 0.8, codec)
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let expected = try allFrames(path).map { Shown($0) }
        for format in [format, nil] {
            let pipe = pipe(bytes)
            let crossing = try Crossing(.descriptor(pipe.fileHandleForReading.fileDescriptor, format: format))
            // the times of raw pictures are those of the container's choice
            if name == "a.mjpeg" {
                #expect(crossing.shown.map(\.checksum) == expected.map(\.checksum), "\(format ?? "probed")")
            } else {
                #expect(firstDifference(crossing.shown, expected) == nil, "\(name) \(format ?? "probed")")
            }
            withExtendedLifetime(pipe) {}
        }
    }

    @Test("A named pipe is read like one")
    func namedPipe() throws {
        let path = try workshop.make("a.mjpeg", seconds: 0.4, ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"])
        let fifo = workshop.path("pipe")
        try #require(mkfifo(fifo, 0o600) == 0)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        Thread.detachNewThread {
            let handle = FileHandle(forWritingAtPath: fifo)
            try? handle?.write(contentsOf: bytes)
            try? handle?.close()
        }
        #expect(try Crossing(.file(fifo)).pictures.count == 10)
    }

    @Test("What a pipe cannot hold, and names that are no containers, are told")
    func badPipes() throws {
        let junk = pipe(Array("no video at all".utf8))
        #expect(throws: MediaError.self) { try PacketReader(.descriptor(junk.fileHandleForReading.fileDescriptor, format: nil)) }
        for name in ["nonsense", "hls", "concat", "rtsp", "lavfi", "sdp", ""] {
            #expect {
                try PacketReader(.descriptor(0, format: name))
            } throws: { error in
                if case .badLocation = error as? MediaError { true } else { false }
            }
        }
        #expect(throws: MediaError.self) { try PacketReader(.descriptor(-1, format: "mjpeg")) }
    }

    @Test("Cancelling ends a wait, before the first picture and between two", arguments: [false, true])
    func cancelling(hasBegun: Bool) throws {
        let path = try workshop.make("a.mjpeg", seconds: 0.4, ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"])
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let pipe = pipe(hasBegun ? bytes : [], isEndless: true)
        let cancellation = Cancellation()
        let read = Atomic(0)
        // long enough to be waiting on any machine; were it not, it would only be an easier test
        Thread.detachNewThread {
            usleep(200_000)
            cancellation.cancel()
        }
        #expect(throws: MediaError.cancelled) {
            // a bound for the case that it does not work
            let reader = try PacketReader(
                .descriptor(pipe.fileHandleForReading.fileDescriptor, format: "mjpeg"), options: .init(readTimeout: 30, cancellation: cancellation))
            while try reader.next() != nil { read.add(1, ordering: .relaxed) }
        }
        #expect(hasBegun || read.load(ordering: .relaxed) == 0)
        #expect(throws: MediaError.cancelled) {
            try PacketReader(.file(path), options: .init(cancellation: cancellation))
        }
        withExtendedLifetime(pipe) {}
    }

    @Test("Silence ends after the time that was set")
    func timeout() throws {
        let pipe = pipe([], isEndless: true)
        #expect(throws: MediaError.timedOut(location: "descriptor \(pipe.fileHandleForReading.fileDescriptor)", seconds: 0.2)) {
            try PacketReader(.descriptor(pipe.fileHandleForReading.fileDescriptor, format: "mjpeg"), options: .init(readTimeout: 0.2))
        }
        withExtendedLifetime(pipe) {}
    }

    @Test("A stream over RTSP is that of the file, unit by unit")
    func rtsp() throws {
        let path = try workshop.make("a.h264", seconds: 1.2, Coding.x264 + ["-bf", "0", "-g", "10"])
        let server = try RTSPServer("play", path)
        let crossing = try Crossing(.url(server.url), options: .init(readTimeout: 20))
        let expected = try allFrames(path).map { Shown($0) }
        #expect(crossing.shown.map(\.checksum) == expected.map(\.checksum))
        let times = crossing.pictures.map(\.frame.seconds)
        #expect(zip(times, times.dropFirst()).allSatisfy { abs($1 - $0 - 0.04) < 1e-6 }, "\(times)")
        let reader = try PacketReader(.url(server.url), options: .init(readTimeout: 20))
        #expect(reader.isLive)
        #expect(reader.info.width == 160 && reader.info.codec == "h264" && reader.info.container == "rtsp")
    }

    @Test("A server that refuses, is silent, breaks off or sends elsewhere is told from the others")
    func rtspErrors() throws {
        let path = try workshop.make("a.h264", seconds: 1.2, Coding.x264 + ["-bf", "0", "-g", "10"])
        for (mode, words) in [("401", "401"), ("404", "404"), ("udp", ""), ("redirect", "")] {
            let server = try RTSPServer(mode, path)
            #expect {
                try PacketReader(.url(server.url), options: .init(readTimeout: 20))
            } throws: { error in
                guard case .cannotOpen(let location, let reason) = error as? MediaError else { return false }
                // neither name nor password of the URL
                return !location.contains("secret") && (words.isEmpty || reason.contains(words))
            }
        }
        for mode in ["mute", "silent"] {
            let server = try RTSPServer(mode, path)
            #expect {
                try PacketReader(.url(server.url), options: .init(readTimeout: 0.5))
            } throws: { error in
                if case .timedOut = error as? MediaError { true } else { false }
            }
        }
        let stalled = try RTSPServer("stall", path)
        let reader = try PacketReader(.url(stalled.url), options: .init(readTimeout: 1))
        var count = 0
        #expect(throws: MediaError.timedOut(location: String(stalled.url.replacing("user:secret@", with: "")), seconds: 1)) {
            while try reader.next() != nil { count += 1 }
        }
        #expect((10...15).contains(count))

        let broken = try RTSPServer("drop", path)
        #expect((14...15).contains(try Crossing(.url(broken.url), options: .init(readTimeout: 20)).pictures.count))
    }

    @Test("Cancelling ends a wait for a server, too")
    func rtspCancel() throws {
        let path = try workshop.make("a.h264", seconds: 0.4, Coding.x264)
        for mode in ["mute", "silent"] {
            let server = try RTSPServer(mode, path)
            let cancellation = Cancellation()
            Thread.detachNewThread {
                usleep(300_000)
                cancellation.cancel()
            }
            #expect(throws: MediaError.cancelled) {
                try PacketReader(.url(server.url), options: .init(readTimeout: 30, cancellation: cancellation))
            }
        }
    }

    @Test(
        "Nothing but RTSP is reached by a URL, and nothing else than TCP",
        arguments: [
            "http://127.0.0.1/x", "file:///etc/passwd", "/etc/passwd", "RTSP://127.0.0.1/x", "rtsp:/127.0.0.1", "rtspx://127.0.0.1/", "concat:a|b",
            "rtsp://127.0.0.1:9/x?udp",
            "rtsp://127.0.0.1:9/x?listen", "rtsp://127.0.0.1:9/x?a=b&multicast", "", "rtsp",
        ])
    func otherURLs(_ url: String) {
        #expect {
            try PacketReader(.url(url), options: .init(readTimeout: 5))
        } throws: { error in
            if case .badLocation = error as? MediaError { true } else { false }
        }
    }

    @Test("A playlist in the place of a video reaches no other file")
    func playlists() throws {
        let video = try workshop.make("a.ts", seconds: 0.4, Coding.x264)
        for (name, text) in [
            ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n\(video)\n#EXT-X-ENDLIST\n"),
            ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n"),
            ("list.ffconcat", "ffconcat version 1.0\nfile a.ts\n"),
            ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
        ] {
            let path = try workshop.write(Array(text.utf8), as: name)
            #expect(throws: MediaError.self) { try PacketReader(.file(path)) }
        }
    }

    @Test("Secrets of a URL are not shown")
    func secrets() {
        let shown: [(String, String)] = [
            ("rtsp://user:secret@host/a", "rtsp://host/a"), ("rtsp://user:se/cr@et@host:554/a", "rtsp://host:554/a"),
            ("rtsp://host/a?user=x&password=y", "rtsp://host/a"),
            ("rtsp://host", "rtsp://host"), ("rtsp://", "rtsp://"), ("nonsense", "nonsense"),
        ]
        for (url, text) in shown { #expect(MediaLocation.url(url).description == text) }
        #expect(MediaLocation.standardInput().description == "standard input")
    }

    @Test("A camera that is not there, and a file that is none")
    func devices() throws {
        #expect(throws: MediaError.fileNotFound(path: "/dev/video4711")) { try PacketReader(.device(.init(path: "/dev/video4711"))) }
        let file = try workshop.write([1, 2, 3], as: "no camera")
        #expect {
            try PacketReader(.device(.init(path: file, format: "mjpeg", width: 640, height: 480, frameRate: 30)))
        } throws: { error in
            if case .cannotOpen = error as? MediaError { true } else { false }
        }
    }
}

/// The server in `Servers/rtsp_server.py`, ended by its own process identifier.
private final class RTSPServer {
    let url: String
    private let process = Process()

    init(_ mode: String, _ path: String) throws {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Servers/rtsp_server.py").path
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3", "-u", script, mode, path]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        // the port, in one write
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        url = "rtsp://user:secret@127.0.0.1:\(try #require(Int(line.filter(\.isNumber))))/camera"
    }

    deinit {
        // asked kindly it might not hear: children inherit the signals that the test's threads block
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}
