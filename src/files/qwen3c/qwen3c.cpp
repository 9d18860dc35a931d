// qwen3.c's .bin: a header of ten numbers, then norms as floats and matrices as int8 with float scales, all
// in a fixed order and without names. Vocabulary and prompts are in files beside it.
#include "files/qwen3c/qwen3c.h"

#include <cmath>

#include "base/byte_reader.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

Qwen3cHeader read_header(ByteReader& in) {
    if (in.read<uint32_t>("magic") != qwen3c_magic) {
        throw Error("{}: expected qwen3.c's magic at offset 0", in.source());
    }
    if (const auto version = in.read<int32_t>("version"); version != qwen3c_version) {
        throw Error("{}: offset 4: expected version {}, found {}", in.source(), qwen3c_version, version);
    }
    const auto h = in.read<Qwen3cHeader>("header");
    const auto check = [&](const char* name, int32_t value, int32_t low, int32_t high) {
        if (value < low || value > high) {
            throw Error("{}: header: {}: expected {} to {}, found {}", in.source(), name, low, high, value);
        }
    };
    constexpr int32_t large = 1 << 24;
    check("dim", h.dim, 1, large);
    check("hidden_dim", h.ffn_dim, 1, large);
    check("n_layers", h.n_layers, 1, static_cast<int32_t>(limits::layers));
    check("n_heads", h.n_heads, 1, 65536);
    check("n_kv_heads", h.n_kv_heads, 1, h.n_heads);
    check("vocab_size", h.vocab_size, 1, large);
    check("seq_len", h.n_ctx, 1, 1 << 30);
    check("head_dim", h.head_dim, 1, 65536);
    check("shared_classifier", h.shared_classifier, 0, 1);
    check("group_size", h.group, 1, 1024);
    in.seek(qwen3c_header_bytes, "header");
    return h;
}

// Groups that are not of 64 or that cross rows: no format of smelt's is like it, so the weights become
// floats. Only sizes that no published model has give such files.
std::span<const std::byte> dequantize(std::span<const std::byte> quants, std::span<const std::byte> scales,
                                      size_t group, ModelFile& model) {
    auto floats = std::make_shared<std::vector<std::byte>>(quants.size() * sizeof(float));
    for (size_t i = 0; i < quants.size(); ++i) {
        float scale = 0;
        std::memcpy(&scale, scales.data() + i / group * sizeof(float), sizeof(float));
        const float value = scale * static_cast<float>(static_cast<int8_t>(quants[i]));
        std::memcpy(floats->data() + i * sizeof(float), &value, sizeof(float));
    }
    model.owned.push_back(floats);
    return *floats;
}

void read_tensor(ByteReader& in, const Qwen3cTensor& tensor, const Qwen3cHeader& h, ModelFile& model) {
    uint64_t n = 1;
    for (const int64_t d : tensor.shape) n *= static_cast<uint64_t>(d);
    TensorView view{tensor.name, Format::F32, tensor.shape, {}, {}, in.source()};
    if (!tensor.quantized) {
        view.data = in.take(n * sizeof(float), tensor.name);
    } else {
        const auto group = static_cast<uint64_t>(h.group);
        if (n % group != 0) {
            throw Error("{}: {}: expected a multiple of the group size {}, found {} weights", in.source(),
                        tensor.name, group, n);
        }
        const auto quants = in.take(n, tensor.name);
        const auto scales = in.take(n / group * sizeof(float), tensor.name);
        constexpr int64_t block = BlockQ8_G64::block_len;
        if (h.group == block && tensor.shape.back() % block == 0) {
            view.format = Format::Q8_G64;
            view.data = quants;
            view.scales = scales;
        } else {
            view.data = dequantize(quants, scales, group, model);
        }
    }
    view.data = aligned(view.data, view.format == Format::F32 ? alignof(float) : 1, model);
    view.scales = aligned(view.scales, alignof(float), model);
    model.tensors.push_back(std::move(view));
}

void set_metadata(const Qwen3cHeader& h, Metadata& m) {
    m.set("general.architecture", std::string("qwen3"));
    m.set("smelt.rope.pairing", std::string("half"));
    m.set("smelt.tie_word_embeddings", h.shared_classifier == 1);
    const auto set = [&](const char* key, int32_t value) {
        m.set(std::string("qwen3.") + key, static_cast<int64_t>(value));
    };
    set("embedding_length", h.dim);
    set("feed_forward_length", h.ffn_dim);
    set("block_count", h.n_layers);
    set("attention.head_count", h.n_heads);
    set("attention.head_count_kv", h.n_kv_heads);
    set("attention.key_length", h.head_dim);
    set("attention.value_length", h.head_dim);
    set("vocab_size", h.vocab_size);
    set("context_length", h.n_ctx);
    m.set("qwen3.rope.freq_base", qwen3c_rope_base);
    m.set("qwen3.attention.layer_norm_rms_epsilon", qwen3c_rms_eps);
}

}  // namespace

