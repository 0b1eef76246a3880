import NIOCore
import NIOPosix
import Wire

/// Looks up one `.local` name by a one-shot multicast query (RFC 6762 §5.1): browsers hide their host addresses behind such names.
enum MulticastDNS {
    static let patience = TimeAmount.seconds(1)
    private static let group = TransportAddress(ip: .v4(0xE000_00FB), port: 5353)

    /// nil when nobody answers in time or the name is none of ours to ask for. Never fails.
    static func resolve(_ name: String, on loop: any EventLoop) -> EventLoopFuture<TransportAddress.IP?> {
        guard let query = DNSMessage.query(for: name), let target = try? group.socketAddress else { return loop.makeSucceededFuture(nil) }
        let promise = loop.makePromise(of: TransportAddress.IP?.self)
        loop.scheduleTask(in: patience) { promise.succeed(nil) }
        let channel = DatagramBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AnswerHandler(name: name, promise: promise))
                }
            }
            .bind(host: "0.0.0.0", port: 0)
        channel.whenFailure { _ in promise.succeed(nil) }
        channel.whenSuccess { channel in
            channel.writeAndFlush(AddressedEnvelope(remoteAddress: target, data: query), promise: nil)
            // asked again once: a multicast datagram over radio is easily lost
            loop.scheduleTask(in: .milliseconds(250)) {
                if channel.isActive { channel.writeAndFlush(AddressedEnvelope(remoteAddress: target, data: query), promise: nil) }
            }
            promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
        }
        return promise.futureResult
    }

    private final class AnswerHandler: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let name: String
        private let promise: EventLoopPromise<TransportAddress.IP?>

        init(name: String, promise: EventLoopPromise<TransportAddress.IP?>) {
            self.name = name
            self.promise = promise
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            if let ip = DNSMessage.address(of: name, in: unwrapInboundIn(data).data) { promise.succeed(ip) }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {}
    }
}

/// The two DNS messages (RFC 1035 §4.1) that a one-shot query needs.
///
///     | ID 16 | flags 16 | questions 16 | answers 16 | authorities 16 | additionals 16 |
enum DNSMessage {
    static func query(for name: String) -> ByteBuffer? {
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        guard name.utf8.count <= 253, labels.count >= 2, labels.last?.lowercased() == "local" else { return nil }
        var message = ByteBuffer()
        message.writeMultipleIntegers(UInt16(0), UInt16(0), UInt16(2), UInt16(0), UInt16(0), UInt16(0))
        for type: UInt16 in [1, 28] {
            for label in labels {
                guard (1...63).contains(label.utf8.count) else { return nil }
                message.writeInteger(UInt8(label.utf8.count))
                message.writeSubstring(label)
            }
            // the top bit asks for a unicast answer (RFC 6762 §5.4)
            message.writeMultipleIntegers(UInt8(0), type, UInt16(0x8001))
        }
        return message
    }

    /// The first address record of `name`; IPv4 or IPv6, whichever comes first.
    static func address(of name: String, in message: ByteBuffer) -> TransportAddress.IP? {
        var rest = message
        guard rest.readableBytes <= 9000,
            let (_, flags, questions, answers, _, _) = rest.readMultipleIntegers(as: (UInt16, UInt16, UInt16, UInt16, UInt16, UInt16).self),
            flags & 0x8000 != 0
        else { return nil }
        for _ in 0..<questions {
            guard readName(&rest, of: message) != nil, rest.readInteger(as: UInt32.self) != nil else { return nil }
        }
        for _ in 0..<answers {
            guard let owner = readName(&rest, of: message),
                let (type, _, _, length) = rest.readMultipleIntegers(as: (UInt16, UInt16, UInt32, UInt16).self),
                var data = rest.readSlice(length: Int(length))
            else { return nil }
            guard owner.lowercased() == name.lowercased() else { continue }
            if type == 1, length == 4, let bits = data.readInteger(as: UInt32.self) { return .v4(bits) }
            if type == 28, length == 16, let (high, low) = data.readMultipleIntegers(as: (UInt64, UInt64).self) { return .v6(high: high, low: low) }
        }
        return nil
    }

    /// Follows compression pointers (RFC 1035 §4.1.4), a bounded number of them.
    private static func readName(_ rest: inout ByteBuffer, of message: ByteBuffer) -> String? {
        var labels: [String] = []
        var cursor = rest
        var jumps = 0
        while let length = cursor.readInteger(as: UInt8.self) {
            switch length {
            case 0:
                if jumps == 0 { rest = cursor }
                return labels.joined(separator: ".")
            case 1...63:
                guard labels.count < 128, let label = cursor.readString(length: Int(length)) else { return nil }
                labels.append(label)
            case 192...255:
                guard let low = cursor.readInteger(as: UInt8.self) else { return nil }
                if jumps == 0 { rest = cursor }
                jumps += 1
                let offset = Int(length & 0x3F) << 8 | Int(low)
                guard jumps <= 16, offset < message.readableBytes else { return nil }
                cursor = message
                cursor.moveReaderIndex(forwardBy: offset)
            default: return nil
            }
        }
        return nil
    }
}
