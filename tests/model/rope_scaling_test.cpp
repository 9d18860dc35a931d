// --rope-scaling: the same as if the model's config said it.
#include "model/rope.h"

#include "base/json.h"
#include "engine/forward.h"
#include "files/files_support.h"

namespace smelt {
namespace {

// A copy of a golden model whose config.json has other RoPE parameters.
fs::path with_config(const TemporaryFolder& t, const std::string& model, const Json& rope, int64_t context) {
    const fs::path folder = t.path() / "model";
    fs::remove_all(folder);
    fs::create_directories(folder);
    for (const char* name : {"model.safetensors", "generation_config.json"}) {
        fs::copy_file(golden(model) / name, folder / name);
    }
    Json config = parse_json(read_file(golden(model) / "config.json"), "config.json");
    config["rope_parameters"] = rope;
    config["max_position_embeddings"] = context;
    write_file(folder / "config.json", config.dump());
    return folder;
}

std::vector<float> logits_of(std::shared_ptr<const ModelFile> file) {
    const auto backend = make_backend("cpu", {.n_threads = 1});
    const auto model = load_model(std::move(file), *backend);
    std::vector<int32_t> ids(40);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 31 % 500);
    return forward_logits(*model, *backend, ids);
}

int64_t context_of(const ModelFile& file) {
    return *file.metadata.get_int(*file.metadata.get_string("general.architecture") + ".context_length");
}

TEST(RopeScaling, IsWhatAConfigWithItGives) {
    const TemporaryFolder t;
    struct Case {
        const char* model;
        const char* option;
        Json rope;
        int64_t context;
    };
    const Json base = {{"rope_theta", 1e6}};
    const auto with = [&](Json more) {
        more.update(base);
        return more;
    };
    for (const Case& c :
         {Case{"qwen3", "yarn,factor=4,original=256",
               with({{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 256}}),
               1024},
          Case{"qwen3", "yarn,original=256,factor=8,beta_fast=16,beta_slow=2",
               with({{"rope_type", "yarn"},
                     {"factor", 8.0},
                     {"beta_fast", 16.0},
                     {"beta_slow", 2.0},
                     {"original_max_position_embeddings", 256}}),
               2048},
          Case{"qwen3", "linear,factor=3", with({{"rope_type", "linear"}, {"factor", 3.0}}), 6144},
          // In place of a scaling that the model has.
          Case{"qwen3-yarn", "none", with({{"rope_type", "default"}}), 256},
          Case{"llama3",
               "yarn,factor=2,original=128",
               {{"rope_theta", 500000.0},
                {"rope_type", "yarn"},
                {"factor", 2.0},
                {"original_max_position_embeddings", 128}},
               256}}) {
        SCOPED_TRACE(c.option);
        const auto plain = open_model(golden(c.model)),
                   said = open_model(with_config(t, c.model, c.rope, c.context)),
                   overridden = override_rope_scaling(plain, c.option);
        EXPECT_EQ(context_of(*overridden), c.context);
        EXPECT_EQ(logits_of(overridden), logits_of(said));
        EXPECT_NE(logits_of(overridden), logits_of(plain));
    }
    const auto plain = open_model(golden("qwen3"));
    EXPECT_EQ(override_rope_scaling(plain, ""), plain);
}

// GGUF has Llama 3's scaling as a tensor.
TEST(RopeScaling, ReplacesDivisors) {
    ModelFile file = *open_model(golden("llama3"));
    const std::vector<float> divisors(16, 2.0f);
    file.tensors.push_back(
        {"rope_freqs.weight", Format::F32, {16}, std::as_bytes(std::span(divisors)), {}, "test"});
    const auto shared = std::make_shared<const ModelFile>(file);
    EXPECT_EQ(override_rope_scaling(shared, "none")->find("rope_freqs.weight"), nullptr);
    EXPECT_EQ(read_rope(*override_rope_scaling(shared, "linear,factor=1"), "llama", 32).inv_freq,
              read_rope(*override_rope_scaling(shared, "none"), "llama", 32).inv_freq);
}

TEST(RopeScaling, Qwen3ReachesWhatItsAuthorsSay) {
    ModelFile file = *open_model(golden("qwen3"));
    file.metadata.set("qwen3.context_length", int64_t{40960});
    EXPECT_EQ(context_of(*override_rope_scaling(std::make_shared<const ModelFile>(file), "yarn")), 131072);
}

TEST(RopeScaling, WrongValuesAreNamed) {
    const auto file = open_model(golden("qwen3"));
    for (const auto& [option, text] :
         {std::pair("ntk", "expected none, linear or yarn, found \"ntk\""),
          std::pair("yarn,factor=0.5", "factor: expected a number of 1 to 1000000, found \"0.5\""),
          std::pair("yarn,factor=4x", "found \"4x\""), std::pair("yarn,factor=nan", "found \"nan\""),
          std::pair("yarn,factor=", "found \"\""), std::pair("yarn,original=1.5", "found \"1.5\""),
          std::pair("yarn,factor", "found \"factor\""), std::pair("yarn,,factor=4", "found \"\""),
          std::pair("linear,scale=4", "found \"scale=4\""),
          std::pair("none,factor=2", "none: expected no more, found \"factor=2\"")}) {
        try {
            (void)override_rope_scaling(file, option);
            ADD_FAILURE() << option;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
        }
    }
}

}  // namespace
}  // namespace smelt
