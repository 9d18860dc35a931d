// Reading GGUF: every value type, and one line for each thing that can be wrong.
#include "files/gguf_support.h"

#include "files/families.h"

namespace smelt {
namespace {

struct File {
    TemporaryFolder folder;
    fs::path path = folder.path() / "model";  // no extension: containers are told apart by content

    std::string error(const std::string& bytes) {
        write_file(path, bytes);
        return open_error(path);
    }
};

TEST(Gguf, EveryType) {
    File f;
    ASSERT_EQ(f.error(small_gguf().bytes()), "");
    const auto model = open_model(f.path);
    const Metadata& m = model->metadata;
    EXPECT_EQ(model->container_version, "GGUF v3");
    EXPECT_EQ(m.get_int("t.u8"), 200);
    EXPECT_EQ(m.get_int("t.i8"), -3);
    EXPECT_EQ(m.get_int("t.u16"), 60000);
    EXPECT_EQ(m.get_int("t.i16"), -300);
    EXPECT_EQ(m.get_int("t.i32"), -70000);
    EXPECT_EQ(m.get_int("t.u64"), int64_t{1} << 40);
    EXPECT_EQ(m.get_int("t.i64"), -5);
    EXPECT_EQ(m.get_double("t.f32"), 1e-6) << "as the float prints";
    EXPECT_EQ(m.get_double("t.f64"), 0.1);
    EXPECT_EQ(m.get_bool("t.bool"), true);
    EXPECT_EQ(*m.get_strings("t.strings"), (std::vector<std::string>{"a", "bc"}));
    EXPECT_EQ(*m.get_ints("t.ints"), (std::vector<int64_t>{1, -2}));
    EXPECT_EQ(*m.get_doubles("t.reals"), std::vector<double>{0.5});
    EXPECT_EQ(m.find("t.nested"), nullptr);
    EXPECT_EQ(model->notes.size(), 1u);

    EXPECT_EQ(*m.get_string("smelt.rope.pairing"), "interleaved");
    EXPECT_EQ(m.get_int("llama.attention.key_length"), 32);
    EXPECT_EQ(m.get_int("llama.attention.head_count_kv"), 2);
    EXPECT_EQ(m.get_int("llama.vocab_size"), 3);
    EXPECT_EQ(model->require("token_embd.weight").shape, (std::vector<int64_t>{3, 64}));
    EXPECT_EQ(model->require("token_embd.weight").n_bytes(), 3u * 2 * 34);
    ASSERT_EQ(model->unsupported.size(), 1u);
    EXPECT_EQ(model->unsupported[0].type, "Q8_1");
    EXPECT_EQ(missing_tensors(*model).size(), 8u);

    GgufBytes old = small_gguf();
    old.version = 2;
    ASSERT_EQ(f.error(old.bytes()), "");
    EXPECT_EQ(open_model(f.path)->container_version, "GGUF v2");
}

TEST(Gguf, WrongTypeOfKeyIsNamed) {
    File f;
    ASSERT_EQ(f.error(small_gguf().bytes()), "");
    const auto model = open_model(f.path);
    EXPECT_THROW(model->metadata.get_string("t.u8"), Error);
    EXPECT_THROW(model->metadata.get_int("t.f32"), Error);
    EXPECT_EQ(model->metadata.get_double("t.u8"), 200.0);
    EXPECT_EQ(model->metadata.get_int("absent"), std::nullopt);
}

TEST(Gguf, DamageIsNamed) {
    File f;
    const auto says = [&](const std::string& text, auto&& change) {
        GgufBytes g = small_gguf();
        change(g);
        const std::string error = f.error(g.bytes());
        EXPECT_NE(error.find(text), std::string::npos) << "expected: " << text << "\nfound: " << error;
    };
    says("expected GGUF version 2 or 3, found 1", [](GgufBytes& g) { g.version = 1; });
    says("big-endian", [](GgufBytes& g) { g.version = 0x03000000; });
    says("items cannot fit", [](GgufBytes& g) { g.n_tensors = uint64_t{1} << 60; });
    says("items cannot fit", [](GgufBytes& g) { g.n_keys = ~uint64_t{0}; });
    says("occurs twice", [](GgufBytes& g) { g.key("t.u8", 1u); });
    says("unknown metadata type 13", [](GgufBytes& g) { g.key("x", static_cast<GgufValue>(13)); });
    says("items cannot fit", [](GgufBytes& g) { g.list("x", GgufValue::u64, uint64_t{1} << 61); });
    says("x: string of", [](GgufBytes& g) {
        g.key("x", GgufValue::string);
        append(g.keys, ~uint64_t{0});
    });
    says("too large", [](GgufBytes& g) {
        g.key("x", GgufValue::u64);
        append(g.keys, ~uint64_t{0});
    });
    says("power of two", [](GgufBytes& g) { g.key("general.alignment", 48u); });
    says("nested deeper", [](GgufBytes& g) {
        g.list("x", GgufValue::array, 1);
        for (int i = 0; i < 9; ++i) {
            append(g.keys, static_cast<uint32_t>(GgufValue::array));
            append(g.keys, uint64_t{1});
        }
    });
    says("unknown number format 99", [](GgufBytes& g) { g.tensor("x", {32}, 99, 0); });
    says("no longer in use", [](GgufBytes& g) { g.tensor("x", {32}, 31, 0); });
    says("multiple of 32 weights, found 33", [](GgufBytes& g) { g.tensor("x", {33}, 8, 0); });
    says("too many elements", [](GgufBytes& g) { g.tensor("x", {1u << 30, 1u << 30}, 0, 0); });
    says("dimensions, at most", [](GgufBytes& g) { g.tensor("x", std::vector<uint64_t>(9, 1), 0, 0); });
    says("no multiple of the alignment", [](GgufBytes& g) { g.tensor("x", {1}, 0, 4); });
    says("data section, which has", [](GgufBytes& g) { g.tensor("x", {1}, 0, 736); });
    says("data section, which has", [](GgufBytes& g) { g.tensor("x", {1}, 0, ~uint64_t{31}); });
    says("overlap those of", [](GgufBytes& g) { g.tensor("x", {1}, 0, 32); });
    says("tensor output_norm.weight occurs twice",
         [](GgufBytes& g) { g.tensor("output_norm.weight", {0}, 0, 0); });
    EXPECT_NE(f.error("").find("expected a Hugging Face folder"), std::string::npos);
    EXPECT_NE(f.error("hello world").find("expected a Hugging Face folder"), std::string::npos);
}

}  // namespace
}  // namespace smelt
