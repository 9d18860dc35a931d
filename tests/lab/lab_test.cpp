// The quantization lab on small models: divergences by hand, products one after the other, rounding that
// helps.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lab/allocation.h"
#include "lab/calibrated.h"
#include "lab/comparison.h"
#include "lab/named_backend.h"
#include "lab/staged_run.h"

namespace smelt {
namespace {

TEST(Divergence, AsByHand) {
    ThreadPool pool(2);
    // Two rows of three: p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4); then the same.
    const float half = std::log(0.5f), quarter = std::log(0.25f);
    const std::vector<float> p = {half, quarter, quarter, 1, 2, 3}, q = {quarter, half, quarter, 1, 2, 3};
    const std::vector<int32_t> targets = {1, 2};
    const auto s = score_rows(q, p, targets, pool);
    ASSERT_EQ(s.size(), 2u);
    EXPECT_NEAR(s[0].nll, std::log(2.0), 1e-6);
    EXPECT_NEAR(s[0].reference_nll, std::log(4.0), 1e-6);
    EXPECT_NEAR(s[0].kl, 0.25 * std::log(2.0), 1e-6);  // 1/2 log 2 - 1/4 log 2
    EXPECT_FALSE(s[0].same_top1);
    EXPECT_EQ(s[1].kl, 0);
    EXPECT_TRUE(s[1].same_top1);
    const ScoreSummary all = summarize(s);
    EXPECT_EQ(all.n, 2);
    EXPECT_NEAR(all.kl_mean, 0.125 * std::log(2.0), 1e-6);
    EXPECT_EQ(all.top1, 0.5);
    EXPECT_NEAR(all.kl_max, 0.25 * std::log(2.0), 1e-6);
    EXPECT_NEAR(
        all.perplexity,
        std::exp((std::log(2.0) - std::log(std::exp(3) / (std::exp(1) + std::exp(2) + std::exp(3)))) / 2),
        1e-4);
}

TEST(TextWindows, SecondHalvesArePredicted) {
    std::vector<int32_t> ids(23);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    const TextWindows w(ids, 8);
    EXPECT_EQ(w.n(), 2u);
    EXPECT_EQ(w.first(), 4);
    EXPECT_EQ(std::vector<int32_t>(w.targets(1).begin(), w.targets(1).end()),
              (std::vector<int32_t>{13, 14, 15}));
    EXPECT_EQ(TextWindows(ids, 8, 1).n(), 1u);
}

// x with strong correlations between its columns, as activations have them.
Moments correlated(size_t n, size_t n_rows, ThreadPool& pool) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> rows(n * n_rows);
    for (size_t r = 0; r < n_rows; ++r) {
        const float common = normal(random), other = normal(random);
        for (size_t i = 0; i < n; ++i) {
            rows[r * n + i] =
                0.5f * normal(random) + common * (i % 3 == 0 ? 2.0f : 0.5f) + other * (i % 5 == 0 ? 1.0f : 0);
        }
    }
    Moments m(n);
    m.add(rows, pool);
    m.mirror();
    return m;
}

TEST(Moments, FactorGivesTheMomentsBack) {
    ThreadPool pool(2);
    constexpr size_t n = 75;  // no multiple of the factor's blocks
    const Moments m = correlated(n, 200, pool);
    const TriangularFactor t(m, 0.01, pool);
    double mean = 0;
    for (size_t i = 0; i < n; ++i) mean += static_cast<double>(m.diagonal(i)) / n;
    for (size_t i = 0; i < n; ++i) {
        for (size_t j = i; j < n; ++j) {
            double sum = 0;
            for (size_t k = j; k < n; ++k)
                sum += static_cast<double>(t.column(k)[i]) * static_cast<double>(t.column(k)[j]);
            const double expected = static_cast<double>(m.h[i * n + j]) + (i == j ? 0.01 * mean : 0);
            EXPECT_NEAR(sum, expected, 1e-3 * mean) << i << ", " << j;
            EXPECT_EQ(m.h[i * n + j], m.h[j * n + i]);
        }
    }
}

// Compensation beats rounding each weight by itself by far, sweeps never make it worse, and what is said to
// be the cost is the cost.
TEST(Compensator, MakesTheErrorOfProductsSmaller) {
    ThreadPool pool(2);
    constexpr size_t n = 512;
    const Moments m = correlated(n, 2000, pool);
    std::mt19937 random(4);
    std::normal_distribution<float> normal(0, 0.05f);
    std::vector<float> w(n), back(n);
    for (float& v : w) v = normal(random);
    for (const Format f :
         {Format::Q2_K, Format::Q3_K, Format::Q4_K, Format::Q5_K, Format::Q6_K, Format::IQ4_XS,
          Format::IQ4_NL, Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0}) {
        const Compensator forward(m, {.n_sweeps = 0}, pool), swept(m, {.n_sweeps = 4}, pool);
        std::vector<std::byte> bytes(data_bytes(f, n));
        const auto true_cost = [&] {
            decode_row({f, bytes.data(), nullptr, n}, back);
            for (size_t i = 0; i < n; ++i) back[i] = w[i] - back[i];
            return forward.cost(back);
        };
        encode_row(f, w, bytes.data(), nullptr);
        const double plain = true_cost();
        const double said = forward.round_row(f, w, bytes.data());
        const double compensated = true_cost();
        EXPECT_NEAR(said, compensated, 0.02 * compensated) << to_string(f);
        EXPECT_LT(compensated, 0.9 * plain) << to_string(f);
        const double said_swept = swept.round_row(f, w, bytes.data());
        const double after = true_cost();
        EXPECT_NEAR(said_swept, after, 0.02 * after) << to_string(f);
        EXPECT_LE(after, 1.001 * compensated) << to_string(f);
    }
}

TEST(Compensator, DeadColumnsAndNoTokensAreNoTrouble) {
    ThreadPool pool(1);
    Moments m(64);  // no token came
    m.mirror();
    const Compensator none(m, {}, pool);
    std::vector<float> w(64, 0.25f), back(64);
    w[3] = -1;
    std::vector<std::byte> bytes(data_bytes(Format::Q8_0, 64));
    none.round_row(Format::Q8_0, w, bytes.data());
    decode_row({Format::Q8_0, bytes.data(), nullptr, 64}, back);
    for (size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(back[i], w[i], 0.01);
}

// Inputs that are k times what they were, in a smaller space: weights 1 / k times as large give the same.
TEST(Drift, WeightsMakeUpForWhatInputsLost) {
    ThreadPool pool(2);
    constexpr size_t n = 40, n_rows = 500;
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    std::vector<float> before(n * n_rows), now(n * n_rows), w(n), plain(n);
    for (size_t i = 0; i < before.size(); ++i) {
        before[i] = normal(random);
        now[i] = 0.8f * before[i] + 0.1f * normal(random);
    }
    for (float& v : w) v = normal(random);
    plain = w;
    Moments m(n);
    m.add(now, pool);
    m.mirror();
    Drift drift(n);
    drift.add(before, now, pool);
    const Compensator compensator(m, {.damping = 1e-6}, pool);
    compensator.follow(drift, 1, w);
    const auto error = [&](const std::vector<float>& weights) {
        double sum = 0;
        for (size_t r = 0; r < n_rows; ++r) {
            double difference = 0;
            for (size_t i = 0; i < n; ++i) {
                difference += static_cast<double>(plain[i] * before[r * n + i]) -
                              static_cast<double>(weights[i] * now[r * n + i]);
            }
            sum += difference * difference;
        }
        return sum;
    };
    EXPECT_LT(error(w), 0.4 * error(plain));
    const double best = error(w);
    for (const size_t i : {size_t{0}, size_t{17}, size_t{39}}) {  // no other weights do better
        for (const float by : {-0.01f, 0.01f}) {
            std::vector<float> moved = w;
            moved[i] += by;
            EXPECT_GT(error(moved), best);
        }
    }
}

class OnAModel : public testing::Test {
 protected:
    OnAModel() : backend_(make_backend("cpu", {.n_threads = 2})), file_(open_model(SMELT_MODELS "/demo-5m")) {
        std::mt19937 random(9);
        for (int i = 0; i < 64 * 6; ++i) ids_.push_back(static_cast<int32_t>(random() % 8000));
    }
    std::unique_ptr<Backend> backend_;
    std::shared_ptr<const ModelFile> file_;
    std::vector<int32_t> ids_;
};

// In pieces the model computes what it computes in one: the head's input times the head is the logits.
TEST_F(OnAModel, StagesGiveTheInputsOfProducts) {
    NamedBackend named(*backend_, *file_);
    const auto model = load_model(file_, named);
    const TextWindows windows(ids_, 64);
    StagedRun run(*model, named, windows);
    std::vector<std::string> names;
    std::vector<std::vector<float>> last(windows.n());
    while (run.advance(
        [&](size_t w, std::span<const float> rows) { last[w].assign(rows.begin(), rows.end()); })) {
        for (const Weight* w : run.product().weights) names.push_back(named.part_of(*w).tensor->name);
    }
    EXPECT_EQ(names.front(), "blk.0.attn_q.weight");
    EXPECT_EQ(names.back(), "token_embd.weight");
    EXPECT_EQ(std::ranges::count(names, std::string("blk.1.ffn_down.weight")), 1);
    const TensorView& head = file_->require("token_embd.weight");
    const auto n = static_cast<size_t>(head.row_len());
    for (size_t w = 0; w < windows.n(); ++w) {
        const std::vector<float> logits = forward_logits(*model, *backend_, windows.window(w));
        std::vector<float> row(n);
        for (const int64_t r : {0, 5, 8000}) {
            decode_row(head.row(r), row);
            for (const size_t t : {size_t{0}, size_t{63}}) {
                double sum = 0;
                for (size_t i = 0; i < n; ++i)
                    sum += static_cast<double>(row[i]) * static_cast<double>(last[w][t * n + i]);
                EXPECT_NEAR(sum, logits[t * static_cast<size_t>(head.n_rows()) + static_cast<size_t>(r)],
                            0.05);
            }
        }
    }
}

TEST_F(OnAModel, CalibrationBeatsPlainRounding) {
    const FormatMap formats = make_mix(*file_, "q3_k_s");
    const TextWindows windows(ids_, 64);
    TensorBytes plain;
    for (const auto& [name, f] : formats) {
        const TensorView& t = file_->require(name);
        std::vector<float> row(static_cast<size_t>(t.row_len()));
        plain[name].resize(data_bytes(f, t.n_elements()));
        for (int64_t r = 0; r < t.n_rows(); ++r) {
            decode_row(t.row(r), row);
            encode_row(f, row, plain[name].data() + data_bytes(f, t.row_len()) * static_cast<size_t>(r),
                       nullptr);
        }
    }
    CalibrationOptions o{.n_threads = 2};
    size_t n_reports = 0;
    o.report = [&](const std::string&, Format, double error) {
        ++n_reports;
        EXPECT_GT(error, 0);
        EXPECT_LT(error, 0.2);
    };
    const auto calibrated =
        with_tensors(*file_, formats, round_calibrated(file_, *backend_, windows, formats, o));
    EXPECT_EQ(n_reports, formats.size());
    const auto rounded = with_tensors(*file_, formats, std::move(plain));
    const double by_text = compare_models(file_, calibrated, *backend_, windows, 2).kl_mean,
                 by_itself = compare_models(file_, rounded, *backend_, windows, 2).kl_mean;
    EXPECT_LT(by_text, by_itself);
    EXPECT_EQ(compare_models(file_, file_, *backend_, windows, 2).kl_mean, 0);
}

TEST_F(OnAModel, AllocationKeepsTheBudgetAndSpendsIt) {
    const TextWindows windows(ids_, 64);
    const Sensitivity sensitivity =
        measure_sensitivity(file_, *backend_, windows, {.n_threads = 2, .n_windows = 2, .n_sampled_rows = 8});
    uint64_t least = 0;
    for (const double bits : {4.6, 3.4}) {
        double n = 0;
        for (const TensorView& t : file_->tensors) n += static_cast<double>(t.n_elements());
        const auto budget = static_cast<uint64_t>(bits * n / 8);
        const FormatMap formats = allocate(*file_, sensitivity, budget);
        EXPECT_LE(bytes_of(*file_, formats), budget);
        EXPECT_GT(bytes_of(*file_, formats), budget * 9 / 10);
        least = bytes_of(*file_, make_mix(*file_, "q2_k")) / 4;
    }
    EXPECT_THROW(allocate(*file_, sensitivity, least), Error);

    const std::string text = write_sensitivity(sensitivity);
    EXPECT_EQ(write_sensitivity(read_sensitivity(*file_, text, "file")), text);
    EXPECT_THROW(read_sensitivity(*open_model(SMELT_MODELS "/demo-23m"), text, "file"), Error);
    EXPECT_THROW(read_sensitivity(*file_, "{}", "file"), Error);
}

TEST_F(OnAModel, NamesAndRecipes) {
    EXPECT_EQ(format_name_of("Q4_K_M"), "q4_k_m");
    EXPECT_EQ(format_name_of("q4-k-m"), "q4_k_m");
    EXPECT_EQ(format_name_of("int4"), "q4_k_m");
    EXPECT_EQ(format_name_of("FP4"), "mxfp4");
    EXPECT_EQ(format_name_of("fp8"), std::nullopt);
    EXPECT_EQ(format_name_of("q8_k"), std::nullopt);
    const FormatMap formats = make_mix(*file_, "q4_k_m");
    EXPECT_EQ(formats.at("token_embd.weight"), Format::Q6_K);  // the head too
    EXPECT_FALSE(formats.contains("output_norm.weight"));
    EXPECT_EQ(read_recipe(*file_, write_recipe(formats), "recipe"), formats);
    const auto refused = [&](const char* text, const char* expected) {
        try {
            read_recipe(*file_, text, "r.toml");
            FAIL() << text;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
        }
    };
    refused("\"a\" = \"q4_k\"", "line 1: expected [tensors]");
    refused("[tensors]\n\"blk.99.attn_q.weight\" = \"q4_k\"", "no tensor blk.99");
    refused("[tensors]\n\"blk.0.attn_q.weight\" = \"q8_k\"", "line 2: expected one of the formats");
    refused("[tensors]\n\"blk.0.attn_q.weight\" \"q4_k\"", "line 2");
}

}  // namespace
}  // namespace smelt
