// Matrix products and table look-ups of every format against the reference, and the promise that a row's
// result does not depend on the rows beside it.
#include <algorithm>
#include <cmath>

#include "conformance/rig.h"

namespace smelt {

using namespace op;

namespace {

Matmul one_product(const Tensor& x, const Tensor& out, const Weight& w) {
    return {.x = x, .products = {{.out = out, .w = &w}}, .n = 1};
}

class EveryFormat : public testing::TestWithParam<Format> {};

std::vector<int64_t> test_cols(Format f) {
    const int64_t block = format_info(f).block_len;
    if (block == 1) return {1, 2, 3, 31, 32, 33, 63, 64, 65, 255, 257};
    if (block == 256) return {256, 512, 768, 1280};
    return {block, 2 * block, 3 * block, 5 * block, 16 * block, 33 * block};
}

// Largest error of a float product of n terms, in any order of additions, and of activations rounded to int8
// in groups of 32 (the most that a backend may do to a quantized format).
std::vector<double> matmul_bound(const EncodedWeight& w, const std::vector<float>& x, int64_t n_tokens) {
    const std::vector<float> weights = w.decoded();
    const bool rounded = format_info(w.format).block_len > 1;
    std::vector<double> bound;
    for (int64_t t = 0; t < n_tokens; ++t) {
        const auto row = x.begin() + t * w.cols;
        std::vector<double> slack(static_cast<size_t>(w.cols), 0);
        for (int64_t i = 0; rounded && i < w.cols; i += 32) {
            float top = 0;
            const int64_t end = std::min(i + 32, w.cols);
            for (int64_t j = i; j < end; ++j) top = std::max(top, std::fabs(row[j]));
            std::fill(slack.begin() + i, slack.begin() + end, as_double(top) / 127 * 0.5 * (1 + 1e-4));
        }
        for (int64_t r = 0; r < w.rows; ++r) {
            double terms = 0, rounding = 0;
            for (int64_t i = 0; i < w.cols; ++i) {
                const double weight = std::fabs(as_double(weights[static_cast<size_t>(r * w.cols + i)]));
                terms += weight * std::fabs(as_double(row[i]));
                rounding += weight * slack[static_cast<size_t>(i)];
            }
            bound.push_back((static_cast<double>(w.cols) + 8) * eps * (terms + 1) + rounding);
        }
    }
    return bound;
}
double matmul_nmse(Format f) {
    return format_info(f).block_len > 1 ? 1e-3 : 1e-10;
}

TEST_P(EveryFormat, MatmulIsNearTheReference) {
    for (const int64_t cols : test_cols(GetParam())) {
        for (const int64_t rows : {1, 2, 3, 15, 16, 17, 33, 64, 65, 257}) {
            const EncodedWeight w = random_weight(GetParam(), rows, cols, 1);
            for (const int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33}) {
                if (n > 9 && rows * cols > 40000) continue;  // the reference takes its time
                const std::vector<float> x = normal(n * cols, 2);
                const auto product = [&](Backend& be) {
                    Rig rig(be);
                    const Weight weight = rig.matrix(w);
                    const Tensor in = rig.floats({n, cols}, x, 3), out = rig.empty({n, rows}, 5);
                    rig.add(one_product(in, out, weight)).run();
                    return rig.read(out);
                };
                const std::vector<float> expected = product(reference());
                const std::vector<double> bound = matmul_bound(w, x, n);
                // One product of few terms may be as small as its error, by cancellation: energy counts from
                // 64 elements on.
                const double nmse = n * rows < 64 ? HUGE_VAL : matmul_nmse(GetParam());
                for (const Device& d : devices()) {
                    ASSERT_TRUE(near(product(*d.backend), expected, bound, nmse))
                        << d.label << " weight (" << rows << ", " << cols << "), " << n << " tokens";
                }
            }
        }
    }
}

TEST_P(EveryFormat, SeveralProductsWithBiasShareOneInput) {
    const int64_t cols = whole_blocks(GetParam(), 192), n = 7;
    const std::vector<int64_t> rows = {64, 5, 33};
    const std::vector<float> x = normal(n * cols, 3);
    std::vector<EncodedWeight> w, b;
    for (const int64_t r : rows) {
        w.push_back(random_weight(GetParam(), r, cols, static_cast<unsigned>(r)));
        b.push_back(encode_vector(normal(r, static_cast<unsigned>(r) + 1)));
    }
    const auto product = [&](Backend& be) {
        Rig rig(be);
        const Weight w0 = rig.matrix(w[0]), w1 = rig.matrix(w[1]), w2 = rig.matrix(w[2]);
        const Weight b1 = rig.vector(b[1]), b2 = rig.vector(b[2]);
        const Tensor in = rig.floats({n, cols}, x);
        const Tensor o0 = rig.empty({n, rows[0]}), o1 = rig.empty({n, rows[1]}, 1),
                     o2 = rig.empty({n, rows[2]});
        rig.add(Matmul{.x = in, .products = {{o0, &w0}, {o1, &w1, &b1}, {o2, &w2, &b2}}, .n = 3}).run();
        return std::vector<std::vector<float>>{rig.read(o0), rig.read(o1), rig.read(o2)};
    };
    const auto expected = product(reference());
    for (const Device& d : devices()) {
        const auto got = product(*d.backend);
        for (size_t i = 0; i < 3; ++i) {
            std::vector<double> bound = matmul_bound(w[i], x, n);
            for (double& e : bound) e += 4 * eps * 5;  // the bias, at most 5 here
            EXPECT_TRUE(near(got[i], expected[i], bound, matmul_nmse(GetParam())))
                << d.label << " product " << i;
        }
    }
}

// Also a table that is looked up and, not packed before, is the head's matrix too.
TEST_P(EveryFormat, PackedRowsHaveTheBitsOfStoredOnes) {
    const std::vector<Device> packed = make_devices(3), stored = make_devices(3, false);
    for (const int64_t rows : {1, 5, 16, 33, 83}) {
        const int64_t cols = whole_blocks(GetParam(), 3 * 96);
        const EncodedWeight w = random_weight(GetParam(), rows, cols, 7);
        for (const int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 20}) {
            const std::vector<float> x = normal(n * cols, 8);
            const auto product = [&](Backend& be, WeightUse use) {
                Rig rig(be);
                const Weight weight = be.load(w.view(), {.use = use});
                const Tensor in = rig.floats({n, cols}, x), out = rig.empty({n, rows}, 3);
                rig.add(one_product(in, out, weight)).run();
                return rig.read(out);
            };
            for (size_t i = 0; i < packed.size(); ++i) {
                if (!packed[i].label.starts_with("cpu")) continue;
                const std::vector<float> expected = product(*stored[i].backend, WeightUse::matrix);
                for (const WeightUse use : {WeightUse::matrix, WeightUse::embedding}) {
                    ASSERT_TRUE(identical(product(*packed[i].backend, use), expected))
                        << packed[i].label << " " << rows << " rows, " << n << " tokens";
                }
            }
        }
    }
}

