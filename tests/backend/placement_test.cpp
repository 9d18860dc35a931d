// What placement makes of records written by hand: which device runs an op, with which share of its tensors,
// and what moves. Shares of weights as bytes. No device runs here; multi_device_test.cpp compares numbers.
#include "backend/placement.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "backend/cut_weight.h"
#include "backend/placed_kv.h"
#include "quant/random_weights.h"

namespace smelt {
namespace {

struct Nothing : Storage {};

Weight part(int64_t rows, int64_t cols) {
    return {.format = Format::F32, .rows = rows, .cols = cols, .storage = std::make_unique<Nothing>()};
}

// A weight as n partners have it.
Weight shared(int64_t rows, int64_t cols, Cut cut, int n) {
    auto placed = std::make_unique<PlacedWeight>();
    const auto split =
        split_of({.format = Format::F32, .rows = rows, .cols = cols, .data = {}, .scales = {}}, cut, n);
    if (split) {
        placed->by = cut.by;
        placed->split = *split;
    }
    for (int d = 0; d < n; ++d) {
        const int64_t own = split ? split->parts * split->share(d, n).n : 0;
        placed->on.push_back(part(split && cut.by == CutBy::rows ? own : rows,
                                  split && cut.by == CutBy::columns ? own : cols));
    }
    return {.format = Format::F32, .rows = rows, .cols = cols, .storage = std::move(placed)};
}

// A weight on one of n devices.
Weight on_one(int64_t rows, int64_t cols, int device, int n) {
    auto placed = std::make_unique<PlacedWeight>();
    placed->on.resize(static_cast<size_t>(n));
    placed->on[static_cast<size_t>(device)] = part(rows, cols);
    return {.format = Format::F32, .rows = rows, .cols = cols, .storage = std::move(placed)};
}

Tensor take(Record& r, int64_t columns) {
    return r.take(DType::F32, RowsOf::tokens, {4, columns});
}

const StepShape shape{.n_tokens = 4, .n_seqs = 1};

TEST(Split, SharesAreAllOfIt) {
    for (const int n : {1, 2, 3, 5, 8}) {
        for (const int64_t n_units : {1, 2, 4, 7, 16}) {
            const Split split{2, 3, n_units};
            std::vector<int> times(static_cast<size_t>(split.part_len()));
            for (int r = 0; r < n; ++r) {
                const Split::Share s = split.share(r, n);
                EXPECT_GT(s.n, 0);
                EXPECT_EQ(s.first % 3, 0);
                for (int64_t i = s.first; i < s.first + s.n; ++i) ++times[static_cast<size_t>(i)];
            }
            if (n_units >= n) {
                EXPECT_EQ(*std::ranges::max_element(times), 1);
            }
            EXPECT_GE(*std::ranges::min_element(times), 1);
        }
    }
    const Split four{1, 64, 2};  // two heads, four partners
    EXPECT_EQ(four.share(1, 4), (Split::Share{0, 64}));
    EXPECT_EQ(four.share(2, 4), (Split::Share{64, 64}));
}

TEST(CutWeight, SharesPutTogetherAreTheWeight) {
    for (const FormatInfo& f : all_formats()) {
        const int64_t block = f.block_len, rows = 12, cols = 4 * block;
        for (const int64_t step : {1, 2}) {
            std::vector<std::byte> data(data_bytes(f.format, step * rows * cols)),
                scales(scale_bytes(f.format, step * rows * cols));
            random_row(f.format, step * rows * cols, 7, 1, data.data(), scales.data());
            const WeightView view{f.format, rows, cols, data, scales, step};
            for (const Cut cut :
                 {Cut{CutBy::rows, 2, 1}, Cut{CutBy::rows, 1, 3}, Cut{CutBy::columns, 1, 1}}) {
                for (const int n : {1, 2, 3, 4}) {
                    SCOPED_TRACE(std::string(f.name) + " " + std::to_string(n));
                    const auto split = split_of(view, cut, n);
                    ASSERT_TRUE(split);
                    std::vector<std::vector<float>> got(rows, std::vector<float>(static_cast<size_t>(cols)));
                    for (int d = 0; d < n; ++d) {
                        const CutWeight own = cut_weight(view, cut.by, *split, d, n);
                        const Split::Share share = split->share(d, n);
                        const WeightView& v = own.view;
                        std::vector<float> row(static_cast<size_t>(v.cols));
                        for (int64_t r = 0; r < v.rows; ++r) {
                            const int64_t first = r * v.row_step * v.cols;
                            decode_row(
                                {v.format, v.data.data() + data_bytes(v.format, first),
                                 v.scales.empty() ? nullptr : v.scales.data() + scale_bytes(v.format, first),
                                 v.cols},
                                row);
                            const bool by_rows = cut.by == CutBy::rows;
                            const int64_t to =
                                by_rows ? r / share.n * split->part_len() + share.first + r % share.n : r;
                            std::ranges::copy(
                                row, got[static_cast<size_t>(to)].begin() + (by_rows ? 0 : share.first));
                        }
                    }
                    std::vector<float> row(static_cast<size_t>(cols));
                    for (int64_t r = 0; r < rows; ++r) {
                        const int64_t first = r * step * cols;
                        decode_row(
                            {f.format, data.data() + data_bytes(f.format, first),
                             scales.empty() ? nullptr : scales.data() + scale_bytes(f.format, first), cols},
                            row);
                        EXPECT_EQ(got[static_cast<size_t>(r)], row) << "row " << r;
                    }
                }
            }
        }
    }
}

TEST(CutWeight, WhatIsLeftWhole) {
    const auto split = [](Format f, int64_t rows, int64_t cols, Cut cut, int n) {
        return split_of({.format = f, .rows = rows, .cols = cols, .data = {}, .scales = {}}, cut, n);
    };
    EXPECT_FALSE(split(Format::F32, 8, 8, {}, 2));
    EXPECT_FALSE(split(Format::Q8_0, 8, 32, {CutBy::columns, 4}, 2));  // one block a row
    EXPECT_FALSE(split(Format::F32, 6, 8, {CutBy::rows, 2}, 4));       // three heads, four partners
    EXPECT_TRUE(split(Format::F32, 4, 8, {CutBy::rows, 2}, 4));        // two heads: two partners each
    EXPECT_FALSE(split(Format::F32, 8, 4, {CutBy::columns, 2}, 4));    // but sums have each once
    EXPECT_EQ(split(Format::Q8_0, 8, 192, {CutBy::columns, 48}, 2)->unit, 96);
    // Rows where the columns of the next product are cut, if there are blocks enough.
    EXPECT_EQ(split(Format::Q8_0, 96, 64, {CutBy::rows, 1}, 2)->unit, 32);
    EXPECT_EQ(split(Format::Q8_0, 8, 96, {CutBy::columns, 1}, 2)->unit, 32);
    EXPECT_EQ(split(Format::Q8_0, 96, 64, {CutBy::rows, 1}, 4)->unit, 1);
    try {
        (void)split(Format::F32, 9, 8, {CutBy::rows, 2}, 2);
        FAIL();
    } catch (const Error& e) {
        EXPECT_STREQ(e.what(),
                     "tensor parallelism: a weight of (9, 8) cannot be cut: expected 9 rows in 1 parts, each "
                     "of units of 2");
    }
}

TEST(Placement, AFeedForwardBlockIsCutAndSummed) {
    const Weight gate = shared(12, 8, {CutBy::rows, 2}, 2), up = shared(12, 8, {CutBy::rows, 2}, 2),
                 down = shared(8, 12, {CutBy::columns, 2}, 2);
    Record r(shape);
    const Tensor x = take(r, 8), g = take(r, 12), u = take(r, 12), y = take(r, 8);
    r.add(op::Matmul{.x = x, .products = {{g, &gate}, {u, &up}}, .n = 2});
    r.add(op::SiluMul{g, g, u});
    r.add(op::Matmul{.x = g, .products = {{y, &down}}, .n = 1});
    r.add(op::Add{x, y});
    const std::string work =
        "Matmul out=[4 tokens, 6] w=f32(6, 8) out=[4 tokens, 6] w=f32(6, 8) x=[4 tokens, 8]\n"
        "SiluMul out=[4 tokens, 6] gate=[4 tokens, 6] up=[4 tokens, 6]\n"
        "Matmul out=[4 tokens, 8] w=f32(8, 6) x=[4 tokens, 6]\n";
    const std::string sum = "Add x=[4 tokens, 8] y=[4 tokens, 8]\n";
    EXPECT_EQ(place(r, {.n = 2, .partners = true}).print(),
              "phase 0\ndevice 0\n" + work + "device 1\n" + work + "AllReduce [4, 8]\nphase 1\ndevice 0\n" +
                  sum + "device 1\n" + sum);
}

// What the experts of a token add up to is summed with the residual, where that is read; so is what follows.
TEST(Placement, ExpertsAreSummedOnce) {
    const Weight down = shared(8, 12, {CutBy::columns, 2}, 2), norm = shared(1, 8, {}, 2);
    Record r(shape);
    const Tensor x = take(r, 8), h = take(r, 12), y = take(r, 8), z = take(r, 8), out = take(r, 8),
                 weights = take(r, 1);
    r.add(op::Matmul{.x = h, .products = {{y, &down}}, .n = 1});
    r.add(op::AddExperts{.x = x, .y = y.heads(1), .weights = weights});
    r.add(op::Matmul{.x = h, .products = {{z, &down}}, .n = 1});
    r.add(op::Add{x, z});
    r.add(op::RmsNorm{out, x, &norm, 0});
    const Placement p = place(r, {.n = 2, .partners = true});
    ASSERT_EQ(p.phases.size(), 2u) << p.print();
    ASSERT_EQ(p.phases[0].moves.size(), 1u) << p.print();
    EXPECT_EQ(std::get<AllReduce>(p.phases[0].moves[0]).tensor.buffer, x.buffer);
    EXPECT_EQ(p.phases[0].parts[0].ops().size(), 4u) << p.print();
    EXPECT_EQ(p.phases[0].parts[1].ops().size(), 5u) << p.print();  // the residual is the first partner's
}

// A share lies at the whole's offset, its rows one after the other.
TEST(Placement, SharesKeepTheirPlace) {
    const Weight up = shared(12, 8, {CutBy::rows, 2}, 4);  // six units: 1, 2, 1, 2
    Record r(shape);
    const Tensor x = take(r, 8), u = take(r, 12);
    r.add(op::Matmul{.x = x, .products = {{u, &up}}, .n = 1});
    r.add(op::Gelu{u, u});
    const Placement p = place(r, {.n = 4, .partners = true});
    for (const int d : {0, 1, 2, 3}) {
        const auto& gelu = std::get<op::Gelu>(p.phases[0].parts[static_cast<size_t>(d)].ops()[1]);
        EXPECT_EQ(gelu.x.offset, u.offset);
        EXPECT_EQ(gelu.x.shape[1], d % 2 == 0 ? 2 : 4);
        EXPECT_TRUE(gelu.x.dense());
    }
    EXPECT_EQ(p.holder[static_cast<size_t>(u.buffer)], -1);
}

TEST(Placement, BiasesGoWithTheirMatrix) {
    const Weight up = shared(12, 8, {CutBy::rows, 2}, 2), down = shared(8, 12, {CutBy::columns, 2}, 2),
                 up_bias = shared(1, 12, {}, 2), down_bias = shared(1, 8, {}, 2), half = part(1, 6);
    Record r(shape);
    const Tensor x = take(r, 8), u = take(r, 12), y = take(r, 8);
    r.add(op::Matmul{.x = x, .products = {{u, &up, &up_bias}}, .n = 1});
    r.add(op::Matmul{.x = u, .products = {{y, &down, &down_bias}}, .n = 1});
    std::vector<int> asked;
    const Placement p = place(
        r, {.n = 2, .partners = true, .vector_share = [&](const Weight& w, const Split& split, int device) {
                EXPECT_EQ(&w, &up_bias);
                EXPECT_EQ(split.share(1, 2), (Split::Share{6, 6}));
                asked.push_back(device);
                return &half;
            }});
    EXPECT_EQ(asked, (std::vector<int>{0, 1}));
    const auto bias = [&](size_t device, size_t op) {
        return std::get<op::Matmul>(p.phases[0].parts[device].ops()[op]).products[0].bias;
    };
    EXPECT_EQ(bias(1, 0), &half);
    EXPECT_NE(bias(0, 1), nullptr);  // in the sum once
    EXPECT_EQ(bias(1, 1), nullptr);
}

TEST(Placement, ANormOverACutRowNeedsItWhole) {
    const Weight up = shared(12, 8, {CutBy::rows, 2}, 2), norm = shared(1, 12, {}, 2),
                 head_norm = shared(1, 2, {}, 2);
    Record r(shape);
    const Tensor x = take(r, 8), u = take(r, 12);
    r.add(op::Matmul{.x = x, .products = {{u, &up}}, .n = 1});
    r.add(op::RmsNorm{u.heads(6), u.heads(6), &head_norm, 0});
    r.add(op::RmsNorm{u, u, &norm, 0});
    const std::string product =
                          "Matmul out=[4 tokens, 6] w=f32(6, 8) x=[4 tokens, 8]\n"
                          "RmsNorm out=[4 tokens, 3, 2] x=[4 tokens, 3, 2] w=f32(1, 2) eps=0\n",
                      whole = "RmsNorm out=[4 tokens, 12] x=[4 tokens, 12] w=f32(1, 12) eps=0\n";
    EXPECT_EQ(place(r, {.n = 2, .partners = true}).print(),
              "phase 0\ndevice 0\n" + product + "device 1\n" + product +
                  "AllGather [4, 12] of 1 x 6 units of 2 to 0 1\nphase 1\ndevice 0\n" + whole + "device 1\n" +
                  whole);
}

TEST(Placement, LogitsAreGatheredOnOnePartner) {
    const Weight head = shared(10, 8, {CutBy::rows, 1}, 2);
    Record r({.n_tokens = 4, .n_seqs = 1, .n_logits = 4});
    const Tensor x = take(r, 8);
    r.results.logits = r.take(DType::F32, RowsOf::logits, {4, 10});
    r.results.top_logits = r.take(DType::F32, RowsOf::logits, {4, 2});
    r.results.top_ids = r.take(DType::I32, RowsOf::logits, {4, 2});
    r.add(op::Matmul{.x = x, .products = {{r.results.logits, &head}}, .n = 1});
    r.add(op::TopK{r.results.top_logits, r.results.top_ids, r.results.logits});
    const Placement p = place(r, {.n = 2, .partners = true});
    ASSERT_EQ(p.phases.size(), 2u);
    ASSERT_EQ(p.phases[0].moves.size(), 1u);
    EXPECT_EQ(std::get<AllGather>(p.phases[0].moves[0]).to, 1u);
    EXPECT_EQ(p.phases[1].parts[0].ops().size(), 1u);
    EXPECT_EQ(p.phases[1].parts[1].ops().size(), 0u);
    EXPECT_EQ(p.holder[static_cast<size_t>(r.results.top_ids.buffer)], 0);
    EXPECT_FALSE(p.phases[1].parts[0].results.logits);
}

// Ops run where their weights are; what another device has is transferred once.
TEST(Placement, MapsMoveWhatAnotherDeviceNeeds) {
    const Weight a = on_one(8, 8, 0, 2), b = on_one(8, 8, 1, 2);
    Record r(shape);
    const Tensor x = take(r, 8), y = take(r, 8), z = take(r, 8);
    r.add(op::Matmul{.x = x, .products = {{y, &a}}, .n = 1});
    r.add(op::Matmul{.x = y, .products = {{z, &b}}, .n = 1});
    r.add(op::Add{z, y});
    r.add(op::Matmul{.x = z, .products = {{y, &a}}, .n = 1});
    const std::string product = "Matmul out=[4 tokens, 8] w=f32(8, 8) x=[4 tokens, 8]\n",
                      add = "Add x=[4 tokens, 8] y=[4 tokens, 8]\n";
    const Placement p = place(r, {.n = 2});
    EXPECT_EQ(p.print(), "phase 0\ndevice 0\n" + product +
                             "Transfer [4, 8] from 0 to 1\nphase 1\ndevice 1\n" + product + add +
                             "Transfer [4, 8] from 1 to 0\nphase 2\ndevice 0\n" + product);
    EXPECT_EQ(p.holder[static_cast<size_t>(y.buffer)], 0);
    EXPECT_EQ(p.holder[static_cast<size_t>(z.buffer)], 0);  // where it was last needed
}

// A product with weights on two devices is one on each.
TEST(Placement, ProductsAreTakenApart) {
    const Weight a = on_one(8, 8, 0, 2), b = on_one(4, 8, 1, 2), c = on_one(2, 8, 0, 2);
    Record r(shape);
    const Tensor x = take(r, 8), y = take(r, 8), u = take(r, 8), v = take(r, 4), w = take(r, 2);
    r.add(op::Matmul{.x = x, .products = {{y, &a}}, .n = 1});
    r.add(op::Matmul{.x = y, .products = {{u, &a}, {v, &b}, {w, &c}}, .n = 3});
    const Placement p = place(r, {.n = 2});
    size_t n[2] = {};
    for (const Phase& phase : p.phases) {
        for (const size_t d : {0u, 1u}) {
            for (const AnyOp& any : phase.parts[d].ops())
                n[d] += static_cast<size_t>(std::get<op::Matmul>(any).n);
        }
    }
    EXPECT_EQ(n[0], 3u);
    EXPECT_EQ(n[1], 1u);
}

}  // namespace
}  // namespace smelt
