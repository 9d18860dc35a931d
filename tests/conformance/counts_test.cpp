// Programs for up to 8 of everything, in steps that have fewer: the rows there are have the bits of a program
// of that size, and the others are as they were.
#include <cmath>
#include <functional>
#include <numeric>

#include "conformance/rig.h"

namespace smelt {

using namespace op;

namespace {

constexpr int most = 8;

struct Weights {
    explicit Weights(Backend& b) : be(b) {}
    const Weight* matrix(Format f, int64_t rows, int64_t cols, WeightUse use = WeightUse::matrix) {
        return load(random_weight(f, rows, cols, seed_++), use);
    }
    const Weight* vector(int64_t n) { return load(encode_vector(normal(n, seed_++)), WeightUse::vector); }
    std::vector<const Weight*> list(int n, Format f, int64_t rows, int64_t cols) {
        std::vector<const Weight*> all;
        while (n-- > 0) all.push_back(matrix(f, rows, cols));
        return all;
    }

    Backend& be;

 private:
    const Weight* load(EncodedWeight encoded, WeightUse use) {
        encoded_.push_back(std::make_unique<EncodedWeight>(std::move(encoded)));
        weights_.push_back(std::make_unique<Weight>(be.load(encoded_.back()->view(), {.use = use})));
        return weights_.back().get();
    }
    unsigned seed_ = 100;
    std::vector<std::unique_ptr<EncodedWeight>> encoded_;
    std::vector<std::unique_ptr<Weight>> weights_;
};

// What an op is about to write, with what was there before, and a cache where it has one.
struct Outputs {
    std::vector<Tensor> floats, ints;
    KvStorage* kv = nullptr;
};

// An op whose rows are counted, with inputs that are the same for every number of rows.
struct Case {
    std::string name;
    std::function<Outputs(Rig&, Weights&, KvStorage&)> build;
    bool (*has)(const Fusions&) = nullptr;  // only where a device has the fused form
};

int64_t rows_of(const Rig& rig, RowsOf rows) {
    const StepShape& s = rig.record.shape();
    return rows == RowsOf::tokens ? s.n_tokens : rows == RowsOf::logits ? s.n_logits : s.n_hidden;
}
Tensor in(Rig& rig, std::vector<int64_t> row, unsigned seed, RowsOf rows = RowsOf::tokens, int64_t each = 1) {
    row.insert(row.begin(), rows_of(rig, rows) * each);
    const int64_t n = std::accumulate(row.begin(), row.end(), int64_t{1}, std::multiplies<>());
    return rig.floats(row, normal(n, seed), 3, rows);
}
Tensor out(Rig& rig, std::vector<int64_t> row, RowsOf rows = RowsOf::tokens, int64_t each = 1) {
    row.insert(row.begin(), rows_of(rig, rows) * each);
    return rig.empty(row, 5, rows);
}
// As many values as the step has, the tokens that it has not stay invalid.
void set_first(Rig& rig, const Tensor& t, std::vector<int32_t> values) {
    values.resize(static_cast<size_t>(rig.input.counts().n_tokens));
    rig.set(t, values);
}
Tensor ids_of(Rig& rig, int64_t n, int32_t end, RowsOf rows = RowsOf::tokens) {
    std::vector<int32_t> ids(static_cast<size_t>(rows_of(rig, rows) * n));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 5 + i / 3) % end;
    return rig.ints({rows_of(rig, rows), n}, ids, rows);
}

void add_norms(std::vector<Case>& cases) {
    cases.push_back({"RmsNorm", [](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {3, 72});
                         rig.add(RmsNorm{y, in(rig, {3, 72}, 1), w.vector(72), 1e-6f});
                         return {{y}, {}};
                     }});
    cases.push_back({"LayerNorm", [](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {72});
                         rig.add(LayerNorm{y, in(rig, {72}, 1), w.vector(72), w.vector(72), 1e-6f});
                         return {{y}, {}};
                     }});
    cases.push_back({"AddRmsNorm",
                     [](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {96}), r = in(rig, {96}, 1);
                         rig.add(AddRmsNorm{y, r, in(rig, {96}, 2), w.vector(96), 1e-6f});
                         return {{y, r}, {}};
                     },
                     [](const Fusions& has) { return has.add_rms_norm; }});
}

