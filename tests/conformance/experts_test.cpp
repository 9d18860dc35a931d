// Mixtures of experts: the expert matmul has the bits of the plain one, routing and summing agree with the
// reference.
#include <algorithm>
#include <numeric>

#include "conformance/rig.h"
#include "quant/format.h"

namespace smelt {

using namespace op;

namespace {

struct Shape {
    int64_t n_tokens, n_used, n_experts, rows, cols;
};
const Shape shapes[] = {
    {1, 1, 1, 3, 64}, {1, 2, 8, 65, 128}, {5, 2, 4, 33, 192}, {33, 8, 16, 31, 64}, {9, 4, 4, 257, 320}};

// Every token uses n_used different experts; some experts are used by nobody.
std::vector<int32_t> choose_experts(const Shape& s, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> all(static_cast<size_t>(s.n_experts)), ids;
    std::iota(all.begin(), all.end(), 0);
    for (int64_t t = 0; t < s.n_tokens; ++t) {
        std::shuffle(all.begin(), all.end(), random);
        ids.insert(ids.end(), all.begin(), all.begin() + s.n_used);
    }
    return ids;
}

TEST(Experts, MatmulHasTheBitsOfThePlainOne) {
    for (const Device& device : devices()) {
        for (const FormatInfo& info : all_formats()) {
            for (Shape s : shapes) {
                s.cols = whole_blocks(info.format, s.cols);
                for (const bool own_rows : {false, true}) {
                    SCOPED_TRACE(fmt::format("{} {} tokens {} used {} of {}, ({}, {}), own rows {}",
                                             device.label, info.name, s.n_tokens, s.n_used, s.n_experts,
                                             s.rows, s.cols, own_rows));
                    Rig rig(*device.backend);
                    std::vector<Weight> a, b;
                    std::vector<const Weight*> list_a, list_b;
                    std::vector<EncodedWeight> encoded;
                    for (int64_t e = 0; e < 2 * s.n_experts; ++e) {
                        encoded.push_back(
                            random_weight(info.format, s.rows, s.cols, static_cast<unsigned>(e)));
                    }
                    for (int64_t e = 0; e < s.n_experts; ++e) {
                        a.push_back(rig.matrix(encoded[static_cast<size_t>(e)]));
                        b.push_back(rig.matrix(encoded[static_cast<size_t>(s.n_experts + e)]));
                    }
                    for (const Weight& w : a) list_a.push_back(&w);
                    for (const Weight& w : b) list_b.push_back(&w);
                    const int64_t n_rows = s.n_tokens * (own_rows ? s.n_used : 1);
                    const std::vector<float> values = normal(n_rows * s.cols, 5);
                    const Tensor x = own_rows ? rig.floats({s.n_tokens, s.n_used, s.cols}, values)
                                              : rig.floats({s.n_tokens, s.cols}, values, 8);
                    const std::vector<int32_t> ids = choose_experts(s, 9);
                    const Tensor out_a = rig.empty({s.n_tokens, s.n_used, s.rows}),
                                 out_b = rig.empty({s.n_tokens, s.n_used, s.rows});
                    const EncodedWeight encoded_bias = encode_vector(normal(s.n_experts * s.rows, 6));
                    WeightView bias_view = encoded_bias.view();
                    bias_view.rows = s.n_experts;
                    bias_view.cols = s.rows;
                    const Weight bias = device.backend->load(bias_view, {.use = WeightUse::vector});
                    rig.add(MatmulExperts{.x = x,
                                          .ids = rig.ints({s.n_tokens, s.n_used}, ids),
                                          .products = {{out_a, rig.record.keep(list_a)},
                                                       {out_b, rig.record.keep(list_b), &bias}},
                                          .n = 2});
                    rig.run();
                    const std::vector<float> got_a = rig.read(out_a), got_b = rig.read(out_b);

                    for (int64_t pair = 0; pair < s.n_tokens * s.n_used; ++pair) {
                        const int64_t row = own_rows ? pair : pair / s.n_used;
                        const auto expert = static_cast<size_t>(ids[static_cast<size_t>(pair)]);
                        Rig alone(*device.backend);
                        const Tensor one = alone.floats({1, s.cols}, {values.begin() + row * s.cols,
                                                                      values.begin() + (row + 1) * s.cols});
                        const Tensor to_a = alone.empty({1, s.rows}), to_b = alone.empty({1, s.rows});
                        const auto all_biases = encoded_bias.decoded();
                        const auto first = all_biases.begin() + static_cast<std::ptrdiff_t>(expert) * s.rows;
                        const EncodedWeight row_bias = encode_vector({first, first + s.rows});
                        const Weight own_bias = rig.vector(row_bias);
                        alone
                            .add(Matmul{.x = one,
                                        .products = {{to_a, &a[expert]}, {to_b, &b[expert], &own_bias}},
                                        .n = 2})
                            .run();
                        const auto slice = [&](const std::vector<float>& all) {
                            return std::vector<float>(all.begin() + pair * s.rows,
                                                      all.begin() + (pair + 1) * s.rows);
                        };
                        ASSERT_TRUE(identical(slice(got_a), alone.read(to_a)));
                        ASSERT_TRUE(identical(slice(got_b), alone.read(to_b)));
                    }
                }
            }
        }
    }
}

struct Routed {
    std::vector<int32_t> ids;
    std::vector<float> weights;
};
Routed route(Backend& backend, const std::vector<float>& logits, const std::vector<float>& bias,
             int64_t n_tokens, int64_t n_used, RouteParams p) {
    Rig rig(backend);
    const int64_t n_experts = static_cast<int64_t>(logits.size()) / n_tokens;
    const EncodedWeight encoded = encode_vector(bias);
    const Weight w = bias.empty() ? Weight() : rig.vector(encoded);
    const Tensor ids =
        rig.ints({n_tokens, n_used}, std::vector<int32_t>(static_cast<size_t>(n_tokens * n_used)));
    const Tensor weights = rig.empty({n_tokens, n_used});
    rig.add(Route{.ids = ids,
                  .weights = weights,
                  .logits = rig.floats({n_tokens, n_experts}, logits),
                  .score = p.score,
                  .normalize = p.normalize,
                  .scale = p.scale,
                  .selection_bias = bias.empty() ? nullptr : &w});
    rig.run();
    return {rig.read_ints(ids), rig.read(weights)};
}

TEST(Experts, RoutingAgreesWithTheReference) {
    for (const Device& device : devices()) {
        for (const int64_t n_experts : {1, 4, 31, 128}) {
            for (const int64_t n_used : {1, 2, 4, 8}) {
                if (n_used > n_experts) continue;
                for (const auto score : {RouteParams::Score::softmax, RouteParams::Score::sigmoid}) {
                    for (const bool normalize : {true, false}) {
                        for (const bool biased : {true, false}) {
                            const RouteParams p{.score = score, .normalize = normalize, .scale = 1.8f};
                            const std::vector<float> logits = normal(7 * n_experts, 3, 2);
                            const std::vector<float> bias =
                                biased ? normal(n_experts, 4, 0.1f) : std::vector<float>();
                            const Routed expected = route(reference(), logits, bias, 7, n_used, p);
                            const Routed got = route(*device.backend, logits, bias, 7, n_used, p);
                            ASSERT_EQ(got.ids, expected.ids) << device.label;
                            // A softmax over n terms in float, then a division by a sum of n_used.
                            const double relative = static_cast<double>(n_experts + n_used + 8) * eps;
                            std::vector<double> bound;
                            for (const float w : expected.weights)
                                bound.push_back(relative * as_double(w) + 1e-12);
                            ASSERT_TRUE(near(got.weights, expected.weights, bound, 1e-9)) << device.label;
                        }
                    }
                }
            }
        }
    }
    // Equal scores: the lower id first.
    for (const Device& device : devices()) {
        EXPECT_EQ(route(*device.backend, {1, 2, 2, 1, 2}, {}, 1, 4, {}).ids,
                  (std::vector<int32_t>{1, 2, 4, 0}));
    }
}

TEST(Experts, WeightedSumsAgreeWithTheReference) {
    constexpr int64_t n_tokens = 5, n_used = 3, dim = 67;
    const std::vector<float> x = normal(n_tokens * dim, 1), y = normal(n_tokens * n_used * dim, 2),
                             w = normal(n_tokens * n_used, 3);
    const auto run = [&](Backend& backend) {
        Rig rig(backend);
        const Tensor to = rig.floats({n_tokens, dim}, x, 5);
        rig.add(AddExperts{to, rig.floats({n_tokens, n_used, dim}, y), rig.floats({n_tokens, n_used}, w)});
        rig.run();
        return rig.read(to);
    };
    const std::vector<float> expected = run(reference());
    std::vector<double> bound;
    for (int64_t i = 0; i < n_tokens * dim; ++i) {
        double sum = std::abs(as_double(x[static_cast<size_t>(i)]));
        for (int64_t k = 0; k < n_used; ++k) {
            const int64_t pair = i / dim * n_used + k;
            sum += std::abs(as_double(w[static_cast<size_t>(pair)]) *
                            as_double(y[static_cast<size_t>(pair * dim + i % dim)]));
        }
        bound.push_back(2 * (n_used + 1) * eps * sum);
    }
    for (const Device& device : devices())
        ASSERT_TRUE(near(run(*device.backend), expected, bound, 1e-9)) << device.label;
}

}  // namespace
}  // namespace smelt
