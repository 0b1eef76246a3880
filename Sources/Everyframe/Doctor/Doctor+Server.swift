import Foundation
import FrameTransport
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import WebRTCNIO
import Wire

/// Where a server listens, taken apart.
struct ServerURL: Sendable {
    let host: String
    let port: Int

    init(_ text: String) throws(StreamError) {
        guard let url = URL(string: text), let host = url.host, !host.isEmpty else {
            throw StreamError(.invalidConfiguration, "'\(text)' is not the http or https URL of a server")
        }
        self.host = host.trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        port = url.port ?? (url.scheme?.lowercased() == "https" ? 443 : 80)
    }
}

/// The steps before there is a connection.
extension Doctor {
    func resolve(_ url: ServerURL) async -> (Diagnosis.Finding, [SocketAddress]) {
        let host = url.host
        let port = url.port
        // the C library blocks: on a thread of its own
        let addresses = (try? await bounded(by: patience) { try await NIOThreadPool.singleton.runIfActive { Self.addresses(host, port) } }) ?? []
        let v4 = addresses.filter { $0.protocol == .inet }.compactMap(\.ipAddress)
        let v6 = addresses.filter { $0.protocol == .inet6 }.compactMap(\.ipAddress)
        let values: JSONObject = ["ipv4": .array(v4.map(JSON.string)), "ipv6": .array(v6.map(JSON.string))]
        guard !addresses.isEmpty else {
            return (
                .init(.dns, .failed, "there is no host named \(host)", advice: "look at the name in the URL, and at this machine's name server", values), []
            )
        }
        func list(_ addresses: [String], _ family: String) -> String { addresses.isEmpty ? "no \(family)" : "\(family) \(addresses.joined(separator: ", "))" }
        return (.init(.dns, .ok, "\(host): \(list(v4, "IPv4")); \(list(v6, "IPv6"))", values), addresses)
    }

    /// Each address by TCP, then the server by HTTP.
    func askHealth(_ url: ServerURL, _ addresses: [SocketAddress]) async -> (Diagnosis.Finding, StreamError?) {
        var values: JSONObject = [:]
        var silent: [String] = []
        var reached: [String] = []
        for address in addresses {
            let start = Instant.now
            let name = address.ipAddress ?? "\(address)"
            if let channel = try? await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connectTimeout(.seconds(3)).connect(to: address).get() {
                reached.append("\(name) in \(Self.text((Instant.now - start).inMilliseconds)) ms")
                try? await channel.close()
            } else {
                silent.append(name)
            }
        }
        values.append("tcp_reached", .integer(reached.count))
        values.append("tcp_silent", .array(silent.map(JSON.string)))
        guard !reached.isEmpty else {
            let detail = "nothing takes a connection at port \(url.port) of \(silent.joined(separator: ", "))"
            return (
                .init(
                    .http, .failed, detail,
                    advice: "start the server, look at the port, and at --host of the server: 127.0.0.1, its default, is for its own machine only", values),
                StreamError(.serverUnreachable, detail)
            )
        }
        do throws(StreamError) {
            let signalling = Signalling(configuration: configuration)
            let start = Instant.now
            let reply = try await signalling.send(.GET, try signalling.endpoint("healthz"), timeout: patience)
            let milliseconds = (Instant.now - start).inMilliseconds
            values.append("status", .integer(reply.status))
            values.append("http_ms", .number(milliseconds))
            let json = try? JSON(parsing: reply.body)
            guard reply.status == 200, json?["status"] != nil else {
                return (
                    .init(
                        .http, .warning, "HTTP \(reply.status) from /healthz, which an Everyframe server answers otherwise",
                        advice: "look whether the URL is that of an Everyframe server: host, port and path", values), nil
                )
            }
            if let model = json?["model"]?.string { values.append("model", .string(model)) }
            let words =
                "TCP \(reached.joined(separator: ", ")); healthy, in \(Self.text(milliseconds)) ms\(json?["model"]?.string.map { ", with model \($0)" } ?? "")"
            guard silent.isEmpty else {
                return (
                    .init(
                        .http, .warning, "\(words); no connection to \(silent.joined(separator: ", "))",
                        advice: "take the address that does not answer out of DNS, or have the server listen there: some clients try it first", values), nil
                )
            }
            return (.init(.http, .ok, words, values), nil)
        } catch {
            return (
                .init(.http, .failed, "\(error)", advice: "something takes TCP connections there and does not answer as HTTP: http or https? a proxy?", values),
                error
            )
        }
    }

    private static func addresses(_ host: String, _ port: Int) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "\(port)", &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = list
        while let entry = next?.pointee, found.count < 16 {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            if getnameinfo(entry.ai_addr, entry.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 {
                let ip = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                if let address = try? SocketAddress(ipAddress: ip, port: port), !found.contains(address) { found.append(address) }
            }
            next = entry.ai_next
        }
        return found
    }
}
