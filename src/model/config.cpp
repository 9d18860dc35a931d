// Metadata -> ModelConfig, with every number checked.
#include "model/config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "files/limits.h"
#include "model/rope.h"

namespace smelt {

namespace {

// Caps keep every product of two of these within int64 and every tensor within what a file could hold.
constexpr int64_t max_dim = 1 << 20, max_heads = 4096, max_vocab = 1 << 24, max_context = 1 << 30,
                  max_head = 1024;
// Values of GGUF's expert_gating_func.
constexpr int64_t gguf_softmax = 1, gguf_sigmoid = 2;

class Keys {
 public:
    Keys(const ModelFile& file, const Family& family)
        : file_(file), family_(family), prefix_(std::string(family.architecture) + ".") {}

    int64_t require(const char* name, int64_t low, int64_t high) const {
        const auto value = file_.metadata.get_int(prefix_ + name);
        if (!value) {
            throw Error("{}: {}: expected {} to {}, found nothing", file_.path.string(), said(name), low,
                        high);
        }
        return checked(name, *value, low, high);
    }
    int64_t get(const char* name, int64_t fallback, int64_t low, int64_t high) const {
        return checked(name, file_.metadata.get_int(prefix_ + name).value_or(fallback), low, high);
    }

 private:
    int64_t checked(const char* name, int64_t value, int64_t low, int64_t high) const {
        if (value < low || value > high) {
            throw Error("{}: {}: expected {} to {}, found {}", file_.path.string(), said(name), low, high,
                        value);
        }
        return value;
    }
    // As the file says it: config.json has names of its own.
    std::string said(std::string_view name) const {
        if (file_.container == Container::hugging_face) {
            const auto key = std::ranges::find(family_.config, name, &ConfigKey::gguf);
            if (key != family_.config.end() && !key->hf.empty())
                return fmt::format("config.json: {}", key->hf);
        }
        return prefix_ + std::string(name);
    }
    const ModelFile& file_;
    const Family& family_;
    std::string prefix_;
};

// Which layers have a window: a list of 0 and 1, or a period n where every n-th layer sees all. Without
// either all layers have it, or those that are usual in the family.
void read_windows(const ModelFile& file, const Family& family, const Keys& keys, ModelConfig& c) {
    if (!family.windows.exist) return;
    c.window = static_cast<int>(keys.get("attention.sliding_window", 0, 0, max_context));
    if (c.window == 0) return;
    const std::string key = c.architecture + ".attention.sliding_window_pattern";
    const auto n_layers = static_cast<size_t>(c.n_layers);
    const MetadataValue* pattern = file.metadata.find(key);
    if (pattern != nullptr && std::holds_alternative<std::vector<int64_t>>(*pattern)) {
        const auto& list = std::get<std::vector<int64_t>>(*pattern);
        if (list.size() != n_layers) {
            throw Error("{}: {}: expected one entry for each of {} layers, found {}", file.path.string(), key,
                        n_layers, list.size());
        }
        for (const int64_t value : list) c.windowed.push_back(value != 0);
        return;
    }
    const int64_t period =
        keys.get("attention.sliding_window_pattern", family.windows.period, 0, limits::layers);
    for (int64_t il = 0; il < c.n_layers; ++il)
        c.windowed.push_back(period == 0 || il % period != period - 1);
}

float read_eps(const ModelFile& file, const std::string& key) {
    const auto found = file.metadata.get_double(key);
    if (!found) throw Error("{}: {}: missing", file.path.string(), key);
    const double eps = *found;
    if (!(eps > 0 && eps < 1)) throw Error("{}: {}: expected 0 to 1, found {}", file.path.string(), key, eps);
    return static_cast<float>(eps);
}

// Metadata that the readers complete: both containers' files have all of it.
LatentAttention read_latent(const Keys& keys, const ModelConfig& c) {
    LatentAttention a;
    a.q_rank = keys.require("attention.q_lora_rank", 1, max_dim);
    a.kv_rank = keys.require("attention.kv_lora_rank", 1, max_head);
    a.rope_dim = keys.require("rope.dimension_count", 2, max_head);
    a.nope_dim = keys.require("attention.key_length_mla", a.rope_dim + 1, max_head) - a.rope_dim;
    a.v_dim = keys.require("attention.value_length_mla", 1, max_head);
    (void)keys.get("attention.head_count_kv", 1, 1, 1);
    (void)keys.get("attention.key_length", c.head_dim, a.kv_rank + a.rope_dim, a.kv_rank + a.rope_dim);
    (void)keys.get("attention.value_length", a.kv_rank, a.kv_rank, a.kv_rank);
    return a;
}

// YaRN of latent attention: the scores are scaled in place of cos and sin.
float latent_attention_scale(const ModelFile& file, const std::string& architecture,
                             const LatentAttention& a) {
    double scale = 1 / std::sqrt(static_cast<double>(a.nope_dim + a.rope_dim));
    const std::string scaling = architecture + ".rope.scaling.";
    const std::string* type = file.metadata.get_string(scaling + "type");
    if (type != nullptr && *type == "yarn") {
        const double factor = file.metadata.get_double(scaling + "factor").value_or(1),
                     multiplier = file.metadata.get_double(scaling + "yarn_log_multiplier").value_or(0);
        if (!(factor >= 1 && factor <= 1e6) || !(multiplier >= 0 && multiplier <= 100)) {
            throw Error(
                "{}: {}yarn_log_multiplier: expected 0 to 100 and a factor of 1 to 1e6, found {} and {}",
                file.path.string(), scaling, multiplier, factor);
        }
        const double mscale = multiplier * std::log(factor) + 1;
        scale *= mscale * mscale;
    }
    return static_cast<float>(scale);
}

void read_recurrent(const ModelFile& file, const Family& family, const Keys& keys, ModelConfig& c) {
    RecurrentLayers r;
    r.conv_kernel = keys.require("ssm.conv_kernel", 2, 8);
    r.k_dim = keys.require("ssm.state_size", 1, max_head);
    r.n_k_heads = keys.require("ssm.group_count", 1, max_heads);
    r.n_v_heads = keys.require("ssm.time_step_rank", r.n_k_heads, max_heads);
    r.v_dim = keys.require("ssm.value_length", 1, max_head);
    if (r.n_v_heads % r.n_k_heads != 0) {
        throw Error("{}: {}.ssm.time_step_rank: expected a multiple of group_count {}, found {}",
                    file.path.string(), c.architecture, r.n_k_heads, r.n_v_heads);
    }
    const std::string* order = file.metadata.get_string("smelt.value_heads");
    r.tiled = family.tiled_in_gguf && order != nullptr && *order == "tiled";
    const std::string key = c.architecture + ".attention.recurrent_layers";
    const auto* list = file.metadata.get_ints(key);
    if (list == nullptr || std::ssize(*list) != c.n_layers) {
        throw Error("{}: {}: expected one entry for each of {} layers, found {}", file.path.string(), key,
                    c.n_layers, list == nullptr ? 0 : list->size());
    }
    for (const int64_t value : *list) c.is_recurrent.push_back(value != 0);
    c.recurrent = r;
    // The next token needs the state after the one before.
    if (std::ranges::find(c.is_recurrent, true) != c.is_recurrent.end()) {
        c.window = 2;
        c.windowed = c.is_recurrent;
    }
}

void read_experts(const ModelFile& file, const Keys& keys, ModelConfig& c) {
    c.n_experts_used = keys.require("expert_used_count", 1, c.n_experts);
    c.expert_ffn_dim = keys.get("expert_feed_forward_length", c.ffn_dim, 1, max_dim);
    c.n_dense_layers = keys.get("leading_dense_block_count", 0, 0, c.n_layers);
    c.n_shared_experts = keys.get("expert_shared_count", 0, 0, max_dim / c.expert_ffn_dim);
    const std::string prefix = c.architecture + ".";
    c.norm_expert_weights = file.metadata.get_bool(prefix + "expert_weights_norm").value_or(true);
    const double scale = file.metadata.get_double(prefix + "expert_weights_scale").value_or(1);
    if (!(scale > 0 && scale < 1e6)) {
        throw Error("{}: {}expert_weights_scale: expected 0 to 1e6, found {}", file.path.string(), prefix,
                    scale);
    }
    c.expert_weights_scale = static_cast<float>(scale);
    constexpr int64_t most_groups = 64;
    const int64_t n_groups = std::max<int64_t>(keys.get("expert_group_count", 1, 0, most_groups), 1),
                  n_used = std::max<int64_t>(keys.get("expert_group_used_count", 1, 0, n_groups), 1);
    if (c.n_experts % n_groups != 0 || c.n_experts_used > c.n_experts / n_groups * n_used) {
        throw Error(
            "{}: {}expert_group_count: expected groups of {} experts that {} can be chosen from, found {}, "
            "of which {} are used",
            file.path.string(), prefix, c.n_experts, c.n_experts_used, n_groups, n_used);
    }
    c.n_expert_groups = static_cast<int32_t>(n_groups);
    c.n_expert_groups_used = static_cast<int32_t>(n_used);
    if (keys.get("expert_gating_func", gguf_softmax, gguf_softmax, gguf_sigmoid) == gguf_sigmoid) {
        c.expert_score = RouteParams::Score::sigmoid;
    } else if (n_groups > 1) {
        // DeepSeek-V2 has groups too, and takes one for as good as its best expert.
        throw Error("{}: {}expert_gating_func: expected {} (sigmoid) with {} groups of experts, found {}",
                    file.path.string(), prefix, gguf_sigmoid, n_groups, gguf_softmax);
    }
}

// Three numbers, and in GGUF a fourth that is 0.
std::array<int64_t, 3> read_sections(const ModelFile& file, const std::string& architecture) {
    const std::string key = architecture + ".rope.dimension_sections";
    if (file.metadata.find(key) == nullptr) return {};
    const auto* list = file.metadata.get_ints(key);
    const bool fits = list != nullptr && (list->size() == 3 || (list->size() == 4 && list->back() == 0)) &&
                      std::ranges::all_of(*list, [](int64_t n) { return n >= 0 && n <= max_head; });
    if (!fits) throw Error("{}: {}: expected 3 numbers of 0 to {}", file.path.string(), key, max_head);
    return {(*list)[0], (*list)[1], (*list)[2]};
}

}  // namespace

ModelConfig read_config(const ModelFile& file, const Family& family) {
    ModelConfig c;
    c.architecture = family.architecture;
    const Keys keys(file, family);
    c.n_layers = keys.require("block_count", 1, limits::layers);
    c.dim = keys.require("embedding_length", 1, max_dim);
    const int64_t expert_length = family.mixture ? keys.get("expert_feed_forward_length", 0, 0, max_dim) : 0;
    c.ffn_dim = expert_length > 0 ? keys.get("feed_forward_length", expert_length, 1, max_dim)
                                  : keys.require("feed_forward_length", 1, max_dim);
    c.n_heads = keys.require("attention.head_count", 1, max_heads);
    c.n_kv_heads = keys.get("attention.head_count_kv", c.n_heads, 1, c.n_heads);
    c.head_dim =
        keys.get("attention.key_length", c.dim / c.n_heads, 2, family.latent ? 2 * max_head : max_head);
    c.n_ctx_train = keys.require("context_length", 1, max_context);
    if (c.n_heads % c.n_kv_heads != 0) {
        throw Error("{}: {}.attention.head_count: expected a multiple of head_count_kv {}, found {}",
                    file.path.string(), c.architecture, c.n_kv_heads, c.n_heads);
    }
    if (family.latent) c.latent = read_latent(keys, c);
    const int64_t n_rotated = c.latent ? c.latent->rope_dim
                              : family.partial_rotary
                                  ? keys.get("rope.dimension_count", c.head_dim, 2, c.head_dim)
                                  : c.head_dim;
    c.attention_scale = c.latent ? latent_attention_scale(file, c.architecture, *c.latent)
                                 : 1 / std::sqrt(static_cast<float>(c.head_dim));
    if (n_rotated % 2 != 0) {
        throw Error("{}: head length: expected an even number, found {}", file.path.string(), n_rotated);
    }
    if (!c.latent && keys.get("attention.value_length", c.head_dim, 1, max_head) != c.head_dim) {
        throw Error("{}: {}.attention.value_length: expected {} as key_length", file.path.string(),
                    c.architecture, c.head_dim);
    }
    // Computed otherwise than the model was trained, it would answer, wrongly.
    if (!family.partial_rotary &&
        file.metadata.get_double(c.architecture + ".rope.partial_factor").value_or(1) != 1) {
        throw Error("{}: {}.rope.partial_factor: only whole heads are rotated in {}", file.path.string(),
                    c.architecture, c.architecture);
    }
    if (const int64_t n = keys.get("rope.dimension_count", n_rotated, 1, max_head); n != n_rotated) {
        throw Error("{}: {}.rope.dimension_count: expected the head length {}, found {}", file.path.string(),
                    c.architecture, n_rotated, n);
    }

    c.n_experts = keys.get("expert_count", 0, 0, limits::experts);
    if (c.n_experts > 0) read_experts(file, keys, c);

    read_windows(file, family, keys, c);
    if (family.recurrent) read_recurrent(file, family, keys, c);
    const TensorView* embedding = file.find("token_embd.weight");
    if (embedding == nullptr) throw Error("{}: token_embd.weight: missing", file.path.string());
    c.vocab_size = keys.get("vocab_size", embedding->n_rows(), 1, max_vocab);

    // A family has one of the two.
    const std::string rms_eps = c.architecture + ".attention.layer_norm_rms_epsilon",
                      eps = c.architecture + ".attention.layer_norm_epsilon";
    c.norm_eps = read_eps(file, file.metadata.find(eps) != nullptr ? eps : rms_eps);

    if (!family.rotary) {
        c.n_positions = c.n_ctx_train;
        return c;
    }
    const std::string* pairing = file.metadata.get_string("smelt.rope.pairing");
    c.rope_pairing =
        pairing != nullptr && *pairing == "interleaved" ? RopePairing::interleaved : RopePairing::half;
    RopeFrequencies rope = read_rope(file, c.architecture, n_rotated);
    c.rope_inv_freq = std::move(rope.inv_freq);
    c.rope_scale = rope.scale;
    c.rope_inv_freq_long = std::move(rope.inv_freq_long);
    c.rope_short_context = rope.short_context;
    if (family.tower != nullptr) c.rope_sections = read_sections(file, c.architecture);
    if (family.local_rotary) c.rope_inv_freq_local = read_local_rope(file, c.architecture, n_rotated);
    return c;
}

}  // namespace smelt
