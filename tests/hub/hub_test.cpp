// What the hub's client does where all goes well, and which names mean what.
#include "hub/hub_fixture.h"

namespace smelt {
namespace {

TEST_F(HubTest, TheCacheIsLaidOutAsHuggingFacesToolsDo) {
    EXPECT_EQ(find_cached(options_, {.repo = "org/model"}), std::nullopt);
    const fs::path snapshot = pull_it();
    EXPECT_EQ(snapshot, root() / "snapshots" / hub_.commit);
    EXPECT_EQ(read_file(root() / "refs/main"), hub_.commit);
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(snapshot)) {
        names.push_back(entry.path().filename());
        EXPECT_EQ(fs::read_symlink(entry.path()),
                  fs::path("../../blobs") / hub_.files.at(names.back()).hash());
        EXPECT_EQ(read_file(entry.path()), hub_.files.at(names.back()).content);
    }
    std::ranges::sort(names);
    EXPECT_EQ(names, (std::vector<std::string>{"config.json", "model.safetensors", "tokenizer.json"}));
    EXPECT_EQ(find_cached(options_, {.repo = "org/model"}), snapshot);
    EXPECT_EQ(find_cached(options_, {.repo = "org/model", .revision = hub_.commit}), snapshot);
    EXPECT_EQ(find_cached(options_, {.repo = "org/model", .revision = "other"}), std::nullopt);
    // Nothing is fetched twice.
    hub_.forget();
    pull_it();
    EXPECT_TRUE(hub_.downloads().empty());
    // A model that lost its weights is not there.
    fs::remove(root() / "blobs" / weights().hash());
    EXPECT_EQ(find_cached(options_, {.repo = "org/model"}), std::nullopt);
}

TEST_F(HubTest, LargeFilesComeInPartsOverSeveralConnections) {
    std::atomic<int> now = 0, most = 0;
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a.bytes_per_ms = 5000;
    };
    options_.progress = [&](const HubProgress& p) {
        EXPECT_LE(p.done, p.total);
        most = std::max(most.load(), ++now);
    };
    expect_pulled();
    size_t n = 0;
    for (const HubRequest& r : hub_.downloads()) {
        if (!is_weights(r)) continue;
        ++n;
        const auto range = r.range();
        ASSERT_TRUE(range.has_value());
        EXPECT_EQ(range->first % 100'000, 0u);
        EXPECT_EQ(range->second - range->first, 100'000u);
    }
    EXPECT_EQ(n, 10u);
    EXPECT_GT(most, 0);
}

// A hub that gives something else has not given what was asked for, whatever it calls it.
TEST_F(HubTest, APinnedCommitIsThatCommit) {
    const std::string wanted(40, 'd');
    const std::string problem = error_of("org/model@" + wanted);
    EXPECT_NE(problem.find("expected the commit " + wanted), std::string::npos) << problem;
    EXPECT_EQ(error_of("org/model@" + hub_.commit), "");
}

TEST_F(HubTest, KindsOfAddresses) {
    using enum AddressKind;
    const auto v4 = [](uint8_t a, uint8_t b) { return kind_of({.bytes = {a, b, 1, 1}}); };
    EXPECT_EQ(v4(8, 8), open);
    EXPECT_EQ(v4(127, 0), loopback);
    EXPECT_EQ(v4(0, 0), loopback);
    EXPECT_EQ(v4(10, 0), private_net);
    EXPECT_EQ(v4(172, 16), private_net);
    EXPECT_EQ(v4(172, 32), open);
    EXPECT_EQ(v4(192, 168), private_net);
    EXPECT_EQ(v4(100, 64), private_net);
    EXPECT_EQ(v4(169, 254), link_local);
    EXPECT_EQ(v4(198, 18), private_net);
    EXPECT_EQ(v4(224, 0), private_net);
    EXPECT_EQ(v4(255, 255), private_net);
    AddressBytes v6{.is_v6 = true};
    EXPECT_EQ(kind_of(v6), loopback);
    v6.bytes[15] = 1;
    EXPECT_EQ(kind_of(v6), loopback);
    v6.bytes[0] = 0x20;
    EXPECT_EQ(kind_of(v6), open);
    v6.bytes[0] = 0xfd;
    EXPECT_EQ(kind_of(v6), private_net);
    v6.bytes[0] = 0xfe;
    v6.bytes[1] = 0x80;
    EXPECT_EQ(kind_of(v6), link_local);
    EXPECT_EQ(kind_of({.is_v6 = true, .bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 0, 1}}),
              private_net);
    // Gateways to IPv4.
    EXPECT_EQ(kind_of({.is_v6 = true, .bytes = {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1}}),
              loopback);
    EXPECT_EQ(kind_of({.is_v6 = true, .bytes = {0x20, 0x02, 10, 0, 0, 1}}), private_net);
}

TEST_F(HubTest, NamesThatWouldLeaveTheCache) {
    for (const std::string name : {"../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a//b.gguf",
                                   "a\\b.gguf", "a\nb.gguf", "./x.gguf"}) {
        hub_.files = {{name, {"GGUF", true}}};
        EXPECT_NE(error_of().find("safe to create"), std::string::npos) << name << ": " << error_of();
    }
    for (const std::string commit : {"../../../x", "", "main"}) {
        hub_.commit = commit;
        EXPECT_NE(error_of().find("expected a commit"), std::string::npos) << commit << ": " << error_of();
    }
    hub_.fault = [](const HubRequest&, HubAnswer& a) {
        a.body = R"({"sha": ")" + std::string(40, 'c') +
                 R"(", "siblings": [{"rfilename": "a.gguf", "size": 4, "blobId": "../../../../x"}]})";
    };
    EXPECT_NE(error_of().find("no hash"), std::string::npos) << error_of();
    EXPECT_FALSE(fs::exists(options_.cache));
    for (const char* id : {"hf:../x", "hf:a/..", "hf:a", "hf:a/b/c", "hf:a/b@../x", "hf:a/b:../x", "hf:/b",
                           "hf:a b/c", "hf:"}) {
        EXPECT_THROW(parse_hub_id(id), Error) << id;
    }
}

