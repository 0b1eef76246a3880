#pragma once
// The part of OpenVINO's C interface that Inference calls, declared here and looked up at run time with dlsym: neither its headers nor its
// library are needed to build, and nothing needs an rpath. Names and types are those of OpenVINO 2026; a test compiles the list below
// against the installed header, with EVERYFRAME_OPENVINO_HEADER defined, so that a difference cannot go unseen.
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wnullability-completeness"

#ifndef EVERYFRAME_OPENVINO_HEADER
typedef int ov_status_e;
typedef unsigned int ov_element_type_e;
typedef unsigned int ov_color_format_e;
typedef struct ov_core ov_core_t;
typedef struct ov_model ov_model_t;
typedef struct ov_compiled_model ov_compiled_model_t;
typedef struct ov_infer_request ov_infer_request_t;
typedef struct ov_tensor ov_tensor_t;
typedef struct ov_layout ov_layout_t;
typedef struct ov_output_const_port ov_output_const_port_t;
typedef struct ov_preprocess_prepostprocessor ov_preprocess_prepostprocessor_t;
typedef struct ov_preprocess_input_info ov_preprocess_input_info_t;
typedef struct ov_preprocess_input_tensor_info ov_preprocess_input_tensor_info_t;
typedef struct ov_preprocess_input_model_info ov_preprocess_input_model_info_t;
typedef struct ov_preprocess_preprocess_steps ov_preprocess_preprocess_steps_t;
typedef struct { int64_t rank; int64_t *dims; } ov_shape_t;
typedef struct ov_dimension { int64_t min; int64_t max; } ov_dimension_t;
typedef struct ov_partial_shape { ov_dimension_t rank; ov_dimension_t *dims; } ov_partial_shape_t;
typedef struct { const char *key; const void *value; } ov_property_t;
typedef struct { void (*callback_func)(void *); void *args; } ov_callback_t;
typedef struct ov_version { const char *buildNumber; const char *description; } ov_version_t;
#endif

enum { everyframe_ov_f32 = 4, everyframe_ov_u8 = 16 };
enum { everyframe_ov_rgb = 5, everyframe_ov_bgr = 6 };

