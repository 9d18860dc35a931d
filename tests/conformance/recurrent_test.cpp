// Recurrent ops: a sequence in chunks, alone and in company, has the bits that it has whole, on every device;
// and so have the states that later tokens, other sequences and caches of prefixes go on from.
#include <cstring>
#include <numeric>

#include "conformance/rig.h"

namespace smelt {

using namespace op;

namespace {

constexpr int64_t n_channels = 24, kernel = 4, n_k = 2, n_v = 4, k_dim = 16, v_dim = 40, block_len = 8;
constexpr int64_t delta_first = (kernel - 1) * n_channels, state_floats = delta_first + n_v * k_dim * v_dim;

// Tokens [first, end) of a sequence; block b of it has row rows[b].
struct Part {
    int seq, first, end;
    std::vector<int32_t> rows;
};

struct Outputs {
    std::vector<float> conv, delta;  // of all parts, token after token
};

std::vector<float> values(int seq, int pos, int64_t n, unsigned which, float deviation = 1) {
    return normal(n, static_cast<unsigned>(seq * 1009 + pos) * 8 + which, deviation);
}

std::unique_ptr<KvStorage> make_states(Backend& be, int64_t n_rows) {
    return be.allocate_kv({.k_format = Format::F32,
                           .v_format = Format::F32,
                           .n_blocks = n_rows,
                           .block_len = 1,
                           .n_heads = 1,
                           .k_dim = state_floats,
                           .v_dim = state_floats,
                           .v_in_k = true});
}

Outputs run(Backend& be, KvStorage& states, const std::vector<Part>& parts, bool tiled) {
    int n = 0;
    for (const Part& p : parts) n += p.end - p.first;
    Rig rig(be, {.n_tokens = n, .n_seqs = static_cast<int>(parts.size()), .max_blocks = 8});
    std::vector<int32_t> starts = {0}, positions, table(parts.size() * 8, 0);
    std::vector<float> x, q, k, v, a, b;
    const auto add = [](std::vector<float>& to, const std::vector<float>& row) {
        to.insert(to.end(), row.begin(), row.end());
    };
    for (size_t i = 0; i < parts.size(); ++i) {
        const Part& p = parts[i];
        std::ranges::copy(p.rows, table.begin() + static_cast<ptrdiff_t>(8 * i));
        for (int pos = p.first; pos < p.end; ++pos) {
            positions.push_back(pos);
            add(x, values(p.seq, pos, n_channels, 0));
            add(q, values(p.seq, pos, n_k * k_dim, 1, 0.25f));
            add(k, values(p.seq, pos, n_k * k_dim, 2, 0.25f));
            add(v, values(p.seq, pos, n_v * v_dim, 3));
            add(a, values(p.seq, pos, n_v, 4));
            add(b, values(p.seq, pos, n_v, 5));
        }
        starts.push_back(static_cast<int32_t>(positions.size()));
    }
    rig.set(rig.in().positions, positions);
    rig.set(rig.in().seq_start, starts);
    rig.set(rig.in().block_table, table);
    const EncodedWeight decay = encode_vector({-0.5f, -2, -0.1f, -8}), bias = encode_vector(normal(n_v, 7));
    EncodedWeight filter = encode_vector(normal(n_channels * kernel, 8));
    filter.rows = n_channels;
    filter.cols = kernel;
    const Weight decays = rig.vector(decay), biases = rig.vector(bias), filters = rig.vector(filter);
    const auto state = [&](int64_t first) {
        return StateRows{&states, rig.in().positions, rig.in().seq_start, rig.in().block_table, block_len,
                         first};
    };
    const auto tensor = [&](std::vector<int64_t> row, const std::vector<float>& from, int64_t gap) {
        row.insert(row.begin(), n);
        return rig.floats(row, from, gap, RowsOf::tokens);
    };
    const Tensor conv = rig.empty({n, n_channels}, 3, RowsOf::tokens),
                 delta = rig.empty({n, n_v, v_dim}, 1, RowsOf::tokens);
    rig.add(CausalConv{conv, tensor({n_channels}, x, 5), &filters, state(0)});
    rig.add(DeltaRule{.out = delta,
                      .q = tensor({n_k, k_dim}, q, 2),
                      .k = tensor({n_k, k_dim}, k, 4),
                      .v = tensor({n_v, v_dim}, v, 0),
                      .a = tensor({n_v}, a, 1),
                      .b = tensor({n_v}, b, 0),
                      .decay = &decays,
                      .bias = &biases,
                      .tiled = tiled,
                      .state = state(delta_first)});
    rig.run();
    return {rig.read(conv), rig.read(delta)};
}

void append(Outputs& to, const Outputs& more) {
    to.conv.insert(to.conv.end(), more.conv.begin(), more.conv.end());
    to.delta.insert(to.delta.end(), more.delta.begin(), more.delta.end());
}

std::vector<std::byte> row_of(KvStorage& states, int32_t row) {
    std::vector<std::byte> bytes(states.shape().block_bytes());
    states.read_block(row, bytes);
    return bytes;
}

TEST(Recurrent, ChunksDoNotShow) {
    constexpr int length = 37;
    const std::vector<int32_t> rows = {3, 0, 5, 1, 4};
    for (const bool tiled : {false, true}) {
        for (const Device& d : devices()) {
            const auto whole_states = make_states(*d.backend, 6);
            const Outputs whole = run(*d.backend, *whole_states, {{0, 0, length, rows}}, tiled);
            for (const int chunk : {1, 2, 7, 8, 30}) {
                const auto states = make_states(*d.backend, 6);
                Outputs all;
                for (int first = 0; first < length; first += chunk) {
                    append(all, run(*d.backend, *states, {{0, first, std::min(length, first + chunk), rows}},
                                    tiled));
                }
                EXPECT_TRUE(identical(all.conv, whole.conv)) << d.label << ", chunks of " << chunk;
                EXPECT_TRUE(identical(all.delta, whole.delta)) << d.label << ", chunks of " << chunk;
                // what is left at each block's end, too
                for (const int32_t row : rows)
                    EXPECT_EQ(row_of(*states, row), row_of(*whole_states, row)) << d.label << ", row " << row;
            }
        }
    }
}

TEST(Recurrent, CompanyDoesNotShow) {
    for (const Device& d : devices()) {
        const auto alone = make_states(*d.backend, 8), together = make_states(*d.backend, 8);
        std::vector<Part> parts = {{1, 0, 3, {6}}, {2, 0, 20, {0, 2, 4}}, {3, 0, 1, {7}}};
        const auto check = [&] {
            Outputs each;
            for (const Part& p : parts) append(each, run(*d.backend, *alone, {p}, true));
            const Outputs all = run(*d.backend, *together, parts, true);
            EXPECT_TRUE(identical(all.conv, each.conv)) << d.label;
            EXPECT_TRUE(identical(all.delta, each.delta)) << d.label;
        };
        check();
        for (Part& p : parts) {
            p.first = p.end;
            p.end += p.seq;
        }
        check();
    }
}

// A fork goes on from a copy of the row; a sequence that begins alike from the row at a block's end; and one
// row for all blocks holds the last state.
TEST(Recurrent, StatesMayBeCopiedSharedAndFew) {
    for (const Device& d : devices()) {
        const auto whole_states = make_states(*d.backend, 4);
        const Outputs whole = run(*d.backend, *whole_states, {{0, 0, 22, {0, 1, 2}}}, false);
        const auto tail = [&](const std::vector<float>& all, int64_t from, int64_t each) {
            return std::vector<float>(all.begin() + static_cast<ptrdiff_t>(from * each), all.end());
        };
        const auto states = make_states(*d.backend, 6);
        (void)run(*d.backend, *states, {{0, 0, 19, {0, 1, 2}}}, false);
        const BlockPair pair{2, 5};
        states->copy_blocks(std::span(&pair, 1));
        (void)run(*d.backend, *states, {{4, 19, 21, {0, 1, 2}}}, false);  // the other goes its own way
        const Outputs forked = run(*d.backend, *states, {{0, 19, 22, {0, 1, 5}}}, false);
        EXPECT_TRUE(identical(forked.delta, tail(whole.delta, 19, n_v * v_dim))) << d.label;
        EXPECT_TRUE(identical(forked.conv, tail(whole.conv, 19, n_channels))) << d.label;
        const Outputs resumed = run(*d.backend, *states, {{0, 16, 22, {0, 1, 4}}}, false);
        EXPECT_TRUE(identical(resumed.delta, tail(whole.delta, 16, n_v * v_dim))) << d.label;
        const auto one = make_states(*d.backend, 1);
        Outputs few = run(*d.backend, *one, {{0, 0, 9, {0, 0, 0}}}, false);
        append(few, run(*d.backend, *one, {{0, 9, 22, {0, 0, 0}}}, false));
        EXPECT_TRUE(identical(few.delta, whole.delta)) << d.label;
        EXPECT_TRUE(identical(few.conv, whole.conv)) << d.label;
    }
}

}  // namespace
}  // namespace smelt
