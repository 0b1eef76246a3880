import Logging

/// A few connections to one server that many sources share: in parallel, and one after the other without setting up anew.
///
///     let pool = try EveryframeClient(configuration: .init(server: "http://127.0.0.1:9001")).pool(size: 2)
///     async let first = pool.run(VideoSource.file("a.mp4")) { … }
///     async let second = pool.run(VideoSource.file("b.mp4")) { … }
///     …
///     await pool.close()
public actor EveryframePool {
    private let client: EveryframeClient
    private let size: Int
    private let log: Logger
    private var links: [(link: ServerLink, jobs: Int)] = []
    private var isClosed = false

    init(client: EveryframeClient, size: Int, logger: Logger) {
        self.client = client
        self.size = max(1, size)
        log = logger
    }

    /// Streams a whole source over the connection that has the fewest; as `EveryframeClient.run`.
    public func run(_ source: some FrameSource, handlers: EveryframeClient.Handlers = .init()) async throws(StreamError) -> StreamSummary {
        guard !isClosed else { throw StreamError(.cancelled, "the pool is closed") }
        let link = await take()
        let result: Result<StreamSummary, StreamError>
        do throws(StreamError) { result = .success(try await client.run(source, over: link, handlers)) } catch { result = .failure(error) }
        await giveBack(link)
        return try result.get()
    }

    public func run(
        _ source: some FrameSource, onResult: @escaping @Sendable (StreamResult) async throws -> Void
    ) async throws(StreamError) -> StreamSummary {
        var handlers = EveryframeClient.Handlers()
        handlers.onResult = onResult
        return try await run(source, handlers: handlers)
    }

    /// Connections that are open or being opened.
    public var connections: Int { links.count }

    /// Ends what still runs, and the connections.
    public func close() async {
        isClosed = true
        let open = links
        links = []
        for entry in open { await entry.link.close() }
    }

    private func take() async -> ServerLink {
        // an idle one first, then a new one, then the least busy
        if let index = links.indices.min(by: { links[$0].jobs < links[$1].jobs }), links[index].jobs == 0 || links.count >= size {
            links[index].jobs += 1
            return links[index].link
        }
        let link = ServerLink(configuration: client.configuration, logger: log)
        links.append((link, 1))
        return link
    }

    private func giveBack(_ link: ServerLink) async {
        guard let index = links.firstIndex(where: { $0.link === link }) else { return }
        links[index].jobs -= 1
        // one that found no server is of no more use
        guard await link.failure != nil, let index = links.firstIndex(where: { $0.link === link }) else { return }
        links.remove(at: index)
        await link.close()
    }
}