// OPENVINO_FUNCTION(result, name without "ov_", parameters)
#define OPENVINO_FUNCTIONS \
    OPENVINO_FUNCTION(ov_status_e, get_openvino_version, (ov_version_t *)) \
    OPENVINO_FUNCTION(void, version_free, (ov_version_t *)) \
    OPENVINO_FUNCTION(const char *, get_error_info, (ov_status_e)) \
    OPENVINO_FUNCTION(const char *, get_last_err_msg, (void)) \
    OPENVINO_FUNCTION(void, free, (const char *)) \
    OPENVINO_FUNCTION(ov_status_e, core_create, (ov_core_t **)) \
    OPENVINO_FUNCTION(void, core_free, (ov_core_t *)) \
    OPENVINO_FUNCTION(ov_status_e, core_get_property, (const ov_core_t *, const char *, const char *, char **)) \
    OPENVINO_FUNCTION(ov_status_e, core_read_model, (const ov_core_t *, const char *, const char *, ov_model_t **)) \
    OPENVINO_FUNCTION(ov_status_e, core_compile_model_props, \
        (const ov_core_t *, const ov_model_t *, const char *, const size_t, const ov_property_t *, ov_compiled_model_t **)) \
    OPENVINO_FUNCTION(void, model_free, (ov_model_t *)) \
    OPENVINO_FUNCTION(ov_status_e, model_reshape_single_input, (const ov_model_t *, const ov_partial_shape_t)) \
    OPENVINO_FUNCTION(ov_status_e, partial_shape_create, (const int64_t, const ov_dimension_t *, ov_partial_shape_t *)) \
    OPENVINO_FUNCTION(void, partial_shape_free, (ov_partial_shape_t *)) \
    OPENVINO_FUNCTION(ov_status_e, model_inputs_size, (const ov_model_t *, size_t *)) \
    OPENVINO_FUNCTION(ov_status_e, model_const_output_by_name, (const ov_model_t *, const char *, ov_output_const_port_t **)) \
    OPENVINO_FUNCTION(void, output_const_port_free, (ov_output_const_port_t *)) \
    OPENVINO_FUNCTION(ov_status_e, layout_create, (const char *, ov_layout_t **)) \
    OPENVINO_FUNCTION(void, layout_free, (ov_layout_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_prepostprocessor_create, (const ov_model_t *, ov_preprocess_prepostprocessor_t **)) \
    OPENVINO_FUNCTION(void, preprocess_prepostprocessor_free, (ov_preprocess_prepostprocessor_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_prepostprocessor_get_input_info, \
        (const ov_preprocess_prepostprocessor_t *, ov_preprocess_input_info_t **)) \
    OPENVINO_FUNCTION(void, preprocess_input_info_free, (ov_preprocess_input_info_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_input_info_get_tensor_info, \
        (const ov_preprocess_input_info_t *, ov_preprocess_input_tensor_info_t **)) \
    OPENVINO_FUNCTION(void, preprocess_input_tensor_info_free, (ov_preprocess_input_tensor_info_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_input_tensor_info_set_element_type, \
        (ov_preprocess_input_tensor_info_t *, const ov_element_type_e)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_input_tensor_info_set_layout, (ov_preprocess_input_tensor_info_t *, ov_layout_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_input_tensor_info_set_color_format, \
        (ov_preprocess_input_tensor_info_t *, const ov_color_format_e)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_input_info_get_model_info, \
        (const ov_preprocess_input_info_t *, ov_preprocess_input_model_info_t **)) \
    OPENVINO_FUNCTION(void, preprocess_input_model_info_free, (ov_preprocess_input_model_info_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_input_model_info_set_layout, (ov_preprocess_input_model_info_t *, ov_layout_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_input_info_get_preprocess_steps, \
        (const ov_preprocess_input_info_t *, ov_preprocess_preprocess_steps_t **)) \
    OPENVINO_FUNCTION(void, preprocess_preprocess_steps_free, (ov_preprocess_preprocess_steps_t *)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_preprocess_steps_convert_color, \
        (ov_preprocess_preprocess_steps_t *, const ov_color_format_e)) \
    OPENVINO_FUNCTION(ov_status_e, preprocess_prepostprocessor_build, (const ov_preprocess_prepostprocessor_t *, ov_model_t **)) \
    OPENVINO_FUNCTION(ov_status_e, compiled_model_get_property, (const ov_compiled_model_t *, const char *, char **)) \
    OPENVINO_FUNCTION(ov_status_e, compiled_model_create_infer_request, (const ov_compiled_model_t *, ov_infer_request_t **)) \
    OPENVINO_FUNCTION(void, compiled_model_free, (ov_compiled_model_t *)) \
    OPENVINO_FUNCTION(ov_status_e, infer_request_set_input_tensor, (ov_infer_request_t *, const ov_tensor_t *)) \
    OPENVINO_FUNCTION(ov_status_e, infer_request_get_tensor, (const ov_infer_request_t *, const char *, ov_tensor_t **)) \
    OPENVINO_FUNCTION(ov_status_e, infer_request_set_callback, (ov_infer_request_t *, const ov_callback_t *)) \
    OPENVINO_FUNCTION(ov_status_e, infer_request_start_async, (ov_infer_request_t *)) \
    OPENVINO_FUNCTION(ov_status_e, infer_request_wait, (ov_infer_request_t *)) \
    OPENVINO_FUNCTION(void, infer_request_free, (ov_infer_request_t *)) \
    OPENVINO_FUNCTION(ov_status_e, tensor_create_from_host_ptr, (const ov_element_type_e, const ov_shape_t, void *, ov_tensor_t **)) \
    OPENVINO_FUNCTION(ov_status_e, tensor_get_shape, (const ov_tensor_t *, ov_shape_t *)) \
    OPENVINO_FUNCTION(ov_status_e, tensor_get_element_type, (const ov_tensor_t *, ov_element_type_e *)) \
    OPENVINO_FUNCTION(ov_status_e, tensor_data, (const ov_tensor_t *, void **)) \
    OPENVINO_FUNCTION(void, tensor_free, (ov_tensor_t *)) \
    OPENVINO_FUNCTION(ov_status_e, shape_free, (ov_shape_t *))

// one pointer for each, in the same order
struct everyframe_openvino {
#define OPENVINO_FUNCTION(result, name, parameters) result (*_Nonnull name) parameters;
    OPENVINO_FUNCTIONS
#undef OPENVINO_FUNCTION
};

// The table of the functions of a loaded library, never freed; NULL, and the name of the one that is missing, when it is another library.
static inline const struct everyframe_openvino *_Nullable everyframe_openvino_table(void *_Nonnull library, const char *_Nullable *_Nonnull missing) {
    static const char *const names[] = {
#define OPENVINO_FUNCTION(result, name, parameters) "ov_" #name,
        OPENVINO_FUNCTIONS
#undef OPENVINO_FUNCTION
    };
    enum { count = sizeof(names) / sizeof(names[0]) };
    _Static_assert(sizeof(struct everyframe_openvino) == count * sizeof(void *), "one pointer for each name");
    void **table = (void **)malloc(sizeof(struct everyframe_openvino));
    if (!table) return NULL;
    for (int i = 0; i < count; i++) {
        table[i] = dlsym(library, names[i]);
        if (!table[i]) {
            *missing = names[i];
            free(table);
            return NULL;
        }
    }
    return (const struct everyframe_openvino *)table;
}

#ifdef EVERYFRAME_OPENVINO_HEADER
#define OPENVINO_FUNCTION(result, name, parameters) \
    _Static_assert(__builtin_types_compatible_p(__typeof__(ov_##name), result parameters), "ov_" #name " is declared otherwise");
OPENVINO_FUNCTIONS
#undef OPENVINO_FUNCTION
_Static_assert(F32 == everyframe_ov_f32 && U8 == everyframe_ov_u8, "element types");
_Static_assert(RGB == everyframe_ov_rgb && BGR == everyframe_ov_bgr, "colour formats");
_Static_assert(sizeof(ov_status_e) == 4 && sizeof(ov_element_type_e) == 4 && sizeof(ov_color_format_e) == 4, "enumerations");
#endif
_Static_assert(sizeof(ov_shape_t) == 16 && offsetof(ov_shape_t, dims) == 8, "ov_shape_t");
_Static_assert(sizeof(ov_partial_shape_t) == 24 && offsetof(ov_partial_shape_t, dims) == 16, "ov_partial_shape_t");
_Static_assert(sizeof(ov_property_t) == 16 && offsetof(ov_property_t, value) == 8, "ov_property_t");
_Static_assert(sizeof(ov_callback_t) == 16 && offsetof(ov_callback_t, args) == 8, "ov_callback_t");
_Static_assert(sizeof(ov_version_t) == 16 && offsetof(ov_version_t, description) == 8, "ov_version_t");

#pragma clang diagnostic pop
