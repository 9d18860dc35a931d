// A decoder as the graph that onnxruntime-genai's builder makes of it: GroupQueryAttention with the rotation
// in it, MatMul for floats, MatMulNBits for integers, skipping norms. The files that say what it is go beside
// it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "files/conversion.h"
#include "files/families.h"
#include "files/hugging_face/hf_config_writer.h"
#include "files/onnx/graph_writer.h"
#include "files/onnx/onnx_rope.h"
#include "files/writers.h"
#include "quant/format.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> written_types = {"llama", "mistral", "qwen2", "qwen3"};
constexpr const char* contrib = "com.microsoft";

bool is_nbits(Format f) {
    return f == Format::Q4_0 || f == Format::Q4_Z || f == Format::Q8_0 || f == Format::Q8_Z;
}

// A matrix in blocks of 32 as MatMulNBits has it.
struct NBits {
    int bits = 4;
    std::vector<std::byte> quants, zeros;  // no zeros: all are the middle
    std::vector<float> scales;
};

template <class Block>
void add_blocks(std::span<const std::byte> bytes, int64_t blocks_of_row, NBits& out) {
    constexpr bool wide = sizeof(Block::qs) == 32, is_signed = std::is_same_v<Block, BlockQ8_0>;
    constexpr bool has_zero = requires(Block b) {
        b.z;
    };
    out.bits = wide ? 8 : 4;
    for (size_t i = 0; i * sizeof(Block) < bytes.size(); ++i) {
        Block b;
        std::memcpy(&b, bytes.data() + i * sizeof(Block), sizeof(Block));
        out.scales.push_back(static_cast<float>(b.d));
        uint8_t q[32];
        for (int k = 0; k < 32; ++k) {
            if constexpr (wide) {
                q[k] = static_cast<uint8_t>(static_cast<int>(b.qs[k]) + (is_signed ? 128 : 0));
            } else {
                q[k] = static_cast<uint8_t>(b.qs[k % 16] >> (k / 16 * 4) & 15);
            }
        }
        for (int k = 0; k < 32; k += wide ? 1 : 2)
            out.quants.push_back(static_cast<std::byte>(wide ? q[k] : q[k] | q[k + 1] << 4));
        if constexpr (has_zero) {
            const auto zero = static_cast<unsigned>(static_cast<float>(b.z));
            const auto column = static_cast<int64_t>(i) % blocks_of_row;
            if (wide || column % 2 == 0) {
                out.zeros.push_back(static_cast<std::byte>(zero));
            } else {
                out.zeros.back() |= static_cast<std::byte>(zero << 4);
            }
        }
    }
}

NBits as_nbits(const OutputTensor& t, ThreadPool& pool) {
    std::vector<std::byte> bytes;
    bytes.reserve(t.n_bytes());
    stream_tensor(t, pool, [&](std::span<const std::byte> part) {
        bytes.insert(bytes.end(), part.begin(), part.end());
    });
    NBits out;
    const int64_t blocks = t.row_len() / 32;
    if (t.format == Format::Q4_0) add_blocks<BlockQ4_0>(bytes, blocks, out);
    if (t.format == Format::Q4_Z) add_blocks<BlockQ4_Z>(bytes, blocks, out);
    if (t.format == Format::Q8_0) add_blocks<BlockQ8_0>(bytes, blocks, out);
    if (t.format == Format::Q8_Z) add_blocks<BlockQ8_Z>(bytes, blocks, out);
    return out;
}

class DecoderWriter {
 public:
    DecoderWriter(const ModelFile& model, const Family& family, const WriteOptions& options, AtomicFile& data,
                  std::string location)
        : model_(model),
          family_(family),
          options_(options),
          pool_(options.n_threads),
          graph_(data, std::move(location)),
          prefix_(std::string(family.architecture) + ".") {
        n_layers_ = size("block_count");
        n_heads_ = size("attention.head_count");
        n_kv_heads_ = size("attention.head_count_kv");
        head_dim_ = size("attention.key_length");
        dim_ = size("embedding_length");
        vocab_ = size("vocab_size");
        window_ = model.metadata.get_int(prefix_ + "attention.sliding_window").value_or(0);
        eps_ = static_cast<float>(
            model.metadata.get_double(prefix_ + "attention.layer_norm_rms_epsilon").value_or(1e-6));
        plan();
    }

