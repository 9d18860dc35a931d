// LoRA adapters: what is read and merged, beside the formula in double, and what is refused.
#include "files/adapter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "base/json.h"
#include "files/files_support.h"
#include "files/gguf_support.h"

namespace smelt {
namespace {

using Matrix = std::vector<float>;

Matrix random_matrix(int64_t n, uint32_t seed) {
    std::mt19937 random(seed);
    Matrix m(static_cast<size_t>(n));
    for (float& v : m) v = (static_cast<float>(random() >> 8) / 16777216.0f - 0.5f) / 4;
    return m;
}

std::string bytes_of(const Matrix& m) {
    return {reinterpret_cast<const char*>(m.data()), m.size() * sizeof(float)};
}

Json config() {
    return {{"peft_type", "LORA"}, {"r", 4}, {"lora_alpha", 6}, {"target_modules", {"x"}}, {"bias", "none"}};
}

// A PEFT adapter of one module.
struct Peft {
    std::string module;
    int64_t out = 0, in = 0, rank = 4;
    Matrix a = random_matrix(rank * in, 1), b = random_matrix(out * rank, 2);
    Json json = config();
    std::string dtype = "F32", a_end = ".lora_A.weight", b_end = ".lora_B.weight";

    std::string weights() const {
        const size_t n_a = a.size() * 4, n_b = b.size() * 4;
        const Json header = {
            {"base_model.model." + module + a_end,
             {{"dtype", dtype}, {"shape", {rank, in}}, {"data_offsets", {0, n_a}}}},
            {"base_model.model." + module + b_end,
             {{"dtype", dtype}, {"shape", {out, rank}}, {"data_offsets", {n_a, n_a + n_b}}}}};
        return safetensors(header.dump(), bytes_of(a) + bytes_of(b));
    }
    Adapter read(const ModelFile& model) const {
        const TemporaryFolder folder;
        write_file(folder.path() / "adapter_config.json", json.dump());
        write_file(folder.path() / "adapter_model.safetensors", weights());
        return read_adapter(folder.path(), model);
    }
    std::string error(const ModelFile& model) const {
        try {
            (void)read(model);
            return {};
        } catch (const Error& e) {
            return e.what();
        }
    }
};

Peft for_matrix(const ModelFile& model, const std::string& module, const std::string& tensor) {
    const TensorView& w = model.require(tensor);
    return {.module = module, .out = w.shape[0], .in = w.shape[1]};
}

const std::string q = "model.layers.1.self_attn.q_proj", q_name = "blk.1.attn_q.weight";

void expect_merged(const std::string& name, const std::string& module, const std::string& tensor) {
    SCOPED_TRACE(name + " " + tensor);
    const auto model = open_model(golden(name));
    const Peft peft = for_matrix(*model, module, tensor);
    const ModelFile result = merged(*model, peft.read(*model), 0.5);
    const std::vector<float> before = model->require(tensor).decoded(), w = result.require(tensor).decoded();
    ASSERT_EQ(model->require(tensor).format, Format::BF16);
    for (int64_t r = 0; r < peft.out; ++r) {
        for (int64_t c = 0; c < peft.in; ++c) {
            double sum = 0;
            for (int64_t k = 0; k < peft.rank; ++k)
                sum += double{peft.b[static_cast<size_t>(r * peft.rank + k)]} *
                       double{peft.a[static_cast<size_t>(k * peft.in + c)]};
            const auto at = static_cast<size_t>(r * peft.in + c);
            const double want = double{before[at]} + 0.5 * (6.0 / 4) * sum;
            // BF16 has 8 bits of mantissa; before it, the sum is rounded to a float.
            ASSERT_NEAR(double{w[at]}, want, std::abs(want) * (0x1p-8 + 0x1p-23) + 1e-30) << r << ", " << c;
        }
    }
    for (const TensorView& t : model->tensors) {
        if (t.name == tensor) continue;
        EXPECT_EQ(result.require(t.name).data.data(), t.data.data()) << t.name;
    }
}

TEST(Adapter, MergesAsTheFormulaInDouble) {
    expect_merged("llama3", q, q_name);
    expect_merged("qwen3", "model.layers.0.mlp.down_proj", "blk.0.ffn_down.weight");
    expect_merged("phi3", "model.layers.0.self_attn.qkv_proj", "blk.0.attn_qkv.weight");
    expect_merged("gpt2", "transformer.h.1.attn.c_attn", "blk.1.attn_qkv.weight");
}

TEST(Adapter, ScalesByRankRootAndPatterns) {
    const auto model = open_model(golden("llama3"));
    Peft peft = for_matrix(*model, q, q_name);
    EXPECT_EQ(peft.read(*model).updates.front().scale, 1.5f);
    peft.json["use_rslora"] = true;
    EXPECT_EQ(peft.read(*model).updates.front().scale, 3.0f);
    peft.json["alpha_pattern"] = {{"q_proj", 8}};
    EXPECT_EQ(peft.read(*model).updates.front().scale, 4.0f);
    peft.json["r"] = 64;
    EXPECT_NE(peft.error(*model).find("expected rank 64, found 4"), std::string::npos);
    peft.json["rank_pattern"] = {{"layers.1.self_attn.q_proj", 4}};
    EXPECT_EQ(peft.read(*model).updates.front().scale, 4.0f);
}

// GGUF has the rows of Llama's q and k as pairs of neighbours.
GgufBytes gguf_of(const Peft& peft, int64_t head_dim) {
    Matrix b(peft.b.size());
    for (int64_t r = 0; r < peft.out; ++r) {
        const int64_t head = r / head_dim, j = r % head_dim;
        const int64_t from = head * head_dim + j / 2 + (j % 2) * head_dim / 2;
        std::copy_n(peft.b.begin() + from * peft.rank, peft.rank, b.begin() + r * peft.rank);
    }
    GgufBytes g;
    g.key("general.architecture", "llama");
    g.key("general.type", "adapter");
    g.key("adapter.type", "lora");
    g.key("adapter.lora.alpha", GgufValue::f32), append(g.keys, 6.0f);
    const auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    g.data = bytes_of(peft.a);
    g.data.resize((g.data.size() + 31) / 32 * 32);
    g.tensor(q_name + ".lora_a", {u(peft.in), u(peft.rank)}, 0, 0);
    g.tensor(q_name + ".lora_b", {u(peft.rank), u(peft.out)}, 0, g.data.size());
    g.data += bytes_of(b);
    return g;
}

TEST(Adapter, OfGgufIsThatOfPeft) {
    const auto model = open_model(golden("llama3"));
    const Peft peft = for_matrix(*model, q, q_name);
    const TemporaryFolder folder;
    write_file(folder.path() / "a.gguf",
               gguf_of(peft, *model->metadata.get_int("llama.attention.key_length")).bytes());
    const LowRank one = read_adapter(folder.path() / "a.gguf", *model).updates.front();
    const LowRank other = peft.read(*model).updates.front();
    EXPECT_EQ(one.tensor, other.tensor);
    EXPECT_EQ(one.scale, other.scale);
    EXPECT_EQ(one.a, other.a);
    EXPECT_EQ(one.b, other.b);
}

TEST(Adapter, RefusesByName) {
    const auto model = open_model(golden("llama3"));
    const auto expect = [&](const std::string& part, const std::function<void(Peft&)>& change) {
        Peft peft = for_matrix(*model, q, q_name);
        change(peft);
        EXPECT_NE(peft.error(*model).find(part), std::string::npos) << part << "\n" << peft.error(*model);
    };
    const auto key = [&](const char* name, const Json& value) {
        expect(name, [&](Peft& p) { p.json[name] = value; });
    };
    key("peft_type", "LOHA");
    key("bias", "all");
    key("use_dora", true);
    key("modules_to_save", {"lm_head"});
    key("init_lora_weights", "pissa");
    key("trainable_token_indices", {1});
    key("unheard_of", 1);
    key("r", 0);
    key("r", "4");
    key("lora_alpha", "much");
    key("use_rslora", 1);
    key("layers_to_transform", {0});
    key("rank_pattern", {{".*q_proj", 4}});
    key("alpha_pattern", {{"q_proj", nullptr}});
    key("rank_pattern", {{"q_proj", 1 << 30}});
    expect("no matrix model.layers.1.self_attn.z_proj",
           [](Peft& p) { p.module = "model.layers.1.self_attn.z_proj"; });
    expect("missing", [](Peft& p) { p.module = "model.layers.99.self_attn.q_proj"; });
    expect("token_embd", [](Peft& p) { p.module = "model.embed_tokens"; });
    expect("lora_magnitude_vector", [](Peft& p) { p.b_end = ".lora_magnitude_vector"; });
    expect("found I32", [](Peft& p) { p.dtype = "I32"; });
    expect("not finite", [](Peft& p) { p.a[3] = NAN; });
    expect("not finite", [](Peft& p) { p.b[3] = INFINITY; });
    expect("expected shape", [](Peft& p) { p.out /= 2, p.b.resize(static_cast<size_t>(p.out * p.rank)); });
    expect("expected shape", [](Peft& p) { p.in /= 2, p.a.resize(static_cast<size_t>(p.in * p.rank)); });
}

TEST(Adapter, DamagedFilesAreReadOrRefused) {
    const auto model = open_model(golden("llama3"));
    const Peft peft = for_matrix(*model, q, q_name);
    const std::string whole[] = {peft.json.dump(), peft.weights(), gguf_of(peft, 16).bytes()};
    const TemporaryFolder folder;
    std::mt19937 random(3);
    int refused = 0;
    for (int turn = 0; turn < 600; ++turn) {
        std::string bytes[] = {whole[0], whole[1], whole[2]};
        std::string& one = bytes[turn % 3];
        const size_t head = std::min<size_t>(one.size(), 400);
        for (unsigned n = 1 + random() % 3; n > 0; --n) one[random() % head] = static_cast<char>(random());
        if (random() % 4 == 0) one.resize(random() % one.size());
        write_file(folder.path() / "adapter_config.json", bytes[0]);
        write_file(folder.path() / "adapter_model.safetensors", bytes[1]);
        write_file(folder.path() / "a.gguf", bytes[2]);
        try {
            (void)read_adapter(turn % 3 == 2 ? folder.path() / "a.gguf" : folder.path(), *model);
        } catch (const Error&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 300);
}

}  // namespace
}  // namespace smelt
