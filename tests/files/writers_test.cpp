// From each container to the others and back: what must come back to the bit, what within a bound, and what
// must be refused.
#include "files/writers.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <functional>
#include <random>

#include "files/conversion.h"
#include "files/families.h"
#include "files/files_support.h"
#include "files/tensors_support.h"

namespace smelt {
namespace {

std::vector<float> decode(const TensorView& t) {
    std::vector<float> out;
    std::vector<float> row(static_cast<size_t>(t.row_len()));
    for (int64_t r = 0; r < t.n_rows(); ++r) {
        decode_row(t.row(r), row);
        out.insert(out.end(), row.begin(), row.end());
    }
    return out;
}

// Largest difference relative to the tensor's largest magnitude.
double worst_difference(const TensorView& a, const TensorView& b) {
    const std::vector<float> x = decode(a), y = decode(b);
    EXPECT_EQ(x.size(), y.size());
    double worst = 0, largest = 1e-30;
    for (size_t i = 0; i < x.size(); ++i) {
        worst = std::max(worst, std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
        largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
    }
    return worst / largest;
}

// Keys that describe the model, without those that only name it.
std::map<std::string, MetadataValue> meaning(const ModelFile& model) {
    std::map<std::string, MetadataValue> result;
    for (const auto& [key, value] : model.metadata.values()) {
        const bool about_file = key.starts_with("general.") || key.starts_with("smelt.") ||
                                key.starts_with("tokenizer.ggml") || key.ends_with("rope.dimension_count");
        if (!about_file) result[key] = value;
    }
    return result;
}

class RoundTrip : public testing::TestWithParam<const char*> {};

TEST_P(RoundTrip, HuggingFaceToGgufAndBackIsExact) {
    const TemporaryFolder t;
    const auto original = open_model(golden(GetParam()));
    write_gguf(*original, t.path() / "m.gguf", {}, {.n_threads = 2});
    const auto gguf = open_model(t.path() / "m.gguf");
    EXPECT_EQ(missing_tensors(*gguf), std::vector<std::string>{});
    EXPECT_EQ(gguf->require("blk.0.attn_norm.weight").format, Format::F32) << "as llama.cpp asks";
    write_hugging_face(*gguf, t.path() / "hf", {}, {});
    const auto back = open_model(t.path() / "hf");
    expect_same_tensors(*original, *back);
    EXPECT_EQ(meaning(*original), meaning(*back));
    EXPECT_EQ(meaning(*original), meaning(*gguf));
}

TEST_P(RoundTrip, EveryFloatFormatSurvives) {
    const TemporaryFolder t;
    for (const Format f : {Format::F32, Format::F16, Format::BF16}) {
        const std::string name(to_string(f));
        write_hugging_face(*open_model(golden(GetParam())), t.path() / name, {}, {.format = f});
        const auto original = open_model(t.path() / name);
        EXPECT_EQ(original->require("blk.0.attn_output.weight").format, f);
        write_gguf(*original, t.path() / "m.gguf", {}, {});
        write_hugging_face(*open_model(t.path() / "m.gguf"), t.path() / (name + "-back"), {},
                           {.n_threads = 3});
        const auto back = open_model(t.path() / (name + "-back"));
        for (const auto& [tensor, view] : by_name(*original)) {
            EXPECT_EQ(decode(*view), decode(back->require(tensor))) << tensor;
            if (view->shape.size() == 2) {
                EXPECT_EQ(view->format, back->require(tensor).format) << tensor;
            }
        }
    }
}

TEST_P(RoundTrip, QuantizedGgufStaysWithinTheFormatsBound) {
    const TemporaryFolder t;
    const auto original = open_model(golden(GetParam()));
    // GGUF's architecture llama pairs the rotated rows otherwise.
    const bool permuted = *original->metadata.get_string("general.architecture") == "llama";
    for (const auto& [format, bound] : {std::pair(Format::Q8_0, 0.005), std::pair(Format::Q4_0, 0.13)}) {
        write_gguf(*original, t.path() / "m.gguf", {}, {.format = format, .n_threads = 2});
        const auto gguf = open_model(t.path() / "m.gguf");
        const ModelFile unstacked = one_by_one(*gguf);
        for (const auto& [name, view] : by_name(*original)) {
            const TensorView& other = unstacked.require(name);
            const bool router = name.ends_with("ffn_gate_inp.weight");
            if (router) {
                EXPECT_EQ(other.format, view->format) << name;
                continue;
            }
            const bool quantized = view->shape.size() == 2;
            EXPECT_EQ(other.format, quantized ? format : Format::F32) << name;
            if (permuted && (name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight"))) continue;
            EXPECT_LE(worst_difference(*view, other), quantized ? bound : 0) << name;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Writers, RoundTrip,
                         testing::Values("qwen3", "qwen3-untied", "qwen3-yarn", "qwen3-moe", "mixtral",
                                         "qwen2", "llama3", "gpt2"),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::erase(name, '-');
                             return name;
                         });

TEST(Writers, LlamaRowsArePaired) {
    const TemporaryFolder t;
    const auto original = open_model(golden("llama3"));
    write_gguf(*original, t.path() / "m.gguf", {}, {});
    const auto gguf = open_model(t.path() / "m.gguf");
    EXPECT_EQ(*gguf->metadata.get_string("smelt.rope.pairing"), "interleaved");
    const TensorView &a = original->require("blk.1.attn_k.weight"), &b = gguf->require("blk.1.attn_k.weight");
    const int64_t head_dim = 32;
    for (int64_t head = 0; head < a.n_rows() / head_dim; ++head) {
        for (int64_t j = 0; j < head_dim / 2; ++j) {
            const auto row = [&](const TensorView& v, int64_t i) {
                return v.data.subspan(static_cast<size_t>((head * head_dim + i) * v.row_len() * 2),
                                      static_cast<size_t>(v.row_len() * 2));
            };
            EXPECT_TRUE(std::ranges::equal(row(a, j), row(b, 2 * j)));
            EXPECT_TRUE(std::ranges::equal(row(a, j + head_dim / 2), row(b, 2 * j + 1)));
        }
    }
    // Llama 3's scaling: the divisors, in the tensor that llama.cpp reads.
    const std::vector<float> divisors = decode(gguf->require("rope_freqs.weight"));
    ASSERT_EQ(divisors.size(), 16u);
    EXPECT_EQ(divisors.front(), 1.0f);
    EXPECT_EQ(divisors.back(), 8.0f);
    EXPECT_TRUE(std::ranges::is_sorted(divisors));
}

TEST(Writers, RowOrdersAreInverse) {
    for (int64_t r = 0; r < 64; ++r) {
        EXPECT_EQ(source_row(RowOrder::halves_to_pairs, 16, source_row(RowOrder::pairs_to_halves, 16, r)), r);
    }
}

TEST(Writers, Qwen3cHoldsTheModel) {
    const TemporaryFolder t;
    for (const char* name : {"qwen3", "qwen3-untied"}) {
        const auto original = open_model(golden(name));
        const fs::path bin = t.path() / (std::string(name) + ".bin");
        write_qwen3c(*original, bin, {}, {.n_threads = 2});
        const auto model = open_model(bin);
        EXPECT_EQ(model->container_version, "qwen3.c v1");
        EXPECT_EQ(missing_tensors(*model), std::vector<std::string>{});
        ASSERT_EQ(model->tensors.size(), original->tensors.size());
        for (const auto& [tensor, view] : by_name(*original)) {
            EXPECT_LE(worst_difference(*view, model->require(tensor)), view->shape.size() == 2 ? 0.004 : 0)
                << tensor;
        }
        EXPECT_EQ(model->require("token_embd.weight").format, Format::Q8_G64);
        EXPECT_TRUE(model->owned.empty()) << "everything stays in the mapped file";

        // The same quants again, to the byte.
        write_qwen3c(*model, t.path() / "again.bin", {}, {});
        EXPECT_EQ(read_file(bin), read_file(t.path() / "again.bin"));
        // And in GGUF, with the scales as halves.
        write_gguf(*model, t.path() / "m.gguf", {}, {.n_threads = 2});
        const auto gguf = open_model(t.path() / "m.gguf");
        for (const auto& [tensor, view] : by_name(*model)) {
            EXPECT_LE(worst_difference(*view, gguf->require(tensor)), view->shape.size() == 2 ? 0x1p-11 : 0)
                << tensor;
        }
        EXPECT_EQ(gguf->require("token_embd.weight").format, Format::Q8_0);
    }
}

// A whole qwen3 model of any size, with normal random weights, as a Hugging Face folder.
std::shared_ptr<const ModelFile> random_qwen3(int64_t dim, int64_t ffn_dim, int64_t head_dim, int64_t vocab) {
    auto model = std::make_shared<ModelFile>();
    model->path = "random";
    model->container = Container::hugging_face;
    const Qwen3cHeader h{static_cast<int32_t>(dim),
                         static_cast<int32_t>(ffn_dim),
                         1,
                         2,
                         1,
                         static_cast<int32_t>(vocab),
                         64,
                         static_cast<int32_t>(head_dim),
                         1,
                         64};
    Metadata& m = model->metadata;
    m.set("general.architecture", std::string("qwen3"));
    m.set("qwen3.embedding_length", dim);
    m.set("qwen3.feed_forward_length", ffn_dim);
    m.set("qwen3.block_count", int64_t{1});
    m.set("qwen3.attention.head_count", int64_t{2});
    m.set("qwen3.attention.head_count_kv", int64_t{1});
    m.set("qwen3.attention.key_length", head_dim);
    m.set("qwen3.attention.layer_norm_rms_epsilon", 1e-6);
    m.set("qwen3.vocab_size", vocab);
    m.set("qwen3.context_length", int64_t{64});
    m.set("qwen3.rope.freq_base", 1e6);
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 0.05f);
    for (const Qwen3cTensor& t : qwen3c_tensors(h)) {
        TensorView view{t.name, Format::F32, t.shape, {}, {}, "random"};
        std::vector<float> values(static_cast<size_t>(view.n_elements()));
        for (float& v : values) v = normal(random);
        const auto bytes = std::as_bytes(std::span(values));
        model->owned.push_back(std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end()));
        view.data = *model->owned.back();
        model->tensors.push_back(view);
    }
    return model;
}

TEST(Writers, Qwen3cHalvesItsGroups) {
    const TemporaryFolder t;
    const auto original = random_qwen3(96, 64, 16, 10);  // 96 = 3 * 32
    write_qwen3c(*original, t.path() / "m.bin", {}, {.n_threads = 2});
    const std::string bytes = read_file(t.path() / "m.bin");
    int32_t group = 0;
    std::memcpy(&group, bytes.data() + 44, sizeof(group));
    EXPECT_EQ(group, 32);
    const auto model = open_model(t.path() / "m.bin");
    for (const auto& [name, view] : by_name(*original)) {
        EXPECT_EQ(model->require(name).format, Format::F32);
        EXPECT_LE(worst_difference(*view, model->require(name)), view->shape.size() == 2 ? 0.004 : 0) << name;
    }
    // dim fits groups of 64, the rows of ffn_down do not: groups cross rows.
    const auto crossing = random_qwen3(64, 96, 16, 10);
    write_qwen3c(*crossing, t.path() / "c.bin", {}, {});
    const auto read = open_model(t.path() / "c.bin");
    for (const auto& [name, view] : by_name(*crossing)) {
        EXPECT_EQ(read->require(name).format, view->shape.size() == 2 && name != "blk.0.ffn_down.weight" &&
                                                      name != "blk.0.attn_output.weight"
                                                  ? Format::Q8_G64
                                                  : Format::F32)
            << name;
        EXPECT_LE(worst_difference(*view, read->require(name)), view->shape.size() == 2 ? 0.004 : 0) << name;
    }
}

TEST(Writers, RowsThatAreNoWholeBlocksStayFloats) {
    const TemporaryFolder t;
    const auto model = random_qwen3(64, 80, 32, 10);
    write_gguf(*model, t.path() / "m.gguf", {}, {.format = Format::Q8_0});
    const auto gguf = open_model(t.path() / "m.gguf");
    EXPECT_EQ(gguf->require("blk.0.ffn_down.weight").format, Format::F16);
    EXPECT_EQ(gguf->require("blk.0.ffn_up.weight").format, Format::Q8_0);
}

const Qwen3cPrompts qwen_prompts = {
    "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n<think>\n\n</"
    "think>\n\n",
    "<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n"};

TEST(Writers, Qwen3cNeighbours) {
    const TemporaryFolder t;
    std::string tokenizer;
    for (const uint32_t n : {5u, 11u, 12u}) append(tokenizer, n);
    write_qwen3c(*open_model(golden("qwen3")), t.path() / "m.bin", {tokenizer, qwen_prompts}, {});
    EXPECT_EQ(read_file(t.path() / "m.bin.template.with-thinking"), qwen_prompts.thinking);
    const auto model = open_model(t.path() / "m.bin");
    EXPECT_EQ(model->tokenizer->text(), tokenizer);
    EXPECT_EQ(*model->metadata.get_ints("generation.eos_token_ids"), (std::vector<int64_t>{12, 11}));
    const std::string* jinja = model->metadata.get_string("tokenizer.chat_template");
    ASSERT_NE(jinja, nullptr);
    for (const char* part : {"'<|im_start|>system\\n' + message.content + '<|im_end|>\\n'",
                             "'<|im_start|>user\\n' + message.content + '<|im_end|>\\n'",
                             "{{- '<|im_start|>assistant\\n' }}", "{{- '<think>\\n\\n</think>\\n\\n' }}"}) {
        EXPECT_NE(jinja->find(part), std::string::npos) << part << "\n" << *jinja;
    }

    write_file(t.path() / "m.bin.template", "no hole");
    EXPECT_NE(open_error(t.path() / "m.bin").find("m.bin.template: expected 1 times %s, found 0"),
              std::string::npos);
    write_file(t.path() / "m.bin.tokenizer", "short");
    EXPECT_NE(open_error(t.path() / "m.bin").find("m.bin.tokenizer"), std::string::npos);
}

TEST(Writers, Shards) {
    const TemporaryFolder t;
    const auto original = open_model(golden("qwen3"));
    write_hugging_face(*original, t.path() / "hf", {"{}", "{}"}, {.shard_bytes = 300'000});
    const auto back = open_model(t.path() / "hf");
    EXPECT_GT(back->mappings.size(), 3u);
    expect_same_tensors(*original, *back);
    EXPECT_NE(back->tokenizer, nullptr);
    EXPECT_NE(back->tokenizer_config, nullptr);
}

TEST(Writers, TemplatesAndGenerationSettingsTravel) {
    const TemporaryFolder t;
    auto model = std::make_shared<ModelFile>(*open_model(golden("qwen3")));
    model->metadata.set("tokenizer.chat_template", std::string("a\nb"));
    model->metadata.set("tokenizer.chat_template.tool_use", std::string("c"));
    model->metadata.set("generation.temperature", 0.6);
    model->metadata.set("generation.top_k", int64_t{20});
    model->metadata.set("generation.do_sample", true);
    model->metadata.set("generation.eos_token_ids", std::vector<int64_t>{2, 5});
    write_gguf(*model, t.path() / "m.gguf", {}, {});
    write_hugging_face(*open_model(t.path() / "m.gguf"), t.path() / "hf", {}, {});
    EXPECT_EQ(meaning(*open_model(t.path() / "hf")), meaning(*model));
}

std::string error_of(const std::function<void()>& f) {
    try {
        f();
        return {};
    } catch (const Error& e) {
        return e.what();
    }
}

TEST(Writers, WhatTheTargetCannotSayIsNamed) {
    const TemporaryFolder t;
    const auto expect = [](const std::string& error, const std::string& text) {
        EXPECT_NE(error.find(text), std::string::npos) << "expected: " << text << "\nfound: " << error;
    };
    const auto to_bin = [&](const ModelFile& model, WriteOptions options = {}) {
        return error_of([&] { write_qwen3c(model, t.path() / "m.bin", {}, options); });
    };
    expect(to_bin(*open_model(golden("llama3"))), "can hold qwen3 only, the model is llama");
    expect(to_bin(*open_model(golden("qwen3-yarn"))), "cannot hold RoPE scaling (yarn)");
    ModelFile qwen3 = *open_model(golden("qwen3"));
    expect(to_bin(qwen3, {.format = Format::Q4_0}), "holds q8_0 only");
    qwen3.metadata.set("qwen3.rope.freq_base", 5e6);
    expect(to_bin(qwen3), "cannot hold a RoPE base of 5000000");
    qwen3.tensors.pop_back();
    expect(error_of([&] { write_gguf(qwen3, t.path() / "m.gguf", {}, {}); }), "is missing");
    qwen3.unsupported.push_back({"blk.0.x", "IQ2_S", {32}, 1, "file"});
    expect(error_of([&] { write_gguf(qwen3, t.path() / "m.gguf", {}, {}); }),
           "number format IQ2_S is not supported");

    ModelFile llama = *open_model(golden("llama3"));
    expect(error_of([&] { write_hugging_face(llama, t.path() / "hf", {}, {.format = Format::Q8_0}); }),
           "cannot hold q8_0");
    fs::create_directories(t.path() / "full" / "x");
    expect(error_of([&] { write_hugging_face(llama, t.path() / "full", {}, {}); }), "exists already");
    llama.tensors.push_back({"odd.weight", Format::F32, {0}, {}, {}, "file"});
    expect(error_of([&] { write_gguf(llama, t.path() / "m.gguf", {}, {}); }), "odd.weight");

    auto large = std::make_shared<ModelFile>(*random_qwen3(64, 64, 32, 4));
    const float huge = 1e6f;
    auto bytes = std::make_shared<std::vector<std::byte>>(large->tensors.back().data.begin(),
                                                          large->tensors.back().data.end());
    std::memcpy(bytes->data(), &huge, sizeof(huge));
    large->tensors.back().data = *bytes;
    for (const Format f : {Format::F16, Format::Q8_0}) {
        expect(error_of([&] { write_gguf(*large, t.path() / "m.gguf", {}, {.format = f, .n_threads = 2}); }),
               "value 1000000 does not fit into");
    }
    for (const auto& entry : fs::directory_iterator(t.path())) {
        EXPECT_EQ(entry.path().filename(), "full") << "a failed write left something behind";
    }
}

TEST(Writers, ProgressEndsAtTheTotal) {
    const TemporaryFolder t;
    uint64_t last = 0, total = 0;
    const auto progress = [&](uint64_t d, uint64_t n) {
        EXPECT_GE(d, last);
        last = d;
        total = n;
    };
    const auto model = open_model(golden("qwen3"));
    write_gguf(*model, t.path() / "m.gguf", {}, {.progress = progress});
    EXPECT_EQ(last, total);
    EXPECT_GT(total, 1'000'000u);
    last = 0;
    write_qwen3c(*model, t.path() / "m.bin", {}, {.progress = progress});
    EXPECT_EQ(last, total);
}

// Writes beyond the limit fail with EFBIG, as on a full disk with ENOSPC.
class FileSizeLimit {
 public:
    explicit FileSizeLimit(rlim_t bytes) {
        handler_ = std::signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &old_);
        const rlimit limit{bytes, old_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &old_);
        std::signal(SIGXFSZ, handler_);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
    rlimit old_{};
    void (*handler_)(int) = nullptr;
};

TEST(Writers, FullDiskLeavesTheOldFilesWhole) {
    const TemporaryFolder t;
    const auto model = open_model(golden("qwen3"));
    write_file(t.path() / "m.gguf", "old gguf");
    write_file(t.path() / "m.bin", "old bin");
    write_file(t.path() / "m.bin.tokenizer", "old vocabulary");
    {
        const FileSizeLimit limit(200'000);
        EXPECT_THROW(write_gguf(*model, t.path() / "m.gguf", {}, {}), Error);
        EXPECT_THROW(write_qwen3c(*model, t.path() / "m.bin", {"new vocabulary", qwen_prompts}, {}), Error);
        EXPECT_THROW(write_hugging_face(*model, t.path() / "hf", {}, {}), Error);
    }
    EXPECT_EQ(read_file(t.path() / "m.gguf"), "old gguf");
    EXPECT_EQ(read_file(t.path() / "m.bin"), "old bin");
    EXPECT_EQ(read_file(t.path() / "m.bin.tokenizer"), "old vocabulary");
    EXPECT_EQ(std::distance(fs::directory_iterator(t.path()), fs::directory_iterator{}), 3);
}

// gpt-oss's nibbles to GGUF's: every number stays, whatever its code.
TEST(Writers, BlocksOfTwoTensorsBecomeGgufs) {
    constexpr int64_t n = 4 * 32;
    std::vector<std::byte> quants(n / 2), scales;
    for (size_t i = 0; i < quants.size(); ++i) quants[i] = static_cast<std::byte>(i * 37 + i / 16);
    for (const int e : {0, 120, 127, 254}) scales.push_back(static_cast<std::byte>(e));
    const TensorView view{"blk.0.ffn_down_exps.weight", Format::MXFP4_HF, {2, 64}, quants, scales, "file"};
    EXPECT_EQ(choose_format(view, {std::nullopt, Container::gguf}), Format::MXFP4);
    std::vector<std::byte> written;
    ThreadPool pool(2);
    stream_tensor({view.name, {view}, view.shape, Format::MXFP4}, pool, [&](std::span<const std::byte> part) {
        written.insert(written.end(), part.begin(), part.end());
    });
    ASSERT_EQ(written.size(), 4u * 17);
    std::vector<float> before(n), after(n);
    decode_row({Format::MXFP4_HF, quants.data(), scales.data(), n}, before);
    decode_row({Format::MXFP4, written.data(), nullptr, n}, after);
    EXPECT_EQ(before, after);
}

TEST(Writers, FormatsForReadingOnlyAreRefused) {
    const auto demo = open_model(fs::path(SMELT_MODELS) / "demo-5m");
    for (const Format f : {Format::Q8_K, Format::MXFP8_E4M3}) {
        try {
            (void)plan_tensors(*demo, {f, Container::gguf});
            ADD_FAILURE() << to_string(f);
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find("formats to write are f32"), std::string::npos) << e.what();
        }
    }
}

}  // namespace
}  // namespace smelt
