// Names, and what goes together.
#include "engine/kv_formats.h"

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace smelt {

namespace {

std::string_view name_of(Format f) {
    return f == Format::MXFP8_E4M3 ? "fp8" : to_string(f);
}

std::optional<Format> from_name(std::string_view name) {
    const auto it = std::ranges::find(kv_formats, name, name_of);
    return it == std::end(kv_formats) ? std::nullopt : std::optional(*it);
}

std::string names() {
    std::string all;
    for (const Format f : kv_formats) all += (all.empty() ? "" : ", ") + std::string(name_of(f));
    return all;
}

}  // namespace

KvFormats parse_kv_formats(std::string_view text) {
    if (const auto both = from_name(text)) return {*both, *both};
    KvFormats kv;
    bool seen[2] = {false, false};
    for (std::string_view rest = text;;) {
        const size_t comma = rest.find(',');
        const std::string_view part = rest.substr(0, comma);
        const auto format = part.size() > 2 ? from_name(part.substr(2)) : std::nullopt;
        const size_t which = part.starts_with("k=") ? 0 : part.starts_with("v=") ? 1 : 2;
        if (!format || which > 1 || seen[which]) {
            throw Error("KV formats: expected one of {}, or k=...,v=...; found {}", names(), text);
        }
        (which == 0 ? kv.k : kv.v) = *format;
        seen[which] = true;
        if (comma == std::string_view::npos) return kv;
        rest.remove_prefix(comma + 1);
    }
}

std::string to_string(const KvFormats& kv) {
    if (kv.k == kv.v) return std::string(name_of(kv.k));
    return fmt::format("k={},v={}", name_of(kv.k), name_of(kv.v));
}

void check_kv_formats(const ModelConfig& config, const KvFormats& kv) {
    for (const Format f : {kv.k, kv.v}) {
        if (std::ranges::find(kv_formats, f) == std::end(kv_formats)) {
            throw Error("KV cache: expected one of {}, found {}", names(), to_string(f));
        }
    }
    if (config.latent && kv.k != kv.v) {
        throw Error("KV cache: in {} the values lie inside the keys, expected one format for both, found {}",
                    config.architecture, to_string(kv));
    }
    const auto check_length = [&](Format f, const char* what, int64_t n) {
        if (const int block_len = format_info(f).block_len; n % block_len != 0) {
            throw Error("KV cache in {}: expected {} of a multiple of {} values, {} has {}", name_of(f), what,
                        block_len, config.architecture, n);
        }
    };
    check_length(kv.k, config.latent ? "rows" : "heads", config.head_dim);
    check_length(kv.v, config.latent ? "latent vectors" : "heads",
                 config.latent ? config.latent->kv_rank : config.head_dim);
}

}  // namespace smelt
