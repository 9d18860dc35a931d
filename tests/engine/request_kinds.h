// Requests of every kind that steps treat differently, over a vocabulary of twelve letters, the last of which
// stops.
#pragma once

#include <random>

#include "engine/request.h"
#include "grammar/grammar_support.h"

namespace smelt {

inline constexpr int n_letters = 12, stop_letter = 11;

inline std::shared_ptr<TokenGrammar> letters(const std::string& pattern) {
    std::vector<TokenText> tokens;
    static const std::string text = "abcdefghijk";
    for (size_t i = 0; i < text.size(); ++i) tokens.push_back({std::string_view(text).substr(i, 1)});
    tokens.push_back({});
    return std::get<std::shared_ptr<TokenGrammar>>(
        TokenGrammar::make(compiled(GrammarSpec::regex(pattern)), make_token_trie(tokens)));
}

enum Kind {
    plain,
    several,
    penalties,
    beams,
    constrained,
    thinking,
    on_host,
    scored,
    late_penalties,
    biased,
    n_kinds
};

inline Request request_of(Kind kind, std::mt19937& rng, const std::shared_ptr<TokenGrammar>& grammar) {
    const auto below = [&](int n) { return static_cast<int>(rng() % static_cast<uint32_t>(n)); };
    Request r{.max_tokens = 1 + below(12), .stop_ids = {stop_letter}};
    for (int i = 1 + below(9); i > 0; --i) r.tokens.push_back(below(3));
    r.sampling.temperature = below(2) == 0 ? 0.0f : 1.2f;
    r.sampling.seed = rng();
    r.client = static_cast<uint64_t>(below(2));
    switch (kind) {
        case several:
            r.n = 2 + below(2);
            break;
        case penalties:
            r.sampling.frequency_penalty = 0.7f;
            break;
        case beams:
            r.beams.width = 2;
            break;
        case constrained:
            r.grammar = grammar;
            break;
        case thinking:
            r.thinking = {.n_tokens = 2, .is_open = true, .close = 9};
            break;
        case on_host:
            r.sampling.dry_multiplier = 1;
            break;
        case scored:
            r.n_prompt_logprobs = r.n_logprobs = 0;
            break;
        case late_penalties:
            r.sampling.presence_penalty = 0.9f;
            r.sampling.penalty_last_n = 3;
            break;
        case biased:
            r.sampling.logit_bias = {{3, 2.0f}, {5, -3.0f}};
            r.ignore_eos = true;
            break;
        case plain:
        case n_kinds:
            break;
    }
    return r;
}

}  // namespace smelt