    std::string write() {
        add_inputs();
        add_lengths();
        add_rope();
        const OutputTensor& embedding = tensor("token_embd.weight");
        add_floats("model.embed_tokens.weight", embedding, false);
        std::string stream = "/model/embed_tokens/Gather/output_0", skip;
        graph_.node("Gather", "", "/model/embed_tokens/Gather", {"model.embed_tokens.weight", "input_ids"},
                    {stream});
        for (int64_t il = 0; il < n_layers_; ++il) {
            const std::string layer = fmt::format("/model/layers.{}", il), blk = fmt::format("blk.{}.", il);
            std::string x = norm(layer + "/input_layernorm", blk + "attn_norm.weight", stream, skip);
            skip = attention(il, layer + "/attn", blk, x);
            x = norm(layer + "/post_attention_layernorm", blk + "ffn_norm.weight", stream, skip);
            skip = feed_forward(layer + "/mlp", blk, x);
        }
        std::string x = norm(fmt::format("/model/layers.{}/final_norm_layernorm", n_layers_),
                             "output_norm.weight", stream, skip);
        add_head(x, embedding);
        return graph_.model();
    }

    Json genai_config(const std::string& file) const;

 private:
    int64_t size(const char* key) const {
        const auto value = model_.metadata.get_int(prefix_ + key);
        if (!value || *value < 1) throw Error("{}: {}{}: missing", model_.path.string(), prefix_, key);
        return *value;
    }

    // Floats have one type in all of the graph; integers of 4 and 8 bits stay, or are what was asked for.
    void plan() {
        const Format most = main_format(model_);
        const bool halves = options_.format ? *options_.format == Format::F16 : most == Format::F16;
        io_ = halves ? Format::F16 : Format::F32;
        for (OutputTensor& t : plan_tensors(model_, {options_.format, Container::onnx, &options_.formats})) {
            const Format own = t.sources.front().format;
            if (!options_.format && t.sources.size() == 1 && is_nbits(own)) t.format = own;
            if (!is_nbits(t.format) || t.shape.size() != 2) t.format = io_;
            // Names of this container are Hugging Face's, but for those that have none there.
            const auto match = match_hf(family_, t.name);
            const std::string name = match ? gguf_name(*match) : t.name;
            tensors_.emplace(name, std::move(t));
        }
        total_ = 0;
        for (const auto& [name, t] : tensors_) total_ += t.n_bytes();
        meter_.emplace(total_, options_);
    }

    const OutputTensor* find(const std::string& name) const {
        const auto it = tensors_.find(name);
        return it == tensors_.end() ? nullptr : &it->second;
    }
    const OutputTensor& tensor(const std::string& name) const {
        const OutputTensor* t = find(name);
        if (t == nullptr) throw Error("{}: tensor {} is missing", model_.path.string(), name);
        return *t;
    }

    OnnxType io() const { return io_ == Format::F16 ? OnnxType::f16 : OnnxType::f32; }

    void add_inputs() {
        graph_.input("input_ids", OnnxType::i64, {"batch_size", "sequence_length"});
        graph_.input("attention_mask", OnnxType::i64, {"batch_size", "total_sequence_length"});
        graph_.output("logits", io(), {"batch_size", "sequence_length", vocab_});
        for (int64_t il = 0; il < n_layers_; ++il) {
            for (const char* part : {"key", "value"}) {
                graph_.input(fmt::format("past_key_values.{}.{}", il, part), io(),
                             {"batch_size", n_kv_heads_, "past_sequence_length", head_dim_});
                graph_.output(fmt::format("present.{}.{}", il, part), io(),
                              {"batch_size", n_kv_heads_, "total_sequence_length", head_dim_});
            }
        }
    }

    // The last position of each sequence, and the length of all of it.
    void add_lengths() {
        const std::string base = "/model/attn_mask_reformat/";
        constexpr int64_t i32 = static_cast<int64_t>(OnnxType::i32);
        graph_.integers("one", {1});
        graph_.integers("axis", {1}, true);
        graph_.node("ReduceSum", "", base + "ReduceSum", {"attention_mask", "one"}, {base + "sum"});
        graph_.node("Sub", "", base + "Sub", {base + "sum", "one"}, {base + "last"});
        graph_.node("Cast", "", base + "Sub/Cast", {base + "last"}, {base + "seqlens_k"}, {{"to", i32}});
        graph_.node("Shape", "", base + "Shape", {"attention_mask"}, {base + "shape"});
        graph_.node("Gather", "", base + "Gather", {base + "shape", "axis"}, {base + "length"},
                    {{"axis", int64_t{0}}});
        graph_.node("Cast", "", base + "Gather/Cast", {base + "length"}, {base + "total"}, {{"to", i32}});
    }

