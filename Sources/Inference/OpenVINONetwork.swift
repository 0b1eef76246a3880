import COpenVINO

/// A model compiled for a device, with colour conversion in its graph: it takes BGR bytes as decoders write them.
final class OpenVINONetwork: @unchecked Sendable {
    let library: OpenVINOLibrary
    let optimalRequests: Int
    let deviceName: String
    // freed in deinit; the engine's objects may be used from every thread
    private let core: OpaquePointer
    private let compiled: OpaquePointer

    private static let device = "CPU"

    /// - Parameters:
    ///   - outputs: names the graph must have.
    ///   - inputSize: the only size of pictures it will be given, for which the engine makes a faster network; nil: any.
    init(path: String, outputs: [String], inputSize: PictureSize?, options: ModelOptions) throws(InferenceError) {
        let library = try OpenVINOLibrary.shared.get()
        let call = Calls(library: library, path: path)
        let functions = library.functions
        let core = try call.make("starting the engine") { functions.pointee.core_create($0) }
        do throws(InferenceError) {
            let model = try call.make("reading") { functions.pointee.core_read_model(core, path, nil, $0) }
            defer { functions.pointee.model_free(model) }
            try Self.check(model, outputs, call)
            let converting = try Self.takingBGR(model, call)
            defer { functions.pointee.model_free(converting) }
            if let inputSize { try Self.fix(inputSize, batch: options.batchSize, of: converting, call) }
            compiled = try Self.compile(converting, core, options, call)
        } catch {
            functions.pointee.core_free(core)
            throw error
        }
        self.core = core
        self.library = library
        var text: UnsafeMutablePointer<CChar>?
        optimalRequests =
            functions.pointee.compiled_model_get_property(compiled, "OPTIMAL_NUMBER_OF_INFER_REQUESTS", &text) == 0
            ? max(1, library.takeString(&text).flatMap { Int($0) } ?? 1) : 1
        deviceName =
            functions.pointee.core_get_property(core, Self.device, "FULL_DEVICE_NAME", &text) == 0
            ? library.takeString(&text)?.split(separator: " ").joined(separator: " ") ?? Self.device : Self.device
    }

    deinit {
        library.functions.pointee.compiled_model_free(compiled)
        library.functions.pointee.core_free(core)
    }

    func makeRequest() throws(InferenceError) -> OpaquePointer {
        try Calls(library: library, path: "").make("making a request") {
            library.functions.pointee.compiled_model_create_infer_request(compiled, $0)
        }
    }

    private static func check(_ model: OpaquePointer, _ outputs: [String], _ call: Calls) throws(InferenceError) {
        let functions = call.library.functions
        var inputs = 0
        try call.check("looking at its inputs", functions.pointee.model_inputs_size(model, &inputs))
        guard inputs == 1 else { throw .modelUnsupported(path: call.path, reason: "it has \(inputs) inputs instead of one picture") }
        for name in outputs {
            var port: OpaquePointer?
            guard functions.pointee.model_const_output_by_name(model, name, &port) == 0, let port else {
                throw .modelUnsupported(path: call.path, reason: "it has no output '\(name)'; known are TensorFlow detection graphs")
            }
            functions.pointee.output_const_port_free(port)
        }
    }

