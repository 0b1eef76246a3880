import ArgumentParser

@main
struct EveryframeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "everyframe",
        abstract: "Every frame of a video to a model and every result back, over WebRTC data channels.",
        version: "0.1.0",
        subcommands: [ServeCommand.self, StreamCommand.self, DoctorCommand.self, ModelsCommand.self])
}