    void add_rope() {
        const int64_t n_pairs = head_dim_ / 2, n_positions = size("context_length");
        const std::vector<double> f =
            onnx_rope_frequencies(model_, std::string(family_.architecture), n_pairs);
        for (const bool is_cos : {true, false}) {
            const std::vector<int64_t> shape = {n_positions, n_pairs};
            graph_.constant(
                is_cos ? "cos_cache" : "sin_cache", io(), shape, [&](const GraphWriter::Sink& sink) {
                    std::vector<float> row(static_cast<size_t>(n_pairs));
                    std::vector<std::byte> bytes(data_bytes(io_, n_pairs));
                    for (int64_t p = 0; p < n_positions; ++p) {
                        for (size_t i = 0; i < row.size(); ++i) {
                            const double angle = static_cast<double>(p) * f[i];
                            row[i] = static_cast<float>(is_cos ? std::cos(angle) : std::sin(angle));
                        }
                        encode_row(io_, row, bytes.data(), nullptr);
                        sink(bytes);
                    }
                });
        }
    }

    void add_floats(const std::string& name, const OutputTensor& t, bool by_columns) {
        OutputTensor floats = t;
        floats.format = io_;
        floats.by_columns = by_columns;
        std::vector<int64_t> shape = t.shape;
        if (by_columns) std::ranges::reverse(shape);
        graph_.constant(name, io(), shape,
                        [&](const GraphWriter::Sink& sink) { stream_tensor(floats, pool_, sink); });
        meter_->add(t.n_bytes());
    }

    // input times the matrix, plus its bias where there is one.
    std::string product(const std::string& base, const OutputTensor& t, const std::string& input,
                        const OutputTensor* bias = nullptr, const std::string& output = {}) {
        const std::string name = base + "/MatMul", weight = base.substr(1) + ".weight";
        std::string out = !output.empty() && bias == nullptr ? output : name + "/output_0";
        if (is_nbits(t.format)) {
            add_nbits(name, weight, t, input, out);
        } else {
            add_floats(weight, t, true);
            graph_.node("MatMul", "", name, {input, weight}, {out});
        }
        if (bias == nullptr) return out;
        add_floats(base.substr(1) + ".bias", *bias, false);
        graph_.node("Add", "", base + "/Add", {out, base.substr(1) + ".bias"}, {base + "/Add/output_0"});
        return base + "/Add/output_0";
    }

    void add_nbits(const std::string& name, const std::string& weight, const OutputTensor& t,
                   const std::string& input, const std::string& out) {
        const NBits n = as_nbits(t, pool_);
        const int64_t rows = t.n_rows(), cols = t.row_len();
        graph_.constant(weight + "_Q", OnnxType::u8, {rows, cols / 32, 32 * n.bits / 8},
                        [&](const GraphWriter::Sink& sink) { sink(n.quants); });
        std::vector<std::byte> scales(data_bytes(io_, static_cast<int64_t>(n.scales.size())));
        encode_row(io_, n.scales, scales.data(), nullptr);
        graph_.constant(weight + "_scales", io(), {rows * cols / 32},
                        [&](const GraphWriter::Sink& sink) { sink(scales); });
        std::string zeros;
        if (!n.zeros.empty()) {
            zeros = weight + "_zero_points";
            graph_.constant(zeros, OnnxType::u8, {static_cast<int64_t>(n.zeros.size())},
                            [&](const GraphWriter::Sink& sink) { sink(n.zeros); });
        }
        graph_.node("MatMulNBits", contrib, name + "NBits", {input, weight + "_Q", weight + "_scales", zeros},
                    {out},
                    {{"K", cols}, {"N", rows}, {"bits", int64_t{n.bits}}, {"block_size", int64_t{32}}});
        meter_->add(t.n_bytes());
    }

    // Norm of stream + skip, which becomes the stream.
    std::string norm(const std::string& base, const std::string& weight, std::string& stream,
                     const std::string& skip) {
        const std::string name = base.substr(1) + ".weight", out = base + "/output_0",
                          sum = base + "/output_3";
        add_floats(name, tensor(weight), false);
        if (skip.empty()) {
            graph_.node("SimplifiedLayerNormalization", "", base + "/LayerNorm", {stream, name}, {out},
                        {{"epsilon", eps_}, {"axis", int64_t{-1}}, {"stash_type", int64_t{1}}});
        } else if (weight == "output_norm.weight") {
            graph_.node("SkipSimplifiedLayerNormalization", contrib, base + "/SkipLayerNorm",
                        {stream, skip, name}, {out}, {{"epsilon", eps_}});
        } else {
            graph_.node("SkipSimplifiedLayerNormalization", contrib, base + "/SkipLayerNorm",
                        {stream, skip, name}, {out, "", "", sum}, {{"epsilon", eps_}});
            stream = sum;
        }
        return out;
    }

