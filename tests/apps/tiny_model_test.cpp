// scripts/make_tiny_model.py: what it writes runs.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "apps/command.h"
#include "files/families.h"
#include "files/files_support.h"

namespace smelt {
namespace {

const char* const spec = R"({
  "config": {"model_type": "qwen3", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 48, "vocab_size": 64,
             "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true},
  "tensors": {"model.embed_tokens.weight": ["vocab_size", "hidden_size"], "model.norm.weight": ["hidden_size"],
    "model.layers.{layer}.input_layernorm.weight": ["hidden_size"],
    "model.layers.{layer}.post_attention_layernorm.weight": ["hidden_size"],
    "model.layers.{layer}.self_attn.q_proj.weight": ["num_attention_heads * head_dim", "hidden_size"],
    "model.layers.{layer}.self_attn.k_proj.weight": ["num_key_value_heads * head_dim", "hidden_size"],
    "model.layers.{layer}.self_attn.v_proj.weight": ["num_key_value_heads * head_dim", "hidden_size"],
    "model.layers.{layer}.self_attn.o_proj.weight": ["hidden_size", "num_attention_heads * head_dim"],
    "model.layers.{layer}.self_attn.q_norm.weight": ["head_dim"],
    "model.layers.{layer}.self_attn.k_norm.weight": ["head_dim"],
    "model.layers.{layer}.mlp.gate_proj.weight": ["intermediate_size", "hidden_size"],
    "model.layers.{layer}.mlp.up_proj.weight": ["intermediate_size", "hidden_size"],
    "model.layers.{layer}.mlp.down_proj.weight": ["hidden_size", 48]}})";

class TinyModel : public testing::Test {
 protected:
    void SetUp() override {
        if (std::system("python3 --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3 is not here";
    }
    void expect_runs(const std::string& options) {
        const fs::path folder = t_.path() / "model";
        fs::remove_all(folder);
        const std::string command = std::string("python3 " SMELT_SCRIPTS "/make_tiny_model.py ") +
                                    folder.string() + " " + options + " >/dev/null";
        ASSERT_EQ(std::system(command.c_str()), 0) << command;
        const CommandResult r =
            smelt_command("logits " + folder.string() + " --ids 1,2,3 -o " + (t_.path() / "l.npy").string());
        EXPECT_EQ(r.status, 0) << options << ": " << r.err;
    }
    TemporaryFolder t_;
};

TEST_F(TinyModel, OfEachFamilyRuns) {
    for (const Family* family : all_families()) {
        expect_runs(fmt::format("--smelt {} --family {}", SMELT_BINARY, family->model_type));
    }
    expect_runs("--smelt " SMELT_BINARY " --family qwen3 --dtype f32 --seed 7");
}

TEST_F(TinyModel, OfANewFamilyRuns) {
    write_file(t_.path() / "spec.json", spec);
    expect_runs("--spec " + (t_.path() / "spec.json").string());
}

}  // namespace
}  // namespace smelt