void add_products(std::vector<Case>& cases) {
    for (const Format f :
         {Format::F32, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_K, Format::MXFP4}) {
        const std::string of = fmt::format(" {}", to_string(f));
        cases.push_back({fmt::format("Embed{}", of), [f](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                             set_first(rig, rig.in().ids, {5, 0, 36, 7, 7, 1, 2, 3});
                             const Tensor y = out(rig, {256});
                             rig.add(Embed{y, rig.in().ids, w.matrix(f, 37, 256, WeightUse::embedding)});
                             return {{y}, {}};
                         }});
        cases.push_back({fmt::format("Matmul{}", of), [f](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                             const Tensor a = out(rig, {65}), b = out(rig, {8}), c = out(rig, {8});
                             rig.add(Matmul{.x = in(rig, {256}, 1),
                                            .products = {{a, w.matrix(f, 65, 256)},
                                                         {b, w.matrix(f, 8, 256), w.vector(8)},
                                                         {c, w.matrix(f, 8, 256)}},
                                            .n = 3});
                             return {{a, b, c}, {}};
                         }});
        cases.push_back(
            {fmt::format("Matmul of rows of logits{}", of), [f](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                 const Tensor a = out(rig, {65}, RowsOf::logits);
                 rig.add(Matmul{.x = in(rig, {256}, 1, RowsOf::logits),
                                .products = {{a, w.matrix(f, 65, 256)}},
                                .n = 1});
                 return {{a}, {}};
             }});
        cases.push_back({fmt::format("GatedMatmul{}", of),
                         [f](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                             const Tensor y = out(rig, {40});
                             rig.add(GatedMatmul{.out = y,
                                                 .gate_out = out(rig, {40}),
                                                 .up_out = out(rig, {40}),
                                                 .x = in(rig, {256}, 1),
                                                 .gate = w.matrix(f, 40, 256),
                                                 .up = w.matrix(f, 40, 256)});
                             return {{y}, {}};
                         },
                         [](const Fusions& has) { return has.gated_matmul; }});
        cases.push_back(
            {fmt::format("MatmulExperts{}", of), [f](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                 const Tensor a = out(rig, {2, 24}), b = out(rig, {2, 24});
                 rig.add(MatmulExperts{.x = in(rig, {256}, 1),
                                       .ids = ids_of(rig, 2, 5),
                                       .products = {{a, rig.record.keep(w.list(5, f, 24, 256))},
                                                    {b, rig.record.keep(w.list(5, f, 24, 256))}},
                                       .n = 2});
                 return {{a, b}, {}};
             }});
        cases.push_back({fmt::format("MatmulHeads{}", of), [f](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                             const Tensor y = out(rig, {24}, RowsOf::tokens, 3);
                             rig.add(MatmulHeads{y, in(rig, {256}, 1, RowsOf::tokens, 3),
                                                 rig.record.keep(w.list(3, f, 24, 256))});
                             return {{y}, {}};
                         }});
    }
}

void add_attention(std::vector<Case>& cases) {
    const auto set_batch = [](Rig& rig) {
        // One sequence for each token, of 3 positions or more: the last is this step's.
        std::vector<int32_t> positions, slots, table, starts(1, 0);
        for (int i = 0; i < rig.input.counts().n_tokens; ++i) {
            positions.push_back(2 + i);
            table.insert(table.end(), {most - i, most + 1 + i});
            slots.push_back((most + 1 + i) * 8 + 7 - i);
            starts.push_back(i + 1);
        }
        rig.set(rig.in().positions, positions);
        rig.set(rig.in().slots, slots);
        rig.set(rig.in().block_table, table);
        rig.set(rig.in().seq_start, starts);
    };
    cases.push_back({"RopeTable", [=](Rig& rig, Weights& w, KvStorage&) -> Outputs {
                         set_batch(rig);
                         const Tensor y = out(rig, {16, 2});
                         rig.add(RopeTable{y, rig.in().positions, w.vector(16), 1.0f});
                         return {{y}, {}};
                     }});
    cases.push_back({"Rope", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = in(rig, {3, 32}, 1);
                         rig.add(Rope{y, in(rig, {16, 2}, 2)});
                         return {{y}, {}};
                     }});
    cases.push_back({"StoreKv", [=](Rig& rig, Weights&, KvStorage& kv) -> Outputs {
                         set_batch(rig);
                         rig.add(StoreKv{&kv, in(rig, {2, 32}, 1), in(rig, {2, 32}, 2), rig.in().slots});
                         return {{}, {}, &kv};
                     }});
    cases.push_back({"PrepareHeads",
                     [=](Rig& rig, Weights& w, KvStorage& kv) -> Outputs {
                         set_batch(rig);
                         const Tensor q = in(rig, {4, 32}, 1);
                         rig.add(PrepareHeads{.kv = &kv,
                                              .q = q,
                                              .k = in(rig, {2, 32}, 2),
                                              .v = in(rig, {2, 32}, 3),
                                              .slots = rig.in().slots,
                                              .q_norm = w.vector(32),
                                              .k_norm = w.vector(32),
                                              .eps = 1e-6f,
                                              .table = in(rig, {16, 2}, 4)});
                         return {{q}, {}, &kv};
                     },
                     [](const Fusions& has) { return has.prepare_heads; }});
    for (const int window : {0, 3}) {
        cases.push_back({"Attention", [=](Rig& rig, Weights& w, KvStorage& kv) -> Outputs {
                             set_batch(rig);
                             rig.input.counts().max_kv_len = 2 + most;
                             const Tensor y = out(rig, {4, 32});
                             rig.add(Attention{.out = y,
                                               .q = in(rig, {4, 32}, 1),
                                               .kv = &kv,
                                               .positions = rig.in().positions,
                                               .seq_start = rig.in().seq_start,
                                               .block_table = rig.in().block_table,
                                               .scale = 0.2f,
                                               .window = window,
                                               .sinks = window > 0 ? w.vector(4) : nullptr});
                             return {{y}, {}};
                         }});
    }
}

