// Records as values: printed, compared, hashed, their workspace; classes of steps and their packed input;
// what an op costs.
#include "backend/record.h"

#include <gtest/gtest.h>

#include <set>

#include "backend/backend.h"

namespace smelt {

using namespace op;

namespace {

const Weight norm{.format = Format::F32, .rows = 1, .cols = 64, .storage = nullptr};
const Weight up{.format = Format::Q8_0, .rows = 96, .cols = 64, .storage = nullptr};

Record record(int n_tokens = 8, float eps = 1e-6f, const Weight* w = &norm) {
    Record r(StepShape{.n_tokens = n_tokens});
    const Tensor x = r.take(DType::F32, RowsOf::tokens, {n_tokens, 64}),
                 y = r.take(DType::F32, RowsOf::tokens, {n_tokens, 96});
    r.add(RmsNorm{x, x, w, eps});
    r.add(Matmul{.x = x, .products = {{.out = y, .w = &up}}, .n = 1});
    return r;
}

TEST(Record, PrintsAnOpALine) {
    EXPECT_EQ(record().print(),
              "RmsNorm out=[8 tokens, 64] x=[8 tokens, 64] w=f32(1, 64) eps=1e-06\n"
              "Matmul out=[8 tokens, 96] w=q8_0(96, 64) x=[8 tokens, 64]\n");
    EXPECT_EQ(op_name(record().ops()[1]), "Matmul");
}

TEST(Record, IsEqualByContents) {
    EXPECT_EQ(record(), record());
    EXPECT_EQ(record().hash(), record().hash());
    Weight other{.format = Format::F32, .rows = 1, .cols = 64, .storage = nullptr};
    Record longer = record(), results = record(), shorter = record().without_ops();
    longer.add(Add{longer.take(DType::F32, RowsOf::tokens, {8, 64}), {}});
    results.results.logits = results.take(DType::F32, RowsOf::tokens, {8, 64});
    for (const Record& r : {record(4), record(8, 1e-5f), record(8, 1e-6f, &other), longer, results, shorter})
        EXPECT_FALSE(r == record()) << r.print();
    for (const Record& r : {record(4), record(8, 1e-5f), record(8, 1e-6f, &other), longer, shorter})
        EXPECT_NE(r.hash(), record().hash()) << r.print();
}

TEST(Record, ListsOfWeightsLiveAsLongAsACopy) {
    std::optional<Record> first(StepShape{.n_tokens = 1});
    const WeightList list = first->keep({&norm, &up});
    const Record copy = *first;
    first.reset();
    EXPECT_EQ(list[1], &up);
}

TEST(Record, WorkspaceIsUsedAgainAfterAReset) {
    Record r(StepShape{.n_tokens = 8});
    const Tensor kept = r.take(DType::F32, RowsOf::tokens, {8, 64});
    const size_t mark = r.mark();
    const Tensor a = r.take(DType::F32, RowsOf::tokens, {8, 100}),
                 b = r.take(DType::I32, RowsOf::tokens, {8});
    EXPECT_GE(a.offset, kept.offset + kept.n_bytes());
    EXPECT_GE(b.offset, a.offset + a.n_bytes());
    const size_t most = r.workspace_bytes();
    EXPECT_GE(most, b.offset + b.n_bytes());
    r.reset(mark);
    const Tensor c = r.take(DType::F32, RowsOf::tokens, {8, 10});
    EXPECT_EQ(c.offset, a.offset);
    EXPECT_EQ(r.workspace_bytes(), most);
    for (const Tensor& t : {kept, a, b, c}) EXPECT_EQ(t.offset % 256, 0u);
    std::set<int> buffers = {kept.buffer, a.buffer, b.buffer, c.buffer};
    EXPECT_EQ(buffers.size(), 4u);
    EXPECT_EQ(r.buffers()[static_cast<size_t>(c.buffer)], c);
}

TEST(Tensor, Views) {
    Record r(StepShape{.n_tokens = 4});
    const Tensor t = r.take(DType::F32, RowsOf::tokens, {4, 24});
    const Tensor columns = t.columns(8, 12);
    EXPECT_EQ(columns.offset, t.offset + 32);
    EXPECT_EQ(columns.row_stride, 24);
    EXPECT_FALSE(columns.dense());
    EXPECT_EQ(columns.heads(3).shape, (std::array<int64_t, 4>{4, 3, 4, 0}));
    EXPECT_EQ(t.in_rows(12).shape, (std::array<int64_t, 4>{12, 8, 0, 0}));
    EXPECT_EQ(t.in_rows(12).rows_each, 3);
    EXPECT_EQ(t.in_rows(12).in_rows(4), t);
    EXPECT_EQ(t.rows(1, 2).offset, t.offset + 96);
    EXPECT_EQ(t.rows(1, 2).rows_of, RowsOf::fixed);
    const StepCounts counts{.n_tokens = 3};
    EXPECT_EQ(counts.rows(t), 3);
    EXPECT_EQ(counts.rows(t.in_rows(12)), 9);
    EXPECT_EQ(counts.rows(t.rows(1, 2)), 2);
}

TEST(StepShape, BoundsHaveRoomAndAreFew) {
    std::set<size_t> hashes;
    for (int n = 1; n <= 512; ++n) {
        const StepShape s{.n_tokens = n, .n_seqs = (n + 2) / 3, .n_logits = n / 2, .max_blocks = n};
        const StepShape b = s.bounds();
        EXPECT_GE(b.n_tokens, s.n_tokens);
        EXPECT_GE(b.n_seqs, s.n_seqs);
        EXPECT_GE(b.n_logits, s.n_logits);
        EXPECT_GE(b.max_blocks, s.max_blocks);
        EXPECT_LE(b.n_seqs, b.n_tokens);
        EXPECT_LE(b.n_logits, b.n_tokens);
        EXPECT_EQ(b.bounds(), b);
        hashes.insert(b.hash());
    }
    EXPECT_LT(hashes.size(), 40u);
    EXPECT_EQ(StepShape{}.bounds(), StepShape{});
    const StepShape all{.n_tokens = 5, .n_logits = 5, .every_logit = true};
    EXPECT_EQ(all.bounds().n_logits, 8);
    EXPECT_NE((StepShape{.n_tokens = 1, .draws = true}).hash(), (StepShape{.n_tokens = 1}).hash());
}

TEST(StepInput, PartsDoNotOverlapAndKeepTheirPlaces) {
    const StepShape shape{.n_tokens = 5,
                          .n_seqs = 3,
                          .n_logits = 2,
                          .n_hidden = 1,
                          .max_blocks = 7,
                          .windows = true,
                          .draws = true,
                          .n_edits = 3,
                          .mask_words = 2};
    const InputTensors in(shape);
    const std::vector<Tensor> parts = {in.counts,      in.ids,         in.positions,    in.slots,
                                       in.seq_start,   in.block_table, in.window_slots, in.window_table,
                                       in.logits_rows, in.hidden_rows, in.draw_rows,    in.edits,
                                       in.masks};
    size_t end = 0;
    for (const Tensor& t : parts) {
        EXPECT_TRUE(t.space == Space::input && t.dtype == DType::I32);
        EXPECT_GE(t.offset, end);
        EXPECT_EQ(t.offset % 16, 0u);
        end = t.offset + t.n_bytes();
    }
    EXPECT_GE(in.n_bytes, end);
    EXPECT_EQ(in.seq_start.n_rows(), 4);
    EXPECT_EQ(in.block_table.row_len(), 7);
    EXPECT_EQ(in.draw_rows.n_bytes(), 2 * sizeof(DrawRow));
    EXPECT_EQ(in.edits.n_bytes(), 3 * sizeof(LogitEdit));
    EXPECT_EQ(in.masks.n_bytes(), 2 * 2 * sizeof(uint64_t));
    // Without windows their parts are the others'.
    const InputTensors plain(StepShape{.n_tokens = 5, .n_seqs = 3, .max_blocks = 7});
    EXPECT_EQ(plain.window_slots, plain.slots);
    EXPECT_EQ(plain.window_table, plain.block_table);
    EXPECT_FALSE(plain.draw_rows || plain.edits || plain.masks || plain.logits_rows);

    StepInput input;
    input.reset(shape);
    input.counts().n_tokens = 4;
    input.of(in.ids)[4] = 77;
    EXPECT_EQ(reinterpret_cast<const int32_t*>(input.bytes().data() + in.ids.offset)[4], 77);
    const void* before = input.bytes().data();
    input.reset(StepShape{.n_tokens = 1, .n_seqs = 1, .max_blocks = 1});
    EXPECT_EQ(input.bytes().data(), before) << "a smaller step allocates";
    EXPECT_EQ(input.counts().n_tokens, 0);
}

TEST(Costs, BytesAndProductsOfTheRowsThereAre) {
    const Record r = record();
    const StepCounts counts{.n_tokens = 3};
    // x is read and written, w is read
    EXPECT_EQ(bytes_of(r.ops()[0], counts), 2u * 3 * 64 * 4 + 64 * 4);
    EXPECT_EQ(flops_of(r.ops()[0], counts), 0);
    EXPECT_EQ(bytes_of(r.ops()[1], counts), 3u * (64 + 96) * 4 + 96 * 64 / 32 * 34);
    EXPECT_EQ(flops_of(r.ops()[1], counts), 2.0 * 3 * 64 * 96);
}

TEST(Costs, EmbeddingsAndExpertsCountWhatIsRead) {
    const Weight table{.format = Format::F16, .rows = 1000, .cols = 64, .storage = nullptr};
    Record r(StepShape{.n_tokens = 8});
    const Tensor x = r.take(DType::F32, RowsOf::tokens, {8, 64}),
                 ids = r.take(DType::I32, RowsOf::tokens, {8, 2});
    const Tensor y = r.take(DType::F32, RowsOf::tokens, {8, 2, 96});
    const StepCounts counts{.n_tokens = 2};
    EXPECT_EQ(bytes_of(Embed{x, r.inputs().ids, &table}, counts), 2u * 64 * 2 + 2 * 64 * 4 + 2 * 4);
    MatmulExperts m;
    m.x = x;
    m.ids = ids;
    m.products[0] = {y, r.keep(std::vector<const Weight*>(10, &up)), nullptr};
    m.n = 1;
    EXPECT_EQ(bytes_of(m, counts), 4 * up.n_bytes() + 2 * 64 * 4 + 2 * 2 * 4 + 2 * 2 * 96 * 4);
    EXPECT_EQ(flops_of(m, counts), 2.0 * 4 * 64 * 96);
    EXPECT_EQ(bytes_of(m, {.n_tokens = 8}), 10 * up.n_bytes() + 8 * 64 * 4 + 8 * 2 * 4 + 8 * 2 * 96 * 4);
}

TEST(Costs, AttentionReadsTheCacheAsFarAsItGoes) {
    const auto be = make_reference_backend();
    const auto kv = be->allocate_kv({.k_format = Format::F16,
                                     .v_format = Format::F16,
                                     .n_blocks = 4,
                                     .block_len = 16,
                                     .n_heads = 2,
                                     .k_dim = 32,
                                     .v_dim = 32});
    Record r(StepShape{.n_tokens = 2, .n_seqs = 2, .max_blocks = 2});
    const Tensor q = r.take(DType::F32, RowsOf::tokens, {2, 4, 32}),
                 out = r.take(DType::F32, RowsOf::tokens, {2, 4, 32});
    const InputTensors& in = r.inputs();
    Attention a{.out = out,
                .q = q,
                .kv = kv.get(),
                .positions = in.positions,
                .seq_start = in.seq_start,
                .block_table = in.block_table};
    const StepCounts counts{.n_tokens = 2, .n_seqs = 2, .max_kv_len = 20};
    const size_t whole = bytes_of(a, counts);
    EXPECT_EQ(flops_of(a, counts), 2.0 * 2 * 4 * 20 * 64);
    a.window = 5;
    EXPECT_EQ(whole - bytes_of(a, counts), 15 * 2 * kv->shape().token_bytes());
}

}  // namespace
}  // namespace smelt
