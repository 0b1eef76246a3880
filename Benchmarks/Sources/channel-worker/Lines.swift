import Glibc

/// The line protocol's text: what goes out, what comes in, and what the kernel knows about this process.
enum Lines {
    /// `@WORD WORD …` on standard output, in one piece.
    static func emit(_ words: Any...) {
        write("@" + words.map { "\($0)" }.joined(separator: " ") + "\n")
    }

    static func emit(_ word: String, list: [UInt32]) {
        write("@" + word + " " + list.map(String.init).joined(separator: " ") + "\n")
    }

    static func fail(_ text: String) -> Never {
        emit("error", text.split(whereSeparator: \.isNewline).joined(separator: " "))
        _exit(1)
    }

    /// Text travels as hexadecimal; a dash is the empty text.
    static func hex(_ text: String) -> String {
        let digits = Array("0123456789abcdef".utf8)
        if text.isEmpty { return "-" }
        return String(decoding: text.utf8.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    static func text(hex: Substring) -> String {
        if hex == "-" { return "" }
        var bytes: [UInt8] = []
        var rest = hex
        while rest.count >= 2, let byte = UInt8(rest.prefix(2), radix: 16) {
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Standard input line by line, from a thread of its own. Ends with the input.
    static func commands() -> AsyncStream<[Substring]> {
        let (stream, continuation) = AsyncStream<[Substring]>.makeStream()
        detachThread {
            while let line = readLine() { continuation.yield(line.split(separator: " ")) }
            continuation.finish()
        }
        return stream
    }

    /// Ends the process with an error after so many seconds, whatever else it does.
    static func limitLife(to seconds: Double) {
        detachThread {
            sleep(UInt32(seconds))
            fail("deadline of \(seconds) s reached")
        }
    }

    /// CLOCK_MONOTONIC in nanoseconds.
    static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// User and system time of this process, in seconds.
    static var cpuSeconds: Double {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
    }

    /// Peak resident size in KiB.
    static var peakKB: Int {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        return usage.ru_maxrss
    }

    /// Resident size in KiB now.
    static var residentKB: Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let text = line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        let fields = String(decoding: text, as: UTF8.self).split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) / 1024 : 0
    }

    private static func write(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(1, $0.baseAddress, $0.count) }
            if count <= 0 { _exit(1) }
            rest = rest.dropFirst(count)
        }
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private static func detachThread(_ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(Body(body)).toOpaque()
        let code = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            }, context)
        if code != 0 { fail("no thread: \(code)") }
        pthread_detach(thread)
    }
}