void add_rows(std::vector<Case>& cases) {
    cases.push_back({"Add", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = in(rig, {67}, 1);
                         rig.add(Add{y, in(rig, {67}, 2)});
                         return {{y}, {}};
                     }});
    cases.push_back({"Copy", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {67});
                         rig.add(Copy{y, in(rig, {67}, 2)});
                         return {{y}, {}};
                     }});
    cases.push_back({"SiluMul", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {67});
                         rig.add(SiluMul{y, in(rig, {67}, 1), in(rig, {67}, 2)});
                         return {{y}, {}};
                     }});
    cases.push_back({"ClampedSiluMul", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {67});
                         rig.add(ClampedSiluMul{y, in(rig, {67}, 1), in(rig, {67}, 2), 1.7f, 7.0f});
                         return {{y}, {}};
                     }});
    cases.push_back({"Gelu", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {67});
                         rig.add(Gelu{y, in(rig, {67}, 1)});
                         return {{y}, {}};
                     }});
    cases.push_back({"GeluMul", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = out(rig, {67});
                         rig.add(GeluMul{y, in(rig, {67}, 1), in(rig, {67}, 2)});
                         return {{y}, {}};
                     }});
    for (const int64_t n_gates : {1, 67}) {
        cases.push_back(
            {fmt::format("SigmoidMul {}", n_gates), [n_gates](Rig& rig, Weights&, KvStorage&) -> Outputs {
                 const Tensor y = out(rig, {67});
                 rig.add(SigmoidMul{y, in(rig, {n_gates}, 1), in(rig, {67}, 2)});
                 return {{y}, {}};
             }});
    }
    cases.push_back({"Scale", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = in(rig, {67}, 1);
                         rig.add(Scale{y, 1.7f});
                         return {{y}, {}};
                     }});
    cases.push_back({"SoftCap", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = in(rig, {67}, 1);
                         rig.add(SoftCap{y, 2.0f});
                         return {{y}, {}};
                     }});
    cases.push_back({"GatherRows", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor x = in(rig, {67}, 1), y = out(rig, {67}, RowsOf::logits),
                                      z = out(rig, {67}, RowsOf::hidden);
                         set_first(rig, rig.in().logits_rows, {0, 0, 2, 3, 4, 4, 5, 7});
                         set_first(rig, rig.in().hidden_rows, {0, 1, 1, 3, 4, 5, 6, 7});
                         rig.add(GatherRows{y, x, rig.in().logits_rows});
                         rig.add(GatherRows{z, x, rig.in().hidden_rows});
                         return {{y, z}, {}};
                     }});
    cases.push_back(
        {"Route", [](Rig& rig, Weights& w, KvStorage&) -> Outputs {
             const Tensor weights = out(rig, {3}), ids = ids_of(rig, 3, 7);
             rig.add(Route{
                 .ids = ids, .weights = weights, .logits = in(rig, {9}, 1), .selection_bias = w.vector(9)});
             return {{weights}, {ids}};
         }});
    cases.push_back({"AddExperts", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor y = in(rig, {67}, 1);
                         rig.add(AddExperts{y, in(rig, {3, 67}, 2), in(rig, {3}, 3)});
                         return {{y}, {}};
                     }});
    cases.push_back({"TopK", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const Tensor values = out(rig, {3}, RowsOf::logits),
                                      ids = ids_of(rig, 3, 7, RowsOf::logits);
                         rig.add(TopK{values, ids, in(rig, {300}, 1, RowsOf::logits)});
                         return {{values}, {ids}};
                     }});
    cases.push_back({"Sample", [](Rig& rig, Weights&, KvStorage&) -> Outputs {
                         const int64_t n = rows_of(rig, RowsOf::logits);
                         std::vector<DrawRow> rows;
                         for (uint32_t i = 0; i < static_cast<uint32_t>(rig.input.counts().n_logits); ++i)
                             rows.push_back({.draws = 1, .logprob = 1, .random = {i, i << 28}});
                         rig.set_structs(rig.in().draw_rows, rows);
                         const auto floats = [&] {
                             return rig.floats({n}, std::vector<float>(static_cast<size_t>(n), filler), 0,
                                               RowsOf::logits);
                         };
                         const Tensor logprobs = floats(), log_sums = rig.empty({n, 2}, 0, RowsOf::logits);
                         const Tensor tokens =
                             rig.ints({n}, std::vector<int32_t>(static_cast<size_t>(n), 9), RowsOf::logits);
                         rig.add(Sample{.tokens = tokens,
                                        .logprobs = logprobs,
                                        .log_sums = log_sums,
                                        .logits = in(rig, {300}, 1, RowsOf::logits),
                                        .rows = rig.in().draw_rows,
                                        .edits = {},
                                        .masks = {}});
                         return {{logprobs, log_sums}, {tokens}};
                     }});
}

