// Files cut at every byte and files with flipped bytes: an Error or a model whose every tensor can be read,
// never a signal.
#include <functional>
#include <random>

#include "files/families.h"
#include "files/gguf_support.h"
#include "files/onnx/onnx.h"
#include "files/qwen3c/qwen3c.h"
#include "files/readers.h"

namespace smelt {
namespace {

using Parse = std::function<ModelFile(std::span<const std::byte>)>;

ModelFile parse_gguf(std::span<const std::byte> bytes) {
    ModelFile model;
    read_gguf(bytes, "damaged", model);
    return model;
}

ModelFile parse_qwen3c(std::span<const std::byte> bytes) {
    ModelFile model;
    read_qwen3c(bytes, "damaged", model);
    return model;
}

ModelFile floats_of(const std::vector<SafetensorsEntry>& entries) {
    ModelFile model;
    for (const SafetensorsEntry& e : entries) {
        if (e.dtype != "F32") continue;
        const auto data = aligned(e.data, alignof(float), model);
        model.tensors.push_back({e.name, Format::F32, e.shape, data, {}, "damaged"});
    }
    return model;
}

ModelFile parse_safetensors(std::span<const std::byte> bytes) {
    return floats_of(read_safetensors(bytes, "damaged"));
}

ModelFile parse_torch_bin(std::span<const std::byte> bytes) {
    return floats_of(read_torch_bin(bytes, "damaged"));
}

ModelFile parse_onnx(std::span<const std::byte> bytes) {
    ModelFile model;
    read_onnx(bytes, "damaged",
              {.config = {}, .genai_config = R"({"model": {"type": "qwen3"}})", .generation_config = {}}, {},
              Weights::ready, model);
    return model;
}

void read_everything(const ModelFile& model) {
    std::vector<float> row;
    for (const TensorView& t : model.tensors) {
        row.resize(static_cast<size_t>(t.row_len()));
        for (int64_t r = 0; r < t.n_rows(); ++r) decode_row(t.row(r), row);
    }
    (void)missing_tensors(model);
    (void)model.n_bytes();
}

// Exactly as long as the bytes, so that a sanitizer sees a read behind their end.
bool opens(const Parse& parse, std::string_view text) {
    const std::vector<std::byte> bytes(reinterpret_cast<const std::byte*>(text.data()),
                                       reinterpret_cast<const std::byte*>(text.data()) + text.size());
    try {
        read_everything(parse(bytes));
        return true;
    } catch (const Error& e) {
        EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos)
            << "expected one line: " << e.what();
        return false;
    }
}

std::string small_qwen3c(int32_t group, int32_t dim) {
    const Qwen3cHeader h{dim, dim, 1, 2, 1, 3, 8, 4, 0, group};
    std::string bytes;
    append(bytes, qwen3c_magic);
    append(bytes, qwen3c_version);
    append(bytes, h);
    bytes.resize(qwen3c_header_bytes);
    for (const Qwen3cTensor& t : qwen3c_tensors(h)) {
        int64_t n = 1;
        for (const int64_t d : t.shape) n *= d;
        if (t.quantized) bytes.append(static_cast<size_t>(n), '\3');
        for (int64_t i = 0; i < (t.quantized ? n / group : n); ++i) append(bytes, 0.5f);
    }
    return bytes;
}

struct Case {
    const char* name;
    Parse parse;
    std::string bytes;
};

std::vector<Case> cases() {
    const std::string header =
        R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
        R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";
    return {{"gguf", parse_gguf, small_gguf().bytes()},
            {"qwen3c", parse_qwen3c, small_qwen3c(64, 64)},
            {"qwen3c with smaller groups", parse_qwen3c, small_qwen3c(32, 32)},
            {"safetensors", parse_safetensors, safetensors(header, std::string(32, '\1'))},
            {"onnx", parse_onnx, read_file(fs::path(SMELT_TEST_DATA) / "../../fuzz/corpus/onnx/int4.onnx")},
            {"torch.save's zip", parse_torch_bin, torch_bin("zip")},
            {"torch.save's older layout", parse_torch_bin, torch_bin("legacy")}};
}

TEST(Damage, TheWholeFilesOpen) {
    for (const Case& c : cases()) EXPECT_TRUE(opens(c.parse, c.bytes)) << c.name;
}

TEST(Damage, EveryTruncationIsAnError) {
    for (const Case& c : cases()) {
        for (size_t n = 0; n < c.bytes.size(); ++n) {
            ASSERT_FALSE(opens(c.parse, std::string_view(c.bytes).substr(0, n))) << c.name << " cut to " << n;
        }
    }
}

TEST(Damage, FlippedBytesNeverCrash) {
    std::mt19937 random(11);
    for (const Case& c : cases()) {
        int n_errors = 0;
        for (int round = 0; round < 10'000; ++round) {
            std::string bytes = c.bytes;
            for (uint32_t i = 0; i <= random() % 4; ++i) {
                // Half of the flips hit the structure at the front.
                const size_t range = random() % 2 == 0 ? std::min<size_t>(bytes.size(), 256) : bytes.size();
                bytes[random() % range] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
            }
            n_errors += !opens(c.parse, bytes);
        }
        EXPECT_GT(n_errors, 1000) << c.name << ": the flips missed the structure";
    }
}

TEST(Damage, Configs) {
    const std::string config = read_file(golden("llama3") / "config.json");
    const std::string generation =
        R"({"eos_token_id": [1, 2], "temperature": 0.6, "top_k": 20, "do_sample": true})";
    const auto good = [](const std::string& a, const std::string& b) {
        try {
            (void)read_hf_config(a, b, "damaged");
            return true;
        } catch (const Error&) {
            return false;
        }
    };
    ASSERT_TRUE(good(config, generation));
    for (size_t n = 0; n < config.rfind('}'); ++n) ASSERT_FALSE(good(config.substr(0, n), generation)) << n;
    for (size_t n = 1; n < generation.size(); ++n) ASSERT_FALSE(good(config, generation.substr(0, n))) << n;
    std::mt19937 random(5);
    int n_errors = 0;
    for (int round = 0; round < 10'000; ++round) {
        std::string a = config;
        a[random() % a.size()] = static_cast<char>(random());
        n_errors += !good(a, generation);
    }
    EXPECT_GT(n_errors, 1000);
}

}  // namespace
}  // namespace smelt
