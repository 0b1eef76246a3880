/// A bounded line between one task that makes things and one that takes them.
actor Handoff<Element: Sendable, Failure: Error> {
    private let capacity: Int
    private var elements: [Element] = []
    private var end: Result<Void, Failure>?
    private var putter: CheckedContinuation<Void, Never>?
    private var taker: CheckedContinuation<Void, Never>?

    init(capacity: Int) { self.capacity = max(1, capacity) }

    /// Adds an element when there is room. False: nobody takes any more.
    func put(_ element: Element) async -> Bool {
        while end == nil, elements.count >= capacity { await withCheckedContinuation { putter = $0 } }
        guard end == nil else { return false }
        elements.append(element)
        wake(&taker)
        return true
    }

    /// Adds an element and waits until somebody has taken it. False: nobody did.
    func hand(_ element: Element) async -> Bool {
        guard await put(element) else { return false }
        while end == nil, !elements.isEmpty { await withCheckedContinuation { putter = $0 } }
        return elements.isEmpty
    }

    /// The next element; nil at the end.
    func next() async throws(Failure) -> Element? {
        while elements.isEmpty, end == nil { await withCheckedContinuation { taker = $0 } }
        guard elements.isEmpty else {
            let element = elements.removeFirst()
            wake(&putter)
            return element
        }
        try end?.get()
        return nil
    }

    /// What is inside can still be taken.
    func finish(_ result: Result<Void, Failure> = .success(())) {
        guard end == nil else { return }
        end = result
        wake(&putter)
        wake(&taker)
    }

    /// Nothing more is taken; answers with what was left.
    func abandon() -> [Element] {
        finish()
        defer { elements = [] }
        return elements
    }

    private func wake(_ waiter: inout CheckedContinuation<Void, Never>?) {
        waiter?.resume()
        waiter = nil
    }
}
