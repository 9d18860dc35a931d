// The table of shapes and the random bytes. Dimensions are those of the published config.json files.
#include "apps/shapes.h"

#include <fmt/ranges.h>

#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "base/cpu_info.h"
#include "base/error.h"
#include "quant/random_weights.h"

namespace smelt {

namespace {

const LatentAttention glm_flash = {
    .q_rank = 768, .kv_rank = 512, .nope_dim = 192, .rope_dim = 64, .v_dim = 256};

// name, architecture, layers, dim, ffn, heads, kv heads, head_dim, vocabulary, context, theta, tied, qkv
// bias, qk norm, experts, used, their ffn, dense layers, shared experts, latent attention
const std::vector<Shape> shapes = {
    {"qwen3-0.6b", "qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960, 1e6, true, false, true},
    {"qwen3-1.7b", "qwen3", 28, 2048, 6144, 16, 8, 128, 151936, 40960, 1e6, true, false, true},
    {"qwen3-4b", "qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 40960, 1e6, true, false, true},
    {"qwen3-8b", "qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 40960, 1e6, false, false, true},
    {"qwen3-14b", "qwen3", 40, 5120, 17408, 40, 8, 128, 151936, 40960, 1e6, false, false, true},
    {"qwen3-32b", "qwen3", 64, 5120, 25600, 64, 8, 128, 151936, 40960, 1e6, false, false, true},
    {"qwen3-30b-a3b", "qwen3moe", 48, 2048, 6144, 32, 4, 128, 151936, 40960, 1e6, false, false, true, 128, 8,
     768},
    {"qwen2.5-3b", "qwen2", 36, 2048, 11008, 16, 2, 128, 151936, 32768, 1e6, true, true, false},
    {"qwen2.5-7b", "qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 131072, 1e6, false, true, false},
    {"llama-3.1-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072, 5e5, false, false, false},
    {"mixtral-8x7b", "llama", 32, 4096, 14336, 32, 8, 128, 32000, 32768, 1e6, false, false, false, 8, 2,
     14336},
    {"dialogpt-medium", "gpt2", 24, 1024, 4096, 16, 16, 64, 50257, 1024, 0, true, false, false},
    {"gpt-oss-20b", "gpt-oss", 24, 2880, 2880, 64, 8, 64, 201088, 131072, 1.5e5, false, true, false, 32, 4,
     2880},
    {"gpt-oss-120b", "gpt-oss", 36, 2880, 2880, 64, 8, 64, 201088, 131072, 1.5e5, false, true, false, 128, 4,
     2880},
    {"glm-4.7-flash", "deepseek2", 47,    2048, 10240, 20,   1, 576, 154880,   202752, 1e6,
     false,           false,       false, 64,   4,     1536, 1, 1,   glm_flash},
};

struct Spec {
    std::string name;
    std::vector<int64_t> shape;
    enum { matrix, experts, router, norm, bias } kind;
};

std::vector<Spec> list_gpt2_tensors(const Shape& s) {
    std::vector<Spec> t = {{"token_embd.weight", {s.vocab_size, s.dim}, Spec::matrix},
                           {"position_embd.weight", {s.n_ctx, s.dim}, Spec::matrix}};
    const auto norm = [&](const std::string& name) {
        t.push_back({name + ".weight", {s.dim}, Spec::norm});
        t.push_back({name + ".bias", {s.dim}, Spec::bias});
    };
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
        t.push_back({name + ".weight", {out, in}, Spec::matrix});
        t.push_back({name + ".bias", {out}, Spec::bias});
    };
    norm("output_norm");
    for (int64_t il = 0; il < s.n_layers; ++il) {
        const std::string p = fmt::format("blk.{}.", il);
        norm(p + "attn_norm");
        linear(p + "attn_qkv", 3 * s.dim, s.dim);
        linear(p + "attn_output", s.dim, s.dim);
        norm(p + "ffn_norm");
        linear(p + "ffn_up", s.ffn_dim, s.dim);
        linear(p + "ffn_down", s.dim, s.ffn_dim);
    }
    return t;
}

std::vector<Spec> list_gpt_oss_tensors(const Shape& s) {
    const int64_t q = s.n_heads * s.head_dim, kv = s.n_kv_heads * s.head_dim;
    std::vector<Spec> t = {{"token_embd.weight", {s.vocab_size, s.dim}, Spec::matrix},
                           {"output_norm.weight", {s.dim}, Spec::norm},
                           {"output.weight", {s.vocab_size, s.dim}, Spec::matrix}};
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
        t.push_back({name + ".weight", {out, in}, Spec::matrix});
        t.push_back({name + ".bias", {out}, Spec::bias});
    };
    const auto experts = [&](const std::string& name, int64_t out, int64_t in) {
        t.push_back({name + ".weight", {s.n_experts, out, in}, Spec::experts});
        t.push_back({name + ".bias", {s.n_experts, out}, Spec::bias});
    };
    for (int64_t il = 0; il < s.n_layers; ++il) {
        const std::string p = fmt::format("blk.{}.", il);
        t.push_back({p + "attn_norm.weight", {s.dim}, Spec::norm});
        linear(p + "attn_q", q, s.dim);
        linear(p + "attn_k", kv, s.dim);
        linear(p + "attn_v", kv, s.dim);
        linear(p + "attn_output", s.dim, q);
        t.push_back({p + "attn_sinks.weight", {s.n_heads}, Spec::bias});
        t.push_back({p + "post_attention_norm.weight", {s.dim}, Spec::norm});
        t.push_back({p + "ffn_gate_inp.weight", {s.n_experts, s.dim}, Spec::router});
        t.push_back({p + "ffn_gate_inp.bias", {s.n_experts}, Spec::bias});
        experts(p + "ffn_gate_exps", s.expert_ffn_dim, s.dim);
        experts(p + "ffn_up_exps", s.expert_ffn_dim, s.dim);
        experts(p + "ffn_down_exps", s.dim, s.expert_ffn_dim);
    }
    return t;
}

std::vector<Spec> list_latent_tensors(const Shape& s) {
    const LatentAttention& a = *s.latent;
    std::vector<Spec> t = {{"token_embd.weight", {s.vocab_size, s.dim}, Spec::matrix},
                           {"output_norm.weight", {s.dim}, Spec::norm},
                           {"output.weight", {s.vocab_size, s.dim}, Spec::matrix}};
    const auto swiglu = [&](const std::string& p, const std::string& suffix, int64_t ffn_dim) {
        t.push_back({p + "ffn_gate" + suffix, {ffn_dim, s.dim}, Spec::matrix});
        t.push_back({p + "ffn_up" + suffix, {ffn_dim, s.dim}, Spec::matrix});
        t.push_back({p + "ffn_down" + suffix, {s.dim, ffn_dim}, Spec::matrix});
    };
    for (int64_t il = 0; il < s.n_layers; ++il) {
        const std::string p = fmt::format("blk.{}.", il);
        t.push_back({p + "attn_norm.weight", {s.dim}, Spec::norm});
        t.push_back({p + "attn_q_a.weight", {a.q_rank, s.dim}, Spec::matrix});
        t.push_back({p + "attn_q_a_norm.weight", {a.q_rank}, Spec::norm});
        t.push_back({p + "attn_q_b.weight", {s.n_heads * (a.nope_dim + a.rope_dim), a.q_rank}, Spec::matrix});
        t.push_back({p + "attn_kv_a_mqa.weight", {a.kv_rank + a.rope_dim, s.dim}, Spec::matrix});
        t.push_back({p + "attn_kv_a_norm.weight", {a.kv_rank}, Spec::norm});
        t.push_back({p + "attn_k_b.weight", {s.n_heads, a.kv_rank, a.nope_dim}, Spec::matrix});
        t.push_back({p + "attn_v_b.weight", {s.n_heads, a.v_dim, a.kv_rank}, Spec::matrix});
        t.push_back({p + "attn_output.weight", {s.dim, s.n_heads * a.v_dim}, Spec::matrix});
        t.push_back({p + "ffn_norm.weight", {s.dim}, Spec::norm});
        if (il < s.n_dense_layers) {
            swiglu(p, ".weight", s.ffn_dim);
            continue;
        }
        t.push_back({p + "ffn_gate_inp.weight", {s.n_experts, s.dim}, Spec::router});
        t.push_back({p + "exp_probs_b.bias", {s.n_experts}, Spec::bias});
        t.push_back({p + "ffn_gate_exps.weight", {s.n_experts, s.expert_ffn_dim, s.dim}, Spec::experts});
        t.push_back({p + "ffn_up_exps.weight", {s.n_experts, s.expert_ffn_dim, s.dim}, Spec::experts});
        t.push_back({p + "ffn_down_exps.weight", {s.n_experts, s.dim, s.expert_ffn_dim}, Spec::experts});
        swiglu(p, "_shexp.weight", s.n_shared_experts * s.expert_ffn_dim);
    }
    return t;
}

std::vector<Spec> list_tensors(const Shape& s) {
    if (s.architecture == "gpt2") return list_gpt2_tensors(s);
    if (s.latent) return list_latent_tensors(s);
    if (s.architecture == "gpt-oss") return list_gpt_oss_tensors(s);
    const int64_t q = s.n_heads * s.head_dim, kv = s.n_kv_heads * s.head_dim;
    std::vector<Spec> t = {{"token_embd.weight", {s.vocab_size, s.dim}, Spec::matrix},
                           {"output_norm.weight", {s.dim}, Spec::norm}};
    if (!s.tied) t.push_back({"output.weight", {s.vocab_size, s.dim}, Spec::matrix});
    for (int64_t il = 0; il < s.n_layers; ++il) {
        const std::string p = fmt::format("blk.{}.", il);
        t.push_back({p + "attn_norm.weight", {s.dim}, Spec::norm});
        t.push_back({p + "attn_q.weight", {q, s.dim}, Spec::matrix});
        t.push_back({p + "attn_k.weight", {kv, s.dim}, Spec::matrix});
        t.push_back({p + "attn_v.weight", {kv, s.dim}, Spec::matrix});
        if (s.qkv_bias) {
            t.push_back({p + "attn_q.bias", {q}, Spec::bias});
            t.push_back({p + "attn_k.bias", {kv}, Spec::bias});
            t.push_back({p + "attn_v.bias", {kv}, Spec::bias});
        }
        if (s.qk_norm) {
            t.push_back({p + "attn_q_norm.weight", {s.head_dim}, Spec::norm});
            t.push_back({p + "attn_k_norm.weight", {s.head_dim}, Spec::norm});
        }
        t.push_back({p + "attn_output.weight", {s.dim, q}, Spec::matrix});
        t.push_back({p + "ffn_norm.weight", {s.dim}, Spec::norm});
        if (s.n_experts > 0) {
            t.push_back({p + "ffn_gate_inp.weight", {s.n_experts, s.dim}, Spec::router});
            t.push_back({p + "ffn_gate_exps.weight", {s.n_experts, s.expert_ffn_dim, s.dim}, Spec::experts});
            t.push_back({p + "ffn_up_exps.weight", {s.n_experts, s.expert_ffn_dim, s.dim}, Spec::experts});
            t.push_back({p + "ffn_down_exps.weight", {s.n_experts, s.dim, s.expert_ffn_dim}, Spec::experts});
        } else {
            t.push_back({p + "ffn_gate.weight", {s.ffn_dim, s.dim}, Spec::matrix});
            t.push_back({p + "ffn_up.weight", {s.ffn_dim, s.dim}, Spec::matrix});
            t.push_back({p + "ffn_down.weight", {s.dim, s.ffn_dim}, Spec::matrix});
        }
    }
    return t;
}

int64_t n_elements(const Spec& t) {
    int64_t n = 1;
    for (const int64_t d : t.shape) n *= d;
    return n;
}

// As published files have it: routers stay exact, and with gpt-oss's MXFP4 all but the experts.
Format format_of(const Spec& t, Format format) {
    const bool experts_only = format == Format::MXFP4 || format == Format::MXFP4_HF;
    if (t.kind == Spec::experts) return format;
    if (t.kind == Spec::matrix) return experts_only ? Format::BF16 : format;
    return Format::F32;
}

// Making billions of values one by one would take minutes: a pool of rows is made once, and every row of
// every matrix is a copy of one of them. Kernels read as many bytes as with a real model.
class RowPool {
 public:
    RowPool(Format format, int64_t row_len) : format_(format), row_len_(row_len) {
        for (size_t r = 0; r < rows; ++r) {
            data_[r].resize(data_bytes(format, row_len));
            scales_[r].resize(scale_bytes(format, row_len));
            random_row(format, row_len, next(), 0.02f, data_[r].data(), scales_[r].data());
        }
    }

    void fill(std::byte* data, std::byte* scales, int64_t n_rows) {
        for (int64_t i = 0; i < n_rows; ++i) {
            const size_t r = next() % rows;
            std::memcpy(data + data_bytes(format_, i * row_len_), data_[r].data(), data_[r].size());
            if (scales != nullptr) {
                std::memcpy(scales + scale_bytes(format_, i * row_len_), scales_[r].data(),
                            scales_[r].size());
            }
        }
    }

 private:
    static constexpr size_t rows = 61;

    uint64_t next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return state_ >> 33;
    }
    Format format_;
    int64_t row_len_;
    uint64_t state_ = 0x9e3779b97f4a7c15u;
    std::array<std::vector<std::byte>, rows> data_, scales_;
};

}  // namespace

const std::vector<Shape>& list_shapes() {
    return shapes;
}

const Shape& find_shape(const std::string& name) {
    std::vector<std::string> names;
    for (const Shape& s : shapes) {
        if (s.name == name) return s;
        names.push_back(s.name);
    }
    throw Error("shape {}: not known; known are {}", name, fmt::join(names, ", "));
}

int64_t n_parameters(const Shape& shape) {
    int64_t n = 0;
    for (const Spec& t : list_tensors(shape)) n += n_elements(t);
    return n;
}

std::shared_ptr<const ModelFile> make_random_model(const Shape& s, Format format) {
    const uint64_t available = read_memory_info().available;
    uint64_t needed = 0;
    for (const Spec& t : list_tensors(s)) {
        needed += data_bytes(format_of(t, format), n_elements(t)) +
                  scale_bytes(format_of(t, format), n_elements(t));
    }
    if (needed > available) {
        throw Error("{} in {} needs {:.1f} GB of memory, {:.1f} GB are free", s.name, to_string(format),
                    static_cast<double>(needed) / 1e9, static_cast<double>(available) / 1e9);
    }
    auto file = std::make_shared<ModelFile>();
    file->path = s.name;
    file->container = Container::gguf;
    file->container_version = "random weights in memory";
    Metadata& m = file->metadata;
    const std::string p = s.architecture + ".";
    m.set("general.architecture", s.architecture);
    m.set("general.name", s.name);
    m.set(p + "block_count", s.n_layers);
    m.set(p + "embedding_length", s.dim);
    m.set(p + "feed_forward_length", s.ffn_dim);
    m.set(p + "attention.head_count", s.n_heads);
    m.set(p + "attention.head_count_kv", s.n_kv_heads);
    m.set(p + "attention.key_length", s.head_dim);
    m.set(p + "attention.value_length", s.head_dim);
    m.set(p + "attention.layer_norm_rms_epsilon", 1e-6);
    m.set(p + "context_length", s.n_ctx);
    m.set(p + "vocab_size", s.vocab_size);
    m.set(p + "rope.freq_base", s.rope_theta);
    if (s.architecture == "gpt-oss") {
        m.set(p + "attention.sliding_window", int64_t{128});
        m.set(p + "rope.scaling.type", std::string("yarn"));
        m.set(p + "rope.scaling.factor", 32.0);
        m.set(p + "rope.scaling.original_context_length", int64_t{4096});
        m.set(p + "rope.scaling.truncate", false);
    }
    if (s.n_experts > 0) {
        m.set(p + "expert_count", s.n_experts);
        m.set(p + "expert_used_count", s.n_experts_used);
        m.set(p + "expert_feed_forward_length", s.expert_ffn_dim);
        m.set(p + "leading_dense_block_count", s.n_dense_layers);
        m.set(p + "expert_shared_count", s.n_shared_experts);
    }
    if (s.latent) {
        m.set("smelt.rope.pairing", std::string("interleaved"));
        m.set(p + "attention.q_lora_rank", s.latent->q_rank);
        m.set(p + "attention.kv_lora_rank", s.latent->kv_rank);
        m.set(p + "attention.value_length", s.latent->kv_rank);
        m.set(p + "attention.key_length_mla", s.latent->nope_dim + s.latent->rope_dim);
        m.set(p + "attention.value_length_mla", s.latent->v_dim);
        m.set(p + "rope.dimension_count", s.latent->rope_dim);
        m.set(p + "expert_gating_func", int64_t{2});  // sigmoid
    }

    std::map<std::pair<Format, int64_t>, RowPool> pools;  // by format and row length
    for (const Spec& t : list_tensors(s)) {
        const bool is_matrix = t.kind != Spec::norm && t.kind != Spec::bias;
        const Format f = format_of(t, format);
        const int64_t n = n_elements(t), row_len = t.shape.back();
        TensorView view{
            .name = t.name, .format = f, .shape = t.shape, .data = {}, .scales = {}, .source = s.name};
        if (row_len % format_info(f).block_len != 0) {
            throw Error("{}: rows of {} are no whole blocks of {}", t.name, row_len, to_string(f));
        }
        const size_t data_size = data_bytes(f, n), scale_size = scale_bytes(f, n);
        auto bytes = std::make_shared<std::vector<std::byte>>(data_size + scale_size);
        if (is_matrix) {
            RowPool& pool = pools.try_emplace({f, row_len}, f, row_len).first->second;
            pool.fill(bytes->data(), scale_size > 0 ? bytes->data() + data_size : nullptr, n / row_len);
        } else if (t.kind == Spec::norm) {
            const std::vector<float> ones(static_cast<size_t>(n), 1.0f);
            std::memcpy(bytes->data(), ones.data(), bytes->size());
        }
        view.data = std::span(*bytes).first(data_size);
        view.scales = std::span(*bytes).subspan(data_size);
        file->owned.push_back(std::move(bytes));
        file->tensors.push_back(std::move(view));
    }
    return file;
}

}  // namespace smelt
