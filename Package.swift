// swift-tools-version: 6.3
import Foundation
import PackageDescription

/// `EVERYFRAME_FUZZ=1` (Fuzz/run.sh) adds the fuzzer and builds the rooms with the coverage that guides it.
let isFuzzing = ProcessInfo.processInfo.environment["EVERYFRAME_FUZZ"] == "1"
let coverage: [SwiftSetting] = isFuzzing ? [.unsafeFlags(["-sanitize=fuzzer"])] : []

/// Settings of every room.
let house: [SwiftSetting] =
    coverage + [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableExperimentalFeature("Lifetimes"),
        .treatAllWarnings(as: .error),
    ]
/// The rooms without IO: every unsafe operation is spelled out.
let sansIO: [SwiftSetting] = house + [.strictMemorySafety()]

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let httpClient: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")

let doors: [Target] = [
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl"),
    .systemLibrary(name: "CFFmpeg", pkgConfig: "libavformat libavcodec libavutil libswscale"),
    .systemLibrary(name: "CTurboJPEG", pkgConfig: "libturbojpeg"),
    .systemLibrary(name: "CLZ4", pkgConfig: "liblz4"),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd"),
    // declarations only: the engine is loaded at run time, so that the package builds and runs without it
    .systemLibrary(name: "COpenVINO"),
    // the allocator's settings, which the Glibc module leaves out
    .systemLibrary(name: "CMalloc"),
]

let rooms: [Target] = [
    .target(name: "Wire", dependencies: [nioCore], swiftSettings: sansIO),
    .target(name: "Ciphers", dependencies: ["Wire", "COpenSSL", nioCore], swiftSettings: house),
    .target(name: "ICE", dependencies: ["Wire", "Ciphers", nioCore], swiftSettings: sansIO),
    .target(name: "DTLS", dependencies: ["Wire", "Ciphers", "COpenSSL", nioCore], swiftSettings: house),
    .target(name: "SCTP", dependencies: ["Wire", nioCore], swiftSettings: sansIO),
    .target(name: "WebRTC", dependencies: ["Wire", "Ciphers", "ICE", "DTLS", "SCTP", nioCore], swiftSettings: sansIO),
    .target(name: "WebRTCNIO", dependencies: ["Wire", "WebRTC", nioCore, nioPosix, nioSSL, logging], swiftSettings: house),
    .target(name: "FrameTransport", dependencies: ["Wire", nioCore], swiftSettings: sansIO),
    .target(name: "FrameLink", dependencies: ["Wire", "WebRTC", "WebRTCNIO", "FrameTransport", nioCore], swiftSettings: house),
    .target(name: "NetworkSimulator", dependencies: ["Wire", nioCore], swiftSettings: sansIO),
    .target(name: "Media", dependencies: ["CFFmpeg", "CTurboJPEG", "CLZ4", "CZstd"], swiftSettings: house),
    .target(name: "Inference", dependencies: ["Media", "COpenVINO"], swiftSettings: house),
    .target(name: "FrameMedia", dependencies: ["FrameTransport", "Media", nioCore], swiftSettings: house),
    .target(
        name: "EveryframeServer",
        dependencies: [
            "Wire", "WebRTC", "WebRTCNIO", "FrameTransport", "FrameLink", "FrameMedia", "Media", "Inference", nioCore, nioPosix, logging, hummingbird,
            lifecycle, metrics,
        ],
        swiftSettings: house),
    .target(
        name: "Everyframe",
        dependencies: ["Wire", "WebRTC", "WebRTCNIO", "FrameTransport", "FrameLink", "FrameMedia", "Media", nioCore, nioPosix, logging, httpClient],
        swiftSettings: house),
    .executableTarget(
        name: "everyframe-cli",
        dependencies: [
            "EveryframeServer", "Everyframe", "WebRTC", "WebRTCNIO", "FrameTransport", "Media", "Inference", "CMalloc", arguments, logging, lifecycle,
            unixSignals,
        ],
        path: "Sources/everyframe-cli",
        swiftSettings: house),
]

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: house)
}
let testTargets: [Target] = [
    tests("WireTests", ["Wire", nioCore]),
    tests("CiphersTests", ["Wire", "Ciphers", nioCore]),
    tests("ICETests", ["Wire", "Ciphers", "ICE", "NetworkSimulator", nioCore]),
    tests("DTLSTests", ["Wire", "Ciphers", "DTLS", "NetworkSimulator", nioCore]),
    tests("SCTPTests", ["Wire", "SCTP", "NetworkSimulator", "CongestionLab", nioCore]),
    tests("WebRTCTests", ["Wire", "Ciphers", "WebRTC", "ICE", "DTLS", "SCTP", "NetworkSimulator", nioCore]),
    tests("WebRTCNIOTests", ["Wire", "WebRTC", "WebRTCNIO", nioCore, nioPosix]),
    tests("FrameTransportTests", ["Wire", "FrameTransport", nioCore], exclude: ["Vectors"]),
    tests("MediaTests", ["Media"], exclude: ["Servers"]),
    tests("EveryframeTests", ["Everyframe", "FrameTransport", "Media", nioCore]),
    tests("InferenceTests", ["Media", "Inference"], exclude: ["Fixtures"]),
    tests(
        "ServerTests",
        [
            "EveryframeServer", "Everyframe", "WebRTC", "WebRTCNIO", "Wire", "Ciphers", "ICE", "FrameTransport", "Media", "Inference", nioCore, nioPosix,
            logging, lifecycle, metrics,
        ]),
    // depends on the program so that it is built: the tests run it as users do
    tests("CommandTests", ["everyframe-cli"], exclude: ["Networks"]),
    tests("FuzzTests", ["FuzzTargets", nioCore]),
    tests("InteropTests", ["Wire", "WebRTC", "WebRTCNIO", "NetworkSimulator", nioCore, nioPosix], exclude: ["Peers"]),
]

