import Glibc
package import NIOCore
package import Wire

extension TransportAddress {
    /// The address that NIO or the kernel reported; nil when it is no IP address.
    init?(_ address: SocketAddress) {
        switch address {
        case .v4(let v4): self.init(v4.address)
        case .v6(let v6): self.init(v6.address)
        case .unixDomainSocket: return nil
        }
    }

    init(_ address: sockaddr_in) {
        self.init(ip: .v4(UInt32(bigEndian: address.sin_addr.s_addr)), port: UInt16(bigEndian: address.sin_port))
    }

    /// An IPv4-mapped address (RFC 4291 §2.5.5.2) becomes the IPv4 address it stands for.
    init(_ address: sockaddr_in6) {
        let (high, low) = withUnsafeBytes(of: address.sin6_addr) {
            (UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)), UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
        let port = UInt16(bigEndian: address.sin6_port)
        if high == 0, low >> 32 == 0xFFFF {
            self.init(ip: .v4(UInt32(truncatingIfNeeded: low)), port: port)
        } else {
            self.init(ip: .v6(high: high, low: low), port: port)
        }
    }

    /// Calls `body` with the kernel's form of this address, built on the stack.
    func withSockAddr<Result>(_ body: (UnsafeMutableRawPointer, socklen_t) -> Result) -> Result {
        switch ip {
        case .v4(let bits):
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = bits.bigEndian
            return withUnsafeMutableBytes(of: &address) { bytes in
                guard let base = bytes.baseAddress else { preconditionFailure("a variable has an address") }
                return body(base, socklen_t(bytes.count))
            }
        case .v6(let high, let low):
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &address.sin6_addr) {
                $0.storeBytes(of: high.bigEndian, as: UInt64.self)
                $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            return withUnsafeMutableBytes(of: &address) { bytes in
                guard let base = bytes.baseAddress else { preconditionFailure("a variable has an address") }
                return body(base, socklen_t(bytes.count))
            }
        }
    }

    /// NIO's form. Allocates: not for the path of every packet.
    var socketAddress: SocketAddress {
        get throws { try SocketAddress(ipAddress: ip.description, port: Int(port)) }
    }
}

extension Instant {
    /// The clock of the event loops, which is monotonic.
    package static var now: Instant { Instant(nanoseconds: Int64(truncatingIfNeeded: NIODeadline.now().uptimeNanoseconds)) }
}

extension NIODeadline {
    package init(_ instant: Instant) { self = .uptimeNanoseconds(UInt64(max(0, instant.nanoseconds))) }
}
