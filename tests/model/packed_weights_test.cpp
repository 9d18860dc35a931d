// GPTQ, AWQ and NVFP4: checkpoints packed here bit by bit, against the same model with the weights that the
// definitions give, as float32.
#include "files/packed/packed_weights.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "base/json.h"
#include "engine/forward.h"
#include "files/files_support.h"

namespace smelt {
namespace {

struct Stored {
    std::string name, dtype;
    std::vector<int64_t> shape;
    std::string data;
};

template <class T>
Stored stored(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
              const std::vector<T>& values) {
    return {name, dtype, std::move(shape),
            std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}

void write_folder(const fs::path& folder, const Json& config, const std::vector<Stored>& tensors) {
    fs::create_directories(folder);
    write_file(folder / "config.json", config.dump());
    Json header = Json::object();
    std::string data;
    for (const Stored& t : tensors) {
        header[t.name] = {{"dtype", t.dtype},
                          {"shape", t.shape},
                          {"data_offsets", {data.size(), data.size() + t.data.size()}}};
        data += t.data;
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    write_file(folder / "model.safetensors", safetensors(text, data));
}

// A matrix of the golden model, to be replaced.
struct Matrix {
    std::string stem;  // name without ".weight"
    int64_t rows, cols;
    std::vector<float> w;
    float at(int64_t r, int64_t c) const { return w[static_cast<size_t>(r * cols + c)]; }
};
// What it becomes: the tensors of a checkpoint, and what they mean.
struct Packed {
    std::vector<Stored> tensors;
    std::vector<float> w;
};

// The golden model with every projection packed, and the same with float32 in their place.
void write_pair(const std::string& model, const fs::path& packed, const fs::path& plain,
                const Json& quantization, const std::function<Packed(const Matrix&)>& pack) {
    const MappedFile file(golden(model) / "model.safetensors");
    Json config = parse_json(read_file(golden(model) / "config.json"), "config.json");
    std::vector<Stored> a, b;
    for (const SafetensorsEntry& e : read_safetensors(file.bytes(), "golden")) {
        const size_t ending = e.name.rfind(".weight");
        if (e.name.find("_proj.weight") == std::string::npos) {
            const Stored same{e.name, e.dtype, e.shape,
                              std::string(reinterpret_cast<const char*>(e.data.data()), e.data.size())};
            a.push_back(same);
            b.push_back(same);
            continue;
        }
        Matrix m{e.name.substr(0, ending), e.shape[0], e.shape[1], {}};
        m.w.resize(static_cast<size_t>(m.rows * m.cols));
        decode_row({Format::BF16, e.data.data(), nullptr, m.rows * m.cols}, m.w);
        const Packed p = pack(m);
        a.insert(a.end(), p.tensors.begin(), p.tensors.end());
        b.push_back(stored(e.name, "F32", e.shape, p.w));
    }
    write_folder(plain, config, b);
    config["quantization_config"] = quantization;
    write_folder(packed, config, a);
}

std::vector<float> logits_of(const fs::path& folder, const std::string& device) {
    const auto backend = make_backend(device, {.n_threads = 2});
    const auto model = load_model(open_model(folder), *backend);
    const std::vector<int32_t> ids = {5, 17, 3, 200, 41, 99, 7, 450, 12};
    return forward_logits(*model, *backend, ids);
}

void expect_same_logits(const std::string& model, const Json& quantization,
                        const std::function<Packed(const Matrix&)>& pack, Format expected) {
    const TemporaryFolder t;
    write_pair(model, t.path() / "packed", t.path() / "plain", quantization, pack);
    const auto file = open_model(t.path() / "packed");
    EXPECT_EQ(file->require("blk.1.ffn_down.weight").format, expected);
    const auto listed = open_model(t.path() / "packed", Weights::listed);
    EXPECT_EQ(listed->require("blk.1.ffn_down.weight").format, expected);
    EXPECT_EQ(listed->require("blk.1.ffn_down.weight").shape, file->require("blk.1.ffn_down.weight").shape);
    EXPECT_TRUE(listed->owned.empty());
    const auto plain = open_model(t.path() / "plain");
    for (const TensorView& w : plain->tensors) {
        const TensorView& p = file->require(w.name);
        std::vector<float> a(static_cast<size_t>(w.row_len())), b(a.size());
        for (int64_t r = 0; r < w.n_rows(); ++r) {
            decode_row(w.row(r), a);
            decode_row(p.row(r), b);
            ASSERT_EQ(a, b) << w.name << " row " << r;
        }
    }
    const std::vector<float> plain_logits = logits_of(t.path() / "plain", "reference");
    EXPECT_EQ(logits_of(t.path() / "packed", "reference"), plain_logits);
    // The CPU rounds activations to int8 where weights are integers, by 1/254 of the largest of 32 at most;
    // the logits of these few layers are off by a few times that.
    const std::vector<float> on_cpu = logits_of(t.path() / "packed", "cpu");
    ASSERT_EQ(on_cpu.size(), plain_logits.size());
    const float largest =
        std::fabs(*std::ranges::max_element(plain_logits, {}, [](float x) { return std::fabs(x); }));
    for (size_t i = 0; i < on_cpu.size(); ++i) {
        ASSERT_NEAR(on_cpu[i], plain_logits[i], largest * 8 / 254) << "logit " << i;
    }
}

// --- GPTQ and AWQ ---

struct Variant {
    bool awq = false;
    int bits = 4;
    int64_t group_size = 128;  // -1: all
    bool symmetric = true, act_order = false, v2 = false;
};

// Appends `bits` bits to words, lowest first.
void put_bits(std::vector<uint32_t>& words, size_t first_word, size_t stride, size_t k, int bits,
              uint32_t value) {
    for (int i = 0; i < bits; ++i) {
        const size_t at = k * static_cast<size_t>(bits) + static_cast<size_t>(i);
        words[first_word + at / 32 * stride] |= (value >> i & 1u) << (at % 32);
    }
}

Packed pack_integers(const Variant& v, const Matrix& m) {
    const int64_t group = v.group_size < 0 ? m.cols : v.group_size, n_groups = (m.cols + group - 1) / group;
    std::vector<int32_t> group_of(static_cast<size_t>(m.cols)), order(group_of.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::mt19937 random(static_cast<uint32_t>(m.rows * 1000 + m.cols));
    if (v.act_order) std::shuffle(order.begin(), order.end(), random);
    for (size_t i = 0; i < order.size(); ++i) {
        group_of[static_cast<size_t>(order[i])] = static_cast<int32_t>(static_cast<int64_t>(i) / group);
    }

    // Round to nearest in each group: w = s * (q - z).
    const int levels = 1 << v.bits;
    const auto at = [&](int64_t g, int64_t o) { return static_cast<size_t>(g * m.rows + o); };
    std::vector<F16> scales(static_cast<size_t>(n_groups * m.rows));
    std::vector<int> zeros(scales.size());
    std::vector<int> q(m.w.size());
    Packed result;
    result.w.resize(m.w.size());
    for (int64_t o = 0; o < m.rows; ++o) {
        for (int64_t g = 0; g < n_groups; ++g) {
            float low = 0, high = 0;
            for (int64_t i = 0; i < m.cols; ++i) {
                if (group_of[static_cast<size_t>(i)] != g) continue;
                low = std::min(low, m.at(o, i));
                high = std::max(high, m.at(o, i));
            }
            const float largest = std::max(-low, high);
            const float step = v.symmetric ? 2 * largest / static_cast<float>(levels - 1)
                                           : (high - low) / static_cast<float>(levels - 1);
            scales[at(g, o)] = F16::from(step);
            // The first format cannot say 0.
            zeros[at(g, o)] = v.symmetric ? levels / 2
                                          : std::clamp(static_cast<int>(std::lround(-low / step)),
                                                       v.awq || v.v2 ? 0 : 1, levels - 1);
        }
        for (int64_t i = 0; i < m.cols; ++i) {
            const size_t k = at(group_of[static_cast<size_t>(i)], o);
            const float s = scales[k];
            const int code =
                std::clamp(static_cast<int>(std::lround(m.at(o, i) / s)) + zeros[k], 0, levels - 1);
            q[static_cast<size_t>(o * m.cols + i)] = code;
            const float w = s * static_cast<float>(code - zeros[k]);
            result.w[static_cast<size_t>(o * m.cols + i)] =
                v.act_order && group < m.cols ? static_cast<float>(F16::from(w)) : w;
        }
    }

    const auto n_out = static_cast<size_t>(m.rows), n_in = static_cast<size_t>(m.cols),
               bits = static_cast<size_t>(v.bits);
    std::vector<uint32_t> qweight(n_in * n_out * bits / 32),
        qzeros(static_cast<size_t>(n_groups) * n_out * bits / 32);
    constexpr size_t awq_order[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // nibble j holds this output of eight
    for (size_t o = 0; o < n_out; ++o) {
        size_t nibble = 0;
        while (awq_order[nibble] != o % 8) ++nibble;
        for (size_t i = 0; i < n_in; ++i) {
            const auto code = static_cast<uint32_t>(q[o * n_in + i]);
            if (v.awq) {
                qweight[i * (n_out / 8) + o / 8] |= code << (4 * nibble);
            } else {
                put_bits(qweight, o, n_out, i, v.bits, code);
            }
        }
        for (size_t g = 0; g < static_cast<size_t>(n_groups); ++g) {
            const auto zero = static_cast<uint32_t>(zeros[g * n_out + o]);
            if (v.awq) {
                qzeros[g * (n_out / 8) + o / 8] |= zero << (4 * nibble);
            } else {
                put_bits(qzeros, g * n_out * bits / 32, 1, o, v.bits, v.v2 ? zero : zero - 1);
            }
        }
    }
    const std::vector<int64_t> shape =
        v.awq ? std::vector<int64_t>{m.cols, m.rows / 8} : std::vector<int64_t>{m.cols * v.bits / 32, m.rows};
    result.tensors = {stored(m.stem + ".qweight", "I32", shape, qweight),
                      stored(m.stem + ".qzeros", "I32", {n_groups, m.rows * v.bits / 32}, qzeros),
                      stored(m.stem + ".scales", "F16", {n_groups, m.rows}, scales)};
    if (v.act_order) result.tensors.push_back(stored(m.stem + ".g_idx", "I32", {m.cols}, group_of));
    return result;
}

Json config_of(const Variant& v) {
    if (v.awq) {
        return {{"quant_method", "awq"},
                {"bits", 4},
                {"group_size", v.group_size},
                {"version", "gemm"},
                {"zero_point", true}};
    }
    return {{"quant_method", "gptq"},     {"bits", v.bits},
            {"group_size", v.group_size}, {"desc_act", v.act_order},
            {"sym", v.symmetric},         {"checkpoint_format", v.v2 ? "gptq_v2" : "gptq"}};
}

TEST(PackedWeights, GptqIsWhatItsDefinitionSays) {
    for (const Variant& v :
         {Variant{}, Variant{.group_size = 32, .symmetric = false},
          Variant{.group_size = 64, .symmetric = false, .v2 = true}, Variant{.group_size = -1},
          Variant{.bits = 2, .group_size = 32, .symmetric = false}, Variant{.bits = 3, .group_size = 64},
          Variant{.bits = 3, .symmetric = false, .v2 = true}}) {
        SCOPED_TRACE(config_of(v).dump());
        expect_same_logits(
            "qwen3", config_of(v), [&](const Matrix& m) { return pack_integers(v, m); }, Format::Q4_Z);
    }
    const Variant eight{.bits = 8, .group_size = 64, .symmetric = false};
    expect_same_logits(
        "qwen2", config_of(eight), [&](const Matrix& m) { return pack_integers(eight, m); }, Format::Q8_Z);
}

TEST(PackedWeights, GroupsByImportanceBecomeHalves) {
    for (const Variant& v : {Variant{.group_size = 32, .act_order = true},
                             Variant{.bits = 8, .group_size = 64, .symmetric = false, .act_order = true}}) {
        expect_same_logits(
            "qwen3", config_of(v), [&](const Matrix& m) { return pack_integers(v, m); }, Format::F16);
    }
    // One group: the order says nothing.
    const Variant one{.group_size = -1, .act_order = true};
    expect_same_logits(
        "qwen3", config_of(one), [&](const Matrix& m) { return pack_integers(one, m); }, Format::Q4_Z);
}

TEST(PackedWeights, AwqIsWhatItsDefinitionSays) {
    for (const Variant& v : {Variant{.awq = true, .group_size = 128, .symmetric = false},
                             Variant{.awq = true, .group_size = 32, .symmetric = false},
                             Variant{.awq = true, .group_size = 64}}) {
        expect_same_logits(
            "qwen2", config_of(v), [&](const Matrix& m) { return pack_integers(v, m); }, Format::Q4_Z);
    }
}

std::string error_with(const Json& quantization, const Variant& v,
                       const std::function<void(Packed&)>& damage) {
    const TemporaryFolder t;
    write_pair("qwen3", t.path() / "packed", t.path() / "plain", quantization, [&](const Matrix& m) {
        Packed p = pack_integers(v, m);
        damage(p);
        return p;
    });
    return open_error(t.path() / "packed");
}

TEST(PackedWeights, WhatIsNotReadIsNamed) {
    const auto expect = [](const std::string& error, const std::string& text) {
        EXPECT_NE(error.find(text), std::string::npos) << "expected: " << text << "\nfound: " << error;
        EXPECT_EQ(error.find('\n'), std::string::npos);
    };
    const auto none = [](Packed&) {};
    const auto with = [](Json config, const Json& more) {
        config.update(more);
        return config;
    };
    const Variant gptq, awq{.awq = true};
    expect(error_with(with(config_of(gptq), {{"bits", 5}}), gptq, none),
           "bits: expected 2, 3, 4 or 8, found 5");
    expect(error_with(with(config_of(gptq), {{"checkpoint_format", "marlin"}}), gptq, none),
           "checkpoint_format: expected gptq or gptq_v2, found \"marlin\"");
    expect(error_with(with(config_of(awq), {{"version", "gemv"}}), awq, none), "version: expected gemm");
    expect(error_with({{"quant_method", "bitsandbytes"}}, gptq, none),
           "quant_method: expected gptq, awq, mxfp4, compressed-tensors or modelopt, found \"bitsandbytes\"");
    expect(error_with({{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}}, gptq, none),
           "format: expected nvfp4-pack-quantized, found \"pack-quantized\"");
    expect(error_with(config_of(gptq), gptq, [](Packed& p) { p.tensors.erase(p.tensors.begin() + 1); }),
           "expected qweight, qzeros and scales, found no qzeros");
    expect(error_with(with(config_of(gptq), {{"bits", 8}}), gptq, none),
           "expected 8-bit GPTQ weights, found");
    expect(error_with(with(config_of(gptq), {{"group_size", 32}}), gptq, none),
           "as there are scales, found group");
    const Variant ordered{.group_size = 32, .act_order = true};
    expect(error_with(config_of(ordered), ordered, [](Packed& p) { p.tensors.back().data[3] = '\x7f'; }),
           "as there are scales, found group");
    // A scale beyond halves.
    expect(error_with(config_of(gptq), gptq,
                      [](Packed& p) {
                          Stored& s = p.tensors[2];
                          const std::vector<float> tiny(s.data.size() / 2, 1e-9f);
                          s = stored(s.name, "F32", s.shape, tiny);
                      }),
           "expected a number that a half holds exactly");
}

// --- NVFP4 ---

// Codes and scales at random; Model Optimizer's names, or compressed-tensors'.
Packed pack_nvfp4(const Matrix& m, bool compressed) {
    std::mt19937 random(static_cast<uint32_t>(m.rows * 31 + m.cols));
    const float global = compressed ? 3000.0f : 0.000321f;
    std::vector<uint8_t> quants(m.w.size() / 2), scales(m.w.size() / 16);
    for (uint8_t& q : quants) q = static_cast<uint8_t>(random());
    for (uint8_t& s : scales) s = static_cast<uint8_t>(random() % 127);
    constexpr float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    Packed result;
    for (size_t i = 0; i < m.w.size(); ++i) {
        const int code = quants[i / 2] >> (i % 2 * 4) & 15, bits = scales[i / 16];
        const float e4m3 = bits < 8 ? std::ldexp(static_cast<float>(bits), -9)
                                    : std::ldexp(1 + static_cast<float>(bits % 8) / 8, bits / 8 - 7);
        const float scale = compressed ? e4m3 / global : e4m3 * global;
        result.w.push_back(scale * (code >= 8 ? -values[code - 8] : values[code]));
    }
    result.tensors = {
        stored(m.stem + (compressed ? ".weight_packed" : ".weight"), "U8", {m.rows, m.cols / 2}, quants),
        stored(m.stem + ".weight_scale", "F8_E4M3", {m.rows, m.cols / 16}, scales),
        stored(m.stem + (compressed ? ".weight_global_scale" : ".weight_scale_2"), "F32", {1},
               std::vector<float>{global}),
        stored(m.stem + (compressed ? ".input_global_scale" : ".input_scale"), "F32", {1},
               std::vector<float>{2})};
    return result;
}

TEST(PackedWeights, Nvfp4IsWhatItsDefinitionSays) {
    const TemporaryFolder t;
    for (const bool compressed : {false, true}) {
        const Json config =
            compressed ? Json{{"quant_method", "compressed-tensors"}, {"format", "nvfp4-pack-quantized"}}
                       : Json{{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}};
        const auto pack = [&](const Matrix& m) { return pack_nvfp4(m, compressed); };
        write_pair("qwen3", t.path() / "packed", t.path() / "plain", config, pack);
        const auto file = open_model(t.path() / "packed");
        const TensorView& w = file->require("blk.0.attn_q.weight");
        EXPECT_EQ(w.format, Format::NVFP4_HF);
        EXPECT_EQ(w.data.size(), static_cast<size_t>(w.n_elements() / 2));
        EXPECT_EQ(file->find("model.layers.0.self_attn.q_proj.input_scale"), nullptr);
        expect_same_logits("qwen3", config, pack, Format::NVFP4_HF);
        fs::remove_all(t.path() / "packed");
    }
}

TEST(PackedWeights, Nvfp4OfModelOptimizersOwnConfig) {
    const TemporaryFolder t;
    write_pair("qwen3", t.path() / "packed", t.path() / "plain", Json(),
               [](const Matrix& m) { return pack_nvfp4(m, false); });
    write_file(
        t.path() / "packed" / "hf_quant_config.json",
        R"({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}})");
    EXPECT_EQ(open_model(t.path() / "packed")->require("blk.0.ffn_up.weight").format, Format::NVFP4_HF);
    write_file(t.path() / "packed" / "hf_quant_config.json",
               R"({"quantization": {"quant_algo": "W4A8_AWQ"}})");
    EXPECT_NE(open_error(t.path() / "packed").find("quant_algo: expected NVFP4, found \"W4A8_AWQ\""),
              std::string::npos);
}

// GGUF's blocks of 64 with the floats that are tensors of their own, one an expert.
TEST(PackedWeights, Nvfp4OfGgufTakesItsScales) {
    constexpr int64_t n_experts = 2, rows = 3, cols = 128;
    std::mt19937 random(9);
    std::vector<std::byte> bytes(static_cast<size_t>(n_experts * rows * cols / 64 * 36));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 127);
    const std::vector<float> factors = {0.5f, 3};
    ModelFile model;
    model.tensors = {
        {"blk.0.ffn_up_exps.weight", Format::NVFP4, {n_experts, rows, cols}, bytes, {}, "file"},
        {"blk.0.ffn_up_exps.scale", Format::F32, {n_experts}, std::as_bytes(std::span(factors)), {}, "file"},
        {"blk.0.ffn_up_exps.input_scale",
         Format::F32,
         {1},
         std::as_bytes(std::span(factors)).first(4),
         {},
         "file"},
        {"blk.0.attn_q.weight", Format::NVFP4, {rows, cols}, bytes, {}, "file"}};
    const ModelFile before = model;
    apply_nvfp4_scales(model, Weights::ready);
    ASSERT_EQ(model.tensors.size(), 2u);
    EXPECT_EQ(model.tensors[0].format, Format::NVFP4_HF);
    EXPECT_EQ(model.tensors[1].format, Format::NVFP4) << "without a float it stays in the file";
    std::vector<float> a(cols), b(cols);
    for (int64_t r = 0; r < n_experts * rows; ++r) {
        decode_row(before.tensors[0].row(r), a);
        decode_row(model.tensors[0].row(r), b);
        for (float& v : a) v *= factors[static_cast<size_t>(r / rows)];
        EXPECT_EQ(a, b) << r;
    }
    model = before;
    model.tensors[1].shape = {1, 2, 3};
    EXPECT_THROW(apply_nvfp4_scales(model, Weights::ready), Error);
}

}  // namespace
}  // namespace smelt
