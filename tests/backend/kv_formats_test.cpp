// Number formats of the KV cache: names, what a model cannot have, memory, and how far the logits move.
#include "engine/kv_formats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/forward.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

std::filesystem::path folder(const std::string& name) {
    return std::filesystem::path(SMELT_TEST_DATA "/goldens") / name;
}

std::string error_of(auto&& f) {
    try {
        f();
        return "";
    } catch (const Error& e) {
        return e.what();
    }
}

TEST(KvFormats, NamesAreReadAndWritten) {
    for (const char* text : {"f32", "f16", "bf16", "q8_0", "q4_0", "fp8", "k=q8_0,v=q4_0", "k=fp8,v=f16"}) {
        EXPECT_EQ(to_string(parse_kv_formats(text)), text);
    }
    EXPECT_EQ(parse_kv_formats("v=q4_0,k=q8_0"), (KvFormats{Format::Q8_0, Format::Q4_0}));
    EXPECT_EQ(parse_kv_formats("v=q4_0"), (KvFormats{Format::F16, Format::Q4_0}));
    for (const char* text :
         {"", "q5_0", "k=", "k=q8_0,", "q8_0,q8_0", "k=q8_0,k=q4_0", "K=q8_0", "k=q8_0 v=q4_0"}) {
        const std::string error = error_of([&] { parse_kv_formats(text); });
        EXPECT_NE(error.find("expected one of f32, f16, bf16, q8_0, q4_0, fp8, or k=...,v=..."),
                  std::string::npos)
            << text << ": " << error;
    }
}

TEST(KvFormats, WhatAModelCannotHaveIsSaid) {
    const auto backend = make_backend("cpu", {.n_threads = 1});
    const auto refusal = [&](const char* model, const KvFormats& kv) {
        const auto loaded = load_model(open_model(folder(model)), *backend);
        const std::string error = error_of([&] { DeviceRunner(*loaded, *backend, {.n_ctx = 8, .kv = kv}); });
        EXPECT_EQ(error, error_of([&] { kv_block_bytes(loaded->config(), 32, kv); }));
        return error;
    };
    EXPECT_EQ(refusal("qwen3", {Format::Q8_0, Format::Q4_0}), "");
    EXPECT_EQ(refusal("qwen3", {Format::Q4_K, Format::F16}),
              "KV cache: expected one of f32, f16, bf16, q8_0, q4_0, fp8, found q4_k");
    EXPECT_EQ(refusal("glm4-moe-lite", {Format::F16, Format::F16}), "");
    EXPECT_EQ(refusal("glm4-moe-lite", {Format::F32, Format::F16}),
              "KV cache: in deepseek2 the values lie inside the keys, expected one format for both, found "
              "k=f32,v=f16");
    EXPECT_EQ(refusal("glm4-moe-lite", {Format::Q8_0, Format::Q8_0}),
              "KV cache in q8_0: expected rows of a multiple of 32 values, deepseek2 has 80");
    ModelConfig config;
    config.architecture = "odd";
    config.head_dim = 80;
    EXPECT_EQ(error_of([&] {
                  check_kv_formats(config, {Format::F16, Format::MXFP8_E4M3});
              }),
              "KV cache in fp8: expected heads of a multiple of 32 values, odd has 80");
}

TEST(KvFormats, MemoryIsThatOfTheFormats) {
    const auto backend = make_backend("cpu", {.n_threads = 1});
    const auto model = load_model(open_model(folder("qwen3")), *backend);
    const ModelConfig& c = model->config();
    const auto values = static_cast<size_t>(c.n_layers * c.n_kv_heads * c.head_dim);
    for (const auto& [text, k_bits, v_bits] : {std::tuple("f32", 32 * 32, 32 * 32),
                                               {"f16", 16 * 32, 16 * 32},
                                               {"bf16", 16 * 32, 16 * 32},
                                               {"q8_0", 34 * 8, 34 * 8},
                                               {"q4_0", 18 * 8, 18 * 8},
                                               {"fp8", 33 * 8, 33 * 8},
                                               {"k=q8_0,v=q4_0", 34 * 8, 18 * 8}}) {
        const KvFormats kv = parse_kv_formats(text);
        const size_t per_token = values / 32 * static_cast<size_t>(k_bits + v_bits) / 8;
        EXPECT_EQ(kv_block_bytes(c, 1, kv).all(), per_token) << text;
        const DeviceRunner runner(*model, *backend, {.n_ctx = 64, .kv = kv});
        EXPECT_EQ(runner.kv_bytes(), 64 * per_token) << text;
    }
}

// The largest difference from the reference implementation's logits, of the row's largest absolute value.
// Of these random models, whose keys and values have no outliers; bounds are less than twice what was
// measured. No mixtures: where two experts score alike the smallest difference chooses the other one.
TEST(KvFormats, LogitsMoveByWhatTheFormatLoses) {
    for (const char* name : {"qwen3", "qwen2"}) {
        const GoldenFile golden(folder(name) / "golden.safetensors");
        for (const BackendInfo& info : list_backends()) {
            if (!info.missing.empty()) continue;
            const auto backend = make_backend(info.name);
            const auto model = load_model(open_model(folder(name)), *backend);
            const auto vocab = static_cast<size_t>(model->config().vocab_size);
            for (const auto& [text, bound] : {std::pair("f16", 1e-3f),
                                              {"bf16", 8e-3f},
                                              {"q8_0", 2e-2f},
                                              {"fp8", 0.12f},
                                              {"q4_0", 0.4f},
                                              {"k=q8_0,v=q4_0", 0.25f}}) {
                const KvFormats kv = parse_kv_formats(text);
                const std::vector<int32_t> ids = golden.ints("ids_1");
                const std::vector<float> expected = golden.floats("logits_1");
                const std::vector<float> got = forward_logits(*model, *backend, ids, 0, kv);
                ASSERT_EQ(got.size(), expected.size());
                const float worst = worst_difference(got, expected, vocab);
                EXPECT_LE(worst, bound) << name << ", " << info.name << ", " << text;
                for (const int chunk : {1, 7}) {
                    EXPECT_EQ(forward_logits(*model, *backend, ids, chunk, kv), got)
                        << name << ", " << info.name << ", " << text << ", chunks of " << chunk;
                }
            }
        }
    }
}

}  // namespace
}  // namespace smelt
