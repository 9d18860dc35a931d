// Every golden model against what its family does not know: keys, tensors and metadata are refused by name,
// or they change nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "golden/golden_file.h"
#include "model/families_support.h"

namespace smelt {
namespace {

std::string source_of(const fs::path& golden_folder, const Json& config, const TemporaryFolder& t) {
    fs::remove_all(t.path() / "m");
    fs::create_directories(t.path() / "m");
    fs::create_symlink(fs::absolute(golden_folder / "model.safetensors"),
                       t.path() / "m" / "model.safetensors");
    write_file(t.path() / "m" / "config.json", config.dump());
    return t.path() / "m";
}

class EveryGolden : public testing::TestWithParam<std::string> {};

TEST_P(EveryGolden, LoadsAndRefusesUnknownKeysByName) {
    const TemporaryFolder t;
    const fs::path folder = golden(GetParam());
    const Json config = parse_json(read_file(folder / "config.json"), "config.json");
    EXPECT_EQ(load_error(open_model(source_of(folder, config, t))), "");
    for (const auto& [key, value] : {std::pair<std::string, Json>{"wonder_scale", 2.0},
                                     {"logit_scale", 0.5},
                                     {"final_logit_softcapping", 30.0},
                                     {"layers_block", Json{{"a", 1}}}}) {
        Json odd = config;
        if (config.contains(key)) continue;  // the family's own
        odd[key] = value;
        const std::string error = load_error(open_model(source_of(folder, odd, t)));
        EXPECT_NE(error.find("config.json: " + key + ": "), std::string::npos) << error;
        EXPECT_EQ(error.find('\n'), std::string::npos);
        odd[key] = nullptr;
        EXPECT_EQ(load_error(open_model(source_of(folder, odd, t))), "") << key << " = null";
    }
    Json harmless = config;
    harmless["unsloth_version"] = "2026.1";
    harmless["_name_or_path"] = "there";
    EXPECT_EQ(load_error(open_model(source_of(folder, harmless, t))), "");
    const char* activation = config.contains("hidden_activation") ? "hidden_activation"
                             : config.contains("hidden_act")      ? "hidden_act"
                                                                  : "activation_function";
    Json other = config;
    other[activation] = "relu";
    const std::string error = load_error(open_model(source_of(folder, other, t)));
    EXPECT_NE(error.find(std::string(activation) + ": expected"), std::string::npos) << error;
}

TEST_P(EveryGolden, RefusesUnknownRopeKeysByName) {
    const TemporaryFolder t;
    Json config = parse_json(read_file(golden(GetParam()) / "config.json"), "config.json");
    if (!config.contains("rope_parameters")) return;
    config["rope_parameters"]["mscale"] = 0.7;
    std::string error = load_error(open_model(source_of(golden(GetParam()), config, t)));
    EXPECT_NE(error.find("rope_parameters: mscale"), std::string::npos) << error;
    config["rope_parameters"].erase("mscale");
    config["rope_parameters"]["partial_rotary_factor"] = 0.5;
    const auto half = open_model(source_of(golden(GetParam()), config, t));
    if (family_of(half->metadata)->partial_rotary) return;
    error = load_error(half);
    const bool named = error.find("partial_factor") != std::string::npos ||
                       error.find("partial_rotary_factor") != std::string::npos;
    EXPECT_TRUE(named) << error;
}

// In both containers, and in conversions.
TEST_P(EveryGolden, RefusesUnknownTensorsAndMetadataByName) {
    const TemporaryFolder t;
    const auto original = open_model(golden(GetParam()));
    EXPECT_EQ(original->refused, std::vector<std::string>{});
    write_gguf(*original, t.path() / "m.gguf", {}, {.n_threads = 1});
    const auto gguf = open_model(t.path() / "m.gguf");
    EXPECT_EQ(gguf->refused, std::vector<std::string>{});
    const std::string architecture = *gguf->metadata.get_string("general.architecture");

    ModelFile odd = *gguf;
    odd.metadata.set(architecture + ".wonder_scale", 2.0);
    write_gguf(odd, t.path() / "odd.gguf", {}, {.n_threads = 1});
    std::string error = load_error(open_model(t.path() / "odd.gguf"));
    EXPECT_NE(error.find(architecture + ".wonder_scale"), std::string::npos) << error;

    const TensorView* norm = gguf->find("output_norm.weight");
    for (const char* name : {"blk.0.wonder.weight", "blk.0.attn_q.wonder", "blk.77.attn_norm.weight"}) {
        ModelFile more = *gguf;
        more.tensors.push_back(*norm);
        more.tensors.back().name = name;
        write_gguf(more, t.path() / "more.gguf", {}, {.n_threads = 1});
        const auto opened = open_model(t.path() / "more.gguf");
        error = load_error(opened);
        if (std::string(name) == "blk.77.attn_norm.weight" && family_of(gguf->metadata)->prediction_layers) {
            EXPECT_EQ(error, "");  // layers that predict further tokens
            continue;
        }
        EXPECT_NE(error.find(name), std::string::npos) << error;
        EXPECT_THROW(write_hugging_face(*opened, t.path() / "hf", {}, {.n_threads = 1}), Error);
    }
}

std::vector<std::string> list_goldens() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(SMELT_TEST_DATA "/goldens")) {
        if (entry.is_directory()) names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    return names;
}

std::vector<float> logits_of(const std::shared_ptr<const ModelFile>& file, const std::vector<int32_t>& ids) {
    const auto backend = make_backend("cpu", {.n_threads = 1});
    return forward_logits(*load_model(file, *backend), *backend, ids);
}

// What another family's config says beside its own: this family refuses it, or it changes nothing.
TEST_P(EveryGolden, RefusesKeysOfOtherFamiliesOrIsTheSame) {
    const TemporaryFolder t;
    const fs::path folder = golden(GetParam());
    const Json own = parse_json(read_file(folder / "config.json"), "config.json");
    const std::vector<int32_t> ids = GoldenFile(folder / "golden.safetensors").ints("ids_1");
    const std::vector<float> expected = logits_of(open_model(folder), ids);
    std::set<std::string> seen;
    for (const std::string& other : list_goldens()) {
        const Json config = parse_json(read_file(golden(other) / "config.json"), "config.json");
        for (const auto& [key, value] : config.items()) {
            if (own.contains(key) || !seen.insert(key + value.dump()).second) continue;
            Json odd = own;
            odd[key] = value;
            try {
                EXPECT_EQ(logits_of(open_model(source_of(folder, odd, t)), ids), expected)
                    << key << " of " << other << " is taken and changes the result";
            } catch (const Error&) {
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, EveryGolden, testing::ValuesIn(list_goldens()), [](const auto& test) {
    std::string name = test.param;
    std::ranges::replace_if(
        name, [](char c) { return c == '-' || c == '.'; }, '_');
    return name;
});

}  // namespace
}  // namespace smelt