    /// The graph takes RGB; the swap becomes its first step.
    private static func takingBGR(_ model: OpaquePointer, _ call: Calls) throws(InferenceError) -> OpaquePointer {
        let functions = call.library.functions
        let builder = try call.make("preparing") { functions.pointee.preprocess_prepostprocessor_create(model, $0) }
        defer { functions.pointee.preprocess_prepostprocessor_free(builder) }
        let input = try call.make("preparing") { functions.pointee.preprocess_prepostprocessor_get_input_info(builder, $0) }
        defer { functions.pointee.preprocess_input_info_free(input) }
        let tensor = try call.make("preparing") { functions.pointee.preprocess_input_info_get_tensor_info(input, $0) }
        defer { functions.pointee.preprocess_input_tensor_info_free(tensor) }
        let modelInput = try call.make("preparing") { functions.pointee.preprocess_input_info_get_model_info(input, $0) }
        defer { functions.pointee.preprocess_input_model_info_free(modelInput) }
        let steps = try call.make("preparing") { functions.pointee.preprocess_input_info_get_preprocess_steps(input, $0) }
        defer { functions.pointee.preprocess_preprocess_steps_free(steps) }
        let layout = try call.make("preparing") { functions.pointee.layout_create("NHWC", $0) }
        defer { functions.pointee.layout_free(layout) }

        let (u8, bgr, rgb) = (UInt32(everyframe_ov_u8), UInt32(everyframe_ov_bgr), UInt32(everyframe_ov_rgb))
        try call.check("preparing", functions.pointee.preprocess_input_tensor_info_set_element_type(tensor, u8))
        try call.check("preparing", functions.pointee.preprocess_input_tensor_info_set_layout(tensor, layout))
        try call.check("preparing", functions.pointee.preprocess_input_tensor_info_set_color_format(tensor, bgr))
        try call.check("preparing", functions.pointee.preprocess_input_model_info_set_layout(modelInput, layout))
        try call.check("preparing", functions.pointee.preprocess_preprocess_steps_convert_color(steps, rgb))
        return try call.make("preparing") { functions.pointee.preprocess_prepostprocessor_build(builder, $0) }
    }

    private static func fix(_ size: PictureSize, batch: Int, of model: OpaquePointer, _ call: Calls) throws(InferenceError) {
        let functions = call.library.functions
        let (height, width) = (Int64(size.height), Int64(size.width))
        let dimensions = [
            ov_dimension_t(min: 1, max: Int64(max(1, batch))), ov_dimension_t(min: height, max: height), ov_dimension_t(min: width, max: width),
            ov_dimension_t(min: 3, max: 3),
        ]
        var shape = ov_partial_shape_t()
        try call.check("preparing", functions.pointee.partial_shape_create(4, dimensions, &shape))
        defer { functions.pointee.partial_shape_free(&shape) }
        try call.check("preparing", functions.pointee.model_reshape_single_input(model, shape))
    }

    private static func compile(
        _ model: OpaquePointer, _ core: OpaquePointer, _ options: ModelOptions, _ call: Calls
    ) throws(InferenceError) -> OpaquePointer {
        var settings = [("PERFORMANCE_HINT", "THROUGHPUT")]
        if let requests = options.requestsInFlight { settings.append(("PERFORMANCE_HINT_NUM_REQUESTS", String(max(1, requests)))) }
        if let threads = options.threads { settings.append(("INFERENCE_NUM_THREADS", String(max(1, threads)))) }
        if options.exact { settings.append(("INFERENCE_PRECISION_HINT", "f32")) }
        // the engine wants C strings that live through the call
        let texts = settings.map { (copy($0.0), copy($0.1)) }
        defer { for (key, value) in texts { key.deallocate(); value.deallocate() } }
        let properties = texts.map { ov_property_t(key: $0.0, value: UnsafeRawPointer($0.1)) }
        return try call.make("compiling") {
            call.library.functions.pointee.core_compile_model_props(core, model, device, properties.count, properties, $0)
        }
    }

    private static func copy(_ text: String) -> UnsafeMutablePointer<CChar> {
        let bytes = text.utf8CString
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        for (index, byte) in bytes.enumerated() { copy[index] = byte }
        return copy
    }
}

extension OpenVINOLibrary {
    /// The engine's string as ours; theirs is freed.
    fileprivate func takeString(_ text: inout UnsafeMutablePointer<CChar>?) -> String? {
        guard let pointer = text else { return nil }
        defer {
            functions.pointee.free(pointer)
            text = nil
        }
        return String(cString: pointer)
    }
}

/// Statuses as errors.
private struct Calls {
    let library: OpenVINOLibrary
    let path: String

    func check(_ step: String, _ status: ov_status_e) throws(InferenceError) {
        guard status == 0 else { throw .modelUnreadable(path: path, reason: "\(step) failed: \(library.message(status))") }
    }

    /// Calls a function that hands out an object.
    func make(_ step: String, _ body: (UnsafeMutablePointer<OpaquePointer?>) -> ov_status_e) throws(InferenceError) -> OpaquePointer {
        var made: OpaquePointer?
        try check(step, body(&made))
        guard let made else { throw .modelUnreadable(path: path, reason: "\(step) gave nothing") }
        return made
    }
}
