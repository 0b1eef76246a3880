// swift-tools-version: 6.3
import PackageDescription

// A package of its own: it sees what a user sees. Figures that need more than the public surface are taken by targets of the main package.
let package = Package(
    name: "everyframe-benchmarks",
    dependencies: [
        .package(name: "everyframe", path: ".."),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
    ],
    targets: [
        .executableTarget(
            name: "channel-worker",
            dependencies: [
                .product(name: "WebRTC", package: "everyframe"), .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: [
                .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("MemberImportVisibility"),
                .enableUpcomingFeature("InternalImportsByDefault"), .treatAllWarnings(as: .error),
            ])
    ],
    swiftLanguageModes: [.v6])
