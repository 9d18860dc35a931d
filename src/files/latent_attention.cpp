// Sizes, the layers that are left out, and k_b and v_b against kv_b.
#include "files/latent_attention.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/error.h"

namespace smelt {

namespace {

constexpr int64_t max_size = 1 << 20;  // sums and products of a few stay integers

std::optional<int64_t> size_or_nothing(const Metadata& m, const std::string& key) {
    const MetadataValue* value = m.find(key);
    const int64_t* n = value == nullptr ? nullptr : std::get_if<int64_t>(value);
    return n == nullptr || *n < 0 || *n > max_size ? std::nullopt : std::optional(*n);
}

// The layer that a name under either container's names belongs to, or -1.
int64_t layer_of(std::string_view name) {
    for (const std::string_view prefix : {"blk.", "model.layers."}) {
        if (!name.starts_with(prefix)) continue;
        int64_t layer = -1;
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
        return layer;
    }
    return -1;
}

void expect_shape(const TensorView& t, int64_t n_rows, int64_t row_len) {
    if (t.n_rows() != n_rows || t.row_len() != row_len) {
        throw Error("{}: tensor {}: expected {} rows of {}, found {} of {}", t.source, t.name, n_rows,
                    row_len, t.n_rows(), t.row_len());
    }
}

void append(std::vector<float>& to, const std::vector<float>& values) {
    to.insert(to.end(), values.begin(), values.end());
}

void append_rows(std::vector<float>& to, const TensorView& t, int64_t first, int64_t n) {
    std::vector<float> row(static_cast<size_t>(t.row_len()));
    for (int64_t r = first; r < first + n; ++r) {
        decode_row(t.row(r), row);
        append(to, row);
    }
}

}  // namespace

void fill_latent_attention(ModelFile& model, const std::string& architecture) {
    Metadata& m = model.metadata;
    const std::string prefix = architecture + ".", attention = prefix + "attention.";
    const auto rank = size_or_nothing(m, attention + "kv_lora_rank"),
               rotated = size_or_nothing(m, prefix + "rope.dimension_count");
    if (!rank || !rotated) return;
    const auto set_once = [&](const std::string& key, std::optional<int64_t> value) {
        if (value && m.find(key) == nullptr) m.set(key, *value);
    };
    if (const auto nope = size_or_nothing(m, attention + "nope_length")) {
        set_once(attention + "key_length_mla", *nope + *rotated);  // from config.json
    } else if (m.find(attention + "key_length_mla") == nullptr) {
        // A GGUF file from before caches held latent vectors: lengths are those of a head.
        for (const char* key : {"key_length", "value_length"}) {
            set_once(attention + key + "_mla", size_or_nothing(m, attention + key));
        }
        m.set(attention + "key_length", *rank + *rotated);
        m.set(attention + "value_length", *rank);
        m.set(attention + "head_count_kv", int64_t{1});
    }
    set_once(attention + "key_length", *rank + *rotated);
    set_once(attention + "value_length", *rank);
    set_once(attention + "head_count_kv", 1);
    if (const auto head = size_or_nothing(m, attention + "key_length_mla"); head && *head > *rotated) {
        set_once(attention + "nope_length", *head - *rotated);
    }
    constexpr int64_t gguf_sigmoid = 2;
    set_once(prefix + "expert_gating_func", gguf_sigmoid);
    set_once(prefix + "expert_group_count", 1);
    set_once(prefix + "expert_group_used_count", 1);
}

// Hugging Face does not count them in num_hidden_layers, GGUF does in block_count.
void leave_out_prediction_layers(ModelFile& model, const std::string& architecture) {
    Metadata& m = model.metadata;
    const std::string prefix = architecture + ".";
    auto n_layers = size_or_nothing(m, prefix + "block_count");
    const auto n_more = size_or_nothing(m, prefix + "nextn_predict_layers");
    if (!n_layers) return;
    if (n_more && *n_more > 0 && *n_more < *n_layers) {
        n_layers = *n_layers - *n_more;
        m.set(prefix + "block_count", *n_layers);
        m.set(prefix + "nextn_predict_layers", int64_t{0});
    }
    const auto beyond = [&](const auto& t) { return layer_of(t.name) >= *n_layers; };
    const size_t n = std::erase_if(model.tensors, beyond) + std::erase_if(model.unsupported, beyond);
    if (n > 0) {
        model.notes.push_back(fmt::format(
            "{} tensors from layer {} on, which predict further tokens (MTP), are not used", n, *n_layers));
    }
}

TensorView rows_of(const TensorView& t, int64_t first, int64_t n) {
    CHECK(first >= 0 && n >= 0 && first + n <= t.n_rows(), "{}: {} rows from {}", t.name, n, first);
    TensorView rows = t;
    const size_t row = data_bytes(t.format, t.row_len()), scales = scale_bytes(t.format, t.row_len());
    rows.shape = {n, t.row_len()};
    rows.data = t.data.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(n) * row);
    if (scales > 0) {
        rows.scales = t.scales.subspan(static_cast<size_t>(first) * scales, static_cast<size_t>(n) * scales);
    }
    return rows;
}

std::vector<float> decode_transposed(const TensorView& t, int64_t first, int64_t n) {
    const auto n_rows = static_cast<size_t>(n), row_len = static_cast<size_t>(t.row_len());
    std::vector<float> row(row_len), out(n_rows * row_len);
    for (size_t r = 0; r < n_rows; ++r) {
        decode_row(t.row(first + static_cast<int64_t>(r)), row);
        for (size_t i = 0; i < row_len; ++i) out[i * n_rows + r] = row[i];
    }
    return out;
}

LatentSizes latent_sizes(const ModelFile& model, const std::string& architecture) {
    const auto size = [&](const std::string& name) {
        const auto value = size_or_nothing(model.metadata, architecture + "." + name);
        if (!value || *value == 0) {
            throw Error("{}: {}.{}: expected 1 to {}", model.path.string(), architecture, name, max_size);
        }
        return *value;
    };
    return {.n_heads = size("attention.head_count"),
            .kv_rank = size("attention.kv_lora_rank"),
            .nope = size("attention.nope_length"),
            .v = size("attention.value_length_mla")};
}

std::vector<float> make_k_b(const TensorView& kv_b, const LatentSizes& s) {
    expect_shape(kv_b, s.n_heads * (s.nope + s.v), s.kv_rank);
    std::vector<float> all;
    for (int64_t h = 0; h < s.n_heads; ++h) {
        append(all, decode_transposed(kv_b, h * (s.nope + s.v), s.nope));
    }
    return all;
}

std::vector<float> make_v_b(const TensorView& kv_b, const LatentSizes& s) {
    expect_shape(kv_b, s.n_heads * (s.nope + s.v), s.kv_rank);
    std::vector<float> all;
    for (int64_t h = 0; h < s.n_heads; ++h) {
        append_rows(all, kv_b, h * (s.nope + s.v) + s.nope, s.v);
    }
    return all;
}

std::vector<float> make_kv_b(const TensorView& k_b, const TensorView& v_b, const LatentSizes& s) {
    expect_shape(k_b, s.n_heads * s.kv_rank, s.nope);
    expect_shape(v_b, s.n_heads * s.v, s.kv_rank);
    std::vector<float> all;
    for (int64_t h = 0; h < s.n_heads; ++h) {
        append(all, decode_transposed(k_b, h * s.kv_rank, s.kv_rank));
        append_rows(all, v_b, h * s.v, s.v);
    }
    return all;
}

}  // namespace smelt
