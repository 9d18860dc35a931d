// Steps of whole layers, a few tokens each, with the ops that a device joins: the bits of their parts.
#include <deque>

#include "backend/fusion.h"
#include "backend/kv_storage.h"
#include "conformance/rig.h"

namespace smelt {

using namespace op;

namespace {

struct Layers {
    Format format = Format::Q8_0, kv = Format::F16;
    int64_t n_heads = 4, n_kv_heads = 2, head_dim = 64, dim = 256, ffn = 384;
    bool head_norms = true, sinks = false;
    int window = 0;
    float soft_cap = 0;
    int n_layers = 2, n_tokens = 1;
    bool all_see_all = false;  // as patches of a picture do: each token has the last one's position
};
constexpr int block_len = 16, n_blocks = 32;

struct Outcome {
    std::vector<std::vector<float>> tensors;  // of all steps
    std::vector<std::vector<std::byte>> caches;
    bool operator==(const Outcome&) const = default;
};

// Steps that begin at these positions, over a cache that is full of numbers.
Outcome run(Backend& be, const Layers& l, const std::vector<int32_t>& positions, bool fused) {
    Rig rig(be, {.n_tokens = l.n_tokens, .n_seqs = 1, .max_blocks = n_blocks});
    std::deque<EncodedWeight> encoded;  // whose bytes a device may read for as long as it has the weights
    std::deque<Weight> weights;
    unsigned seed = 1;
    const auto matrix = [&](int64_t rows, int64_t cols) {
        return &weights.emplace_back(
            rig.matrix(encoded.emplace_back(random_weight(l.format, rows, cols, ++seed))));
    };
    const auto vector = [&](int64_t n) {
        return &weights.emplace_back(rig.vector(encode_vector(normal(n, ++seed))));
    };
    const auto room = [&](int64_t n) { return rig.empty({l.n_tokens, n}, 0, RowsOf::tokens); };
    const Tensor x = rig.floats({l.n_tokens, l.dim}, normal(l.n_tokens * l.dim, ++seed), 0, RowsOf::tokens);
    const Tensor table = rig.floats({l.n_tokens, l.head_dim / 2, 2}, normal(l.n_tokens * l.head_dim, ++seed),
                                    0, RowsOf::tokens);
    std::vector<std::unique_ptr<KvStorage>> caches;
    std::vector<Tensor> seen{x};
    Tensor last;
    for (int layer = 0; layer < l.n_layers; ++layer) {
        caches.push_back(be.allocate_kv({.k_format = l.kv,
                                         .v_format = l.kv,
                                         .n_blocks = n_blocks,
                                         .block_len = block_len,
                                         .n_heads = l.n_kv_heads,
                                         .k_dim = l.head_dim,
                                         .v_dim = l.head_dim}));
        KvStorage* kv = caches.back().get();
        for (int32_t b = 0; b < n_blocks; ++b) {
            const auto n = static_cast<int64_t>(kv->shape().block_bytes() / 2);
            const std::vector<float> some = normal(n, ++seed, 0.5f);
            std::vector<std::byte> bytes(static_cast<size_t>(2 * n));
            encode_row(l.kv, some, bytes.data(), nullptr);
            kv->write_block(b, bytes);
        }
        const Tensor h = room(l.dim), q = room(l.n_heads * l.head_dim), k = room(l.n_kv_heads * l.head_dim),
                     v = room(l.n_kv_heads * l.head_dim), a = room(l.n_heads * l.head_dim), o = room(l.dim),
                     h2 = room(l.dim), gate = room(l.ffn), up = room(l.ffn), down = room(l.dim);
        if (layer == 0)
            rig.add(RmsNorm{h, x, vector(l.dim), 1e-6f});
        else
            rig.add(Add{x, last}).add(RmsNorm{h, x, vector(l.dim), 1e-6f});
        rig.add(Matmul{.x = h,
                       .products = {{q, matrix(q.row_len(), l.dim), vector(q.row_len())},
                                    {k, matrix(k.row_len(), l.dim)},
                                    {v, matrix(v.row_len(), l.dim)}},
                       .n = 3});
        const Tensor qh = q.heads(l.n_heads), kh = k.heads(l.n_kv_heads), vh = v.heads(l.n_kv_heads);
        if (l.head_norms)
            rig.add(RmsNorm{qh, qh, vector(l.head_dim), 1e-6f})
                .add(RmsNorm{kh, kh, vector(l.head_dim), 1e-6f});
        rig.add(Rope{qh, table}).add(Rope{kh, table}).add(StoreKv{kv, kh, vh, rig.in().slots});
        rig.add(Attention{.out = a.heads(l.n_heads),
                          .q = qh,
                          .kv = kv,
                          .positions = rig.in().positions,
                          .seq_start = rig.in().seq_start,
                          .block_table = rig.in().block_table,
                          .scale = 0.1f,
                          .window = l.window,
                          .sinks = l.sinks ? vector(l.n_heads) : nullptr,
                          .soft_cap = l.soft_cap});
        rig.add(Matmul{.x = a, .products = {{o, matrix(l.dim, a.row_len())}}, .n = 1});
        rig.add(Add{x, o}).add(RmsNorm{h2, x, vector(l.dim), 1e-6f});
        rig.add(Matmul{
                    .x = h2, .products = {{gate, matrix(l.ffn, l.dim)}, {up, matrix(l.ffn, l.dim)}}, .n = 2})
            .add(SiluMul{gate, gate, up});
        rig.add(Matmul{.x = gate, .products = {{down, matrix(l.dim, l.ffn)}}, .n = 1});
        last = down;
        for (const Tensor& t : {h, a, o, h2, gate, down}) seen.push_back(t);
    }
    const Tensor h = room(l.dim), logits = room(3 * l.dim);
    rig.add(Add{x, last}).add(RmsNorm{h, x, vector(l.dim), 1e-6f});
    rig.add(Matmul{.x = h, .products = {{logits, matrix(3 * l.dim, l.dim)}}, .n = 1});
    seen.push_back(logits);

    if (fused) rig.record = fuse(rig.record, be.describe().fusions);
    rig.set(rig.in().seq_start, {0, l.n_tokens});
    std::vector<int32_t> blocks;
    for (int i = 0; i < n_blocks; ++i) blocks.push_back((i * 5 + 3) % n_blocks);
    rig.set(rig.in().block_table, blocks);
    Outcome out;
    for (const int32_t first : positions) {
        std::vector<int32_t> each, slots;
        for (int t = 0; t < l.n_tokens; ++t) {
            const int32_t p = first + t;
            each.push_back(l.all_see_all ? first + l.n_tokens - 1 : p);
            slots.push_back(blocks[static_cast<size_t>(p / block_len)] * block_len + p % block_len);
        }
        rig.set(rig.in().positions, each);
        rig.set(rig.in().slots, slots);
        rig.run();
        for (const Tensor& t : seen) out.tensors.push_back(rig.read(t));
    }
    for (const auto& kv : caches) out.caches.push_back(contents_of(*kv));
    return out;
}

void joined_are_apart(const std::string& what, const Layers& l, const std::vector<int32_t>& positions) {
    for (const Device& d : devices()) {
        if (d.label.starts_with("cpu") && d.label != devices()[0].label) continue;
        const Outcome joined = run(*d.backend, l, positions, true),
                      apart = run(*d.backend, l, positions, false);
        for (size_t i = 0; i < apart.tensors.size(); ++i)
            ASSERT_TRUE(identical(joined.tensors[i], apart.tensors[i]))
                << d.label << " " << what << ", tensor " << i;
        EXPECT_EQ(joined.caches, apart.caches) << d.label << " " << what;
    }
}

TEST(Layers, ATokenAndAFew) {
    for (const int n : {1, 3}) joined_are_apart("tokens", {.n_layers = 1, .n_tokens = n}, {0, 31, 126, 300});
    joined_are_apart("two layers", {}, {5, 6});
    joined_are_apart("all see all", {.n_layers = 1, .n_tokens = 20, .all_see_all = true}, {0, 100});
}
TEST(Layers, HeadsOfEveryKind) {
    joined_are_apart("128", {.kv = Format::BF16, .n_heads = 8, .n_kv_heads = 1, .head_dim = 128}, {77, 260});
    joined_are_apart("12 to 1", {.n_heads = 12, .n_kv_heads = 1, .head_dim = 96}, {77, 260});
    joined_are_apart("one each", {.n_heads = 3, .n_kv_heads = 3, .head_dim = 64, .head_norms = false}, {140});
    joined_are_apart("window, sinks", {.head_dim = 80, .sinks = true, .window = 40}, {20, 150, 151});
    joined_are_apart("soft cap", {.kv = Format::BF16, .window = 200, .soft_cap = 5}, {310});
    joined_are_apart("large heads", {.head_dim = 256}, {140});
}
TEST(Layers, EveryFormat) {
    for (const FormatInfo& info : all_formats()) {
        Layers l{.format = info.format, .n_layers = 1};
        l.dim = whole_blocks(info.format, 150), l.ffn = whole_blocks(info.format, 600);
        joined_are_apart(std::string(info.name), l, {130});
    }
}

}  // namespace
}  // namespace smelt
