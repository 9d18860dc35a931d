// Option structs of smelt_c.h: their defaults, and what older headers than this one know of them. Not
// installed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>

#include "api/smelt.h"
#include "api/smelt_c.h"

// Also where the namespace is not inline, because other sources of the room are compiled with this one.
namespace api = smelt::v1;

namespace smelt::c_options {

inline void need(bool present, const char* name) {
    if (present) return;
    throw v1::Error(v1::ErrorCode::invalid_argument, std::string(name) + ": expected a pointer, found NULL");
}

template <class T>
const T& need(const T* pointer, const char* name) {
    need(pointer != nullptr, name);
    return *pointer;
}

inline std::string text_or(const char* text, const char* fallback) {
    return text == nullptr ? fallback : text;
}

inline std::optional<float> unless_nan(float value) {
    return std::isnan(value) ? std::nullopt : std::optional(value);
}

inline bool flag(const char* name, int value) {
    if (value == 0 || value == 1) return value == 1;
    throw v1::Error(v1::ErrorCode::invalid_argument,
                    std::string(name) + ": expected 0 or 1, found " + std::to_string(value));
}

// Fills the caller's struct with defaults. An older header knows only its first `size` bytes.
template <class Options>
void init(Options* options, size_t size, Options defaults) noexcept {
    if (options == nullptr) return;
    size = std::min(size, sizeof(Options));
    defaults.size = size;
    std::memcpy(options, &defaults, size);
}

// The caller's options, with defaults for what its header does not have.
template <class Options>
Options read(const Options* options, const char* name, Options defaults) {
    if (options == nullptr) return defaults;
    if (options->size < sizeof(size_t) || options->size > sizeof(Options)) {
        throw v1::Error(v1::ErrorCode::invalid_argument,
                        std::string(name) + ".size: expected " + std::to_string(sizeof(Options)) +
                            " or less, as the init function sets it, found " + std::to_string(options->size));
    }
    std::memcpy(&defaults, options, options->size);
    return defaults;
}

inline constexpr float unset = std::numeric_limits<float>::quiet_NaN();
inline const smelt_model_options model_defaults = {
    sizeof(smelt_model_options), nullptr, nullptr, nullptr, 0, 0, 0, 1, 32, 256};
inline const smelt_chat_options chat_defaults = {
    sizeof(smelt_chat_options), nullptr, SMELT_THINKING_AS_TEMPLATE, 1, nullptr, 0};
inline const smelt_generate_options generate_defaults = {sizeof(smelt_generate_options),
                                                         nullptr,
                                                         0,
                                                         nullptr,
                                                         nullptr,
                                                         nullptr,
                                                         0,
                                                         0,
                                                         -1,
                                                         unset,
                                                         -1,
                                                         unset,
                                                         unset,
                                                         unset,
                                                         unset,
                                                         unset,
                                                         -1,
                                                         -1,
                                                         0};
inline const smelt_embed_options embed_defaults = {sizeof(smelt_embed_options), SMELT_POOLING_AUTOMATIC, 0,
                                                   1};

}  // namespace smelt::c_options