TEST_P(EveryFormat, ATokenAloneHasTheBitsItHasInABatch) {
    const int64_t cols = whole_blocks(GetParam(), 320), rows = 83, n = 33;
    const EncodedWeight w = random_weight(GetParam(), rows, cols, 4),
                        other = random_weight(GetParam(), 48, cols, 5);
    const std::vector<float> x = normal(n * cols, 6);
    const auto product = [&](Backend& be, int64_t first, int64_t count, bool with_other) {
        Rig rig(be);
        const Weight weight = rig.matrix(w), second = rig.matrix(other);
        const std::vector<float> part(x.begin() + first * cols, x.begin() + (first + count) * cols);
        const Tensor in = rig.floats({count, cols}, part), out = rig.empty({count, rows});
        const Tensor out2 = rig.empty({count, 48});
        rig.add(with_other ? Matmul{.x = in, .products = {{out2, &second}, {out, &weight}}, .n = 2}
                           : one_product(in, out, weight));
        rig.run();
        return rig.read(out);
    };
    const std::vector<Device> alone = make_devices(1), many = make_devices(5);
    for (size_t i = 0; i < alone.size(); ++i) {
        const std::vector<float> all = product(*many[i].backend, 0, n, true);
        for (const int64_t count : {1, 2, 3, 5, 8, 11}) {
            for (int64_t first = 0; first + count <= n; first += count) {
                const std::vector<float> part(all.begin() + first * rows,
                                              all.begin() + (first + count) * rows);
                ASSERT_TRUE(identical(product(*alone[i].backend, first, count, false), part))
                    << alone[i].label << " tokens " << first << " + " << count;
            }
        }
    }
}

