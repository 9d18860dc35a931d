// Beam search, best_of and grammars in the step loop over a fake model, against searches written out.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "engine/best_of.h"
#include "engine/fake_runner.h"
#include "engine/step_loop.h"
#include "grammar/grammar_support.h"

namespace smelt {
namespace {

constexpr int vocab_size = 6, stop = 5;
constexpr RunnerShape shape{.n_blocks = 400, .block_len = 4, .vocab_size = vocab_size, .n_ctx = 40};

struct Answer {
    std::vector<int32_t> ids;
    FinishEvent finish;
    int n_finishes = 0;
};
using Answers = std::map<std::pair<RequestId, int>, Answer>;

std::shared_ptr<const Request> with_sink(Request r, Answers& answers) {
    r.sink = [&answers](Event event) {
        if (auto* token = std::get_if<TokenEvent>(&event)) {
            answers[{token->request, token->index}].ids.push_back(token->id);
        } else {
            const auto& f = std::get<FinishEvent>(event);
            Answer& a = answers[{f.request, f.index}];
            a.finish = f;
            ++a.n_finishes;
        }
    };
    return std::make_shared<const Request>(with_best_of(std::move(r)));
}

// The model's log-probabilities behind a text.
std::vector<double> logprobs(const std::vector<int32_t>& text) {
    FakeRunner runner(shape);
    Batch batch;
    const int n = static_cast<int>(text.size());
    std::vector<int32_t> blocks(static_cast<size_t>((n + shape.block_len - 1) / shape.block_len));
    std::iota(blocks.begin(), blocks.end(), 0);
    batch.add_sequence(text, 0, blocks, shape.block_len);
    batch.logits_rows = {n - 1};
    batch.all_logits = true;
    runner.launch(batch);
    const std::span<const float> logits = runner.collect().logits;
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    std::vector<double> result;
    for (const float x : logits) result.push_back(static_cast<double>(x) - std::log(sum));
    return result;
}

struct Text {
    std::vector<int32_t> ids;  // with the stop id
    double score;
};

// All texts of up to max_tokens, by score.
void enumerate(const std::vector<int32_t>& prompt, std::vector<int32_t>& answer, double sum, int max_tokens,
               double length_penalty, std::vector<Text>& out) {
    const auto ended = !answer.empty() && answer.back() == stop;
    if (ended || static_cast<int>(answer.size()) == max_tokens) {
        out.push_back({answer, sum / std::pow(answer.size(), length_penalty)});
        return;
    }
    std::vector<int32_t> text = prompt;
    text.insert(text.end(), answer.begin(), answer.end());
    const auto p = logprobs(text);
    for (int32_t id = 0; id < vocab_size; ++id) {
        answer.push_back(id);
        enumerate(prompt, answer, sum + p[static_cast<size_t>(id)], max_tokens, length_penalty, out);
        answer.pop_back();
    }
}

std::vector<int32_t> with_stop(const Answer& a) {
    std::vector<int32_t> ids = a.ids;
    if (a.finish.stop_id >= 0) ids.push_back(a.finish.stop_id);
    return ids;
}

// Beams enough that nothing is lost: the search is exhaustive.
TEST(Beams, ManyFindTheBest) {
    for (const float penalty : {0.0f, 1.0f, 2.0f}) {
        const std::vector<int32_t> prompt = {1, 2, 3, 4, 0};
        std::vector<Text> all;
        std::vector<int32_t> answer;
        enumerate(prompt, answer, 0, 3, static_cast<double>(penalty), all);
        std::ranges::stable_sort(all, std::greater(), &Text::score);

        RunnerShape large = shape;
        large.n_blocks = 1000;
        FakeRunner runner(large);
        StepLoop loop(runner, {.max_seqs = 160});
        Answers answers;
        loop.add(
            1,
            with_sink({.tokens = prompt,
                       .max_tokens = 3,
                       .stop_ids = {stop},
                       .n = 5,
                       .beams = {.width = 160, .length_penalty = penalty, .stop = BeamSearch::Stop::never}},
                      answers),
            0, {});
        while (!loop.idle()) {
            loop.step();
            loop.check();
        }
        for (int i = 0; i < 5; ++i) {
            const Answer& a = answers.at({1, i});
            EXPECT_EQ(with_stop(a), all[static_cast<size_t>(i)].ids) << i << ", penalty " << penalty;
            EXPECT_EQ(a.n_finishes, 1);
            EXPECT_EQ(a.finish.reason,
                      a.finish.stop_id == stop ? FinishReason::stop_id : FinishReason::length);
        }
    }
}

// transformers' search over whole texts, without a cache.
std::vector<Text> reference_search(const std::vector<int32_t>& prompt, const Request& r) {
    struct Beam {
        std::vector<int32_t> ids;
        double sum = 0;
    };
    const auto width = static_cast<size_t>(r.beams.width);
    const double penalty = static_cast<double>(r.beams.length_penalty);
    std::vector<Beam> beams(1);
    std::vector<Text> ended;
    bool done = false;
    for (int length = 1; length <= r.max_tokens && !done; ++length) {
        std::vector<std::pair<double, Beam>> next;
        for (const Beam& b : beams) {
            std::vector<int32_t> text = prompt;
            text.insert(text.end(), b.ids.begin(), b.ids.end());
            const auto p = logprobs(text);
            for (int32_t id = 0; id < vocab_size; ++id) {
                Beam n = b;
                n.ids.push_back(id);
                n.sum += p[static_cast<size_t>(id)];
                next.emplace_back(n.sum, n);
            }
        }
        std::ranges::stable_sort(next, std::greater(), [](const auto& n) { return n.first; });
        next.resize(std::min(next.size(), 2 * width));
        beams.clear();
        for (size_t rank = 0; rank < next.size() && beams.size() < width; ++rank) {
            Beam& b = next[rank].second;
            if (b.ids.back() != stop) {
                beams.push_back(b);
            } else if (rank < width) {
                ended.push_back({b.ids, b.sum / std::pow(length, penalty)});
                std::ranges::stable_sort(ended, std::greater(), &Text::score);
                ended.resize(std::min(ended.size(), width));
            }
        }
        if (ended.size() < width) continue;
        const double best = next[0].first;
        if (r.beams.stop == BeamSearch::Stop::when_full) done = true;
        if (r.beams.stop == BeamSearch::Stop::when_unbeatable)
            done = ended.back().score >= best / std::pow(length, penalty);
        if (r.beams.stop == BeamSearch::Stop::never)
            done = ended.back().score >= best / std::pow(penalty > 0 ? r.max_tokens : length, penalty);
    }
    for (const Beam& b : beams) {
        if (!done) ended.push_back({b.ids, b.sum / std::pow(b.ids.size(), penalty)});
    }
    std::ranges::stable_sort(ended, std::greater(), &Text::score);
    ended.resize(std::min(ended.size(), static_cast<size_t>(r.n)));
    return ended;
}

// Several searches and other requests at once, in a cache that is too small for all.
TEST(Beams, AreTheReferenceSearch) {
    for (const int n_blocks : {400, 46}) {
        RunnerShape s = shape;
        s.n_blocks = n_blocks;
        FakeRunner runner(s);
        StepLoop loop(runner, {.max_seqs = 9, .max_batch_tokens = 32});
        Answers answers;
        std::map<RequestId, Request> requests;
        RequestId id = 0;
        for (const auto stop_at :
             {BeamSearch::Stop::when_unbeatable, BeamSearch::Stop::when_full, BeamSearch::Stop::never}) {
            for (const int width : {1, 2, 4}) {
                for (const float penalty : {1.0f, 0.5f, -1.0f}) {
                    Request r{.tokens = {3, 1, static_cast<int32_t>(id % 5), 2, 2, 0, 1},
                              .max_tokens = 9,
                              .stop_ids = {stop}};
                    r.n = (width + 1) / 2;
                    r.beams = {.width = width, .length_penalty = penalty, .stop = stop_at};
                    requests[++id] = r;
                    auto shared = with_sink(r, answers);
                    ASSERT_EQ(check_request(*shared, loop.limits()), "");
                    loop.add(id, shared, 0, {});
                }
                loop.add(++id, with_sink({.tokens = {1, 2, 3}, .max_tokens = 20}, answers), 7, {});
            }
        }
        int n_steps = 0;
        while (!loop.idle()) {
            loop.step();
            loop.check();
            if (n_steps % 7 == 3) loop.pause(2);
            if (n_steps % 7 == 5) loop.resume(2);
            ASSERT_LT(++n_steps, 5000);
        }
        EXPECT_EQ(loop.stats().n_used_blocks, 0);
        for (const auto& [request, r] : requests) {
            const auto expected = reference_search(r.tokens, r);
            for (int i = 0; i < r.n; ++i) {
                const Answer& a = answers.at({request, i});
                EXPECT_EQ(with_stop(a), expected[static_cast<size_t>(i)].ids)
                    << "request " << request << ", text " << i;
            }
        }
    }
}

TEST(Beams, EndTogether) {
    FakeRunner runner(shape);
    StepLoop loop(runner, {});
    Answers answers;
    const Request r{.tokens = {1, 2, 3}, .max_tokens = 20, .n = 3, .beams = {.width = 4}};
    loop.add(1, with_sink(r, answers), 0, {});
    for (int i = 0; i < 4; ++i) loop.step();
    loop.cancel(1, 0);  // no answer has a token yet
    EXPECT_TRUE(answers.empty());
    loop.cancel(1);
    loop.flush();
    EXPECT_TRUE(loop.idle());
    for (int i = 0; i < 3; ++i) EXPECT_EQ(answers.at({1, i}).finish.reason, FinishReason::cancelled);

    loop.add(2, with_sink(r, answers), 0, {});
    loop.step();
    runner.fail_at_run = runner.n_runs + 2;
    while (!loop.idle()) loop.step();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(answers.at({2, i}).finish.reason, FinishReason::error);
        EXPECT_EQ(answers.at({2, i}).n_finishes, 1);
    }
    loop.check();
    EXPECT_EQ(loop.stats().n_used_blocks, 0);
}

TEST(Beams, RefusedRequests) {
    FakeRunner runner(shape);
    const RequestLimits limits = StepLoop(runner, {}).limits();
    Request r{.tokens = {1}, .max_tokens = 5, .beams = {.width = 2}};
    r.sink = [](const Event&) {};
    EXPECT_EQ(check_request(r, limits), "");
    r.n = 3;
    EXPECT_NE(check_request(r, limits), "");
    r.n = 1;
    r.best_of = 2;
    EXPECT_NE(check_request(r, limits), "");
    r.best_of = 0;
    r.beams.width = 1000;
    EXPECT_NE(check_request(r, limits), "");
    r.beams.width = 20;
    r.max_tokens = 39;
    EXPECT_EQ(check_request(r, limits), "");
    RequestLimits small = limits;
    small.kv_tokens = 400;
    EXPECT_NE(check_request(r, small), "");
}

TEST(BestOf, TellsTheLikeliest) {
    FakeRunner runner(shape);
    StepLoop loop(runner, {});
    Answers all, best;
    Request r{.tokens = {1, 2, 3}, .max_tokens = 6, .stop_ids = {stop}, .n_logprobs = 0, .n = 6};
    loop.add(1, with_sink(r, all), 5, {});
    r.n = 2;
    r.best_of = 6;
    loop.add(1, with_sink(r, best), 5, {});
    while (!loop.idle()) loop.step();
    std::vector<std::pair<double, std::vector<int32_t>>> scored;
    for (const auto& [key, a] : all)
        scored.emplace_back(a.finish.cumulative_logprob / a.finish.n_generated, a.ids);
    std::ranges::stable_sort(scored, std::greater(), [](const auto& s) { return s.first; });
    ASSERT_EQ(best.size(), 2u);
    for (int i = 0; i < 2; ++i) EXPECT_EQ(best.at({1, i}).ids, scored[static_cast<size_t>(i)].second);
}

// Tokens "a" to "e"; the last id ends.
std::shared_ptr<TokenGrammar> letters(const std::string& pattern) {
    const std::vector<TokenText> tokens = {{"a"}, {"b"}, {"c"}, {"d"}, {"e"}, {}};
    return std::get<std::shared_ptr<TokenGrammar>>(
        TokenGrammar::make(compiled(GrammarSpec::regex(pattern)), make_token_trie(tokens)));
}

TEST(GrammarInSteps, EveryAnswerIsOfIt) {
    for (const char* pattern : {"(ab|cd)*e", "a{3}|b{5,9}", "[a-e]{2,4}", "(ab?)*"}) {
        const Grammar grammar = compiled(GrammarSpec::regex(pattern));
        FakeRunner runner(shape);
        StepLoop loop(runner, {.max_seqs = 6, .max_batch_tokens = 16});
        Answers answers;
        const auto tokens = letters(pattern);
        for (RequestId id = 1; id <= 30; ++id) {
            Request r{.tokens = {1, static_cast<int32_t>(id % 5)},
                      .max_tokens = 25,
                      .stop_ids = {stop},
                      .n = 1 + static_cast<int>(id % 3),
                      .grammar = tokens};
            r.sampling.temperature = id % 4 == 0 ? 0.0f : 1.5f;
            r.ignore_eos = id % 5 == 0;
            r.min_tokens = id % 7 == 0 ? 3 : 0;
            loop.add(id, with_sink(r, answers), id, {});
        }
        int n_complete = 0, n_steps = 0;
        while (!loop.idle()) {
            loop.step();
            if (n_steps % 5 == 1) loop.pause(3);
            if (n_steps % 5 == 3) loop.resume(3);
            ASSERT_LT(++n_steps, 2000);
        }
        for (const auto& [key, a] : answers) {
            std::string text;
            for (const int32_t id : a.ids) text += static_cast<char>('a' + id);
            EXPECT_NE(a.finish.reason, FinishReason::error) << a.finish.error;
            if (a.finish.reason == FinishReason::length) continue;
            EXPECT_TRUE(accepts(grammar, text)) << pattern << " " << text;
            n_complete += a.finish.reason == FinishReason::complete;
        }
        if (pattern[0] == 'a' || pattern[0] == '[') {
            EXPECT_GT(n_complete, 0);
        }
        EXPECT_GT(loop.stats().n_constrained, 0);
    }
}

TEST(GrammarInSteps, TheEmptyText) {
    FakeRunner runner(shape);
    StepLoop loop(runner, {});
    Answers answers;
    loop.add(1, with_sink({.tokens = {1}, .stop_ids = {stop}, .grammar = letters("")}, answers), 0, {});
    while (!loop.idle()) loop.step();
    EXPECT_EQ(answers.at({1, 0}).finish.reason, FinishReason::complete);
    EXPECT_EQ(answers.at({1, 0}).finish.n_generated, 0);
}

}  // namespace
}  // namespace smelt
