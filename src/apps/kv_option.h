// --kv, of every verb with a KV cache.
#pragma once

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "engine/kv_formats.h"

namespace smelt {

// `kv` has the default, and outlives the verb.
inline void add_kv_option(CLI::App& verb, KvFormats& kv) {
    verb.add_option_function<std::string>(
            "--kv",
            [&kv](const std::string& text) {
                try {
                    kv = parse_kv_formats(text);
                } catch (const Error& e) {
                    throw CLI::ValidationError("--kv", e.what());
                }
            },
            "Number format of the KV cache: f32, f16, bf16, q8_0, q4_0 or fp8; k=q8_0,v=q4_0 sets keys and "
            "values apart")
        ->default_str(to_string(kv));
}

}  // namespace smelt
