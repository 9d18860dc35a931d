// Attention over paged caches and ragged batches against the reference, and the promise that a token's result
// does not depend on its batch.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/half.h"
#include "conformance/rig.h"

namespace smelt {

using namespace op;

namespace {

struct Sequence {
    int past, n_new;  // positions before this step, and in it
};
struct Shape {
    int64_t n_kv_heads = 2, n_rep = 2, head_dim = 64, block_len = 16;
    Format type = Format::F16;
    int window = 0;
    bool sinks = false;
    Format v_type = type;
    int64_t v_in_k = 0;  // not 0: v is that much of k's beginning

    int64_t v_dim() const { return v_in_k > 0 ? v_in_k : head_dim; }
};

// The contents of position `pos` of sequence `seq` are the same in every batch.
std::vector<float> kv_row(const Shape& s, int seq, int pos, unsigned which) {
    return normal(s.n_kv_heads * s.head_dim, static_cast<unsigned>(seq * 10007 + pos) * 4 + which);
}
std::vector<float> q_row(const Shape& s, int seq, int pos) {
    return normal(s.n_kv_heads * s.n_rep * s.head_dim, static_cast<unsigned>(seq * 10007 + pos) * 4 + 2);
}
void append(std::vector<float>& to, const std::vector<float>& row) {
    to.insert(to.end(), row.begin(), row.end());
}

std::unique_ptr<KvStorage> make_kv(Backend& be, const Shape& s, int64_t n_blocks) {
    return be.allocate_kv({.k_format = s.type,
                           .v_format = s.v_type,
                           .n_blocks = n_blocks,
                           .block_len = s.block_len,
                           .n_heads = s.n_kv_heads,
                           .k_dim = s.head_dim,
                           .v_dim = s.v_dim(),
                           .v_in_k = s.v_in_k > 0});
}

// Rows of k and v to their slots, in a step of their own.
void store(Backend& be, const Shape& s, KvStorage& kv, const std::vector<int32_t>& slots,
           const std::vector<float>& k, const std::vector<float>& v) {
    const auto n = static_cast<int64_t>(slots.size());
    Rig rig(be, {.n_tokens = static_cast<int>(n)});
    rig.set(rig.in().slots, slots);
    rig.add(StoreKv{&kv, rig.floats({n, s.n_kv_heads, s.head_dim}, k, 0, RowsOf::tokens),
                    rig.floats({n, s.n_kv_heads, s.head_dim}, v, 0, RowsOf::tokens), rig.in().slots});
    rig.run();
}

// Fills the caches with every sequence's past, then stores and attends the new tokens. Sequence i has the
// contents of ids[i].
std::vector<float> attend(Backend& be, const Shape& s, const std::vector<Sequence>& sequences,
                          const std::vector<int>& ids, unsigned shuffle = 1) {
    int n_tokens = 0, max_len = 0, n_blocks = 0;
    for (const Sequence& q : sequences) {
        n_tokens += q.n_new;
        max_len = std::max(max_len, q.past + q.n_new);
        n_blocks += static_cast<int>((q.past + q.n_new + s.block_len - 1) / s.block_len);
    }
    const auto max_blocks = static_cast<int>((max_len + s.block_len - 1) / s.block_len);
    std::vector<int32_t> order(static_cast<size_t>(n_blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(shuffle));

    std::vector<int32_t> table(sequences.size() * static_cast<size_t>(max_blocks), 0), seq_start = {0};
    std::vector<int32_t> positions, slots, past_slots;
    std::vector<float> q, k, v, past_k, past_v;
    size_t next_block = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
        const int past = sequences[i].past, len = past + sequences[i].n_new;
        int32_t* blocks = table.data() + i * static_cast<size_t>(max_blocks);
        for (int b = 0; b * s.block_len < len; ++b) blocks[b] = order[next_block++];
        // A position far behind the window has no block any more.
        for (int b = 0; s.window > 0 && (b + 1) * s.block_len <= past + 1 - s.window; ++b)
            blocks[b] = 1 << 30;
        for (int pos = 0; pos < len; ++pos) {
            const int32_t block = blocks[pos / s.block_len];
            if (block == 1 << 30) continue;
            (pos < past ? past_slots : slots)
                .push_back(static_cast<int32_t>(block * s.block_len + pos % s.block_len));
            append(pos < past ? past_k : k, kv_row(s, ids[i], pos, 0));
            append(pos < past ? past_v : v, kv_row(s, ids[i], pos, 1));
            if (pos < past) continue;
            append(q, q_row(s, ids[i], pos));
            positions.push_back(pos);
        }
        seq_start.push_back(static_cast<int32_t>(positions.size()));
    }

    const std::unique_ptr<KvStorage> kv = make_kv(be, s, n_blocks);
    if (!past_slots.empty()) store(be, s, *kv, past_slots, past_k, past_v);
    Rig rig(be,
            {.n_tokens = n_tokens, .n_seqs = static_cast<int>(sequences.size()), .max_blocks = max_blocks});
    const InputTensors& in = rig.in();
    rig.input.counts().max_kv_len = max_len;
    rig.set(in.positions, positions);
    rig.set(in.slots, slots);
    rig.set(in.seq_start, seq_start);
    rig.set(in.block_table, table);
    const int64_t n_heads = s.n_kv_heads * s.n_rep;
    const Tensor queries = rig.floats({n_tokens, n_heads, s.head_dim}, q, 3, RowsOf::tokens);
    const Tensor keys = rig.floats({n_tokens, s.n_kv_heads, s.head_dim}, k, 1, RowsOf::tokens);
    const Tensor values = rig.floats({n_tokens, s.n_kv_heads, s.head_dim}, v, 2, RowsOf::tokens);
    const Tensor out = rig.empty({n_tokens, n_heads, s.v_dim()}, 5, RowsOf::tokens);
    const EncodedWeight sink_logits = encode_vector(normal(n_heads, 3, 2));
    const Weight sinks = rig.vector(sink_logits);
    rig.add(StoreKv{kv.get(), keys, values, in.slots});
    rig.add(Attention{.out = out,
                      .q = queries,
                      .kv = kv.get(),
                      .positions = in.positions,
                      .seq_start = in.seq_start,
                      .block_table = in.block_table,
                      .scale = 1 / std::sqrt(static_cast<float>(s.head_dim)),
                      .window = s.window,
                      .sinks = s.sinks ? &sinks : nullptr});
    rig.run();
    return rig.read(out);
}

// A score's error is that of a product of head_dim terms, and enters twice (weight and sum of weights); the
// sum over positions adds its own. Terms are normal: |q·k| terms sum to about head_dim * 2/pi, below 2 *
// head_dim, and |v| stays below 5.5.
std::vector<double> attention_bound(const Shape& s, size_t n, int max_len) {
    const auto dim = static_cast<double>(s.head_dim);
    const double score_error = (dim + 4) * eps * 2 * dim / std::sqrt(dim);
    return std::vector<double>(n, 5.5 * (2 * score_error + (max_len + 40) * eps));
}

void expect_near_reference(const Shape& s, const std::vector<Sequence>& sequences) {
    std::vector<int> ids(sequences.size());
    std::iota(ids.begin(), ids.end(), 0);
    const std::vector<float> expected = attend(reference(), s, sequences, ids);
    int max_len = 0;
    for (const Sequence& q : sequences) max_len = std::max(max_len, q.past + q.n_new);
    const std::vector<double> bound = attention_bound(s, expected.size(), max_len);
    for (const Device& d : devices()) {
        ASSERT_TRUE(near(attend(*d.backend, s, sequences, ids), expected, bound, 1e-11))
            << d.label << " kv heads " << s.n_kv_heads << " x " << s.n_rep << ", head_dim " << s.head_dim
            << ", blocks of " << s.block_len << ", window " << s.window << (s.sinks ? ", sinks" : "") << ", "
            << to_string(s.type) << " " << to_string(s.v_type) << ", v in k " << s.v_in_k;
    }
}

const std::vector<Sequence> ragged = {{0, 1}, {37, 1}, {0, 33}, {70, 5}, {15, 2}, {0, 3}};

TEST(Attention, HeadDimsAndGroupRatios) {
    for (const Format type : {Format::F32, Format::F16}) {
        for (const int64_t head_dim : {1, 20, 32, 64, 80, 96, 128, 256}) {
            expect_near_reference({.head_dim = head_dim, .type = type}, ragged);
        }
        for (const int64_t n_rep : {1, 2, 3, 4, 7, 8}) {
            expect_near_reference({.n_kv_heads = 1, .n_rep = n_rep, .head_dim = 32, .type = type}, ragged);
            expect_near_reference({.n_kv_heads = 3, .n_rep = n_rep, .head_dim = 32, .type = type}, {{40, 1}});
        }
    }
}

TEST(Attention, EveryFormatOfKeysAndValues) {
    for (const Format k : kv_formats) {
        for (const Format v : kv_formats) {
            for (const int64_t n_rep : {1, 2, 5}) {  // rows that share widened k and v, or are too few
                const Shape s{.n_kv_heads = 2, .n_rep = n_rep, .head_dim = 96, .type = k, .v_type = v};
                expect_near_reference(s, {{37, 1}, {0, 9}, {530, 1}});
            }
        }
        const int64_t block_len = format_info(k).block_len;
        expect_near_reference({.n_kv_heads = 1,
                               .n_rep = 20,
                               .head_dim = 3 * 32 + 64 / block_len * block_len,
                               .type = k,
                               .v_in_k = 96},
                              ragged);
    }
}

// Many query heads to one row of the cache, which begins with v.
TEST(Attention, ValuesInKeys) {
    for (const Format type : {Format::F32, Format::F16}) {
        for (const auto& [head_dim, v_in_k] :
             {std::pair<int64_t, int64_t>{5, 2}, {80, 64}, {72, 40}, {576, 512}}) {
            const Shape s{.n_kv_heads = 1, .n_rep = 20, .head_dim = head_dim, .type = type, .v_in_k = v_in_k};
            expect_near_reference(s, ragged);
            expect_near_reference(s, {{600, 1}});
        }
        expect_near_reference({.n_kv_heads = 2, .n_rep = 3, .head_dim = 96, .type = type, .v_in_k = 32},
                              ragged);
    }
}

TEST(Attention, BlocksAndWindows) {
    for (const int64_t block_len : {1, 5, 16, 32, 64}) {
        for (const int window : {0, 1, 2, 31, 33, 50}) {
            for (const bool sinks : {false, true}) {
                expect_near_reference(
                    {.head_dim = 32, .block_len = block_len, .window = window, .sinks = sinks}, ragged);
            }
        }
    }
}

TEST(Attention, LongContexts) {
    for (const int window : {0, 100, 700}) {
        for (const Format type : {Format::F32, Format::F16}) {
            const Shape s{.head_dim = 64, .type = type, .window = window, .sinks = window == 100};
            expect_near_reference(s, {{1300, 1}});
            expect_near_reference(s, {{511, 1}, {512, 1}, {1023, 3}, {0, 2}});
            expect_near_reference(s, {{0, 600}});
            expect_near_reference(s, {{900, 140}, {700, 1}});
        }
    }
}

// Positions that a token does not see leave no trace, not even through what is not a number.
TEST(Attention, StaleMemoryIsNotRead) {
    const Shape s{.n_rep = 1, .head_dim = 32, .block_len = 16, .type = Format::F32};
    const int64_t row = s.n_kv_heads * s.head_dim;
    const std::vector<float> stale(static_cast<size_t>(2 * 16 * row), std::nanf(""));
    const std::vector<float> value = normal(row, 5);
    for (const Device& d : devices()) {
        const std::unique_ptr<KvStorage> kv = make_kv(*d.backend, s, 1);
        kv->write_block(0, std::as_bytes(std::span(stale)));
        Rig rig(*d.backend, {.n_tokens = 1, .n_seqs = 1, .max_blocks = 1});
        const InputTensors& in = rig.in();
        rig.input.counts().max_kv_len = 1;
        for (const Tensor& t : {in.positions, in.slots, in.block_table}) rig.set(t, {0});
        rig.set(in.seq_start, {0, 1});
        const Tensor k = rig.floats({1, s.n_kv_heads, s.head_dim}, normal(row, 4), 0, RowsOf::tokens);
        const Tensor v = rig.floats({1, s.n_kv_heads, s.head_dim}, value, 0, RowsOf::tokens);
        const Tensor q = rig.floats({1, s.n_kv_heads, s.head_dim}, normal(row, 6), 0, RowsOf::tokens);
        const Tensor out = rig.empty({1, s.n_kv_heads, s.head_dim}, 0, RowsOf::tokens);
        rig.add(StoreKv{kv.get(), k, v, in.slots});
        rig.add(Attention{.out = out,
                          .q = q,
                          .kv = kv.get(),
                          .positions = in.positions,
                          .seq_start = in.seq_start,
                          .block_table = in.block_table});
        rig.run();
        EXPECT_TRUE(identical(rig.read(out), value)) << d.label;
    }
}

TEST(Attention, ATokenHasTheSameBitsInEveryBatch) {
    const std::vector<Device> alone = make_devices(1), many = make_devices(5);
    for (const Shape& s :
         {Shape{.n_rep = 2, .head_dim = 64, .window = 0}, Shape{.n_rep = 3, .head_dim = 80, .window = 0},
          Shape{.n_rep = 1, .head_dim = 32, .type = Format::F32, .window = 45},
          Shape{.n_rep = 8, .head_dim = 32, .window = 530},
          Shape{.n_rep = 2, .head_dim = 64, .window = 520, .sinks = true},
          Shape{.n_rep = 3, .head_dim = 64, .type = Format::Q8_0, .v_type = Format::Q4_0},
          Shape{.n_rep = 8, .head_dim = 32, .type = Format::MXFP8_E4M3, .v_type = Format::BF16},
          Shape{.n_kv_heads = 1, .n_rep = 5, .head_dim = 80, .window = 0, .v_in_k = 64}}) {
        const int len = 600;
        const auto row = static_cast<size_t>(s.n_kv_heads * s.n_rep * s.v_dim());
        for (size_t i = 0; i < alone.size(); ++i) {
            const std::vector<float> whole = attend(*alone[i].backend, s, {{0, len}}, {0});
            const auto expect_same = [&](const std::vector<float>& got, size_t skip, int pos, int n) {
                const auto g = got.begin() + static_cast<std::ptrdiff_t>(skip * row);
                const auto w = whole.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(pos) * row);
                const auto size = static_cast<std::ptrdiff_t>(static_cast<size_t>(n) * row);
                ASSERT_TRUE(identical({g, g + size}, {w, w + size}))
                    << alone[i].label << " position " << pos << " + " << n << ", window " << s.window;
            };
            // alone, token by token, on many threads and with others around it
            for (const int pos : {0, 1, 31, 32, 33, 511, 512, 513, 599}) {
                expect_same(attend(*many[i].backend, s, {{pos, 1}}, {0}, 2), 0, pos, 1);
                expect_same(attend(*alone[i].backend, s, {{3, 7}, {pos, 1}, {90, 1}}, {1, 0, 2}, 3), 7, pos,
                            1);
                expect_same(attend(*many[i].backend, s, {{570, 1}, {pos, 1}}, {1, 0}, 4), 1, pos, 1);
            }
            // in chunks
            expect_same(attend(*many[i].backend, s, {{0, 101}, {10, 3}}, {0, 1}, 5), 0, 0, 101);
            expect_same(attend(*many[i].backend, s, {{7, 40}, {101, 450}}, {3, 0}, 6), 40, 101, 450);
            expect_same(attend(*many[i].backend, s, {{551, 2}}, {0}, 7), 0, 551, 2);
        }
    }
}

}  // namespace
}  // namespace smelt
