// Holds events back until all answers have ended.
#include "engine/best_of.h"

#include <algorithm>

namespace smelt {

namespace {

struct Answer {
    std::vector<TokenEvent> tokens = {};
    FinishEvent finish = {};
    double score() const { return finish.cumulative_logprob / std::max(finish.n_generated, 1); }
    bool failed() const {
        return finish.reason == FinishReason::error || finish.reason == FinishReason::cancelled;
    }
};

struct Answers {
    std::vector<Answer> all;
    int n_ended = 0;
};

}  // namespace

Request with_best_of(Request r) {
    if (r.best_of <= r.n) return r;
    const auto answers = std::make_shared<Answers>();
    answers->all.resize(static_cast<size_t>(r.best_of));
    r.sink = [answers, n = r.n, tell = std::move(r.sink)](Event event) {
        auto* token = std::get_if<TokenEvent>(&event);
        if (token != nullptr && token->of_prompt) return tell(std::move(event));
        if (token != nullptr) {
            answers->all[static_cast<size_t>(token->index)].tokens.push_back(std::move(*token));
            return;
        }
        auto& finish = std::get<FinishEvent>(event);
        answers->all[static_cast<size_t>(finish.index)].finish = std::move(finish);
        if (++answers->n_ended < static_cast<int>(answers->all.size())) return;
        // Of equal ones the first drawn.
        std::ranges::stable_sort(answers->all, [](const Answer& a, const Answer& b) {
            return a.failed() != b.failed() ? b.failed() : a.score() > b.score();
        });
        for (int index = 0; index < n; ++index) {
            Answer& a = answers->all[static_cast<size_t>(index)];
            for (TokenEvent& t : a.tokens) {
                t.index = index;
                tell(std::move(t));
            }
            a.finish.index = index;
            tell(std::move(a.finish));
        }
    };
    r.n = r.best_of;
    r.n_logprobs = std::max(r.n_logprobs, 0);  // what the score is made of
    return r;
}

}  // namespace smelt