TEST_F(HubTest, TwoPullsAtOnceFetchOnce) {
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a.bytes_per_ms = 200;
    };
    std::atomic<int> waited = 0;
    options_.say = [&](const std::string& text) {
        waited += text.find("another process") != std::string::npos;
    };
    std::thread other([&] { EXPECT_NO_THROW(pull_it()); });
    EXPECT_NO_THROW(pull_it());
    other.join();
    EXPECT_GE(waited, 1);
    EXPECT_EQ(read_file(root() / "snapshots" / hub_.commit / "model.safetensors"), weights().content);
    EXPECT_EQ(std::ranges::count_if(hub_.downloads(), is_weights), 10);
}

TEST_F(HubTest, Offline) {
    options_.offline = true;
    EXPECT_NE(error_of().find("HF_HUB_OFFLINE"), std::string::npos) << error_of();
    EXPECT_TRUE(hub_.requests().empty());
}

TEST_F(HubTest, GgufFilesByQuantization) {
    hub_.files.clear();
    for (const char* name :
         {"m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-IQ4_K_M.gguf", "mmproj-m-Q8_0.gguf",
          "BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf", "f16-00001-of-00002.gguf"}) {
        hub_.files[name] = {fmt::format("GGUF of {}", name), true};
    }
    const fs::path snapshot = root() / "snapshots" / hub_.commit;
    EXPECT_EQ(pull_it(), snapshot / "m-Q4_K_M.gguf");
    EXPECT_EQ(pull_it("org/model:q8_0"), snapshot / "m-Q8_0.gguf");
    EXPECT_EQ(pull_it("org/model:m-IQ4_K_M.gguf"), snapshot / "m-IQ4_K_M.gguf");
    EXPECT_EQ(pull_it("org/model:BF16"), snapshot / "BF16/m-BF16-00001-of-00002.gguf");
    EXPECT_EQ(read_file(snapshot / "BF16/m-BF16-00002-of-00002.gguf"),
              "GGUF of BF16/m-BF16-00002-of-00002.gguf");
    EXPECT_NE(error_of("org/model:Q2_K").find("name one of"), std::string::npos);
    EXPECT_EQ(find_cached(options_, {.repo = "org/model", .file = "Q8_0"}), snapshot / "m-Q8_0.gguf");
    EXPECT_EQ(find_cached(options_, {.repo = "org/model", .file = "f16"}), std::nullopt);

    const auto models = list_cached(options_);
    ASSERT_EQ(models.size(), 1u);
    EXPECT_EQ(models[0].repo, "org/model");
    EXPECT_EQ(models[0].revisions, std::vector<std::string>{"main"});
    EXPECT_EQ(models[0].files.size(), 5u);
    EXPECT_GT(remove_cached(options_, {.repo = "org/model", .file = "Q8_0"}), 0u);
    EXPECT_EQ(find_cached(options_, {.repo = "org/model", .file = "m-Q8_0.gguf"}), std::nullopt);
    EXPECT_NE(find_cached(options_, {.repo = "org/model", .file = "IQ4_K_M"}), std::nullopt);
    EXPECT_THROW(remove_cached(options_, {.repo = "org/model", .file = "Q8_0"}), Error);
    EXPECT_GT(remove_cached(options_, {.repo = "org/model"}), 0u);
    EXPECT_TRUE(list_cached(options_).empty());
    EXPECT_THROW(remove_cached(options_, {.repo = "org/model"}), Error);
}

TEST_F(HubTest, Ids) {
    const auto text = [](const char* id) {
        const auto parsed = parse_hub_id(id);
        return parsed ? parsed->text() : "a path";
    };
    EXPECT_EQ(text("Qwen/Qwen3-0.6B"), "Qwen/Qwen3-0.6B");
    EXPECT_EQ(text("hf:Qwen/Qwen3-0.6B@v1.0"), "Qwen/Qwen3-0.6B@v1.0");
    EXPECT_EQ(text("https://huggingface.co/Qwen/Qwen3-0.6B"), "Qwen/Qwen3-0.6B");
    EXPECT_EQ(text("Qwen/Qwen3-0.6B-GGUF:Q8_0"), "Qwen/Qwen3-0.6B-GGUF:Q8_0");
    EXPECT_EQ(text("a/b@refs/pr/1:sub/x.gguf"), "a/b@refs/pr/1:sub/x.gguf");
    for (const char* path : {"model.gguf", "./a/b", "../a/b", "/a/b", "~/b", "a/b/c", "a/", "/tmp/x", ""}) {
        EXPECT_EQ(text(path), "a path") << path;
    }
    // A path with a slip of the pen.
    fs::create_directories(folder_);
    fs::current_path(folder_);
    fs::create_directory("models");
    EXPECT_EQ(text("models/demo"), "a path");
    EXPECT_EQ(text("hf:models/demo"), "models/demo");
    // A file is no folder of a path: whoever stands beside the command `smelt` may pull smelt/demo.
    std::ofstream("smelt") << "a file";
    EXPECT_EQ(text("smelt/demo"), "smelt/demo");
    fs::current_path("/");
}

}  // namespace
}  // namespace smelt
