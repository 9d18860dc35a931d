// The row-wise ops against the reference: norms, rope, activations, KV stores and copies.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "conformance/rig.h"

namespace smelt {
namespace {

const std::vector<int64_t> lengths = {1, 2, 3, 31, 32, 33, 63, 64, 65, 255, 257, 1024};
const std::vector<int64_t> token_counts = {1, 2, 3, 5, 9, 16, 33};

// Runs op on the reference and every device; each result within rel * (|expected| + floor).
void compare(const std::function<std::vector<float>(Rig&)>& op, double rel, double floor,
             const std::string& what) {
    Rig reference_rig(reference());
    const std::vector<float> expected = op(reference_rig);
    std::vector<double> bound;
    for (const float e : expected) bound.push_back(rel * (std::fabs(as_double(e)) + floor));
    for (const Device& d : devices()) {
        Rig rig(*d.backend);
        ASSERT_TRUE(near(op(rig), expected, bound, std::max(1e-30, rel * rel))) << d.label << " " << what;
    }
}
std::vector<float> run(Rig& rig, const Tensor& out, const std::function<void()>& op) {
    rig.be.begin();
    op();
    rig.be.submit_and_wait();
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
                    return run(rig, out, [&] { rig.be.rms_norm(out, in, weight, 1e-6f); });
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
                        return run(rig, out, [&] { rig.be.layer_norm(out, in, weight, bias, 1e-5f); });
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

TEST(Ops, AddRmsNormFusedOrComposed) {
    for (const int64_t len : lengths) {
        const EncodedWeight w = encode_vector(normal(len, 1));
        const int64_t n = 5;
        const std::vector<float> x = normal(n * len, 2), residual = normal(n * len, 3);
        const auto op = [&](bool composed) {
            return [&, composed](Rig& rig) {
                const Weight weight = rig.vector(w);
                const Tensor r = rig.floats({n, len}, residual, 1), in = rig.floats({n, len}, x);
                const Tensor out = rig.empty({n, len}, 3);
                std::vector<float> result = run(rig, out, [&] {
                    composed ? rig.be.Backend::add_rms_norm(out, r, in, weight, 1e-6f)
                             : rig.be.add_rms_norm(out, r, in, weight, 1e-6f);
                });
                const std::vector<float> sum = rig.read(r);
                result.insert(result.end(), sum.begin(), sum.end());
                return result;
            };
        };
        // The sum is rounded once in both; its relative error does not grow in the norm.
        const double rel = (static_cast<double>(len) / 2 + 8) * eps;
        compare(op(false), rel, 0, fmt::format("fused, rows of {}", len));
        compare(op(true), rel, 0, fmt::format("composed, rows of {}", len));
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
                const Tensor pos = rig.ints({7}, positions), out = rig.empty({7, 33, 2}, 4);
                return run(rig, out, [&] { rig.be.rope_table(out, pos, inv_freq, scale); });
            },
            2 * eps, 1, "rope table");
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
                        return run(rig, heads, [&] { rig.be.rope(heads, cos_sin, pairing, first); });
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
                    return run(rig, a, [&] { rig.be.add(a, b); });
                },
                0x1p-60, 0, "add, " + what);
            x.front() = -200;  // e^200 is no float
            x.back() = 200;
            for (const bool in_place : {false, true}) {
                compare(
                    [&](Rig& rig) {
                        const Tensor gate = rig.floats({n, len}, x, 2), up = rig.floats({n, len}, y, 1);
                        const Tensor out = in_place ? gate : rig.empty({n, len}, 4);
                        return run(rig, out, [&] { rig.be.silu_mul(out, gate, up); });
                    },
                    12 * eps, 1e-29, "silu_mul, " + what);
                compare(
                    [&](Rig& rig) {
                        const Tensor gate = rig.floats({n, len}, x, 2), up = rig.floats({n, len}, y, 1);
                        const Tensor out = in_place ? gate : rig.empty({n, len}, 4);
                        return run(rig, out, [&] { rig.be.clamped_silu_mul(out, gate, up, 1.702f, 1.5f); });
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
            for (const bool in_place : {false, true}) {
                compare(
                    [&](Rig& rig) {
                        const Tensor in = rig.floats({n, len}, x, 2);
                        const Tensor out = in_place ? in : rig.empty({n, len}, 3);
                        return run(rig, out, [&] { rig.be.gelu(out, in); });
                    },
                    // Far below zero the result is exp of a large number, whose rounding is relative to it.
                    400 * eps, 1e-19, fmt::format("rows of {}, {} tokens", len, n));
            }
        }
    }
}

TEST(Ops, CopyBetweenColumns) {
    const std::vector<float> x = normal(9 * 40, 1);
    compare(
        [&](Rig& rig) {
            const Tensor in = rig.floats({9, 40}, x, 2), out = rig.floats({9, 33}, normal(9 * 33, 2), 1);
            return run(rig, out, [&] { rig.be.copy(out.columns(5, 20), in.columns(19, 20)); });
        },
        0, 0, "copy");
}

TEST(Ops, GatherRows) {
    const std::vector<float> x = normal(9 * 33, 1);
    compare(
        [&](Rig& rig) {
            const Tensor in = rig.floats({9, 33}, x, 2), rows = rig.ints({4}, {8, 0, 0, 5});
            const Tensor out = rig.empty({4, 33}, 1);
            return run(rig, out, [&] { rig.be.gather_rows(out, in, rows); });
        },
        0, 0, "gather");
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
                const Tensor values = rig.empty({4, k}), ids = rig.raw(DType::I32, {4, k});
                backend.begin();
                backend.top_k(values, ids, rig.floats({4, n}, x, 3));
                backend.submit_and_wait();
                std::vector<int32_t> chosen(static_cast<size_t>(4 * k));
                backend.read(ids, chosen.data());
                return std::pair(rig.read(values), chosen);
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

// Ops see what ops before them in the same record wrote, and what write() did between them.
TEST(Ops, AWriteKeepsItsPlaceInTheRecord) {
    for (const Device& d : devices()) {
        Rig rig(*d.backend);
        const Tensor x = rig.floats({1, 3}, {1, 2, 3}), y = rig.floats({1, 3}, {10, 10, 10});
        const std::vector<float> later = {5, 5, 5};
        d.backend->begin();
        d.backend->add(x, y);
        d.backend->write(y, later.data());
        d.backend->add(x, y);
        d.backend->submit_and_wait();
        EXPECT_TRUE(identical(rig.read(x), {16, 17, 18})) << d.label;
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
        const auto cache = [&](Rig& rig) {
            const KvLayer kv{rig.kv_rows(type, n_blocks, block_len, n_kv_heads, head_dim),
                             rig.kv_rows(type, n_blocks, block_len, n_kv_heads, head_dim)};
            BatchView batch;
            batch.slots = rig.ints({n}, {7, 0, 19, 3, 12, 11});
            batch.n_tokens = static_cast<int>(n);
            const Tensor ks = rig.floats({n, n_kv_heads, head_dim}, k, 3);
            const Tensor vs = rig.floats({n, n_kv_heads, head_dim}, v, 1);
            const std::vector<int32_t> from = {1, 3}, to = {2, 1};
            rig.be.begin();
            rig.be.store_kv(kv, ks, vs, batch);
            rig.be.copy_kv_blocks(kv, from, to);
            rig.be.submit_and_wait();
            std::vector<std::byte> bytes = rig.read(kv.k);
            const std::vector<std::byte> more = rig.read(kv.v);
            bytes.insert(bytes.end(), more.begin(), more.end());
            return bytes;
        };
        Rig reference_rig(reference());
        const std::vector<std::byte> expected = cache(reference_rig);
        for (const Device& d : devices()) {
            Rig rig(*d.backend);
            EXPECT_EQ(cache(rig), expected) << d.label << " head_dim " << head_dim;
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
