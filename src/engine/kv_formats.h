// Number formats of the KV cache, of keys and values apart.
#pragma once

#include <string>
#include <string_view>

#include "model/config.h"

namespace smelt {

struct KvFormats {
    Format k = Format::F16, v = Format::F16;
    bool operator==(const KvFormats&) const = default;
};

// "q8_0" for both, or "k=q8_0,v=q4_0". "fp8" is MXFP8_E4M3: blocks of 32 numbers of 8 bits under one power of
// two. Throws Error that lists the names.
KvFormats parse_kv_formats(std::string_view text);
std::string to_string(const KvFormats& kv);

// Throws Error saying why the model cannot have them: rows that are no whole blocks, values inside keys.
void check_kv_formats(const ModelConfig& config, const KvFormats& kv);

}  // namespace smelt
