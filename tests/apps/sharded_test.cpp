// A model far larger than this machine's memory: Qwen3-235B-A22B as published, 36,945 tensors in 118 shards,
// as sparse files that hold their headers only. Opening reads headers; loading touches no weight.
#include <gtest/gtest.h>

#include "apps/command.h"
#include "base/json.h"
#include "base/process_use.h"
#include "engine/forward.h"
#include "files/files_support.h"
#include "sanitizer.h"

namespace smelt {
namespace {

constexpr int64_t dim = 4096, n_layers = 94, n_heads = 64, n_kv_heads = 4, head_dim = 128, n_experts = 128,
                  expert_ffn_dim = 1536, vocab = 151936;
constexpr uint64_t n_weights = 235'093'634'560, shard_bytes = 4'000'000'000;

const char* const config = R"({
  "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16",
  "hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4,
  "head_dim": 128, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_experts": 128,
  "num_experts_per_tok": 8, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
  "vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1000000.0, "rope_scaling": null,
  "rms_norm_eps": 1e-06, "hidden_act": "silu", "attention_bias": false, "tie_word_embeddings": false,
  "sliding_window": null, "use_sliding_window": false})";

struct Tensor235 {
    std::string name;
    std::vector<int64_t> shape;
    uint64_t n_bytes() const {
        uint64_t n = 2;  // BF16
        for (const int64_t d : shape) n *= static_cast<uint64_t>(d);
        return n;
    }
};

std::vector<Tensor235> list_tensors() {
    std::vector<Tensor235> list = {{"model.embed_tokens.weight", {vocab, dim}}};
    for (int64_t layer = 0; layer < n_layers; ++layer) {
        const std::string prefix = fmt::format("model.layers.{}.", layer), attention = prefix + "self_attn.";
        list.push_back({attention + "q_proj.weight", {n_heads * head_dim, dim}});
        list.push_back({attention + "k_proj.weight", {n_kv_heads * head_dim, dim}});
        list.push_back({attention + "v_proj.weight", {n_kv_heads * head_dim, dim}});
        list.push_back({attention + "o_proj.weight", {dim, n_heads * head_dim}});
        list.push_back({attention + "q_norm.weight", {head_dim}});
        list.push_back({attention + "k_norm.weight", {head_dim}});
        list.push_back({prefix + "input_layernorm.weight", {dim}});
        list.push_back({prefix + "post_attention_layernorm.weight", {dim}});
        list.push_back({prefix + "mlp.gate.weight", {n_experts, dim}});
        for (int64_t e = 0; e < n_experts; ++e) {
            const std::string expert = fmt::format("{}mlp.experts.{}.", prefix, e);
            list.push_back({expert + "gate_proj.weight", {expert_ffn_dim, dim}});
            list.push_back({expert + "up_proj.weight", {expert_ffn_dim, dim}});
            list.push_back({expert + "down_proj.weight", {dim, expert_ffn_dim}});
        }
    }
    list.push_back({"model.norm.weight", {dim}});
    list.push_back({"lm_head.weight", {vocab, dim}});
    return list;
}

void write_shard(const fs::path& path, std::span<const Tensor235> tensors) {
    std::string header = "{";
    uint64_t offset = 0;
    for (const Tensor235& t : tensors) {
        header +=
            fmt::format(R"({}"{}":{{"dtype":"BF16","shape":{},"data_offsets":[{},{}]}})",
                        offset == 0 ? "" : ",", t.name, Json(t.shape).dump(), offset, offset + t.n_bytes());
        offset += t.n_bytes();
    }
    header += "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    write_file(path, safetensors(header, ""));
    fs::resize_file(path, 8 + header.size() + offset);
}

void write_folder(const fs::path& folder) {
    write_file(folder / "config.json", config);
    const std::vector<Tensor235> tensors = list_tensors();
    std::vector<std::span<const Tensor235>> shards;
    size_t first = 0;
    uint64_t size = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
        if (size + tensors[i].n_bytes() > shard_bytes) {
            shards.push_back(std::span(tensors).subspan(first, i - first));
            first = i;
            size = 0;
        }
        size += tensors[i].n_bytes();
    }
    shards.push_back(std::span(tensors).subspan(first));
    std::string map;
    for (size_t s = 0; s < shards.size(); ++s) {
        const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
        write_shard(folder / name, shards[s]);
        for (const Tensor235& t : shards[s]) {
            map += fmt::format("{}\n\"{}\": \"{}\"", map.empty() ? "" : ",", t.name, name);
        }
    }
    write_file(folder / "model.safetensors.index.json", "{\"metadata\": {}, \"weight_map\": {" + map + "}}");
}

class Sharded : public testing::Test {
 protected:
    static void SetUpTestSuite() {
        folder = std::make_unique<TemporaryFolder>();
        write_folder(folder->path());
    }
    static void TearDownTestSuite() { folder.reset(); }
    static std::unique_ptr<TemporaryFolder> folder;
};
std::unique_ptr<TemporaryFolder> Sharded::folder;

TEST_F(Sharded, InspectReadsHeadersOnly) {
    const CommandResult r = smelt_command("inspect " + folder->path().string() + " --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json report = parse_json(r.out, "inspect");
    EXPECT_EQ(report["parameters"], n_weights);
    EXPECT_EQ(report["runs"], true) << report["why_not"];
    EXPECT_EQ(report["container"], "safetensors, 118 shards");
}

TEST_F(Sharded, OpeningAndLoadingTouchNoWeights) {
    const auto file = open_model(folder->path());
    EXPECT_EQ(file->tensors.size(), 36'945u);
    EXPECT_EQ(file->n_bytes(), 2 * n_weights);
    EXPECT_TRUE(file->owned.empty());
    const auto backend = make_backend("cpu", {.n_threads = 2});
    const auto model = load_model(file, *backend);
    EXPECT_EQ(model->weight_bytes(), 2 * n_weights);
    if (!has_shadow_memory) {
        EXPECT_LT(read_process_use().peak_resident, 200e6);
    }
}

TEST_F(Sharded, ACutRunsWithoutTheRest) {
    auto cut = std::make_shared<ModelFile>(*open_model(folder->path()));
    cut->metadata.set("qwen3moe.block_count", int64_t{1});
    const auto backend = make_backend("cpu", {.n_threads = 2});
    const auto model = load_model(cut, *backend);
    SequenceRunner sequence(*model, *backend, 1, {});
    const int32_t id = 5;
    (void)sequence.feed({&id, 1}, SequenceRunner::Logits::none);
    // Attention of 143 MB and 8 of the 128 experts, 38 MB each, of 470 GB.
    if (!has_shadow_memory) {
        EXPECT_LT(read_process_use().peak_resident, 700e6);
    }
}

}  // namespace
}  // namespace smelt