    std::string head_norm(const std::string& base, const OutputTensor* weight, int64_t n,
                          const std::string& value) {
        if (weight == nullptr) return value;
        graph_.integers(base + "/split", {0, -1, head_dim_});
        graph_.integers(base + "/join", {0, -1, n * head_dim_});
        add_floats(base.substr(1) + ".weight", *weight, false);
        graph_.node("Reshape", "", base + "/Reshape_1", {value, base + "/split"}, {base + "/heads"});
        graph_.node("SimplifiedLayerNormalization", "", base + "/LayerNorm",
                    {base + "/heads", base.substr(1) + ".weight"}, {base + "/normed"},
                    {{"epsilon", eps_}, {"axis", int64_t{-1}}, {"stash_type", int64_t{1}}});
        graph_.node("Reshape", "", base + "/Reshape_2", {base + "/normed", base + "/join"},
                    {base + "/output_0"});
        return base + "/output_0";
    }

    std::string attention(int64_t il, const std::string& base, const std::string& blk, const std::string& x) {
        const auto projected = [&](const char* name, const char* gguf) {
            return product(fmt::format("{}/{}", base, name), tensor(fmt::format("{}{}.weight", blk, gguf)), x,
                           find(fmt::format("{}{}.bias", blk, gguf)));
        };
        std::string q = projected("q_proj", "attn_q"), k = projected("k_proj", "attn_k");
        const std::string v = projected("v_proj", "attn_v");
        q = head_norm(base + "/q_norm", find(blk + "attn_q_norm.weight"), n_heads_, q);
        k = head_norm(base + "/k_norm", find(blk + "attn_k_norm.weight"), n_kv_heads_, k);
        const std::string name = base + "/GroupQueryAttention", out = name + "/output_0",
                          lengths = "/model/attn_mask_reformat/";
        const std::string past = fmt::format("past_key_values.{}.", il),
                          present = fmt::format("present.{}.", il);
        graph_.node("GroupQueryAttention", contrib, name,
                    {q, k, v, past + "key", past + "value", lengths + "seqlens_k", lengths + "total",
                     "cos_cache", "sin_cache"},
                    {out, present + "key", present + "value"},
                    {{"num_heads", n_heads_},
                     {"kv_num_heads", n_kv_heads_},
                     {"scale", static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim_)))},
                     {"local_window_size", window_ > 0 ? window_ : int64_t{-1}},
                     {"do_rotary", int64_t{1}},
                     {"rotary_interleaved", int64_t{0}}});
        return product(base + "/o_proj", tensor(blk + "attn_output.weight"), out,
                       find(blk + "attn_output.bias"));
    }

    std::string feed_forward(const std::string& base, const std::string& blk, const std::string& x) {
        const std::string gate = product(base + "/gate_proj", tensor(blk + "ffn_gate.weight"), x,
                                         find(blk + "ffn_gate.bias")),
                          up = product(base + "/up_proj", tensor(blk + "ffn_up.weight"), x,
                                       find(blk + "ffn_up.bias"));
        graph_.node("Sigmoid", "", base + "/act_fn/Sigmoid", {gate}, {base + "/sigmoid"});
        graph_.node("Mul", "", base + "/act_fn/Mul", {gate, base + "/sigmoid"}, {base + "/silu"});
        graph_.node("Mul", "", base + "/Mul", {base + "/silu", up}, {base + "/gated"});
        return product(base + "/down_proj", tensor(blk + "ffn_down.weight"), base + "/gated",
                       find(blk + "ffn_down.bias"));
    }

    void add_head(const std::string& x, const OutputTensor& embedding) {
        if (const OutputTensor* head = find("output.weight")) {
            product("/lm_head", *head, x, nullptr, "logits");
        } else if (is_nbits(embedding.format)) {
            product("/lm_head", embedding, x, nullptr, "logits");
        } else {
            graph_.transpose("/lm_head/Transpose", "model.embed_tokens.weight", "lm_head.weight");
            graph_.node("MatMul", "", "/lm_head/MatMul", {x, "lm_head.weight"}, {"logits"});
        }
    }

    const ModelFile& model_;
    const Family& family_;
    const WriteOptions& options_;
    ThreadPool pool_;
    GraphWriter graph_;
    std::string prefix_;
    int64_t n_layers_ = 0, n_heads_ = 0, n_kv_heads_ = 0, head_dim_ = 0, dim_ = 0, vocab_ = 0, window_ = 0;
    float eps_ = 0;
    Format io_ = Format::F32;
    std::map<std::string, OutputTensor> tensors_;  // by GGUF's names
    uint64_t total_ = 0;
    std::optional<ProgressMeter> meter_;
};

