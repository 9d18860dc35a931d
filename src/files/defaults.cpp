// What every reader does at its end: metadata that the container leaves out but a model needs.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "base/json.h"
#include "files/families.h"
#include "files/latent_attention.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

// transformers' and llama.cpp's default for a config without a base.
constexpr double default_rope_base = 10000;
// The reference implementation's for most families; the others name theirs.
constexpr double default_rms_norm_eps = 1e-6;

void set_once(Metadata& metadata, const std::string& key, std::optional<int64_t> value) {
    if (value && metadata.find(key) == nullptr) metadata.set(key, *value);
}

std::optional<int64_t> integer_or_nothing(const Metadata& metadata, const std::string& key) {
    const MetadataValue* value = metadata.find(key);
    const int64_t* n = value == nullptr ? nullptr : std::get_if<int64_t>(value);
    return n == nullptr ? std::nullopt : std::optional<int64_t>(*n);
}

// Which layers are recurrent as a list and as a period, and the length of a value head and of all of them:
// config.json has one of each, GGUF the other.
void fill_recurrent(Metadata& m, const std::string& prefix) {
    const std::string list_key = prefix + "attention.recurrent_layers",
                      interval_key = prefix + "full_attention_interval";
    const auto n_layers = integer_or_nothing(m, prefix + "block_count");
    if (!n_layers || *n_layers < 0 || *n_layers > limits::layers) return;
    const auto by_interval = [&](int64_t interval) {
        std::vector<int64_t> list;
        for (int64_t il = 0; il < *n_layers; ++il) list.push_back((il + 1) % interval != 0);
        return list;
    };
    if (m.find(list_key) == nullptr) {
        const int64_t interval = integer_or_nothing(m, interval_key).value_or(4);
        m.set(list_key, by_interval(std::max<int64_t>(interval, 1)));
    }
    // GGUF counts layers that predict further tokens too.
    if (const auto* list = m.get_ints(list_key); list != nullptr && std::ssize(*list) > *n_layers) {
        m.set(list_key, std::vector<int64_t>(list->begin(), list->begin() + *n_layers));
    }
    if (const auto* list = m.get_ints(list_key); list != nullptr && m.find(interval_key) == nullptr) {
        const auto first = std::ranges::find(*list, 0) - list->begin() + 1;
        if (*list == by_interval(first)) m.set(interval_key, static_cast<int64_t>(first));
    }
    const auto n_heads = integer_or_nothing(m, prefix + "ssm.time_step_rank"),
               length = integer_or_nothing(m, prefix + "ssm.value_length"),
               inner = integer_or_nothing(m, prefix + "ssm.inner_size");
    if (n_heads && length && *n_heads >= 0 && *n_heads <= limits::size && *length >= 0 &&
        *length <= limits::size)
        set_once(m, prefix + "ssm.inner_size", *n_heads * *length);
    if (n_heads && inner && *n_heads > 0) set_once(m, prefix + "ssm.value_length", *inner / *n_heads);
}

}  // namespace

void fill_defaults(ModelFile& model) {
    Metadata& m = model.metadata;
    const Family* family = family_of(m);
    if (family == nullptr) return;
    const std::string prefix = std::string(family->architecture) + ".";
    if (family->latent) fill_latent_attention(model, std::string(family->architecture));
    if (family->prediction_layers) leave_out_prediction_layers(model, std::string(family->architecture));
    const Json constants = parse_json(family->constants, "constants");
    for (const auto& [key, value] : constants.items()) {
        if (m.find(prefix + key) != nullptr) continue;
        if (value.is_array()) {
            m.set(prefix + key, value.get<std::vector<int64_t>>());
        } else {
            m.set(prefix + key, value.get<int64_t>());
        }
    }
    if (family->recurrent) fill_recurrent(m, prefix);
    const auto n_heads = integer_or_nothing(m, prefix + "attention.head_count");
    const auto dim = integer_or_nothing(m, prefix + "embedding_length");
    set_once(m, prefix + "attention.head_count_kv", n_heads);
    if (n_heads && dim && *n_heads > 0) set_once(m, prefix + "attention.key_length", *dim / *n_heads);
    set_once(m, prefix + "attention.value_length", integer_or_nothing(m, prefix + "attention.key_length"));
    const auto head_dim = integer_or_nothing(m, prefix + "attention.key_length");
    if (const auto fraction = m.get_double(prefix + "rope.partial_factor"); fraction && head_dim) {
        const double n = static_cast<double>(*head_dim) * *fraction;
        if (n >= 0 && n <= static_cast<double>(*head_dim)) {
            set_once(m, prefix + "rope.dimension_count", static_cast<int64_t>(n));
        }
    }
    if (const TensorView* embedding = model.find("token_embd.weight");
        embedding && embedding->shape.size() == 2) {
        set_once(m, prefix + "vocab_size", embedding->shape[0]);
    }
    if (model.container == Container::gguf) {
        const Json defaults = parse_json(family->gguf_defaults, "gguf_defaults");
        for (const auto& [key, value] : defaults.items()) {
            if (m.find(prefix + key) != nullptr) continue;
            if (value.is_boolean()) {
                m.set(prefix + key, value.get<bool>());
            } else {
                m.set(prefix + key, value.get<double>());
            }
        }
    }
    constexpr int64_t largest = std::numeric_limits<int32_t>::max();
    if (family->ffn_per_dim > 0 && dim && *dim > 0 && *dim < largest) {
        set_once(m, prefix + "feed_forward_length", family->ffn_per_dim * *dim);
    }
    if (family->rotary && m.find(prefix + "rope.freq_base") == nullptr)
        m.set(prefix + "rope.freq_base", default_rope_base);
    // Peers refuse a GGUF without it.
    constexpr std::string_view eps = "attention.layer_norm_rms_epsilon";
    const bool has_eps =
        std::ranges::any_of(family->config, [&](const ConfigKey& k) { return k.gguf == eps; });
    if (const std::string key = prefix + std::string(eps); has_eps && m.find(key) == nullptr)
        m.set(key, default_rms_norm_eps);
}

const std::string& check_name(const std::string& name, std::string_view what, std::string_view source) {
    const bool printable =
        std::ranges::all_of(name, [](char c) { return static_cast<uint8_t>(c) >= 0x20 && c != 0x7f; });
    if (!printable) throw Error("{}: {} of {} bytes holds control characters", source, what, name.size());
    return name;
}

std::span<const std::byte> aligned(std::span<const std::byte> bytes, size_t alignment, ModelFile& model) {
    if (reinterpret_cast<uintptr_t>(bytes.data()) % alignment == 0) return bytes;
    model.owned.push_back(std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end()));
    return *model.owned.back();
}

}  // namespace smelt
