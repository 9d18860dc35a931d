// Fused ops have the bits of their parts; programs that are launched many times those of new ones; ids that
// the launch before drew.
#include <cmath>
#include <deque>
#include <functional>

#include "backend/fusion.h"
#include "conformance/rig.h"

namespace smelt {

using namespace op;

namespace {

constexpr Fusions all{.add_rms_norm = true, .prepare_heads = true, .gated_matmul = true};

// What a test compares: float tensors, and a cache where there is one.
struct Outputs {
    std::vector<Tensor> tensors;
    KvStorage* kv = nullptr;
};
using Build = std::function<Outputs(Rig&, std::deque<Weight>&)>;

struct Result {
    std::vector<std::vector<float>> tensors;
    std::vector<std::byte> kv;
    size_t n_ops = 0;
};
Result run(Backend& be, const StepShape& shape, bool fused, bool generated, const Build& build) {
    Rig rig(be, shape);
    rig.input.counts().n_generated = generated ? shape.n_tokens : 0;
    std::deque<Weight> weights;
    const Outputs outputs = build(rig, weights);
    if (fused) rig.record = fuse(rig.record, &be == &reference() ? all : be.describe().fusions);
    rig.run();
    Result r;
    for (const Tensor& t : outputs.tensors) r.tensors.push_back(rig.read(t));
    if (outputs.kv != nullptr) r.kv = contents_of(*outputs.kv);
    r.n_ops = rig.record.ops().size();
    return r;
}

void fused_is_composed(const std::string& what, bool Fusions::*has, const StepShape& shape,
                       const Build& build) {
    const auto check = [&](Backend& be, const std::string& label, bool generated) {
        const Result apart = run(be, shape, false, generated, build),
                     joined = run(be, shape, true, generated, build);
        EXPECT_LT(joined.n_ops, apart.n_ops) << label << " " << what << ": nothing was fused";
        for (size_t i = 0; i < apart.tensors.size(); ++i) {
            EXPECT_TRUE(identical(joined.tensors[i], apart.tensors[i]))
                << label << " " << what << ", tensor " << i << (generated ? ", generated" : "");
        }
        EXPECT_EQ(joined.kv, apart.kv) << label << " " << what;
    };
    for (const bool generated : {false, true}) {
        check(reference(), "reference", generated);
        for (const Device& d : devices()) {
            if (d.backend->describe().fusions.*has) check(*d.backend, d.label, generated);
        }
    }
}

TEST(Fused, AddAndNorm) {
    for (const int n : {1, 2, 7, 33}) {
        for (const int64_t len : {1, 5, 64, 257, 1024}) {
            fused_is_composed(
                fmt::format("rows of {}, {} tokens", len, n), &Fusions::add_rms_norm, {.n_tokens = n},
                [&](Rig& rig, std::deque<Weight>& w) -> Outputs {
                    const auto rows = [&](unsigned seed) {
                        return rig.floats({n, len}, normal(n * len, seed, 3), seed, RowsOf::tokens);
                    };
                    const EncodedWeight norm = encode_vector(normal(len, 1));
                    w.push_back(rig.vector(norm));
                    const Tensor x = rows(2), y = rows(3), out = rig.empty({n, len}, 2, RowsOf::tokens);
                    rig.add(Add{x, y}).add(RmsNorm{out, x, &w[0], 1e-6f});
                    return {{x, out}};
                });
        }
    }
}

TEST(Fused, Heads) {
    struct Parts {
        bool norms, rope;
    };
    struct Dims {
        int64_t dim, rotated;
    };
    for (const Format format : kv_formats) {
        for (const Parts parts : {Parts{true, true}, {false, true}, {true, false}}) {
            for (const RopePairing pairing : {RopePairing::half, RopePairing::interleaved}) {
                for (const Dims dims : {Dims{64, 64}, {128, 64}, {96, 96}}) {
                    const int64_t dim = dims.dim, rotated = dims.rotated;
                    const int n = 5;
                    std::vector<std::unique_ptr<KvStorage>> caches;
                    fused_is_composed(
                        fmt::format("{} heads of {}{}{}", to_string(format), dim,
                                    parts.norms ? ", norms" : "", parts.rope ? ", rope" : ""),
                        &Fusions::prepare_heads, {.n_tokens = n},
                        [&](Rig& rig, std::deque<Weight>& w) -> Outputs {
                            caches.push_back(rig.be.allocate_kv({.k_format = format,
                                                                 .v_format = format,
                                                                 .n_blocks = 3,
                                                                 .block_len = 4,
                                                                 .n_heads = 2,
                                                                 .k_dim = dim,
                                                                 .v_dim = dim}));
                            rig.set(rig.in().slots, {7, 0, 11, 3, 5});
                            const auto heads = [&](int64_t h, unsigned seed) {
                                return rig.floats({n, h, dim}, normal(n * h * dim, seed, 2), 1,
                                                  RowsOf::tokens);
                            };
                            const Tensor q = heads(6, 1), k = heads(2, 2), v = heads(2, 3);
                            const Tensor table =
                                rig.floats({n, rotated / 2, 2}, normal(n * rotated, 4), 2, RowsOf::tokens);
                            const EncodedWeight a = encode_vector(normal(dim, 5)),
                                                b = encode_vector(normal(dim, 6));
                            w.push_back(rig.vector(a));
                            w.push_back(rig.vector(b));
                            if (parts.norms)
                                rig.add(RmsNorm{q, q, &w[0], 1e-6f}).add(RmsNorm{k, k, &w[1], 1e-6f});
                            if (parts.rope)
                                rig.add(Rope{q, table, pairing, dim - rotated})
                                    .add(Rope{k, table, pairing, dim - rotated});
                            rig.add(StoreKv{caches.back().get(), k, v, rig.in().slots});
                            return {{q}, caches.back().get()};
                        });
                }
            }
        }
    }
}

TEST(Fused, ProductsAndSwiGlu) {
    for (const FormatInfo& info : all_formats()) {
        for (const int n : {1, 3, 9, 33}) {
            const int64_t cols = whole_blocks(info.format, 160), rows = 45;
            const EncodedWeight gate = random_weight(info.format, rows, cols, 1),
                                up = random_weight(info.format, rows, cols, 2);
            fused_is_composed(fmt::format("{}, {} tokens", info.name, n), &Fusions::gated_matmul,
                              {.n_tokens = n}, [&](Rig& rig, std::deque<Weight>& w) -> Outputs {
                                  w.push_back(rig.matrix(gate));
                                  w.push_back(rig.matrix(up));
                                  const Tensor x = rig.floats({n, cols}, normal(n * cols, 3), 1,
                                                              RowsOf::tokens),
                                               g = rig.empty({n, rows}, 1, RowsOf::tokens),
                                               u = rig.empty({n, rows}, 0, RowsOf::tokens);
                                  rig.add(Matmul{.x = x, .products = {{g, &w[0]}, {u, &w[1]}}, .n = 2})
                                      .add(SiluMul{g, g, u});
                                  return {{g}};
                              });
        }
    }
}

// A negative id is the token that the launch before drew for that row; where it drew none, the row is zero.
TEST(Embed, IdsOfTheLaunchBefore) {
    constexpr int vocab = 70;
    for (const Format f : {Format::F32, Format::Q8_0}) {
        const EncodedWeight table = random_weight(f, vocab, 64, 1);
        const std::vector<float> rows = table.decoded();
        const auto check = [&](Backend& be, const std::string& label) {
            Rig draws(be, {.n_tokens = 3, .n_logits = 3, .draws = true});
            std::vector<float> logits(3 * vocab, 0);
            logits[41] = 1;
            logits[vocab] = std::nanf("");
            logits[2 * vocab + 7] = 1;
            draws.set_structs<DrawRow>(draws.in().draw_rows,
                                       std::vector<DrawRow>(3, {.temperature = 0, .draws = 1}));
            const Tensor tokens = draws.ints({3}, {9, 9, 9}, RowsOf::logits);
            draws.record.results.tokens = tokens;
            draws.add(Sample{.tokens = tokens,
                             .logprobs = draws.empty({3}, 0, RowsOf::logits),
                             .log_sums = draws.empty({3, 2}, 0, RowsOf::logits),
                             .logits = draws.floats({3, vocab}, logits, 0, RowsOf::logits),
                             .rows = draws.in().draw_rows,
                             .edits = {},
                             .masks = {}});
            const StepResult drawn = draws.run();
            ASSERT_EQ(drawn.tokens.size(), 3u) << label;
            EXPECT_EQ(drawn.tokens[0], 41) << label;
            EXPECT_EQ(drawn.tokens[1], static_cast<int32_t>(DrawProblem::nan)) << label;

            Rig rig(be, {.n_tokens = 5});
            const Weight weight = be.load(table.view(), {.use = WeightUse::embedding});
            rig.set(rig.in().ids, {-3, 5, -1, -2, -1});
            const Tensor out = rig.empty({5, 64}, 1, RowsOf::tokens);
            rig.add(Embed{out, rig.in().ids, &weight}).run();
            std::vector<float> expected;
            for (const int id : {7, 5, 41, -1, 41}) {
                for (int64_t i = 0; i < 64; ++i)
                    expected.push_back(id < 0 ? 0 : rows[static_cast<size_t>(id * 64 + i)]);
            }
            EXPECT_TRUE(identical(rig.read(out), expected)) << label;
        };
        check(reference(), "reference");
        for (const Device& d : devices()) check(*d.backend, d.label);
    }
}

// Sequences that grow, and come and go, under one program: each step has the bits of a program that was made
// for it alone, over a cache of its own.
TEST(Programs, ManyStepsOfOneProgramAreThoseOfNewOnes) {
    constexpr int n_seqs = 4, n_heads = 4, n_kv = 2, dim = 32, block_len = 8, max_blocks = 8;
    const StepShape shape{.n_tokens = n_seqs, .n_seqs = n_seqs, .max_blocks = max_blocks};
    const EncodedWeight matrix = random_weight(Format::Q8_0, n_heads * dim, n_heads * dim, 1);
    struct Side {
        Side(Backend& be, const EncodedWeight& encoded)
            : weight(be.load(encoded.view(), {.use = WeightUse::matrix})),
              kv(be.allocate_kv({.n_blocks = n_seqs * max_blocks,
                                 .block_len = block_len,
                                 .n_heads = n_kv,
                                 .k_dim = dim,
                                 .v_dim = dim})) {}
        Weight weight;
        std::unique_ptr<KvStorage> kv;
        Tensor q, k, v, out;
        void record(Rig& rig) {
            const InputTensors& in = rig.in();
            q = rig.empty({n_seqs, n_heads, dim}, 1, RowsOf::tokens);
            k = rig.empty({n_seqs, n_kv, dim}, 0, RowsOf::tokens);
            v = rig.empty({n_seqs, n_kv, dim}, 3, RowsOf::tokens);
            out = rig.empty({n_seqs, n_heads * dim}, 1, RowsOf::tokens);
            const Tensor mixed = rig.empty({n_seqs, n_heads, dim}, 0, RowsOf::tokens);
            rig.add(StoreKv{kv.get(), k, v, in.slots});
            rig.add(Attention{.out = mixed,
                              .q = q,
                              .kv = kv.get(),
                              .positions = in.positions,
                              .seq_start = in.seq_start,
                              .block_table = in.block_table,
                              .scale = 0.2f});
            rig.add(Matmul{.x = mixed.flat(), .products = {{out, &weight}}, .n = 1});
            rig.compile();
        }
        std::vector<float> step(Rig& rig, const std::vector<int>& sequences, const std::vector<int>& lengths,
                                int number) {
            const InputTensors& in = rig.in();
            StepCounts& counts = rig.input.counts();
            counts = {};
            counts.n_tokens = counts.n_seqs = counts.n_generated = static_cast<int32_t>(sequences.size());
            std::vector<int32_t> positions, slots, starts = {0}, table;
            for (size_t i = 0; i < sequences.size(); ++i) {
                const int s = sequences[i], position = lengths[static_cast<size_t>(s)];
                positions.push_back(position);
                const auto block = [&](int b) { return b * n_seqs + s; };
                for (int b = 0; b < max_blocks; ++b) table.push_back(block(b));
                slots.push_back(block(position / block_len) * block_len + position % block_len);
                starts.push_back(static_cast<int32_t>(i) + 1);
                counts.max_kv_len = std::max(counts.max_kv_len, position + 1);
            }
            rig.set(in.positions, positions);
            rig.set(in.slots, slots);
            rig.set(in.seq_start, starts);
            rig.set(in.block_table, table);
            const auto seed = static_cast<unsigned>(number * 3);
            rig.write(q, normal(q.n_elements(), seed));
            rig.write(k, normal(k.n_elements(), seed + 1));
            rig.write(v, normal(v.n_elements(), seed + 2));
            rig.write(out, std::vector<float>(static_cast<size_t>(out.n_elements()), filler));
            rig.run();
            return rig.read(out);
        }
    };
    const auto check = [&](Backend& be, const std::string& label) {
        Side kept(be, matrix), fresh(be, matrix);
        Rig long_lived(be, shape);
        kept.record(long_lived);
        std::vector<int> lengths(n_seqs, 0);
        for (int step = 0; step < 60; ++step) {
            std::vector<int> sequences;
            for (int s = 0; s < n_seqs; ++s) {
                if (s == step % n_seqs || (step * 7 + s * 5) % 3 != 0) sequences.push_back(s);
            }
            const std::vector<float> got = kept.step(long_lived, sequences, lengths, step);
            Rig rig(be, shape);
            fresh.record(rig);
            const std::vector<float> expected = fresh.step(rig, sequences, lengths, step);
            ASSERT_TRUE(identical(got, expected)) << label << ", step " << step;
            ASSERT_FALSE(identical(got, std::vector<float>(got.size(), filler))) << "nothing was written";
            for (const int s : sequences) ++lengths[static_cast<size_t>(s)];
        }
        EXPECT_EQ(contents_of(*kept.kv), contents_of(*fresh.kv)) << label;
    };
    check(reference(), "reference");
    for (const Device& d : devices()) check(*d.backend, d.label);
}

}  // namespace
}  // namespace smelt
