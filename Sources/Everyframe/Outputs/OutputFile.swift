import Glibc
import NIOCore

/// A file that is written from the beginning to the end, through a buffer; `-` is standard output.
final class OutputFile {
    let path: String
    private var descriptor: Int32
    private var buffer = ByteBuffer()
    /// Standard output shows each record at once, and stays open.
    private let isStandardOutput: Bool
    private static let capacity = 64 << 10

    /// Creates the file, or empties the one that is there.
    init(path: String) throws(OutputError) {
        self.path = path
        isStandardOutput = path == "-"
        descriptor = isStandardOutput ? STDOUT_FILENO : Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Self.failure(path, errno) }
    }

    /// A file without a name, beside `path` where that is possible: it goes away with the process whatever happens to it.
    init(besides path: String) throws(OutputError) {
        self.path = path
        isStandardOutput = false
        descriptor = -1
        // devices have their own folder, where no files belong
        for place in path == "-" || path.hasPrefix("/dev/") ? ["/tmp/everyframe"] : [path, "/tmp/everyframe"] where descriptor < 0 {
            var template = Array((place + ".XXXXXX").utf8CString)
            descriptor = mkstemp(&template)
            guard descriptor >= 0 else { continue }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            unlink(template)
        }
        guard descriptor >= 0 else { throw Self.failure(path, errno) }
    }

    private init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
        isStandardOutput = false
    }

    /// A file of lines, to be written behind the last whole one. What a process that was killed left of a line goes away.
    /// - Returns: that line, nil where there is none.
    static func continuing(_ path: String) throws(OutputError) -> (file: OutputFile, last: ByteBuffer?) {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw failure(path, errno) }
        let file = OutputFile(path: path, descriptor: descriptor)
        let size = Int(lseek(descriptor, 0, SEEK_END))
        guard size >= 0 else { throw failure(path, errno) }
        // the last line and a cut one behind it are in a tail that grows until they are
        var length = min(size, capacity)
        while true {
            var tail = [UInt8](repeating: 0, count: length)
            let count = length == 0 ? 0 : pread(descriptor, &tail, length, off_t(size - length))
            guard count == length else { throw failure(path, count < 0 ? errno : EIO) }
            let end = tail.lastIndex(of: UInt8(ascii: "\n"))
            let begin = end.flatMap { tail[..<$0].lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } }
            guard begin != nil || length == size else {
                length = min(size, length * 2)
                continue
            }
            let keep = end.map { size - length + $0 + 1 } ?? 0
            guard ftruncate(descriptor, off_t(keep)) == 0, lseek(descriptor, 0, SEEK_END) >= 0 else { throw failure(path, errno) }
            return (file, end.map { ByteBuffer(bytes: tail[(begin ?? 0)..<$0]) })
        }
    }

    deinit { closeDescriptor() }

    /// Makes sure that a file of that name can be written; what is in it stays.
    /// - Returns: whether the file is new.
    @discardableResult
    static func check(_ path: String) throws(OutputError) -> Bool {
        var isNew = true
        var descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        if descriptor < 0, errno == EEXIST {
            isNew = false
            descriptor = Glibc.open(path, O_WRONLY | O_CLOEXEC)
        }
        guard descriptor >= 0 else { throw failure(path, errno) }
        Glibc.close(descriptor)
        return isNew
    }

    /// `append` adds a record to what is written next.
    func write(_ append: (inout ByteBuffer) -> Void) throws(OutputError) {
        guard descriptor >= 0 else { throw OutputError(path: path, reason: "it is finished") }
        append(&buffer)
        if isStandardOutput || buffer.readableBytes >= Self.capacity { try flush() }
    }

    func write(_ text: String) throws(OutputError) {
        try write { $0.writeString(text) }
    }

    /// What was written so far, piece by piece, to another file.
    func copy(to other: OutputFile) throws(OutputError) {
        try flush()
        guard lseek(descriptor, 0, SEEK_SET) == 0 else { throw Self.failure(path, errno) }
        var bytes = [UInt8](repeating: 0, count: Self.capacity)
        while true {
            let count = read(descriptor, &bytes, bytes.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure(path, errno) }
            if count == 0 { return }
            try other.write { $0.writeBytes(bytes[..<count]) }
        }
    }

    func close() throws(OutputError) {
        guard descriptor >= 0 else { return }
        defer { closeDescriptor() }
        try flush()
        // some file systems say only here that there was no room
        if !isStandardOutput {
            let code = Glibc.close(descriptor)
            descriptor = -1
            guard code == 0 else { throw Self.failure(path, errno) }
        }
    }

    func flush() throws(OutputError) {
        while buffer.readableBytes > 0 {
            let descriptor = descriptor
            let count = buffer.withUnsafeReadableBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure(path, errno) }
            buffer.moveReaderIndex(forwardBy: count)
        }
        buffer.clear(minimumCapacity: Self.capacity)
    }

    private func closeDescriptor() {
        if !isStandardOutput, descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    private static func failure(_ path: String, _ code: Int32) -> OutputError { OutputError(path: path, reason: String(cString: strerror(code))) }
}
