// GGUF in several files: NAME-00001-of-00003.gguf and its neighbours.
#include "files/gguf_support.h"

namespace smelt {
namespace {

class GgufSplit : public ::testing::Test {
 protected:
    static GgufBytes part(uint32_t no, uint32_t count) {
        GgufBytes g;
        if (no == 0) {
            g.key("general.architecture", "llama");
            g.key("llama.attention.head_count", 2u);
            g.key("llama.embedding_length", 64u);
            g.key("llama.block_count", 1u);
        }
        g.key("split.no", no);
        g.key("split.count", count);
        g.tensor(no == 2 ? "token_embd.weight" : "blk." + std::to_string(no) + ".attn_norm.weight", {64, 3},
                 0, 0);
        g.data.assign(64 * 3 * sizeof(float), static_cast<char>(no));
        return g;
    }
    fs::path path(int i) const { return folder_.path() / fmt::format("m-{:05}-of-00003.gguf", i + 1); }
    void write(int i, const GgufBytes& g) const { write_file(path(i), g.bytes()); }
    void write_all() const {
        for (int i = 0; i < 3; ++i) write(i, part(static_cast<uint32_t>(i), 3));
    }

    TemporaryFolder folder_;
};

TEST_F(GgufSplit, PartsAreOneModel) {
    write_all();
    const auto model = open_model(path(0));
    EXPECT_EQ(model->container_version, "GGUF v3, 3 parts");
    EXPECT_EQ(model->tensors.size(), 3u);
    EXPECT_EQ(model->metadata.get_int("llama.vocab_size"), 3) << "of a tensor in the last part";
    for (const int i : {0, 1}) {
        const TensorView& t = model->require(fmt::format("blk.{}.attn_norm.weight", i));
        EXPECT_EQ(t.data[100], static_cast<std::byte>(i));
        EXPECT_EQ(t.source, path(i).string());
    }
}

TEST_F(GgufSplit, WhatDoesNotBelongTogetherIsNamed) {
    const auto says = [&](const std::string& text, int opened, auto&& change) {
        write_all();
        change();
        const std::string error = open_error(path(opened));
        EXPECT_NE(error.find(text), std::string::npos) << "expected: " << text << "\nfound: " << error;
    };
    says("expected the first of 3 parts", 1, [] {});
    says("m-00003-of-00003.gguf", 0, [&] { fs::remove(path(2)); });
    says("expected split.no 1", 0, [&] { write(1, part(2, 3)); });
    says("expected the first of 4 parts", 0, [&] { write(0, part(0, 4)); });
    says("occurs in an earlier part", 0, [&] {
        GgufBytes g = part(1, 3);
        g.infos.clear();
        g.tensor("blk.0.attn_norm.weight", {64, 3}, 0, 0);
        g.n_tensors = 1;
        write(1, g);
    });
    says("expected GGUF", 0, [&] { write_file(path(1), std::string(100, 'x')); });
}

}  // namespace
}  // namespace smelt