const std::vector<Case>& cases() {
    static const std::vector<Case> all = [] {
        std::vector<Case> c;
        add_norms(c);
        add_products(c);
        add_attention(c);
        add_rows(c);
        return c;
    }();
    return all;
}

struct Result {
    std::vector<std::vector<float>> before, floats;
    std::vector<std::vector<int32_t>> ints_before, ints;
    std::vector<std::byte> kv;
};

// A step of `count` of everything, in a program for `bound`.
Result run(Backend& be, const Case& c, int bound, int count, bool generated) {
    const KvShape shape{.k_format = Format::F16,
                        .v_format = Format::F16,
                        .n_blocks = 2 * most + 1,
                        .block_len = 8,
                        .n_heads = 2,
                        .k_dim = 32,
                        .v_dim = 32};
    const auto kv = be.allocate_kv(shape);
    const auto n = static_cast<int64_t>(shape.block_bytes() / 2);
    const EncodedWeight halves = random_weight(Format::F16, 1, n, 5);
    const std::span<const std::byte> block = halves.view().data;
    for (int32_t b = 0; b < shape.n_blocks; ++b) kv->write_block(b, block);
    Weights weights(be);
    Rig rig(be, {.n_tokens = bound,
                 .n_seqs = bound,
                 .n_logits = bound,
                 .n_hidden = bound,
                 .max_blocks = 2,
                 .draws = true});
    StepCounts& counts = rig.input.counts();
    counts.n_tokens = counts.n_seqs = counts.n_logits = counts.n_hidden = count;
    counts.n_generated = generated ? count : 0;
    const Outputs outputs = c.build(rig, weights, *kv);
    rig.compile();
    Result r;
    for (const Tensor& t : outputs.floats) r.before.push_back(rig.read(t));
    for (const Tensor& t : outputs.ints) r.ints_before.push_back(rig.read_ints(t));
    rig.run();
    for (const Tensor& t : outputs.floats) r.floats.push_back(rig.read(t));
    for (const Tensor& t : outputs.ints) r.ints.push_back(rig.read_ints(t));
    if (outputs.kv != nullptr) r.kv = contents_of(*outputs.kv);
    return r;
}

// The rows of `count` from one result, the rest from another.
template <class T>
std::vector<T> joined(const std::vector<T>& first, const std::vector<T>& rest, int count) {
    std::vector<T> all = first;
    all.insert(all.end(), rest.begin() + static_cast<std::ptrdiff_t>(rest.size()) / most * count, rest.end());
    return all;
}

void check(Backend& be, const std::string& label) {
    for (const Case& c : cases()) {
        if (c.has != nullptr && !c.has(be.describe().fusions) && &be != &reference()) continue;
        for (const bool generated : {false, true}) {
            for (const int count : {1, 3, most}) {
                SCOPED_TRACE(fmt::format("{} {}, {} of {}{}", label, c.name, count, most,
                                         generated ? ", generated" : ""));
                const Result got = run(be, c, most, count, generated);
                const Result exact = run(be, c, count, count, generated);
                for (size_t i = 0; i < got.floats.size(); ++i) {
                    EXPECT_TRUE(identical(got.floats[i], joined(exact.floats[i], got.before[i], count)));
                    EXPECT_FALSE(identical(got.floats[i], got.before[i])) << "nothing was written";
                }
                for (size_t i = 0; i < got.ints.size(); ++i)
                    EXPECT_EQ(got.ints[i], joined(exact.ints[i], got.ints_before[i], count));
                EXPECT_EQ(got.kv, exact.kv);
            }
        }
    }
}

TEST(Counts, FewerRowsThanTheProgramIsFor) {
    check(reference(), "reference");
    for (const Device& d : devices()) check(*d.backend, d.label);
}

}  // namespace
}  // namespace smelt