// Whether the tokens of a product in one batch have the bits that they have alone.
void tokens_alone_have_their_bits(const EncodedWeight& w, int64_t n) {
    const std::vector<float> x = normal(n * w.cols, 6);
    for (const Device& d : devices()) {
        const Weight weight = d.backend->load(w.view(), {.use = WeightUse::matrix});
        const auto product = [&](int64_t first, int64_t count) {
            Rig rig(*d.backend);
            const std::vector<float> part(x.begin() + first * w.cols, x.begin() + (first + count) * w.cols);
            const Tensor in = rig.floats({count, w.cols}, part), out = rig.empty({count, w.rows});
            rig.add(one_product(in, out, weight)).run();
            return rig.read(out);
        };
        const std::vector<float> all = product(0, n);
        for (int64_t t = 0; t < n; ++t) {
            const std::vector<float> part(all.begin() + t * w.rows, all.begin() + (t + 1) * w.rows);
            ASSERT_TRUE(identical(product(t, 1), part))
                << d.label << " " << to_string(w.format) << " token " << t;
        }
    }
}

// Powers of two as scales, also those that no model has.
void put_extreme_scales(EncodedWeight& mxfp4) {
    constexpr uint8_t scales[] = {127, 120, 0, 60, 95, 96, 159, 160, 190};
    for (size_t b = 0; 1 + b * sizeof(BlockMXFP4) < mxfp4.data.size(); ++b)
        mxfp4.data[1 + b * sizeof(BlockMXFP4)] = static_cast<std::byte>(scales[b % std::size(scales)]);
}

// Rows of several rounds of every kernel, the last one not full.
TEST(Matmul, ATokenAloneHasItsBitsInLongRowsToo) {
    for (const Format f : {Format::Q8_0, Format::Q4_0, Format::MXFP4, Format::BF16}) {
        EncodedWeight w = random_weight(f, 9, 4672, 4);
        tokens_alone_have_their_bits(w, 9);
        if (f != Format::MXFP4) continue;
        put_extreme_scales(w);
        tokens_alone_have_their_bits(w, 9);
    }
}
// Columns of less than a round, of a round and a part, and of many; rows that begin at multiples of 8 and
// others.
TEST(Matmul, ATokenAloneHasItsBitsWhereRowsAreManyToo) {
    tokens_alone_have_their_bits(random_weight(Format::Q4_0, 8197, 256, 4), 2);
    tokens_alone_have_their_bits(random_weight(Format::Q8_0, 8197, 640, 4), 2);
    tokens_alone_have_their_bits(random_weight(Format::MXFP4, 8197, 64, 4), 2);
    EncodedWeight w = random_weight(Format::MXFP4, 8197, 4864, 4);
    tokens_alone_have_their_bits(w, 2);
    put_extreme_scales(w);
    tokens_alone_have_their_bits(w, 2);
}

