// Drawing tokens: every kind of row against the reference, but where the draw lies within the rounding of
// weights; the CPU has the tokens of the host's sampler.
#include <cmath>
#include <limits>

#include "backend/check/draw_margin.h"
#include "conformance/rig.h"
#include "sampling/sampler.h"

namespace smelt {

using namespace op;

namespace {

constexpr int vocab = 997, mask_words = (vocab + 63) / 64;
constexpr float inf = std::numeric_limits<float>::infinity();

struct Draws {
    std::vector<float> logits;  // a row each
    std::vector<DrawRow> rows;
    std::vector<LogitEdit> edits;
    std::vector<uint64_t> masks;

    int n() const { return static_cast<int>(rows.size()); }
    std::span<const float> row(int r) const {
        return std::span(logits).subspan(static_cast<size_t>(r) * vocab, vocab);
    }
    bool clear(int r) const {
        return draw_is_clear(row(r), rows[static_cast<size_t>(r)], edits.data(),
                             masks.empty() ? nullptr : &masks[static_cast<size_t>(r * mask_words)]);
    }
};
struct Drawn {
    std::vector<int32_t> tokens;
    std::vector<float> logprobs, log_sums, logits;  // sums: two floats a row
    double log_sum(size_t r) const { return as_double(log_sums[2 * r]) + as_double(log_sums[2 * r + 1]); }
};

constexpr int32_t not_drawn = 99999;

Drawn run(Backend& be, const Draws& d) {
    Rig rig(be, {.n_tokens = d.n(),
                 .n_logits = d.n(),
                 .draws = true,
                 .n_edits = static_cast<int>(d.edits.size()),
                 .mask_words = d.masks.empty() ? 0 : mask_words});
    const InputTensors& in = rig.in();
    rig.set_structs(in.draw_rows, d.rows);
    if (in.edits) rig.set_structs(in.edits, d.edits);
    if (in.masks) rig.set_structs(in.masks, d.masks);
    const Tensor logits = rig.floats({d.n(), vocab}, d.logits, 3, RowsOf::logits);
    const Tensor tokens =
        rig.ints({d.n()}, std::vector<int32_t>(static_cast<size_t>(d.n()), not_drawn), RowsOf::logits);
    const Tensor logprobs = rig.empty({d.n()}, 0, RowsOf::logits),
                 log_sums = rig.empty({d.n(), 2}, 0, RowsOf::logits);
    rig.add(Sample{tokens, logprobs, log_sums, logits, in.draw_rows, in.edits, in.masks}).run();
    return {rig.read_ints(tokens), rig.read(logprobs), rig.read(log_sums), rig.read(logits)};
}

// Log-softmax in float over this many logits: as the sum's terms and a logarithm.
double logprob_bound(double log_sum) {
    return (vocab + 40) * eps + 8 * eps * (std::fabs(log_sum) + 20);
}

// Compares, and counts the rows whose token is in doubt.
void compare(const Drawn& got, const Drawn& expected, const Draws& d, const std::string& what,
             int& n_unclear) {
    EXPECT_TRUE(identical(got.logits, d.logits)) << what << ": the logits have changed";
    for (int r = 0; r < d.n(); ++r) {
        const auto i = static_cast<size_t>(r);
        const DrawRow& row = d.rows[i];
        if (!d.clear(r)) {
            ++n_unclear;
            continue;
        }
        ASSERT_EQ(got.tokens[i], expected.tokens[i]) << what << ", row " << r;
        if (row.logprob == 0 || expected.tokens[i] < 0 || row.draws == 0) continue;
        const double bound = logprob_bound(expected.log_sum(i));
        EXPECT_NEAR(got.log_sum(i), expected.log_sum(i), bound) << what << ", row " << r;
        EXPECT_NEAR(got.logprobs[i], expected.logprobs[i], bound) << what << ", row " << r;
    }
}

// As the CPU backend's specification: the host's sampler.
Drawn by_sampler(const Draws& d) {
    Sampler sampler(vocab);
    Drawn all{{}, {}, {}, d.logits};
    for (int r = 0; r < d.n(); ++r) {
        const DrawRow& row = d.rows[static_cast<size_t>(r)];
        float logprob = filler, log_sum[2] = {filler, filler};
        int32_t token = not_drawn;
        if (row.draws != 0) {
            std::span<const uint64_t> mask;
            if (row.masked != 0)
                mask = std::span(d.masks).subspan(static_cast<size_t>(r * mask_words), mask_words);
            const auto edits = std::span(d.edits).subspan(static_cast<size_t>(row.first_edit),
                                                          static_cast<size_t>(row.n_edits));
            token = sampler.draw(std::span(all.logits).subspan(static_cast<size_t>(r) * vocab, vocab), row,
                                 edits, mask, logprob, log_sum);
        }
        all.tokens.push_back(token);
        all.logprobs.push_back(logprob);
        all.log_sums.insert(all.log_sums.end(), log_sum, log_sum + 2);
    }
    return all;
}

struct Kind {
    const char* name;
    DrawRow row;
};
const Kind kinds[] = {
    {"greedy", {.temperature = 0}},
    {"temperature", {.temperature = 0.7f}},
    {"high temperature", {.temperature = 3}},
    {"top-k of one", {.top_k = 1}},
    {"top-k", {.temperature = 1.2f, .top_k = 40}},
    {"top-p", {.top_p = 0.8f}},
    {"narrow top-p", {.top_p = 0.01f}},
    {"min-p", {.min_p = 0.05f}},
    {"all of them", {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f, .min_p = 0.02f}},
    {"top-p and min-p", {.temperature = 1.5f, .top_p = 0.95f, .min_p = 0.01f}},
};

Draws make(const Kind& kind, int n, unsigned seed, bool edited, bool masked) {
    Draws d;
    std::mt19937 random(seed);
    d.logits = normal(int64_t{n} * vocab, seed, 3);
    // Equal logits: ranks go by id.
    for (size_t i = 0; i < d.logits.size(); i += 5) d.logits[i] = std::round(d.logits[i]);
    for (int r = 0; r < n; ++r) {
        DrawRow row = kind.row;
        row.draws = r % 7 == 6 ? 0 : 1;
        row.logprob = r % 2 == 0;
        row.random[0] = static_cast<uint32_t>(random());
        row.random[1] = static_cast<uint32_t>(random());
        if (edited) {
            row.repetition_penalty = 1.3f;
            row.presence_penalty = 0.4f;
            row.frequency_penalty = 0.2f;
            row.first_edit = static_cast<int32_t>(d.edits.size());
            row.n_edits = static_cast<int32_t>(random() % 30);
            for (int e = 0; e < row.n_edits; ++e) {
                const bool seen = random() % 2 == 0;
                d.edits.push_back({.id = static_cast<int32_t>(random() % vocab),
                                   .bias = static_cast<float>(random() % 9) - 4,
                                   .n_generated = seen ? static_cast<int32_t>(random() % 4) : 0,
                                   .seen = seen,
                                   .banned = random() % 5 == 0});
            }
        }
        row.masked = masked && r % 3 != 0;
        d.rows.push_back(row);
        for (int w = 0; masked && w < mask_words; ++w) {
            uint64_t word = (uint64_t{random()} << 32 | random()) & (uint64_t{random()} << 32 | random());
            if (w == mask_words - 1) word &= (uint64_t{1} << (vocab % 64)) - 1;
            d.masks.push_back(r % 3 == 1 ? word : w == 3 ? 5u : 0u);  // many tokens, or two
        }
    }
    return d;
}

TEST(Sample, EveryKindOfRow) {
    int n_rows = 0;
    std::vector<int> n_unclear(devices().size(), 0);
    unsigned seed = 1;
    for (const Kind& kind : kinds) {
        for (const bool edited : {false, true}) {
            for (const bool masked : {false, true}) {
                for (const int n : {1, 5, 64}) {
                    const Draws d = make(kind, n, seed++, edited, masked);
                    const std::string what = fmt::format("{}{}{}, {} rows", kind.name,
                                                         edited ? ", edits" : "", masked ? ", masks" : "", n);
                    const Drawn expected = run(reference(), d), host = by_sampler(d);
                    int unclear_of_host = 0;
                    compare(host, expected, d, "sampler, " + what, unclear_of_host);
                    n_rows += n;
                    for (size_t i = 0; i < devices().size(); ++i) {
                        const Device& device = devices()[i];
                        const Drawn got = run(*device.backend, d);
                        compare(got, expected, d, device.label + ", " + what, n_unclear[i]);
                        if (device.backend->name() != "cpu") continue;
                        EXPECT_EQ(got.tokens, host.tokens) << device.label << ", " << what;
                        for (int r = 0; r < n; ++r) {
                            const auto at = static_cast<size_t>(r);
                            if (d.rows[at].logprob == 0 || d.rows[at].draws == 0) continue;
                            EXPECT_EQ(got.logprobs[at], host.logprobs[at]) << device.label << ", " << what;
                            EXPECT_EQ(got.log_sum(at), host.log_sum(at)) << device.label << ", " << what;
                        }
                    }
                }
            }
        }
    }
    for (size_t i = 0; i < devices().size(); ++i)
        EXPECT_LE(n_unclear[i], n_rows / 50) << devices()[i].label << ", rows in doubt of " << n_rows;
}

// Rows that are not drawn stay as they were.
TEST(Sample, OnlyRowsThatDraw) {
    Draws d = make(kinds[1], 20, 5, false, false);
    for (const Device& device : devices()) {
        const Drawn got = run(*device.backend, d);
        for (size_t r = 0; r < 20; ++r)
            EXPECT_EQ(got.tokens[r] == not_drawn, d.rows[r].draws == 0) << device.label << ", row " << r;
    }
}

TEST(Sample, SaysWhyThereIsNoToken) {
    struct Case {
        DrawProblem problem;
        float fill;
        std::vector<std::pair<int, float>> logits;
        std::vector<LogitEdit> edits;
        bool masked;
    };
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const Case cases[] = {
        {DrawProblem::nan, 0, {{500, nan}}, {}, false},
        {DrawProblem::nan, -inf, {{996, nan}, {3, inf}}, {}, false},
        {DrawProblem::infinite, 0, {{996, inf}}, {}, false},
        {DrawProblem::all_minus_infinity, -inf, {}, {}, false},
        {DrawProblem::all_banned,
         -inf,
         {{7, 1}, {8, 2}},
         {{.id = 7, .banned = 1}, {.id = 8, .banned = 1}},
         false},
        {DrawProblem::all_banned, 1, {}, {}, true},
        {DrawProblem::infinite_after_edits, 1, {{7, 3e38f}}, {{.id = 7, .bias = 3e38f}}, false},
    };
    for (const float temperature : {0.0f, 1.0f}) {
        Draws d;
        for (const Case& c : cases) {
            const auto first = static_cast<std::ptrdiff_t>(d.logits.size());
            d.logits.insert(d.logits.end(), vocab, c.fill);
            for (const auto& [id, x] : c.logits) d.logits[static_cast<size_t>(first + id)] = x;
            d.rows.push_back({.temperature = temperature,
                              .first_edit = static_cast<int32_t>(d.edits.size()),
                              .n_edits = static_cast<int32_t>(c.edits.size()),
                              .masked = c.masked,
                              .draws = 1,
                              .logprob = 1,
                              .random = {1, 2}});
            d.edits.insert(d.edits.end(), c.edits.begin(), c.edits.end());
            d.masks.insert(d.masks.end(), mask_words, 0);
        }
        const auto check = [&](Backend& be, const std::string& label) {
            const Drawn got = run(be, d);
            for (size_t i = 0; i < std::size(cases); ++i)
                EXPECT_EQ(got.tokens[i], static_cast<int32_t>(cases[i].problem)) << label << ", case " << i;
        };
        check(reference(), "reference");
        for (const Device& device : devices()) check(*device.backend, device.label);
    }
}

}  // namespace
}  // namespace smelt
