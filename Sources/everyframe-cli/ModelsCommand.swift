import ArgumentParser
import Inference

struct ModelsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "models", abstract: "List the models that 'serve' knows.")

    func run() {
        for entry in ModelCatalog.entries {
            let mark = entry.id == ModelCatalog.defaultID ? "  (default)" : ""
            print("\(entry.id)\(mark)\n    \(entry.summary); licence \(entry.licence); classes: \(entry.classNames.joined(separator: ", "))")
        }
        print("synthetic:MS\n    no model: answers are made up after MS milliseconds, to measure the transport")
        print("PATH\n    a model file of your own")
    }
}
