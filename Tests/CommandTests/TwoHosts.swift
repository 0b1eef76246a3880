import Foundation
import Testing

/// Two hosts and a cable between them: network namespaces of this test's own making, which go away with it. The interfaces at both ends are called `v`.
///
/// Needs `unshare` and `ip`, and a kernel that gives unprivileged users namespaces (or a privileged user).
final class TwoHosts: Sendable {
    enum Host: String, CaseIterable { case server, client }

    private let folder: Workshop
    private let holder: pid_t
    private let pids: [Host: pid_t]

    static let isAvailable: Bool = {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["unshare", "-rnm", "sh", "-c", "ip link add v type veth peer name w && command -v nsenter"]
        (process.standardInput, process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice, FileHandle.nullDevice)
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    /// - Parameter names: lines of both hosts' `/etc/hosts`.
    init(in folder: Workshop, names: [String] = []) async throws {
        self.folder = folder
        try Data((["127.0.0.1 localhost"] + names).joined(separator: "\n").appending("\n").utf8).write(to: URL(fileURLWithPath: folder.file("hosts")))
        let script = """
            set -e
            mount --bind hosts /etc/hosts
            ip link set lo up
            unshare -n sh -c 'ip link set lo up; echo $$ > client.tmp; mv client.tmp client.pid; exec sleep 600' &
            until [ -e client.pid ]; do sleep 0.02; done
            ip link add v type veth peer name v netns "$(cat client.pid)"
            ip link set v up
            nsenter -t "$(cat client.pid)" -n ip link set v up
            echo $$ > server.tmp
            mv server.tmp server.pid
            exec sleep 600
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["unshare", "-rnm", "sh", "-c", script]
        process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        holder = process.processIdentifier
        try await eventually("the hosts are there") { FileManager.default.fileExists(atPath: folder.file("server.pid")) }
        var pids: [Host: pid_t] = [:]
        for host in Host.allCases {
            let text = try String(contentsOfFile: folder.file("\(host.rawValue).pid"), encoding: .utf8)
            let number: pid_t = try #require(Int32(text.trimmingCharacters(in: .whitespacesAndNewlines)))
            pids[host] = number
        }
        self.pids = pids
    }

    deinit {
        for pid in pids.values { kill(pid, SIGKILL) }
        kill(holder, SIGKILL)
    }

    /// What runs a command on a host.
    func prefix(_ host: Host) -> [String] { ["nsenter", "-t", "\(pids[host] ?? 0)", "-U", "-m", "-n", "--preserve-credentials", "--wd=\(folder.path)"] }

    /// `ip …` on a host; several commands with semicolons.
    func ip(_ host: Host, _ commands: String) throws {
        for command in commands.split(separator: ";") {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = prefix(host) + ["ip"] + command.split(separator: " ").map(String.init)
            process.standardInput = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0, "ip \(command)")
        }
    }

    /// Packets to that address leave the host and reach nobody, as on a network whose router is broken.
    func lose(_ host: Host, to address: String) throws {
        try ip(host, "\(address.contains(":") ? "-6 " : "")neigh replace \(address) lladdr 02:00:00:00:00:99 dev v nud permanent")
    }
}