std::vector<Qwen3cTensor> qwen3c_tensors(const Qwen3cHeader& h) {
    const int64_t q_dim = int64_t{h.n_heads} * h.head_dim, kv_dim = int64_t{h.n_kv_heads} * h.head_dim;
    std::vector<Qwen3cTensor> result;
    const auto per_layer = [&](const char* name, std::vector<int64_t> shape, bool quantized) {
        for (int32_t il = 0; il < h.n_layers; ++il) {
            result.push_back({fmt::format("blk.{}.{}.weight", il, name), shape, quantized});
        }
    };
    per_layer("attn_norm", {h.dim}, false);
    per_layer("ffn_norm", {h.dim}, false);
    result.push_back({"output_norm.weight", {h.dim}, false});
    per_layer("attn_q_norm", {h.head_dim}, false);
    per_layer("attn_k_norm", {h.head_dim}, false);
    result.push_back({"token_embd.weight", {h.vocab_size, h.dim}, true});
    per_layer("attn_q", {q_dim, h.dim}, true);
    per_layer("attn_k", {kv_dim, h.dim}, true);
    per_layer("attn_v", {kv_dim, h.dim}, true);
    per_layer("attn_output", {h.dim, q_dim}, true);
    per_layer("ffn_gate", {h.ffn_dim, h.dim}, true);
    per_layer("ffn_down", {h.dim, h.ffn_dim}, true);
    per_layer("ffn_up", {h.ffn_dim, h.dim}, true);
    if (h.shared_classifier == 0) result.push_back({"output.weight", {h.vocab_size, h.dim}, true});
    return result;
}

void read_qwen3c(std::span<const std::byte> bytes, const std::string& source, ModelFile& model) {
    ByteReader in(bytes, source);
    const Qwen3cHeader h = read_header(in);
    for (const Qwen3cTensor& tensor : qwen3c_tensors(h)) read_tensor(in, tensor, h, model);
    if (in.remaining() > 0) {
        throw Error("{}: expected {} bytes as the header says, found {}", source, in.position(),
                    bytes.size());
    }
    model.container = Container::qwen3c;
    model.container_version = fmt::format("qwen3.c v{}", qwen3c_version);
    model.notes.push_back(
        "the file carries no rope base and no epsilon: 1e6 and 1e-6, as runq.c has built in");
    set_metadata(h, model.metadata);
    fill_defaults(model);
}

void read_qwen3c_neighbours(ModelFile& model) {
    const std::string base = model.path.string();
    const auto map = [&](std::string_view suffix) -> std::shared_ptr<const MappedFile> {
        const std::string path = base + std::string(suffix);
        std::error_code error;
        return std::filesystem::exists(path, error) ? std::make_shared<const MappedFile>(path) : nullptr;
    };
    model.tokenizer = map(".tokenizer");
    if (model.tokenizer != nullptr) {
        ByteReader in(model.tokenizer->bytes(), base + ".tokenizer");
        in.read<uint32_t>("longest token");
        const auto bos = in.read<uint32_t>("bos_id"), eos = in.read<uint32_t>("eos_id");
        model.metadata.set("generation.bos_token_id", int64_t{bos});
        // runq.c ends an answer at either.
        model.metadata.set("generation.eos_token_ids", std::vector<int64_t>{eos, bos});
    }

    std::array<std::string, 4> prompts;
    for (size_t i = 0; i < prompts.size(); ++i) {
        const auto file = map(qwen3c_prompt_suffixes[i]);
        if (file == nullptr) {
            model.notes.push_back(
                fmt::format("{}{} is missing: no chat template", base, qwen3c_prompt_suffixes[i]));
            return;
        }
        if (file->bytes().size() > limits::template_bytes) {
            throw Error("{}: template of {} bytes, at most {} are accepted", file->path().string(),
                        file->bytes().size(), limits::template_bytes);
        }
        prompts[i] = file->text();
    }
    model.metadata.set("tokenizer.chat_template",
                       qwen3c_chat_template({prompts[0], prompts[1], prompts[2], prompts[3]}, base));
}

}  // namespace smelt