// As gpt-oss's files hold gate and up: by turns in one tensor.
TEST_P(EveryFormat, EveryOtherRowHasTheBitsOfAMatrixOfItsOwn) {
    for (const int64_t rows : {1, 5, 83}) {
        const int64_t cols = whole_blocks(GetParam(), 192);
        const EncodedWeight both = random_weight(GetParam(), 2 * rows, cols, 8);
        const size_t row = data_bytes(GetParam(), cols), scale_row = scale_bytes(GetParam(), cols);
        for (const size_t which : {0u, 1u}) {
            const WeightView all = both.view();
            std::vector<std::byte> data, scales;
            for (size_t r = which; r < static_cast<size_t>(2 * rows); r += 2) {
                const auto d = all.data.subspan(r * row, row);
                data.insert(data.end(), d.begin(), d.end());
                if (scale_row == 0) continue;
                const auto s = all.scales.subspan(r * scale_row, scale_row);
                scales.insert(scales.end(), s.begin(), s.end());
            }
            WeightView every_other = all;
            every_other.rows = rows;
            every_other.data = all.data.subspan(which * row);
            every_other.scales = scale_row == 0 ? all.scales : all.scales.subspan(which * scale_row);
            every_other.row_step = 2;
            for (const int64_t n : {1, 9}) {
                const std::vector<float> x = normal(n * cols, 2);
                const auto product = [&](Backend& be, const WeightView& view) {
                    Rig rig(be);
                    const Weight w = be.load(view, {.use = WeightUse::matrix});
                    const Tensor in = rig.floats({n, cols}, x), out = rig.empty({n, rows});
                    rig.add(one_product(in, out, w)).run();
                    return rig.read(out);
                };
                const WeightView own{GetParam(), rows, cols, data, scales};
                EXPECT_TRUE(identical(product(reference(), every_other), product(reference(), own)));
                for (const Device& d : devices()) {
                    EXPECT_TRUE(identical(product(*d.backend, every_other), product(*d.backend, own)))
                        << d.label << " " << rows << " rows, " << n << " tokens";
                }
            }
        }
    }
}

TEST_P(EveryFormat, EmbedIsExact) {
    for (const int64_t cols : test_cols(GetParam())) {
        const EncodedWeight w = random_weight(GetParam(), 37, cols, 7);
        const auto rows = [&](Backend& be) {
            Rig rig(be, {.n_tokens = 4});
            const Weight table = be.load(w.view(), {.use = WeightUse::embedding});
            const Tensor out = rig.empty({4, cols}, 2, RowsOf::tokens);
            rig.set(rig.in().ids, {36, 0, 17, 17});
            rig.add(Embed{out, rig.in().ids, &table}).run();
            return rig.read(out);
        };
        const std::vector<float> expected = rows(reference());
        for (const Device& d : devices())
            EXPECT_TRUE(identical(rows(*d.backend), expected)) << d.label << " " << cols;
    }
}

TEST_P(EveryFormat, ZeroActivationsAreExact) {
    const int64_t cols = whole_blocks(GetParam(), 64);
    const EncodedWeight w = random_weight(GetParam(), 20, cols, 8);
    for (const Device& d : devices()) {
        Rig rig(*d.backend);
        const Weight weight = rig.matrix(w);
        const Tensor in = rig.floats({6, cols}, std::vector<float>(static_cast<size_t>(6 * cols), 0.0f)),
                     out = rig.empty({6, 20});
        rig.add(one_product(in, out, weight)).run();
        EXPECT_TRUE(identical(rig.read(out), std::vector<float>(6 * 20, 0.0f))) << d.label;
    }
}

// Every extreme a file can hold: quants of -128 too.
TEST(Matmul, TheFullRangeOfInt8) {
    EncodedWeight w = random_weight(Format::Q8_0, 16, 64, 9);
    for (size_t i = 0; i < 32; ++i) {
        auto* block = w.data.data() + 1 + i * sizeof(BlockQ8_0);
        for (size_t j = 0; j < 32; ++j)
            block[2 + j] = std::byte{static_cast<uint8_t>(j % 2 == 0 ? 128 : 127)};
    }
    std::vector<float> x(64);
    for (size_t i = 0; i < x.size(); ++i) x[i] = i % 2 == 0 ? -1.0f : 1.0f;
    const auto product = [&](Backend& be) {
        Rig rig(be);
        const Weight weight = rig.matrix(w);
        const Tensor in = rig.floats({1, 64}, x), out = rig.empty({1, 16});
        rig.add(one_product(in, out, weight)).run();
        return rig.read(out);
    };
    const std::vector<float> expected = product(reference());
    for (const Device& d : devices()) {
        EXPECT_TRUE(near(product(*d.backend), expected, matmul_bound(w, x, 1), 1e-10)) << d.label;
    }
}

std::vector<Format> formats() {
    std::vector<Format> result;
    for (const FormatInfo& info : all_formats()) result.push_back(info.format);
    return result;
}
INSTANTIATE_TEST_SUITE_P(Conformance, EveryFormat, testing::ValuesIn(formats()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace smelt
