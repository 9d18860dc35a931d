// config.json with numbers that are missing, impossible or against the tensors: one line that names them, and
// nothing of it reaches a kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "engine/forward.h"

namespace smelt {
namespace {

namespace fs = std::filesystem;

class BadConfig : public testing::TestWithParam<std::string> {
 protected:
    BadConfig() : golden_(fs::path(SMELT_TEST_DATA "/goldens") / GetParam()) {
        folder_ = fs::path(testing::TempDir()) / ("smelt-bad-config-" + GetParam());
        fs::remove_all(folder_);
        fs::create_directories(folder_);
        fs::create_symlink(fs::absolute(golden_ / "model.safetensors"), folder_ / "model.safetensors");
        std::ifstream in(golden_ / "config.json");
        config_ = parse_json(std::string(std::istreambuf_iterator<char>(in), {}), "config.json");
    }
    ~BadConfig() override { fs::remove_all(folder_); }

    // The error's text; empty when the model runs, with numbers for logits.
    std::string outcome(const Json& config) {
        std::ofstream(folder_ / "config.json") << config.dump();
        try {
            const auto backend = make_reference_backend();
            const auto model = load_model(open_model(folder_), *backend);
            const std::vector<int32_t> ids = {1, 2, 3};
            for (const float logit : forward_logits(*model, *backend, ids)) EXPECT_FALSE(std::isnan(logit));
            return "";
        } catch (const Error& e) {
            return e.what();
        }
    }

    fs::path golden_, folder_;
    Json config_;
};

TEST_P(BadConfig, EveryNumberIsCheckedOrNotNeeded) {
    ASSERT_EQ(outcome(config_), "");
    int n_refused = 0;
    for (const auto& [key, value] : config_.items()) {
        if (!value.is_number_integer() || key.ends_with("token_id")) continue;
        for (const int64_t number : {int64_t{-1}, int64_t{0}, int64_t{3}, int64_t{1000000007}, INT64_MAX}) {
            SCOPED_TRACE(key + " = " + std::to_string(number));
            Json bad = config_;
            bad[key] = number;
            const std::string error = outcome(bad);
            n_refused += !error.empty();
            EXPECT_EQ(error.find('\n'), std::string::npos) << error;
        }
        Json text = config_;
        text[key] = "many";
        outcome(text);
    }
    EXPECT_GT(n_refused, 20);
}

TEST_P(BadConfig, WhatIsMissingIsNamedAsConfigJsonNamesIt) {
    for (const char* key : {"num_hidden_layers", "n_layer"}) {
        if (!config_.contains(key)) continue;
        Json bad = config_;
        bad.erase(key);
        const std::string error = outcome(bad);
        EXPECT_NE(error.find(key), std::string::npos) << error;
        EXPECT_NE(error.find("found nothing"), std::string::npos) << error;
        bad[key] = 0;
        EXPECT_NE(outcome(bad).find(std::string(key) + ": expected 1 to"), std::string::npos) << outcome(bad);
    }
    Json unknown = config_;
    unknown["model_type"] = "wonder";
    const std::string error = outcome(unknown);
    for (const char* part : {"wonder", "qwen3moe", "glm4_moe_lite"}) {
        EXPECT_NE(error.find(part), std::string::npos) << error;
    }
    EXPECT_EQ(error.find("nearest"), std::string::npos) << error;
    for (const auto& [name, nearest] : {std::pair("qwen3_6_text", "qwen3_5_text"),
                                        {"gemma4_text", "gemma3_text"},
                                        {"phi4", "phi3"},
                                        {"deepseek_v4", "deepseek_v3"}}) {
        unknown["model_type"] = name;
        EXPECT_NE(outcome(unknown).find(std::string("the nearest that is known is ") + nearest),
                  std::string::npos)
            << outcome(unknown);
    }
}

std::vector<std::string> list_goldens() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(SMELT_TEST_DATA "/goldens")) {
        if (entry.is_directory()) names.push_back(entry.path().filename());
    }
    return names;
}

INSTANTIATE_TEST_SUITE_P(All, BadConfig, testing::ValuesIn(list_goldens()), [](const auto& test) {
    std::string name = test.param;
    std::ranges::replace_if(
        name, [](char c) { return c == '-' || c == '.'; }, '_');
    return name;
});

}  // namespace
}  // namespace smelt