// The fuzz targets see `package` parsers, so they belong to this package; the tests replay what was found (Fuzz/README.md).
let fuzzTargets: Target = .target(
    name: "FuzzTargets",
    dependencies: ["Wire", "Ciphers", "ICE", "DTLS", "SCTP", "WebRTC", "FrameTransport", nioCore],
    path: "Fuzz/FuzzTargets",
    swiftSettings: house)
let fuzzer: Target = .executableTarget(
    name: "fuzzer",
    dependencies: ["FuzzTargets"],
    path: "Fuzz/Fuzzer",
    swiftSettings: house,
    linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])])

// Needs rooms that are not products, so it is not in the package Benchmarks.
let engineBench: Target = .executableTarget(
    name: "engine-bench", dependencies: ["Media", "Inference"], path: "Benchmarks/EngineBench", swiftSettings: house)

// The same for the congestion controllers; the tests judge by it, too.
let congestionLab: Target = .target(
    name: "CongestionLab", dependencies: ["Wire", "SCTP", "NetworkSimulator", nioCore], path: "Benchmarks/CongestionLab", swiftSettings: house)
let congestionBench: Target = .executableTarget(
    name: "congestion-bench", dependencies: ["CongestionLab", "SCTP"], path: "Benchmarks/CongestionBench", swiftSettings: house)

let package = Package(
    name: "everyframe",
    products: [
        .library(name: "WebRTC", targets: ["WebRTC", "WebRTCNIO"]),
        .library(name: "FrameTransport", targets: ["FrameTransport"]),
        .library(name: "Everyframe", targets: ["Everyframe"]),
        .library(name: "EveryframeServer", targets: ["EveryframeServer"]),
        .executable(name: "everyframe", targets: ["everyframe-cli"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.30.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.37.0"),
    ],
    targets: doors + rooms + testTargets + [fuzzTargets, engineBench, congestionLab, congestionBench] + (isFuzzing ? [fuzzer] : []),
    swiftLanguageModes: [.v6])
