import FuzzTargets
import Glibc
import NIOCore

/// libFuzzer's way in for programs that have a `main` of their own (its FuzzerInterface.h).
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argumentCount: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ testOneInput: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// Set once, before the driver starts; a C function cannot capture it.
nonisolated(unsafe) private var target: FuzzTarget?

/// Takes libFuzzer's options and folders. Which target runs is said by EVERYFRAME_FUZZ_TARGET, not by an argument: libFuzzer starts itself again
/// with the arguments it was given.
@main struct Fuzzer {
    static func main() {
        let names = FuzzTarget.all.map(\.name)
        let name = getenv("EVERYFRAME_FUZZ_TARGET").map { String(cString: $0) } ?? ""
        target = FuzzTarget.named(name)
        guard target != nil else {
            print(names.joined(separator: "\n"))
            exit(name.isEmpty ? 0 : 2)
        }
        var count = CommandLine.argc
        var arguments = CommandLine.unsafeArgv
        exit(
            runDriver(&count, &arguments) { start, count in
                target?.run(ByteBuffer(bytes: UnsafeRawBufferPointer(start: start, count: count)))
                return 0
            })
    }
}
