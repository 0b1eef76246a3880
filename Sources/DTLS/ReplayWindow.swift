/// Which record numbers have been opened (RFC 6347 §4.1.2.6), in a ring of words as RFC 6479 describes.
///
/// Far wider than the 64 of the RFC: a path that reorders by a millisecond does so by hundreds of records at a gigabit a second.
struct ReplayWindow {
    /// Numbers this far below the highest are known; older ones are refused.
    static let width: UInt64 = 1024 - 64

    private var words: InlineArray<16, UInt64> = .init(repeating: 0)
    private var highest: UInt64 = 0

    /// True where the number may be new.
    @inline(__always)
    func admits(_ number: UInt64) -> Bool {
        if number > highest { return true }
        guard highest - number < Self.width else { return false }
        return words[Int(number >> 6 & 15)] & 1 << (number & 63) == 0
    }

    /// Remembers a number that `admits` let in and whose record proved genuine.
    @inline(__always)
    mutating func insert(_ number: UInt64) {
        if number > highest {
            // words between the old and the new head belong to older numbers
            var word = highest >> 6
            let last = number >> 6
            if last - word >= 16 { word = last - 16 }
            while word < last {
                word += 1
                words[Int(word & 15)] = 0
            }
            highest = number
        }
        words[Int(number >> 6 & 15)] |= 1 << (number & 63)
    }
}
