// The row-wise ops against the reference: norms, rope, activations, KV stores and copies.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "conformance/rig.h"

namespace smelt {

using namespace op;

namespace {

const std::vector<int64_t> lengths = {1, 2, 3, 31, 32, 33, 63, 64, 65, 255, 257, 1024};
const std::vector<int64_t> token_counts = {1, 2, 3, 5, 9, 16, 33};

// Runs op on the reference and every device; each result within rel * (|expected| + floor).
void compare(const std::function<std::vector<float>(Rig&)>& op, double rel, double floor,
             const std::string& what, const StepShape& shape = {}) {
    Rig reference_rig(reference(), shape);
    const std::vector<float> expected = op(reference_rig);
    std::vector<double> bound;
    for (const float e : expected) bound.push_back(rel * (std::fabs(as_double(e)) + floor));
    for (const Device& d : devices()) {
        Rig rig(*d.backend, shape);
        ASSERT_TRUE(near(op(rig), expected, bound, std::max(1e-30, rel * rel))) << d.label << " " << what;
    }
}
template <class Op>
std::vector<float> run(Rig& rig, const Tensor& out, const Op& op) {
    rig.add(op).run();
    return rig.read(out);
}

TEST(Ops, RmsNorm) {
    for (const int64_t len : lengths) {
        const EncodedWeight w = encode_vector(normal(len, 1));
        for (const int64_t n : token_counts) {
            const std::vector<float> x = normal(n * 3 * len, 2, 3);
            const auto norm = [&](bool in_place) {
                return [&, in_place](Rig& rig) {
                    const Weight weight = rig.vector(w);
                    const Tensor in = rig.floats({n, 3, len}, x, 7);
                    const Tensor out = in_place ? in : rig.empty({n, 3, len}, 2);
                    return run(rig, out, RmsNorm{out, in, &weight, 1e-6f});
                };
            };
            const double rel = (static_cast<double>(len) / 2 + 6) * eps;
            compare(norm(false), rel, 0, fmt::format("rows of {}, {} tokens", len, n));
            compare(norm(true), rel, 0, fmt::format("in place, rows of {}, {} tokens", len, n));
        }
    }
}

TEST(Ops, LayerNorm) {
    for (const int64_t len : lengths) {
        const EncodedWeight w = encode_vector(normal(len, 1)), b = encode_vector(normal(len, 2));
        for (const int64_t n : token_counts) {
            for (const float mean : {0.0f, 100.0f}) {
                std::vector<float> x = normal(n * 3 * len, 3, 3);
                for (float& v : x) v += mean;
                const auto norm = [&](bool in_place) {
                    return [&, in_place](Rig& rig) {
                        const Weight weight = rig.vector(w), bias = rig.vector(b);
                        const Tensor in = rig.floats({n, 3, len}, x, 7);
                        const Tensor out = in_place ? in : rig.empty({n, 3, len}, 2);
                        return run(rig, out, LayerNorm{out, in, &weight, &bias, 1e-5f});
                    };
                };
                // The mean is off by at most len / 2 roundings, which the norm divides by the deviation: that
                // of a handful of values may be small.
                const double deviation = len < 8 ? 0.01 : 1;
                const double off =
                    (static_cast<double>(len) / 2 + 4) * eps * (static_cast<double>(mean) + 10);
                const double rel = (static_cast<double>(len) + 8) * eps + off / deviation;
                const std::string what = fmt::format("rows of {}, {} tokens, mean {}", len, n, mean);
                compare(norm(false), rel, 12, what);
                compare(norm(true), rel, 12, "in place, " + what);
            }
        }
    }
}

TEST(Ops, RopeTableIsExactForFarPositions) {
    std::vector<float> frequencies;
    for (int i = 0; i < 33; ++i) frequencies.push_back(static_cast<float>(std::pow(1e6, -i / 33.0)));
    const EncodedWeight w = encode_vector(frequencies);
    const std::vector<int32_t> positions = {0, 1, 2, 4095, 32768, 131071, 1000003};
    for (const float scale : {1.0f, 1.1386294f}) {
        compare(
            [&](Rig& rig) {
                const Weight inv_freq = rig.vector(w);
                const Tensor out = rig.empty({7, 33, 2}, 4, RowsOf::tokens);
                rig.set(rig.in().positions, positions);
                return run(rig, out, RopeTable{out, rig.in().positions, &inv_freq, scale});
            },
            2 * eps, 1, "rope table", {.n_tokens = 7});
    }
}

TEST(Ops, Rope) {
    for (const RopePairing pairing : {RopePairing::half, RopePairing::interleaved}) {
        for (const auto& [n_dims, first] : {std::pair<int64_t, int64_t>{2, 0},
                                            {2, 126},
                                            {6, 0},
                                            {32, 0},
                                            {32, 17},
                                            {62, 0},
                                            {64, 0},
                                            {64, 64},
                                            {80, 0},
                                            {128, 0}}) {
            for (const int64_t n : token_counts) {
                const std::vector<float> x = normal(n * 3 * 128, 2), table = normal(n * n_dims, 3);
                compare(
                    [&](Rig& rig) {
                        const Tensor heads = rig.floats({n, 3, 128}, x, 5);
                        const Tensor cos_sin = rig.floats({n, n_dims / 2, 2}, table, 1);
                        return run(rig, heads, Rope{heads, cos_sin, pairing, first});
                    },
                    // two products of numbers below 20
                    3 * eps, 40, fmt::format("{} of 128 dims from {}, {} tokens", n_dims, first, n));
            }
        }
    }
}

TEST(Ops, AddAndSiluMul) {
    for (const int64_t len : lengths) {
        for (const int64_t n : token_counts) {
            std::vector<float> x = normal(n * len, 1, 4);
            const std::vector<float> y = normal(n * len, 2);
            const std::string what = fmt::format("rows of {}, {} tokens", len, n);
            compare(
                [&](Rig& rig) {
                    const Tensor a = rig.floats({n, len}, x, 3), b = rig.floats({n, len}, y, 1);
                    return run(rig, a, Add{a, b});
                },
                0x1p-60, 0, "add, " + what);
            x.front() = -200;  // e^200 is no float
            x.back() = 200;
            for (const bool in_place : {false, true}) {
                compare(
                    [&](Rig& rig) {
                        const Tensor gate = rig.floats({n, len}, x, 2), up = rig.floats({n, len}, y, 1);
                        const Tensor out = in_place ? gate : rig.empty({n, len}, 4);
                        return run(rig, out, SiluMul{out, gate, up});
                    },
                    12 * eps, 1e-29, "silu_mul, " + what);
                compare(
                    [&](Rig& rig) {
                        const Tensor gate = rig.floats({n, len}, x, 2), up = rig.floats({n, len}, y, 1);
                        const Tensor out = in_place ? gate : rig.empty({n, len}, 4);
                        return run(rig, out, ClampedSiluMul{out, gate, up, 1.702f, 1.5f});
                    },
                    // alpha * g is rounded once more, and e^x carries that on
                    40 * eps, 1e-29, "clamped_silu_mul, " + what);
            }
        }
    }
}

TEST(Ops, Gelu) {
    for (const int64_t len : lengths) {
        for (const int64_t n : token_counts) {
            std::vector<float> x = normal(n * len, 1, 4);
            x.front() = -1e13f;  // its cube is no float
            x.back() = 1e13f;
            for (const int form : {0, 1, 2, 3}) {
                const bool in_place = form % 2 == 1, exact = form >= 2;
                compare(
                    [&](Rig& rig) {
                        const Tensor in = rig.floats({n, len}, x, 2);
                        const Tensor out = in_place ? in : rig.empty({n, len}, 3);
                        return run(rig, out, Gelu{out, in, exact});
                    },
                    // Far below zero the result is exp of a large number, whose rounding is relative to it.
                    400 * eps, 1e-19, fmt::format("rows of {}, {} tokens, exact {}", len, n, exact));
            }
        }
    }
}

TEST(Ops, CopyBetweenColumns) {
    const std::vector<float> x = normal(9 * 40, 1);
    compare(
        [&](Rig& rig) {
            const Tensor in = rig.floats({9, 40}, x, 2), out = rig.floats({9, 33}, normal(9 * 33, 2), 1);
            return run(rig, out, Copy{out.columns(5, 20), in.columns(19, 20)});
        },
        0, 0, "copy");
}

TEST(Ops, GatherRows) {
    const std::vector<float> x = normal(9 * 33, 1);
    compare(
        [&](Rig& rig) {
            const Tensor in = rig.floats({9, 33}, x, 2, RowsOf::tokens);
            const Tensor out = rig.empty({4, 33}, 1, RowsOf::logits);
            rig.set(rig.in().logits_rows, {8, 0, 0, 5});
            return run(rig, out, GatherRows{out, in, rig.in().logits_rows});
        },
        0, 0, "gather", {.n_tokens = 9, .n_logits = 4});
}

// Equal values, zeros of both signs, infinities, NaN: the same order everywhere, and the values as they were.
TEST(Ops, TopK) {
    constexpr float inf = std::numeric_limits<float>::infinity();
    constexpr float odd[] = {0.0f, -0.0f, inf, -inf, std::numeric_limits<float>::quiet_NaN(), 1e-42f};
    for (const int64_t n : {1, 5, 255, 256, 257, 1500}) {
        for (const int64_t k : {1, 2, 5, 64}) {
            if (k > n) continue;
            std::vector<float> x = normal(4 * n, static_cast<unsigned>(n + k), 2);
            for (int64_t i = n; i < 2 * n; ++i)
                x[static_cast<size_t>(i)] = std::round(x[static_cast<size_t>(i)]);
            for (int64_t i = 0; i < 2 * n; ++i) x[static_cast<size_t>(2 * n + i)] = odd[(i * i + k) % 6];
            std::fill(x.end() - n, x.end() - n / 2, -inf);
            const auto best = [&](Backend& backend) {
                Rig rig(backend);
                const Tensor values = rig.empty({4, k});
                const Tensor ids = rig.ints({4, k}, std::vector<int32_t>(static_cast<size_t>(4 * k)));
                rig.add(TopK{values, ids, rig.floats({4, n}, x, 3)}).run();
                return std::pair(rig.read(values), rig.read_ints(ids));
            };
            const auto expected = best(reference());
            for (const Device& d : devices()) {
                const auto got = best(*d.backend);
                EXPECT_EQ(got.second, expected.second) << d.label << " " << k << " of " << n;
                EXPECT_TRUE(identical(got.first, expected.first)) << d.label << " " << k << " of " << n;
            }
        }
    }
}

// Ops see what ops before them in the same record wrote, a launch what the one before left, and what was
// written between them.
TEST(Ops, StepsSeeWhatIsInTheWorkspace) {
    for (const Device& d : devices()) {
        Rig rig(*d.backend);
        const Tensor x = rig.floats({1, 3}, {1, 2, 3}), y = rig.floats({1, 3}, {10, 10, 10});
        rig.add(Add{x, y}).add(Add{x, y}).run();
        EXPECT_TRUE(identical(rig.read(x), {21, 22, 23})) << d.label;
        rig.write(y, {5, 5, 5});
        rig.run();
        EXPECT_TRUE(identical(rig.read(x), {31, 32, 33})) << d.label;
    }
}

class EveryKvFormat : public testing::TestWithParam<Format> {};

TEST_P(EveryKvFormat, StoreAndCopyBlocks) {
    const Format type = GetParam();
    for (const int64_t head_dim : {1, 20, 32, 64, 80, 160}) {
        if (head_dim % format_info(type).block_len != 0) continue;
        const int64_t n = 6, n_kv_heads = 3, block_len = 5, n_blocks = 4;
        const int64_t row = n_kv_heads * head_dim;
        std::vector<float> k = normal(n * row, 1), v = normal(n * row, 2);
        k[0] = 1e-6f;  // subnormal as F16
        v[0] = 70000;  // infinite as F16
        std::fill_n(k.begin() + 32, std::min<int64_t>(32, n * row - 32), 0.0f);
        for (int64_t i = 0; i < row; ++i) v[static_cast<size_t>(row + i)] *= 1e-38f;  // subnormal
        const auto cache = [&](Backend& be) {
            const auto kv = be.allocate_kv({.k_format = type,
                                            .v_format = type,
                                            .n_blocks = n_blocks,
                                            .block_len = block_len,
                                            .n_heads = n_kv_heads,
                                            .k_dim = head_dim,
                                            .v_dim = head_dim});
            Rig rig(be, {.n_tokens = static_cast<int>(n)});
            rig.set(rig.in().slots, {7, 0, 19, 3, 12, 11});
            rig.add(StoreKv{kv.get(), rig.floats({n, n_kv_heads, head_dim}, k, 3, RowsOf::tokens),
                            rig.floats({n, n_kv_heads, head_dim}, v, 1, RowsOf::tokens), rig.in().slots});
            rig.run();
            const BlockPair copies[] = {{1, 2}, {3, 1}};
            kv->copy_blocks(copies);
            return contents_of(*kv);
        };
        const std::vector<std::byte> expected = cache(reference());
        for (const Device& d : devices())
            EXPECT_EQ(cache(*d.backend), expected) << d.label << " head_dim " << head_dim;
    }
}
// What write_block() was given comes back, and nothing else changes.
TEST_P(EveryKvFormat, BlocksAreReadAsTheyWereWritten) {
    for (const bool v_in_k : {false, true}) {
        const KvShape shape{.k_format = GetParam(),
                            .v_format = GetParam(),
                            .n_blocks = 3,
                            .block_len = 5,
                            .n_heads = 2,
                            .k_dim = 96,
                            .v_dim = 64,
                            .v_in_k = v_in_k};
        std::vector<std::byte> bytes(shape.block_bytes());
        std::mt19937 random(1);
        for (std::byte& b : bytes) b = static_cast<std::byte>(random());
        std::vector<std::byte> all(shape.n_bytes());
        std::copy(bytes.begin(), bytes.end(), all.begin() + static_cast<std::ptrdiff_t>(shape.block_bytes()));
        for (const Device& d : devices()) {
            const auto kv = d.backend->allocate_kv(shape);
            kv->write_block(1, bytes);
            EXPECT_EQ(contents_of(*kv), all) << d.label << (v_in_k ? ", v in k" : "");
        }
    }
}
INSTANTIATE_TEST_SUITE_P(Conformance, EveryKvFormat, testing::ValuesIn(kv_formats),
                         [](const auto& test) { return std::string(to_string(test.param)); });

std::string refusal(const char* device, const BackendOptions& options) {
    try {
        make_backend(device, options);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(Registry, RefusesByName) {
    EXPECT_NE(refusal("abacus", {}).find("abacus"), std::string::npos);
    EXPECT_NE(refusal("cpu", {.n_threads = 1, .isa = "mmx"}).find("portable"), std::string::npos);
    EXPECT_NE(refusal("cpu", {.n_threads = -1}).find("-1"), std::string::npos);
    for (const BackendInfo& info : list_backends()) {
        const std::string text = refusal(info.name.c_str(), {.n_threads = 1});
        EXPECT_EQ(text.empty(), info.missing.empty()) << info.name;
        EXPECT_NE(text.find(info.missing), std::string::npos) << text;
    }
}

}  // namespace
}  // namespace smelt
