// A hub with a small model, a cache for it, and what tests ask of both.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "base/error.h"
#include "files/hub/hub_cache.h"
#include "files/hub/hub_http.h"
#include "hub/hub_server.h"

namespace smelt {

namespace fs = std::filesystem;

inline std::string random_text(size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::string text(n, '\0');
    for (char& c : text) c = static_cast<char>(random());
    return text;
}

inline std::string read_file(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

class HubTest : public ::testing::Test {
 protected:
    HubTest() : folder_(fs::temp_directory_path() / fmt::format("smelt_hub_{}", ::getpid())) {
        fs::remove_all(folder_);
        hub_.files = {{"config.json", {"{}", false}},
                      {"tokenizer.json", {"{\"model\": 1}", true}},
                      {"README.md", {"not needed", false}},
                      {"model.safetensors", {random_text(1'000'000, 1), true}},
                      {"consolidated.safetensors", {"not needed", true}},
                      {"original/params.json", {"not needed", false}}};
        options_.endpoint = hub_.address();
        options_.cache = folder_ / "hub";
        options_.part_bytes = 100'000;
        options_.retry_wait = std::chrono::milliseconds(1);
        options_.stall_timeout = std::chrono::seconds(20);
    }
    ~HubTest() override { fs::remove_all(folder_); }

    fs::path pull_it(const std::string& id = "org/model") {
        return pull(options_, plan_pull(options_, *parse_hub_id("hf:" + id)));
    }
    std::string error_of(const std::string& id = "org/model") {
        try {
            pull_it(id);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    fs::path root() const { return options_.cache / "models--org--model"; }
    bool shows_nothing() const { return !fs::exists(root() / "snapshots") && !fs::exists(root() / "refs"); }
    const HubEntry& weights() { return hub_.files.at("model.safetensors"); }
    fs::path partial() { return root() / "blobs" / (weights().hash() + ".smelt-partial"); }
    static bool is_weights(const HubRequest& r) { return r.path.ends_with("model.safetensors"); }

    void expect_pulled() {
        const fs::path snapshot = pull_it();
        EXPECT_EQ(read_file(snapshot / "model.safetensors"), weights().content);
        EXPECT_EQ(read_file(snapshot / "config.json"), "{}");
    }

    fs::path folder_;
    HubServer hub_;
    HubOptions options_;
};

}  // namespace smelt
