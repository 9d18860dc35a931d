// Which neighbours become one op, and which must not.
#include "backend/fusion.h"

#include <gtest/gtest.h>

#include <functional>

namespace smelt {

using namespace op;

namespace {

constexpr Fusions all{.add_rms_norm = true, .prepare_heads = true, .gated_matmul = true};

struct Parts {
    Parts() : r(StepShape{.n_tokens = 4, .n_seqs = 1, .max_blocks = 1}) {
        for (Weight* w : {&norm, &other_norm})
            *w = {.format = Format::F32, .rows = 1, .cols = 64, .storage = nullptr};
        for (Weight* w : {&gate, &up})
            *w = {.format = Format::Q8_0, .rows = 96, .cols = 64, .storage = nullptr};
        kv = make_reference_backend()->allocate_kv(
            {.n_blocks = 1, .block_len = 16, .n_heads = 2, .k_dim = 64, .v_dim = 64});
    }
    Tensor rows(int64_t n) { return r.take(DType::F32, RowsOf::tokens, {4, n}); }
    Tensor heads(int64_t n) { return rows(n * 64).heads(n); }
    // "AddRmsNorm Matmul"
    std::string fused(const Fusions& has = all) const {
        std::string names;
        const Record result = fuse(r, has);
        for (const AnyOp& op : result.ops()) names.append(names.empty() ? "" : " ").append(op_name(op));
        return names;
    }
    Record r;
    Weight norm, other_norm, gate, up;
    std::unique_ptr<KvStorage> kv;
};

TEST(Fusion, AddAndTheNormOfItsSum) {
    Parts p;
    const Tensor x = p.rows(64), y = p.rows(64), out = p.rows(64);
    p.r.add(Add{x, y});
    p.r.add(RmsNorm{out, x, &p.norm, 1e-5f});
    EXPECT_EQ(p.fused(), "AddRmsNorm");
    EXPECT_EQ(p.fused({}), "Add RmsNorm");
    EXPECT_EQ(p.fused({.prepare_heads = true, .gated_matmul = true}), "Add RmsNorm");
    const Record fused = fuse(p.r, all);
    const auto& op = std::get<AddRmsNorm>(fused.ops()[0]);
    EXPECT_EQ(op.out, out);
    EXPECT_EQ(op.residual, x);
    EXPECT_EQ(op.x, y);
    EXPECT_EQ(op.w, &p.norm);
    EXPECT_EQ(op.eps, 1e-5f);
}

TEST(Fusion, NormsOfAnythingElseStayApart) {
    const auto apart = [](const std::function<void(Parts&, const Tensor& x, const Tensor& y)>& add) {
        Parts p;
        const Tensor x = p.rows(64), y = p.rows(64);
        add(p, x, y);
        return p.fused();
    };
    EXPECT_EQ(apart([](Parts& p, const Tensor& x, const Tensor& y) {
                  p.r.add(Add{x, y});
                  p.r.add(RmsNorm{p.rows(64), y, &p.norm, 0});  // of another tensor
              }),
              "Add RmsNorm");
    EXPECT_EQ(apart([](Parts& p, const Tensor& x, const Tensor& y) {
                  p.r.add(Add{x, y});
                  p.r.add(RmsNorm{x, x, &p.norm, 0});  // in place: the sum would be lost
              }),
              "Add RmsNorm");
    EXPECT_EQ(apart([](Parts& p, const Tensor& x, const Tensor& y) {
                  p.r.add(Add{x, y});
                  p.r.add(RmsNorm{y, x, &p.norm, 0});  // over what is still read
              }),
              "Add RmsNorm");
    EXPECT_EQ(apart([](Parts& p, const Tensor& x, const Tensor& y) {
                  p.r.add(Add{x, y});
                  p.r.add(Gelu{y, y});
                  p.r.add(RmsNorm{p.rows(64), x, &p.norm, 0});  // no neighbours
              }),
              "Add Gelu RmsNorm");
}

TEST(Fusion, NormsRotationsAndTheStore) {
    Parts p;
    const Tensor q = p.heads(4), k = p.heads(2), v = p.heads(2),
                 table = p.r.take(DType::F32, RowsOf::tokens, {4, 32, 2});
    p.r.add(RmsNorm{q, q, &p.norm, 1e-6f});
    p.r.add(RmsNorm{k, k, &p.other_norm, 1e-6f});
    p.r.add(Rope{q, table, RopePairing::interleaved, 0});
    p.r.add(Rope{k, table, RopePairing::interleaved, 0});
    p.r.add(StoreKv{p.kv.get(), k, v, p.r.inputs().slots});
    EXPECT_EQ(p.fused(), "PrepareHeads");
    EXPECT_EQ(p.fused({.add_rms_norm = true, .gated_matmul = true}), "RmsNorm RmsNorm Rope Rope StoreKv");
    const Record fused = fuse(p.r, all);
    const auto& op = std::get<PrepareHeads>(fused.ops()[0]);
    EXPECT_EQ(op.q, q);
    EXPECT_EQ(op.k, k);
    EXPECT_EQ(op.v, v);
    EXPECT_EQ(op.q_norm, &p.norm);
    EXPECT_EQ(op.k_norm, &p.other_norm);
    EXPECT_EQ(op.table, table);
    EXPECT_EQ(op.pairing, RopePairing::interleaved);
    EXPECT_EQ(op.kv, p.kv.get());
}

TEST(Fusion, HeadsWithoutNorms) {
    Parts p;
    const Tensor q = p.heads(4), k = p.heads(2), table = p.r.take(DType::F32, RowsOf::tokens, {4, 32, 2});
    p.r.add(Rope{q, table});
    p.r.add(Rope{k, table});
    p.r.add(StoreKv{p.kv.get(), k, p.heads(2), p.r.inputs().slots});
    p.r.add(StoreKv{p.kv.get(), k, p.heads(2), p.r.inputs().slots});
    EXPECT_EQ(p.fused(), "PrepareHeads StoreKv");
}

TEST(Fusion, HeadsThatDifferStayApart) {
    struct Case {
        const char* why;
        std::function<void(Parts&, Tensor q, Tensor k, Tensor table)> add;
    };
    const Case cases[] = {
        {"two tables",
         [](Parts& p, Tensor q, Tensor k, Tensor table) {
             p.r.add(Rope{q, table});
             p.r.add(Rope{k, p.r.take(DType::F32, RowsOf::tokens, {4, 32, 2})});
         }},
        {"two pairings",
         [](Parts& p, Tensor q, Tensor k, Tensor table) {
             p.r.add(Rope{q, table, RopePairing::half});
             p.r.add(Rope{k, table, RopePairing::interleaved});
         }},
        {"q alone is rotated",
         [](Parts& p, Tensor q, Tensor, Tensor table) {
             p.r.add(Rope{q, table});
         }},
        {"two eps",
         [](Parts& p, Tensor q, Tensor k, Tensor) {
             p.r.add(RmsNorm{q, q, &p.norm, 1e-5f});
             p.r.add(RmsNorm{k, k, &p.norm, 1e-6f});
         }},
        {"norm after rotation",
         [](Parts& p, Tensor q, Tensor k, Tensor table) {
             p.r.add(Rope{q, table});
             p.r.add(RmsNorm{q, q, &p.norm, 1e-5f});
             p.r.add(Rope{k, table});
         }},
        {"norm to elsewhere",
         [](Parts& p, Tensor q, Tensor k, Tensor) {
             p.r.add(RmsNorm{p.heads(4), q, &p.norm, 1e-5f});
             p.r.add(RmsNorm{k, k, &p.norm, 1e-5f});
         }},
        {"three tensors",
         [](Parts& p, Tensor q, Tensor k, Tensor table) {
             p.r.add(Rope{q, table});
             p.r.add(Rope{p.heads(4), table});
             p.r.add(Rope{k, table});
         }},
    };
    for (const Case& c : cases) {
        Parts p;
        const Tensor k = p.heads(2);
        c.add(p, p.heads(4), k, p.r.take(DType::F32, RowsOf::tokens, {4, 32, 2}));
        p.r.add(StoreKv{p.kv.get(), k, p.heads(2), p.r.inputs().slots});
        // A later part may still fit together; the store and what differs must not be in one op with the
        // rest.
        const Record fused = fuse(p.r, all);
        for (const AnyOp& op : fused.ops()) {
            const auto* heads = std::get_if<PrepareHeads>(&op);
            if (heads == nullptr) continue;
            EXPECT_GT(fused.ops().size(), 1u) << c.why << ": " << p.fused();
        }
        EXPECT_NE(p.fused(), "PrepareHeads") << c.why;
    }
}

TEST(Fusion, TwoProductsAndSwiGlu) {
    Parts p;
    const Tensor x = p.rows(64), gate = p.rows(96), up = p.rows(96);
    p.r.add(Matmul{.x = x, .products = {{.out = gate, .w = &p.gate}, {.out = up, .w = &p.up}}, .n = 2});
    p.r.add(SiluMul{gate, gate, up});
    EXPECT_EQ(p.fused(), "GatedMatmul");
    EXPECT_EQ(p.fused({.add_rms_norm = true, .prepare_heads = true}), "Matmul SiluMul");
    const Record fused = fuse(p.r, all);
    const auto& op = std::get<GatedMatmul>(fused.ops()[0]);
    EXPECT_EQ(op.gate, &p.gate);
    EXPECT_EQ(op.up, &p.up);
    EXPECT_EQ(op.out, gate);
    EXPECT_EQ(op.up_out, up);
}

TEST(Fusion, OtherProductsStayApart) {
    const auto fused = [](const std::function<void(Parts&, Tensor x, Tensor a, Tensor b)>& add) {
        Parts p;
        add(p, p.rows(64), p.rows(96), p.rows(96));
        return p.fused();
    };
    EXPECT_EQ(
        fused([](Parts& p, Tensor x, Tensor a, Tensor b) {  // the other way round
            p.r.add(Matmul{.x = x, .products = {{.out = a, .w = &p.gate}, {.out = b, .w = &p.up}}, .n = 2});
            p.r.add(SiluMul{b, b, a});
        }),
        "Matmul SiluMul");
    EXPECT_EQ(
        fused([](Parts& p, Tensor x, Tensor a, Tensor b) {  // with a bias
            p.r.add(Matmul{.x = x,
                           .products = {{.out = a, .w = &p.gate, .bias = &p.norm}, {.out = b, .w = &p.up}},
                           .n = 2});
            p.r.add(SiluMul{a, a, b});
        }),
        "Matmul SiluMul");
    EXPECT_EQ(fused([](Parts& p, Tensor x, Tensor a, Tensor b) {  // one product
                  p.r.add(Matmul{.x = x, .products = {{.out = a, .w = &p.gate}}, .n = 1});
                  p.r.add(SiluMul{a, a, b});
              }),
              "Matmul SiluMul");
    EXPECT_EQ(
        fused([](Parts& p, Tensor x, Tensor a, Tensor b) {  // another activation
            p.r.add(Matmul{.x = x, .products = {{.out = a, .w = &p.gate}, {.out = b, .w = &p.up}}, .n = 2});
            p.r.add(ClampedSiluMul{a, a, b, 1.7f, 7});
        }),
        "Matmul ClampedSiluMul");
}

}  // namespace
}  // namespace smelt