Json DecoderWriter::genai_config(const std::string& file) const {
    const Metadata& m = model_.metadata;
    Json eos = Json::array();
    if (const auto* ids = m.get_ints("generation.eos_token_ids")) eos = *ids;
    const Json pad = eos.empty() ? Json(0) : eos.front();
    Json config = {
        {"model",
         {{"bos_token_id", m.get_int("generation.bos_token_id").value_or(1)},
          {"context_length", size("context_length")},
          {"decoder",
           {{"session_options", {{"log_id", "onnxruntime-genai"}, {"provider_options", Json::array()}}},
            {"filename", file},
            {"head_size", head_dim_},
            {"hidden_size", dim_},
            {"inputs",
             {{"input_ids", "input_ids"},
              {"attention_mask", "attention_mask"},
              {"past_key_names", "past_key_values.%d.key"},
              {"past_value_names", "past_key_values.%d.value"}}},
            {"outputs",
             {{"logits", "logits"},
              {"present_key_names", "present.%d.key"},
              {"present_value_names", "present.%d.value"}}},
            {"num_attention_heads", n_heads_},
            {"num_hidden_layers", n_layers_},
            {"num_key_value_heads", n_kv_heads_}}},
          {"eos_token_id", eos},
          {"pad_token_id", pad},
          {"type", std::string(family_.model_type)},
          {"vocab_size", vocab_}}}};
    Json search = {{"max_length", size("context_length")}, {"past_present_share_buffer", true}};
    const Json generation = make_generation_config(m);
    for (const char* key : {"do_sample", "temperature", "top_k", "top_p", "repetition_penalty"}) {
        if (generation.contains(key)) search[key] = generation[key];
    }
    config["search"] = search;
    return config;
}

}  // namespace

std::vector<fs::path> onnx_neighbours(const fs::path& path) {
    const fs::path folder = path.parent_path();
    return {fs::path(path.string() + ".data"), folder / "genai_config.json", folder / "tokenizer.json",
            folder / "tokenizer_config.json", folder / "chat_template.jinja"};
}

void write_onnx(const ModelFile& model, const fs::path& path, const HuggingFaceTexts& texts,
                const WriteOptions& options) {
    const Family* family = family_of(model.metadata);
    if (family == nullptr || std::ranges::find(written_types, family->model_type) == written_types.end()) {
        const std::string* type = model.metadata.get_string("general.architecture");
        throw Error("{}: llama, mistral, qwen2 and qwen3 are written as ONNX, the model is {}", path.string(),
                    family != nullptr ? std::string(family->model_type)
                    : type != nullptr ? *type
                                      : "of no architecture");
    }
    if (model.metadata.get_ints(std::string(family->architecture) + ".attention.sliding_window_pattern") !=
        nullptr)
        throw Error("{}: windows in some layers alone are not written as ONNX", path.string());
    constexpr std::array formats = {Format::F32, Format::F16, Format::Q4_0, Format::Q8_0};
    if (options.format && std::ranges::find(formats, *options.format) == formats.end())
        throw Error("{}: ONNX models are written in f32, f16, q4_0 and q8_0, not in {}", path.string(),
                    to_string(*options.format));
    if (!options.formats.empty() || options.importance != nullptr || options.packed)
        throw Error("{}: ONNX models have one format for all matrices, rounded without a text",
                    path.string());
    const std::vector<fs::path> files = onnx_neighbours(path);
    std::error_code error;
    if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
    if (error) throw Error("{}: cannot create: {}", path.parent_path().string(), error.message());
    AtomicFile graph_file(path), data(files[0]), genai(files[1]);
    DecoderWriter writer(model, *family, options, data, files[0].filename().string());
    graph_file.write(writer.write());
    genai.write(writer.genai_config(path.filename().string()).dump(4) + "\n");
    data.commit();
    genai.commit();
    const std::string* chat = model.metadata.get_string("tokenizer.chat_template");
    for (const auto& [file, text] : {std::pair{files[2], &texts.tokenizer_json},
                                     {files[3], &texts.tokenizer_config_json},
                                     {files[4], chat}}) {
        if (text == nullptr || text->empty()) continue;
        AtomicFile out(file);
        out.write(*text);
        out.commit();
    }
    graph_file.commit();
}

}  // namespace smelt
